"""The folder of a run: one process at a time writes into it, and every file is replaced in one step."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from snnfast.atomic import replacing

LOCK = ".lock"


class FolderInUseError(RuntimeError):
    """Another run writes into the folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds ``folder`` for this run; made if missing, and taken away again if nothing was written.

    The lock is the operating system's, so that it ends with its process however that ends.

    Raises:
        FolderInUseError: another run holds it; the message says which.
        OSError: the folder cannot be written.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    stream = _acquire(folder)
    try:
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {platform.node()}, since {now}".encode())
        stream.flush()
        yield
    finally:
        with suppress(OSError):
            (folder / LOCK).unlink()
            for path in made:
                path.rmdir()
        stream.close()


def _acquire(folder: Path) -> BinaryIO:
    path = folder / LOCK
    while True:
        stream = path.open("a+b")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            holder = stream.read().decode() or "another process"
            stream.close()
            raise FolderInUseError(
                f"{folder} is in use by {holder}; wait for it, or give another folder"
            ) from None
        except OSError as error:
            # A file system without locks: better than no run at all.
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
                stream.close()
                raise
        with suppress(FileNotFoundError):
            if os.fstat(stream.fileno()).st_ino == path.stat().st_ino:
                return stream
        stream.close()  # its holder took the file away in between


def write_json(path: Path, content: Any) -> None:
    """Writes ``content``, null for numbers that are not finite, which JSON lacks.

    ``path`` holds the old file or the new one at any moment, never a part.
    """
    text = json.dumps(_finite(content), indent=2, allow_nan=False)
    with replacing(path) as new:
        new.write_text(f"{text}\n")


def _finite(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {name: _finite(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
