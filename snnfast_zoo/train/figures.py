"""Figures of a run, drawn while it trains."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .run import Run
from .settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[[Run], "Figure | None"]


class Figures:
    """Figures of a run, as files in ``out`` and live where there is a display."""

    def __init__(self, out: Path, draw: Mapping[str, Draw], every: float = 5.0) -> None:
        """Draw at most once in ``every`` seconds, and for at most a twentieth of the time."""
        from snnfast_zoo import visual

        self._draw = {name: (visual.Live(out / f"{name}.png"), how) for name, how in draw.items()}
        self._every, self._next = every, -math.inf

    def update(self, run: Run) -> None:
        """Draw, unless a drawing is recent: short epochs must not wait for figures."""
        if time.monotonic() >= self._next:
            self.draw(run)

    def draw(self, run: Run) -> None:
        """Draw at once."""
        start = time.monotonic()
        for live, how in self._draw.values():
            figure = how(run)
            if figure is not None:
                live.update(figure)
        end = time.monotonic()
        self._next = end + max(self._every, 20 * (end - start))

    def finish(self, run: Run) -> None:
        """Draw the last state and close the windows; the files stay."""
        self.draw(run)
        for live, _ in self._draw.values():
            live.close()


def curves(settings: Settings, title: str, names: Mapping[str, str] | None = None) -> Draw:
    """Return the function that draws loss and accuracy over the epochs of a run.

    Args:
        settings: the settings of the run.
        title: of the figure, before the name of the data set.
        names: columns of the history by their names in the figure; None: those of both parts.
    """
    scored = settings.splits[1]
    both = {"train_loss": "loss", "train_accuracy": "accuracy"}
    both |= {f"{scored}_loss": "held_out_loss", f"{scored}_accuracy": "held_out_accuracy"}

    def draw(run: Run) -> Figure | None:
        from snnfast_zoo import visual

        if not run.history:
            return None
        series = {name: [row[key] for row in run.history] for name, key in (names or both).items()}
        return visual.curves(series, title=f"{title}, {settings.label}")

    return draw
