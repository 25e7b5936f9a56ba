"""Checkpoints: plain values and tensors in one file, replaced in one step, with a checksum over all of them."""

from snnfast_zoo.train.checkpoint import *  # noqa: F403
from snnfast_zoo.train.checkpoint import __all__ as __all__
