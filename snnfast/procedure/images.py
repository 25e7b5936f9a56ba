"""Images for procedures that train on them: loaded into memory, and changed at random while training."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from snnfast import data
from snnfast.procedure.run import Data
from snnfast.procedure.settings import Settings
from snnfast.train import Part

__all__ = ["IMAGE_SHAPES", "Data", "augmentation", "load"]

IMAGE_SHAPES = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar10": (3, 32, 32)}
# Mean and standard deviation of a colour, as the manual normalises them.
NORMALISATION = {"cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))}


class Augmented(Protocol):
    """What augmentation reads of a procedure's settings; see there."""

    @property
    def shift(self) -> float:
        """Pixels."""

    @property
    def rotate(self) -> float:
        """Degrees."""

    @property
    def scale(self) -> float:
        """A fraction."""


def load(
    settings: Settings,
    root: str | Path | None = None,
    *,
    download: bool = False,
    device: torch.device | str = "cpu",
) -> Data:
    """The images of a run.

    Args:
        settings: names the data set, and whether the validation split is kept apart.
        root: folder of MNIST or CIFAR-10 in torchvision's layout; the digits need none.
        download: let torchvision download the set into ``root``.
        device: where the tensors go.

    Raises:
        ValueError, FileNotFoundError, ImportError: a torchvision set without ``root``, not there, or without
            torchvision.
    """
    where = (root, download, device)
    if settings.validate:
        train, held_out = (split(settings.dataset, name, *where) for name in ("train", "val"))
        return Data(train, held_out, "validation")
    train, held_out = (split(settings.dataset, name, *where) for name in ("train+val", "test"))
    return Data(train, held_out)


def split(
    dataset: str,
    name: str,
    root: str | Path | None = None,
    download: bool = False,
    device: torch.device | str = "cpu",
) -> Part:
    """Images and labels of one split; arguments and errors as of :func:`load`."""
    part = data.load(dataset, root, split=name, download=download)
    images, labels = data.as_tensors(part)
    if dataset in NORMALISATION:
        mean, deviation = (torch.tensor(c).view(-1, 1, 1) for c in NORMALISATION[dataset])
        images = images.sub_(mean).div_(deviation)
    return images.to(device), labels.to(device)


def augmentation(settings: Augmented) -> Callable[[Tensor], Tensor] | None:
    """Random shifts, rotations and scalings of a batch, or None when the settings ask for none."""
    if not (settings.shift or settings.rotate or settings.scale):
        return None

    def augment(images: Tensor) -> Tensor:
        B, _, height, width = images.shape
        # Drawn on the CPU, so that every device sees the same images.
        draw = torch.rand(5, B) * 2 - 1
        angle = draw[0] * math.radians(settings.rotate)
        y_scale, x_scale = 1 + draw[1] * settings.scale, 1 + draw[2] * settings.scale
        theta = torch.stack(
            [
                torch.stack(
                    [x_scale * angle.cos(), -angle.sin(), draw[3] * 2 * settings.shift / width], 1
                ),
                torch.stack(
                    [angle.sin(), y_scale * angle.cos(), draw[4] * 2 * settings.shift / height], 1
                ),
            ],
            1,
        ).to(images)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, align_corners=False)

    return augment
