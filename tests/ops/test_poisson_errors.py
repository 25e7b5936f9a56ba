"""Errors of ``poisson`` and its kernels."""

import math

import pytest
import torch
from backends import PRESENT, force
from cases import in_one_test

from snnfast import ops


@pytest.mark.parametrize("name", [n for n in (*PRESENT, "reference") if n != "cuda"])
@in_one_test(
    ("change", "error", "message"),
    [
        ({"p": [0.5]}, TypeError, "p must be a tensor, got list"),
        (
            {"p": torch.ones(3, dtype=torch.int64)},
            TypeError,
            "p must have one of the dtypes float32, float64, bfloat16, float16, got torch.int64",
        ),
        ({"p": torch.tensor([-0.25, 0.5])}, ValueError, "p must lie in [0, 1], got values from -0.25 to 0.5"),
        ({"p": torch.tensor([0.5, 1.25])}, ValueError, "p must lie in [0, 1], got values from 0.5 to 1.25"),
        ({"p": torch.tensor([0.5, math.nan])}, ValueError, "p must lie in [0, 1], got values from nan to nan"),
        ({"p": torch.tensor([math.inf])}, ValueError, "p must lie in [0, 1], got values from inf to inf"),
        (  # also without steps, where there would be no spikes
            {"p": torch.zeros(1).expand(2**62 + 2**18), "num_steps": 0},
            ValueError,
            f"p is too large: a tensor of shape [{2**62 + 2**18}] has more than 2**56 elements",
        ),
        ({"num_steps": -1}, ValueError, "num_steps must be at least 0, got -1"),
        ({"num_steps": 2.0}, TypeError, "num_steps must be an integer, got float"),
        ({"num_steps": True}, TypeError, "num_steps must be an integer, got bool"),
        ({"seed": 2**64}, ValueError, f"seed must lie in [-2**63, 2**64), got {2**64}"),
        ({"seed": -(2**63) - 1}, ValueError, f"seed must lie in [-2**63, 2**64), got {-(2**63) - 1}"),
        ({"seed": 1.0}, TypeError, "seed must be an integer or a tensor of one, got float"),
        ({"seed": False}, TypeError, "seed must be an integer or a tensor of one, got bool"),
        ({"seed": torch.tensor([1.0])}, TypeError, "seed must have dtype int64, got torch.float32"),
        ({"seed": torch.tensor([1, 2])}, ValueError, "seed must have one value, got shape [2]"),
        (
            {"seed": torch.zeros(1, dtype=torch.int64, device="meta")},
            ValueError,
            "seed must be on the device of p, cpu, got meta",
        ),
        ({"generator": "a"}, TypeError, "generator must be a torch.Generator or None, got str"),
        ({"seed": 1, "generator": torch.Generator()}, ValueError, "give generator or seed, not both"),
        (
            {"dtype": torch.int64},
            TypeError,
            "dtype must be one of bool, uint8, float32, float64, bfloat16, float16, got torch.int64",
        ),
    ],
)
def test_errors(name, change, error, message):
    arguments = {"p": torch.tensor([0.5]), "num_steps": 3, **change}
    with force(name), pytest.raises(error) as caught:
        ops.poisson(**arguments)
    assert str(caught.value) == f"poisson: {message}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.ones(2).double(), torch.zeros(1).long(), 2), "p must be float32, got float64"),
        ((torch.ones(2), torch.zeros(1), 2), "seed must be int64, got float32"),
        ((torch.ones(2), torch.zeros(2).long(), 2), "seed must be one value, got shape [2]"),
        ((torch.ones(2), torch.zeros(1).long(), -1), "num_steps must be at least 0, got -1"),
        ((torch.ones(2), torch.zeros(1).long(), 2, torch.int64), "bfloat16 or float16, got int64"),
    ],
)
def test_the_op_itself_is_safe(kernels, arguments, message):
    *tensors, steps = arguments[:3]
    dtype = arguments[3] if len(arguments) > 3 else torch.float32
    with pytest.raises(RuntimeError, match="poisson: ") as caught:
        kernels.ops.poisson(*(t.to(kernels.device) for t in tensors), steps, dtype)
    assert message in str(caught.value)


@pytest.mark.parametrize(("shape", "num_steps"), [((1,), 2**62 + 2**18), ((2**20,), 2**43)])
def test_sizes_whose_product_overflows_get_an_error(kernels, shape, num_steps):
    p = torch.zeros(1, device=kernels.device).expand(shape)
    size = f"a tensor of shape [{num_steps}, {shape[0]}]"
    with pytest.raises(ValueError, match="poisson: num_steps is too large: ") as caught:
        ops.poisson(p, num_steps, seed=1)
    assert size in str(caught.value)
    with pytest.raises(RuntimeError, match=r"^poisson: ") as caught:
        kernels.ops.poisson(p, torch.zeros(1).long().to(p.device), num_steps, torch.float32)
    assert f"{size} is too large" in str(caught.value)
