"""Re-exports :mod:`snnfast.n3ml.model`."""

from .n3ml.model import *  # noqa: F403
