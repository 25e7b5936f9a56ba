"""``izhikevich``: the shared tests of ``tests/neurons``, and tests of this neuron alone."""

import torch
from neurons import *  # noqa: F403
from samples import Op, Sample, Values, assert_equal
from variants import HARD_FIRING, LEAKY

from snnfast import ops

# With a soft reset a membrane far above the critical voltage grows without bound: parameters are gentle there.
VARIANTS = {
    "adapting": {"a": 0.4, "b": 0.3, "tau_w": 4.0},
    "a0_each": {"a0": Values(0.0, 1.0), "v_c": Values(0.4, 1.2)},
    "a_each": {"a": Values(-0.2, 0.5), "decay_input": False},
    "b_each": {"b": Values(0.0, 0.5)},
    "detached": {"b": 0.2, "detach_reset": True},
    "decay_w_0": {"decay_w": 0.0},
    "decay_w_1": {"decay_w": 1.0},
    "decay_w_each": {"decay_w": Values(0.0, 1.0), "a": Values(0.0, 0.5, "channel"), "b": Values(0.0, 0.5, "last")},
    "soft": {"v_reset": None, "a0": 0.02, "b": 0.3},
    "all_tensors": {
        "decay": Values(0.3, 0.9),
        "a0": Values(0.0, 0.3),
        "v_c": Values(0.5, 1.0, "channel"),
        "v_threshold": Values(0.5, 1.5),
        "v_reset": Values(-0.3, 0.1, "last"),
        "v_rest": Values(-0.2, 0.1),
        "decay_w": Values(0.3, 0.9),
        "a": Values(0.0, 0.4),
        "b": Values(0.0, 0.4),
        "return_v_seq": True,
    },
    "return_state": {"return_state": False},
}
# The membrane of test_qif.py with x - w for x; decay_w = 1/2, a = 1, b = 1/2: w' = w/2 + h/2 + s/2
#   h = 1 (met exactly: fires), 0.5, 1.25;  v = 0, 0.5, 0;  w = 1, 0.75, 1.5
# Backwards: dL/ds = its weight + dL/dw / 2 - dL/dv h, dL/dh = dL/dv (1 - s) + dL/dw / 2 + dL/ds,
# dL/dw[t-1] = dL/dw / 2 - dL/dh, dL/dv[t-1] = dL/dh (1/2 + v/2)
#   t = 2: dL/dv = 4, dL/dw = 8:            dL/ds = 4 + 4 - 5 = 3;                 dL/dh = 7
#   t = 1: dL/dv = 5.25, dL/dw = -3:        dL/ds = 2 - 1.5 - 2.625 = -2.125;      dL/dh = 1.625
#   t = 0: dL/dv = 0.8125, dL/dw = -3.125:  dL/ds = 1 - 1.5625 - 0.8125 = -1.375;  dL/dh = -2.9375
#   dL/da = sum dL/dw h / 2;  dL/db = sum dL/dw s;  dL/ddecay_w = sum dL/dw (w[t-1] - h);  p = 0, 0, -0.75
HARD = {
    "inputs": {
        "x": [1.0, 1.5, 1.6875],
        "v": 0.0,
        "w": 0.0,
        "decay": 0.5,
        "v_threshold": 1.0,
        "a0": 0.5,
        "v_c": 2.0,
        "decay_w": 0.5,
        "a": 1.0,
        "b": 0.5,
    },
    "options": {"decay_input": False},
    "outputs": [[1, 0, 1], 0.0, 1.5],
    "gradients": {
        "x": [-2.9375, 1.625, 7.0],
        "v": -1.46875,
        "w": 1.375,
        "decay": 2.625,
        "v_threshold": 0.5,
        "a0": -2.625,
        "v_c": -0.875,
        "decay_w": -2.375,
        "a": 2.6875,
        "b": 4.875,
    },
}


def written(n, x, v, w):
    h = v + n.rate * (n.a0 * ((v - n.rest) * (v - n.v_c))) + n.gain * (x - w)
    s, v = n.fire(h)
    return s, v, (1 - 1 / n.tau_w) * w + 1 / n.tau_w * (n.a * (h - n.rest)) + n.b * s


IZHIKEVICH = Op(
    name="izhikevich",
    kernel="izhikevich",
    signature=(
        "x, v=None, w=None, *, tau=None, decay=None, a0=1.0, v_c=0.8, tau_w=None, decay_w=None, a=0.1, b=0.1, "
        "decay_input=True, v_threshold=1.0, v_reset=0.0, v_rest=None, "
        "strict=False, surrogate='atan', detach_reset=False, return_state=True, return_v_seq=False"
    ),
    states=("v", "w"),
    decays=("decay", "decay_w"),
    params=("v_threshold", "v_reset", "v_rest", "a0", "v_c", "a", "b"),
    voltages=("v", "w", "v_threshold", "v_reset", "v_rest", "v_c", "b"),
    inverse=("a0",),
    refused={"a0": (-1.0, "must be at least 0, got -1")},
    ranges={
        "a0": (0.0, 0.3),
        "v_c": (0.2, 1.5),
        "v_threshold": (0.2, 2.0),
        "v_reset": (-1.0, 0.2),
        "v_rest": (-0.5, 0.5),
        "a": (-0.2, 0.5),
        "b": (0.0, 0.5),
    },
    steady={"a0": 0.0, "a": 0.0, "b": 0.0},
    runs_away=True,
    variants={"plain": {}, **LEAKY, **HARD_FIRING, **VARIANTS},
    written=written,
    written_for=[{"tau": 2.7, "a0": 0.2, "v_c": 0.7, "tau_w": 3.1, "a": 0.3, "b": 0.2}],
    worked={"hard": HARD},
)
NEURONS = (IZHIKEVICH,)


def test_without_a_and_b_it_is_qif(backend):
    x = Sample(IZHIKEVICH, "plain", (40, 5), torch.float64).arguments(backend.device)["x"]
    spikes, v, w = ops.izhikevich(x, tau=3.0, a=0.0, b=0.0)
    assert_equal([spikes, v], list(ops.qif(x, tau=3.0)))
    assert not w.any()
