"""Figures of a network layer by layer: spikes, membranes, and histograms of rates and weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snnfast import check

from .activity import raster
from .style import (
    BLUE,
    COLORS,
    VERMILION,
    Array,
    Values,
    finite_array,
    head,
    label_axes,
    new_figure,
    of_sample,
    whole_ticks,
)

_MAX_COLUMNS = 3


@check.keywords
def rasters(
    spikes: Mapping[str, Values], *, dt: float = 1.0, unit: str = "steps", sample: int = 0, title: str | None = None
) -> Figure:
    """Draw the spikes of several layers, one raster under the other, over one time axis.

    Args:
        spikes: Name of each layer to its spikes, as in :func:`raster`.
        dt: Duration of a step, in ``unit``.
        unit: Unit of the time axis.
        sample: Index into B of spikes with a batch.
        title: Title of the figure.

    Returns:
        A new figure.

    Raises:
        ValueError: No layer, or an error of ``raster``.
    """
    _check("rasters", "spikes", spikes)
    figure = new_figure(7.0, min(1.0 + 1.7 * len(spikes), 18.0))
    rows = figure.subplots(len(spikes), 1, sharex=True, squeeze=False)[:, 0]
    for ax, (name, values) in zip(rows, spikes.items()):
        raster(values, dt=dt, unit=unit, sample=sample, ax=ax, title=name)
    for ax in rows[:-1]:
        ax.set_xlabel("")
    head(figure, title)
    return figure


@check.keywords
def traces(
    v: Mapping[str, Values],
    threshold: Mapping[str, float] | None = None,
    *,
    dt: float = 1.0,
    unit: str = "steps",
    sample: int = 0,
    title: str | None = None,
) -> Figure:
    """Draw membrane potentials of several layers, one under the other, with a line per neuron.

    Args:
        v: Name of each layer to its membrane potentials [T, N], or [T, B, ...], of which one sample is drawn.
        threshold: Name of a layer to its threshold, a dashed line.
        dt: Duration of a step, in ``unit``.
        unit: Unit of the time axis.
        sample: Index into B of membranes with a batch.
        title: Title of the figure.

    Returns:
        A new figure.

    Raises:
        ValueError: No layer, wrong shapes or non-finite values.
    """
    _check("traces", "v", v)
    figure = new_figure(7.0, min(1.0 + 1.7 * len(v), 18.0))
    rows = figure.subplots(len(v), 1, sharex=True, squeeze=False)[:, 0]
    for ax, (name, raw) in zip(rows, v.items()):
        values = of_sample("traces", f"v[{name!r}]", raw, sample)
        for neuron, trace in enumerate(values.T):
            color = COLORS[neuron % len(COLORS)]
            ax.plot(np.arange(len(trace)) * dt, trace, color=color, linewidth=1.1)
        if threshold and name in threshold:
            ax.axhline(threshold[name], color=VERMILION, linewidth=1.1, linestyle="--")
        label_axes(ax, None, "Membrane", name)
    rows[-1].set_xlabel(f"Time ({unit})")
    if dt == 1:
        whole_ticks(rows[-1].xaxis)
    head(figure, title)
    return figure


def histograms(values: Mapping[str, Values], *, xlabel: str, bins: int = 40, title: str | None = None) -> Figure:
    """Draw histograms of the values of several layers, side by side, with logarithmic counts.

    Args:
        values: Name of each layer to its values, such as firing rates or weights, of any shape.
        xlabel: Label of the value axis.
        bins: Number of bars of each histogram.
        title: Title of the figure.

    Returns:
        A new figure.

    Raises:
        ValueError: No layer, no or non-finite values, or ``bins`` below 1.
    """
    _check("histograms", "values", values)
    if bins < 1:
        raise ValueError(f"histograms: bins must be at least 1, got {bins}")
    columns = min(len(values), _MAX_COLUMNS)
    rows = -(-len(values) // columns)
    figure = new_figure(1.0 + 2.9 * columns, min(0.6 + 2.3 * rows, 18.0))
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax, (name, raw) in zip(axes, values.items()):
        _histogram(ax, finite_array("histograms", f"values[{name!r}]", raw), bins)
        label_axes(ax, xlabel, "Number", name)
    for ax in axes[len(values) :]:
        ax.set_axis_off()
    head(figure, title)
    return figure


def _histogram(ax: Axes, values: Array, bins: int) -> None:
    low, high = float(values.min()), float(values.max())
    if high - low <= 1e-6 * max(abs(low), abs(high)):  # bars without width would be invisible
        low, high = low - 0.5, high + 0.5
    ax.hist(values.ravel(), bins=bins, range=(low, high), color=BLUE, log=True)


def _check(function: str, argument: str, values: object) -> None:
    if not isinstance(values, Mapping):
        raise ValueError(f"{function}: {argument} must map names to values, got {type(values).__name__}")
    if not values:
        raise ValueError(f"{function}: {argument} must have at least one layer, got none")
