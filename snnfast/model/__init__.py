"""Networks of published papers, one file a paper, each with the manual's calls, too."""

from .bohte2002 import Bohte2002
from .diehl2015 import Diehl2015, SNN_Diehl2015
from .diehl_cook2015 import DiehlAndCook2015
from .resnet20 import ResNet20, SResNet20
from .sequence import SequenceNetwork
from .spiking_vgg import SpikingVGG
from .tavanaei_maida2017 import TavanaeiAndMaida2017
from .travanaei_maida2017 import TravanaeiAndMaida2017
from .vgg16 import SVGG16, VGG16
from .wu2018 import Wu2018

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
    "TravanaeiAndMaida2017",
    "Wu2018",
]


def __dir__() -> list[str]:
    return __all__
