"""Re-exports :mod:`snnfast.train.checkpoint`."""

from .train.checkpoint import *  # noqa: F403
