"""Sparse networks of papers without gradients, ``steps x percent of the neurons``: CPU time of the simulated steps.

``coba`` and ``cuba`` are Vogels and Abbott 2005, ``cuba STDP`` with plasticity of the excitatory synapses, ``brunel``
and ``irregular`` Brunel 2000, ``microcircuit`` a tenth of Potjans and Diesmann 2014. ``csr`` runs the connections and
initial states of the first two in a loop over steps with sparse CSR tensors of PyTorch, ``brian2`` those of the first
three in a C++ program of Brian2. ``spikes unlike Brian2's`` are those of either that the other does not have; with
``--dtype float64`` there are none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks import neurons
from benchmarks.report import Row, verdict
from benchmarks.timing import Prepared, Task
from snnfast import plasticity

SHAPES = ((10_000, 100),)
QUICK_SHAPES = ((20, 5),)
FLOOR = "clone"
BASELINES = ("csr", "brian2")
STDP = "cuba STDP"
RATES = {"lr_pre": 0.0105, "lr_post": 0.01, "w_max": 3.24}  # of its pair rule, with traces of all spikes
# Largest time of a second of biological time, in seconds.
LIMITS = {"coba": 0.1, "cuba": 0.1, STDP: 0.12, "brunel": 1.4, "irregular": 1.4, "microcircuit": 0.4}
DT = 0.1  # ms


def network(name: str, percent: int, dtype: str) -> Any:
    """Return a network of the zoo."""
    from snnfast_zoo.papers.brunel2000 import model as brunel2000
    from snnfast_zoo.papers.potjans_diesmann2014 import model as potjans_diesmann2014
    from snnfast_zoo.papers.vogels_abbott2005 import model as vogels_abbott2005

    scale, how = percent / 100, {"dtype": dtype}
    if name == STDP:
        return Learning(network("cuba", percent, dtype))
    if name in ("coba", "cuba"):
        settings = vogels_abbott2005.VogelsAbbottSettings(scale=scale, synapses=name, **how)  # type: ignore[arg-type]
        return vogels_abbott2005.vogels_abbott_network(settings)
    if name == "microcircuit":
        settings = potjans_diesmann2014.MicrocircuitSettings(scale=0.1 * scale, **how)  # type: ignore[arg-type]
        return potjans_diesmann2014.microcircuit_network(settings)
    regime = {"brunel": "regular", "irregular": "irregular"}[name]
    settings = brunel2000.BrunelSettings(scale=scale, regime=regime, **how)  # type: ignore[arg-type]
    return brunel2000.brunel_network(settings)


class Learning:
    """A network whose excitatory synapses learn, from the same weights in every run."""

    def __init__(self, made: Any) -> None:
        rule = plasticity.pair(**RATES, trace="all")
        self.online = plasticity.Online(rule, dt=made.dt, sources=range(made.populations["excitatory"]))
        self.start = made.connectivity.per_synapse(made.weight)
        op = partial(made.op, plasticity=self.online)
        self.made = replace(made, op=op, weight=self.start.clone())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.made, name)

    def run(self, steps: int) -> Any:
        """Return the spikes."""
        self.online.reset()
        self.made.weight.copy_(self.start)
        return self.made.run(steps)


def by_op(made: Any) -> Callable[[int], int]:
    """Return a run of a network, which returns the number of spikes."""
    return lambda steps: len(made.run(steps))


def by_csr(made: Any, name: str) -> Callable[[int], int]:
    """Return a loop over steps of ``coba`` or ``cuba`` with CSR tensors, which returns the number of spikes."""
    from snnfast_zoo.papers.vogels_abbott2005 import model

    c, N = made.connectivity, made.connectivity.n_pre
    matrix = c.to_torch(made.weight)

    def run(steps: int) -> int:
        v, ge, gi = (made.states[k].clone() for k in ("v", "ge", "gi"))
        s, rest, total = torch.zeros_like(v), torch.zeros(N, dtype=torch.int64), 0
        for _ in range(steps):
            arrived = matrix @ s
            if name == "coba":
                leak = DT / model.TAU
                h = v + leak * (ge * (60.0 - v) + gi * (-20.0 - v) - v)
                e_decay, i_decay = 1 - DT / model.TAU_E, 1 - DT / model.TAU_I
            else:
                h = v * model.DECAY + ge * model.EFFECT_E + gi * model.EFFECT_I + model.CONSTANT
                e_decay, i_decay = model.DECAY_E, model.DECAY_I
            h = torch.where(rest > 0, v, h)
            fired = h >= 10.0
            v = h.masked_fill(fired, 0.0)
            rest = torch.where(fired, round(model.REFRACTORY / DT) - 1, (rest - 1).clamp(min=0))
            ge, gi = ge * e_decay + arrived[:N], gi * i_decay + arrived[N:]
            s = fired.to(v.dtype)
            total += int(fired.sum())
        return total

    return run


def unlike(made: Any, steps: int, spikes: Tensor) -> int:
    """Return how many spikes, step and neuron, of another simulator differ from those of the op."""
    events, width = made.run(steps), made.connectivity.n_pre
    ours = events.step.long() * width + events.neuron
    both = torch.cat([ours, spikes[0] * width + spikes[1]])
    return int((both.unique(return_counts=True)[1] % 2).sum())


def prepare(task: Task) -> Prepared:
    steps, percent = task.shape
    if task.implementation == FLOOR:
        return Prepared({FLOOR: torch.zeros(steps).clone}, {})
    passes: dict[str, Callable[[], object]] = {}
    facts: dict[str, float] = {}
    ours = task.implementation == neurons.OURS
    for name in LIMITS if ours else ("coba", "cuba", STDP)[: 2 + (task.implementation == "brian2")]:
        made = network(name, percent, task.dtype)
        c = made.connectivity
        if task.implementation == "brian2":
            how = name, task.dtype, steps, RATES if name == STDP else None
            passes[name], spikes, weight = neurons.baseline("brian2").vogels_abbott(made, *how)
            facts[f"{name}, spikes"] = spikes.shape[1]
            facts[f"{name}, spikes unlike Brian2's"] = unlike(made, steps, spikes)
            if weight is not None:
                found = made.weight[made.connectivity.out_of(made.online.sources)]
                facts[f"{name}, largest difference of a weight"] = (found - weight).abs().max().item()
            continue
        run = partial(by_op(made) if ours else by_csr(made, name), steps)
        passes[name] = run
        facts[f"{name}, Hz"] = run() / c.n_pre / (steps * DT / 1000)
        if ours:
            facts[f"{name}, bytes a synapse"] = c.nbytes / len(c)
    return Prepared(passes, facts, dict.fromkeys(passes, steps * DT / 1000))


def verdicts(found: list[Row]) -> list[dict[str, Any]]:
    """Compare the time of a second with the limits, for one thread."""
    judged = []
    for row in found:
        if (row.task.implementation, row.task.threads) == (neurons.OURS, 1) and row.name in LIMITS:
            limit = LIMITS[row.name]
            judged.append(
                verdict(row.task.shape, row.name, "snnfast / biological time", row.minimum_seconds, "<=", limit)
            )
    return judged
