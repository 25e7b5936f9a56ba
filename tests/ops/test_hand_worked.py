"""Short runs worked by hand: outputs and gradients, exact in binary.

All with ``ds/dh = 1`` (straight through), decay 1/2 and threshold 1. The losses weigh the spikes of the three steps by
1, 2 and 4, the last membrane by 4 and the last current by 8.
"""

import pytest
import torch
from samples import OPS

# Hard reset, h = v/2 + x:
#   h = 0.75, 1.125 (fires), 0.25                                   v = 0.75, 0, 0.25
#   dv/dh = (1 - s) + (v_reset - h): 0.25, -1.125, 0.75
#   dL/dh = 7 = 4 + 4 * 0.75;  -1.9375 = 2 - 1.125 * 7/2;  0.7578125 = 1 + 0.25 * -1.9375/2
#   dL/ddecay = sum dL/dh[t] v[t-1] = -1.9375 * 0.75
#   dL/dthreshold = -sum dL/ds, dL/ds = 4 - 4 * 0.25, 2 - 3.5 * 1.125, 1 + 0.96875 * 0.75
HARD = {
    "inputs": {"x": [0.75, 0.75, 0.25], "v": 0.0, "decay": 0.5, "v_threshold": 1.0},
    "options": {"decay_input": False},
    "outputs": [[0, 1, 0], 0.25],
    "gradients": {
        "x": [0.7578125, -1.9375, 7.0],
        "v": 0.37890625,
        "decay": -1.453125,
        "v_threshold": -2.7890625,
    },
}
# The same h from twice the input at gain 1/2; dL/ddecay loses sum dL/dh[t] x[t] = 1.73046875.
SCALED = {
    "inputs": {**HARD["inputs"], "x": [1.5, 1.5, 0.5]},
    "options": {},
    "outputs": HARD["outputs"],
    "gradients": {
        **HARD["gradients"],
        "x": [0.37890625, -0.96875, 3.5],
        "decay": -3.18359375,
    },
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
# i = 1, 0.5, 0.25;  h = 1 (fires), 0.5, 0.5;  v = 0, 0.5, 0.5;  dv/dh = -1, 0.5, 0.5
#   dL/dh = 4 + 2 = 6;  2 + 3 * 0.5 = 3.5;  1 - 1.75 = -0.75
#   dL/di = 8 + 6 = 14;  7 + 3.5 = 10.5;  5.25 - 0.75 = 4.5
#   dL/ddecay = 6 * 0.5;  dL/ddecay_syn = 14 * 0.5 + 10.5 * 1;  dL/ds = 4 - 2, 2 - 1.5, 1 - 1.75
CURRENT = {
    "inputs": {
        "x": [1.0, 0.0, 0.0],
        "v": 0.0,
        "i": 0.0,
        "decay": 0.5,
        "decay_syn": 0.5,
        "v_threshold": 1.0,
    },
    "options": {"decay_input": False},
    "outputs": [[1, 0, 0], 0.5, 0.25],
    "gradients": {
        "x": [4.5, 10.5, 14.0],
        "v": -0.375,
        "i": 2.25,
        "decay": 3.0,
        "decay_syn": 17.5,
        "v_threshold": -1.75,
    },
}
CASES = [
    ("lif", "hard", HARD),
    ("lif", "scaled", SCALED),
    ("lif", "detached", DETACHED),
    ("lif", "soft", SOFT),
    ("lif", "resting", RESTING),
    ("iaf", "exactly_at_threshold", INTEGRATED),
    ("li", "readout", READOUT),
    ("cuba", "current", CURRENT),
]


@pytest.mark.parametrize(("name", "case"), [(n, c) for n, _, c in CASES], ids=[c[1] for c in CASES])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_outputs_and_gradients_are_those_worked_by_hand(backend, name, case, dtype):
    op = OPS[name]

    def tensor(value):
        return torch.tensor(value, dtype=dtype, device=backend.device)

    inputs = {k: tensor(v).requires_grad_() for k, v in case["inputs"].items()}
    surrogate = {"surrogate": "straight_through"} if op.fires else {}
    outputs = op(**inputs, **case["options"], **surrogate)
    assert [out.tolist() for out in outputs] == case["outputs"]
    weights = [tensor([1.0, 2.0, 4.0]), tensor(4.0), tensor(8.0)]
    loss = sum((w * out).sum() for w, out in zip(weights, outputs, strict=False))
    grads = torch.autograd.grad(loss, list(inputs.values()))
    got = {k: g.tolist() for k, g in zip(inputs, grads, strict=True)}
    assert got == case["gradients"]


def test_every_op_has_a_case_worked_by_hand():
    assert {name for name, _, _ in CASES} == set(OPS)
