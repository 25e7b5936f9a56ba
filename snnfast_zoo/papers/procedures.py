"""Training procedures as functions: ``snnfast.procedure.stbp("mnist", root="data")`` trains and returns a result.

A procedure takes a data set, settings that differ from those of docs/results.md, and folders to read and write; see
:class:`Procedure`. :func:`convert` converts a trained ReLU network to a spiking network. The commands ``snnfast train``
and ``snnfast convert`` do the same.
"""

from pathlib import Path

import torch

from snnfast import check
from snnfast.backend.devices import present
from snnfast_zoo.train.procedure import Procedure
from snnfast_zoo.train.result import Result
from snnfast_zoo.train.trained import Trained, load_run

from .bohte2002.train import spikeprop
from .brunel2000.model import brunel
from .conversion.convert import CHECKPOINT as CONVERTED
from .conversion.convert import ConversionResult, convert, load_converted
from .conversion.train import diehl2015, vgg16
from .diehl_cook2015.train import stdp
from .potjans_diesmann2014.model import microcircuit
from .pretrained import PREFIX, pretrained_folder
from .sequence.train import sequence
from .shiu2024.model import connectome
from .simulation import Simulation, SimulationResult
from .spiking_vgg.train import spiking_vgg
from .tavanaei_maida2017.train import bp_stdp
from .vogels_abbott2005.model import vogels_abbott
from .wu2018.train import stbp

PROCEDURES = (stbp, stdp, spikeprop, bp_stdp, diehl2015, vgg16, spiking_vgg, sequence)

SIMULATIONS = (vogels_abbott, brunel, microcircuit, connectome)


@check.keywords
def load(folder: str | Path, *, device: torch.device | str = "cpu") -> Trained:
    """Load the trained network of a run of ``snnfast train`` or :mod:`snnfast.procedure`, with its preprocessing.

    Of a folder of ``snnfast convert`` it is the spiking network, which answers after the last of the ``--steps``.
    ``"pretrained:NAME"`` is a network that comes with the package: docs/pretrained.md has the names.

    Args:
        folder: folder of the run, with its ``checkpoint.pt``, or of a conversion, with its ``snn.pt``; or
            ``"pretrained:NAME"``.
        device: device of the network.

    Example:
        >>> net = snnfast.load("runs/stbp-digits")
        >>> net(images)                                      # labels [N]
        >>> snnfast.load("pretrained:stbp-digits").model     # trained by us; needs no network and no data

    Raises:
        ValueError: no such network comes with the package.
        FileNotFoundError, snnfast.checkpoint.CheckpointError: there is no checkpoint, it is damaged, of another kind,
            or of a version that did not store the shape of the samples.
    """
    if isinstance(folder, str) and folder.startswith(PREFIX):
        folder = pretrained_folder(folder)
    if isinstance(folder, (str, Path)) and (Path(folder).expanduser() / CONVERTED).is_file():
        return load_converted(Path(folder).expanduser(), present(device, "load: device"))
    return load_run(PROCEDURES, folder, device)


__all__ = [
    "ConversionResult",
    "Procedure",
    "Result",
    "Simulation",
    "SimulationResult",
    "Trained",
    "bp_stdp",
    "brunel",
    "connectome",
    "convert",
    "diehl2015",
    "load",
    "microcircuit",
    "sequence",
    "spikeprop",
    "spiking_vgg",
    "stbp",
    "stdp",
    "vgg16",
    "vogels_abbott",
]


def __dir__() -> list[str]:
    return __all__
