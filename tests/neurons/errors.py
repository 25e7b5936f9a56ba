"""Every error of the ops: type and message, the same on every backend and in every mode of PyTorch."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from samples import Op, Sample, assert_equal, over_neurons
from torch._subclasses.fake_tensor import FakeTensorMode

from snnfast import ops


@dataclass(frozen=True)
class Mistake:
    op: Op
    label: str
    change: dict[str, Any]  # a callable makes the value from x
    error: type[Exception]
    message: str

    def __str__(self):
        return f"{self.op.name}-{self.label}"

    def arguments(self, device="cpu", make: Callable[[torch.Tensor], torch.Tensor] = lambda a: a):
        x = make(torch.zeros(4, 2, 3, device=device))
        result = {"x": x}
        for name, value in self.change.items():
            value = value(x) if callable(value) else value
            result[name] = value
        return result

    def check(self, call):
        message = ""
        try:
            call()
        except self.error as error:
            message = str(error).replace("FakeTensor", "Tensor")
        assert message == self.message, self.label

    def place(self):
        """The line of the package that raises the error."""
        try:
            self.op(**self.arguments())
        except self.error as error:
            frames = traceback.extract_tb(error.__traceback__)
            return frames[-1].filename, frames[-1].lineno
        return None


def zeros(*shape, dtype=torch.float32):
    return lambda x: torch.zeros(shape, dtype=dtype, device=x.device)


def mistakes(op):
    def mistake(label, change, error, message):
        found.append(Mistake(op, label, change, error, f"{op.name}: {message}"))

    found = []
    mistake("x-list", {"x": [1.0, 2.0]}, TypeError, "x must be a tensor, got list")
    mistake("x-none", {"x": None}, TypeError, "x must be a tensor, got NoneType")
    mistake(
        "x-sparse",
        {"x": lambda x: torch.zeros(4, 4, layout=torch.sparse_coo, device=x.device)},
        TypeError,
        "x must be a dense tensor, got torch.sparse_coo",
    )
    for dtype in (torch.int64, torch.bool, torch.uint8, torch.complex64, torch.float8_e5m2):
        mistake(
            f"x-{dtype}",
            {"x": lambda x, dtype=dtype: torch.zeros(4, 2, 3, device=x.device).to(dtype)},
            TypeError,
            f"x must have one of the dtypes float32, float64, bfloat16, float16, got {dtype}"
            + ("" if dtype.is_complex else "; give x.float()"),
        )
    mistake("x-0d", {"x": zeros()}, ValueError, "x must have shape [T, ...], got a tensor without dimensions")
    for state in op.states:
        for shape in ((2, 4), (3,), (), (4, 2, 3), (1, 3)):
            mistake(
                f"{state}-shape-{shape}",
                {state: zeros(*shape)},
                ValueError,
                f"{state} must have shape x.shape[1:] = [2, 3], got {list(shape)}",
            )
        for dtype in (torch.float64, torch.bfloat16, torch.int32, torch.complex64):
            mistake(
                f"{state}-{dtype}",
                {state: zeros(2, 3, dtype=dtype)},
                TypeError,
                f"{state} must have dtype torch.float32 for x of dtype torch.float32, got {dtype}",
            )
        for wide, dtype in ((torch.float64, torch.float64), (torch.float32, torch.float16)):
            wrong = torch.float32 if wide == torch.float64 else torch.float16
            mistake(
                f"{state}-for-{dtype}",
                {"x": zeros(4, 2, 3, dtype=dtype), state: zeros(2, 3, dtype=wrong)},
                TypeError,
                f"{state} must have dtype {wide} for x of dtype {dtype}, got {wrong}",
            )
        for value in (0.0, [0.0], "zero"):
            mistake(
                f"{state}-{type(value).__name__}",
                {state: value},
                TypeError,
                f"{state} must be a tensor or None, got {type(value).__name__}",
            )
    taus = [decay.replace("decay", "tau") for decay in op.decays]
    for name in (*op.decays, *taus, *op.params):
        for shape in ((2, 4), (4, 2, 3), (2,), (0,)):
            mistake(
                f"{name}-shape-{shape}",
                {name: zeros(*shape)},
                ValueError,
                f"{name} must be a number or broadcast to x.shape[1:] = [2, 3], got shape {list(shape)}",
            )
        for dtype in (torch.float64, torch.int64):
            mistake(
                f"{name}-{dtype}",
                {name: zeros(3, dtype=dtype)},
                TypeError,
                f"{name} must have dtype torch.float32 for x of dtype torch.float32, got {dtype}",
            )
    for name in (*op.decays, *taus, *op.params):
        for value in (float("nan"), -float("inf")):
            mistake(f"{name}-{value}", {name: value}, ValueError, f"{name} must be finite, got {value}")
        mistake(f"{name}-1e300", {name: 1e300}, ValueError, f"{name} must lie within the range of float32, got 1e+300")
        for value in ("2", True, 2j):
            kind = type(value).__name__
            mistake(f"{name}-{kind}", {name: value}, TypeError, f"{name} must be a number, got {kind}")
    for name, (value, message) in op.refused.items():
        mistake(f"{name}-{value}", {name: value}, ValueError, f"{name} {message}")
    for decay, tau in zip(op.decays, taus, strict=True):
        for value in (-0.1, 1.1, 2):
            mistake(f"{decay}-{value}", {decay: value}, ValueError, f"{decay} must lie in [0, 1], got {float(value)}")
        for value in (0.9, 0, -2.0):
            mistake(f"{tau}-{value}", {tau: value}, ValueError, f"{tau} must be at least 1 step, got {float(value)}")
        mistake(f"{decay}-and-{tau}", {decay: 0.5, tau: 2.0}, ValueError, f"give {tau} or {decay}, not both")
    if op.fires:
        found.append(
            Mistake(
                op,
                "surrogate-name",
                {"surrogate": "spline"},
                ValueError,
                "surrogate: name must be one of atan, sigmoid, fast_sigmoid, rectangle, triangle, "
                "gaussian, straight_through, got 'spline'",
            )
        )
        found.append(
            Mistake(
                op,
                "surrogate-type",
                {"surrogate": 3.0},
                TypeError,
                "surrogate: expected a name, a snnfast.surrogate.Surrogate or a callable u -> spikes, got float",
            )
        )
    return found


def one_a_check(op):
    """Return a mistake for every line that raises; neurons share these lines, so every fifth, except for lif."""
    return list({m.place(): m for m in mistakes(op)}.values())[:: 1 if op.name == "lif" else 5]


def test_mistakes_are_named_on_every_backend(backend, op):
    for mistake in mistakes(op):
        mistake.check(lambda m=mistake: m.op(**m.arguments(backend.device)))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_mistakes_are_named_in_every_grad_mode(kernels, op, mode):
    for mistake in mistakes(op):
        with mode():
            mistake.check(lambda m=mistake: m.op(**m.arguments(kernels.device)))


def test_mistakes_are_named_for_input_that_wants_a_gradient(kernels, op):
    for mistake in mistakes(op):
        arguments = mistake.arguments(kernels.device, lambda x: x.requires_grad_())
        mistake.check(lambda m=mistake, a=arguments: m.op(**a))


def test_mistakes_are_named_without_data(op):
    for mistake in mistakes(op):
        with FakeTensorMode():
            mistake.check(lambda m=mistake: m.op(**m.arguments()))


@pytest.mark.filterwarnings("ignore::snnfast.backend.BackendWarning")
def test_mistakes_are_named_on_the_meta_device(op):
    for mistake in mistakes(op):
        mistake.check(lambda m=mistake: m.op(**m.arguments("meta")))


def test_mistakes_are_named_under_vmap(kernels, op):
    many = torch.zeros(5, 4, 2, 3, device=kernels.device)
    for mistake in mistakes(op):
        if "x" not in mistake.change:
            arguments = mistake.arguments(kernels.device)
            run = torch.vmap(lambda x, a=arguments: op(**{**a, "x": x}))
            mistake.check(lambda run=run: run(many))


@pytest.mark.usefixtures("fresh_compiler")
@over_neurons("mistake", lambda op: one_a_check(op)[::6] if op.name == "lif" else [])
def test_mistake_is_named_when_compiled(mistake):
    compiled = torch.compile(mistake.op.__call__, backend="eager")
    mistake.check(lambda: compiled(**mistake.arguments()))


def test_argument_on_another_device_is_named(backend, op):
    arguments = Sample(op, "plain", (4, 2, 3), torch.float32).arguments(backend.device)
    device = arguments["x"].device
    for name in (*op.states, *op.decays, *op.params):
        elsewhere = torch.zeros(2, 3, device="meta")
        with pytest.raises(ValueError, match="device") as caught:
            op(**{**arguments, name: elsewhere})
        assert str(caught.value) == (f"{op.name}: {name} must be on the device of x, {device}, got meta")


def test_integers_serve_as_numbers(backend, op):
    x = torch.randn(4, 3, device=backend.device)
    for name in (*op.decays, *op.params):
        assert_equal(op(x=x, **{name: 1}), op(x=x, **{name: 1.0}), name)


def test_numpy_numbers_serve_as_numbers(backend, op):
    import numpy as np

    x = torch.randn(4, 3, device=backend.device)
    for name in (*op.decays, *op.params):
        one, numpy = op(x=x, **{name: 0.5}), op(x=x, **{name: np.float64(0.5)})
        assert_equal(list(one), list(numpy), name)
        assert op(x=x, **{name: np.float32(0.5)})[0].shape == x.shape


def test_options_are_keywords_only(op):
    x, v = torch.zeros(4, 3), torch.zeros(3)
    states = [v] * len(op.states)
    with pytest.raises(TypeError, match="positional"):
        getattr(ops, op.name)(x, *states, 2.0)


def test_unknown_argument_is_refused(op):
    with pytest.raises(TypeError, match="there is no argument 'theta'"):
        op(x=torch.zeros(4, 3), theta=1.0)
