"""What a run of SpikeProp looks like: loss, spike times before and after, potentials of the outputs."""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from snnfast import data, visual
from snnfast.model import Bohte2002
from snnfast.nn import SpikeProp
from snnfast.train import Run

_TRACES = 512  # points of a trace


class Figures:
    """Curves, spike times and potentials of a run, as files in ``out`` and live where there is a display."""

    def __init__(
        self, out: Path, run: Run, samples: tuple[Tensor, Tensor], every: float = 5.0
    ) -> None:
        """``samples`` are drawn the first of; ``every`` so many seconds at most. ``run`` is at its beginning."""
        names = ("curves", "spikes", "potentials")
        self._live = {name: visual.Live(out / f"{name}.png") for name in names}
        self._input, self._label = samples[0][:1], int(samples[1][0])
        self._before = spikes(run.model, self._input)
        self._every, self._drawn = every, -math.inf

    def update(self, run: Run) -> None:
        """Draws, unless it did so a moment ago: short epochs are not to wait for figures."""
        if time.monotonic() - self._drawn >= self._every:
            self.draw(run)

    def draw(self, run: Run) -> None:
        """Draws now."""
        now = spikes(run.model, self._input)
        name = f"{run.settings['dataset']}, {_class(run, self._label)}"
        # XOR has one output for both classes.
        mark = self._label if len(now["output"]) > 1 else None
        if run.history:
            self._live["curves"].update(curves(run))
        self._live["spikes"].update(
            visual.spike_times(self._before, now, mark=mark, title=f"SpikeProp: {name}")
        )
        self._live["potentials"].update(
            potentials(run.model, self._input, title=f"Outputs: {name}")
        )
        self._drawn = time.monotonic()

    def finish(self, run: Run) -> None:
        """Draws the last state and closes the windows; the files stay."""
        self.draw(run)
        for live in self._live.values():
            live.close()


def curves(run: Run) -> Figure:
    """Loss and accuracy over the epochs of a run."""
    held_out = "val" if run.settings["validate"] else "test"
    names = {
        "train_loss": "loss",
        "train_accuracy": "accuracy",
        f"{held_out}_loss": "test_loss",
        f"{held_out}_accuracy": "test_accuracy",
    }
    if run.settings["dataset"] == "xor":  # where both parts are the same patterns
        names = {"loss": "loss", "accuracy": "accuracy"}
    series = {name: [row[key] for row in run.history] for name, key in names.items()}
    return visual.curves(series, title=f"SpikeProp, {run.settings['dataset']}")


@torch.no_grad()
def spikes(model: nn.Module, times: Tensor) -> dict[str, Tensor]:
    """Spike times of the inputs and of every layer for the first of ``times`` ``[B, I]``; silent neurons are inf."""
    assert isinstance(model, Bohte2002)
    first, *hidden, last = (t[0] for t in model.spike_times(times[:1]))
    names = ["hidden"] if len(hidden) == 1 else [f"hidden {i + 1}" for i in range(len(hidden))]
    last = last.masked_fill(last > model.t_max, math.inf)
    return {"input": first, **dict(zip(names, hidden)), "output": last}


@torch.no_grad()
def potentials(model: nn.Module, times: Tensor, *, title: str | None = None) -> Figure:
    """Potentials of the outputs, 16 at most, for the first of ``times`` ``[B, I]``."""
    assert isinstance(model, Bohte2002)
    before, after = (t[:1] for t in model.spike_times(times[:1])[-2:])
    layer = model.layers[-1]
    assert isinstance(layer, SpikeProp)
    fired = after[after <= model.t_max]
    end = min(model.t_max, 1.5 * float(fired.max())) if len(fired) else model.t_max
    dt = end / (_TRACES - 1)
    at = torch.linspace(0, end, _TRACES, dtype=before.dtype, device=before.device)
    v = layer.potentials(before, at)[:, 0, :16]
    spike = (at[:, None] >= after[0, :16]) & (at[:, None] - dt < after[0, :16])
    return visual.potentials(v, model.threshold, spike, dt=dt, unit="ms", title=title)


def _class(run: Run, label: int) -> str:
    names = {
        "xor": ("false", "true"),
        "iris": data.IRIS_CLASSES,
        "cancer": data.CANCER_CLASSES,
    }
    dataset = run.settings["dataset"]
    return names[dataset][label] if dataset in names else f"a {label}"
