"""A user's data: arrays in a file, images in folders, a function of a module, torchvision's sets by name."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snnfast import check

from .folder import image_folder, in_parts
from .qtdb import QTDB_CLASSES
from .splits import stratified_folds, train_or_val
from .vision import as_tensors, official_name, torchvision_dataset
from .yin_yang import YIN_YANG_CLASSES

__all__ = ["is_own", "label_of", "own_images"]

Part = tuple[Tensor, Tensor]
_FILES = (".npz", ".pt")
_NAMES = {
    "iris": ("setosa", "versicolor", "virginica"),
    "cancer": ("benign", "malignant"),
    "qtdb": QTDB_CLASSES,
    "yin-yang": YIN_YANG_CLASSES,
    "cifar10": (*("airplane", "automobile", "bird", "cat", "deer"), *("dog", "frog", "horse", "ship", "truck")),
}
_PARTS = ("train_images", "train_labels", "test_images", "test_labels")


def is_own(source: object) -> bool:
    """Return whether ``source`` names data of a kind that :func:`own_images` reads; the data need not exist."""
    if not isinstance(source, str) or not source:  # Path("") is the current folder
        return False
    if Path(source).suffix in _FILES or "/" in source or "\\" in source or ":" in source:
        return True
    with suppress(ValueError):
        official_name("own_images", source)
        return True
    return Path(source).is_dir()


def label_of(source: str) -> str:
    """Convert ``source`` to a part of a file name."""
    return Path(source).stem.replace(":", "-") if is_own(source) else source


def class_names(source: str, classes: int) -> list[str]:
    """Return the names of the classes of a data set, by label; the labels themselves if there are no names.

    For a user's data these are the folders, sorted, or the array ``classes`` of a file.
    """
    path = Path(source).expanduser()
    found: list[str] = list(_NAMES.get(source, ()))
    if is_own(source) and path.is_dir():
        folder = path / "train" if in_parts(path) else path
        found = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    elif path.suffix in _FILES and path.is_file():
        content = plain_arrays(path) if path.suffix == ".npz" else _pt(path)
        found = [str(name) for name in content.get("classes", ())]
    return found if len(found) == classes else list(map(str, range(classes)))


def own_images(source: str, split: str, root: str | Path | None = None, *, download: bool = False) -> Part:
    """Read images and labels of a user's data.

    Args:
        source: one of

            - a file ``.npz`` or ``.pt`` with ``train_images``, ``train_labels``, ``test_images`` and ``test_labels``,
              or with ``images`` and ``labels``, of which a sixth of each class is the test part. Nothing is unpickled.
              Images are ``[N, C, H, W]`` or ``[N, H, W]``, frames of events ``[N, T, C, H, W]``.
            - a folder of images, ``train/CLASS/*`` and ``test/CLASS/*``, or ``CLASS/*``, of which a sixth of each class
              is the test part; see :func:`snnfast.data.image_folder`.
            - ``module:function``; called without arguments, it returns ``((images, labels), (images, labels))``, the
              training part and the test part. The module may be in the current folder.
            - the name of a set of :func:`snnfast.data.torchvision_dataset`.
        split: "train", "val", "train+val" or "test"; "val" is a fixed random twelfth of the training part.
        root: folder of a set of torchvision.
        download: let torchvision download it.

    Returns:
        Images ``[N, C, H, W]``, float32, bytes scaled to [0, 1], or frames ``[N, T, C, H, W]``, counts unscaled,
        and labels int64 ``[N]``.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ImportError: torchvision, or the module, cannot be imported.
        TypeError, ValueError: a file that is damaged or lacks an array, images of other shapes or not finite, labels
            that do not count from 0, a class without images.
    """
    train, test = _opened(source, root, download)
    train, test = (_checked(source, name, part) for name, part in (("training", train), ("test", test)))
    _check_classes(source, train[1], test[1])
    if train[0].shape[1:] != test[0].shape[1:]:
        raise ValueError(
            f"{source}: training images are {_size(train[0])}, test images {_size(test[0])}; both must have one size"
        )
    if split == "test":
        return test
    if split == "train+val":
        return train
    chosen = torch.from_numpy(train_or_val(source, split, len(train[0]), 0))
    return train[0][chosen], train[1][chosen]


def _opened(source: str, root: str | Path | None, download: bool) -> tuple[Any, Any]:
    path = Path(source).expanduser()
    if path.suffix in _FILES:
        return _parts(source, plain_arrays(path) if path.suffix == ".npz" else _pt(path))
    if path.is_dir() and not in_parts(path):
        return _split(source, as_tensors(image_folder(path, None), dtype=torch.uint8))
    if path.is_dir():
        train, test = (as_tensors(image_folder(path, part), dtype=torch.uint8) for part in (True, False))
        return train, test
    module, colon, function = source.partition(":")
    if colon:
        return _called(source, module, function)
    if "/" in source or "\\" in source:
        raise FileNotFoundError(f"{source}: there is no such folder")
    if root is None:
        official = official_name("load", source)
        raise ValueError(
            f"{source} needs the folder of {official} in torchvision's layout: --data FOLDER, root= in Python; "
            "--download fetches it"
        )
    train, test = (as_tensors(torchvision_dataset(source, root, part, download=download)) for part in (True, False))
    return train, test


def plain_arrays(path: Path) -> Mapping[str, Any]:
    """Return the arrays of a file ``.npz`` by name, without unpickling."""
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise ValueError("it is a single array without a name")
        with file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file") from None
    except Exception as error:  # reading a damaged or foreign file raises many types
        first = str(error).partition(". ")[0]  # the rest of numpy's message explains unpickling
        if first.startswith("Object arrays"):
            first = "one is of Python objects; make strings of them (np.asarray(labels, dtype=str)) or numbers"
        raise ValueError(f"{path} holds no plain arrays: {first}") from error


def _pt(path: Path) -> Mapping[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file") from None
    except Exception as error:  # reading a damaged or foreign file raises many types
        first = str(error).partition("\n")[0]
        raise ValueError(f"{path} holds no plain tensors: {first}") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} must hold a dictionary of tensors, got {type(content).__name__}")
    return content


def _parts(source: str, arrays: Mapping[str, Any]) -> tuple[Any, Any]:
    if all(name in arrays for name in _PARTS):
        a, b, c, d = (arrays[name] for name in _PARTS)
        return (a, b), (c, d)
    if "images" not in arrays or "labels" not in arrays:
        raise ValueError(
            f"{source} must hold {', '.join(_PARTS)}, or images and labels, got "
            f"{', '.join(map(str, arrays)) or 'nothing'}"
        )
    return _split(source, (arrays["images"], arrays["labels"]))


def _split(source: str, dataset: Any) -> tuple[Part, Part]:
    """Split images and labels: a sixth of each class is the test part."""
    images, labels = _checked(source, "all", dataset)
    _check_classes(source, labels, labels)
    if int(labels.bincount().min()) < 6:
        raise ValueError(
            f"{source}: a sixth of each class is the test part, so each needs 6 images, got "
            f"{int(labels.bincount().min())} of class {int(labels.bincount().argmin())}"
        )
    test = stratified_folds(labels, 6) == 0
    return (images[~test], labels[~test]), (images[test], labels[test])


def _called(source: str, module: str, function: str) -> tuple[Any, Any]:
    if not all(name.isidentifier() for name in (*module.split("."), function)):
        raise ValueError(f"{source} must be module:function, names of Python")
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module exists, but imports a missing one
        raise ImportError(f"{source}: no module {module!r} is in the current folder or installed") from None
    finally:
        sys.path.remove(folder)
    source_function = getattr(loaded, function, None)
    if not callable(source_function):
        raise ValueError(f"{source}: the module {module} has no function {function!r}")
    try:
        with suppress(ValueError):  # some built-in functions have no signature
            inspect.signature(source_function).bind()
    except TypeError as error:
        raise ValueError(f"{source} must be callable without arguments: {error}") from None
    returned = source_function()
    try:
        (a, b), (c, d) = returned
    except (TypeError, ValueError):
        raise ValueError(
            f"{source} must return ((images, labels), (images, labels)), got {type(returned).__name__}"
        ) from None
    return (a, b), (c, d)


def _checked(source: str, name: str, part: Any) -> Part:
    texts = np.asarray(part[1]).ravel()[:1] if len(part) == 2 and not isinstance(part[1], Tensor) else np.empty(0)
    if texts.dtype.kind in "USO":
        raise TypeError(
            f"{source}: {name} labels must be integers from 0 on, got {texts.tolist()[0]!r}, ...; "
            "classes, labels = np.unique(labels, return_inverse=True) makes both of them"
        )
    try:
        images, labels = map(_tensor, part)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{source}: {name} images and labels must be arrays of numbers: {error}") from error
    check.dense(source, f"{name} images", images)
    check.dense(source, f"{name} labels", labels)
    if images.dim() == 3:
        images = images.unsqueeze(1)
    if images.dim() not in (4, 5) or not images.numel():
        raise ValueError(
            f"{source}: {name} images must have shape [N, C, H, W] or [N, H, W], frames [N, T, C, H, W], none of them "
            f"0, got {list(images.shape)}"
        )
    _check_channels(source, name, images)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"{source}: {name} labels must be integers, got {labels.dtype}")
    if labels.shape != images.shape[:1]:
        raise ValueError(
            f"{source}: {name} labels must have shape [{len(images)}], one an image, got {list(labels.shape)}"
        )
    if images.dtype == torch.uint8 and images.dim() == 4:
        images = images.to(torch.float32).div_(255)
    elif images.dtype in (torch.uint8, torch.bool) or images.is_floating_point():
        images = images.to(torch.float32)
    else:
        raise TypeError(f"{source}: {name} images must be floating point or uint8, got {images.dtype}")
    if not bool(images.isfinite().all()):
        raise ValueError(f"{source}: {name} images must be finite, got NaN or infinity")
    return images, labels.to(torch.int64)


def _check_channels(source: str, name: str, images: Tensor) -> None:
    """Refuse squares whose channels stand last, and warn of other images that look so."""
    *_, one, two, last = images.shape
    if last > 4 or min(one, two) <= 4:
        return
    text = (
        f"{source}: {name} images of shape {list(images.shape)} have {one} channels of {two}x{last}; move "
        f"channels that stand last: np.moveaxis(images, -1, {images.dim() - 3})"
    )
    if one == two:
        raise ValueError(text)
    check.warn(text)


def _tensor(value: Any) -> Tensor:
    if isinstance(value, np.ndarray):  # PyTorch requires native byte order
        value = value.astype(value.dtype.newbyteorder("="), copy=False)
    return torch.as_tensor(value)


def _check_classes(source: str, train: Tensor, test: Tensor) -> None:
    low, high = int(min(train.min(), test.min())), int(train.max())
    if low != 0:
        raise ValueError(f"{source}: labels must count from 0, the smallest is {low}")
    # A label beyond the number of images implies enough classes without images below that number.
    classes = torch.arange(min(high, len(train) + 4) + 1)
    empty = classes[~torch.isin(classes, train)].tolist()
    if empty:
        raise ValueError(
            f"{source}: labels go up to {high}, but no training image is of class {', '.join(map(str, empty[:5]))}"
        )
    if int(test.max()) > high:
        raise ValueError(f"{source}: test labels go up to {int(test.max())}, training labels to {high}")


def _size(images: Tensor) -> str:
    return "x".join(map(str, images.shape[1:]))
