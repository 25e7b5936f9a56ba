"""Checkpoints: plain values and tensors in one file, replaced atomically, with a checksum over the content."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from snnfast.files.atomic import replacing

__all__ = ["CheckpointError"]

FORMAT = 2
# Types that are read without executing anything, besides tensors, dictionaries, lists and tuples.
VALUES = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size)


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read, is damaged, or is of another kind."""


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically: ``path`` holds the old or the new file at any moment.

    Args:
        path: the file; missing folders are made.
        content: plain values, containers and tensors; ``"kind"`` says in a few words what it is a checkpoint of.
            NumPy's numbers are written as Python's.

    Raises:
        OSError: the file cannot be written; the old one is untouched.
        TypeError: ``content`` has a value that could not be read again.
    """
    payload = _plain("checkpoint", {**content, "format": FORMAT})
    payload["checksum"] = checksum(payload)
    try:
        with replacing(path) as new, new.open("wb") as stream:
            torch.save(payload, stream)
            stream.flush()
            os.fsync(stream.fileno())
    except (OSError, RuntimeError) as error:
        # PyTorch raises an error of its own after that of a full disk, and hides it.
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, OSError):
            cause = cause.__context__
        raise OSError(f"{path} cannot be written: {cause or error}") from error


def read_checkpoint(path: Path, kind: str | None = None) -> dict[str, Any]:
    """Return the content of a checkpoint, on the CPU; nothing in it is executed.

    Args:
        path: the file.
        kind: the kind that it must have; None for any.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is not a checkpoint of this package, is damaged, or is of another kind.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    with path.open("rb") as stream:
        try:
            checkpoint = torch.load(stream, map_location="cpu", weights_only=True)
        except Exception as error:  # unpickling a damaged or foreign file raises many types
            # PyTorch's message describes its reader, or advises to unpickle the file without checks.
            raise CheckpointError(f"{path} is no readable checkpoint: it is damaged, or of another program") from error
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no checkpoint of this version of snnfast (format {FORMAT})")
    if checkpoint.pop("checksum", None) != checksum(checkpoint):
        raise CheckpointError(f"{path} is damaged: its checksum is not that of what it holds")
    if kind is not None and checkpoint.get("kind") != kind:
        raise CheckpointError(f"{path} must be of kind {kind!r}, got one of kind {checkpoint.get('kind')!r}")
    return checkpoint


def checksum(content: Any) -> str:
    """Return the SHA-256 over names, values and the dtype, shape and bytes of every tensor."""
    digest = hashlib.sha256()
    for part in _parts(content):
        digest.update(part)
    return digest.hexdigest()


def _parts(value: Any) -> Iterator[bytes | memoryview]:
    if isinstance(value, Tensor):
        yield f"{value.dtype} {tuple(value.shape)};".encode()
        yield value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data
    elif isinstance(value, Mapping):
        yield f"{len(value)} pairs;".encode()
        for key, item in value.items():
            yield f"{key!r}:".encode()
            yield from _parts(item)
    elif isinstance(value, (list, tuple)):
        yield f"{len(value)} items;".encode()
        for item in value:
            yield from _parts(item)
    else:
        yield f"{value!r};".encode()


def of_python(value: Any) -> Any:
    """Convert a number of NumPy, which neither checkpoints nor JSON can hold, to Python's; return others unchanged."""
    return value.item() if isinstance(value, np.generic) else value


def _plain(place: str, value: Any) -> Any:
    """Return ``value``, found at ``place``, in a form that :func:`read_checkpoint` can read."""
    value = of_python(value)
    if type(value) is dict:
        return {key: _plain(f"{place}[{key!r}]", item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_plain(f"{place}[{k}]", item) for k, item in enumerate(value))
    if not isinstance(value, (Tensor, Mapping)) and type(value) not in VALUES:
        raise TypeError(f"{place} must be a plain value or a tensor, got {type(value).__name__}")
    return value


def same_settings(path: Path, stored: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Raise CheckpointError unless the settings ``stored`` in the checkpoint ``path`` equal those of this run.

    A setting that the checkpoint lacks was added later; its value then was 0, False or None.
    """
    differing = [
        f"{name}: {_shown(stored, name)} there, {_shown(current, name)} here"
        for name in sorted({*stored, *current})
        if (stored.get(name) != current.get(name) if name in stored else current[name])
    ]
    if differing:
        raise CheckpointError(
            f"{path} is of a run with other settings ({'; '.join(differing)}); give the same or start anew"
        )


def load_weights(model: nn.Module, path: Path) -> None:
    """Load the weights of a checkpoint into ``model``; nothing else of it changes.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is not a checkpoint of this package, or holds no network or another one.
    """
    checkpoint = read_checkpoint(path)
    if "model" not in checkpoint:
        raise CheckpointError(f"{path} holds no network to start from, it is of kind {checkpoint.get('kind')!r}")
    before = copy.deepcopy(model.state_dict())
    try:
        model.load_state_dict(checkpoint["model"])
    except (RuntimeError, TypeError) as error:
        model.load_state_dict(before)  # PyTorch loads the parts that fit before it raises
        raise CheckpointError(f"{path} does not fit this network: {error}") from error


def _shown(settings: Mapping[str, Any], name: str) -> str:
    return repr(settings[name]) if name in settings else "nothing"
