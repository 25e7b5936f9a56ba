"""Re-exports :mod:`snnfast.train.checkpoint`."""

from .train.checkpoint import *  # noqa: F403
from .train.checkpoint import __all__ as __all__
