"""``adlif``: the shared tests of ``tests/neurons``, and tests of this neuron alone."""

import math

import pytest
import torch
from hypothesis import given
from neurons import *  # noqa: F403
from neurons.properties import runs, wide_dtypes
from samples import Op, Values, assert_equal
from variants import FIRING, LEAKY, LEAKY_FIRING, REFRACTORY

from snnfast import ops

BITTAR = {"form": "bittar2022"}
ADAPTIVE = {
    "adapting": {"a": 0.02, "b": 0.05},
    "slow": {"tau": 10.0, "a": 0.5, "b": 1.0, "decay_input": False},
    "a_each": {"a": Values(-0.02, 0.02)},
    "b_each": {"b": Values(0.0, 0.1), "v_reset": None},
    "q": {"q": 7.5, "a": 0.2, "b": 0.3},
    "tau_w": {"tau_w": 3.0, "a": 0.01, "b": 0.02},
    "decay_w_0": {"decay_w": 0.0, "a": 0.002, "b": 0.01},
    "decay_w_1": {"decay_w": 1.0},
    "decay_w_each": {"decay_w": Values(0.5, 1.0), "a": 0.01, "b": 0.02},
    "bittar": BITTAR | {"v_reset": None, "a": 0.1, "b": 0.5},
    "bittar_hard": BITTAR | {"a": -0.1, "b": 0.5, "tau_w": 5.0, "return_v_seq": True},
    "bittar_each": BITTAR
    | {"a": Values(-0.3, 0.3), "b": Values(0.0, 1.0), "decay_w": Values(0.5, 1.0), "v_reset": None},
    "bittar_channel": BITTAR | {"a": Values(-0.3, 0.3, "channel"), "b": 0.3, "decay_w": Values(0.5, 1.0, "last")},
    "bittar_rest": BITTAR | {"v_rest": Values(-0.3, 0.3), "a": 0.3, "decay": Values(0.1, 0.9)},
    "detached": {"detach_reset": True, "a": Values(0.0, 0.02), "b": Values(0.0, 0.1)},
    "return_state": {"return_state": False},
}
# Decays 1/2, threshold 1, a = 1/4, b = 1/2, q = 4 and so k = 2; hard reset. m is the membrane after the reset:
#   h = v/2 + x - w;  w' = w/2 + 2 (v'/4 + s/2)
#   h = 1 (met exactly: fires), 0.5, 1.25;  v = 0, 0.5, 0;  w = 1, 0.75, 1.375
# Backwards: D = 2 dL/dw is the gradient of a m + b s; dL/dv gets D/4, dL/ds = its weight + D/2 + dL/dv (v_reset - h),
# dL/dh = dL/dv (1 - s) + dL/ds; dL/dw[t-1] = dL/dw / 2 - dL/dh:
#   t = 2: dL/dw = 8, D = 16, dL/dv = 4 + 4:  dL/ds = 4 + 8 - 8 * 1.25 = 2;        dL/dh = 2;     dL/dw[1] = 4 - 2
#   t = 1: dL/dw = 2, D = 4, dL/dv = 1 + 1:   dL/ds = 2 + 2 - 2 * 0.5 = 3;         dL/dh = 5;     dL/dw[0] = 1 - 5
#   t = 0: dL/dw = -4, D = -8, dL/dv = 2.5-2: dL/ds = 1 - 4 - 0.5 = -3.5;          dL/dh = -3.5;  -2 + 3.5
#   dL/da = sum D m = 4 * 0.5;  dL/db = sum D s = 16 - 8;  dL/ddecay = 2 * 0.5;  dL/dthreshold = -sum dL/ds
#   dL/ddecay_w = sum dL/dw (w[t-1] - 4 (m/4 + s/2)) = 8 (0.75 - 2) + 2 (1 - 0.5) - 4 (0 - 2)
HARD = {
    "inputs": {
        "x": [1.0, 1.5, 1.75],
        "v": 0.0,
        "w": 0.0,
        "decay": 0.5,
        "v_threshold": 1.0,
        "decay_w": 0.5,
        "a": 0.25,
        "b": 0.5,
    },
    "options": {"decay_input": False, "q": 4.0},
    "outputs": [[1, 0, 1], 0.0, 1.375],
    "gradients": {
        "x": [-3.5, 5.0, 2.0],
        "v": -1.75,
        "w": 1.5,
        "decay": 1.0,
        "v_threshold": -1.5,
        "decay_w": -1.0,
        "a": 2.0,
        "b": 8.0,
    },
}
# No gradient through the reset; the gradients through b s, and through a m where m is h, stay:
#   t = 2: D = 16:            dL/ds = 4 + 8;              dL/dh = 12;  dL/dw[1] = 4 - 12
#   t = 1: D = -16, dL/dv = 6 - 4: dL/ds = 2 - 8;         dL/dh = -4;  dL/dw[0] = -4 + 4
#   t = 0: D = 0, dL/dv = -2: dL/ds = 1;                  dL/dh = 1;   -1
DETACHED = {
    "inputs": HARD["inputs"],
    "options": HARD["options"] | {"detach_reset": True},
    "outputs": HARD["outputs"],
    "gradients": {
        "x": [1.0, -4.0, 12.0],
        "v": 0.5,
        "w": -1.0,
        "decay": 6.0,
        "v_threshold": -7.0,
        "decay_w": -14.0,
        "a": -8.0,
        "b": 16.0,
    },
}
# Bittar and Garner, k = 1, m = h, soft reset:
#   h = 1.5, 0.5, 1.25;  v = 0.5, 0.5, 0.25;  w = 0.875, 0.5625, 1.09375
#   dL/ds = its weight + dL/dw / 2 - dL/dv, dL/dh = dL/dv + dL/dw / 4 + dL/ds, dL/dw[t-1] = dL/dw / 2 - dL/dh
#   t = 2: dL/dv = 4, dL/dw = 8:           dL/ds = 4;   dL/dh = 10
#   t = 1: dL/dv = 5, dL/dw = -6:          dL/ds = -6;  dL/dh = -2.5
#   t = 0: dL/dv = -1.25, dL/dw = -0.5:    dL/ds = 2;   dL/dh = 0.625
#   dL/dthreshold = -sum dL/ds - sum dL/dv s = 0 - (4 - 1.25);  dL/da = sum dL/dw h;  dL/db = sum dL/dw s
#   dL/ddecay = 10 * 0.5 - 2.5 * 0.5;  dL/ddecay_w = 8 * 0.5625 - 6 * 0.875
SOFT = {
    "inputs": HARD["inputs"] | {"x": [1.5, 1.125, 1.5625]},
    "options": {"decay_input": False, "v_reset": None, **BITTAR},
    "outputs": [[1, 0, 1], 0.25, 1.09375],
    "gradients": {
        "x": [0.625, -2.5, 10.0],
        "v": 0.3125,
        "w": -0.875,
        "decay": 3.75,
        "v_threshold": -2.75,
        "decay_w": -0.75,
        "a": 6.25,
        "b": 7.5,
    },
}


def written(n, x, v, w):
    h = n.rest + n.decay * (v - n.rest) + n.gain * (x - w)
    s, v = n.fire(h)
    m, k = (v, 1 / n.tau_w * n.q) if hasattr(n, "q") else (h, 1.0)
    return s, v, (1 - 1 / n.tau_w) * w + k * (n.a * (m - n.rest) + n.b * s)


ADLIF = Op(
    name="adlif",
    kernel="adlif",
    signature=(
        "x, v=None, w=None, *, tau=None, decay=None, tau_w=None, decay_w=None, a=0.5, b=1.0, form='baronig2025', "
        "q=120.0, decay_input=True, v_threshold=1.0, v_reset=0.0, v_rest=None, "
        "strict=False, refractory=0, r=None, max_spikes=1, surrogate='atan', "
        "detach_reset=False, return_state=True, return_v_seq=False"
    ),
    states=("v", "w"),
    decays=("decay", "decay_w"),
    params=("v_threshold", "v_reset", "v_rest", "a", "b"),
    voltages=("v", "w", "v_threshold", "v_reset", "v_rest", "b"),
    options={"form": ("baronig2025", "bittar2022"), "q": (0.0, 1.5)},
    steady={"a": 0.0, "b": 0.0},
    variants={"plain": {"a": 0.05, "b": 0.02}, **LEAKY, **FIRING, **LEAKY_FIRING, **ADAPTIVE, **REFRACTORY},
    written=written,
    written_for=[{"tau": 2.7, "tau_w": 6.3, "a": 0.3, "b": 0.4, **form} for form in (BITTAR, {"q": 3.0})],
    worked={"hard": HARD, "detached": DETACHED, "soft": SOFT},
)
NEURONS = (ADLIF,)


@given(runs(ADLIF, wide_dtypes))
def test_without_a_and_b_it_is_lif(arguments):
    for name in ("decay_w", "tau_w", "w"):
        arguments.pop(name, None)
    spikes, v, _, v_seq = ops.adlif(**arguments | {"a": 0.0, "b": 0.0})
    for name in ("a", "b", "q", "form"):
        arguments.pop(name, None)
    assert_equal([spikes, v, v_seq], list(ops.lif(**arguments)))


def test_forms_differ_in_the_membrane_of_a_spike(backend):
    """Bittar and Garner use the membrane before the reset, Baronig et al. the membrane after it."""
    x = torch.tensor([3.0], device=backend.device)
    options = {"decay_input": False, "decay_w": 0.5, "a": 1.0, "b": 0.25, "v_reset": -1.0, "v_rest": 0.0}
    assert [t.item() for t in ops.adlif(x, **options, q=2.0)] == [1, -1.0, -0.75]
    assert [t.item() for t in ops.adlif(x, **options, **BITTAR)] == [1, -1.0, 3.25]


def test_the_symplectic_form_oscillates_where_the_other_grows():
    """Baronig et al. 2025: without spikes, at large ``a q`` (same drive of ``w`` for both)."""
    x = torch.zeros(400, 1, dtype=torch.float64)
    x[0] = 0.5
    decay, decay_w, strength = math.exp(-1 / 25), math.exp(-1 / 60), 60.0
    options = {"decay": decay, "decay_w": decay_w, "b": 0.0, "v_threshold": 1e9, "return_v_seq": True}
    v_seq = ops.adlif(x, a=strength / 120, **options)[-1]
    assert v_seq[-50:].abs().max() < v_seq[:50].abs().max() / 100
    assert (v_seq[:100].sign().diff(dim=0) != 0).sum() > 4
    # The Euler form: w takes the membrane of the step before.
    late = torch.zeros(401, 1, dtype=torch.float64)
    v, w = torch.zeros(1).double(), torch.zeros(1).double()
    for t in range(400):
        late[t + 1] = decay * v + (1 - decay) * (x[t] - w)
        w = decay_w * w + (1 - decay_w) * strength * v
        v = late[t + 1]
    assert late[-50:].abs().max() > v_seq[-50:].abs().max() * 1000


@pytest.mark.parametrize("form", ["euler", None, 1, ""])
def test_other_forms_are_named(form):
    with pytest.raises(ValueError, match="adlif: form must be baronig2025 or bittar2022, got "):
        ops.adlif(torch.zeros(3, 2), form=form)


@pytest.mark.parametrize("q", [math.nan, math.inf])
def test_an_infinite_q_is_named(q):
    with pytest.raises(ValueError, match=f"adlif: q must be finite, got {q}"):
        ops.adlif(torch.zeros(3, 2), q=q)
    with pytest.raises(TypeError, match="adlif: q must be a number, got Tensor"):
        ops.adlif(torch.zeros(3, 2), q=torch.tensor(1.0))
