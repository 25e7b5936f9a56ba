"""Checkpoints: plain values and tensors in one file, replaced in one step, with a checksum over all of them."""

from .train.checkpoint import *  # noqa: F403
from .train.checkpoint import __all__ as __all__
