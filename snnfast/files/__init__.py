"""Files: replaced in one step, locked, and tables as text."""
