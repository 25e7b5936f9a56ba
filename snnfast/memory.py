"""Re-exports :mod:`snnfast.backend.memory`."""

from .backend.memory import *  # noqa: F403
