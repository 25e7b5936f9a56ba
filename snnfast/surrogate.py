"""Surrogate gradients: what stands in for the derivative of the spike."""

from .reference.surrogate import *  # noqa: F403
from .reference.surrogate import __all__ as __all__
from .reference.surrogate import __dir__ as __dir__
