"""Learning rules as objects over the ops, and class labels for neurons trained without supervision."""

from snnfast import check as _check

from .bp_stdp import BpStdp
from .eprop import EProp
from .labels import Assignment, assign_labels, predict
from .ottt import OTTT
from .spikeprop import SpikePropDescent
from .stdp import STDP

__all__ = ["OTTT", "STDP", "Assignment", "BpStdp", "EProp", "SpikePropDescent", "assign_labels", "predict"]

_check.keywords_of_classes(globals()[name] for name in __all__)


def __dir__() -> list[str]:
    return __all__
