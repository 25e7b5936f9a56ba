"""Conversion to and from the Neuromorphic Intermediate Representation (NIR; Pedersen et al. 2024).

Needs the package ``nir``: ``pip install ".[nir]"``. NIR defines neurons by differential equations in seconds; a
step of this package is ``dt`` seconds, with a ``scheme`` that you name:

- ``"euler"``: ``decay = 1 - dt / tau``, as snnTorch and Norse step;
- ``"exponential"``: ``decay = exp(-dt / tau)``, exact for a current that is constant within a step.
"""

from .export import to_nir
from .file import read, write
from .layers import Graph, Offset, Scale, SumPool2d, Threshold, TwoLI
from .load import from_nir

__all__ = ["Graph", "Offset", "Scale", "SumPool2d", "Threshold", "TwoLI", "from_nir", "read", "to_nir", "write"]
