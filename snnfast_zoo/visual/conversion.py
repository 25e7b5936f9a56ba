"""Figure that compares a converted network with its ReLU network."""

from __future__ import annotations

from typing import Any, Protocol

from matplotlib.figure import Figure

from .style import BLUE, GREEN, VERMILION, finite_array, head, label_axes, new_figure


class _Report(Protocol):
    """The fields of :class:`snnfast.conversion.ConversionReport` that are drawn."""

    @property
    def steps(self) -> Any: ...
    @property
    def accuracy(self) -> Any: ...
    @property
    def layers(self) -> Any: ...
    @property
    def labelled(self) -> Any: ...
    @property
    def ann_accuracy(self) -> Any: ...


def conversion(report: _Report, *, title: str | None = None) -> Figure:
    """Draw a conversion report: correlation, error and state of the neurons by layer, and accuracy against steps.

    Args:
        report: Result of :func:`snnfast.conversion_report`.
        title: Title of the figure.

    Returns:
        A new figure.

    Raises:
        ValueError: No layers, or no steps.
    """
    steps = finite_array("conversion", "report.steps", report.steps)
    accuracy = finite_array("conversion", "report.accuracy", report.accuracy)
    if not report.layers:
        raise ValueError("conversion: report.layers must not be empty")
    number = range(1, len(report.layers) + 1)
    figure = new_figure(12.4, 3.4)
    match, state, time = figure.subplots(1, 3)
    match.plot(number, [r.correlation for r in report.layers], "o-", color=BLUE, label="correlation")
    match.plot(number, [r.error for r in report.layers], "s--", color=VERMILION, label="error")
    label_axes(match, "Layer", "Activation and rate", None)
    match.set_ylim(bottom=0)
    for values, style, color, label in (
        ([r.rate for r in report.layers], "o-", BLUE, "spikes a step (%)"),
        ([r.dead for r in report.layers], "s--", VERMILION, "neurons that never fire"),
        ([r.saturated for r in report.layers], "^-.", GREEN, "neurons that always fire"),
    ):
        state.plot(number, [100 * v for v in values], style, color=color, label=label)
    label_axes(state, "Layer", "Per cent", None)
    for ax in (match, state):
        ax.set_xticks(list(number) if len(report.layers) <= 12 else list(number)[::4])
        ax.legend(frameon=False, fontsize=8)
    time.semilogx(steps, 100 * accuracy, "o-", color=BLUE, label="spiking")
    time.axhline(100 * report.ann_accuracy, color=VERMILION, linestyle="--", label="ANN")
    label_axes(time, "Steps", "Accuracy (%)" if report.labelled else "Agreement (%)", None)
    time.set_xticks(steps, [f"{int(s)}" for s in steps], minor=False)
    time.minorticks_off()
    time.legend(frameon=False, fontsize=8, loc="lower right")
    head(figure, title)
    return figure
