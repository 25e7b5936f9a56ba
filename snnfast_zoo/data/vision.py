"""torchvision's image classification sets by name, and conversion of data sets to tensors in memory."""

from __future__ import annotations

import difflib
import importlib
import operator
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset
from tqdm import tqdm

from .idx import check_files

# Argument that selects a part of a set, its value for training, its value for testing.
_FLAG = ("train", True, False)
_SPLIT = ("split", "train", "test")
_TRAIN_VAL = ("split", "train", "val")
_TRAINVAL_TEST = ("split", "trainval", "test")
_PARTS: dict[str, tuple[str, object, object]] = {
    "CIFAR10": _FLAG,
    "CIFAR100": _FLAG,
    "CLEVRClassification": _TRAIN_VAL,
    "Country211": _SPLIT,
    "DTD": _SPLIT,
    "EMNIST": _FLAG,
    "FER2013": _SPLIT,
    "FGVCAircraft": _TRAINVAL_TEST,
    "FashionMNIST": _FLAG,
    "Flowers102": _SPLIT,
    "Food101": _SPLIT,
    "GTSRB": _SPLIT,
    "ImageNet": _TRAIN_VAL,
    "Imagenette": _TRAIN_VAL,
    "KMNIST": _FLAG,
    "MNIST": _FLAG,
    "OxfordIIITPet": _TRAINVAL_TEST,
    "PCAM": _SPLIT,
    "QMNIST": _FLAG,
    "RenderedSST2": _SPLIT,
    "STL10": _SPLIT,
    "SVHN": _SPLIT,
    "StanfordCars": _SPLIT,
    "USPS": _FLAG,
}
_NO_DOWNLOAD = ("FER2013", "ImageNet", "StanfordCars")
_IDX = ("MNIST", "FashionMNIST", "KMNIST")
_MNIST_FILES = ("MNIST", "FashionMNIST", "KMNIST", "EMNIST", "QMNIST")


def torchvision_dataset(
    name: str,
    root: str | Path,
    train: bool = True,
    transform: Callable[[Any], Any] | None = None,
    download: bool = False,
    **options: Any,
) -> Dataset[tuple[Any, Any]]:
    """Open one of torchvision's image classification sets by name.

    Args:
        name: torchvision's name, in any case; "-" and "_" do not count: "MNIST", "fashion-mnist",
            "cifar10".
        root: Folder in torchvision's layout, for MNIST the one that holds ``MNIST/raw``.
        train: The training part, or the test part (the "val" part of sets that have no labelled
            test part).
        transform: Called on each PIL image; default ``torchvision.transforms.ToTensor()``, which
            gives float32 [C, H, W] in [0, 1].
        download: Let torchvision download the set into ``root`` when it is not there.
        **options: Further arguments of the torchvision class, such as ``split="letters"`` of
            EMNIST.

    Returns:
        The torchvision data set of (image, label) pairs.

    Raises:
        ImportError: torchvision is not installed.
        ValueError: Unknown name, a set that torchvision cannot download, or EMNIST without
            ``split``.
        FileNotFoundError: The set is not in ``root``.
        ValueError: Its files are damaged, or inconsistent.
    """
    datasets, transforms = torchvision_modules("torchvision_dataset")
    official = official_name("torchvision_dataset", name)
    if not isinstance(root, (str, Path)):
        raise TypeError(f"torchvision_dataset: root must be a folder, got {type(root).__name__}")
    if official == "EMNIST" and "split" not in options:
        raise ValueError(
            "torchvision_dataset: EMNIST has several sets, so it needs split= one of "
            "byclass, bymerge, balanced, letters, digits, mnist"
        )
    argument, train_value, test_value = _PARTS[official]
    options = {argument: train_value if train else test_value, **options}
    if download and official in _NO_DOWNLOAD:
        raise ValueError(f"torchvision_dataset: torchvision cannot download {official}; place it in {root}")
    if download:
        options["download"] = True
    options["transform"] = transforms.ToTensor() if transform is None else transform
    folder = Path(root).expanduser()
    if official in _IDX:
        check_files(folder / official / "raw", train)
    try:
        opened: Dataset[tuple[Any, Any]] = getattr(datasets, official)(folder, **options)
    except (EOFError, UnpicklingError, AssertionError) as error:
        raise ValueError(
            f"torchvision_dataset: a file of {official} in {folder.resolve()} is damaged: {error}"
        ) from error
    except (RuntimeError, FileNotFoundError) as error:
        if download:
            raise
        raise FileNotFoundError(_not_found(official, folder, error)) from error
    return opened


def as_tensors(dataset: Dataset[Any], *, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Convert all images and labels of a data set to two tensors.

    torchvision sets with images in memory (MNIST and similar sets, CIFAR, SVHN, STL10, USPS)
    and have no transform beyond ``ToTensor`` are converted at once, without a PIL image for each
    item: MNIST takes a fraction of a second. Any other data set is read item by item, through its
    transform, with a progress bar if that takes longer than a second and standard error is a
    terminal.

    Args:
        dataset: Data set of (image, label) pairs, or a ``Subset`` of one.
        dtype: ``torch.float32``, where 8-bit images are scaled to [0, 1] exactly as ``ToTensor``
            does, or ``torch.uint8`` for the 8-bit images as stored, a quarter of the memory.

    Returns:
        Images [N, C, H, W] (or whatever shape the items have) and labels int64 [N].

    Raises:
        TypeError: Items are not (image, label) pairs, labels are not integers, or ``dtype`` is
            another one.
        ValueError: Empty data set, images of different shapes, or ``torch.uint8`` for images that
            are not 8-bit.
    """
    if dtype not in (torch.float32, torch.uint8):
        raise TypeError(f"as_tensors: dtype must be torch.float32 or torch.uint8, got {dtype}")
    images, labels = _in_memory(dataset) or _read_items(dataset)
    if images.dtype == dtype:
        # Copy, so that a change of the result does not change the data set.
        images = images.clone()
    elif images.dtype == torch.uint8:
        images = images.to(torch.float32).div_(255)
    elif dtype == torch.uint8:
        raise ValueError(f"as_tensors: dtype torch.uint8 needs a data set of 8-bit images, got {images.dtype}")
    return images.to(dtype), labels.to(torch.int64, copy=True)


def torchvision_modules(function: str) -> tuple[ModuleType, ModuleType]:
    """Import ``torchvision.datasets`` and ``torchvision.transforms``; errors name ``function``."""
    try:
        importlib.import_module("torchvision")
        return (importlib.import_module("torchvision.datasets"), importlib.import_module("torchvision.transforms"))
    except ImportError as error:
        raise ImportError(
            f'{function}: needs torchvision, which is not installed: pip install ".[vision]" in the folder of snnfast'
        ) from error


def official_name(function: str, name: object, *, also: tuple[str, ...] = ()) -> str:
    """Return the official spelling of ``name`` in torchvision or ``also``; errors name ``function``."""
    if not isinstance(name, str):
        raise TypeError(f"{function}: name must be a string, got {type(name).__name__}")

    def plain(spelling: str) -> str:
        return spelling.lower().replace("-", "").replace("_", "")

    known, key = {plain(official): official for official in (*also, *_PARTS)}, plain(name)
    if key in known:
        return known[key]
    close = [known[match] for match in difflib.get_close_matches(key, known, n=3, cutoff=0.5)]
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known.values())}"
    raise ValueError(f"{function}: no data set is named {name!r}; {hint}")


def _not_found(official: str, folder: Path, error: Exception) -> str:
    layout = ""
    if official in _MNIST_FILES:
        layout = f" ({folder / official / 'raw'} with torchvision's *-ubyte files)"
    remedy = f"place it there in torchvision's layout{layout}"
    if official not in _NO_DOWNLOAD:
        remedy = f"pass download=True (--download of a command), or {remedy}"
    return f"torchvision_dataset: {official} is not in {folder.resolve()}; {remedy}. torchvision says: {error}"


def _in_memory(dataset: Dataset[Any]) -> tuple[Tensor, Tensor] | None:
    """Return images and labels of a set that holds them as arrays, None if it must be read item by item."""
    found = _arrays(dataset)
    if found is None or len(found[0]) == 0 or not _same_as_items(dataset, found):
        return None
    return found


def _arrays(dataset: Dataset[Any]) -> tuple[Tensor, Tensor] | None:
    if isinstance(dataset, Subset):
        arrays = _arrays(dataset.dataset)
        indices = torch.as_tensor(dataset.indices, dtype=torch.int64)
        return None if arrays is None else (arrays[0][indices], arrays[1][indices])
    if isinstance(dataset, TensorDataset):
        return (dataset.tensors[0], dataset.tensors[1]) if len(dataset.tensors) == 2 else None
    transform = getattr(dataset, "transform", None)
    plain = transform is None or _is_to_tensor(transform)
    if not plain or getattr(dataset, "target_transform", None) is not None:
        return None
    data = getattr(dataset, "data", None)
    labels = getattr(dataset, "targets", getattr(dataset, "labels", None))
    if not isinstance(data, (Tensor, np.ndarray)) or labels is None:
        return None
    images, classes = torch.as_tensor(data), torch.as_tensor(labels)
    if images.dtype != torch.uint8 or classes.shape != images.shape[:1]:
        return None
    if images.dim() == 3:
        images = images.unsqueeze(1)
    elif images.dim() == 4 and images.shape[-1] in (1, 3) and images.shape[1] not in (1, 3):
        images = images.permute(0, 3, 1, 2)
    return images.contiguous(), classes


def _is_to_tensor(transform: object) -> bool:
    kind = type(transform)
    return kind.__name__ == "ToTensor" and kind.__module__ == "torchvision.transforms.transforms"


def _same_as_items(dataset: Dataset[Any], found: tuple[Tensor, Tensor]) -> bool:
    # A subclass may change items in __getitem__; comparing the first and the last item detects this cheaply.
    images, labels = found
    for index in (0, len(images) - 1):
        image, label = _item(dataset, index)
        stored = images[index]
        if image.dtype.is_floating_point and stored.dtype == torch.uint8:
            stored = stored.to(image.dtype).div(255)
        if not torch.equal(image, stored) or int(labels[index]) != label:
            return False
    return True


def _read_items(dataset: Dataset[Any]) -> tuple[Tensor, Tensor]:
    length = len(dataset)  # type: ignore[arg-type]
    if length == 0:
        raise ValueError("as_tensors: dataset must hold at least one item, got none")
    images: list[Tensor] = []
    labels: list[int] = []
    for index in tqdm(range(length), desc="read", unit="img", disable=None, leave=False, delay=1):
        image, label = _item(dataset, index)
        if images and image.shape != images[0].shape:
            raise ValueError(
                f"as_tensors: all images must have one shape, got {list(images[0].shape)} for item "
                f"0 and {list(image.shape)} for item {index}; give a transform that resizes them"
            )
        images.append(image)
        labels.append(label)
    return torch.stack(images), torch.tensor(labels, dtype=torch.int64)


def _item(dataset: Dataset[Any], index: int) -> tuple[Tensor, int]:
    item = dataset[index]
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise TypeError(f"as_tensors: items must be (image, label) pairs, got {type(item).__name__}")
    image, label = item
    if not isinstance(image, Tensor):
        is_pil = hasattr(image, "getbands")
        image = torch.from_numpy(np.array(image))
        if is_pil:
            image = image.unsqueeze(0) if image.dim() == 2 else image.permute(2, 0, 1)
    try:
        return image, operator.index(label)
    except TypeError:
        raise TypeError(f"as_tensors: labels must be integers, got {type(label).__name__} for item {index}") from None
