"""``lif``, ``iaf`` and ``li``: the shared tests of ``tests/neurons``, and tests of these neurons alone."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from neurons import *  # noqa: F403
from neurons.properties import runs, seeds, wide_dtypes
from neurons.values import INF, NAN, run
from samples import Op, assert_equal, firing, over_neurons
from variants import FIRING, LEAKY, LEAKY_FIRING, NOT_RETURNED, REFRACTORY

from snnfast import ops, surrogate

# Decay 1/2 and threshold 1. Hard reset, h = v/2 + x:
#   h = 0.75, 1.125 (fires), 0.25                                   v = 0.75, 0, 0.25
#   dv/dh = (1 - s) + (v_reset - h): 0.25, -1.125, 0.75
#   dL/dh = 7 = 4 + 4 * 0.75;  -1.9375 = 2 - 1.125 * 7/2;  0.7578125 = 1 + 0.25 * -1.9375/2
#   dL/ddecay = sum dL/dh[t] v[t-1] = -1.9375 * 0.75
#   dL/dthreshold = -sum dL/ds, dL/ds = 4 - 4 * 0.25, 2 - 3.5 * 1.125, 1 + 0.96875 * 0.75
HARD = {
    "inputs": {"x": [0.75, 0.75, 0.25], "v": 0.0, "decay": 0.5, "v_threshold": 1.0},
    "options": {"decay_input": False},
    "outputs": [[0, 1, 0], 0.25],
    "gradients": {"x": [0.7578125, -1.9375, 7.0], "v": 0.37890625, "decay": -1.453125, "v_threshold": -2.7890625},
}
# The same h from twice the input at gain 1/2; dL/ddecay loses sum dL/dh[t] x[t] = 1.73046875.
SCALED = {
    "inputs": {**HARD["inputs"], "x": [1.5, 1.5, 0.5]},
    "options": {},
    "outputs": HARD["outputs"],
    "gradients": {**HARD["gradients"], "x": [0.37890625, -0.96875, 3.5], "decay": -3.18359375},
}
# The same from tau = 2, which sets decay and gain: dL/dtau = dL/ddecay / tau^2, plus the part through the gain.
TAU = {
    "inputs": {"x": [1.5, 1.5, 0.5], "v": 0.0, "tau": 2.0, "v_threshold": 1.0},
    "options": {},
    "outputs": SCALED["outputs"],
    "gradients": {**{name: SCALED["gradients"][name] for name in ("x", "v", "v_threshold")}, "tau": -3.18359375 / 4},
}
# No gradient through the reset: dv/dh = 1 - s, so dL/dh = 8 = 4 + 4;  2 = 2 + 0;  2 = 1 + 2/2.
DETACHED = {
    "inputs": HARD["inputs"],
    "options": {"decay_input": False, "detach_reset": True},
    "outputs": HARD["outputs"],
    "gradients": {"x": [2.0, 2.0, 8.0], "v": 1.0, "decay": 1.5, "v_threshold": -7.0},
}
# Soft reset: h = 0.75, 1.125 (fires), 0.3125, v = 0.75, 0.125, 0.3125; dv/dh = 1 - 1 = 0, so dL/dh = 1, 2, 4.
#   dL/ddecay = 2 * 0.75 + 4 * 0.125
#   dL/dthreshold = -sum dL/ds - dL/dv[1] s[1]; dL/ds = 4 - 4, 2 - 2, 1 - 1; dL/dv[1] = 4/2
SOFT = {
    "inputs": HARD["inputs"],
    "options": {"decay_input": False, "v_reset": None},
    "outputs": [[0, 1, 0], 0.3125],
    "gradients": {"x": [1.0, 2.0, 4.0], "v": 0.5, "decay": 2.0, "v_threshold": -2.0},
}
# Rest at 0.5, reset to 0.25: h = 0.5 + (v - 0.5)/2 + x = 0.5 + 0.25, 0.625 + 0.5 (fires), 0.375 + 0.25
#   v = 0.75, 0.25, 0.625;  dv/dh = 1 + 0.25 - 0.75, 0.25 - 1.125, 1 + 0.25 - 0.625 = 0.5, -0.875, 0.625
#   dL/dh = 4 + 2.5 = 6.5;  2 - 0.875 * 3.25 = -0.84375;  1 - 0.5 * 0.421875 = 0.7890625
#   dL/ddecay = sum dL/dh[t] (v[t-1] - 0.5) = 0 - 0.84375 * 0.25 - 6.5 * 0.25
#   dL/ds = 4 + 4 (0.25 - 0.625), 2 + 3.25 (0.25 - 1.125), 1 - 0.421875 (0.25 - 0.75)
RESTING = {
    "inputs": {"x": [0.25, 0.5, 0.25], "v": 0.5, "decay": 0.5, "v_threshold": 1.0},
    "options": {"decay_input": False, "v_reset": 0.25, "v_rest": 0.5},
    "outputs": [[0, 1, 0], 0.625],
    "gradients": {
        "x": [0.7890625, -0.84375, 6.5],
        "v": 0.39453125,
        "decay": -1.8359375,
        "v_threshold": -(2.5 - 0.84375 + 1.2109375),
    },
}
# No leak: h = 0.5, 1 (exactly at the threshold: fires), 0.25; dv/dh = 0.5, -1, 0.75
#   dL/dh = 4 + 3 = 7;  2 - 7 = -5;  1 - 2.5 = -1.5;  dL/ds = 3, 2 - 7, 1 + 5 * 0.5
INTEGRATED = {
    "inputs": {"x": [0.5, 0.5, 0.25], "v": 0.0, "v_threshold": 1.0},
    "options": {},
    "outputs": [[0, 1, 0], 0.25],
    "gradients": {"x": [-1.5, -5.0, 7.0], "v": -1.5, "v_threshold": -1.5},
}
# No spikes: v = 4/2 + 1, 3/2 + 2, 3.5/2 + 3; here the membranes of the steps weigh 1, 2, 4 and the last 4 more.
#   dL/dv = 8;  2 + 4 = 6;  1 + 3 = 4;  dL/ddecay = 4 * 4 + 6 * 3 + 8 * 3.5
READOUT = {
    "inputs": {"x": [1.0, 2.0, 3.0], "v": 4.0, "decay": 0.5},
    "options": {"decay_input": False},
    "outputs": [[3.0, 3.5, 4.75], 4.75],
    "gradients": {"x": [4.0, 6.0, 8.0], "v": 2.0, "decay": 62.0},
}


def written(n, x, v):
    return n.fire(n.rest + n.decay * (v - n.rest) + n.gain * x)


LIF = Op(
    name="lif",
    kernel="lif",
    signature=(
        "x, v=None, *, tau=None, decay=None, decay_input=True, v_threshold=1.0, v_reset=0.0, "
        "v_rest=None, strict=False, refractory=0, r=None, max_spikes=1, surrogate='atan', "
        "detach_reset=False, return_state=True, return_v_seq=False"
    ),
    states=("v",),
    decays=("decay",),
    params=("v_threshold", "v_reset", "v_rest"),
    voltages=("v", "v_threshold", "v_reset", "v_rest"),
    variants={"plain": {}, **LEAKY, **FIRING, **LEAKY_FIRING, **NOT_RETURNED, **REFRACTORY},
    written=written,
    written_for=[{"tau": 1.0}, {"tau": 2.0}, {"tau": 7.3}],
    worked={
        "hard": HARD,
        "scaled": SCALED,
        "time_constant": TAU,
        "detached": DETACHED,
        "soft": SOFT,
        "resting": RESTING,
    },
)
IAF = Op(
    name="iaf",
    kernel="lif",
    signature=(
        "x, v=None, *, v_threshold=1.0, v_reset=0.0, strict=False, refractory=0, r=None, max_spikes=1, "
        "surrogate='atan', detach_reset=False, "
        "return_state=True, return_v_seq=False"
    ),
    states=("v",),
    decays=(),
    params=("v_threshold", "v_reset"),
    voltages=("v", "v_threshold", "v_reset"),
    variants={"plain": {}, **FIRING, **NOT_RETURNED, **REFRACTORY},
    worked={"exactly_at_threshold": INTEGRATED},
)
LI = Op(
    name="li",
    kernel="lif",
    signature="x, v=None, *, tau=None, decay=None, decay_input=True, v_rest=0.0",
    states=("v",),
    decays=("decay",),
    params=("v_rest",),
    voltages=("v", "v_rest"),
    fires=False,
    variants={"plain": {}, **LEAKY},
    worked={"readout": READOUT},
)
NEURONS = (LIF, IAF, LI)


def test_integrator_reaches_the_constant_it_is_driven_with():
    _, v = LI.reference(x=torch.full((400, 2), 0.7, dtype=torch.float64), tau=5.0)
    assert v.tolist() == [pytest.approx(0.7, abs=1e-12)] * 2


def test_firing_rate_is_that_of_the_closed_form():
    """Constant drive ``I`` from 0: ``v = I (1 - decay^n)`` reaches the threshold after ``n`` steps."""
    drive, tau = 1.7, 9.0
    period = math.ceil(math.log(1 - 1 / drive) / math.log(1 - 1 / tau))
    spikes, _ = LIF.reference(x=torch.full((period * 20, 1), drive).double(), tau=tau)
    assert spikes.sum().item() == 20
    assert spikes.view(20, period)[:, -1].all()


def test_gradient_of_spikes_that_reach_no_state_stays_at_its_step(kernels):
    """With decay 0 the steps are independent, so each gradient is the surrogate's own."""
    x = torch.linspace(-2, 3, 50, dtype=torch.float64, device=kernels.device)
    x = x.reshape(5, 10).requires_grad_()
    spikes, _ = ops.lif(x, decay=0.0, v_threshold=0.75, surrogate="sigmoid", detach_reset=True)
    (grad,) = torch.autograd.grad(spikes.sum(), x)
    want = surrogate.sigmoid().derivative(x.detach() - 0.75)
    torch.testing.assert_close(grad, want, rtol=1e-13, atol=1e-15)


@over_neurons("op", firing)
def test_infinity_fires_and_hard_reset_recovers(backend, op):
    spikes, v_seq = run(op, [INF, 0.25, 2.0], backend.device, v_reset=0.0)
    assert spikes == [1, 0, 1]
    assert v_seq.tolist() == [0.0, 0.25, 0.0]


@over_neurons("op", firing)
def test_infinity_stays_and_fires_for_ever_with_soft_reset(backend, op):
    spikes, v_seq = run(op, [INF, 0.0, -5.0], backend.device, v_reset=None)
    assert spikes == [1, 1, 1]
    assert v_seq.tolist() == [INF] * 3


@over_neurons("op", firing)
@pytest.mark.parametrize("v_reset", [0.0, None])
def test_minus_infinity_silences_until_infinity_makes_nan(backend, op, v_reset):
    spikes, v_seq = run(op, [-INF, 1e30, INF, 5.0], backend.device, v_reset=v_reset)
    assert spikes == [0, 0, 0, 0]
    assert_equal(v_seq.cpu(), torch.tensor([-INF, -INF, NAN, NAN]))


@over_neurons("op", firing)
def test_infinite_membrane_does_not_fire_at_an_infinite_threshold(backend, op):
    """The difference of membrane and threshold is NaN."""
    for infinite, x in ((INF, [3.0, INF, 3.0]), (-INF, [-INF, -INF, -INF])):
        threshold = torch.tensor(infinite, device=backend.device)
        assert run(op, x, backend.device, v_threshold=threshold)[0] == [0, 0, 0]
    threshold = torch.tensor(-INF, device=backend.device)
    assert run(op, [-3.0, 3.0], backend.device, v_threshold=threshold)[0] == [1, 1]


def test_infinity_of_gain_0_is_nan(backend):
    """``decay = 1`` scales the input by 0, and 0 times infinity is NaN."""
    spikes, v = ops.lif(torch.tensor([INF], device=backend.device), decay=1.0)
    assert spikes.item() == 0
    assert v.isnan()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_every_16_bit_number_is_read_as_pytorch_reads_it(kernels, dtype):
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    every = every.to(kernels.device)
    v_seq, _ = ops.li(every[None], decay=0.0)
    assert_equal(v_seq[0], every.float())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_gradients_are_rounded_to_16_bits_as_pytorch_rounds(kernels, dtype):
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(-(2**31), 2**31, (50_000,), generator=generator)
    values = bits.to(torch.int32).view(torch.float32)
    ties = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype).float()
    next_up = torch.nextafter(ties, torch.tensor(INF))
    middle = ((ties.double() + ties.view(torch.int32).add(2**15).view(torch.float32)) / 2).float()
    wide = torch.cat([values, ties, next_up, middle]).to(kernels.device)
    x = torch.zeros(1, wide.numel(), dtype=dtype, device=kernels.device, requires_grad=True)
    v_seq, _ = ops.li(x, decay=0.0)
    (grad,) = torch.autograd.grad(v_seq, x, wide[None])
    assert_equal(grad[0], wide.to(dtype))


@given(runs(LIF, wide_dtypes), st.floats(0.1, 5))
def test_higher_threshold_never_fires_earlier(arguments, more):
    arguments.pop("v_threshold", None)
    spikes, *_ = ops.lif(**arguments, v_threshold=1.0)
    fewer, *_ = ops.lif(**arguments, v_threshold=1.0 + more)
    first = (spikes.cumsum(0) > 0).sum(0)
    assert ((fewer.cumsum(0) > 0).sum(0) <= first).all()


@given(runs(IAF, wide_dtypes))
def test_no_leak_is_iaf(arguments):
    assert_equal(list(ops.iaf(**arguments)), list(ops.lif(**arguments, decay=1.0, decay_input=False)))


@given(runs(LI, st.just(torch.float64)), seeds)
def test_readout_is_linear(arguments, seed):
    x = arguments.pop("x")
    arguments.update(v_rest=0.0)
    v = arguments.pop("v", torch.zeros(x.shape[1:], dtype=x.dtype))
    other = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
    a, _ = ops.li(x, v, **arguments)
    b, _ = ops.li(other, 2 * v, **arguments)
    c, _ = ops.li(x + 3 * other, 7 * v, **arguments)
    torch.testing.assert_close(c, a + 3 * b, rtol=1e-9, atol=1e-9)


# T, N: more than 4 MiB in either dtype, which is stored past the caches. Rows begin at or within a cache line; last
# blocks and strips of 3 numbers may end within a line; there are more steps than buffered ends of rows.
ROWS = [(33, 32768 + 3), (33, 32768 + 12), (300, 14 * 256 + 3), (33, 32768)]


@pytest.mark.parametrize(("steps", "n"), ROWS)
@pytest.mark.parametrize("neuron", ["lif", "alif"])
@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
def test_rows_that_go_past_the_caches_begin_anywhere(neuron, steps, n, learned, threads):
    generator = torch.Generator().manual_seed(0)
    x, grad = (1.5 * torch.randn(steps, n, generator=generator) for _ in range(2))
    assert x.nbytes >= 2**22
    tau = torch.tensor(3.0, requires_grad=learned) if learned else 3.0

    def outputs(x, grad):
        x = x.contiguous().requires_grad_()
        spikes, *states = getattr(ops, neuron)(x, tau=tau)
        return spikes, *states, *torch.autograd.grad(spikes, x, grad.contiguous())

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        found = outputs(x, grad)
    finally:
        torch.set_num_threads(before)
    parts = [outputs(*pair) for pair in zip(x.split(1000, 1), grad.split(1000, 1))]
    for whole, *pieces in zip(found, *parts):
        assert_equal(whole, torch.cat(pieces, -1))
    assert 0 < found[0].mean() < 1
