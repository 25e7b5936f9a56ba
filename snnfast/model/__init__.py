"""Networks of published papers, one file a paper, each with the manual's calls."""

from .bohte2002 import Bohte2002
from .diehl_cook2015 import DiehlAndCook2015
from .tavanaei_maida2017 import TavanaeiAndMaida2017
from .wu2018 import Wu2018

TravanaeiAndMaida2017 = TavanaeiAndMaida2017  # as the manual spells it

__all__ = [
    "Bohte2002",
    "DiehlAndCook2015",
    "TavanaeiAndMaida2017",
    "TravanaeiAndMaida2017",
    "Wu2018",
]
