"""Re-exports :mod:`snnfast.n3ml.visualizer`."""

from .n3ml.visualizer import *  # noqa: F403
