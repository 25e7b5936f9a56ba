"""Published networks and their training procedures, one folder per paper."""

from .bohte2002.model import Bohte2002
from .conversion.diehl2015 import Diehl2015, SNN_Diehl2015
from .conversion.resnet20 import ResNet20, SResNet20
from .conversion.vgg16 import SVGG16, VGG16
from .diehl_cook2015.model import DiehlAndCook2015
from .sequence.model import SequenceNetwork
from .spiking_vgg.model import SpikingVGG
from .tavanaei_maida2017.model import TavanaeiAndMaida2017
from .wu2018.model import Wu2018

__all__ = [
    "SVGG16",
    "VGG16",
    "Bohte2002",
    "Diehl2015",
    "DiehlAndCook2015",
    "ResNet20",
    "SNN_Diehl2015",
    "SResNet20",
    "SequenceNetwork",
    "SpikingVGG",
    "TavanaeiAndMaida2017",
    "Wu2018",
]


def __dir__() -> list[str]:
    return __all__
