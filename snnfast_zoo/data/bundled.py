"""Small data sets in the package; their origin and licence are in SOURCES.md."""

from __future__ import annotations

from importlib import resources

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import TensorDataset

from .splits import stratified

DIGITS_CLASSES = tuple(str(digit) for digit in range(10))
IRIS_CLASSES = ("setosa", "versicolor", "virginica")
IRIS_FEATURES = ("sepal length", "sepal width", "petal length", "petal width")
CANCER_CLASSES = ("benign", "malignant")
CANCER_FEATURES = (
    "clump thickness",
    "uniformity of cell size",
    "uniformity of cell shape",
    "marginal adhesion",
    "single epithelial cell size",
    "bare nuclei",
    "bland chromatin",
    "normal nucleoli",
    "mitoses",
)


def digits(
    split: str = "train", *, seed: int = 0, test_fraction: float = 0.2, val_fraction: float = 0.2
) -> TensorDataset:
    """1,797 handwritten digits of 8 x 8 pixels.

    Choose settings on "val" with a model trained on "train"; train the final model on "train+val"
    and report it on "test". The split is stratified and the same on every machine for a seed.

    Args:
        split: "train", "val", "train+val", "test" or "all". Items come in a fixed random order,
            those of "all" in the original order.
        seed: Seed of the split.
        test_fraction: Share of each class that is test, in [0, 1).
        val_fraction: Share of each class's training part that is validation, in [0, 1).

    Returns:
        Images float32 [N, 1, 8, 8] in [0, 1] and labels int64 [N].

    Raises:
        ValueError: Unknown split, a fraction outside [0, 1), a negative seed, or an empty split.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI (1998), CC BY
    4.0.
    """
    stored = _read("digits.npz")
    indices = stratified(
        "digits", stored["labels"], split, seed=seed, test_fraction=test_fraction, val_fraction=val_fraction
    )
    images = torch.from_numpy(stored["images"][indices]).to(torch.float32).div_(16).unsqueeze_(1)
    return TensorDataset(images, torch.from_numpy(stored["labels"][indices]).to(torch.int64))


def iris(
    split: str = "train", *, seed: int = 0, test_fraction: float = 0.2, val_fraction: float = 0.2
) -> TensorDataset:
    """150 iris flowers of three species, four measurements each.

    Args:
        split: "train", "val", "train+val", "test" or "all", as for ``digits``.
        seed: Seed of the split.
        test_fraction: Share of each class that is test, in [0, 1).
        val_fraction: Share of each class's training part that is validation, in [0, 1).

    Returns:
        Features float32 [N, 4] in centimetres, in the order of ``IRIS_FEATURES``, not normalised,
        and labels int64 [N] into ``IRIS_CLASSES``.

    Raises:
        ValueError: Unknown split, a fraction outside [0, 1), a negative seed, or an empty split.

    Source: R. A. Fisher, Iris, UCI (1936), CC BY 4.0, with the two known transcription errors
    corrected.
    """
    stored = _read("iris.npz")
    indices = stratified(
        "iris", stored["labels"], split, seed=seed, test_fraction=test_fraction, val_fraction=val_fraction
    )
    return TensorDataset(
        torch.from_numpy(stored["features"][indices]), torch.from_numpy(stored["labels"][indices]).to(torch.int64)
    )


def cancer(
    split: str = "train", *, seed: int = 0, test_fraction: float = 0.2, val_fraction: float = 0.2, complete: bool = True
) -> TensorDataset:
    """Wisconsin breast cancer, the original set: 699 biopsies, nine scores from 1 to 10 each.

    Sixteen biopsies lack the score of the bare nuclei.

    Args:
        split: "train", "val", "train+val", "test" or "all", as for ``digits``.
        seed: Seed of the split.
        test_fraction: Share of each class that is test, in [0, 1).
        val_fraction: Share of each class's training part that is validation, in [0, 1).
        complete: Only the 683 biopsies with all scores. If False, all 699, with NaN for a missing
            score.

    Returns:
        Scores float32 [N, 9], in the order of ``CANCER_FEATURES``, and labels int64 [N] into
        ``CANCER_CLASSES``.

    Raises:
        ValueError: Unknown split, a fraction outside [0, 1), a negative seed, or an empty split.

    Source: W. H. Wolberg, Breast Cancer Wisconsin (Original), UCI (1992), CC BY 4.0.
    """
    stored = _read("cancer.npz")
    features, labels = stored["features"], stored["labels"]
    if complete:
        rows = (features > 0).all(axis=1)
        features, labels = features[rows], labels[rows]
    indices = stratified("cancer", labels, split, seed=seed, test_fraction=test_fraction, val_fraction=val_fraction)
    scores = torch.from_numpy(features[indices]).to(torch.float32)
    return TensorDataset(scores.masked_fill_(scores == 0, torch.nan), torch.from_numpy(labels[indices]).to(torch.int64))


def _read(file: str) -> dict[str, npt.NDArray[np.uint8]]:
    with (
        resources.files(__package__).joinpath(file).open("rb") as stream,
        np.load(stream, allow_pickle=False) as stored,
    ):
        return {key: stored[key] for key in stored.files}
