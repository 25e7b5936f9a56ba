"""Traced values behave as PyTorch's tensors: steps against a plain loop, and refusals with a sentence."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from snnfast.compiler.expression import TraceError

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from fuzzing import steps


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u):
        return torch.floor(u)

    @staticmethod
    def backward(ctx, grad):
        return grad


class Constant(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u):
        y = u * 2
        ctx.mark_non_differentiable(y)
        return y

    @staticmethod
    def backward(ctx, grad):
        return grad * 100


def twin(factor):
    class Twin(torch.autograd.Function):
        @staticmethod
        def forward(ctx, u):
            return u * 1

        @staticmethod
        def backward(ctx, grad):
            return grad * factor

    return Twin


First, Second, act = twin(2), twin(3), Straight.apply


def no_grad(x, v):
    with torch.no_grad():
        half = 0.5 * v
    return half * x


def alias(x, v):
    h = x + v
    u = h
    u *= 2
    return h


def in_place(x, v):
    h = x * v
    h += x
    h.clamp_(min=v)
    nn.functional.relu(h, inplace=True)
    return h


def saved_before_a_change(x, v):
    h = x + v
    y = h + 1
    y += Straight.apply(h)
    return y


def bools(x, v):
    both = (x > 0) + (v > 0)
    return both * x + ((x > 0) * (v > 0)) * v


# What each step computes from x and v; crossed bounds of clamp in numbers and in values.
COMPUTED = {
    "no_grad": no_grad,
    "alias": alias,
    "in place": in_place,
    "saved": saved_before_a_change,
    "bools": bools,
    "xor": lambda x, v: ((x > 0) ^ (v > 0)) * x + torch.logical_xor(x > v, v > 0) * v,
    "equal conditions": lambda x, v: ((x > 0) == (v > 0)) * x,
    "sign of a condition": lambda x, v: (2 * (x > 0) - 1) * v,
    "rounding_mode trunc": lambda x, v: torch.div(x, v.abs() + 0.5, rounding_mode="trunc") + v,
    "float of a condition": lambda x, v: (x > 0).float() * v,
    "Tensor.where": lambda x, v: x.where(x > v, 2 * v),
    "relu in place": lambda x, v: nn.functional.relu(x * v, inplace=True) + nn.ReLU(inplace=True)(x + v),
    "bound apply": lambda x, v: act(x) * v,
    "two of one name": lambda x, v: First.apply(x) + 10 * Second.apply(x) + v,
    "not differentiable": lambda x, v: Constant.apply(x) * v,
    "crossed bounds": lambda x, v: x.clamp(0.5, -0.5) + v.clamp(-0.5, 0.5),
    "crossed values": lambda x, v: torch.clamp(x, v, 0.25 * v) + torch.clamp(v, x, x) * v,
    "one bound": lambda x, v: torch.clamp(x, min=v) * torch.clamp(v, max=x),
    "one condition twice": lambda x, v: torch.where(x > v, torch.where(x > v, x, v), torch.where(x > v, v, 0.5 * x)),
    "view": lambda x, v: x.view_as(v) * v.detach(),
    "exp of a condition": lambda x, v: torch.where(x > 0, torch.exp((x > v).to(x)), v),
    "power": lambda x, v: (0.5 * x) ** 3.0 + (0.25 * v) ** 7,
}


@pytest.mark.parametrize("coarse", [True, False], ids=["ties", "no ties"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("compute", COMPUTED.values(), ids=COMPUTED)
def test_a_step_is_what_pytorch_computes(compute, dtype, coarse):
    def step(fire, x, v, *, p=0.5):
        s, _, v = fire(compute(x, v) + p * x, p)
        return s, v

    torch.manual_seed(0)
    assert not steps.compare(step, "atan", steps.random_values(dtype, coarse))


def through_a_view(x, v):
    h = x + v
    u = h.detach()
    u *= 2
    return h


def without_its_gradient(x, v):
    h = x + v
    with torch.no_grad():
        h *= 2
    return h


def changes_its_argument(x, v):
    v += x
    return v


REFUSED = {
    "rounding_mode floor": (lambda x, v: torch.div(x, v, rounding_mode="floor"), r"write torch.floor\(a / b\)"),
    "floor division": (lambda x, v: x // v, r"write torch.floor\(a / b\)"),
    "remainder": (lambda x, v: x % 0.5, r"write a - b \* torch.floor\(a / b\)"),
    "lerp": (lambda x, v: torch.lerp(x, v, 0.3), "rounds differently on different processors: write a"),
    "alpha": (lambda x, v: torch.add(x, v, alpha=0.3), "torch.add with alpha= cannot be compiled"),
    "decimals": (lambda x, v: torch.round(x, decimals=1), "torch.round with decimals= cannot be compiled"),
    "exponent": (lambda x, v: 2**x, "a power is compiled for the exponents"),
    "difference of conditions": (lambda x, v: ((x > 0) - (v > 0)) * x, "bool"),
    "half": (lambda x, v: x.half(), ".half cannot be compiled"),
    "data": (lambda x, v: x.data, ".data cannot be compiled"),
    "index": (lambda x, v: x[..., None], "elements"),
    "through a view": (through_a_view, "changed in place through a view of it"),
    "without its gradient": (without_its_gradient, "without its gradient"),
    "argument": (changes_its_argument, "an argument is changed in place"),
    "argument's view": (lambda x, v: x + v.detach().mul_(2), "an argument"),
}


@pytest.mark.parametrize(("compute", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_a_kernel_would_compute_otherwise_is_refused(compute, sentence):
    def step(fire, x, v, *, p=0.5):
        s, _, v = fire(compute(x, v), p)
        return s, v

    with pytest.raises((TraceError, RuntimeError), match=sentence):
        steps.traced(step, "atan", steps.random_values(torch.float32, False))


@pytest.mark.parametrize(
    ("compute", "dtype"),
    [
        (lambda x, v: x.float(), torch.float64),
        (lambda x, v: x.double(), torch.float32),
        (lambda x, v: (x > 0) * 0.1, torch.float64),
        (lambda x, v: (x > 0).float() * 0.1 + x, torch.float64),
        (lambda x, v: torch.exp(x > 0), torch.float64),
        (lambda x, v: x.long() + v, torch.float32),
    ],
)
def test_another_dtype_is_refused(compute, dtype):
    def step(fire, x, v, *, p=0.5):
        s, _, v = fire(compute(x, v), p)
        return s, v

    with pytest.raises(TraceError, match=r"is in torch\.\w+, and the step is computed in torch"):
        steps.traced(step, "atan", steps.random_values(dtype, False))


def test_a_state_that_is_a_condition_is_refused():
    def step(fire, x, v, *, p=0.5):
        return x * p, v > x

    with pytest.raises(TraceError, match=r"result 1 of the step is a state in torch\.bool"):
        steps.traced(step, "atan", steps.random_values(torch.float32, False))


def test_a_step_is_traced_with_gradients_wherever_it_is_called_first():
    def step(fire, x, v, *, p=0.5):
        return x * p, v * x

    values = steps.random_values(torch.float64, False)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            plan, _ = steps.traced(step, "atan", values)
        assert plan.grad_inputs[0].op != "constant"
