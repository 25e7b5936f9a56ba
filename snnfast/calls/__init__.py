"""Calls: what an op is asked for, checked and complete.

``snnfast/calls/<stem>.py`` holds an op's public signature and documentation as a function that checks its arguments and
returns a call, a named tuple. From it the kernels, their fakes and the reference take what they need by name. Its
fields are the arguments of the C++ operator in the same order (``csrc/ops/<stem>.cpp``). For neurons ``neuron.py``
makes these functions and the calls from their equations.
"""
