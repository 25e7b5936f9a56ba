"""Compiler of step functions in Python to kernels: trace, differentiate, plan, generate C++, compile."""
