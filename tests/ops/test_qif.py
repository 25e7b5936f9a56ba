"""``qif``: the shared tests of ``tests/neurons``, and tests of this neuron alone."""

import torch
from neurons import *  # noqa: F403
from samples import Op, Values
from variants import HARD_FIRING, LEAKY

from snnfast import ops

# With a soft reset a membrane far above the critical voltage grows without bound: parameters are gentle there.
VARIANTS = {
    "a0": {"a0": 0.3},
    "a0_each": {"a0": Values(0.0, 1.0)},
    "v_c_each": {"v_c": Values(0.4, 1.2), "decay_input": False},
    "v_c_channel": {"v_c": Values(0.4, 1.2, "channel"), "a0": Values(0.1, 0.6, "last")},
    "soft": {"v_reset": None, "a0": 0.02},
    "all_tensors": {
        "decay": Values(0.3, 0.9),
        "a0": Values(0.0, 0.3),
        "v_c": Values(0.5, 1.0, "channel"),
        "v_threshold": Values(0.5, 1.5),
        "v_reset": Values(-0.3, 0.1, "last"),
        "v_rest": Values(-0.2, 0.1),
        "return_v_seq": True,
    },
    "return_state": {"return_state": False},
}
# Decay 1/2, a0 = 1/2, v_c = 2, hard reset to the rest at 0: h = v + v (v - 2) / 4 + x, dh/dv = 1/2 + v/2
#   h = 0.5, 1 (met exactly: fires), 0.25;  v = 0.5, 0, 0.25
#   t = 2: dL/dv = 4:       dL/ds = 4 - 4 * 0.25 = 3;             dL/dh = 7;       dL/dv[1] = 7 * 0.5
#   t = 1: dL/dv = 3.5:     dL/ds = 2 - 3.5;                      dL/dh = -1.5;    dL/dv[0] = -1.5 * 0.75
#   t = 0: dL/dv = -1.125:  dL/ds = 1 + 1.125 * 0.5 = 1.5625;     dL/dh = 0.4375;  0.4375 * 0.5
#   with p = v (v - 2) = 0, -0.75, 0 before the steps: dL/ddecay = -sum dL/dh p / 2, dL/da0 = sum dL/dh p / 2,
#   dL/dv_c = -sum dL/dh v / 4
HARD = {
    "inputs": {"x": [0.5, 0.6875, 0.25], "v": 0.0, "decay": 0.5, "v_threshold": 1.0, "a0": 0.5, "v_c": 2.0},
    "options": {"decay_input": False},
    "outputs": [[0, 1, 0], 0.25],
    "gradients": {
        "x": [0.4375, -1.5, 7.0],
        "v": 0.21875,
        "decay": -0.5625,
        "v_threshold": -3.0625,
        "a0": 0.5625,
        "v_c": 0.1875,
    },
}


def written(n, x, v):
    return n.fire(v + n.rate * (n.a0 * ((v - n.rest) * (v - n.v_c))) + n.gain * x)


QIF = Op(
    name="qif",
    kernel="qif",
    signature=(
        "x, v=None, *, tau=None, decay=None, a0=1.0, v_c=0.8, "
        "decay_input=True, v_threshold=1.0, v_reset=0.0, v_rest=None, "
        "strict=False, surrogate='atan', detach_reset=False, return_state=True, return_v_seq=False"
    ),
    states=("v",),
    decays=("decay",),
    params=("v_threshold", "v_reset", "v_rest", "a0", "v_c"),
    voltages=("v", "v_threshold", "v_reset", "v_rest", "v_c"),
    inverse=("a0",),
    refused={"a0": (-1.0, "must be at least 0, got -1")},
    ranges={
        "a0": (0.0, 0.3),
        "v_c": (0.2, 1.5),
        "v_threshold": (0.2, 2.0),
        "v_reset": (-1.0, 0.2),
        "v_rest": (-0.5, 0.5),
    },
    steady={"a0": 0.0},
    runs_away=True,
    variants={"plain": {}, **LEAKY, **HARD_FIRING, **VARIANTS},
    written=written,
    written_for=[{"tau": 2.7, "a0": 0.2, "v_c": 0.7}],
    worked={"hard": HARD},
)
NEURONS = (QIF,)


def test_the_membrane_returns_below_the_critical_voltage_and_runs_away_above_it(backend):
    x = torch.zeros(60, 2, device=backend.device)
    v = torch.tensor([0.79, 0.81], device=backend.device)
    spikes, last = ops.qif(x, v, tau=5.0, v_threshold=1e3)
    assert spikes.sum(0).tolist() == [0, 1]
    assert abs(last[0].item()) < 0.05
