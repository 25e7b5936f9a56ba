"""Sequences of a run: memory tasks, images by rows and pixels, recordings, and user data."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from snnfast_zoo import data as sets
from snnfast_zoo.data.sequences import TASKS, SequenceTask, binary_adding, copy_memory, delayed_xor
from snnfast_zoo.data.splits import permutation
from snnfast_zoo.train import images, samples
from snnfast_zoo.train.place import Data
from snnfast_zoo.train.score import Part

from .settings import GENERATED, IMAGES, RECORDINGS, SequenceSettings

GENERATORS = {"adding": binary_adding, "xor": delayed_xor, "copy": copy_memory}
KNOWN = TASKS | {
    **{"smnist": SequenceTask(28, 10), "psmnist": SequenceTask(1, 10)},
    **{"qtdb": SequenceTask(4, len(sets.QTDB_CLASSES), None), "nmnist": SequenceTask(2 * 34 * 34, 10)},
}
SEEDS = {"train": 1, "validation": 2, "test": 3}  # seeds of the generated samples
HELD_OUT = 2000


def load(
    settings: SequenceSettings,
    root: str | Path | None = None,
    *,
    download: bool = False,
    device: torch.device | str = "cpu",
) -> Data:
    """Return sequences ``[N, T, in_features]`` and labels; generated parts differ in their seeds."""
    raw: tuple[int, ...] = ()
    if settings.dataset in GENERATED:
        make, num_steps = GENERATORS[settings.dataset], settings.num_steps
        parts = (
            make(count, num_steps, seed=SEEDS[name])
            for name, count in (("train", settings.samples), (settings.held_out, HELD_OUT))
        )
    elif settings.dataset in RECORDINGS:
        if root is None:
            raise ValueError(f"sequence: {settings.dataset} needs its folder: root= (--data)")
        found = (qtdb if settings.dataset == "qtdb" else nmnist)(settings, Path(root))
        raw = tuple(found[0][0].shape[1:])
        parts = ((rows(settings.dataset, x), labels) for x, labels in found)
    else:
        source = "mnist" if settings.dataset in IMAGES else settings.dataset
        opened = [images.part(source, split, root, download, frames=True) for split in settings.splits]
        raw = tuple(opened[0][0].shape[1:])
        parts = ((rows(settings.dataset, x), labels) for x, labels in opened)
    train, held_out = ((x.to(device), labels.to(device)) for x, labels in parts)
    return Data(train, held_out, settings.held_out, raw)


def ready(settings: SequenceSettings, x: Tensor) -> Tensor:
    """Return images as rows, and frames and generated sequences unchanged."""
    return x if settings.dataset in (*GENERATED, "qtdb") else rows(settings.dataset, x)


def rows(dataset: str, x: Tensor) -> Tensor:
    """Return images ``[N, C, H, W]`` as sequences of rows, frames ``[N, T, C, H, W]`` as flat sequences.

    Images of "psmnist" become sequences of pixels in a fixed random order.
    """
    if dataset == "qtdb":
        return x
    if dataset != "psmnist":
        return (x if x.dim() == 5 else x.transpose(1, 2)).flatten(2)
    order = torch.from_numpy(permutation("psmnist", 784, 0))
    return x.flatten(1)[:, order].unsqueeze(2)


def qtdb(settings: SequenceSettings, root: Path) -> tuple[Part, Part]:
    """Return the heartbeats of a run.

    Some eight consecutive sequences are of one patient, and the test part has other patients than the training part.
    Validation therefore takes three stretches of the training part, each a twentieth of it.
    """
    x, labels = sets.qtdb(root)
    if not settings.validate:
        return (x, labels), sets.qtdb(root, train=False)
    n, size = len(x), len(x) // 20
    if not size:
        raise ValueError(f"qtdb: validation takes three twentieths of the training part, 20 sequences or more, got {n}")
    held_out = torch.zeros(n, dtype=torch.bool)
    for start in (0, (n - size) // 2, n - size):
        held_out[start : start + size] = True
    return (x[~held_out], labels[~held_out]), (x[held_out], labels[held_out])


def with_other_leads(x: Tensor, share: float) -> Tensor:
    """Exchange the leads in ``share`` of the electrocardiograms ``[B, T, 4]``, and invert each lead in half as many.

    The channels are rises and falls of the first lead, then of the second one.
    """
    leads = x.unflatten(2, (2, 2))
    exchanged = torch.rand(len(x), 1, 1, 1, device=x.device) < share
    inverted = torch.rand(len(x), 1, 2, 1, device=x.device) < share / 2
    leads = torch.where(exchanged, leads.flip(2), leads)
    return torch.where(inverted, leads.flip(3), leads).flatten(2)


def nmnist(settings: SequenceSettings, root: Path) -> tuple[Part, Part]:
    """Return the recordings of a run: the set's two parts, or folds of their union."""
    lists = [next(iter(sorted(root.glob(f"{name}*.txt"))), root) for name in ("train", "test")]
    found = [sets.nmnist(source, train) for source, train in zip(lists, (True, False))]
    train, test = ((part.frames, part.labels) for part in found)
    if settings.folds is not None:
        recordings = torch.cat([train[0], test[0]]), torch.cat([train[1], test[1]])
        return samples.folded(settings, settings.folds, recordings)
    if not settings.validate:
        return train, test
    x, labels = train
    inner = sets.stratified_folds(labels, 12, seed=0) == 0
    return (x[~inner], labels[~inner]), (x[inner], labels[inner])
