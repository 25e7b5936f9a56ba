"""Rules, dynamics and random calls of the network of Diehl and Cook, and how results and errors are compared."""

import pytest
import torch
from backends import force
from samples import assert_equal

from snnfast import ops, plasticity
from snnfast.ops import Rates

RULES = {
    "none": None,
    "pair": plasticity.pair(1e-3, 0.01),
    "pair, all spikes": plasticity.pair(1e-3, 0.01, trace="all"),
    "power law": plasticity.power_law(0.05, x_tar=0.1),
    "exponential": plasticity.exponential(0.05),
    "pre and post": plasticity.pre_post(1e-3, 0.03),
    "triplet": plasticity.triplet(1e-3, 0.03, lr_pre_triplet=1e-3, lr_post_pair=1e-3),
    "soft bounds": plasticity.soft_bounds(1e-3, 0.03),
    "negative weights": plasticity.pair(1e-3, 0.01, w_min=-0.2, w_max=0.5),
}
ROUNDED = ("power law", "exponential", "pre and post")  # in float32 these use polynomials
DYNAMICS = {
    "one winner at once": {"inhibition_delay": 0, "one_winner": True},
    "many winners at once": {"inhibition_delay": 0, "inhibition": 9.0, "refractory": 2.5},
    "one winner a step later": {"inhibition_delay": 1, "one_winner": True, "inhibition": 17.0},
    "many winners two steps later": {"inhibition_delay": 2},
    "threshold that decays": {"tau_theta": 300.0, "theta_plus": 0.4, "inhibition": 5.0},
    "frozen": {"theta_plus": 0.0, "inhibition": 3.0},
}


# Emulated devices, by what of a small network their shared memory holds (csrc/cuda/network_launch.cuh).
WAYS = {"weights and state": {}, "the state alone": {"EMULATION_SHARED": 28000}, "nothing": {"EMULATION_SHARED": 0}}


def emulate(monkeypatch, way, **others):
    for variable, value in {**WAYS[way], **others}.items():
        monkeypatch.setenv(f"SNNFAST_{variable}", str(value))


def sample(sizes, dtype=torch.float64, count=3, steps=60, seed=0, low=0.0):
    """Weights, thresholds and rates that make some, not all, neurons spike."""
    n, i = sizes
    generator = torch.Generator().manual_seed(seed)
    w = (torch.rand(n, i, generator=generator, dtype=torch.float64) * 0.4 + low).to(dtype)
    theta = torch.rand(n, generator=generator, dtype=torch.float64).to(dtype)
    hz = torch.rand(count, i, generator=generator) * 300 * (torch.rand(count, i, generator=generator) < 0.4)
    return w, theta, Rates(hz, steps, torch.arange(count) + 7)


def dense(x, i, dt=1.0):
    return torch.stack(
        [
            ops.poisson(hz * (dt / 1000), x.num_steps, seed=seed.view(1), dtype=torch.uint8)
            for hz, seed in zip(x.hz, x.seeds, strict=True)
        ]
    ).view(len(x.hz), x.num_steps, i)


def run(f, x, w, theta, **arguments):
    """Return the result, and the weights and thresholds after it; the arguments are not changed."""
    w, theta = w.clone(), theta.clone()
    return f(x, w, theta, v_threshold=4.0, v_reset=1.0, **arguments), w, theta


def assert_same(got, expected, weights_close=False):
    (a, w_a, theta_a), (b, w_b, theta_b) = got, expected
    assert_equal(a.counts, b.counts, "counts")
    if a.spikes is not None and b.spikes is not None:
        assert_equal(a.spikes, b.spikes, "spikes")
    if a.state is not None and b.state is not None and not weights_close:
        for name, x, y in zip(a.state._fields, a.state, b.state, strict=True):
            assert_equal(x, y, name)
    assert_equal(theta_a, theta_b, "theta")
    torch.testing.assert_close(w_a, w_b, rtol=0, atol=1e-5 if weights_close else 0)


def moved(value, device):
    """Move a tensor, or the tensors of a tuple, to another device."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if not isinstance(value, tuple):
        return value
    parts = [moved(part, device) for part in value]
    return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)


def assert_refused(op, backend, arguments, error, message):
    """Assert that ``op(**arguments)`` raises on the backend's device and changes no tensor."""
    tensors = {k: v for k, v in arguments.items() if isinstance(v, torch.Tensor) and v.device.type == "cpu"}
    before = {k: v.clone() for k, v in tensors.items()}
    with force(backend) as on:
        if backend == "cuda":
            # Expanded rows stay expanded.
            copies = {k: v.to(on.device).as_strided(v.shape, v.stride()) for k, v in tensors.items()}
            arguments = {
                k: copies.get(k, moved(v, on.device) if isinstance(v, tuple) else v) for k, v in arguments.items()
            }
            message = message.replace("of w, cpu,", "of w, cuda:0,")
        with pytest.raises(error, match=f"^diehl_cook_: {message}"):
            op(**arguments)
        for k, v in before.items():
            torch.testing.assert_close(arguments[k].cpu(), v, rtol=0, atol=0, equal_nan=True)
