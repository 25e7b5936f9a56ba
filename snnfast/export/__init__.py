"""Trained networks for machines without Python.

:func:`snnfast.export_c` writes plain C. :class:`snnfast.export.Step` is for ``torch.export``, ONNX and AOTInductor.
:func:`snnfast.export.integer` converts a network that was trained with few bits to integers,
:func:`snnfast.export.expand` one that was trained with integer spikes to binary spikes.
"""

from .expand import Expanded, expand
from .integer import integer
from .source import CLayer
from .step import Step
from .write import CExport, Loss, export_c

__all__ = ["CExport", "CLayer", "Expanded", "Loss", "Step", "expand", "export_c", "integer"]


def __dir__() -> list[str]:
    return __all__
