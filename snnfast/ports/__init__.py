"""Run networks of other libraries on these kernels: replace their neurons and take their loops apart."""

from .presets import like
from .replace import replace

__all__ = ["like", "replace"]
