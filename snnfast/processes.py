"""Re-exports :mod:`snnfast.backend.processes`."""

from .backend.processes import *  # noqa: F403
from .backend.processes import __all__ as __all__
