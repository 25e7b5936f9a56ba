"""Re-exports :mod:`snnfast.backend.memory`."""

from .backend.memory import *  # noqa: F403
from .backend.memory import __all__ as __all__
