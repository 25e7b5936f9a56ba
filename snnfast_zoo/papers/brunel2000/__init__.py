"""Sparsely connected excitatory and inhibitory neurons (Brunel 2000)."""
