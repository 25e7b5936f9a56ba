"""``normlif``: the shared tests of ``tests/neurons``, and tests of this neuron alone."""

import pytest
import torch
from hypothesis import given, settings
from neurons import *  # noqa: F403
from neurons.properties import runs, wide_dtypes
from samples import Op, Values, assert_equal, assert_gradients_close, gradients
from variants import FIRING, LEAKY, LEAKY_FIRING

from snnfast import ops

# Numbers for the neuron and tensors for its input run in the kernel for numbers.
NORMALISED = {
    "scale": {"scale": 0.7, "shift": 0.2},
    "scale_negative": {"scale": -1.5, "shift": 1.0},
    "scale_each": {"scale": Values(-0.5, 2.0), "v_reset": None},
    "shift_each": {"shift": Values(-0.5, 0.5), "decay_input": False},
    "channel": {"scale": Values(-0.5, 2.0, "channel"), "shift": Values(-0.5, 0.5, "channel")},
    "channel_v_seq": {
        "scale": Values(0.5, 2.0, "channel"),
        "shift": Values(-0.5, 0.5, "last"),
        "surrogate": "sigmoid",
        "return_v_seq": True,
        "v_rest": -0.2,
    },
    "scale_scalar": {"scale": Values(0.5, 2.0, "scalar"), "shift": Values(0.0, 0.5, "ends")},
    "detach_channel": {
        "scale": Values(0.5, 2.0, "channel"),
        "shift": Values(-0.5, 0.5, "channel"),
        "detach_reset": True,
        "v_reset": None,
        "strict": True,
    },
    "normalised_tensors": {
        "scale": Values(0.5, 2.0, "channel"),
        "shift": Values(-0.5, 0.5),
        "decay": Values(0.1, 0.9),
        "v_threshold": Values(0.5, 1.5, "channel"),
    },
    "return_state": {"return_state": False},
}
# The inputs 2 x - 1/2 are those of the run HARD of tests/ops/test_lif.py, and so is dL/dy = 0.7578125, -1.9375, 7
#   dL/dx = 2 dL/dy;  dL/dscale = sum dL/dy x = -1.1796875 * 0.625 + 7 * 0.375;  dL/dshift = sum dL/dy
HARD = {
    "inputs": {"x": [0.625, 0.625, 0.375], "v": 0.0, "scale": 2.0, "shift": -0.5, "decay": 0.5, "v_threshold": 1.0},
    "options": {"decay_input": False},
    "outputs": [[0, 1, 0], 0.25],
    "gradients": {
        "x": [1.515625, -3.875, 14.0],
        "v": 0.37890625,
        "scale": 1.8876953125,
        "shift": 5.8203125,
        "decay": -1.453125,
        "v_threshold": -2.7890625,
    },
}
# Twice the input at gain 1/2, so half of dL/dy; dL/ddecay loses sum dL/dh[t] y[t].
SCALED = {
    "inputs": {**HARD["inputs"], "x": [1.0, 1.0, 0.5]},
    "options": {},
    "outputs": HARD["outputs"],
    "gradients": {
        **HARD["gradients"],
        "x": [0.7578125, -1.9375, 7.0],
        "scale": 0.37890625 - 0.96875 + 1.75,
        "shift": 2.91015625,
        "decay": -3.18359375,
    },
}
# Numbers for the neuron: the input 1 - x is that of the run SOFT of tests/ops/test_lif.py, dL/dy = 1, 2, 4.
SOFT = {
    "inputs": {"x": [0.25, 0.25, 0.75], "scale": -1.0, "shift": 1.0},
    "options": {"decay": 0.5, "decay_input": False, "v_reset": None},
    "outputs": [[0, 1, 0], 0.3125],
    "gradients": {"x": [-1.0, -2.0, -4.0], "scale": 0.25 + 0.5 + 3.0, "shift": 7.0},
}


def written(n, x, v):
    return n.fire(n.rest + n.decay * (v - n.rest) + n.gain * (n.scale * x + n.shift))


NORMLIF = Op(
    name="normlif",
    kernel="normlif",
    signature=(
        "x, v=None, *, tau=None, decay=None, scale=1.0, shift=0.0, decay_input=True, v_threshold=1.0, "
        "v_reset=0.0, v_rest=None, strict=False, surrogate='atan', detach_reset=False, "
        "return_state=True, return_v_seq=False"
    ),
    states=("v",),
    decays=("decay",),
    params=("v_threshold", "v_reset", "v_rest", "scale", "shift"),
    voltages=("v", "v_threshold", "v_reset", "v_rest", "shift"),
    variants={"plain": {}, **LEAKY, **FIRING, **LEAKY_FIRING, **NORMALISED},
    written=written,
    written_for=[{"tau": 2.7, "scale": 1.3, "shift": -0.2}],
    worked={"hard": HARD, "scaled": SCALED, "soft": SOFT},
)
NEURONS = (NORMLIF,)


@settings(max_examples=60)
@given(runs(NORMLIF, wide_dtypes))
def test_it_is_lif_of_the_scaled_and_shifted_input(arguments):
    """Outputs and gradients equal, bit for bit, those of scaling, shifting and ``lif`` in turn."""
    scale, shift = (arguments.pop(name, value) for name, value in (("scale", 1.0), ("shift", 0.0)))
    scaled = {**arguments, "scale": scale, "shift": shift}

    def apart(x, scale, shift, **rest):
        return ops.lif(scale * x + shift, **rest)

    assert_equal(list(ops.normlif(**scaled)), list(apart(**scaled)))
    if arguments["x"].numel():
        tolerance = 1e-11 if arguments["x"].dtype == torch.float64 else 1e-4
        assert_gradients_close(gradients(ops.normlif, scaled), gradients(apart, scaled), tolerance)


@pytest.mark.parametrize("shape", [(4, 2, 3, 10, 13), (3, 2, 7, 9, 31), (2, 5, 300)])
@pytest.mark.parametrize("last", [False, True])
def test_numbers_and_tensors_for_the_neuron_give_the_same(kernels, shape, last):
    """Both equal the reference. With numbers only scale and shift are read for each neuron, over many blocks."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if last and x.dim() == 5:
        x = x.flatten(0, 1).contiguous(memory_format=torch.channels_last).view(shape)
    scale, shift = torch.linspace(-1, 2, 2 * shape[2]).double().view(2, -1, *(1,) * (x.dim() - 3))
    arguments = {"x": x, "scale": scale, "shift": shift}
    arguments = {name: value.to(kernels.device) for name, value in arguments.items()}
    tensor = torch.ones((), dtype=torch.float64, device=kernels.device)
    numbers, tensors = {"v_threshold": 0.75}, {"v_threshold": 0.75 * tensor}
    expected = NORMLIF.reference(**arguments, **numbers, return_v_seq=True)
    assert_equal(NORMLIF(**arguments, **numbers, return_v_seq=True), expected)
    assert_equal(NORMLIF(**arguments, **tensors, return_v_seq=True), expected)
    got = gradients(lambda **a: NORMLIF(**a, **numbers), arguments)
    want = gradients(lambda **a: NORMLIF(**a, **tensors), arguments)
    assert_gradients_close(got, want)
