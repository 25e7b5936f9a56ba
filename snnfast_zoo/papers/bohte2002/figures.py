"""Figures of a SpikeProp run: loss, spike times before and after training, potentials of the outputs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from snnfast.nn import SpikeProp
from snnfast_zoo import data
from snnfast_zoo.train import Run
from snnfast_zoo.train.figures import Draw
from snnfast_zoo.train.score import Part

from .model import Bohte2002

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TRACES = 512  # points of a trace


def figures(dataset: str, run: Run, part: Part) -> dict[str, Draw]:
    """Return figures of spike times and potentials for the first sample of ``part``; ``run`` is untrained."""
    times, label = part[0][:1], int(part[1][0])
    title = f"{dataset}, {_class(dataset, label)}"
    before = spikes(run.model, times)

    def spike_times(run: Run) -> Figure:
        from snnfast_zoo import visual

        after = spikes(run.model, times)
        # XOR has one output for both classes.
        mark = label if len(after["output"]) > 1 else None
        return visual.spike_times(before, after, mark=mark, title=f"SpikeProp: {title}")

    return {"spikes": spike_times, "potentials": lambda run: potentials(run.model, times, title=f"Outputs: {title}")}


@torch.no_grad()
def spikes(model: nn.Module, times: Tensor) -> dict[str, Tensor]:
    """Return spike times of inputs and layers for the first of ``times`` ``[B, I]``; inf without a spike."""
    network = cast(Bohte2002, model)
    first, *hidden, last = (t[0] for t in network.spike_times(times[:1]))
    names = ["hidden"] if len(hidden) == 1 else [f"hidden {i + 1}" for i in range(len(hidden))]
    last = last.masked_fill(last > network.t_max, math.inf)
    return {"input": first, **dict(zip(names, hidden)), "output": last}


@torch.no_grad()
def potentials(model: nn.Module, times: Tensor, *, title: str | None = None) -> Figure:
    """Draw the potentials of at most 16 outputs for the first of ``times`` ``[B, I]``."""
    from snnfast_zoo import visual

    network = cast(Bohte2002, model)
    before, after = (t[:1] for t in network.spike_times(times[:1])[-2:])
    layer = cast(SpikeProp, network.layers[-1])
    fired = after[after <= network.t_max]
    end = min(network.t_max, 1.5 * float(fired.max())) if len(fired) else network.t_max
    dt = end / (_TRACES - 1)
    moments = torch.linspace(0, end, _TRACES, dtype=before.dtype, device=before.device)
    v = layer.potentials(before, moments)[:, 0, :16]
    spike = (moments[:, None] >= after[0, :16]) & (moments[:, None] - dt < after[0, :16])
    return visual.potentials(v, network.v_threshold, spike, dt=dt, unit="ms", title=title)


def _class(dataset: str, label: int) -> str:
    names = {"xor": ("false", "true"), "iris": data.IRIS_CLASSES, "cancer": data.CANCER_CLASSES}
    return names[dataset][label] if dataset in names else f"a {label}"
