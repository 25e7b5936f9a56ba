"""Folder of a run: one process at a time writes into it, and every file is replaced atomically."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from snnfast.files.atomic import replacing
from snnfast.files.lock_file import HeldError, holding

LOCK = ".lock"


class FolderInUseError(RuntimeError):
    """Another run writes into the folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock ``folder`` for this run; create it if missing, and remove it again if nothing was written.

    Raises:
        FolderInUseError: another run holds the lock; the message names it.
        OSError: the folder cannot be written.
    """
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with holding(folder / LOCK):
            yield
    except HeldError as error:
        raise FolderInUseError(f"{folder} is in use by {error}; wait for it, or give another folder") from None
    finally:
        with suppress(OSError):
            for path in created:
                path.rmdir()


def refuse_to_replace(*paths: Path) -> None:
    """Raise FileExistsError if one of the files that a run would replace exists."""
    for path in paths:
        if path.exists():
            raise FileExistsError(
                f"{path} exists: resume it (resume=True, --resume), or give another folder (out, --out)"
            )


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` atomically; numbers that are not finite, which JSON lacks, become null."""
    text = json.dumps(_finite(content), indent=2, allow_nan=False)
    with replacing(path) as new:
        new.write_text(f"{text}\n")


def _finite(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {name: _finite(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
