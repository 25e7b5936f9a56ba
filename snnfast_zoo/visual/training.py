"""Figures of training: curves over epochs and the confusion of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .style import COLORS, Array, Values, finite_array, head, label_axes, new_figure, whole_ticks

_LINES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_MAX_ANNOTATED_CLASSES = 20


def curves(history: Mapping[str, Sequence[float]], *, xlabel: str = "Epoch", title: str | None = None) -> Figure:
    """Draw training curves: accuracy and loss side by side.

    Args:
        history: Name to one value per epoch, from epoch 1 on. A name with "acc" is an accuracy,
            a fraction in [0, 1] drawn in per cent; a name with "loss" is a loss; any other name
            gets its own axes. "train", "val" and "test" in a name choose the same line everywhere.
        xlabel: Label of the epoch axis.
        title: Title of the figure.

    Returns:
        A new figure.

    Raises:
        ValueError: No series, an empty or non-finite one, or an accuracy outside [0, 1].
    """
    if not isinstance(history, Mapping):
        raise ValueError(f"curves: history must map names to values, got {type(history).__name__}")
    if not history:
        raise ValueError("curves: history must have at least one series, got none")
    panels: dict[str, dict[str, Array]] = {}
    for name, raw in history.items():
        values = finite_array("curves", f"history[{name!r}]", raw)
        if values.ndim != 1:
            raise ValueError(f"curves: history[{name!r}] must be a sequence of numbers, got shape {list(values.shape)}")
        panel = _panel_of(name)
        if panel == "Accuracy (%)":
            if values.min() < 0 or values.max() > 1:
                raise ValueError(
                    f"curves: history[{name!r}] must be fractions in [0, 1], got {values.min():g} to {values.max():g}"
                )
            values = 100 * values
        panels.setdefault(panel, {})[name] = values
    ordered = sorted(panels, key=lambda p: {"Accuracy (%)": 0, "Loss": 1}.get(p, 2))
    figure = new_figure(1.0 + 4.2 * len(ordered), 3.4)
    for ax, panel in zip(figure.subplots(1, len(ordered), squeeze=False)[0], ordered, strict=True):
        _draw_panel(ax, panels[panel])
        label_axes(ax, xlabel, panel, None)
    head(figure, title)
    return figure


def confusion(matrix: Values, *, labels: Sequence[str] | None = None, title: str | None = None) -> Figure:
    """Draw a confusion matrix; colour is the share of each true class, numbers are counts.

    Args:
        matrix: Counts [C, C], rows the true and columns the predicted class.
        labels: Names of the C classes; default their indices.
        title: Title; default the accuracy and the number of items.

    Returns:
        A new figure.

    Raises:
        ValueError: Not square, empty, negative, non-finite, without any item, or not C labels.
    """
    counts = finite_array("confusion", "matrix", matrix)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(f"confusion: matrix must have shape [C, C], got {list(counts.shape)}")
    if counts.min() < 0:
        raise ValueError(f"confusion: matrix must not be negative, got {counts.min():g}")
    total = counts.sum()
    if total == 0:
        raise ValueError("confusion: matrix must count at least one item, got only zeros")
    classes = len(counts)
    names = [str(index) for index in range(classes)] if labels is None else list(labels)
    if len(names) != classes:
        raise ValueError(f"confusion: labels must have {classes} names, got {len(names)}")
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12)
    side = min(2.6 + 0.42 * classes, 10.0)
    figure = new_figure(side + 0.7, side, fixed_aspect=True)
    ax = figure.add_subplot()
    image = ax.imshow(share, cmap="Blues", vmin=0, vmax=100)
    if classes <= _MAX_ANNOTATED_CLASSES:
        ax.set_xticks(range(classes), names, rotation=45 if max(map(len, names)) > 3 else 0)
        ax.set_yticks(range(classes), names)
        for (true, predicted), count in np.ndenumerate(counts):
            if count:
                ax.text(
                    predicted,
                    true,
                    f"{count:g}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if share[true, predicted] > 55 else "black",
                )
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("Predicted class")
    ax.set_ylabel("True class")
    correct = np.trace(counts)
    ax.set_title(
        title or f"Accuracy {100 * correct / total:.1f} % ({correct:,g} of {total:,g})", fontsize=11, loc="left"
    )
    bar = figure.colorbar(image, ax=ax, fraction=0.046, pad=0.03)
    bar.set_label("Share of the true class (%)")
    bar.outline.set_visible(False)
    return figure


def _panel_of(name: str) -> str:
    if "acc" in name.lower():
        return "Accuracy (%)"
    if "loss" in name.lower():
        return "Loss"
    return _words(name)


def _draw_panel(ax: Axes, series: Mapping[str, Array]) -> None:
    parts = ("train", "val", "test")
    free = len(parts)
    for name, values in series.items():
        style = next((i for i, part in enumerate(parts) if part in name.lower()), None)
        if style is None:
            style, free = (0 if len(series) == 1 else free), free + 1
        ax.plot(
            np.arange(1, len(values) + 1),
            values,
            label=_words(name),
            color=COLORS[style % len(COLORS)],
            linestyle=_LINES[style % len(_LINES)],
            marker=_MARKERS[style % len(_MARKERS)] if len(values) <= 30 else None,
            markersize=4,
            linewidth=1.6,
        )
    whole_ticks(ax.xaxis)
    if len(series) > 1:
        ax.legend(frameon=False, fontsize=9)


def _words(name: str) -> str:
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]
