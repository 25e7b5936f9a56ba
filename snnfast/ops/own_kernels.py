"""Kernels of user-defined neurons, compiled at run time, and the operators that run them all.

Plain arguments of a call: the name of the kernel, its numbers, ``return_v_seq``, the connections of recurrent
neurons (:data:`snnfast.reference.recurrent.FIELDS`), then inputs, states and parameters, which the operators take as
three lists.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snnfast import backend
from snnfast.compiler.outside import Read
from snnfast.compiler.variant import ALPHA, Variant
from snnfast.reference.neuron import initial_states
from snnfast.reference.neuron_arguments import Neuron, refractory_of
from snnfast.reference.recurrent import FIELDS, NOT_RECURRENT

from .neuron import Kernel, register_kernels

__all__ = ["KERNELS", "CompiledKernel", "load"]

V_SEQ, CONNECTIONS, LISTS = 2, (3, 4, 5), 3 + len(FIELDS)  # positions; CONNECTIONS: those with a gradient


class CompiledKernel(Kernel):
    """A compiled kernel.

    Attributes:
        name: its name in the operators.
        variant: the choices that it is compiled for.
        numbers: names of its parameters that are numbers, in order.
        operators: the namespace of the operators.
        reads: what its step read from outside; the kernel is for these values.
    """

    def __init__(
        self,
        name: str,
        neuron: Neuron,
        variant: Variant,
        operators: Any,
        numbers: Sequence[str],
        checkpoint_every: int,
        reads: Sequence[Read] = (),
    ) -> None:
        self.name, self.variant, self.operators, self.numbers, self.reads = name, variant, operators, numbers, reads
        self.stem, self.checkpoint_every = name.rpartition("-")[0], checkpoint_every
        places = {field: place for place, field in enumerate(refractory_of(neuron.call)._fields)}
        self._states = [places[field] for field in (*neuron.states, *["r"] * variant.refractory)]
        self._tensors = [places[field] for field in variant.tensors]
        self._numbers = [places[field] for field in numbers if field in neuron.call._fields]
        self.flags = *(None,) * (neuron.outputs + len(self._states)), V_SEQ
        a = LISTS + len(neuron.inputs)
        b = a + len(self._states)
        lists = range(LISTS, a), range(a, b), range(b, b + len(self._tensors))
        super().__init__("own_neuron", *lists, CONNECTIONS if variant.recurrent else (), numbers=len(numbers))

    def flat(self, call: Any) -> list[Any]:
        """Return the plain arguments of a call; states that are all at rest, which the kernel fills in, are None."""
        variant = self.variant
        numbers = [call[place] for place in self._numbers]
        if ALPHA in self.numbers:
            numbers.append(call.surrogate.alpha)
        if variant.refractory:
            numbers.append(float(call.refractory))
        if variant.several:
            numbers.append(call.max_spikes)
        states = [call[place] for place in self._states]
        for state in states:  # any() takes twice as long
            if state is not None:
                states = initial_states(call)[: len(states)]
                break
        connections = call[-len(FIELDS) :] if variant.recurrent else NOT_RECURRENT
        tensors = [call[place] for place in self._tensors]
        plain = self.name, numbers, call.return_v_seq, *connections
        return [*plain, *call[: len(self.inputs)], *states, *tensors]

    def packed(self, flat: Sequence[Any]) -> list[Any]:
        """Return the first arguments of the operators; states at rest are an empty list."""
        a, b = self.states[0], self.states[-1] + 1
        states = [] if flat[a] is None else list(flat[a:b])
        return [*flat[:LISTS], list(flat[LISTS:a]), states, list(flat[b:])]

    def packed_backward(
        self, flat: list[Any], spikes: Tensor | None, x_repeats: bool, last: tuple[Any, ...], grads: list[Tensor | None]
    ) -> list[Any]:
        """Return the arguments of the backward operator; a gradient of zeros has no elements."""
        zeros = flat[LISTS].new_empty(0)
        return [*self.packed(flat), spikes, x_repeats, *last, [zeros if grad is None else grad for grad in grads]]

    def unpacked(self, arguments: Sequence[Any]) -> list[Any]:
        """Return the plain arguments from the arguments of an operator."""
        inputs, states, parameters = arguments[LISTS : LISTS + 3]
        return [*arguments[:LISTS], *inputs, *(states or [None] * len(self.states)), *parameters]


# By name, for fakes; the operators have a table themselves.
KERNELS: dict[str, CompiledKernel] = {}


def load(namespace: str, path: Path) -> int:
    """Load a compiled neuron or rule under the name of its file; return the steps between checkpoints of a neuron.

    Raises:
        RuntimeError: it cannot be loaded.
    """
    if namespace == "snnfast":
        assert backend.extension is not None, "a backend was chosen"
        return backend.extension.load_own_kernel(path.stem, str(path))  # type: ignore[no-any-return]
    (library,) = (path for path in torch.ops.loaded_libraries if "_cuda_emulation" in path)
    every: int = ctypes.CDLL(library).snnfast_load_own_kernel(path.stem.encode(), bytes(path))
    return every


def register(namespace: str) -> None:
    """Make the operators traceable without data, differentiable, and usable under ``torch.vmap``."""
    register_kernels(namespace, "own_neuron", lambda arguments: KERNELS[arguments[0]])
