"""Networks with the names and calls of n3ml's manual; :mod:`snnfast.papers` has them without."""

from .n3ml.model import *  # noqa: F403
from .n3ml.model import __all__ as __all__
from .n3ml.model import __dir__ as __dir__
