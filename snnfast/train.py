"""Supervised training in epochs, of ``snnfast_zoo.train``."""

from snnfast_zoo.train import *  # noqa: F403
from snnfast_zoo.train import __all__ as __all__
