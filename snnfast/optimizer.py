"""The learning rules of :mod:`snnfast.learning` that n3ml's manual has as optimizers, by its names and arguments."""

from snnfast_zoo.n3ml.optimizer import *  # noqa: F403
from snnfast_zoo.n3ml.optimizer import __all__ as __all__
