"""Unsupervised STDP (Diehl and Cook 2015)."""
