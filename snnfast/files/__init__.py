"""Files: atomic replacement, locks, and tables as text."""
