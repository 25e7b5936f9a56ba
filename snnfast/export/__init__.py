"""Trained networks for machines without Python: :func:`export_c` writes plain C."""

from .source import Layer
from .write import CExport, Loss, export_c

__all__ = ["CExport", "Layer", "Loss", "export_c"]
