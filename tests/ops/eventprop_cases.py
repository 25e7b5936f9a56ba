"""Random calls of ``eventprop``, and what several of its tests ask of them."""

import functools
import math

import torch

from snnfast import reference

F64 = torch.float64
SILENT = "ignore:eventprop. all outputs are silent"


def case(
    batch, inputs, spikes, neurons, taus=(20.0, 5.0), recurrent=False, delays=0, delays_rec=0, scale=1.0, seed=0, **more
):  # fmt: skip
    """Arguments of a random call in float64: a fifth of the inputs' spikes do not come, some neurons are silent.

    ``delays`` and ``delays_rec``: 0 for none, 1 for one of each source, 2 for one of each synapse.
    """
    g = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return torch.rand(shape, generator=g, dtype=F64)

    t_in = uniform(batch, inputs, spikes) * 40
    a = {
        "t_in": torch.where(uniform(batch, inputs, spikes) < 0.2, math.inf, t_in),
        "w": (uniform(neurons, inputs) - 0.3) * scale * 30 / max(inputs, 1),
        **{"tau_mem": taus[0], "tau_syn": taus[1], "t_max": 60.0, "max_spikes": 40},
    }
    if recurrent:
        a["w_rec"] = (uniform(neurons, neurons) - 0.7) * 6 / neurons
    if delays:
        a["delays"] = uniform(*(neurons, inputs)[2 - delays :]) * 10
    if delays_rec:
        a["delays_rec"] = uniform(*(neurons, neurons)[2 - delays_rec :]) * 10
    return a | more


CASES = {
    "plain": dict(batch=4, inputs=7, spikes=3, neurons=6),
    "weak": dict(batch=5, inputs=9, spikes=2, neurons=70, scale=0.4),
    "equal_taus": dict(batch=3, inputs=7, spikes=2, neurons=5, taus=(10.0, 10.0), scale=0.7),
    "nearly_equal_taus": dict(batch=3, inputs=7, spikes=2, neurons=5, taus=(10.0, 10.00001), scale=0.7),
    "strong": dict(batch=4, inputs=7, spikes=3, neurons=20, scale=2.0),
    "stops": dict(batch=4, inputs=7, spikes=3, neurons=6, max_spikes=2, stops=True),
    "recurrent_stops": dict(
        batch=3, inputs=6, spikes=2, neurons=7, recurrent=True, scale=2.0, max_spikes=1, stops=True
    ),
    "slow_synapses": dict(batch=3, inputs=7, spikes=2, neurons=5, taus=(5.0, 20.0), scale=0.3),
    "delays": dict(batch=3, inputs=6, spikes=2, neurons=5, delays=1),
    "delays_of_synapses": dict(batch=3, inputs=6, spikes=2, neurons=5, delays=2),
    "recurrent": dict(batch=3, inputs=6, spikes=2, neurons=7, recurrent=True),
    "recurrent_equal_taus": dict(batch=3, inputs=6, spikes=2, neurons=7, recurrent=True, taus=(9.0, 9.0), scale=0.6),
    "recurrent_delays": dict(batch=3, inputs=6, spikes=2, neurons=5, recurrent=True, delays=1, delays_rec=1),
    "recurrent_delays_of_synapses": dict(
        batch=2, inputs=5, spikes=2, neurons=5, recurrent=True, delays=2, delays_rec=2
    ),
    "one": dict(batch=1, inputs=1, spikes=1, neurons=1),
}  # fmt: skip
GRADED = ("t_in", "w", "w_rec", "delays", "delays_rec")


def on(device, a, dtype=F64):
    return {k: v.to(device, dtype) if isinstance(v, torch.Tensor) else v for k, v in a.items()}


def leaves(a, device="cpu"):
    """The arguments with every tensor a leaf that wants a gradient."""
    return {
        k: v.detach().clone().to(device).requires_grad_() if isinstance(v, torch.Tensor) else v for k, v in a.items()
    }


def graded(a):
    return [a[k] for k in GRADED if k in a]


def loss(t, u=None):
    """A sum in which every spike counts differently; and the largest potentials of silent neurons."""
    fired = t.isfinite()
    value = (torch.where(fired, torch.where(fired, t, 0.0) - 30, 0.0) ** 2).sum() / 100
    return value if u is None else value + (u**2).sum()


@functools.cache
def expected(name):
    """Return results and gradients of the reference, once for all kernels."""
    a = leaves(case(**CASES[name]))
    results = reference.eventprop(**a, return_u_max=True, return_slope=True)
    return [value.detach() for value in results], torch.autograd.grad(loss(*results[:2]), graded(a))


def forward_arguments(a, return_u_max=True):
    """Plain arguments of the raw kernels, for a case without delays."""
    numbers = (a["tau_mem"], a["tau_syn"], 1.0, a["t_max"], a["max_spikes"], False, 0.05)
    return (a["t_in"], a["w"], a.get("w_rec"), None, *numbers, return_u_max, False, False)
