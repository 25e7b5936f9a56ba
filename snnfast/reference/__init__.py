"""The ops in plain PyTorch, with the same signatures: the test oracle, the documentation and the third backend."""

from .cuba import cuba
from .lif import lif

__all__ = ["cuba", "lif"]
