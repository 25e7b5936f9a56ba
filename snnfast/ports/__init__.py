"""Networks of other libraries on the kernels here: their neurons replaced, and their loops taken apart."""

from .presets import like
from .replace import replace

__all__ = ["like", "replace"]
