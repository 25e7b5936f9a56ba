"""The cortical microcircuit (Potjans and Diesmann 2014)."""
