"""exp, log, sin, cos, sigmoid and tanh from arithmetic: accuracy, gradients, special values."""

import math

import pytest
import torch

from snnfast.reference import functions

RANGES = {"exp": 20.0, "log": 3.0, "sin": 100.0, "cos": 100.0, "sigmoid": 8.0, "tanh": 2.0}


def arguments(name: str, dtype: torch.dtype) -> torch.Tensor:
    x = RANGES[name] * torch.randn(4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (x.abs() + 1e-3 if name == "log" else x).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", RANGES)
def test_within_four_units_in_the_last_place_of_pytorch(name, dtype):
    x = arguments(name, dtype)
    expected = getattr(torch, name)(x.double())
    error = (getattr(functions, name)(x).double() - expected).abs()
    assert (error <= 4 * torch.finfo(dtype).eps * expected.abs() + torch.finfo(dtype).tiny).all()


@pytest.mark.parametrize("name", RANGES)
def test_gradients_are_those_of_pytorch(name):
    x = arguments(name, torch.float64).requires_grad_()
    grad = torch.randn(len(x), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (got,) = torch.autograd.grad(getattr(functions, name)(x), x, grad)
    (expected,) = torch.autograd.grad(getattr(torch, name)(x), x, grad)
    torch.testing.assert_close(got, expected, rtol=1e-13, atol=1e-15)


def test_special_values():
    x = torch.tensor([0.0, -1.0, math.inf, math.nan, 1e-40, 1.0])
    torch.testing.assert_close(functions.log(x), torch.log(x), equal_nan=True)
    x = torch.tensor([-math.inf, -200.0, 200.0, math.inf, math.nan])
    assert functions.sigmoid(x)[[0, 3]].tolist() == [pytest.approx(0, abs=1e-37), 1]
    assert functions.tanh(x).tolist()[:4] == [-1, -1, 1, 1]
    assert functions.exp(x)[[1, 2]].tolist() == [pytest.approx(math.exp(-87)), pytest.approx(math.exp(87), rel=1e-6)]
    for name in ("exp", "sigmoid", "tanh", "sin", "cos"):
        assert getattr(functions, name)(x)[-1].isnan()
