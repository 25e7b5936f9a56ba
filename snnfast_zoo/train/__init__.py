"""Supervised training in epochs, with progress bars and checkpoints from which a run resumes bit for bit."""

from snnfast import check as _check

from .fit import Step, descend, fit
from .run import Output, Run
from .score import Score, evaluate, largest

__all__ = ["Output", "Run", "Score", "Step", "descend", "evaluate", "fit", "largest"]

_check.keywords_of_classes(globals()[name] for name in __all__)
