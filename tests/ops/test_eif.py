"""``eif``: the shared tests of ``tests/neurons``, and tests of this neuron alone."""

import math

import pytest
import torch
from neurons import *  # noqa: F403
from samples import Op, Values
from variants import HARD_FIRING, LEAKY

from snnfast import ops
from snnfast.reference.exp import exp_quotient

# With a soft reset a membrane far above the critical voltage grows without bound: parameters are gentle there.
VARIANTS = {
    "sharp": {"delta_t": 0.2},
    "delta_each": {"delta_t": Values(0.3, 1.5)},
    "theta_each": {"theta_rh": Values(0.4, 1.2), "decay_input": False},
    "theta_channel": {"theta_rh": Values(0.4, 1.2, "channel"), "delta_t": Values(0.3, 1.0, "last")},
    "soft": {"v_reset": None, "theta_rh": 5.0},
    "all_tensors": {
        "decay": Values(0.3, 0.9),
        "delta_t": Values(0.4, 1.0),
        "theta_rh": Values(0.5, 1.0, "channel"),
        "v_threshold": Values(0.5, 1.5),
        "v_reset": Values(-0.3, 0.1, "last"),
        "v_rest": Values(-0.2, 0.1),
        "return_v_seq": True,
    },
    "return_state": {"return_state": False},
}
# At v = theta_rh = 1/2 the exponential is 1. Decay 1/2, delta_t = 1/4, rest at 0, reset to 1/2:
#   h = 0.5 + (0.25 - 0.5) / 2 + x = 0.5, 1 (met exactly: fires), 0.5;  v = 0.5 after each;  dh/dv = 1
#   t = 2: dL/dv = 4:   dL/ds = 4;              dL/dh = 8
#   t = 1: dL/dv = 8:   dL/ds = 2 - 8 * 0.5;    dL/dh = -2
#   t = 0: dL/dv = -2:  dL/ds = 1;              dL/dh = -1
#   dL/ddecay = 0.25 sum dL/dh;  dL/ddelta_t = sum dL/dh / 2 = -dL/dtheta_rh
HARD = {
    "inputs": {
        "x": [0.125, 0.625, 0.125],
        "v": 0.5,
        "decay": 0.5,
        "v_threshold": 1.0,
        "delta_t": 0.25,
        "theta_rh": 0.5,
    },
    "options": {"decay_input": False, "v_reset": 0.5, "v_rest": 0.0},
    "outputs": [[0, 1, 0], 0.5],
    "gradients": {
        "x": [-1.0, -2.0, 8.0],
        "v": -1.0,
        "decay": 1.25,
        "v_threshold": -3.0,
        "delta_t": 2.5,
        "theta_rh": -2.5,
    },
}


def written(n, x, v):
    upstroke = n.delta_t * math.exp((v - n.theta_rh) / n.delta_t)
    return n.fire(v + n.rate * (upstroke - (v - n.rest)) + n.gain * x)


EIF = Op(
    name="eif",
    kernel="eif",
    signature=(
        "x, v=None, *, tau=None, decay=None, delta_t=1.0, theta_rh=0.8, "
        "decay_input=True, v_threshold=1.0, v_reset=0.0, v_rest=None, "
        "strict=False, surrogate='atan', detach_reset=False, return_state=True, return_v_seq=False"
    ),
    states=("v",),
    decays=("decay",),
    params=("v_threshold", "v_reset", "v_rest", "delta_t", "theta_rh"),
    voltages=("v", "v_threshold", "v_reset", "v_rest", "delta_t", "theta_rh"),
    refused={"delta_t": (0.0, "must not be 0, got 0")},
    ranges={
        "delta_t": (0.5, 2.0),
        "theta_rh": (0.4, 1.5),
        "v_threshold": (0.2, 2.0),
        "v_reset": (-1.0, 0.2),
        "v_rest": (-0.5, 0.5),
    },
    exact=False,
    steady={"theta_rh": 1e3, "delta_t": 1.0},
    runs_away=True,
    variants={"plain": {}, **LEAKY, **HARD_FIRING, **VARIANTS},
    written=written,
    written_for=[{"tau": 2.7, "delta_t": 0.5, "theta_rh": 1.5}],
    worked={"hard": HARD},
)
NEURONS = (EIF,)


def test_the_exponential_is_that_of_mathematics():
    x = torch.linspace(-90, 90, 20001)
    for dtype, units in ((torch.float32, 3), (torch.float64, 3)):
        values = x.to(dtype)
        inside = values.abs() < 86.9
        want = values.double().exp() if dtype == torch.float32 else values.exp()
        error = (exp_quotient(values, 1.0).double() / want.double() - 1).abs()[inside].max()
        assert error < units * torch.finfo(dtype).eps, dtype
    assert exp_quotient(torch.tensor([1e3]), 1.0)[0] == exp_quotient(torch.tensor([87.0]), 1.0)[0] < 1e38


def test_the_membrane_returns_below_the_rheobase_and_runs_away_far_above_it(backend):
    x = torch.zeros(80, 2, device=backend.device)
    v = torch.tensor([0.5, 3.0], device=backend.device)
    spikes, last = ops.eif(x, v, tau=5.0, delta_t=0.5, theta_rh=1.5, v_threshold=1e3)
    assert spikes.sum(0).tolist() == [0, 1]
    assert abs(last[0].item()) < 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sharp_spike_has_a_gradient_of_its_sharpness(kernels, dtype):
    """The exponential times its argument may be infinite where the gradient is 0."""
    tensors = {"x": [[0.5]], "v": [0.99], "delta_t": [0.002]}
    if dtype == torch.float64:
        tensors |= {"v": [1.3], "delta_t": [0.0005]}  # at most e^708
    grads = []
    for function in (ops.eif, EIF.reference):
        leaves = {k: torch.tensor(v, dtype=dtype, device=kernels.device).requires_grad_() for k, v in tensors.items()}
        spikes = function(**leaves)[0]
        grads.append(torch.autograd.grad(spikes.sum(), list(leaves.values()), materialize_grads=True))
        assert spikes.item() == 1
    for a, b in zip(*grads):
        assert b.isfinite().all()
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-30)
