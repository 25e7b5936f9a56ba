"""``alif``: the shared tests of ``tests/neurons``, and tests of this neuron alone."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from neurons import *  # noqa: F403
from neurons.properties import runs, wide_dtypes
from samples import Op, Values, assert_equal
from variants import FIRING, LEAKY, LEAKY_FIRING, REFRACTORY

from snnfast import ops

ADAPTIVE = {
    "beta": {"beta": 0.7},
    "beta_negative": {"beta": -0.1},
    "beta_each": {"beta": Values(0.0, 1.0)},
    "tau_adapt": {"tau_adapt": 3.0},
    "decay_adapt_0": {"decay_adapt": 0.0, "beta": 0.5},
    "decay_adapt_1": {"decay_adapt": 1.0},
    "decay_adapt_each": {"decay_adapt": Values(0.0, 1.0), "beta": 0.4},
    "adaptation_channel": {
        "beta": Values(0.0, 1.0, "channel"),
        "decay_adapt": Values(0.0, 1.0, "last"),
        "v_reset": None,
    },
    "detach_adaptive": {"beta": 0.5, "detach_reset": True, "v_threshold": Values(0.5, 1.0)},
    "return_state": {"return_state": False},
}
# Decays 1/2, threshold 1, beta 1/2, hard reset: h = v/2 + x, A = 1 + a/2, a' = a/2 + s
#   h = 1, 1.25, 1.375;  A = 1 (met exactly: fires), 1.5 (above the threshold 1, but does not fire), 1.25 (fires)
#   v = 0, 1.25, 0;  a = 1, 0.5, 1.25
# Backwards: dL/ds = its weight + dL/da + dL/dv (v_reset - h), dL/dh = dL/dv (1 - s) + dL/ds, dL/dA = -dL/ds and
# dL/da[t-1] = (dL/da + dL/dA) / 2:
#   t = 2: dL/dv = 4, dL/da = 8:     dL/ds = 4 + 8 - 4 * 1.375 = 6.5;              dL/dh = 6.5;     dL/da[1] = 0.75
#   t = 1: dL/dv = 3.25:             dL/ds = 2 + 0.75 - 3.25 * 1.25 = -1.3125;     dL/dh = 1.9375;  dL/da[0] = 1.03125
#   t = 0: dL/dv = 0.96875:          dL/ds = 1 + 1.03125 - 0.96875 = 1.0625;       dL/dh = 1.0625
#   dL/dbeta = sum dL/dA a[t-1] = 1.3125 - 6.5 * 0.5;  dL/ddecay_adapt = sum dL/da a[t-1] = 0.75 + 8 * 0.5
#   dL/ddecay = 6.5 * 1.25;  dL/dthreshold = sum dL/dA
HARD = {
    "inputs": {
        "x": [1.0, 1.25, 0.75],
        "v": 0.0,
        "a": 0.0,
        "decay": 0.5,
        "v_threshold": 1.0,
        "beta": 0.5,
        "decay_adapt": 0.5,
    },
    "options": {"decay_input": False},
    "outputs": [[1, 0, 1], 0.0, 1.25],
    "gradients": {
        "x": [1.0625, 1.9375, 6.5],
        "v": 0.53125,
        "a": -0.015625,
        "decay": 8.125,
        "v_threshold": -6.25,
        "beta": -1.9375,
        "decay_adapt": 4.75,
    },
}
# No gradient through the reset of the membrane; the gradient into the adaptation stays:
#   dL/ds = 4 + 8;  2 - 2;  1 - 1;   dL/da = 8, -2, -1;   dL/dv = 4, 6, 3;   dL/dh = 12, 6, 0
DETACHED = {
    "inputs": HARD["inputs"],
    "options": {"decay_input": False, "detach_reset": True},
    "outputs": HARD["outputs"],
    "gradients": {
        "x": [0.0, 6.0, 12.0],
        "v": 0.0,
        "a": -0.5,
        "decay": 15.0,
        "v_threshold": -12.0,
        "beta": -6.0,
        "decay_adapt": 2.0,
    },
}
# Soft reset, by the threshold 1 and not by A; from a = 1: h = 1.5, 1, 1.5;  A = 1.5 (met), 1.75, 1.375 (fires)
#   v = 0.5, 1, 0.5;  a = 1.5, 0.75, 1.375;  dL/ds = its weight + dL/da - dL/dv, dL/dh = dL/dv + dL/ds
#   t = 2: dL/dv = 4, dL/da = 8: dL/ds = 8, dL/dh = 12;  t = 1: 6, 0: -4, 2;  t = 0: 1, 2: 2, 3
#   dL/dthreshold = -sum dL/ds - sum dL/dv s = -6 - 5
SOFT = {
    "inputs": {**HARD["inputs"], "x": [1.5, 0.75, 1.0], "a": 1.0},
    "options": {"decay_input": False, "v_reset": None},
    "outputs": [[1, 0, 1], 0.5, 1.375],
    "gradients": {
        "x": [3.0, 2.0, 12.0],
        "v": 1.5,
        "a": 0.0,
        "decay": 13.0,
        "v_threshold": -11.0,
        "beta": -2.0,
        "decay_adapt": 8.0,
    },
}


def written(n, x, v, a):
    s, v = n.fire(n.rest + n.decay * (v - n.rest) + n.gain * x, n.beta * a)
    return s, v, (1 - 1 / n.tau_adapt) * a + s


ALIF = Op(
    name="alif",
    kernel="alif",
    signature=(
        "x, v=None, a=None, *, tau=None, decay=None, beta=0.2, tau_adapt=None, decay_adapt=None, "
        "decay_input=True, v_threshold=1.0, v_reset=0.0, v_rest=None, "
        "strict=False, refractory=0, r=None, max_spikes=1, surrogate='atan', "
        "detach_reset=False, return_state=True, return_v_seq=False"
    ),
    states=("v", "a"),
    decays=("decay", "decay_adapt"),
    params=("v_threshold", "v_reset", "v_rest", "beta"),
    voltages=("v", "v_threshold", "v_reset", "v_rest", "beta"),
    steady={"beta": 0.0},
    variants={"plain": {}, **LEAKY, **FIRING, **LEAKY_FIRING, **ADAPTIVE, **REFRACTORY},
    written=written,
    written_for=[{"tau": 2.7, "tau_adapt": 6.3, "beta": beta} for beta in (0.2, 1.3)],
    worked={"hard": HARD, "detached": DETACHED, "soft": SOFT},
)
NEURONS = (ALIF,)


@given(runs(ALIF, wide_dtypes))
def test_without_beta_it_is_lif(arguments):
    for name in ("decay_adapt", "tau_adapt", "a"):
        arguments.pop(name, None)
    spikes, v, _, v_seq = ops.alif(**arguments | {"beta": 0.0})
    arguments.pop("beta", None)
    assert_equal([spikes, v, v_seq], list(ops.lif(**arguments)))


@given(runs(ALIF, wide_dtypes))
def test_adaptation_without_leak_counts_the_spikes(arguments):
    arguments.pop("tau_adapt", None)
    spikes, _, a, _ = ops.alif(**arguments | {"decay_adapt": 1.0, "a": None})
    assert_equal(a, spikes.sum(0, dtype=a.dtype))


@given(st.floats(1.5, 20), st.floats(0.1, 1.0))
def test_a_constant_drive_fires_ever_more_slowly(drive, beta):
    """Each spike raises the threshold, which no spike lowers: the intervals never shrink."""
    x = torch.full((200, 1), drive, dtype=torch.float64)
    spikes, _, _ = ops.alif(x, tau=5.0, beta=beta, decay_adapt=1.0)
    intervals = spikes[:, 0].nonzero()[:, 0].diff()
    assert (intervals.diff() >= 0).all()


def test_soft_reset_takes_off_the_threshold_of_rest(backend):
    """The soft reset subtracts ``v_threshold``, not ``v_threshold + beta a``, as in Bellec et al. 2020."""
    x, a = torch.tensor([3.0], device=backend.device), torch.tensor(2.0, device=backend.device)
    spikes, v, a = ops.alif(x, None, a, decay_input=False, beta=0.5, v_reset=None, decay_adapt=0.5)
    assert (spikes.item(), v.item(), a.item()) == (1, 2.0, 2.0)
