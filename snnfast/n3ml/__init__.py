"""Names and argument orders of n3ml's manual, each a few lines over the package's own."""
