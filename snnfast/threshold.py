"""Re-exports :mod:`snnfast.n3ml.threshold`."""

from .n3ml.threshold import *  # noqa: F403
from .n3ml.threshold import __all__ as __all__
