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

_OF_MODULES = ("training", "call_super_init", "dump_patches", "stateful", "store_v_seq")
Number: TypeAlias = Any  # a float, or a tensor that broadcasts


def refuse(where: str, reason: str) -> NoReturn:
    """Says which neuron has no exact equal, and why."""
    raise ValueError(f"replace: {where} cannot be mapped exactly: {reason}")


class Library(NamedTuple):
    """A library whose neurons :func:`snnfast.nn.replace` knows, each by the name of its class."""

    name: str
    # name of the class -> what makes its equal, from where it stands (for errors), the neuron and the memo of the copy
    neurons: dict[str, Callable[[str, Any, Memo], nn.Module]]
    # name of a neuron's class -> why it has no equal
    refused: dict[str, str]
    # names of base classes, and of the packages they stand in, that make a class one of a neuron
    bases: frozenset[str]
    package: str = ""

    def is_neuron(self, kind: type) -> bool:
        """Whether a class of the library is that of a neuron."""
        known = any(kind.__name__ in names for names in (self.neurons, self.refused, self.bases))
        return known or (self.package != "" and self.package in kind.__module__.split("."))


class Port(Replaced, Stateful):
    """A layer with the parameters, buffers, states and calls of a neuron of another library.

    Args:
        original: the neuron.
        memo: of the copy of the network, so that what two layers share stays shared.
        names: of parameters, buffers and settings to take over.
    """

    states: tuple[str, ...] = ()
    surrogate = None

    def __init__(self, original: nn.Module, memo: Memo, names: tuple[str, ...]) -> None:
        super().__init__(stateful=True)
        # In their order, by which optimizers know them.
        for name in (n for n in original._parameters if n in names):
            self.register_parameter(name, copy.deepcopy(original._parameters[name], memo))
        for name in (n for n in original._buffers if n in names):
            value = original._buffers[name]
            kept = name not in original._non_persistent_buffers_set
            self.register_buffer(name, None if value is None else value.detach().clone(), kept)
        for name in (n for n in original._modules if n in names):
            self.add_module(name, copy.deepcopy(original._modules[name], memo))
        for name in (n for n in names if not self._registered(n)):
            setattr(self, name, copy.deepcopy(getattr(original, name), memo))
        self.train(original.training)

    def extra_repr(self) -> str:
        """Parameters, buffers and settings that are numbers or words."""
        registered = {**self._parameters, **self._buffers}
        values = {n: v for n, v in registered.items() if v is not None and v.numel()}
        plain = {n: v for n, v in self.__dict__.items() if isinstance(v, (int, float, str))}
        return show(values | {n: v for n, v in plain.items() if n not in _OF_MODULES})

    def _registered(self, name: str) -> bool:
        return any(name in kind for kind in (self._parameters, self._buffers, self._modules))


class Looping(Replaced):
    """A neuron that is called once a step, in a loop that hands on its states, or that leaves them to it.

    Attributes:
        begins_bare: whether the first step may leave its states out, and then begins at rest.
        keeps: whether any step may, and then goes on from the states of the call before.
        returns_one: whether it returns its output alone.
    """

    begins_bare = False
    keeps = False
    returns_one = False

    @property
    @abstractmethod
    def names_of_states(self) -> tuple[str, ...]:
        """The names of its arguments besides the input, which are its states."""

    @property
    @abstractmethod
    def handed_on(self) -> tuple[int, ...]:
        """For each state that it is given, which result of the step before that is."""

    @property
    @abstractmethod
    def every_step(self) -> tuple[int, ...]:
        """Which results of a call over a sequence are those of all steps."""

    def take_sequence(self, from_rest: bool) -> None:
        """Takes sequences ``[T, B, ...]`` from now on, which begin at rest or go on from the call before."""
        self.time_dim = 0
        self.stateful = not from_rest


def as_number(value: float | Tensor, x: Tensor) -> Number:
    """A constant as an op takes it: a float where that says it all, else a tensor in the dtype of states of ``x``."""
    if not isinstance(value, Tensor):
        return float(value)
    plain = value.numel() == 1 and value.is_cpu and not value.requires_grad
    if plain and not torch.compiler.is_compiling():
        return value.item()
    value = value.to(device=x.device, dtype=check.state_dtype(x.dtype))
    return value.view(()) if value.numel() == 1 else value


def fires_above(surrogate: Surrogate | Callable[[Tensor], Tensor], threshold: Number) -> dict[str, Any]:
    """Arguments of an op for spikes above the threshold; a function of the other library sees to that itself."""
    strict = isinstance(surrogate, Surrogate)
    return {"v_threshold": threshold, "surrogate": surrogate, "strict": strict}


def recurrent(x: Tensor, weight: Tensor, sent: Tensor | None, *, neuron: str, **arguments: Any) -> Any:
    """:func:`snnfast.ops.recurrent` after the spikes ``sent`` ``[B, H]``; of a single step the neuron's op: quicker."""
    sent = None if sent is None else sent.to(x.dtype)
    if len(x) != 1 or x.dtype != weight.dtype:
        past = None if sent is None else sent.unsqueeze(0)
        return ops.recurrent(x, weight, past, neuron=neuron, **arguments)
    if sent is not None:
        x = x + functional.linear(sent, weight)
    return getattr(ops, neuron)(x, **arguments)


def with_spikes(x: Tensor, spk: Tensor, weight: Tensor, spikes: Tensor) -> Tensor:
    """The input and what comes back, where the neurons fired ``spk`` before and then ``spikes``."""
    sent = torch.cat([spk.to(spikes).unsqueeze(0), spikes[:-1]])
    return x + functional.linear(sent, weight.to(x.dtype))


def fire(surrogate: Any, membrane: Tensor, threshold: Number) -> Tensor:
    """Spikes of membranes of any shape above the threshold, without a reset."""
    arguments = fires_above(surrogate, threshold)
    spikes: Tensor = ops.iaf(membrane.unsqueeze(0), **arguments, return_state=False)[0]
    return spikes[0]
