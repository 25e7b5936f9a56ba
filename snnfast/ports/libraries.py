"""Neurons of other libraries on the kernels here, a file a library: what :func:`snnfast.nn.replace` makes."""

from .norse import NORSE
from .port import Library
from .sinabs import SINABS
from .snntorch import SNNTORCH
from .spikingjelly import SPIKINGJELLY

__all__ = ["LIBRARIES", "Library"]

LIBRARIES: dict[str, Library] = {library.name: library for library in (SPIKINGJELLY, SNNTORCH, NORSE, SINABS)}
