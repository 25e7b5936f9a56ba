"""Do two networks agree? :func:`agree` runs both and says where they first differ."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..state import without_graphs
from .port import Replaced

__all__ = ["agree"]

# Of membranes, relative to the largest of a layer: they are the same but for rounding.
TOLERANCE = 1e-4


def agree(
    net: nn.Module,
    result: nn.Module,
    names: list[str],
    inputs: Sequence[Tensor],
    *,
    sequences: bool = False,
    by_steps: bool = False,
) -> None:
    """Raises where layers ``names`` of ``result`` give other spikes or membranes than those of ``net``.

    Args:
        net: stays as it is; a copy of it runs, from rest.
        result: likewise.
        names: the layers to compare, in the order of the network.
        inputs: given one after the other.
        sequences: layers of ``result`` take all steps in a call, those of ``net`` one.
        by_steps: ``inputs`` is one sequence, of which ``net`` takes a step a call.
    """
    theirs = _outputs(net, names, list(inputs[0]) if by_steps else inputs)
    ours = _outputs(result, names, inputs)
    if sequences:
        theirs = {
            name: [[torch.stack(part) for part in zip(*calls)]] for name, calls in theirs.items()
        }
    for name in names:
        layer = result.get_submodule(name)
        where = f"{name or 'net'}, a {type(net.get_submodule(name)).__name__},"
        if len(theirs[name]) != len(ours[name]):
            raise ValueError(
                f"replace: {where} ran {len(theirs[name])} times in the network, {len(ours[name])} times in its copy"
            )
        step = 0
        for a, b in zip(theirs[name], ours[name]):
            step += _compare(where, layer, a, b, step)


def _compare(where: str, layer: Any, theirs: list[Tensor], ours: list[Tensor], step: int) -> int:
    """How many steps the call had."""
    a, b = (_time_first(layer, t[0]) for t in (theirs, ours))
    if a.shape != b.shape:
        raise ValueError(
            f"replace: {where} gives shape {list(b.shape)}, expected {list(a.shape)}, time first"
        )
    what = "spikes" if layer.fires else "membranes"
    differ = a != b if layer.fires else ~_close(a, b)
    steps = differ.flatten(1).any(1).nonzero().flatten()
    if len(steps):
        first = int(steps[0])
        count, neurons = int(differ[first].sum()), differ[first].numel()
        raise ValueError(
            f"replace: {what} of {where} differ from step {step + first} on, "
            f"at that step in {count} of {neurons} neurons"
        )
    for state, own in zip(theirs[1:], ours[1:]):
        if state.shape == own.shape and not bool(_close(state, own).all()):
            raise ValueError(f"replace: states of {where} differ after step {step + len(a) - 1}")
    return len(a)


def _time_first(layer: Replaced, output: Tensor) -> Tensor:
    output = layer.time_first(output)
    return output.unsqueeze(-1) if output.dim() == 1 else output


def _close(a: Tensor, b: Tensor) -> Tensor:
    scale = float(a.abs().max()) if a.numel() else 0.0
    return torch.isclose(a.to(b.dtype), b, rtol=TOLERANCE, atol=TOLERANCE * scale)


def _outputs(
    net: nn.Module, names: list[str], inputs: Sequence[Tensor]
) -> dict[str, list[list[Tensor]]]:
    """What layers return, by name and call, without a trace in ``net``."""
    net = _copied(net, names)
    for module in net.modules():
        for name in ("reset", "reset_mem", "reset_states"):
            forget = getattr(module, name, None)
            if callable(forget):
                forget()
    found: dict[str, list[list[Tensor]]] = {name: [] for name in names}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            found[name].append([t.detach().clone() for t in _tensors(output)])

        return hook

    for name in names:
        net.get_submodule(name).register_forward_hook(keep(name))
    with torch.no_grad(), torch.random.fork_rng():
        for x in inputs:
            net(x)
    return found


def _copied(net: nn.Module, names: list[str]) -> nn.Module:
    """A copy, also of layers whose own copying fails: that of Sinabs' recurrent ones."""
    memo = without_graphs(net)
    layers = [net.get_submodule(name) for name in names]
    own = [layer for layer in layers if hasattr(layer, "__deepcopy__")]
    for layer in own:
        memo[id(layer)] = type(layer).__new__(type(layer))
    for layer in own:
        memo[id(layer)].__dict__.update(copy.deepcopy(layer.__dict__, memo))
    return copy.deepcopy(net, memo)


def _tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    return [t for part in output for t in _tensors(part)] if isinstance(output, tuple) else []
