"""Published networks, of ``snnfast_zoo.papers``."""

from snnfast_zoo.papers import *  # noqa: F403
from snnfast_zoo.papers import __all__ as __all__
from snnfast_zoo.papers import __dir__ as __dir__
