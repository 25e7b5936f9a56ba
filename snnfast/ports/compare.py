"""Comparison of two networks: :func:`agree` runs both and reports where they first differ."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from snnfast.nn.replaced import Replaced
from snnfast.nn.state import without_graphs
from snnfast.nn.time import DROPOUTS

__all__ = ["agree"]

# Largest difference of membranes and outputs, relative to the largest value: they differ by rounding only.
TOLERANCE = 1e-4
# Largest fraction of a layer's neurons whose spikes may differ: membranes within rounding of the threshold.
FEW = 1e-4

Arguments: TypeAlias = tuple[Any, ...]  # arguments of a call
Returned: TypeAlias = dict[str, Tensor]  # tensors that a call of a network returns, by their position


def agree(
    net: nn.Module,
    result: nn.Module,
    names: list[str],
    inputs: Sequence[Arguments],
    *,
    sequences: bool = False,
    by_steps: bool = False,
) -> None:
    """Raise an error if the outputs of ``result``, or spikes or membranes of its layers ``names``, differ from ``net``.

    A neuron within rounding of its threshold may fire at another step, which changes all later values of that sample.
    Such samples are left out from there on, with a warning, if at most one in 10,000 neurons of a layer differs, or a
    single one. If the layer returns membranes, these must be at the threshold; if it does not, a single neuron may
    differ only in layers of at least 10,000.

    Args:
        net: the network; it is not changed, a copy of it runs, from rest.
        result: the network to compare with; likewise.
        names: the layers to compare, in the order of the network.
        inputs: the arguments of consecutive calls.
        sequences: layers of ``result`` take all steps in a call, those of ``net`` one step.
        by_steps: ``inputs`` is one sequence, of which ``net`` takes one step per call.
    """
    calls = [(step,) for step in inputs[0][0]] if by_steps else inputs
    original, expected = _run(net, names, calls)
    replaced, returned = _run(result, names, inputs)
    if sequences:
        original = {name: _joined(result.get_submodule(name), original[name], replaced[name]) for name in names}
    if by_steps:
        expected = [{key: torch.stack([step[key] for step in expected]) for key in expected[0]}]
    samples = _Samples()
    try:
        for name in names:
            layer = result.get_submodule(name)
            where = f"{name or 'net'}, a {type(net.get_submodule(name)).__name__},"
            if len(original[name]) != len(replaced[name]):
                raise ValueError(
                    f"replace: {where} ran {len(original[name])} times in the network, {len(replaced[name])} times in "
                    "its copy"
                )
            step, samples.count = 0, 0
            for a, b in zip(original[name], replaced[name]):
                step += _compare(where, layer, a, b, step, samples)
        for call, (value, actual) in enumerate(zip(expected, returned)):
            _compare_outputs(call, value, actual, samples)
    except ValueError as error:
        raise ValueError(f"{error}{_hint(net)}") from error
    if samples.neurons:
        warnings.warn(
            f"replace: verify has left out {int(samples.out.sum())} of {len(samples.out)} samples from where "  # type: ignore[union-attr, arg-type]
            f"{samples.neurons} neurons fire otherwise, as they do within rounding of the threshold",
            stacklevel=3,
        )


def _hint(net: nn.Module) -> str:
    """Return a hint at layers that make two runs of a network differ, whatever its neurons do, or an empty string."""
    norms = nn.modules.batchnorm._BatchNorm
    found = [m for m in net.modules() if m.training and isinstance(m, (norms, *DROPOUTS))]
    kinds = sorted({type(module).__name__ for module in found})
    return f"; the network trains {', '.join(kinds)}: compare net.eval()" if kinds else ""


class _Samples:
    """Samples that are left out of the comparison.

    Attributes:
        out: mask of these samples, ``[B]``; None if there are none yet.
        neurons: number of neurons whose spikes differed first, before the values that follow from them.
        count: number of such neurons in the layer that is compared.
    """

    def __init__(self) -> None:
        self.out: Tensor | None = None
        self.neurons = self.count = 0

    def within(self, differ: Tensor) -> Tensor:
        """Return ``differ`` ``[T, B, ...]`` without the samples that are left out."""
        if self.out is None or differ.dim() < 3 or differ.shape[1] != len(self.out):
            return differ
        return differ & ~self.out.view(1, -1, *[1] * (differ.dim() - 2))

    def leave_out(self, differ: Tensor, near: Tensor | None) -> None:
        """Leave samples out if few neurons differ first; ``near``: mask of membranes at the threshold."""
        if differ.dim() < 3:
            return
        differ = differ.flatten(2)
        steps = differ.any(2)
        hit = steps.any(0)
        positions = steps.float().argmax(0)[hit], hit.nonzero().flatten()
        first = differ[positions]  # [samples, neurons]
        self.count += int(first.sum())
        out = hit if self.out is None else hit | self.out
        if near is None:
            forgiven = self.count <= FEW * differ[0].numel()
        else:
            at_threshold = bool(near.flatten(2)[positions][first].all())
            forgiven = at_threshold and self.count <= max(1.0, FEW * differ[0].numel())
        if forgiven and not bool(out.all()):
            self.out = out
            self.neurons += int(first.sum())


def _compare(
    where: str, layer: Any, original: list[Tensor], replaced: list[Tensor], step: int, samples: _Samples
) -> int:
    """Compare the results of a layer in one call; return the number of its steps."""
    a, b = (_time_first(layer, t[0]) for t in (original, replaced))
    if a.shape != b.shape:
        raise ValueError(f"replace: {where} gives shape {list(b.shape)}, expected {list(a.shape)}, time first")
    quantity = "spikes" if layer.fires else "membranes"
    differ = samples.within(a != b if layer.fires else ~_close(a, b))
    if layer.fires and bool(differ.any()):
        samples.leave_out(differ, _near(layer, original, replaced))
        differ = samples.within(differ)
    steps = differ.flatten(1).any(1).nonzero().flatten()
    if len(steps):
        first = int(steps[0])
        count, neurons = int(differ[first].sum()), differ[first].numel()
        raise ValueError(
            f"replace: {quantity} of {where} differ from step {step + first} on, "
            f"at that step in {count} of {neurons} neurons"
        )
    for state, actual in zip(original[1:], replaced[1:]):
        # A sequence returns only the last value of some states.
        state = state[-1] if state.dim() == actual.dim() + 1 else state
        if state.shape != actual.shape:
            continue
        differ = ~_close(state, actual)
        # A result without time is the state after the last step.
        differ = differ if differ.dim() == a.dim() else differ.unsqueeze(0)
        if bool(samples.within(differ).any()):
            raise ValueError(f"replace: states of {where} differ after step {step + len(a) - 1}")
    return len(a)


def _near(layer: Any, original: list[Tensor], replaced: list[Tensor]) -> Tensor | None:
    """Return the mask of snnTorch's membranes before reset that are at the threshold; None for other neurons."""
    membranes = [t[-1] for t in (original, replaced)]
    if getattr(layer, "states", ())[-1:] != ("mem",) or any(
        len(t) < 2 or t[-1].shape != t[0].shape for t in (original, replaced)
    ):
        return None
    scale = max(float(m.abs().max()) for m in membranes)
    near = [(m - layer.threshold.to(m)).abs() <= TOLERANCE * scale for m in membranes]
    return _time_first(layer, near[0] & near[1])


def _joined(layer: Any, original: list[list[Tensor]], replaced: list[list[Tensor]]) -> list[list[Tensor]]:
    """Stack the results of single-step calls as the calls of ``replaced`` return them for all of their steps."""
    lengths = [len(layer.time_first(call[0])) for call in replaced]
    if sum(lengths) != len(original):
        return original
    steps = iter(original)
    return [[torch.stack(part) for part in zip(*islice(steps, length))] for length in lengths]


def _compare_outputs(call: int, expected: Returned, returned: Returned, samples: _Samples) -> None:
    """Compare the outputs of the networks in a call; raise ValueError where they differ."""
    start = f"replace: outputs differ in call {call}: "
    if expected.keys() != returned.keys():
        raise ValueError(
            f"{start}the network returns {len(expected)} tensors, its copy {len(returned)}, at other places"
        )
    for key, value in expected.items():
        actual = returned[key]
        if value.shape != actual.shape:
            raise ValueError(
                f"{start}{key or 'the result'} has shape {list(actual.shape)}, expected {list(value.shape)}"
            )
        differ = ~_close(value, actual)
        if bool(differ.any()) and not _is_left_out(differ, samples):
            raise ValueError(f"{start}{key or 'the result'} does in {int(differ.sum())} of {differ.numel()} values")


def _is_left_out(differ: Tensor, samples: _Samples) -> bool:
    """Return whether all differences are in samples that are left out, whichever dimension the samples are."""
    if samples.out is None:
        return False
    dims = [dim for dim, size in enumerate(differ.shape) if size == len(samples.out)]
    mixed = not dims  # such as a mean over the samples
    return mixed or any(not bool(differ.movedim(dim, 0)[~samples.out].any()) for dim in dims)


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield all tensors in tuples, lists and dictionaries, detached, with their position."""
    if isinstance(value, Tensor):
        yield key, value.detach()
    elif isinstance(value, (tuple, list, dict)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, part in items:
            yield from _leaves(part, f"{key}[{name!r}]")


def _time_first(layer: Replaced, output: Tensor) -> Tensor:
    output = layer.time_first(output)
    return output.unsqueeze(-1) if output.dim() == 1 else output


def _close(a: Tensor, b: Tensor) -> Tensor:
    a, b = a.double(), b.double()
    finite = a[a.isfinite()]
    scale = float(finite.abs().max()) if finite.numel() else 0.0
    return torch.isclose(a, b, rtol=TOLERANCE, atol=TOLERANCE * scale, equal_nan=True)


def _run(
    net: nn.Module, names: list[str], inputs: Sequence[Arguments]
) -> tuple[dict[str, list[list[Tensor]]], list[Returned]]:
    """Return the outputs of layers, by name and call, and of the network, by call; ``net`` stays unchanged."""
    net = _copied(net, names)
    for module in net.modules():
        for name in ("reset", "reset_mem", "reset_states"):
            forget = getattr(module, name, None)
            if callable(forget):
                forget()
    found: dict[str, list[list[Tensor]]] = {name: [] for name in names}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            found[name].append([tensor.clone() for _, tensor in _leaves(output)])

        return hook

    for name in names:
        net.get_submodule(name).register_forward_hook(keep(name))
    with torch.no_grad(), torch.random.fork_rng():
        returned = [dict(_leaves(net(*arguments))) for arguments in inputs]
    return found, returned


def _copied(net: nn.Module, names: list[str]) -> nn.Module:
    """Return a copy, also of layers whose ``__deepcopy__`` fails, as that of Sinabs' recurrent layers."""
    memo = without_graphs(net)
    layers = [net.get_submodule(name) for name in names]
    custom = [layer for layer in layers if hasattr(layer, "__deepcopy__")]
    for layer in custom:
        memo[id(layer)] = type(layer).__new__(type(layer))
    for layer in custom:
        memo[id(layer)].__dict__.update(copy.deepcopy(layer.__dict__, memo))
    return copy.deepcopy(net, memo)
