"""Re-exports :mod:`snnfast.n3ml.visualizer`."""

from .n3ml.visualizer import *  # noqa: F403
from .n3ml.visualizer import __all__ as __all__
