"""Random calls of ``spikeprop``, and quantities that several of its tests compare."""

import math

import pytest
import torch

F64 = torch.float64
SILENT = "ignore:spikeprop. all outputs are silent"


def case(batch, inputs, terminals, outputs, seed=0, dtype=F64, coding="real", scale=1.0, tau=3.0):
    """Arguments of a random call: about a third of the inputs and of the outputs are silent."""
    g = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return torch.rand(shape, generator=g, dtype=F64)

    t_in = uniform(batch, inputs) * 10
    delays = uniform(inputs, terminals) * 6
    if coding == "integer":
        t_in, delays = t_in.round(), delays[:1].round().expand(inputs, -1)[0]
    if coding == "shared":
        delays = delays[0] if inputs else uniform(terminals)
    t_in = torch.where(uniform(batch, inputs) < 0.3, math.inf, t_in)
    w = (uniform(outputs, inputs, terminals) - 0.35) * scale * 14 / max(inputs * terminals, 1)
    return {"t_in": t_in.to(dtype), "w": w.to(dtype), "delays": delays.to(dtype), "tau": tau, "t_max": 18.0}


def on(device, arguments):
    return {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}


def potential(a, t):
    """Return the potential ``[B, O]`` at times ``t`` ``[B, O]``, by the equation."""
    events = (a["t_in"][:, :, None] + a["delays"]).flatten(1)
    s = (t[:, :, None] - events[:, None]).clamp(min=0) / a["tau"]
    s = torch.where(s.isfinite(), s, 0.0)
    return (a["w"].flatten(1) * s * torch.exp(1 - s)).sum(2)


CASES = {
    "real": dict(batch=5, inputs=13, terminals=3, outputs=9),
    "one_terminal": dict(batch=4, inputs=30, terminals=1, outputs=21, coding="shared"),
    "integer": dict(batch=6, inputs=9, terminals=16, outputs=16, coding="integer"),
    "long_tau": dict(batch=4, inputs=20, terminals=2, outputs=7, tau=40.0, scale=1.5),
    "short_tau": dict(batch=4, inputs=20, terminals=2, outputs=7, tau=0.3, scale=3.0),
    "one_lane_more": dict(batch=2, inputs=11, terminals=2, outputs=17),
    "many": dict(batch=3, inputs=40, terminals=1, outputs=133, coding="shared"),
    "one": dict(batch=1, inputs=1, terminals=1, outputs=1, scale=0.5),
    "weak": dict(batch=3, inputs=10, terminals=2, outputs=30, scale=0.7),
}


@pytest.fixture(params=CASES)
def arguments(request):
    return case(**CASES[request.param])


def leaves(a, device="cpu"):
    """Return the arguments with every tensor, and tau as a tensor, as leaves that require a gradient."""
    a = {**a, "tau": torch.tensor(a["tau"], dtype=a["w"].dtype)}
    return {
        k: v.detach().clone().to(device).requires_grad_() if isinstance(v, torch.Tensor) else v for k, v in a.items()
    }


GRADED = ("t_in", "w", "delays", "tau")


def forward_arguments(a, dt=0.0, grid_points=0, return_u_max=True):
    """Plain arguments of the raw kernels."""
    tensors = [v.contiguous() for v in (a["t_in"], a["w"], a["delays"])]
    numbers = (1.0, 18.0, dt, grid_points, 0.05, return_u_max, False, False)
    return (*tensors, a["tau"], None, *numbers)
