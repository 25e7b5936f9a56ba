"""Brunel's network: each neuron receives from a tenth of all excitatory and inhibitory ones, and Poisson noise.

Brunel, Dynamics of sparsely connected networks of excitatory and inhibitory spiking neurons, Journal of Computational
Neuroscience 8, 2000. The membrane returns to 0 after a spike, as in NEST's example of this network; in the paper to
10 mV.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch

from snnfast import connect, ops
from snnfast.connect import PoissonNoise
from snnfast_zoo.papers.simulation import SimulatedNetwork, Simulation, SimulationSettings
from snnfast_zoo.train.settings import option

EXCITATORY, INHIBITORY, SHARE = 10_000, 2_500, 0.1  # neurons, and the share of them that a neuron receives from
DT, TAU, DELAY, REFRACTORY, THRESHOLD = 0.1, 20.0, 1.5, 2.0, 20.0  # ms, and mV

# Amplitude J of a synapse in mV, ratio g of inhibition and excitation, rate of the input relative to the threshold.
REGIMES = {"regular": (0.1, 5.0, 2.0), "irregular": (0.2, 6.0, 1.5)}


@dataclass(frozen=True, kw_only=True)
class BrunelSettings(SimulationSettings):
    """Settings of Brunel's network."""

    name = "brunel"

    regime: str = option(
        "regular", "regular (J 0.1, g 5, eta 2) or irregular (J 0.2, g 6, eta 1.5).", choices=tuple(REGIMES)
    )
    j: float | None = option(None, "Membrane potential of a spike in mV; default: that of the regime.", above=0)
    g: float | None = option(None, "Inhibition relative to excitation; default: that of the regime.", least=0)
    eta: float | None = option(None, "Rate of the input relative to the threshold; default: the regime's.", least=0)

    @property
    def point(self) -> tuple[float, float, float]:
        """J, g and eta."""
        chosen = (self.j, self.g, self.eta)
        return tuple(a if b is None else b for a, b in zip(REGIMES[self.regime], chosen))  # type: ignore[return-value]


def brunel_network(settings: BrunelSettings) -> SimulatedNetwork:
    """Return the network; with ``scale`` there are fewer neurons and as many fewer synapses to each of them."""
    j, g, eta = settings.point
    excitatory, inhibitory = (max(round(n * settings.scale), 1) for n in (EXCITATORY, INHIBITORY))
    neurons = excitatory + inhibitory
    delay = round(DELAY / DT)
    degrees = [max(round(SHARE * n), 1) for n in (excitatory, inhibitory)]
    part = connect.Part(neurons)
    here = part.neurons
    parts = [
        connect.fixed_indegree(n, neurons, indegree=degree, delay=delay, seed=2 * settings.seed + k, targets=here)
        for k, (n, degree) in enumerate(zip((excitatory, inhibitory), degrees))
    ]
    c = connect.concatenate([(parts[0], 0, 0), (parts[1], excitatory, 0)], neurons, len(here))
    op = functools.partial(
        ops.sparse_recurrent,
        neuron="lif",
        decay=math.exp(-DT / TAU),
        decay_input=False,
        v_threshold=THRESHOLD,
        refractory=round(REFRACTORY / DT),
    )
    weight = torch.where(torch.arange(neurons) < excitatory, j, -g * j).to(settings.torch_dtype)
    # At rate 1 relative to the threshold the mean membrane potential of this input alone is the threshold.
    noise = PoissonNoise(eta * THRESHOLD / (j * TAU) * DT, j, seed=settings.seed)
    populations = {"excitatory": excitatory, "inhibitory": inhibitory}
    return SimulatedNetwork(op, c, weight, populations, noise, {"v": None, "r": None}, part, DT)


brunel = Simulation("brunel", "Brunel 2000", BrunelSettings, brunel_network)
