"""Kernels of user-defined neurons, compiled at run time, and the operators that run them all.

Plain arguments of a call: the name of the kernel, its numbers, ``return_v_seq``, ``weight``, ``past`` and ``delay`` of
recurrent neurons, then inputs, states and parameters, which the operators take as three lists.
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

from .neuron import Kind, register_kernels

__all__ = ["KERNELS", "Kernel", "load"]

V_SEQ, CONNECTIONS, LISTS = 2, (3, 4, 5), 6  # positions


class Kernel(Kind):
    """A compiled kernel.

    Attributes:
        name: its name in the operators.
        numbers, tensors: names of its parameters that are numbers or tensors, in order.
        operators: the namespace of the operators.
        reads: what its step read from outside; the kernel is for these values.
    """

    def __init__(
        self,
        name: str,
        operators: Any,
        numbers: Sequence[str],
        tensors: Sequence[str],
        sizes: tuple[int, int, int],
        recurrent: bool,
        checkpoint_every: int,
        reads: Sequence[Read] = (),
    ) -> None:
        inputs, states, outputs = sizes
        self.name, self.operators, self.numbers, self.tensors = name, operators, numbers, tensors
        self.reads = reads
        self.stem, self.checkpoint_every = name.rpartition("-")[0], checkpoint_every
        self.flags = *(None,) * (outputs + states), V_SEQ
        a, b = LISTS + inputs, LISTS + inputs + states
        lists = range(LISTS, a), range(a, b), range(b, b + len(tensors))
        super().__init__("own_neuron", *lists, CONNECTIONS if recurrent else (), numbers=len(numbers))

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
KERNELS: dict[str, Kernel] = {}


def load(namespace: str, path: Path) -> int:
    """Load a compiled kernel under the name of its file, and return the steps between its checkpoints.

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
