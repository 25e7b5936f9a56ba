"""Progress of a run: a bar in a terminal, otherwise a line per minute."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

MINUTE = 60.0  # seconds between two lines of progress without a terminal


def progress_bar(title: str, images: int, *, done: int = 0, unit: str = "img", progress: bool | None = None) -> Any:
    """Return a progress bar over ``images`` images, or other units, of which ``done`` are done.

    With ``progress=None`` it is a bar if standard error is a terminal, otherwise a line per minute.

    It appears after a moment, so that short epochs do not flicker.
    """
    if progress is None and not sys.stderr.isatty():
        return _Lines(title, images, done)
    return tqdm(
        total=images,
        initial=done,
        desc=title,
        unit=unit,
        disable=progress is False,
        delay=0.2,
        leave=False,
        dynamic_ncols=True,
    )


class _Lines:
    """Progress without a terminal: a line per minute to standard error, with the interface of tqdm."""

    def __init__(self, title: str, images: int, done: int) -> None:
        self.title, self.images, self.done = title, images, done
        self.said, self.due = time.perf_counter(), False

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, images: int = 1) -> bool:
        """Count images; return whether a line is due, which waits for its text until the next update."""
        if self.due:
            self.set_postfix_str("")
        self.done += images
        self.due = time.perf_counter() - self.said >= MINUTE
        return self.due

    def set_postfix_str(self, text: str, refresh: bool = True) -> None:
        """Write the line if it is due."""
        if self.due:
            shown = f", {text}" if text else ""
            tqdm.write(f"{self.title}: {self.done}/{self.images}{shown}", file=sys.stderr)
            self.said, self.due = time.perf_counter(), False
