"""Inference with the network of a finished run: classes, preprocessing, predictions."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from snnfast import check
from snnfast.backend.devices import present
from snnfast_zoo.data.events import recording
from snnfast_zoo.data.folder import opaque
from snnfast_zoo.data.own import own_images

from .checkpoint import CheckpointError, load_weights, read_checkpoint
from .images import pixels_of
from .place import CHECKPOINT, Data, extent_of
from .procedure import Procedure
from .settings import Settings

PREDICTIONS = "predictions.csv"
_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601
_ARRAYS = (".npz", ".npy", ".pt")
_RECORDINGS = (".bin", ".bs2")


@dataclass(frozen=True)
class Trained:
    """The network of a run, with its classes and preprocessing.

    Example:
        >>> net = snnfast.load("runs/stbp-mine")
        >>> net(["photo.png"])                               # -> tensor([2])
        >>> [net.classes[label] for label in net(images)]     # images [N, C, H, W], as the run was trained with
        >>> net.model(net.preprocess(images))                 # the outputs of the network

    Attributes:
        model: the network, in evaluation mode.
        classes: the names of the classes, by label.
        settings: the settings of the run.
        folder: the folder of the run.
        procedure: the procedure of the run.
        shape: shape of a sample of the network's input.
        raw: shape of a sample before :meth:`preprocess`.
        extent: smallest and largest value of the training samples; None for a run of an earlier version.
        device: device of the network.
    """

    model: nn.Module
    classes: tuple[str, ...]
    settings: Settings
    folder: Path
    procedure: Procedure[Any]
    shape: tuple[int, ...]
    raw: tuple[int, ...]
    extent: tuple[float, float] | None
    device: torch.device

    def preprocess(self, samples: Any) -> Tensor:
        """Convert samples of the kind that the run was trained with into the network's input.

        Args:
            samples: images ``[N, C, H, W]`` or ``[N, H, W]``, bytes or floating point as in training, frames
                ``[N, T, C, H, W]``, rows of features or sequences; a tensor or an array. Or paths of image files.

        Raises:
            TypeError, ValueError: for samples of another shape or dtype than those of the run, or with values ten times
                as large. A warning names samples whose largest value is below a tenth of that of the run.
            FileNotFoundError: there is no such file.
        """
        if isinstance(samples, (str, Path)):
            samples = [samples]
        if isinstance(samples, Sequence) and all(isinstance(s, (str, Path)) for s in samples):
            samples = torch.stack([self._read(Path(s).expanduser()) for s in samples])
        if isinstance(samples, np.ndarray):
            samples = torch.from_numpy(np.ascontiguousarray(samples))
        check.tensor("load", "samples", samples)
        if samples.dim() == len(self.raw) and len(self.raw) in (3, 4) and self.raw[-3] == 1:
            samples = samples.unsqueeze(-3)
        if samples.shape[1:] != self.raw:
            moved = len(self.raw) == 3 and tuple(samples.shape[1:]) == (*self.raw[1:], self.raw[0])
            hint = "; move the channels: samples.transpose(0, 3, 1, 2) of an array" if moved else ""
            raise ValueError(
                f"load: samples must have shape [N, {', '.join(map(str, self.raw))}], as in the run in {self.folder}, "
                f"got {list(samples.shape)}{hint}"
            )
        x = pixels_of(samples).to(self.device)
        self._check_extent(x)
        return self.procedure.ready(self.settings, x)

    def _check_extent(self, x: Tensor) -> None:
        if self.extent is None or not x.numel():
            return
        trained, came = (max(map(abs, ends)) for ends in (self.extent, extent_of(x)))
        text = (
            f"load: the run in {self.folder} saw values from {self.extent[0]:g} to {self.extent[1]:g} in training; "
            f"these samples go from {x.min():g} to {x.max():g}; scale them as then"
        )
        if came > 10 * trained:
            raise ValueError(text)
        if 0 < came < trained / 10:
            check.warn(text)

    def __call__(self, samples: Any) -> Tensor:
        """Return the label of every sample, int64 ``[N]``; -1 where the network decides for none.

        A network that answers at every time step returns ``[N, T]``.
        """
        return self.labels(self.preprocess(samples))

    @torch.no_grad()
    def labels(self, x: Tensor) -> Tensor:
        """Return the labels of preprocessed samples."""
        parts = x.to(self.device).split(500)
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            found = [self.procedure.answers(self.settings, self.model, part, self.folder) for part in parts]
        return torch.cat(found) if found else x.new_zeros(0, dtype=torch.int64)

    def name(self, label: int) -> str:
        """Return the name of a class, the label itself if it was not in the data of the run; "-" for none."""
        return "-" if label < 0 else self.classes[label] if label < len(self.classes) else str(label)

    def names(self, label: Tensor) -> str:
        """Return the name of the class of a label, or the names at every time step."""
        return " ".join(self.name(k) for k in label.flatten().tolist())

    def _read(self, path: Path) -> Tensor:
        """Read an image file as bytes ``[C, H, W]``, grey or in colours as the network takes them."""
        from matplotlib import image

        if not path.is_file():
            raise FileNotFoundError(f"load: there is no image {path}")
        try:
            values = np.atleast_3d(image.imread(path))
        except Exception as error:  # decoders raise many types
            raise ValueError(f"load: {path} cannot be read as an image: {error}") from error
        if values.dtype.kind == "f":  # PNG
            values = (values * 255).round().astype(np.uint8)
        pixels = torch.from_numpy(np.ascontiguousarray(values)).movedim(2, 0)
        if len(self.raw) != 3:
            raise ValueError(
                f"load: the run in {self.folder} takes samples of shape {list(self.raw)}, which no image file has; "
                "give them as an array in a file .npz"
            )
        if pixels.shape[1:] != self.raw[1:]:
            height, width = pixels.shape[1:]
            raise ValueError(
                f"load: {path} has {width}x{height} pixels, the run in {self.folder} was trained with "
                f"{self.raw[2]}x{self.raw[1]}; resize it"
            )
        if len(pixels) != self.raw[0]:
            pixels = opaque(f"load: {path}", pixels)
        if len(pixels) == 3 and self.raw[0] == 1:
            grey = torch.tensor(_GREY).view(3, 1, 1)
            return (pixels * grey).sum(0, keepdim=True).round().to(torch.uint8)
        return pixels.expand(self.raw[0], -1, -1)


def load_run(procedures: Sequence[Procedure[Any]], folder: str | Path, device: torch.device | str) -> Trained:
    """Load the network of the run in ``folder``, of one of ``procedures``; see :func:`snnfast.load`."""
    if not isinstance(folder, (str, Path)):
        raise TypeError(f"load: folder must be the folder of a run, got {check.kind(folder)}")
    folder, device = Path(folder).expanduser(), present(device, "load: device")
    path = folder / CHECKPOINT
    checkpoint = read_checkpoint(path)
    found = next((p for p in procedures if p.Settings.name == checkpoint.get("kind")), None)
    if found is None:
        raise CheckpointError(f"{path} is of kind {checkpoint.get('kind')!r}, not of a run of snnfast train")
    procedure: Procedure[Any] = found
    settings, described = procedure.stored(folder), checkpoint.get("data")
    if not described:
        raise CheckpointError(
            f"{path} does not say what its samples look like: it is of an earlier version; go on with --resume"
        )

    def weighted(model: nn.Module) -> nn.Module:
        load_weights(model, path)
        return model

    return restored(procedure, settings, described, folder, device, weighted)


def restored(
    procedure: Procedure[Any],
    settings: Settings,
    described: Mapping[str, Any],
    folder: Path,
    device: torch.device,
    complete: Callable[[nn.Module], nn.Module],
) -> Trained:
    """Return the network of a run, which ``complete`` makes of the untrained network of its settings.

    ``described``: shapes, classes and range of the samples, from the checkpoint.
    """
    # A sample of zeros determines the shapes of the network; its weights come from the file.
    sample = torch.zeros(1, *described["shape"], device=device)
    label = torch.tensor([len(described["classes"]) - 1], device=device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = procedure.model(settings, Data((sample, label), (sample, label)))
    return Trained(
        *(complete(model).eval(), tuple(described["classes"]), settings, folder, procedure),
        *(tuple(described["shape"]), tuple(described["raw"])),
        *(described.get("extent") and tuple(described["extent"]), device),
    )


def predict(net: Trained, sources: Sequence[str | Path]) -> tuple[list[tuple[str, str]], Path]:
    """Classify samples; return (source, class) pairs and a new file ``predictions.csv``, ``predictions-2.csv``, ...

    Args:
        net: a trained network.
        sources: image files; recordings ``.bin`` or ``.bs2`` of N-MNIST; files ``.npz``, ``.npy`` or ``.pt`` with
            samples: ``images``, ``frames``, or the only array; data sets as for training, of which the test part is
            classified.
    """
    rows: list[tuple[str, str]] = []
    for source in map(Path, sources):
        if source.suffix in _RECORDINGS:
            rows.append((str(source), net.names(net(_recording(net, source.expanduser()))[0])))
        elif source.suffix in _ARRAYS or source.expanduser().is_dir() or ":" in source.name:
            labels = net(_samples(source.expanduser()))
            rows += [(f"{source}[{i}]", net.names(label)) for i, label in enumerate(labels)]
        else:
            rows.append((str(source), net.names(net([source])[0])))
    path, k = net.folder / PREDICTIONS, 1
    while path.exists():
        k += 1
        path = path.with_name(f"{Path(PREDICTIONS).stem}-{k}.csv")
    with path.open("x", newline="") as stream:
        csv.writer(stream).writerows([("source", "class"), *rows])
    return rows, path


def _recording(net: Trained, path: Path) -> Tensor:
    if net.settings.dataset != "nmnist":
        raise ValueError(
            f"load: {path} is a recording, and the run in {net.folder} was trained on {net.settings.dataset}; give its "
            "frames, made as those were (snnfast.data.frames), in a file .npz"
        )
    if not path.is_file():
        raise FileNotFoundError(f"load: there is no recording {path}")
    return recording(path)


def _samples(path: Path) -> Any:
    if path.suffix not in _ARRAYS:
        return own_images(str(path), "test")[0]
    if not path.is_file():
        raise FileNotFoundError(f"load: there is no file {path}")
    try:
        if path.suffix == ".pt":
            content = torch.load(path, map_location="cpu", weights_only=True)
        else:
            content = np.load(path, allow_pickle=False)
    except Exception as error:  # reading a damaged or foreign file raises many types
        raise ValueError(f"{path} holds no plain arrays: {str(error).splitlines()[0]}") from error
    if isinstance(content, (Tensor, np.ndarray)):
        return content
    names = list(content)
    for name in ("images", "frames", "test_images"):
        if name in names:
            return content[name]
    if len(names) == 1:
        return content[names[0]]
    raise ValueError(f"{path} must hold images, frames, or one array, got {', '.join(names)}")
