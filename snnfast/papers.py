"""Published networks, a folder a paper in ``snnfast_zoo.papers``; :mod:`snnfast.procedure` trains them."""

from snnfast_zoo.papers import *  # noqa: F403
from snnfast_zoo.papers import __all__ as __all__
from snnfast_zoo.papers import __dir__ as __dir__
