"""Re-exports :mod:`snnfast.n3ml.optimizer`."""

from .n3ml.optimizer import *  # noqa: F403
