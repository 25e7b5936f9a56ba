"""Neurons of other libraries on these kernels, one file per library, as :func:`snnfast.nn.replace` makes them."""

from .norse import NORSE
from .port import Library
from .sinabs import SINABS
from .snntorch import SNNTORCH
from .spikingjelly import SPIKINGJELLY

__all__ = ["LIBRARIES", "Library"]

LIBRARIES: dict[str, Library] = {library.name: library for library in (SPIKINGJELLY, SNNTORCH, NORSE, SINABS)}
