"""Supervised training in epochs, with progress and checkpoints that resume bit for bit; ``snnfast_zoo.train``."""

from snnfast_zoo.train import *  # noqa: F403
from snnfast_zoo.train import __all__ as __all__
