"""Figures of neural activity over time: spikes and membrane potentials."""

from __future__ import annotations

from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from snnfast import check

from .style import BLUE, VERMILION, Array, Values, finite_array, head, label_axes, new_figure, of_sample, whole_ticks

_MAX_MEMBRANES = 16


@check.keywords
def raster(
    spikes: Values,
    *,
    dt: float = 1.0,
    unit: str = "steps",
    sample: int = 0,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Draw a mark for every spike of every neuron over time.

    Args:
        spikes: [T, N], or [T, B, ...], of which one sample is drawn with flattened neurons. Any value
            above 0 is a spike.
        dt: Duration of a step, in ``unit``.
        unit: Unit of the time axis.
        sample: Index into B when ``spikes`` has a batch.
        title: Title of the axes.
        ax: Axes to draw into; default a new figure.

    Returns:
        The figure that holds the axes.

    Raises:
        ValueError: Fewer than two dimensions, no step or no neuron, a negative or non-finite value,
            a ``sample`` outside the batch, or ``dt`` not above 0.
    """
    values = of_sample("raster", "spikes", spikes, sample)
    if values.min() < 0:
        raise ValueError(f"raster: spikes must not be negative, got {values.min():g}")
    check.positive("raster", "dt", dt)
    steps, neurons = values.shape
    if ax is None:
        ax = new_figure(7.0, 3.6).add_subplot()
    figure = _figure_of(ax)
    step, neuron = np.nonzero(values)
    row_height = figure.get_figheight() * ax.get_position().height * 72 / neurons
    length = min(max(0.9 * row_height, 1.8), 14.0)
    ax.scatter(
        step * dt,
        neuron,
        marker="|",
        s=length**2,
        linewidths=min(max(length / 4, 0.7), 1.6),
        color=BLUE,
        # Vector files with a path per spike are too large to open.
        rasterized=len(step) > 5_000,
    )
    ax.set_xlim(-0.5 * dt, (steps - 0.5) * dt)
    ax.set_ylim(-0.5, neurons - 0.5)
    whole_ticks(ax.yaxis, 6)
    if dt == 1:
        whole_ticks(ax.xaxis)
    label_axes(ax, f"Time ({unit})", "Neuron", title)
    return figure


@check.keywords
def potentials(
    v: Values,
    threshold: float | Values | None = None,
    spikes: Values | None = None,
    *,
    dt: float = 1.0,
    unit: str = "steps",
    sample: int = 0,
    title: str | None = None,
) -> Figure:
    """Draw membrane potentials over time, one row per neuron.

    Args:
        v: Membrane potentials [T, n], or [T, B, ...], of which one sample is drawn; n at most 16 neurons.
        threshold: Dashed line: one number or one for each neuron, [n].
        spikes: The spikes, of the shape of ``v``; each value above 0 is marked above its trace, since the membrane
            after a reset does not show the crossing.
        dt: Duration of a step, in ``unit``.
        unit: Unit of the time axis.
        sample: Index into B when ``v`` has a batch.
        title: Title of the figure.

    Returns:
        A new figure.

    Raises:
        ValueError: Wrong shapes, no step or no neuron, more than 16 neurons, non-finite values, or
            ``dt`` not above 0.
    """
    values = of_sample("potentials", "v", v, sample)
    steps, neurons = values.shape
    if neurons > _MAX_MEMBRANES:
        raise ValueError(
            f"potentials: v must have at most {_MAX_MEMBRANES} neurons, got {neurons}; "
            f"choose some, such as v[..., :{_MAX_MEMBRANES}]"
        )
    check.positive("potentials", "dt", dt)
    levels: Array | None = None
    if threshold is not None:
        levels = finite_array("potentials", "threshold", threshold)
        if levels.ndim > 1 or levels.size not in (1, neurons):
            raise ValueError(
                f"potentials: threshold must be a number or have shape [{neurons}], got shape {list(levels.shape)}"
            )
        levels = np.broadcast_to(levels, (neurons,))
    fired: Array | None = None
    if spikes is not None:
        fired = of_sample("potentials", "spikes", spikes, sample)
        if fired.shape != values.shape:
            raise ValueError(
                f"potentials: spikes must have the shape of v, {list(values.shape)}, got {list(fired.shape)}"
            )
    figure = new_figure(7.0, min(1.2 + 1.1 * neurons, 14.0) if neurons > 1 else 3.0)
    rows = figure.subplots(neurons, 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    time = np.arange(steps) * dt
    highest = max(float(values.max()), float("-inf") if levels is None else float(levels.max()))
    span = highest - float(values.min()) or 1.0
    for neuron, ax in enumerate(rows):
        ax.plot(time, values[:, neuron], color=BLUE, linewidth=1.3, label="membrane")
        if levels is not None:
            ax.axhline(levels[neuron], color=VERMILION, linewidth=1.1, linestyle="--", label="threshold")
        if fired is not None:
            spike_times = time[fired[:, neuron] > 0]
            ax.scatter(
                spike_times,
                np.full(len(spike_times), highest + 0.12 * span),
                marker="v",
                s=22,
                color="black",
                linewidths=0,
                label="spike",
            )
        label_axes(ax, None, f"Neuron {neuron}" if neurons > 1 else "Membrane potential", None)
    handles, names = rows[0].get_legend_handles_labels()
    if len(handles) > 1:
        figure.legend(handles, names, loc="outside upper right", ncols=3, frameon=False, fontsize=9)
    rows[0].set_ylim(float(values.min()) - 0.08 * span, highest + (0.25 if spikes is not None else 0.08) * span)
    rows[-1].set_xlim(time[0] - 0.5 * dt, time[-1] + 0.5 * dt)
    rows[-1].set_xlabel(f"Time ({unit})")
    if dt == 1:
        whole_ticks(rows[-1].xaxis)
    if neurons > 1:
        figure.supylabel("Membrane potential", fontsize=10)
    head(figure, title)
    return figure


def _figure_of(ax: Axes) -> Figure:
    return cast(Figure, ax.get_figure(root=True))
