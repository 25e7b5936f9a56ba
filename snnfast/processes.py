"""The processes that ``torchrun`` started together: who does what, and what they tell each other."""

from .backend.processes import *  # noqa: F403
from .backend.processes import __all__ as __all__
