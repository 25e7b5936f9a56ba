"""Training procedures, each a call: ``snnfast.procedure.stbp("mnist", root="data")`` trains and returns a result.

A procedure takes a data set, the settings that should differ from those of docs/results.md, and where to read and
write; see :class:`Procedure`. :func:`convert` makes a spiking network of a trained ReLU network. ``snnfast train`` and
``snnfast convert`` are the same as commands.
"""

from pathlib import Path

import torch

from snnfast.train.runs.result import Result
from snnfast.train.runs.run import Procedure
from snnfast.train.runs.trained import Trained, load_run

from .bohte2002.procedure import Spikeprop
from .conversion.ann import AnnOfDiehl2015, AnnOfSengupta2019
from .conversion.procedure import ConversionResult, convert
from .diehl_cook2015.procedure import Stdp
from .sequence.procedure import Sequence
from .spiking_vgg.procedure import SpikingVgg
from .tavanaei_maida2017.procedure import BpStdp
from .wu2018.procedure import Stbp

stbp = Stbp()
stdp = Stdp()
spikeprop = Spikeprop()
bp_stdp = BpStdp()
diehl2015 = AnnOfDiehl2015()
vgg16 = AnnOfSengupta2019()
sequence = Sequence()
spiking_vgg = SpikingVgg()
PROCEDURES = (stbp, stdp, spikeprop, bp_stdp, diehl2015, vgg16, spiking_vgg, sequence)


def load(folder: str | Path, *, device: torch.device | str = "cpu") -> Trained:
    """The trained network of a run of ``snnfast train`` or of :mod:`snnfast.procedure`, with classes and preprocessing.

    Args:
        folder: of the run, with its ``checkpoint.pt``.
        device: where the network goes.

    Example:
        >>> net = snnfast.load("runs/stbp-digits")
        >>> net(images)                                      # labels [N]

    Raises:
        FileNotFoundError, snnfast.checkpoint.CheckpointError: there is no checkpoint, it is damaged, of something else,
            or of a version that did not keep what its samples look like.
    """
    return load_run(PROCEDURES, folder, device)


__all__ = [
    "ConversionResult",
    "Procedure",
    "Result",
    "Trained",
    "bp_stdp",
    "convert",
    "diehl2015",
    "load",
    "sequence",
    "spikeprop",
    "spiking_vgg",
    "stbp",
    "stdp",
    "vgg16",
]


def __dir__() -> list[str]:
    return __all__
