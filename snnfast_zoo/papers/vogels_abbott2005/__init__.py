"""Networks with conductances or currents (Vogels and Abbott 2005)."""
