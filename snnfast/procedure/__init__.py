"""Training procedures with their settings, one file a procedure; the command line runs them."""
