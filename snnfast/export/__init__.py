"""Trained networks for machines without Python: :func:`export_c` writes plain C, :class:`Step` is for other tools."""

from .source import Layer
from .step import Step
from .write import CExport, Loss, export_c

__all__ = ["CExport", "Layer", "Loss", "Step", "export_c"]
