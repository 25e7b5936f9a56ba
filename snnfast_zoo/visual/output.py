"""Output of figures to files and to a window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.registry import BackendFilter, backend_registry
from matplotlib.figure import Figure

from snnfast.files.atomic import replacing


def save(figure: Figure, path: str | Path, *, dpi: int = 150) -> Path:
    """Write a figure to a file, in the format of its suffix (PNG without one).

    The file is replaced atomically, so a viewer never sees half of it. Missing folders are created.

    Args:
        figure: Figure of any function here.
        path: File to write.
        dpi: Pixels per inch.

    Returns:
        The path written.

    Raises:
        TypeError: ``figure`` is not a figure.
        ValueError: A suffix that matplotlib cannot write.
    """
    if not isinstance(figure, Figure):
        raise TypeError(f"save: figure must be a Figure, got {type(figure).__name__}")
    target = Path(path)
    if not target.suffix:
        target = target.with_suffix(".png")
    kind = target.suffix[1:].lower()
    supported = figure.canvas.get_supported_filetypes()
    if kind not in supported:
        raise ValueError(f"save: path must end in one of {', '.join(sorted(supported))}, got {target.name!r}")
    with replacing(target) as new:
        figure.savefig(new, dpi=dpi, format=kind)
    return target


class Live:
    """A figure that is redrawn during training: in a window if there is a display, and as a PNG.

    Without a display, or once the window is closed, only the file is written.

    Args:
        path: File that every update rewrites.
        window: Open a window; by default if matplotlib has a backend with windows.

    Example::

        live = Live("runs/curves.png")
        for epoch in range(epochs):
            ...
            live.update(curves(history))
    """

    def __init__(self, path: str | Path, *, window: bool | None = None) -> None:
        self.path = Path(path)
        self._wants_window = _has_display() if window is None else window
        self._window: Figure | None = None

    def update(self, figure: Figure) -> None:
        """Write ``figure`` to the file and show it in the window."""
        self.path = save(figure, self.path)
        if self._wants_window:
            self._show(figure)

    def close(self) -> None:
        """Close the window; the file stays."""
        if self._window is not None:
            from matplotlib import pyplot

            pyplot.close(self._window)
            self._window = None
        self._wants_window = False

    def _show(self, figure: Figure) -> None:
        # Imported here, since only windows need pyplot.
        from matplotlib import pyplot

        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
        if self._window is None:
            self._window = pyplot.figure(figsize=tuple(figure.get_size_inches()))
            self._window.show()
        elif not pyplot.fignum_exists(self._window.number):
            self.close()
            return
        self._window.clear()
        ax = self._window.add_axes((0, 0, 1, 1))
        ax.set_axis_off()
        ax.imshow(np.asarray(canvas.buffer_rgba()))
        self._window.canvas.draw_idle()
        self._window.canvas.flush_events()


def _has_display() -> bool:
    # get_backend makes matplotlib try backends with windows first, and fall back to "agg".
    backend = matplotlib.get_backend()
    registry: Any = backend_registry
    interactive = registry.list_builtin(BackendFilter.INTERACTIVE)
    return backend.lower() in [name.lower() for name in interactive]
