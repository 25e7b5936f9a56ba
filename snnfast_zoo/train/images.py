"""Images for procedures that train on them: loaded into memory, and changed at random while training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from snnfast import check
from snnfast_zoo import data
from snnfast_zoo.data.folder import in_parts
from snnfast_zoo.data.own import own_images

from .fit import Augment
from .place import Data
from .score import Part
from .settings import Settings, option

IMAGE_SHAPES = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar10": (3, 32, 32)}
CLASSES = 10
# Mean and standard deviation per colour, as n3ml's manual normalises them. Training images of these sets stay 8-bit in
# memory, a quarter of the size of floats: a batch is cropped and mirrored as bytes, then normalised.
NORMALIZATION = {"cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))}

# Elastic displacements are drawn on a grid with this side, for MNIST 7 pixels apart.
ELASTIC = 5


@dataclass(frozen=True, kw_only=True)
class Augmented(Settings):
    """Settings of procedures that change training images at random."""

    shift: float = option(0.0, "Augmentation: shift images by up to this many pixels.", least=0)
    rotate: float = option(0.0, "Augmentation: rotate images by up to this many degrees.", least=0)
    scale: float = option(0.0, "Augmentation: scale images by up to this fraction.", least=0)
    elastic: float = option(
        0.0, "Augmentation: bend images by smooth random displacements; their standard deviation, in pixels.", least=0
    )
    recalibrate: bool = option(
        False,
        "After the last epoch compute the means and variances of batch norm anew, over all training images without "
        "augmentation; needs a network with batch norm.",
    )


def load(
    settings: Settings,
    root: str | Path | None = None,
    *,
    download: bool = False,
    device: torch.device | str = "cpu",
    frames: bool = False,
    unit: bool = False,
) -> Data:
    """Return the images of a run as network inputs; training images of a set in NORMALIZATION are not yet normalised.

    Args:
        settings: the data set, and whether the validation split is held out.
        root: folder of MNIST or CIFAR-10 in torchvision's layout; the digits need none. CIFAR-10 may also be there as
            images, ``train/CLASS/*`` and ``test/CLASS/*``.
        download: let torchvision download the set into ``root``.
        device: device of the tensors.
        frames: whether a user's data may be frames of events ``[N, T, C, H, W]``.
        unit: whether pixels of a user's data must lie in [0, 1].

    Raises:
        ValueError, FileNotFoundError, ImportError: a torchvision set without ``root``, not there, damaged, or without
            torchvision; a folder that :func:`snnfast.data.image_folder` refuses; images of another size, or labels
            of more classes, than those of the data set; frames without ``frames``; pixels out of range; a border
            (crop) or a square (cutout) as wide as an image.
    """
    train, held_out = (part(settings.dataset, split, root, download, device, frames, unit) for split in settings.splits)
    for name in ("crop", "cutout"):
        value, side = getattr(settings, name, 0), min(train[0].shape[-2:])
        if value >= side:
            raise ValueError(f"{settings.name}: {name} must be less than the side of an image, {side}, got {value}")
    ready = normalize(settings.dataset, held_out[0]), held_out[1]
    return Data(train, ready, settings.held_out, extent=(0.0, 1.0) if settings.dataset in NORMALIZATION else None)


def part(
    dataset: str,
    split: str,
    root: str | Path | None = None,
    download: bool = False,
    device: torch.device | str = "cpu",
    frames: bool = False,
    unit: bool = False,
) -> Part:
    """Return images and labels of a split, not yet normalised; arguments and errors as in :func:`load`."""
    if dataset not in IMAGE_SHAPES:
        user_data = own_images(dataset, split, root, download=download)
        if user_data[0].dim() == 5 and not frames:
            raise ValueError(
                f"{dataset} has frames {list(user_data[0].shape)}, which only stbp and sequence take; "
                "give images [N, C, H, W]"
            )
        if unit:
            check.in_range(dataset, "pixels", user_data[0], 0.0, 1.0)
        return user_data[0].to(device), user_data[1].to(device)
    colours, wanted = dataset in NORMALIZATION, IMAGE_SHAPES[dataset]
    in_folders = colours and root is not None and in_parts(Path(root).expanduser())
    name = "folder" if in_folders else dataset
    opened = data.load(name, root, split=split, download=download)
    images, labels = data.as_tensors(opened, dtype=torch.uint8 if colours else torch.float32)
    classes = int(labels.max()) + 1
    if images.shape[1:] != wanted or classes > CLASSES or int(labels.min()) < 0:
        came = "x".join(map(str, images.shape[1:]))
        raise ValueError(
            f"load: {dataset} has images of {'x'.join(map(str, wanted))} in {CLASSES} classes, got {came} in "
            f"{classes} classes in {root}"
        )
    return images.to(device), labels.to(device)


def classes(dataset: str, data: Data) -> int:
    """Return the number of classes of a data set: ten, or that of a user's data."""
    return CLASSES if dataset in IMAGE_SHAPES else data.classes


def pixels_of(images: Tensor) -> Tensor:
    """Convert to float32; bytes of images ``[N, C, H, W]`` are scaled to [0, 1]."""
    if images.dtype == torch.uint8 and images.dim() == 4:
        return images.to(torch.float32).div_(255)
    return images.to(torch.float32)


def normalize(dataset: str, images: Tensor) -> Tensor:
    """Normalise 8-bit images of a set in NORMALIZATION to mean 0 and deviation 1 per colour; others are unchanged."""
    if dataset not in NORMALIZATION:
        return images
    mean, deviation = (torch.tensor(c, device=images.device).view(-1, 1, 1) for c in NORMALIZATION[dataset])
    return images.to(torch.float32).div_(255).sub_(mean).div_(deviation)


def crop(images: Tensor, padding: int) -> Tensor:
    """Pad images ``[B, C, H, W]`` with ``padding`` black pixels on every side and crop each at random to its size."""
    B, _, height, width = images.shape
    # Drawn on the CPU, so that every device sees the same images.
    top, left = torch.randint(2 * padding + 1, (2, B)).to(images.device)
    windows = F.pad(images, (padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(B, device=images.device), :, top, left]


def flip(images: Tensor) -> Tensor:
    """Mirror images ``[B, C, H, W]`` left to right, each with probability 0.5."""
    # Drawn on the CPU, so that every device sees the same images.
    mirrored = (torch.rand(len(images)) < 0.5).to(images.device).view(-1, 1, 1, 1)
    return torch.where(mirrored, images.flip(-1), images)


def cutout(images: Tensor, side: int) -> Tensor:
    """Set a square at a random place of each image ``[B, ..., H, W]`` to 0, clipped at the border.

    "Cutout" of DeVries and Taylor (arXiv 2017): the centre of the square is uniform over the pixels of the image.
    """
    B, height, width = len(images), *images.shape[-2:]
    # Drawn on the CPU, so that every device sees the same images.
    top, left = (torch.randint(size, (B, 1)) - side // 2 for size in (height, width))
    rows, columns = (
        (start <= torch.arange(size)) & (torch.arange(size) < start + side)
        for start, size in ((top, height), (left, width))
    )
    square = (rows[:, :, None] & columns[:, None, :]).to(images.device)
    return images.masked_fill(square.view(B, *(1,) * (images.ndim - 3), height, width), 0)


def augmentation(settings: Augmented) -> Augment | None:
    """Return random shifts, rotations, scalings and elastic displacements of a batch; None without any of them.

    It maps images and labels to changed images and the same labels.

    Elastic displacements (Simard, Steinkraus and Platt, ICDAR 2003) are normally distributed at 5x5 points of an image
    and interpolated bicubically.
    """
    if not (settings.shift or settings.rotate or settings.scale or settings.elastic):
        return None

    def augment(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        frames = images.flatten(1, -3)  # frames of a sample move together
        B, _, height, width = frames.shape
        # Drawn on the CPU, so that every device sees the same images.
        draw = torch.rand(5, B) * 2 - 1
        angle = draw[0] * math.radians(settings.rotate)
        y_scale, x_scale = 1 + draw[1] * settings.scale, 1 + draw[2] * settings.scale
        theta = torch.stack(
            [
                torch.stack([x_scale * angle.cos(), -angle.sin(), draw[3] * 2 * settings.shift / width], 1),
                torch.stack([angle.sin(), y_scale * angle.cos(), draw[4] * 2 * settings.shift / height], 1),
            ],
            1,
        ).to(images)
        grid = F.affine_grid(theta, list(frames.shape), align_corners=False)
        if settings.elastic:
            points = torch.randn(B, 2, ELASTIC, ELASTIC).to(images) * settings.elastic
            moved = F.interpolate(points, (height, width), mode="bicubic", align_corners=True)
            # The grid runs from -1 to 1 over an image.
            pixel = 2 / torch.tensor([width, height]).to(images)
            grid = grid + moved.permute(0, 2, 3, 1) * pixel
        return F.grid_sample(frames, grid, align_corners=False).view(images.shape), labels

    return augment
