"""SpikeProp (Bohte, Kok, La Poutré 2002)."""
