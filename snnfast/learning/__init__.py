"""Learning rules as objects over the ops, and labels for neurons that learned without any."""

from .bp_stdp import BpStdp
from .labels import Assignment, assign_labels, predict
from .spikeprop import SpikePropDescent
from .stdp import STDP

__all__ = ["STDP", "Assignment", "BpStdp", "SpikePropDescent", "assign_labels", "predict"]


def __dir__() -> list[str]:
    return __all__
