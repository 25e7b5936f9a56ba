"""How a converted network follows the network that it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from matplotlib.figure import Figure

from .style import BLUE, GREEN, VERMILION, finite_array, head, label_axes, new_figure


class Layer(Protocol):
    """What is drawn of a layer."""

    @property
    def correlation(self) -> float:
        """Correlation of activation and rate."""

    @property
    def error(self) -> float:
        """Error of the rate, as a fraction of the activation."""

    @property
    def dead(self) -> float:
        """Fraction of the neurons that never fired."""

    @property
    def saturated(self) -> float:
        """Fraction of the neurons that fired at every step for some image."""

    @property
    def rate(self) -> float:
        """Spikes per step and neuron."""


class Report(Protocol):
    """What is drawn; a :class:`snnfast.conversion.ConversionReport`."""

    @property
    def layers(self) -> Sequence[Layer]:
        """Layers in the order in which they run."""

    @property
    def steps(self) -> Sequence[int]:
        """Numbers of steps."""

    @property
    def accuracy(self) -> Sequence[float]:
        """Accuracy after each of them, in [0, 1]."""

    @property
    def ann_accuracy(self) -> float:
        """Accuracy of the ReLU network, in [0, 1]."""

    @property
    def labelled(self) -> bool:
        """Whether there were labels."""


def conversion(report: Report, *, title: str | None = None) -> Figure:
    """Draw a conversion report: by layer correlation and error, and the state of the neurons; accuracy against steps.

    Args:
        report: What :func:`snnfast.conversion_report` gave.
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
    match.plot(
        number, [r.correlation for r in report.layers], "o-", color=BLUE, label="correlation"
    )
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
