"""Networks of published papers, one file a paper, each with the manual's calls."""

from .bohte2002 import Bohte2002
from .diehl_cook2015 import DiehlAndCook2015
from .wu2018 import Wu2018

__all__ = ["Bohte2002", "DiehlAndCook2015", "Wu2018"]
