"""Networks with the names and calls of n3ml's manual; :mod:`snnfast.papers` has them without."""

from snnfast_zoo.n3ml.model import *  # noqa: F403
from snnfast_zoo.n3ml.model import __all__ as __all__
from snnfast_zoo.n3ml.model import __dir__ as __dir__
