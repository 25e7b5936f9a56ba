"""Comparison of a network with a rewritten copy of it: :func:`agree` runs both and names where they part first."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from snnfast import check

from .replaced import Replaced
from .state import without_graphs
from .time import DROPOUTS, Time

__all__ = ["Verify", "agree", "calls_of"]

# Largest difference of values that agree, relative to the largest value of the tensor.
DOUBLE, SINGLE = 1e-6, 1e-4
# Rounding of gradients that are 0, as of a bias before a normalisation, relative to the largest gradient of all.
DOUBLE_FLOOR, SINGLE_FLOOR = 1e-9, 1e-5

Arguments: TypeAlias = tuple[Any, ...]  # arguments of a call
Tensors: TypeAlias = dict[str, Tensor]
Verify: TypeAlias = Tensor | Sequence[Tensor | tuple[Any, ...]] | None


class PartedError(ValueError):
    """The networks differ."""


class ComparedLayer(NamedTuple):
    """A call of a layer: the tensors that it returned, and from the backward pass the gradient of the first one."""

    name: str
    outputs: list[Tensor]
    gradient: list[Tensor]


class RecordedRun(NamedTuple):
    """Run of a network, forward and backward.

    Attributes:
        parts: the calls of its layers, in their order.
        outputs: what each call of the network returned.
        gradients: gradients of inputs and parameters, by their names; None without any.
    """

    parts: list[ComparedLayer]
    outputs: list[Tensors]
    gradients: Tensors | None


def calls_of(function: str, inputs: Any, argument: str = "verify") -> list[Arguments]:
    """Return the arguments of each call from ``argument`` of ``function``; none if it is None."""
    if inputs is None:
        return []
    calls = []
    for x in inputs if isinstance(inputs, (list, tuple)) else [inputs]:
        if not isinstance(x, tuple) or not x:
            check.tensor(function, argument, x)
        calls.append(x if isinstance(x, tuple) else (x,))
    if not calls:
        raise ValueError(f"{function}: {argument} must have an input, got none")
    return calls


def agree(
    function: str,
    net: nn.Module,
    result: nn.Module,
    inputs: Sequence[Arguments],
    *,
    neurons: Sequence[str] = (),
    changed: Sequence[str] = (),
    by_steps: bool = False,
) -> None:
    """Raise an error if ``result`` has other outputs or gradients than ``net``, with the first layer that parts.

    Outputs of all calls are compared without and with gradients recorded, then the gradients of a random weighting of
    the outputs: those of parameters, by their keys in the state dict, alone and with those of inputs, since layers
    take other ways then. Under ``torch.no_grad()`` outputs alone are compared. Copies run, from rest, and all draw the
    same random numbers: nothing changes ``net``, ``result``, or the numbers that are drawn next.

    Where rounding moves a membrane over its threshold, spikes differ, and all that follows. So networks that part
    are compared in float64, too; if they agree there, a warning says where they parted.

    Args:
        function: name of the caller, for messages.
        net: the network.
        result: its copy.
        inputs: the arguments of consecutive calls.
        neurons: layers of both whose outputs must be equal, too.
        changed: layers whose outputs and parameters are others in ``result``.
        by_steps: ``inputs`` is one sequence, of which ``net`` takes one step per call.
    """
    try:
        _compare(net, result, inputs, neurons, changed, by_steps)
    except PartedError as error:
        first = error
    else:
        return
    words = f"{function}: {first}"
    tensors = [tensor for tensor in (*net.parameters(), *net.buffers(), *(t for _, t in _leaves(list(inputs))))]
    if all(t.dtype == torch.float64 for t in tensors if t.is_floating_point()):
        raise ValueError(f"{words}{_hint(net)}") from None
    double = [tuple(_doubled(value) for value in arguments) for arguments in inputs]
    try:
        _compare(_copied(net).double(), _copied(result).double(), double, neurons, changed, by_steps)
    except PartedError as error:
        raise ValueError(f"{function}: {error}, also in float64{_hint(net)}") from None
    except Exception as error:  # a forward may ask for its dtype
        raise ValueError(f"{words}; they do not run in float64: {type(error).__name__}: {error}{_hint(net)}") from error
    warnings.warn(
        f"{words}; in float64 the networks agree: a rounding moved a membrane over its threshold, or grew", stacklevel=3
    )


def _compare(
    net: nn.Module,
    result: nn.Module,
    inputs: Sequence[Arguments],
    neurons: Sequence[str],
    changed: Sequence[str],
    by_steps: bool,
) -> None:
    """Run copies of both networks without and with gradients; raise :class:`PartedError` where they differ first."""
    for gradients, of_inputs in ((False, False), (True, False), (True, True)):
        if gradients and not torch.is_grad_enabled():
            return
        expected = _run(net, inputs, neurons, gradients, of_inputs, by_steps)
        found = _run(result, inputs, neurons, gradients, of_inputs)
        _compare_parts(net, result, expected, found, neurons, changed)
        for call, (a, b) in enumerate(zip(expected.outputs, found.outputs)):
            _compare_outputs(call, a, b)
        _compare_gradients(result, expected, found, neurons, changed)


def _hint(net: nn.Module) -> str:
    """Return a hint at layers that make two runs of a network differ, whatever its neurons do, or an empty string."""
    norms = nn.modules.batchnorm._BatchNorm
    found = [m for m in net.modules() if m.training and isinstance(m, (norms, *DROPOUTS))]
    kinds = sorted({type(module).__name__ for module in found})
    return f"; the network trains {', '.join(kinds)}: compare net.eval()" if kinds else ""


# ---- a run


def _run(
    net: nn.Module,
    inputs: Sequence[Arguments],
    neurons: Sequence[str],
    gradients: bool,
    of_inputs: bool,
    by_steps: bool = False,
) -> RecordedRun:
    """Run a copy of ``net`` from rest, on copies of the inputs."""
    net = _copied(net)
    for module in net.modules():
        for name in ("reset", "reset_mem", "reset_states"):
            forget = getattr(module, name, None)
            if callable(forget):
                forget()
    net.zero_grad()
    for name in neurons if gradients else ():
        net.get_submodule(name).training = True  # those of SpikingJelly have no gradient in evaluation
    parts: list[ComparedLayer] = []
    # Hooks inside of Time would change which kernels run there.
    folding = [module for module in net.modules() if getattr(module, "folds_time", False)]
    inside = {module for outer in folding for module in outer.modules() if module is not outer}
    for name, module in net.named_modules():
        layer = isinstance(module, Time) or next(module.children(), None) is None
        if name in neurons or (layer and module not in inside and not isinstance(module, torch.jit.ScriptModule)):
            module.register_forward_hook(_keep(name, parts))
    leaves: Tensors = {}
    with torch.set_grad_enabled(gradients), torch.random.fork_rng():
        calls = [
            tuple(_leaf(f"input {k} of call {call}", x, leaves, of_inputs) for k, x in enumerate(arguments))
            for call, arguments in enumerate(inputs)
        ]
        if by_steps:
            steps = [dict(_leaves(net(step))) for step in calls[0][0]]
            outputs = [{key: torch.stack([step[key] for step in steps]) for key in steps[0]}]
        else:
            outputs = [dict(_leaves(net(*arguments))) for arguments in calls]
        forward = list(parts)  # a backward pass may run layers again
        found = _backward(net, outputs, leaves) if gradients else None
    return RecordedRun(forward, [{key: value.detach() for key, value in call.items()} for call in outputs], found)


def _keep(name: str, parts: list[ComparedLayer]) -> Any:
    """Return a forward hook that appends the calls of a layer to ``parts``."""

    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        tensors = [tensor for _, tensor in _leaves(output)]
        part = ComparedLayer(name, [tensor.detach().clone() for tensor in tensors], [])
        parts.append(part)
        if tensors and tensors[0].requires_grad:
            tensors[0].register_hook(lambda gradient: part.gradient.append(gradient.detach().clone()))

    return hook


def _backward(net: nn.Module, outputs: list[Tensors], leaves: Tensors) -> Tensors | None:
    """Return the gradients of a random weighting of all outputs; None if they have none."""
    random = torch.Generator().manual_seed(0)
    loss = [
        (value.double() * torch.randn(value.shape, generator=random, dtype=torch.float64).to(value.device)).sum()
        for call in outputs
        for value in call.values()
        if value.is_floating_point()  # drawn for those without a gradient, too
    ]
    total = sum(loss)
    if not isinstance(total, Tensor) or not total.requires_grad:
        return None
    total.backward()
    parameters = {k: v for k, v in net.state_dict(keep_vars=True).items() if isinstance(v, nn.Parameter)}
    learned = {name: tensor for name, tensor in (leaves | parameters).items() if tensor.requires_grad}
    return {name: torch.zeros_like(t) if t.grad is None else t.grad for name, t in learned.items()}


def _leaf(name: str, value: Any, leaves: Tensors, wanted: bool) -> Any:
    """Return a copy of an argument of a call, which ``leaves`` collects if its gradient is wanted."""
    if not isinstance(value, Tensor):
        return value
    # an expanded input stays expanded
    value = value.detach() if 0 in value.stride() else value.detach().clone()
    if wanted and value.is_floating_point():
        leaves[name] = value.requires_grad_()
    return value


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield all tensors in tuples, lists and dictionaries, with their position."""
    if isinstance(value, Tensor):
        yield key, value
    elif isinstance(value, (tuple, list, dict)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, part in items:
            yield from _leaves(part, f"{key}[{name!r}]")


def _doubled(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def _copied(net: nn.Module) -> nn.Module:
    """Return a copy, also of layers whose ``__deepcopy__`` fails, as that of Sinabs' recurrent layers."""
    memo = without_graphs(net)
    custom = [layer for layer in net.modules() if _copies_itself(layer)]
    for layer in custom:
        memo[id(layer)] = type(layer).__new__(type(layer))
    for layer in custom:
        memo[id(layer)].__dict__.update(copy.deepcopy(layer.__dict__, memo))
    return copy.deepcopy(net, memo)


def _copies_itself(layer: nn.Module) -> bool:
    return hasattr(layer, "__deepcopy__") and type(layer).__module__.partition(".")[0] == "sinabs"


# ---- comparison


def _compare_parts(
    net: nn.Module,
    result: nn.Module,
    expected: RecordedRun,
    found: RecordedRun,
    neurons: Sequence[str],
    changed: Sequence[str],
) -> None:
    """Compare the outputs of layers, in their order; raise where they differ first."""
    for name in neurons:
        times = [sum(part.name == name for part in run.parts) for run in (expected, found)]
        if times[0] != times[1] and (not times[1] or times[0] % times[1]):
            raise PartedError(f"{_where(net, name)} ran {times[0]} times in the network, {times[1]} times in its copy")
    step: dict[str, int] = {}
    for name, a, b, _, _ in _pairs(expected, found, neurons, changed):
        step[name] = step.get(name, 0) + _compare_calls(net, result, name, a, b, step.get(name, 0), name in neurons)


def _pairs(
    expected: RecordedRun, found: RecordedRun, neurons: Sequence[str], changed: Sequence[str]
) -> Iterator[tuple[str, list[Tensor], list[Tensor], Tensor | None, Tensor | None]]:
    """Yield layers that both networks ran, with their outputs and gradients, in the order of ``found``."""
    calls: dict[str, list[ComparedLayer]] = {}
    for part in expected.parts:
        calls.setdefault(part.name, []).append(part)
    times = {name: [p.name for p in found.parts].count(name) for name in calls}
    taken = dict.fromkeys(calls, 0)
    for part in found.parts:
        name, every = part.name, calls.get(part.name, [])
        if name in changed or not every or len(every) % times[name]:
            continue
        count = len(every) // times[name]
        group = every[taken[name] : taken[name] + count]
        taken[name] += count
        if count == 1:
            outputs, gradients = group[0].outputs, group[0].gradient
        elif name in neurons or times[name] == 1:  # a call of each step
            outputs = [torch.stack(values) for values in zip(*(p.outputs for p in group))]
            complete = all(p.gradient for p in group)
            gradients = [torch.stack([p.gradient[0] for p in group])] if complete else []
        else:
            continue
        same = [a.shape for a in outputs[:1]] == [b.shape for b in part.outputs[:1]]
        if same or name in neurons:
            yield name, outputs, part.outputs, next(iter(gradients), None), next(iter(part.gradient), None)


def _where(net: nn.Module, name: str) -> str:
    return f"{name or 'net'}, a {type(net.get_submodule(name)).__name__},"


def _compare_calls(
    net: nn.Module, result: nn.Module, name: str, expected: list[Tensor], found: list[Tensor], step: int, strict: bool
) -> int:
    """Compare what a layer returned in one call; return the number of its steps."""
    layer: Any = result.get_submodule(name)
    where = _where(net, name)
    if not expected or not found:
        return 0
    a, b = (layer.time_first(t[0]) if isinstance(layer, Replaced) else t[0] for t in (expected, found))
    if a.shape != b.shape:
        raise PartedError(f"{where} gives shape {list(b.shape)}, expected {list(a.shape)}, time first")
    fires = strict and layer.fires
    quantity = "outputs" if not strict else "spikes" if fires else "membranes"
    differ = (a != b) if fires else ~_close(a, b)
    if bool(differ.any()):
        steps = differ.reshape(len(differ), -1).any(1).nonzero().flatten() if differ.dim() else torch.zeros(1)
        first = int(steps[0])
        part = differ[first] if differ.dim() else differ
        raise PartedError(
            f"{quantity} of {where} differ from step {step + first} on, "
            f"at that step in {int(part.sum())} of {part.numel()} neurons"
        )
    for state, actual in zip(expected[1:], found[1:]):
        # A sequence returns only the last value of some states.
        state = state[-1] if state.dim() == actual.dim() + 1 else state
        if state.shape == actual.shape and not bool(_close(state, actual).all()):
            raise PartedError(f"states of {where} differ after step {step + len(a) - 1}")
    return len(a) if a.dim() else 1


def _compare_outputs(call: int, expected: Tensors, found: Tensors) -> None:
    """Compare the outputs of the networks in a call; raise where they differ."""
    start = f"outputs differ in call {call}: "
    if expected.keys() != found.keys():
        raise PartedError(f"{start}the network returns {len(expected)} tensors, its copy {len(found)}, at other places")
    for key, value in expected.items():
        actual = found[key]
        if value.shape != actual.shape:
            raise PartedError(
                f"{start}{key or 'the result'} has shape {list(actual.shape)}, expected {list(value.shape)}"
            )
        differ = ~_close(value, actual)
        if bool(differ.any()):
            raise PartedError(f"{start}{key or 'the result'} does in {int(differ.sum())} of {differ.numel()} values")


def _compare_gradients(
    result: nn.Module, expected: RecordedRun, found: RecordedRun, neurons: Sequence[str], changed: Sequence[str]
) -> None:
    """Compare gradients of layers, from the last one back, and of inputs and parameters."""
    if expected.gradients is None:  # nothing to train
        return
    if found.gradients is None:
        raise PartedError("the results of the network have a gradient, those of its copy none")
    skipped = tuple(f"{name}." for name in changed)
    keys = [k for k in expected.gradients if k in found.gradients and not k.startswith(skipped)]
    missing = [k for k in expected.gradients if k not in found.gradients and not k.startswith(skipped)]
    largest = max((float(g.abs().max()) for g in expected.gradients.values() if g.numel()), default=0.0)
    parted = [f"that of {key} is missing" for key in missing]
    for key in keys:
        if off := _difference(expected.gradients[key], found.gradients[key], largest):
            parted.append(f"that of {key} {off}")
    if not parted:
        return
    after = "the result"
    for name, _, _, a, b in reversed(list(_pairs(expected, found, neurons, changed))):
        if a is None or b is None or a.shape != b.shape:
            continue
        # of equal steps, Time returns the mean over the steps
        if off := _difference(a.sum(0), b.sum(0), largest):
            parted.insert(0, f"first that of the output of {name or 'net'}, before {after}, {off}")
            break
        after = _where(result, name).rstrip(",")
    raise PartedError(f"gradients differ, from the last layer back: {'; '.join(parted)}")


def _difference(a: Tensor, b: Tensor, largest: float) -> str:
    """Return how far two gradients are apart, empty if they agree; ``largest``: the largest gradient of the network."""
    differ = ~_close(a, b, (DOUBLE_FLOOR if a.dtype == torch.float64 else SINGLE_FLOOR) * largest)
    return f"by up to {float((a - b).abs().max()):.3g} of {float(a.abs().max()):.3g}" if bool(differ.any()) else ""


def _close(a: Tensor, b: Tensor, least: float = 0.0) -> Tensor:
    """Return where two tensors agree; ``least``: an allowed difference."""
    tolerance = DOUBLE if a.dtype == torch.float64 else SINGLE
    a, b = a.double(), b.double()
    finite = a[a.isfinite()]
    scale = float(finite.abs().max()) if finite.numel() else 0.0
    return torch.isclose(a, b, rtol=tolerance, atol=max(least, tolerance * scale), equal_nan=True)
