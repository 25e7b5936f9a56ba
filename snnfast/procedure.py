"""Training procedures, each a call: ``snnfast.procedure.stbp("mnist", root="data")`` trains and returns a result."""

from .papers.procedures import *  # noqa: F403
from .papers.procedures import __all__ as __all__
from .papers.procedures import __dir__ as __dir__
