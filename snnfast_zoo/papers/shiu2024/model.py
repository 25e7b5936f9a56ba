"""A brain as its connectome alone: LIF neurons, a current a synapse, and Poisson spikes to chosen neurons.

Shiu et al., A Drosophila computational brain model reveals sensorimotor processing, Nature 634, 2024. A neuron is at
rest unless others excite it; the weight of an edge is its number of synapses, negative if its neuron inhibits.
Potentials are relative to -52 mV. In the paper the current stands still while its neuron is refractory; here it decays.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch

from snnfast import connect, neuron
from snnfast.connect import PoissonNoise
from snnfast_zoo.data.edges import Edges, read_edges
from snnfast_zoo.papers.simulation import SimulatedNetwork, Simulation, SimulationSettings
from snnfast_zoo.train.settings import option

DT, TAU, TAU_G, DELAY, REFRACTORY, THRESHOLD = 0.1, 20.0, 5.0, 1.8, 2.2, 7.0  # ms, and mV
SYNAPSE, KICK = 0.275, 0.275 * 250  # mV of a synapse, and of a spike from outside
DECAY, DECAY_G = (math.exp(-DT / tau) for tau in (TAU, TAU_G))
EFFECT = TAU_G / (TAU_G - TAU) * (DECAY_G - DECAY)  # what a current of 1 adds to the membrane in a step

# The random graph: neurons and edges of the fly, excitatory ones, synapses of an edge.
NEURONS, EDGES, EXCITATORY, SYNAPSES = 127_400, 14_700_000, 0.6, 3.5
DRAWN = 2**20  # edges that are drawn at a time


@neuron(inputs=2)
def leaky(fire, x, kick, v, g, *, decay=DECAY, effect=EFFECT, g_decay=DECAY_G):  # type: ignore[no-untyped-def]
    """LIF neuron with a current that decays exponentially, exact; its second input moves the membrane at once."""
    s, _, after = fire(v * decay + g * effect + kick, THRESHOLD)
    return s, after, g * g_decay + x


@dataclass(frozen=True, kw_only=True)
class ConnectomeSettings(SimulationSettings):
    """Settings of the brain."""

    name = "connectome"

    edges: str | None = option(None, "Edge list .npz, .csv or .parquet; default: a random graph with a fly's numbers.")
    pre: str = option("pre", "Column of the presynaptic neurons.")
    post: str = option("post", "Column of the postsynaptic neurons.")
    weight: str = option("weight", "Column of the synapses of an edge, negative for inhibition.")
    stimulate: tuple[int, ...] = option((), "Neurons that get spikes from outside; default: the first 100.")
    rate: float = option(150.0, "Spikes a second to each of these.", least=0, most=1e6)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._only("scale", self.edges is None, "the random graph", f"edges {self.edges}")


def random_neurons(scale: float) -> int:
    """Return the number of neurons of :func:`random_edges`."""
    return max(round(NEURONS * scale), 2)


def random_edges(scale: float, seed: int, targets: range | None = None) -> Edges:
    """Return a graph with the numbers of a fly's brain; out-degrees are lognormal, weights of edges geometric.

    Args:
        scale: its neurons, as a share of those of the fly.
        seed: seed of all numbers.
        targets: the postsynaptic neurons whose edges are kept; None: all.
    """
    generator = np.random.default_rng(seed)
    neurons = random_neurons(scale)
    low, high = (0, neurons) if targets is None else (targets.start, targets.stop)
    shares = np.minimum(generator.lognormal(0, 1.1, neurons), 80)
    degrees = np.round(shares * min(EDGES / NEURONS, neurons / 2) / shares.mean()).astype(np.int64)
    ends = np.concatenate([[0], degrees.cumsum()])
    chunks = [(begin, min(begin + DRAWN, ends[-1])) for begin in range(0, ends[-1], DRAWN)]
    places, posts, weights = ([np.empty(0, np.int64)] for _ in range(3))
    for begin, end in chunks:
        drawn = generator.integers(0, neurons, end - begin)
        chosen = np.flatnonzero((drawn >= low) & (drawn < high))
        places.append(chosen)
        posts.append(drawn[chosen])
    sign = np.where(generator.random(neurons) < EXCITATORY, 1.0, -1.0)
    for (begin, end), chosen in zip(chunks, places[1:]):
        weights.append(generator.geometric(1 / SYNAPSES, end - begin)[chosen])
        chosen += begin
    pre = np.repeat(np.arange(neurons), np.diff(np.searchsorted(np.concatenate(places), ends)))
    return Edges(pre, np.concatenate(posts), sign[pre] * np.concatenate(weights), np.arange(neurons))


def connectome_network(settings: ConnectomeSettings) -> SimulatedNetwork:
    """Return the network of a file, or a random one."""
    if settings.edges is None:
        part = connect.Part(random_neurons(settings.scale))
        edges = random_edges(settings.scale, settings.seed, part.neurons)
    else:
        edges = read_edges(settings.edges, pre=settings.pre, post=settings.post, weight=settings.weight)
        part = connect.Part(len(edges.ids))
        if part.size > 1:
            chosen = (edges.post >= part.neurons.start) & (edges.post < part.neurons.stop)
            edges = Edges(edges.pre[chosen], edges.post[chosen], edges.weight[chosen], edges.ids)
    neurons, here = part.total, len(part.neurons)
    place = {int(name): i for i, name in enumerate(edges.ids)}
    unknown = [name for name in settings.stimulate if name not in place]
    if unknown:
        raise ValueError(f"connectome: stimulate must name neurons of the edges, got {unknown[0]}")
    stimulated = [place[name] for name in settings.stimulate] or list(range(min(100, neurons)))
    pre, post = torch.from_numpy(edges.pre), torch.from_numpy(edges.post - part.neurons.start)
    c = connect.from_edges(pre, post, neurons, 2 * here, delay=round(DELAY / DT))
    weight = c.arrange(torch.from_numpy(SYNAPSE * edges.weight).to(settings.torch_dtype))
    rates = torch.zeros(2 * neurons)
    rates[[neurons + k for k in stimulated]] = settings.rate * DT / 1000
    noise = PoissonNoise(rates, KICK, seed=settings.seed)
    op = functools.partial(leaky.sparse_recurrent, refractory=round(REFRACTORY / DT) - 1)
    ids = None if settings.edges is None else torch.from_numpy(edges.ids)
    return SimulatedNetwork(op, c, weight, {"all": neurons}, noise, {"v": None, "g": None, "r": None}, part, DT, ids)


connectome = Simulation("connectome", "Shiu and colleagues 2024", ConnectomeSettings, connectome_network)
