"""Data sets: three in the package, every torchvision image classification set, event recordings.

``digits``, ``iris`` and ``cancer`` need no download, ``yin_yang`` is generated. ``torchvision_dataset`` opens the
others by name, ``image_folder`` opens images in one folder per class, ``load`` opens any of them, and ``as_tensors``
converts a data set to two tensors in memory. ``heidelberg``, ``nmnist`` and ``dvs128_gesture`` read event recordings
from disk, ``frames`` counts events in arrays, ``qtdb`` reads heartbeats. ``stratified_folds`` splits a data set for
cross-validation.
"""

from typing import TYPE_CHECKING

from snnfast import check as _check

from .bundled import CANCER_CLASSES, CANCER_FEATURES, DIGITS_CLASSES, IRIS_CLASSES, IRIS_FEATURES, cancer, digits, iris
from .events import EventFrames, dvs128_gesture, frames, heidelberg, nmnist
from .folder import image_folder
from .loading import load
from .qtdb import QTDB_CLASSES, qtdb
from .splits import stratified_folds
from .vision import as_tensors, torchvision_dataset
from .yin_yang import YIN_YANG_CLASSES, yin_yang

__all__ = [
    "CANCER_CLASSES",
    "CANCER_FEATURES",
    "DIGITS_CLASSES",
    "IRIS_CLASSES",
    "IRIS_FEATURES",
    "QTDB_CLASSES",
    "YIN_YANG_CLASSES",
    "EventFrames",
    "IRISDataLoader",
    "as_tensors",
    "cancer",
    "digits",
    "dvs128_gesture",
    "frames",
    "heidelberg",
    "image_folder",
    "iris",
    "load",
    "nmnist",
    "qtdb",
    "stratified_folds",
    "torchvision_dataset",
    "yin_yang",
]

_MANUAL = dict.fromkeys(("IRISDataLoader",), "snnfast_zoo.n3ml.iris_loader")

if not TYPE_CHECKING:

    def __getattr__(name):
        """Resolve names of n3ml's manual."""
        return _check.moved(__name__, name, _MANUAL)


def __dir__() -> list[str]:
    return __all__
