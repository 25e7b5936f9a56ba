"""Tests shared by all neurons.

``from neurons import *`` in ``tests/ops/test_<stem>.py`` collects them; pytest runs each over the ``NEURONS`` of
that file (``tests/conftest.py``).
"""

from importlib import import_module
from pkgutil import iter_modules

__all__ = []
for _module in iter_modules(__path__):
    for _name, _test in vars(import_module(f"{__name__}.{_module.name}")).items():
        if _name.startswith("test_"):
            if _name in __all__:
                raise ImportError(f"two shared tests are called {_name}")
            globals()[_name] = _test
            __all__.append(_name)
