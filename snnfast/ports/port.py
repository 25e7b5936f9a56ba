"""Base of the layers that replace neurons of another library: :class:`Port`."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from snnfast import check, ops
from snnfast.nn.replaced import Replaced
from snnfast.nn.spiking import show
from snnfast.nn.state import Memo, Stateful
from snnfast.reference.surrogate import Surrogate

__all__ = ["Library", "Looping", "Memo", "Port", "refuse"]

_NO_SETTINGS = ("training", "call_super_init", "dump_patches", "stateful", "store_v_seq", "least", "why", "_went_on")
Number: TypeAlias = Any  # a float, or a tensor that broadcasts


def refuse(where: str, reason: str) -> NoReturn:
    """Raise an error for a neuron without an exact equivalent; ``reason`` says why."""
    raise ValueError(f"replace: {where} cannot be mapped exactly: {reason}")


class Library(NamedTuple):
    """A library whose neurons :func:`snnfast.nn.replace` recognises by the names of their classes."""

    name: str
    # class name -> function of position (for errors), neuron and deepcopy memo that returns the replacement
    neurons: dict[str, Callable[[str, Any, Memo], nn.Module]]
    # class name -> why there is no replacement
    refused: dict[str, str]
    # names of base classes, and of a package, whose classes are neurons
    bases: frozenset[str]
    package: str = ""

    def is_neuron(self, kind: type) -> bool:
        """Return whether a class of the library is a neuron."""
        known = any(kind.__name__ in names for names in (self.neurons, self.refused, self.bases))
        return known or (self.package != "" and self.package in kind.__module__.split("."))


class Port(Replaced, Stateful):
    """A layer with the parameters, buffers, states and calls of a neuron of another library.

    Args:
        original: the neuron.
        memo: deepcopy memo of the network, so that layers that share a tensor still do.
        names: parameters, buffers and settings to copy.
    """

    states: tuple[str, ...] = ()
    surrogate = None

    def __init__(self, original: nn.Module, memo: Memo, names: tuple[str, ...]) -> None:
        super().__init__(stateful=True)
        # In the original order: optimizers identify parameters by it.
        for name in (n for n in original._parameters if n in names):
            self.register_parameter(name, copy.deepcopy(original._parameters[name], memo))
        for name in (n for n in original._buffers if n in names):
            value = original._buffers[name]
            persistent = name not in original._non_persistent_buffers_set
            self.register_buffer(name, None if value is None else value.detach().clone(), persistent)
        for name in (n for n in original._modules if n in names):
            self.add_module(name, copy.deepcopy(original._modules[name], memo))
        for name in (n for n in names if not self._registered(n)):
            setattr(self, name, copy.deepcopy(getattr(original, name), memo))
        self.train(original.training)

    def extra_repr(self) -> str:
        """Return parameters, buffers and settings that are numbers or strings."""
        registered = {**self._parameters, **self._buffers}
        values = {n: v for n, v in registered.items() if v is not None and v.numel()}
        plain = {n: v for n, v in self.__dict__.items() if isinstance(v, (int, float, str))}
        return show(values | {n: v for n, v in plain.items() if n not in _NO_SETTINGS})

    def _registered(self, name: str) -> bool:
        return any(name in kind for kind in (self._parameters, self._buffers, self._modules))


class Looping(Replaced):
    """A neuron that a loop calls once a step, and whose states are passed by the loop or kept by the neuron.

    Attributes:
        first_states_optional: whether the first step may omit the states, and then starts at rest.
        states_optional: whether any step may omit the states, and then continues from those of the previous call.
        returns_output_only: whether it returns only its output.
    """

    first_states_optional = False
    states_optional = False
    returns_output_only = False

    @property
    @abstractmethod
    def names_of_states(self) -> tuple[str, ...]:
        """Names of its state arguments, which follow the input."""

    @property
    @abstractmethod
    def state_results(self) -> tuple[int, ...]:
        """For each state argument, the index of the result of the previous step that it takes."""

    @property
    @abstractmethod
    def every_step(self) -> tuple[int, ...]:
        """Indices of the results that have a value for every step in a call over a sequence."""

    def take_sequence(self, from_rest: bool) -> None:
        """Switch to sequences ``[T, B, ...]``, which start at rest or continue from the previous call."""
        self.time_dim = 0
        self.stateful = not from_rest


def as_number(value: float | Tensor, x: Tensor) -> Number:
    """Return a constant for an op: a float if possible, else a tensor in the dtype of states of ``x``."""
    if not isinstance(value, Tensor):
        return float(value)
    plain = value.numel() == 1 and value.is_cpu and not value.requires_grad
    if plain and not torch.compiler.is_compiling():
        return value.item()
    value = value.to(device=x.device, dtype=check.state_dtype(x.dtype))
    return value.view(()) if value.numel() == 1 else value


def fires_above(surrogate: Surrogate | Callable[[Tensor], Tensor], threshold: Number) -> dict[str, Any]:
    """Arguments of an op for spikes above the threshold; other libraries' functions are strict themselves."""
    strict = isinstance(surrogate, Surrogate)
    return {"v_threshold": threshold, "surrogate": surrogate, "strict": strict}


def recurrent(x: Tensor, weight: Tensor, sent: Tensor | None, *, neuron: str, **arguments: Any) -> Any:
    """Call :func:`snnfast.ops.recurrent` after the spikes ``sent`` ``[B, H]``; for one step the neuron's faster op."""
    sent = None if sent is None else sent.to(x.dtype)
    if len(x) != 1 or x.dtype != weight.dtype:
        past = None if sent is None else sent.unsqueeze(0)
        return ops.recurrent(x, weight, past, neuron=neuron, **arguments)
    if sent is not None:
        x = x + functional.linear(sent, weight)
    return getattr(ops, neuron)(x, **arguments)


def with_spikes(x: Tensor, spk: Tensor, weight: Tensor, spikes: Tensor) -> Tensor:
    """Return the input plus the recurrent input of neurons that fired ``spk`` before and then ``spikes``."""
    sent = torch.cat([spk.to(spikes).unsqueeze(0), spikes[:-1]])
    return x + functional.linear(sent, weight.to(x.dtype))


def fire(surrogate: Any, membrane: Tensor, threshold: Number) -> Tensor:
    """Return the spikes of membranes of any shape, without a reset."""
    arguments = fires_above(surrogate, threshold)
    spikes: Tensor = ops.iaf(membrane.unsqueeze(0), **arguments, return_state=False)[0]
    return spikes[0]
