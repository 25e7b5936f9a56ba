"""exp, log, sin, cos, sigmoid and tanh from arithmetic: accuracy, gradients, special values."""

import decimal
import math

import pytest
import torch

from snnfast.reference import functions

RANGES = {"exp": 20.0, "log": 3.0, "sin": 100.0, "cos": 100.0, "sigmoid": 8.0, "tanh": 2.0}
D = decimal.Decimal
# By decimals of 60 digits:
EXACT = {
    "exp": lambda x: x.exp(),
    "log": lambda x: x.ln(),
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "tanh": lambda x: 1 - 2 / ((2 * x).exp() + 1),
}


def arguments(name: str, dtype: torch.dtype) -> torch.Tensor:
    x = RANGES[name] * torch.randn(4000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (x.abs() + 1e-3 if name == "log" else x).to(dtype)


def units(found: torch.Tensor, exact: torch.Tensor, error: torch.Tensor) -> torch.Tensor:
    """Return errors in units of the last place of the exact results, in the dtype of ``found``."""
    info = torch.finfo(found.dtype)
    last = torch.ldexp(torch.ones_like(exact), torch.frexp(exact)[1] - 1) * info.eps
    return error / last.clamp(min=info.smallest_normal * info.eps)


@pytest.mark.parametrize("name", RANGES)
def test_float32_is_within_the_units_that_are_stated(name):
    x = arguments(name, torch.float32)
    if name in ("exp", "sigmoid", "tanh"):  # results that are subnormal, or almost 1
        x = torch.cat([x, torch.linspace(-104, 88.7, 40_001), torch.linspace(-10, 10, 40_001), 1e-40 * x])
        x = x[x > -87] if name == "sigmoid" else x
    if name == "log":
        x = torch.cat([x, torch.linspace(0.4, 2.5, 40_001), 1e-40 * x, 1e38 * x[x < 3]])
    exact = getattr(torch, name)(x.double())
    found = getattr(functions, name)(x)
    assert units(found, exact, (found.double() - exact).abs()).max() < functions.UNITS[name]


@pytest.mark.parametrize("name", EXACT)
def test_float64_is_within_the_units_that_are_stated(name):
    x = arguments(name, torch.float64)[:1500]
    if name == "log":
        x = torch.cat([x, torch.linspace(0.4, 2.5, 801, dtype=torch.float64), 1e-310 * x[:300]])
    else:
        x = torch.cat([x, torch.linspace(-20, 20, 801, dtype=torch.float64), 30 * x[:300]])
        x = x[x.abs() < 700]
    found = getattr(functions, name)(x)
    with decimal.localcontext(prec=60):
        exact = [EXACT[name](D(value)) for value in x.tolist()]
        error = [float(abs(D(got) - value)) for got, value in zip(found.tolist(), exact)]
    exact, error = (torch.tensor([*map(float, values)], dtype=torch.float64) for values in (exact, error))
    assert units(found, exact, error).max() < functions.UNITS[name]


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_float64_is_within_the_units_of_pytorch(name):
    x = arguments(name, torch.float64)
    expected = getattr(torch, name)(x)
    error = (getattr(functions, name)(x) - expected).abs()
    assert (error <= 4 * torch.finfo(torch.float64).eps * expected.abs()).all()


@pytest.mark.parametrize("name", RANGES)
def test_gradients_are_those_of_pytorch(name):
    x = arguments(name, torch.float64).requires_grad_()
    grad = torch.randn(len(x), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (got,) = torch.autograd.grad(getattr(functions, name)(x), x, grad)
    (expected,) = torch.autograd.grad(getattr(torch, name)(x), x, grad)
    torch.testing.assert_close(got, expected, rtol=1e-13, atol=3e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", RANGES)
def test_special_values_are_those_of_pytorch(name, dtype):
    x = torch.tensor([0.0, -0.0, -1.0, math.nan, 1e-40, 1.0, -800.0, 800.0, -math.inf, math.inf], dtype=dtype)
    x = x[:6] if name in ("sin", "cos") else x
    found, expected = getattr(functions, name)(x), getattr(torch, name)(x)
    torch.testing.assert_close(found, expected, equal_nan=True)
    at_end = expected.isinf() | (expected == 0) | (expected.abs() == 1)
    assert found[at_end].tolist() == expected[at_end].tolist()
