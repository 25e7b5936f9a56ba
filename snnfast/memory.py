"""The memory of large CPU outputs, kept for reuse."""

from .backend.memory import *  # noqa: F403
from .backend.memory import __all__ as __all__
