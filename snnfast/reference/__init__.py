"""The ops in plain PyTorch, with the same signatures: the test oracle, the documentation and the third backend."""

from .cuba import cuba
from .lif import iaf, li, lif

__all__ = ["cuba", "iaf", "li", "lif"]
