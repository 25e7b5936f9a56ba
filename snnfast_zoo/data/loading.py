"""Open any data set by name."""

from __future__ import annotations

from collections.abc import Callable, Sized
from pathlib import Path
from typing import Any, cast

from torch.utils.data import Dataset, Subset

from snnfast import check

from .bundled import cancer, digits, iris
from .folder import image_folder
from .splits import BUNDLED_SPLITS, TORCHVISION_SPLITS, train_or_val
from .vision import official_name, torchvision_dataset
from .yin_yang import yin_yang

_BUNDLED = {"cancer": cancer, "digits": digits, "iris": iris, "yin-yang": yin_yang}


@check.keywords
def load(
    name: str,
    root: str | Path | None = None,
    split: str = "train",
    *,
    seed: int = 0,
    transform: Callable[[Any], Any] | None = None,
    download: bool = False,
    **options: Any,
) -> Dataset[Any]:
    """Open one split of a data set by name.

    "train", "val" and "test" never share an item: choose settings on "val", report on "test".
    "train+val" is the whole training part. For ``digits``, ``iris``, ``cancer`` and ``yin-yang`` see these functions.
    For a torchvision set or a folder of images, "val" is a fixed random twelfth of its training part (5,000 images of
    MNIST) and "test" its test part.

    Args:
        name: "digits", "iris", "cancer", "yin-yang", "folder" (``image_folder``), or a name of
            ``torchvision_dataset``, in any case.
        root: Folder of a torchvision set or of images; None for the sets in the package.
        split: "train", "val", "train+val", "test", and for the sets in the package also "all".
        seed: Seed of the split.
        transform: Called on each image of a torchvision set; default ``ToTensor()``.
        download: Let torchvision download a set that is not in ``root``.
        **options: ``test_fraction`` and ``val_fraction`` of the sets in the package, or further
            arguments of the torchvision class.

    Returns:
        Data set of (image, label) pairs; ``as_tensors`` converts it to two tensors.

    Raises:
        ImportError: A torchvision set without torchvision.
        ValueError: Unknown name or split, no ``root`` for a torchvision set, or a ``root`` or transform for one in the
            package.
        FileNotFoundError: The torchvision set, or the folder of images, is not in ``root``.
    """
    official = official_name("load", name, also=(*_BUNDLED, "folder"))
    if transform is not None and official in (*_BUNDLED, "folder"):
        raise ValueError(f"load: transform is for torchvision sets, {official} takes none")
    if official in _BUNDLED:
        if root is not None:
            hint = f"; give the split by name, load({name!r}, split={root!r})" if root in BUNDLED_SPLITS else ""
            raise ValueError(f"load: {official} is in the package and takes no root, got {str(root)!r}{hint}")
        return _BUNDLED[official](split, seed=seed, **options)
    check.choice("load", "split", split, TORCHVISION_SPLITS)
    if root is None:
        raise ValueError(f"load: {official} needs root, the folder that holds it, got None")
    if official == "folder":
        dataset = image_folder(root, split != "test", **options)
    else:
        dataset = torchvision_dataset(official, root, split != "test", transform, download, **options)
    if split in ("test", "train+val"):
        return dataset
    chosen = train_or_val(f"load: {official}", split, len(cast(Sized, dataset)), seed)
    return Subset(dataset, chosen.tolist())
