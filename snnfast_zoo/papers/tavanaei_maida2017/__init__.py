"""BP-STDP (Tavanaei and Maida 2017)."""
