"""Images in one folder per class."""

from __future__ import annotations

import importlib
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from .vision import torchvision_modules

_PARTS = ("train", "test")


def image_folder(root: str | Path, train: bool | None = True) -> Dataset[tuple[Tensor, int]]:
    """Open images in ``root/train/CLASS/*`` and ``root/test/CLASS/*``, each part as torchvision's ImageFolder.

    torchvision decodes a file (JPEG, PNG, WebP) when its item is read; ``as_tensors`` reads every item once.

    Args:
        root: Folder that holds ``train`` and ``test``.
        train: The training part, or the test part; None for the images in ``root/CLASS/*``, which are not split.

    Returns:
        Data set of (image, label) pairs: uint8 [3, H, W], and the index of the class among the sorted names. Reading a
        file that is not an image, has more than 8 bits per colour or transparent pixels, or differs in size from the
        first one read, raises a ValueError that names it.

    Raises:
        ImportError: torchvision is not installed.
        FileNotFoundError: A part is missing or has no classes, or a class has no images.
        ValueError: The classes of both parts differ.
    """
    datasets, _ = torchvision_modules("image_folder")
    if not isinstance(root, (str, Path)):
        raise TypeError(f"image_folder: root must be a folder, got {type(root).__name__}")
    folder = Path(root).expanduser()
    if train is not None:
        _check_parts(folder)
    part = folder if train is None else folder / ("train" if train else "test")
    try:
        opened: Dataset[tuple[Tensor, int]] = datasets.ImageFolder(part, loader=_Decode())
    except FileNotFoundError as error:
        raise FileNotFoundError(f"image_folder: {part}: {error}") from error
    return opened


def in_parts(folder: Path) -> bool:
    """Return whether ``folder`` holds ``train`` or ``test``, not the folders of the classes."""
    return any((folder / part).is_dir() for part in _PARTS)


def _check_parts(folder: Path) -> None:
    """Raise an error unless both parts have the same classes."""
    classes = {part: _classes(folder / part) for part in _PARTS}
    differing = [
        f"{name} only in {part}"
        for part, other in (_PARTS, _PARTS[::-1])
        for name in sorted(classes[part] - classes[other])
    ]
    if differing:
        raise ValueError(
            f"image_folder: train and test in {folder} must have the same classes, got {', '.join(differing)}"
        )


def _classes(part: Path) -> set[str]:
    if not part.is_dir():
        raise FileNotFoundError(
            f"image_folder: root must hold train/CLASS/* and test/CLASS/*, there is no folder {part}"
        )
    return {entry.name for entry in part.iterdir() if entry.is_dir()}


class _Decode:
    """Decoder of image files to uint8 [3, H, W], which must have the size of the first."""

    def __init__(self) -> None:
        self.size: tuple[int, int] | None = None

    def __call__(self, path: str) -> Tensor:
        io = importlib.import_module("torchvision.io")
        try:
            content = io.read_file(path)
            mode = io.ImageReadMode.RGB_ALPHA if _may_have_alpha(content) else io.ImageReadMode.RGB
            image: Tensor = io.decode_image(content, mode=mode)
        except RuntimeError as error:
            raise ValueError(f"image_folder: {path} cannot be read as an image: {error}") from error
        if image.dtype != torch.uint8:
            raise ValueError(f"image_folder: {path} must have 8 bits a colour, got {torch.iinfo(image.dtype).bits}")
        image = opaque(f"image_folder: {path}", image)
        height, width = image.shape[1:]
        if self.size is None:
            self.size = height, width
        if self.size != (height, width):
            raise ValueError(
                f"image_folder: all images must be as large as the first, {self.size[0]}x{self.size[1]}, "
                f"got {height}x{width} in {path}"
            )
        return image


def _may_have_alpha(content: Tensor) -> bool:
    """Return whether bytes are a WebP image or a PNG image with transparency; others decode without alpha only."""
    image = content.numpy().tobytes()
    if image[:4] == b"\x89PNG":
        return image[25] in (4, 6) or b"tRNS" in image[: image.find(b"IDAT")]
    return image[:4] == b"RIFF"


def opaque(name: str, image: Tensor) -> Tensor:
    """Return the colours of an image of bytes ``[C, H, W]``, without an alpha channel that is 255 everywhere.

    Raises:
        ValueError: there are transparent pixels, whose colour is that of a background; the error begins with ``name``.
    """
    if len(image) not in (2, 4):
        return image
    if int(image[-1].min()) < 255:
        raise ValueError(f"{name} has transparent pixels: save it with a background, without an alpha channel")
    return image[:-1]
