"""Data sets: three that ship with the package, and every torchvision image classification set.

``digits``, ``iris`` and ``cancer`` need no download. ``torchvision_dataset`` opens the others by
name, ``image_folder`` images that lie in folders by class, ``load`` any of them with one call, and
``as_tensors`` turns a data set into two tensors in memory. ``stratified_folds`` cuts a data set for cross-validation.
"""

from .bundled import (
    CANCER_CLASSES,
    CANCER_FEATURES,
    DIGITS_CLASSES,
    IRIS_CLASSES,
    IRIS_FEATURES,
    cancer,
    digits,
    iris,
)
from .folder import image_folder
from .iris_loader import IRISDataLoader
from .loading import load
from .splits import stratified_folds
from .vision import as_tensors, torchvision_dataset

__all__ = [
    "CANCER_CLASSES",
    "CANCER_FEATURES",
    "DIGITS_CLASSES",
    "IRIS_CLASSES",
    "IRIS_FEATURES",
    "IRISDataLoader",
    "as_tensors",
    "cancer",
    "digits",
    "image_folder",
    "iris",
    "load",
    "stratified_folds",
    "torchvision_dataset",
]
