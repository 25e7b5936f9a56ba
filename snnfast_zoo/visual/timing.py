"""Figure of spike times of neurons that fire once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .style import BLUE, VERMILION, Array, Values, filled_array, finite_array, head, label_axes, new_figure, whole_ticks


def spike_times(
    before: Mapping[str, Values],
    after: Mapping[str, Values] | None = None,
    *,
    columns: tuple[str, str] = ("before training", "after training"),
    mark: int | None = None,
    unit: str = "ms",
    title: str | None = None,
) -> Figure:
    """Draw the spike time of every neuron for one sample, with a row of axes per population.

    Args:
        before: Population to spike times [N], from input to output; inf for silent neurons, whose
            number is written above the axes.
        after: The same populations at another time, drawn beside the first.
        columns: Titles of both columns.
        mark: Neuron of the last population to draw in another colour, such as that of the class.
        unit: Unit of the times.
        title: Title of the figure.

    Returns:
        A new figure.

    Raises:
        ValueError: No population, other populations after than before, times that are not [N] or
            are negative or NaN, or ``mark`` outside the last population.
    """
    if not before:
        raise ValueError("spike_times: before must have at least one population, got none")
    if after is not None and list(after) != list(before):
        raise ValueError(f"spike_times: after must have the populations of before, {list(before)}, got {list(after)}")
    sides = [before] if after is None else [before, after]
    times = [{name: _times(name, raw) for name, raw in side.items()} for side in sides]
    names = list(before)
    if mark is not None and not 0 <= mark < len(times[0][names[-1]]):
        raise ValueError(f"spike_times: mark must lie in [0, {len(times[0][names[-1]])}), got {mark}")
    # The height grows with the logarithm of the number of neurons.
    heights = [1 + np.log2(len(times[0][name])) / 2 for name in names]
    figure = new_figure(4.0 * len(sides) + 0.6, 0.8 + 0.6 * sum(heights))
    axes = figure.subplots(len(names), len(sides), sharex=True, sharey="row", squeeze=False, height_ratios=heights)
    for column, side in enumerate(times):
        for row, name in enumerate(names):
            last = row == len(names) - 1
            _draw(axes[row, column], side[name], mark if last else None)
            label_axes(
                axes[row, column],
                f"Time ({unit})" if last else None,
                name[:1].upper() + name[1:] if column == 0 else "",
                columns[column] if row == 0 and len(sides) > 1 else None,
            )
    fired = np.concatenate([t[np.isfinite(t)] for side in times for t in side.values()])
    end = float(fired.max()) if len(fired) and fired.max() > 0 else 1.0
    axes[0, 0].set_xlim(-0.03 * end, 1.03 * end)
    head(figure, title)
    return figure


def _draw(ax: Axes, times: Array, mark: int | None) -> None:
    fires = np.isfinite(times)
    neurons = np.arange(len(times))
    colors = [VERMILION if n == mark else BLUE for n in neurons[fires]]
    size = 40.0 if len(times) <= 20 else 8.0
    ax.scatter(times[fires], neurons[fires], marker="|", s=size, linewidths=1.4, color=colors)
    silent = int((~fires).sum())
    if silent:
        ax.set_title(f"{silent} silent", loc="right", fontsize=8, pad=3)
    ax.set_ylim(-0.7, len(times) - 0.3)
    whole_ticks(ax.yaxis, 4)


def _times(name: str, raw: Values) -> Array:
    values = filled_array("spike_times", name, raw)
    finite_array("spike_times", name, np.where(np.isposinf(values), 0, values))
    if values.ndim != 1:
        raise ValueError(f"spike_times: {name} must have shape [N], got {list(values.shape)}")
    if values.min() < 0:
        raise ValueError(f"spike_times: {name} must not be negative, got {values.min():g}")
    return values
