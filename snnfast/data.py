"""Data sets: three in the package, torchvision's by name, folders of images, recordings (``snnfast_zoo.data``)."""

from snnfast_zoo.data import *  # noqa: F403
from snnfast_zoo.data import __all__ as __all__
from snnfast_zoo.data import __dir__ as __dir__
