"""Calls: what an op is asked for, checked and complete.

``snnfast/calls/<stem>.py`` holds an op's public signature and documentation as a function that checks its arguments and
returns a call, a named tuple. From it the kernels, their fakes and the reference take what they need by name. Its
fields are the arguments of the C++ operator in the same order (``csrc/core/<stem>.h`` or ``csrc/ops/<stem>.cpp``).
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):  # each neuron enters itself in snnfast.calls.neuron.NEURONS
    import_module(f"{__name__}.{_module.name}")
