"""Data sets: two that ship with the package, and every torchvision image classification set.

``digits`` and ``iris`` need no download. ``torchvision_dataset`` opens the others by name, ``load``
opens any of them with one call, and ``as_tensors`` turns a data set into two tensors in memory.
"""

from .bundled import DIGITS_CLASSES, IRIS_CLASSES, IRIS_FEATURES, digits, iris
from .loading import load
from .vision import as_tensors, torchvision_dataset

__all__ = [
    "DIGITS_CLASSES",
    "IRIS_CLASSES",
    "IRIS_FEATURES",
    "as_tensors",
    "digits",
    "iris",
    "load",
    "torchvision_dataset",
]
