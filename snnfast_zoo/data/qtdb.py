"""Heartbeats of the QT Database: level-crossing coded electrocardiograms, labelled with the wave at every step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snnfast import check

__all__ = ["QTDB_CLASSES", "qtdb"]

QTDB_CLASSES = ("P", "PQ", "QR", "RS", "ST", "TP")
_CHANNELS = 4


def qtdb(root: str | Path, train: bool = True) -> tuple[Tensor, Tensor]:
    """Read electrocardiograms as events, with the wave at every step: ``root/QTDB_train.mat`` or ``QTDB_test.mat``.

    There are two electrodes, each with one channel for rises and one for falls of the signal by a level.

    Args:
        root: folder of both files; they are read by scipy.
        train: the part: 618 sequences, or 141.

    Returns:
        Events int8 ``[N, T, 4]``, -1, 0 or 1, and labels int64 ``[N, T]`` in the order of ``QTDB_CLASSES``; -100, which
        PyTorch's losses ignore, at steps without a class in the file (8 % and 10 % of them). ``T`` is 1,301.

    Raises:
        TypeError, ValueError: for a file of another kind.
        FileNotFoundError: there is no such file. ImportError: without scipy.

    Source: Laguna et al. (1997), PhysioNet, coded and cut by Yin, Corradi, Bohte, Nature Machine Intelligence 3 (2021).
    """
    part = "train" if check.flag("qtdb", "train", train) else "test"
    path = Path(root).expanduser() / f"QTDB_{part}.mat"
    if not path.is_file():
        raise FileNotFoundError(f"qtdb: there is no file {path}")
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ImportError(
            f"qtdb: {path} is a file of MATLAB, which scipy reads: pip install '.[events]' in the folder of snnfast"
        ) from error
    try:
        content = loadmat(path, variable_names=("x", "y"))
    except Exception as error:  # reading a damaged or foreign file raises many types
        raise ValueError(f"qtdb: {path} is no file of MATLAB: {error}") from error
    x, y = (np.asarray(content.get(name, ())) for name in ("x", "y"))
    shapes = f"x {list(x.shape)} and y {list(y.shape)}"
    if x.ndim != 3 or x.shape[2] != _CHANNELS or y.shape != (*x.shape[:2], len(QTDB_CLASSES)):
        raise ValueError(f"qtdb: {path} must hold x [N, T, 4] and y [N, T, 6], got {shapes}")
    if not (np.isin(x, (-1, 0, 1)).all() and np.isin(y, (0, 1)).all() and y.sum(2).max(initial=0) <= 1):
        raise ValueError(f"qtdb: {path} must hold x of -1, 0 and 1, and y of one class a step or none")
    labels = np.where(y.any(2), y.argmax(2), -100)
    return torch.from_numpy(x.astype(np.int8)), torch.from_numpy(labels.astype(np.int64))
