"""Description of a neuron for its tests, and sample arguments.

``tests/ops/test_<stem>.py`` describes a neuron (:class:`Op`) and collects the shared tests of ``tests/neurons``.
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
import pickle
import runpy
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from snnfast import ops, reference
from snnfast.check import state_dtype

SURROGATES = ("atan", "sigmoid", "fast_sigmoid", "rectangle", "triangle", "gaussian", "straight_through")
# Soft spike of each surrogate, whose derivative is the surrogate.
PRIMITIVES = {
    "atan": lambda u, a: torch.atan(math.pi / 2 * a * u) / math.pi + 0.5,
    "sigmoid": lambda u, a: torch.sigmoid(a * u),
    "fast_sigmoid": lambda u, a: u / (1 + a * u.abs()),
    "rectangle": lambda u, a: (a * u + 0.5).clamp(0, 1),
    "triangle": lambda u, a: torch.where(
        a * u.abs() >= 1, 0.5 * u.sign() + 0.5, a * u - 0.5 * a**2 * u * u.abs() + 0.5
    ),
    "gaussian": lambda u, a: 0.5 + 0.5 * torch.erf(a * u),
    "straight_through": lambda u, a: u + 0.0 * a,
}
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Values:
    """A parameter tensor of uniform values.

    ``one_per``: one value per neuron, channel (the first of the last three dimensions), last dimension or both ends,
    or a scalar.
    """

    low: float
    high: float
    one_per: str = "neuron"

    def shape(self, neurons: tuple[int, ...]) -> tuple[int, ...]:
        if self.one_per == "scalar":
            return ()
        if self.one_per == "channel":
            dim = max(len(neurons) - 3, 0)
            return neurons[dim : dim + 1] + (1,) * len(neurons[dim + 1 :])
        if self.one_per == "last":
            return neurons[-1:]
        if self.one_per == "ends" and len(neurons) >= 3:  # no single run of dimensions
            return (neurons[0], *(1,) * (len(neurons) - 2), neurons[-1])
        return neurons


@dataclass(frozen=True, kw_only=True, eq=False)
class Op:
    """A neuron of ``snnfast.ops``.

    Attributes:
        name: name in ``snnfast.ops`` and ``snnfast.reference``.
        kernel: name of the kernels that it runs.
        signature: its signature as shown by Python, without types.
        states: arguments that are states ``x.shape[1:]``.
        decays: arguments that are decays; each has a time constant as an alternative.
        params: other arguments that take a number or a tensor.
        voltages: arguments in the unit of the membrane; besides ``x`` there are no other sources.
        options: remaining arguments that no other neuron has, with values to try.
        fires: whether its first output is spikes.
        inverse: arguments in the unit of one over a membrane.
        ranges: ranges of the numbers to try for a parameter, where not all are possible.
        refused: for a parameter with a limited range, a value outside of it, and the error message.
        runs_away: whether a membrane far above its threshold grows without input.
        exact: whether a membrane at rest adds its input exactly.
        steady: keyword arguments with which it fires at ``v_threshold`` whatever its past.
        variants: keyword arguments to test with, by name.
        worked: runs worked by hand, by name.
        written: a step in Python floats, ``(n, x, *states) -> (s, *states)``; ``n`` has its constants, ``n.rest``,
            ``n.gain`` of the input, and ``n.fire(h, above=0)``, which returns the spike and the membrane after it.
        written_for: keyword arguments with which the reference is compared with ``written``.
    """

    name: str
    kernel: str
    signature: str
    states: tuple[str, ...]
    decays: tuple[str, ...]
    params: tuple[str, ...]
    voltages: tuple[str, ...]
    variants: dict[str, dict[str, Any]] = field(repr=False)
    worked: dict[str, dict[str, Any]] = field(repr=False)
    options: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    inverse: tuple[str, ...] = ()
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    refused: dict[str, tuple[float, str]] = field(default_factory=dict)
    runs_away: bool = False
    exact: bool = True
    fires: bool = True
    steady: dict[str, Any] = field(default_factory=dict)
    written: Callable[..., tuple[float, ...]] | None = None
    written_for: list[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        return self.name

    def __call__(self, **arguments: Any) -> tuple[Tensor, ...]:
        return getattr(ops, self.name)(**arguments)

    def reference(self, **arguments: Any) -> tuple[Tensor, ...]:
        return getattr(reference, self.name)(**arguments)

    def accepts(self, argument: str) -> bool:
        return argument in inspect.signature(getattr(ops, self.name)).parameters


# Around the vector widths, the 64-neuron unit of work, the 256-neuron block, and the checkpoints
# every 16 and 32 steps.
SHAPES = (
    (0, 3),
    (0,),
    (4, 0),
    (3, 2, 0, 5),
    (0, 0),
    (1,),
    (6,),
    (1, 1),
    (2, 1),
    (5, 3),
    (3, 8),
    (9, 31),
    (4, 64),
    (3, 65),
    (7, 4, 33),
    (2, 513),
    (3, 2, 520),
    (2, 4, 400),
    (15, 5),
    (16, 4),
    (17, 8),
    (31, 3),
    (32, 4),
    (33, 6),
    (48, 3),
    (65, 4),
    (100, 2),
    (3, 2, 4, 3, 5),
    (5, 1, 3, 1, 2),
    (4, 2, 1, 1, 1),
    (2, 1, 1, 1, 1, 1, 7),
)
# Tests of the scan over time, which is independent of the neuron, run over these: one state and two, with and without
# spikes. Tests of the maths of a neuron run over every neuron.
SCANNED = ("lif", "li", "cuba")
FEW_SHAPES = ((33, 12), (3, 2, 4, 3, 5))
# Bytes of four steps with which neurons fill a GPU, and the emulated one (kBytesThatFill in csrc/cuda/launch.h).
FILL = {"cuda": 1 << 21, "cuda_emulation": 192}
STEPS = {"several": 4, "pairs": 32}  # steps of these bytes, with several neurons per thread or with pairs


@dataclass(frozen=True)
class Sample:
    """A call of an op; :meth:`arguments` makes its tensors, the same each time."""

    op: Op
    variant: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    with_states: bool = True

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape))
        dtype = str(self.dtype).removeprefix("torch.")
        return f"{self.op.name}-{self.variant}-{shape}-{dtype}{'' if self.with_states else '-rest'}"

    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(zlib.crc32(str(self).encode()))

    def arguments(self, device: str = "cpu") -> dict[str, Any]:
        generator = self.generator()
        wide = state_dtype(self.dtype)

        def normal(shape: tuple[int, ...], scale: float, mean: float) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64) * scale + mean

        x = normal(self.shape, 1.0, 0.7).to(self.dtype)
        arguments: dict[str, Any] = {"x": x.to(device)}
        if self.with_states:
            for name in self.op.states:
                arguments[name] = normal(self.shape[1:], 0.4, 0.0).to(wide).to(device)
        for name, value in self.op.variants[self.variant].items():
            if isinstance(value, Values):
                shape = value.shape(self.shape[1:])
                uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
                value = (uniform * (value.high - value.low) + value.low).to(wide).to(device)
            arguments[name] = value
        return arguments


def over_neurons(names: str, cases: Callable[[Op], list[Any]]) -> Any:
    """Run a test over the cases of every neuron of the file that collects it (``tests/conftest.py``)."""
    return pytest.mark.over_neurons(names, cases)


def firing(op: Op) -> list[Op]:
    return [op] if op.fires else []


def scanned(op: Op) -> list[Op]:
    """Return the neuron if it is one of ``SCANNED``."""
    return [op] if op.name in SCANNED else []


def leaky(op: Op) -> list[Op]:
    return [op] if op.decays else []


def rich(op: Op) -> str:
    """Return the variant with the most tensors."""
    return next(v for v in ("all_tensors", "v_rest_scalar", "threshold_each") if v in op.variants)


def learned(op: Op) -> list[str]:
    """Return variants that together have a tensor for every parameter."""
    missing, found = {*op.decays, *op.params}, []
    for variant, options in op.variants.items():
        tensors = {k.replace("tau", "decay") for k, v in options.items() if isinstance(v, Values)}
        if tensors & missing:
            missing -= tensors
            found.append(variant)
    if missing:
        raise ValueError(f"{op} has no variant with a tensor for {missing}")
    return found


def samples(op: Op, *dtypes: torch.dtype) -> list[Sample]:
    """Return every variant with a shape, and every shape with two variants.

    There are fewer where nothing new can fail. The 16-bit dtypes differ from float32 in how rows are read and written,
    and float16 from bfloat16 in the conversion. float64 takes a variant with one of the shapes and float32 with the
    other. Sizes only matter for the scan: all of them are for ``SCANNED`` in float64, half in float32. Neurons other
    than ``lif`` take every second variant in float32.
    """
    result = []
    for dtype in dtypes or DTYPES:
        narrow = dtype in (torch.bfloat16, torch.float16)
        single = 1 if op.name == "lif" else 2
        step = {torch.float32: single, torch.bfloat16: 3, torch.float16: 9}.get(dtype, 1)
        for k, variant in enumerate(list(op.variants)[::step]):
            shape = FEW_SHAPES[narrow or (k + (dtype == torch.float32)) % 2]
            result.append(Sample(op, variant, shape, dtype))
        every = {torch.float64: 1, torch.float32: 2}.get(dtype, 3)
        for shape in SHAPES[:: every * (1 if op.name in SCANNED else 3)]:
            result.append(Sample(op, "plain", shape, dtype, with_states=False))
            result.append(Sample(op, rich(op), shape, dtype))
    return result


def samples_on(kernels: Any, op: Op, dtype: torch.dtype) -> list[Sample]:
    """Return samples; for emulated kernels, whose maths is that of the CPU, every second variant, with all sizes."""
    every, always = kernels.name != "cuda_emulation", ("plain", rich(op))
    return [s for k, s in enumerate(samples(op, dtype)) if every or k % 2 or s.variant in always]


def by_dtype(op: Op) -> list[tuple[Op, torch.dtype]]:
    """Return every dtype; float16, which differs from bfloat16 in the conversion by the scan, for ``SCANNED``."""
    return [(op, dtype) for dtype in DTYPES if op.name in SCANNED or dtype != torch.float16]


def few(op: Op, dtype: torch.dtype = torch.float32, *variants: str) -> list[Sample]:
    """Return a few samples, for slow tests: those of ``variants`` that the neuron has."""
    wanted = variants or ("plain", "soft", "all_tensors", "decay_channel")
    return [Sample(op, variant, (5, 2, 3, 4), dtype) for variant in wanted if variant in op.variants]


def owner(op: Op) -> list[Op]:
    """Return the neuron if its kernels have its name: one of those that share them, for slow tests."""
    return [op] if op.kernel == op.name else []


@functools.cache
def neurons() -> list[Op]:
    """Return the neurons of all test files, for the few tests that need all."""
    files = sorted((Path(__file__).parent / "ops").glob("test_*.py"))
    found = [runpy.run_path(str(f))["NEURONS"] for f in files if "\nNEURONS = " in f.read_text()]
    return [op for ops in found for op in ops]


def neurons_that_fill(dtype: torch.dtype, backend: str = "cuda", pairs: bool = False) -> int:
    """Return the smallest number of neurons with which a thread of a GPU has several; or, with 16 bits, a pair."""
    steps = STEPS["pairs" if pairs else "several"]
    return FILL.get(backend, FILL["cuda_emulation"]) // (steps * dtype.itemsize)


def tensors(arguments: dict[str, Any]) -> dict[str, Tensor]:
    return {k: a for k, a in arguments.items() if isinstance(a, Tensor)}


@functools.lru_cache(maxsize=1000)  # enough for all samples of a file
def expected(sample: Sample, device: str) -> tuple[list[Tensor | None], Any]:
    """Return outputs and gradients of the reference, with which several tests compare."""
    return outputs_and_gradients(sample.op.reference, sample.arguments(device))


def outputs_and_gradients(
    function: Callable[..., tuple[Tensor | None, ...]], arguments: dict[str, Any]
) -> tuple[list[Tensor | None], Any]:
    """Return outputs and gradients of one run, because the reference takes most of the time of its tests."""
    outputs: list[Tensor | None] = []

    def run(**arguments: Any) -> tuple[Tensor | None, ...]:
        found = function(**arguments)
        outputs.extend(None if out is None else out.detach() for out in found)
        return found

    found = gradients(run, arguments)
    return outputs, found


_FOUND: dict[bytes, Any] = {}


def once(function: Callable[..., Any], *inputs: Any, **arguments: Any) -> Any:
    """Return the result of a reference and its arguments afterwards, computed once for all kernels."""
    key = pickle.dumps((function.__module__, function.__qualname__, inputs, arguments))
    if key not in _FOUND:
        if len(_FOUND) > 300:
            _FOUND.clear()
        inputs, arguments = copy.deepcopy((inputs, arguments))
        _FOUND[key] = function(*inputs, **arguments), inputs
    return _FOUND[key]


def require_grad(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments with every tensor as a leaf that requires a gradient."""
    return {k: a.detach().requires_grad_() if isinstance(a, Tensor) else a for k, a in arguments.items()}


def cotangents(outputs: tuple[Tensor | None, ...], seed: int = 0) -> list[Tensor | None]:
    """Return weights of the outputs for a gradient: normal numbers, the same each time."""
    generator = torch.Generator().manual_seed(seed)
    return [
        None if out is None else torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out)
        for out in outputs
    ]


def gradients(
    function: Callable[..., tuple[Tensor | None, ...]], arguments: dict[str, Any], seed: int = 0
) -> dict[str, Tensor | None]:
    """Return gradients of a random weighting of all outputs with respect to every tensor argument."""
    arguments = require_grad(arguments)
    outputs = function(**arguments)
    pairs = [
        (out, g)
        for out, g in zip(outputs, cotangents(outputs, seed), strict=True)
        if out is not None and out.requires_grad
    ]
    inputs = tensors(arguments)
    grads = torch.autograd.grad(
        [out for out, _ in pairs], list(inputs.values()), [g for _, g in pairs], allow_unused=True
    )
    return dict(zip(inputs, grads, strict=True))


def share_of_loss_left(net: torch.nn.Module, x: Tensor, target: Tensor) -> float:
    """Return the loss after 30 steps of Adam, divided by that of the first step."""
    optimizer = torch.optim.Adam(net.parameters(), 0.05)
    losses = []
    for _ in range(30):
        loss = (net(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[-1] / losses[0]


def assert_all(actual: Tensor, value: float) -> None:
    """Check that every element is ``value``."""
    assert_equal(actual, torch.full_like(actual, value))


def assert_equal(actual: Any, expected: Any, label: str = "") -> None:
    """Check for equal bits, except the sign of zero; NaN equals NaN."""
    if isinstance(expected, (tuple, list)):
        assert len(actual) == len(expected), label
        for k, (a, e) in enumerate(zip(actual, expected, strict=True)):
            assert_equal(a, e, f"{label}[{k}]")
    elif isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        for k in expected:
            assert_equal(actual[k], expected[k], f"{label} {k}")
    elif expected is None:
        assert actual is None, label
    else:
        torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True, msg=lambda m: f"{label}: {m}")


GRADIENT_TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2**-7, torch.float16: 2**-10}


def assert_gradients_close(
    actual: dict[str, Tensor | None],
    expected: dict[str, Tensor | None],
    tolerance: float = 0.0,
    *,
    cancelling: bool = False,
) -> None:
    """Check gradients with a tolerance relative to the largest of each tensor, depending on its dtype.

    The gradient of a shared parameter is a sum over neurons, whose terms may cancel, so its tolerance
    is relative to the largest of ``x``, too. ``cancelling``: that of any parameter, for sums over steps.
    """
    assert actual.keys() == expected.keys()

    def largest(grad: Tensor | None) -> float:
        return 0.0 if grad is None or not grad.numel() else grad.double().abs().nan_to_num(0).max().item()

    for name, want in expected.items():
        got = actual[name]
        if want is None or got is None:
            # The gradient of an argument without influence may be missing or zero.
            assert all(g is None or not g.any() for g in (got, want)), name
            continue
        assert (got.shape, got.dtype, got.device) == (want.shape, want.dtype, want.device), name
        scale = max(largest(want), 1e-30)
        x = expected["x"]
        if x is not None and x.dim() and (cancelling or want.numel() < x[:1].numel()):
            scale = max(scale, largest(x))
        torch.testing.assert_close(
            got,
            want,
            rtol=0,
            atol=(tolerance or GRADIENT_TOLERANCE[want.dtype]) * scale,
            equal_nan=True,
            msg=lambda m, n=name: f"grad {n}: {m}",
        )
