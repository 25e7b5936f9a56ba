"""From a neuron's step function in Python to its kernel: trace, differentiate, plan, generate C++, compile."""
