"""Networks of Vogels and Abbott: excitation and inhibition through two conductances (COBA) or two currents (CUBA).

Vogels and Abbott, Signal propagation and logic gating in networks of integrate-and-fire neurons, Journal of
Neuroscience 25, 2005; parameters of the benchmarks 1 and 2 of Brette et al., Simulation of networks of spiking neurons,
Journal of Computational Neuroscience 23, 2007. Potentials are relative to -60 mV, conductances to the leak.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch

from snnfast import connect, neuron
from snnfast_zoo.papers.simulation import SimulatedNetwork, Simulation, SimulationSettings
from snnfast_zoo.train.settings import option

EXCITATORY, INHIBITORY, SHARE = 3_200, 800, 0.02  # neurons, and the probability of a synapse
DT, TAU, TAU_E, TAU_I, REFRACTORY = 0.1, 20.0, 5.0, 10.0, 5.0  # ms


@neuron(inputs=2)
def coba(fire, xe, xi, v, ge, gi, *, leak=DT / TAU, e=60.0, i=-20.0, e_decay=1 - DT / TAU_E, i_decay=1 - DT / TAU_I):  # type: ignore[no-untyped-def]
    """LIF neuron with two conductances, by Euler's method; a spike acts from the next step on."""
    s, _, after = fire(v + leak * (ge * (e - v) + gi * (i - v) + (0.0 - v)), 10.0)
    return s, after, ge * e_decay + xe, gi * i_decay + xi


DECAY, DECAY_E, DECAY_I = (math.exp(-DT / tau) for tau in (TAU, TAU_E, TAU_I))
EFFECT_E, EFFECT_I = (
    tau / (tau - TAU) * (decay - DECAY) for tau, decay in ((TAU_E, DECAY_E), (TAU_I, DECAY_I))
)  # what a current of 1 adds to the membrane in a step
CONSTANT = 11.0 * (1 - DECAY)


@neuron(inputs=2)
def cuba(  # type: ignore[no-untyped-def]
    fire, xe, xi, v, ge, gi, *, decay=DECAY, e=EFFECT_E, i=EFFECT_I, c=CONSTANT, e_decay=DECAY_E, i_decay=DECAY_I
):
    """LIF neuron with two currents that decay exponentially, and a constant one; exact."""
    s, _, after = fire(v * decay + ge * e + gi * i + c, 10.0)
    return s, after, ge * e_decay + xe, gi * i_decay + xi


@dataclass(frozen=True, kw_only=True)
class VogelsAbbottSettings(SimulationSettings):
    """Settings of the networks of Vogels and Abbott."""

    name = "vogels-abbott"

    synapses: str = option("coba", "coba (conductances) or cuba (currents).", choices=("coba", "cuba"))


def vogels_abbott_network(settings: VogelsAbbottSettings) -> SimulatedNetwork:
    """Return the network; with ``scale`` there are fewer neurons, with as many synapses to each of them."""
    excitatory, inhibitory = (max(round(n * settings.scale), 1) for n in (EXCITATORY, INHIBITORY))
    neurons = excitatory + inhibitory
    share = min(SHARE / settings.scale, 1.0)
    part = connect.Part(neurons)
    here = part.neurons
    parts = [
        connect.fixed_probability(n, neurons, probability=share, seed=2 * settings.seed + k, targets=here)
        for k, n in enumerate((excitatory, inhibitory))
    ]
    # Targets of inhibition are the second input of the neurons.
    c = connect.concatenate([(parts[0], 0, 0), (parts[1], excitatory, len(here))], neurons, 2 * len(here))
    e, i = (0.6, 6.7) if settings.synapses == "coba" else (1.62, -9.0)
    dtype = settings.torch_dtype
    weight = torch.where(torch.arange(neurons) < excitatory, e, i).to(dtype)
    generator = torch.Generator().manual_seed(settings.seed)
    if settings.synapses == "coba":
        mean, deviation = torch.tensor([[-5.0], [4.0], [20.0]]), torch.tensor([[5.0], [1.5], [12.0]])
        v, ge, gi = (mean + deviation * torch.randn(3, neurons, generator=generator)).to(dtype)[:, here]
        start = {"v": v, "ge": ge.clamp(min=0), "gi": gi.clamp(min=0)}
    else:
        v = 10 * torch.rand(neurons, generator=generator).to(dtype)[here]
        start = {"v": v, "ge": torch.zeros_like(v), "gi": torch.zeros_like(v)}
    op = functools.partial(
        {"coba": coba, "cuba": cuba}[settings.synapses].sparse_recurrent, refractory=round(REFRACTORY / DT) - 1
    )
    populations = {"excitatory": excitatory, "inhibitory": inhibitory}
    return SimulatedNetwork(op, c, weight, populations, None, {**start, "r": None}, part, DT)


vogels_abbott = Simulation("vogels-abbott", "Vogels and Abbott 2005", VogelsAbbottSettings, vogels_abbott_network)
