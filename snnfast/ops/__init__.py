"""The ops: stateless functions with fused CPU and CUDA kernels behind them."""

from snnfast import backend

from . import lif as _lif
from .lif import iaf, li, lif

__all__ = ["iaf", "li", "lif"]

if backend.extension is not None:
    _lif.register("snnfast")
