"""The figure of a run on sequences: one sample, its spikes in every layer, and the class probabilities over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from .model import SequenceNetwork

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NEURONS = 64  # the first neurons of each raster


@torch.no_grad()
def sample(model: nn.Module, x: Tensor, label: Tensor, classes: Sequence[str], *, title: str | None = None) -> Figure:
    """Plot the input, the spikes of every layer, and the probability of every class over time.

    Args:
        model: the network.
        x: a sample ``[T, in_features]``.
        label: its label, or a label for every step ``[T]``, drawn as a band above the probabilities.
        classes: names of the classes.
        title: title of the figure.
    """
    from snnfast_zoo.visual.activity import raster
    from snnfast_zoo.visual.style import COLORS, head, label_axes, new_figure

    network, part = cast(SequenceNetwork, model), x[None]
    spikes = network.spikes(part)
    answer = network.layers(part.to(next(model.parameters())).transpose(0, 1))[:, 0].softmax(-1)
    figure = new_figure(7.0, 1.6 * (2 + len(spikes)) + 0.6)
    axes = figure.subplots(2 + len(spikes), 1, sharex=True)
    label_axes(axes[0], None, "input", None)
    for k, channel in enumerate(x[:, :_NEURONS].cpu().unbind(1)):
        steps = channel.nonzero()[:, 0]
        signs = [COLORS[0] if channel[t] > 0 else COLORS[1] for t in steps]
        axes[0].scatter(steps, [k] * len(steps), s=3, c=signs)
    for i, (ax, s) in enumerate(zip(axes[1:], spikes)):
        raster(s[:, 0, :_NEURONS].cpu(), ax=ax)
        ax.set_xlabel("")
        ax.set_ylabel(f"layer {i + 1}" if len(spikes) > 1 else "spikes")
    last = axes[-1]
    label_axes(last, "steps", "answer", None)
    for k, (name, values) in enumerate(zip(classes, answer.cpu().unbind(1))):
        last.plot(values, color=COLORS[k % len(COLORS)], linewidth=1, label=name)
    last.set_ylim(0, 1.15)
    for k in label.unique().tolist():
        if k >= 0:  # the right class at each step
            right = (label == k).expand(len(x)).cpu()
            last.fill_between(
                range(len(x)), 1.05, 1.13, where=right.tolist(), color=COLORS[k % len(COLORS)], step="mid"
            )
    if len(classes) <= len(COLORS):
        last.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8, frameon=False)
    head(figure, title)
    return figure
