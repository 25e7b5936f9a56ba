"""ReLU networks and their conversion (Diehl et al. 2015, Sengupta et al. 2019)."""
