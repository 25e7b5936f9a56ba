"""Re-exports :mod:`snnfast.n3ml.optimizer`."""

from .n3ml.optimizer import *  # noqa: F403
from .n3ml.optimizer import __all__ as __all__
