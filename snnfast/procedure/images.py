"""Images for procedures that train on them: loaded into memory, and changed at random while training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from snnfast import data

__all__ = [
    "IMAGE_SHAPES",
    "NORMALISATION",
    "Data",
    "augmentation",
    "crop",
    "flip",
    "load",
    "normalise",
]

IMAGE_SHAPES = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar10": (3, 32, 32)}
CLASSES = 10
# Mean and standard deviation of a colour, as the manual normalises them. Training images of these sets stay 8-bit in
# memory, a quarter of the floats: a batch is cropped and mirrored as bytes, then normalised.
NORMALISATION = {"cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))}


class Settings(Protocol):
    """What loading and augmentation read of a procedure's settings; see there."""

    @property
    def dataset(self) -> str:
        """A name of IMAGE_SHAPES."""

    @property
    def validate(self) -> bool:
        """Whether the validation split is kept apart and watched instead of the test images."""

    @property
    def shift(self) -> float:
        """Pixels."""

    @property
    def rotate(self) -> float:
        """Degrees."""

    @property
    def scale(self) -> float:
        """A fraction."""


@dataclass(frozen=True)
class Data:
    """Images and labels in memory; ``held_out`` is watched during training, ``test`` is reported.

    Images are what a network takes, but for ``train`` of a set in NORMALISATION: see :func:`normalise`.
    """

    train: tuple[Tensor, Tensor]
    held_out: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def load(
    settings: Settings,
    root: Path | None = None,
    *,
    download: bool = False,
    device: torch.device | str = "cpu",
) -> Data:
    """The images of a run.

    Args:
        settings: names the data set, and whether the validation split is kept apart.
        root: folder of MNIST or CIFAR-10 in torchvision's layout; the digits need none. CIFAR-10 may also lie there as
            images, ``train/CLASS/*`` and ``test/CLASS/*``.
        download: let torchvision download the set into ``root``.
        device: where the tensors go.

    Raises:
        ValueError, FileNotFoundError, ImportError: a torchvision set without ``root``, not there, or without
            torchvision; images in folders that are not as :func:`snnfast.data.image_folder` wants them, or not of the
            size and in as many classes as the data set.
    """
    dataset, wanted = settings.dataset, IMAGE_SHAPES[settings.dataset]
    colours = dataset in NORMALISATION
    in_folders = colours and root is not None and _is_image_folder(root)

    def split(name: str, ready: bool = True) -> tuple[Tensor, Tensor]:
        part = data.load("folder" if in_folders else dataset, root, split=name, download=download)
        images, labels = data.as_tensors(part, dtype=torch.uint8 if colours else torch.float32)
        classes = int(labels.max()) + 1
        if in_folders and (images.shape[1:] != wanted or classes > CLASSES):
            came = "x".join(map(str, images.shape[1:]))
            raise ValueError(
                f"load: {dataset} has images of {'x'.join(map(str, wanted))} in {CLASSES} classes, got {came} in "
                f"{classes} classes in {root}"
            )
        images = images.to(device)
        return normalise(dataset, images) if ready else images, labels.to(device)

    test = split("test")
    if settings.validate:
        return Data(split("train", ready=False), split("val"), test)
    return Data(split("train+val", ready=False), test, test)


def _is_image_folder(root: Path) -> bool:
    return any((root.expanduser() / part).is_dir() for part in ("train", "test"))


def normalise(dataset: str, images: Tensor) -> Tensor:
    """8-bit images of a set in NORMALISATION as floats, mean 0 and deviation 1 a colour; others as they are."""
    if dataset not in NORMALISATION:
        return images
    mean, deviation = (
        torch.tensor(c, device=images.device).view(-1, 1, 1) for c in NORMALISATION[dataset]
    )
    return images.to(torch.float32).div_(255).sub_(mean).div_(deviation)


def crop(images: Tensor, padding: int) -> Tensor:
    """Images ``[B, C, H, W]``, each padded with so many black pixels on every side and cut at random to its size."""
    B, _, height, width = images.shape
    # Drawn on the CPU, so that every device sees the same images.
    top, left = torch.randint(2 * padding + 1, (2, B)).to(images.device)
    windows = F.pad(images, (padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(B, device=images.device), :, top, left]


def flip(images: Tensor) -> Tensor:
    """Images ``[B, C, H, W]``, every second one on average mirrored left to right."""
    # Drawn on the CPU, so that every device sees the same images.
    mirrored = (torch.rand(len(images)) < 0.5).to(images.device).view(-1, 1, 1, 1)
    return torch.where(mirrored, images.flip(-1), images)


def augmentation(settings: Settings) -> Callable[[Tensor], Tensor] | None:
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
