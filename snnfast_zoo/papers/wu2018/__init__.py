"""STBP (Wu et al. 2018)."""
