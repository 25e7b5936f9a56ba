"""The cortical microcircuit: a square millimetre of cortex, eight populations of neurons in four layers.

Potjans and Diesmann, The cell-type specific cortical microcircuit, Cerebral Cortex 24, 2014. A smaller network keeps
its rates: weights grow as synapses get fewer, and a constant current replaces the mean of those that are missing (van
Albada et al., PLoS Computational Biology 11, 2015).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from snnfast import connect, neuron
from snnfast.connect import Connectivity, PoissonNoise
from snnfast_zoo.papers.simulation import SimulatedNetwork, Simulation, SimulationSettings

POPULATIONS = ("L2/3E", "L2/3I", "L4E", "L4I", "L5E", "L5I", "L6E", "L6I")
SIZES = (20683, 5834, 21915, 5479, 4850, 1065, 14395, 2948)
# Probability of at least one synapse between two neurons; rows: target.
PROBABILITY = (
    (0.1009, 0.1689, 0.0437, 0.0818, 0.0323, 0.0, 0.0076, 0.0),
    (0.1346, 0.1371, 0.0316, 0.0515, 0.0755, 0.0, 0.0042, 0.0),
    (0.0077, 0.0059, 0.0497, 0.1350, 0.0067, 0.0003, 0.0453, 0.0),
    (0.0691, 0.0029, 0.0794, 0.1597, 0.0033, 0.0, 0.1057, 0.0),
    (0.1004, 0.0622, 0.0505, 0.0057, 0.0831, 0.3726, 0.0204, 0.0),
    (0.0548, 0.0269, 0.0257, 0.0022, 0.0600, 0.3158, 0.0086, 0.0),
    (0.0156, 0.0066, 0.0211, 0.0166, 0.0572, 0.0197, 0.0396, 0.2252),
    (0.0364, 0.0010, 0.0034, 0.0005, 0.0277, 0.0080, 0.0658, 0.1443),
)
EXTERNAL = (1600, 1500, 2100, 1900, 2000, 1900, 2900, 2100)  # synapses from outside, of a rate of 8 Hz
RATES = (0.971, 2.868, 4.746, 5.396, 8.142, 9.078, 0.991, 7.523)  # of the whole network, in Hz
DT, TAU, TAU_SYN, REFRACTORY, CAPACITY = 0.1, 10.0, 0.5, 2.0, 250.0  # ms, and pF
POTENTIAL, INHIBITION, BACKGROUND = 0.15, -4.0, 8.0  # peak of a spike in mV; weight of inhibition; Hz
BLOCK = 2**19  # synapses that are sorted at a time
DELAYS = (1.5, 0.75)  # ms, of excitation and inhibition; the deviation is half of it


def _current(peak: float) -> float:
    """Return the current in pA whose potential has a peak of ``peak`` mV."""
    a = TAU_SYN / TAU
    reached: float = a ** (a / (1 - a)) - a ** (1 / (1 - a))
    return peak * CAPACITY * (TAU - TAU_SYN) / (TAU * TAU_SYN * reached)


DECAY, DECAY_SYN = math.exp(-DT / TAU), math.exp(-DT / TAU_SYN)


@neuron
def current_lif(  # type: ignore[no-untyped-def]
    fire,
    x,
    v,
    g,
    *,
    constant=0.0,
    decay=DECAY,
    effect=(DECAY_SYN - DECAY) / CAPACITY * TAU * TAU_SYN / (TAU_SYN - TAU),
    decay_syn=DECAY_SYN,
):
    """LIF neuron with a current in pA that decays exponentially, and a constant potential; exact."""
    s, _, after = fire(v * decay + g * effect + constant, 15.0)
    return s, after, g * decay_syn + x


@dataclass(frozen=True, kw_only=True)
class MicrocircuitSettings(SimulationSettings):
    """Settings of the microcircuit."""

    name = "microcircuit"


def microcircuit_network(settings: MicrocircuitSettings) -> SimulatedNetwork:
    """Return the network; ``scale`` is that of neurons and of synapses to each of them."""
    full_sizes, probability = torch.tensor(SIZES, dtype=torch.float64), torch.tensor(PROBABILITY, dtype=torch.float64)
    pairs = full_sizes[:, None] * full_sizes
    degree = ((1 - probability).log() / (1 - 1 / pairs).log()).round() / full_sizes[:, None]
    weight = _current(POTENTIAL) * torch.tensor([1.0, INHIBITION]).double().repeat(8, 4)
    weight[0, 2] *= 2
    external = torch.tensor(EXTERNAL).double()
    mean = (weight * degree * torch.tensor(RATES)).sum(1) + _current(POTENTIAL) * external * BACKGROUND
    scale, root = settings.scale, settings.scale**0.5
    current = 0.001 * TAU_SYN * (1 - root) * mean
    sizes = (full_sizes * scale).round().long().clamp(min=1)
    first, n = [0, *sizes.cumsum(0).tolist()], int(sizes.sum())
    totals = (degree * scale * sizes[:, None]).round().long().tolist()
    generator = torch.Generator().manual_seed(settings.seed)
    part = connect.Part(n)
    here = [part.within(first[i], int(sizes[i])) for i in range(8)]  # neurons of this process in each population
    ends = torch.tensor([0, *map(len, here)]).cumsum(0).tolist()

    def drawn(j: int) -> list[Connectivity]:
        """Return the synapses of population ``j`` to the neurons of each population in this process."""
        return [
            connect.fixed_total(
                int(sizes[j]), int(sizes[i]), total=totals[i][j], seed=64 * settings.seed + 8 * i + j, targets=here[i]
            )
            for i in range(8)
        ]

    def blocks() -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Yield edges of some neurons after the other: the whole network does not fit into memory several times."""
        for j in range(8):
            projections = made.pop(0) if made else drawn(j)
            every = max(int(sizes[j]) * BLOCK // max(sum(row[j] for row in totals), 1), 1)
            for low in range(0, int(sizes[j]), every):
                high = min(low + every, int(sizes[j]))
                parts = []
                for i, c in enumerate(projections):
                    begins = c.first if c.first_in_all is None else c.first_in_all
                    span = slice(int(c.first[low]), int(c.first[high]))
                    # Every process draws for all synapses, so that each synapse has the numbers that it has in one.
                    spread = torch.randn(2, int(begins[high] - begins[low]), generator=generator)
                    if c.order is not None:
                        spread = spread[:, c.order[span] - begins[low]]
                    w = weight[i, j].item() / root * (1 + 0.1 * spread[0]).clamp(min=0)
                    delay = (DELAYS[j % 2] / DT * (1 + 0.5 * spread[1])).round().clamp(min=1).to(torch.int16)
                    pre = torch.arange(low + first[j], high + first[j], dtype=torch.int32)
                    pre = pre.repeat_interleave(c.first[low : high + 1].diff())
                    parts.append((pre, c.targets[span].int() + ends[i], delay, w))
                yield tuple(torch.cat(values) for values in zip(*parts))  # type: ignore[misc]

    # The number of synapses of a part is known when all are drawn.
    made = [drawn(j) for j in range(8)] if part.size > 1 else []
    synapses = sum(len(c) for projections in made for c in projections) if made else sum(map(sum, totals))
    c, w = connect.from_blocks(blocks(), synapses, n, len(part.neurons))
    constant = (current * TAU / CAPACITY * (1 - DECAY)).repeat_interleave(sizes).to(settings.torch_dtype)[part.neurons]
    op = functools.partial(current_lif.sparse_recurrent, refractory=round(REFRACTORY / DT), constant=constant)
    rate = (external * scale * BACKGROUND * DT / 1000).repeat_interleave(sizes)
    noise = PoissonNoise(rate, _current(POTENTIAL) / root, seed=settings.seed)
    v = (7 + 10 * torch.randn(n, generator=generator)).to(settings.torch_dtype)[part.neurons]
    states = {"v": v, "g": torch.zeros_like(v), "r": None}
    populations = dict(zip(POPULATIONS, sizes.tolist()))
    return SimulatedNetwork(op, c, w.to(v.dtype), populations, noise, states, part, DT)


microcircuit = Simulation("microcircuit", "Potjans and Diesmann 2014", MicrocircuitSettings, microcircuit_network)
