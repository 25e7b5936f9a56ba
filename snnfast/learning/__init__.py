"""Learning rules as objects over the ops, and labels for neurons that learned without any."""

from .labels import Assignment, assign_labels, predict
from .stdp import STDP

__all__ = ["STDP", "Assignment", "assign_labels", "predict"]
