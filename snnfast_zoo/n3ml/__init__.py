"""Thin wrappers with the names and argument orders of n3ml's manual."""
