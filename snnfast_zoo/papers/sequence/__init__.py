"""Recurrent networks on long sequences."""
