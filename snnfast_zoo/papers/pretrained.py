"""Trained networks that come with the package, as runs: ``snnfast.load("pretrained:stbp-digits")``."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from snnfast import check
from snnfast_zoo.train.checkpoint import CheckpointError

__all__ = ["FOLDER", "INDEX", "PREFIX", "PretrainedRun", "pretrained_folder", "pretrained_runs"]

FOLDER = Path(__file__).parent / "weights"
INDEX = "weights.json"
PREFIX = "pretrained:"


class PretrainedRun(NamedTuple):
    """A run whose network comes with the package.

    Attributes:
        command: the command that trained it; ``DIR`` is the folder of the data.
        data: test data of the accuracy.
        network: its layers.
        accuracy: accuracy on them in %, as text.
        sha256: checksum of each file, by name.
    """

    command: str
    data: str
    network: str
    accuracy: str
    sha256: dict[str, str]


def pretrained_runs() -> dict[str, PretrainedRun]:
    """Return the runs that come with the package, by name."""
    return {name: PretrainedRun(**entry) for name, entry in json.loads((FOLDER / INDEX).read_text()).items()}


def pretrained_folder(name: str) -> Path:
    """Return the folder of the run ``pretrained:NAME``, after its files have passed their checksums.

    Raises:
        ValueError: for an unknown name.
        CheckpointError: a file is missing or changed.
    """
    known, plain = pretrained_runs(), name.removeprefix(PREFIX)
    if plain not in known:
        raise ValueError(
            f"load: no network {plain!r} comes with the package{check.suggestion(plain, known)}; known: "
            f"{', '.join(known)}"
        )
    folder = FOLDER / plain
    for file, wanted in known[plain].sha256.items():
        path = folder / file
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
        if found != wanted:
            raise CheckpointError(f"{path} is not the file of the package: SHA-256 {wanted}, got {found}; reinstall it")
    return folder
