"""Training procedures as functions: ``snnfast.procedure.stbp("mnist", root="data")`` trains and returns a result.

A procedure takes a data set, settings that differ from those of docs/results.md, and folders to read and write; see
:class:`Procedure`. :func:`convert` converts a trained ReLU network to a spiking network. The commands ``snnfast train``
and ``snnfast convert`` do the same.
"""

from pathlib import Path

import torch

from snnfast_zoo.train.runs.result import Result
from snnfast_zoo.train.runs.run import Procedure
from snnfast_zoo.train.runs.trained import Trained, load_run

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
    """Load the trained network of a run of ``snnfast train`` or :mod:`snnfast.procedure`, with its preprocessing.

    Args:
        folder: folder of the run, with its ``checkpoint.pt``.
        device: device of the network.

    Example:
        >>> net = snnfast.load("runs/stbp-digits")
        >>> net(images)                                      # labels [N]

    Raises:
        FileNotFoundError, snnfast.checkpoint.CheckpointError: there is no checkpoint, it is damaged, of another kind,
            or of a version that did not store the shape of the samples.
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
