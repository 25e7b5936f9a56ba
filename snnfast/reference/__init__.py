"""The ops in plain PyTorch, with the same signatures: the test oracle, the documentation and the third backend."""

from .cuba import cuba
from .lif import iaf, li, lif
from .poisson import poisson

__all__ = ["cuba", "iaf", "li", "lif", "poisson"]
