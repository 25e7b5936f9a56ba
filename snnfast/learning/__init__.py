"""Learning rules as objects over the ops, and labels for neurons that learned without any."""

from .labels import Assignment, assign_labels, predict

__all__ = ["Assignment", "assign_labels", "predict"]
