"""A neuron that was written in Python, compiled when it is first used."""
