"""Files that are replaced in one step: whoever reads one finds the old or the new, never a part."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replacing"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write, which takes the place of ``path`` at the end, and is taken away after an error.

    Missing folders are made.

    Raises:
        OSError: the folder cannot be made, or the file cannot be written or replaced; it names ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, since a file moves in one step only within a file system; another process may write it, too.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        # A write to a full disk does not say where.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
