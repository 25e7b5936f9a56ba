"""State of layers: when it is kept, and how it is reset, detached, saved and moved."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn

from snnfast import check
from snnfast.reference.surrogate import Surrogate

from .library import library_of
from .replaced import Replaced

__all__ = ["Memo", "Stateful", "detach", "is_memory", "reset", "without_graphs"]

Memo: TypeAlias = dict[int, Any]  # of copy.deepcopy: id of an object -> its copy


class Stateful(nn.Module):
    """Base of the layers that integrate over time.

    With ``stateful=False`` every call starts at rest, and no state is kept. With ``stateful=True`` a call starts where
    the last one ended, gradients included, until :func:`reset` or :func:`detach`.

    Attributes:
        op: the op of :mod:`snnfast.ops` that the layer calls.
        surrogate: its surrogate gradient; None without spikes.
        stateful: whether the state is kept between calls and saved in ``state_dict``.
        states: the names of the state tensors, each ``x.shape[1:]``, or None at rest.
        constants: the names of the attributes that the op takes as arguments of these names.
        saved: whether a ``state_dict`` holds the states, and one without them resets.
    """

    op: ClassVar[str]
    saved: ClassVar[bool] = True
    states: tuple[str, ...] = ("v",)
    surrogate: Surrogate | Callable[[Tensor], Tensor] | None
    v: Tensor | None
    constants: tuple[str, ...] = ()
    # Whether a call inside a reentrant checkpoint, which hides gradients, has gone on from an earlier call.
    _went_on = False

    def __init__(self, *, stateful: bool = False) -> None:
        super().__init__()
        self.stateful = check.flag(type(self).__name__, "stateful", stateful)
        # Attributes, not buffers: DistributedDataParallel copies rank 0's buffers to every rank.
        self.reset()

    def reset(self) -> None:
        """Reset the state: the next call starts at rest, with any batch size."""
        for name in self.states:
            setattr(self, name, None)

    def detach(self) -> None:
        """Keep the values of the state and drop its graph."""
        for name in self.states:
            value = getattr(self, name)
            setattr(self, name, None if value is None else value.detach())

    def step(self, x: Tensor) -> Any:
        """One time step, for layers with ``stateful=True``.

        Args:
            x: the input of this step, ``[B, ...]``, without a time dimension.

        Returns:
            The result of the layer, without a time dimension.

        Raises:
            RuntimeError: with ``stateful=False``, where every step would start at rest.
        """
        if not self.stateful:
            raise RuntimeError(f"{type(self).__name__}.step: needs stateful=True, or each step would start at rest")
        result = self(x.unsqueeze(0))
        return tuple(r.squeeze(0) for r in result) if isinstance(result, tuple) else result.squeeze(0)

    def _load_states(self, x: Tensor) -> tuple[Tensor | None, ...]:
        """Return the states before the first step of ``x``, as the op takes them."""
        check.sequence(type(self).__name__, x)
        states = list(self._initial_states(x))
        if not self.stateful or self._runs_again():
            return tuple(states)
        for place, name in enumerate(self.states):
            value = getattr(self, name)
            if value is not None:
                self._check_state(name, value, x)
                value = self._carried(name, value)
                states[place] = value.to(device=x.device, dtype=check.state_dtype(x.dtype))
        return tuple(states)

    def _initial_states(self, x: Tensor) -> tuple[Tensor | None, ...]:
        """Return the states of a layer at rest before the first step of ``x``; None: the op knows them."""
        return (None,) * len(self.states)

    def _check_state(self, name: str, value: object, x: Tensor) -> None:
        """Raise if a state is not a tensor for batches of the shape of ``x``."""
        layer = type(self).__name__
        if not isinstance(value, Tensor):
            raise TypeError(f"{layer}: the state {name} must be a tensor or None, got {type(value).__name__}")
        if value.shape != self._state_shape(value, x):
            hint = ""
            if value.shape == x.shape:
                hint = "; x must have shape [T, B, ...]: of one step [B, ...] call step(x)"
            elif value.shape == (x.shape[0], *x.shape[2:]):
                hint = "; x must have shape [T, B, ...]: of a batch-first sequence give x.transpose(0, 1)"
            raise ValueError(
                f"{layer}: the state {name} has shape {list(value.shape)}, but x.shape[1:] "
                f"is {list(x.shape[1:])}; call reset() before a batch of another shape{hint}"
            )

    def _carried(self, name: str, value: Tensor) -> Tensor:
        """Return the state of an earlier call in a form that this call can use."""
        if not torch.compiler.is_compiling() and _is_in_checkpoint():
            if torch.is_grad_enabled():
                raise self._cannot_run_again()
            self._went_on = True
        if value.requires_grad and torch.is_grad_enabled():
            sentence = (
                f"{type(self).__name__}: the state {name} carries the graph of an earlier batch, which "
                "backward() has freed; call reset() or detach() between batches "
                "(snnfast.nn.reset(net) or snnfast.nn.detach(net))"
            )
            if torch.compiler.is_compiling():
                value = _standing(value, sentence)
            elif _graph_is_freed(value):
                raise RuntimeError(sentence)
        # Autograd cannot save a tensor of inference mode, and training may well follow a validation.
        return value.clone() if _is_left_by_inference_mode(value) else value

    def _runs_again(self) -> bool:
        """Return whether ``torch.utils.checkpoint`` repeats a call in the backward pass: from rest, as that call began.

        Raises:
            RuntimeError: if a call inside a reentrant checkpoint went on from an earlier one.
        """
        if torch.compiler.is_compiling() or torch._C._current_graph_task_id() == -1 or not _is_in_checkpoint():
            return False
        if self._went_on:
            raise self._cannot_run_again()
        return True

    def _cannot_run_again(self) -> RuntimeError:
        return RuntimeError(
            f"{type(self).__name__}: torch.utils.checkpoint runs the layer again in the backward pass, from rest, and "
            "this call goes on from the state of an earlier one; call reset() before each call, with "
            "use_reentrant=False, or put the layers into snnfast.nn.Recomputed, which saves states"
        )

    def _state_shape(self, value: Tensor, x: Tensor) -> tuple[int, ...]:
        """Return the shape that a state must have for ``x``."""
        return tuple(x.shape[1:])

    def _store_states(self, *states: Tensor | None) -> None:
        if not self.stateful or self._runs_again():
            return
        for name, value in zip(self.states, states):
            if value is not None and (where := self._loses(name, value)):
                raise RuntimeError(
                    f"{type(self).__name__}: a layer with stateful=True cannot keep its state "
                    f"{where}; use stateful=False"
                )
            setattr(self, name, value)

    def _loses(self, name: str, value: Tensor) -> str:
        """Return the transformation under which a state cannot be kept; empty without one."""
        if torch.compiler.is_compiling():
            return ""
        if torch._C._functorch.is_batchedtensor(value):
            return "under torch.vmap"
        # A layer whose states are inputs, as in snnfast.export.Step, returns them.
        return "in torch.jit.trace" if torch._C._is_tracing() and getattr(self, name) is None else ""

    def _add_constant(self, name: str, value: float | Tensor | None) -> None:
        """Register a parameter, a tensor as a buffer, or set a number as a plain attribute."""
        if isinstance(value, nn.Parameter):
            self.register_parameter(name, value)
        elif isinstance(value, Tensor):
            dtype = check.state_dtype(value.dtype)
            self.register_buffer(name, value.detach().to(dtype, copy=True))
        else:
            setattr(self, name, value)

    def _add_parameter(
        self, name: str, value: float | Tensor | None, checked: Callable[[str, str, object], float] = check.number
    ) -> None:
        """Add a constant: None, a number that passes ``checked``, or a tensor, whose shape the op checks."""
        if value is not None and not isinstance(value, Tensor):
            checked(type(self).__name__, name, value)
        self._add_constant(name, value)

    def _constant(self, name: str, x: Tensor) -> Any:
        """Return a constant as the op takes it for ``x``."""
        value = getattr(self, name)
        return value.to(check.state_dtype(x.dtype)) if isinstance(value, Tensor) else value

    def _arguments(self, x: Tensor) -> dict[str, Any]:
        """Return the op's arguments besides ``x`` and the states."""
        return {name: self._constant(name, x) for name in self.constants}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Stateful:
        constants = {name: value for name, value in self._buffers.items() if value is not None}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, value in constants.items():
            self._buffers[name] = _at_least_float32(value, self._buffers[name])
        for name in self.states:
            value = getattr(self, name)
            if value is not None:
                setattr(self, name, _at_least_float32(value, fn(value)))
        return self

    def __getstate__(self) -> dict[str, Any]:
        # deepcopy refuses tensors with a graph.
        return {name: _without_graph(value) for name, value in self.__dict__.items()}

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.stateful and self.saved:
            for name in self.states:
                value = getattr(self, name)
                if value is not None:
                    destination[prefix + name] = value if keep_vars else value.detach()

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        if not (self.stateful and self.saved):
            return
        for name in self.states:
            key = prefix + name
            if key in unexpected_keys:
                unexpected_keys.remove(key)
            current, loaded = getattr(self, name), state_dict.get(key)
            if loaded is None:
                setattr(self, name, None)
            elif current is not None and current.shape != loaded.shape:
                error_msgs.append(
                    f"{type(self).__name__}: the saved state {key} has shape {list(loaded.shape)}, "
                    f"the layer's has {list(current.shape)}; call reset() before loading it"
                )
            else:
                device = loaded.device if current is None else current.device
                setattr(self, name, loaded.detach().to(device, copy=True))


def _without_graph(value: Any) -> Any:
    if type(value) is dict:
        return {name: _without_graph(inner) for name, inner in value.items()}
    return value.detach() if isinstance(value, Tensor) and not value.is_leaf else value


def reset(net: nn.Module) -> None:
    """Reset the state of every snnfast layer in ``net``: the next batch starts at rest.

    The same goes for each ``MemoryModule`` of SpikingJelly that :func:`snnfast.nn.replace` does not replace.

    Raises:
        TypeError: if ``net`` is no module.
    """
    for module in _stateful("reset", net):
        module.reset()


def detach(net: nn.Module) -> None:
    """Keep the state of every snnfast layer in ``net`` and drop its graph.

    Between chunks of a long sequence this is truncated backpropagation through time. The same goes for each
    ``MemoryModule`` of SpikingJelly that :func:`snnfast.nn.replace` does not replace.

    Raises:
        TypeError: if ``net`` is no module.
    """
    for module in _stateful("detach", net):
        module.detach()


def without_graphs(net: nn.Module) -> Memo:
    """Deepcopy memo of ``net`` with detached copies of tensors that have a graph, which deepcopy refuses."""
    memo: Memo = {}

    def look(value: Any) -> None:
        if isinstance(value, Tensor):
            if not value.is_leaf:
                memo[id(value)] = value.detach().clone()
        elif isinstance(value, (dict, list, tuple)):
            for part in value.values() if isinstance(value, dict) else value:
                look(part)

    for module in net.modules():
        if isinstance(module, torch.jit.ScriptModule):
            if id(module) not in memo:
                _copy_script(module, memo)
        else:
            look(module.__dict__)
    return memo


def _copy_script(module: nn.Module, memo: Memo) -> None:
    """Copy TorchScript into ``memo``: deepcopy clones parameters, and gradients of clones reach those of ``module``."""
    copied = copy.deepcopy(module)
    for old, new in zip(module.parameters(), copied.parameters()):
        memo[id(old)] = new.detach_().requires_grad_(old.requires_grad)  # other layers may share it
    memo.update(zip(map(id, module.modules()), copied.modules()))


def _stateful(function: str, net: Any) -> Iterator[Any]:
    check.module(function, "net", net)
    for module in net.modules():
        if isinstance(module, Stateful) or is_memory(module):
            yield module


def is_memory(module: nn.Module) -> bool:
    """Return whether ``module`` is a stateful module of SpikingJelly, without importing the library."""
    return not isinstance(module, Replaced) and any(
        kind.__name__ == "MemoryModule" and library_of(kind) == "spikingjelly" for kind in type(module).__mro__
    )


def _at_least_float32(before: Tensor, after: Tensor | None) -> Tensor | None:
    # A decay of 0.999 is 1 in bfloat16; the ops take states and constants in float32 anyway.
    if after is not None and after.dtype in (torch.bfloat16, torch.float16):
        return before.to(after.device, torch.float32)
    return after


def _is_left_by_inference_mode(state: Tensor) -> bool:
    if torch.compiler.is_compiling():
        return False
    return state.is_inference() and not torch.is_inference_mode_enabled()


@cache
def _saved_names(node: Any) -> tuple[str, ...]:
    """Return names of the saved tensors of an autograd node's type, readable until the node is freed."""
    return tuple(n for n in dir(node) if n == "_raw_saved_tensors" or n.startswith("_saved_"))


def _graph_is_freed(state: Tensor) -> bool:
    # The node of the op, or of the reference's last steps, is close; views may come before it.
    nodes: list[Any] = [] if state.grad_fn is None else [state.grad_fn]
    for node in nodes:
        kind: Any = type(node)
        for name in _saved_names(kind):
            try:
                getattr(node, name)
            except RuntimeError as error:
                if "second time" in str(error):
                    return True
        if type(node).__name__ == "_ScanBackward":
            return False  # the node of an op, which is freed together with the nodes before it
        nodes += [n for n, _ in node.next_functions if n is not None and len(nodes) < 8]
    return False


def _is_in_checkpoint() -> bool:
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__") != "torch.utils.checkpoint":
        frame = frame.f_back
    return frame.f_back is not None


# An op, so that a compiled layer checks its state in every call and not while it is traced. An op of PyTorch must not
# return its input, hence the copy.
@torch.library.custom_op("snnfast_nn::standing", mutates_args=())
def _standing(state: Tensor, sentence: str) -> Tensor:
    """Copy ``state``; raise with ``sentence`` if a backward pass has freed its graph."""
    if _graph_is_freed(state):
        raise RuntimeError(sentence)
    return state.clone()


@_standing.register_fake
def _(state: Tensor, sentence: str) -> Tensor:
    return torch.empty_like(state)


def _pass_on(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
    return grad, None


_standing.register_autograd(_pass_on)
