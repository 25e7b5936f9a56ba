"""Training procedures, each a call: ``snnfast.procedure.stbp("mnist", root="data")`` trains and returns a result."""

from snnfast_zoo.papers.procedures import *  # noqa: F403
from snnfast_zoo.papers.procedures import __all__ as __all__
from snnfast_zoo.papers.procedures import __dir__ as __dir__
