"""A brain of leaky neurons from its connectome (Shiu et al. 2024)."""
