"""Networks of published papers, one file a paper, each with the manual's calls."""

from .wu2018 import Wu2018

__all__ = ["Wu2018"]
