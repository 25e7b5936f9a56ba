"""Lock files, held by one process at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["HeldError", "holding"]


class HeldError(RuntimeError):
    """Another process holds the lock file; the message says which."""


@contextmanager
def holding(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``, which is deleted at the end.

    The operating system releases the lock when its process ends, also after a crash.

    Raises:
        HeldError: another process holds it.
        OSError: the file cannot be made.
    """
    stream = _acquire(path)
    try:
        begun = time.strftime("%Y-%m-%d %H:%M:%S")
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {platform.node()}, since {begun}".encode())
        stream.flush()
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        stream.close()


def _acquire(path: Path) -> BinaryIO:
    while True:
        stream = path.open("a+b")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            holder = stream.read().decode() or "another process"
            stream.close()
            raise HeldError(holder) from None
        except OSError as error:
            # A file system without locks: continue without one.
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
                stream.close()
                raise
        with suppress(FileNotFoundError):
            if os.fstat(stream.fileno()).st_ino == path.stat().st_ino:
                return stream
        stream.close()  # the previous holder deleted the file in between
