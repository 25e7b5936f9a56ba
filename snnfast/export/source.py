"""Builder of C source: arrays of weights, static memory, functions, and the calls of a step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from string import Template
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["KINDS", "CLayer", "CValue", "Source", "element", "literal"]

BYTES = {"float": 4, "int": 4, "int64_t": 8, "int32_t": 4, "int16_t": 2, "uint16_t": 2, "int8_t": 1, "uint8_t": 1}
KINDS = {torch.float32: "float", torch.int8: "int8_t", torch.int32: "int32_t", torch.int64: "int32_t"}


class CValue(NamedTuple):
    """Output of a layer: an array in C, and the shape of a sample in PyTorch. In C, images are ``[H, W, C]``.

    ``kind``: C type of the elements. ``ones``: every element is 0 or 1. ``most``: largest magnitude of the sums of each
    channel; None: unknown. ``image``: shape of the image whose elements a flat array has, in the order of C.
    """

    array: str
    shape: tuple[int, ...]
    kind: str = "float"
    ones: bool = False
    most: Tensor | None = None
    image: tuple[int, ...] | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


class CLayer(NamedTuple):
    """A layer in C, with its size in bytes.

    Attributes:
        name: name of the layer in the network.
        kind: class of the layer.
        shape: shape of its output for one sample and step.
        weights: bytes of its constants.
        memory: bytes of its state and its output.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    weights: int
    memory: int


class Source:
    """Declarations, functions and calls of a C program, collected layer by layer."""

    def __init__(self) -> None:
        self.constants: list[str] = []
        self.variables: list[str] = []
        self.helpers: list[str] = []
        self.functions: list[str] = []
        self.once: list[str] = []  # calls that only a new input needs
        self.calls: list[str] = []
        self._waits = False
        self.resets: list[str] = []
        self.layers: list[CLayer] = []
        self._weights = self._memory = 0

    def waits(self) -> None:
        """Call all later functions in every step, even if the input is unchanged."""
        self._waits = True

    def layer(self, name: str, kind: str, shape: tuple[int, ...]) -> None:
        """End a layer, which owns everything added since the last one."""
        self.layers.append(CLayer(name, kind, shape, self._weights, self._memory))
        self._weights = self._memory = 0

    def floats(self, array: str, values: Tensor) -> str:
        """Add a constant array of float32."""
        flat = values.detach().float().flatten().tolist()
        self._weights += 4 * len(flat)
        self.constants.append(_array("float", array, [literal(v) for v in flat]))
        return array

    def integers(self, array: str, values: Iterable[int], kind: str = "int") -> str:
        """Add a constant array of integers: ``int8_t``, ``uint8_t`` or ``int32_t``, or ``int`` for indices."""
        texts = [str(int(v)) for v in values]
        self._weights += BYTES[kind] * len(texts)
        self.constants.append(_array(kind, array, texts))
        return array

    def memory(self, array: str, size: int, kind: str = "float") -> str:
        """Add static memory, 0 at the start."""
        self._memory += BYTES[kind] * size
        self.variables.append(f"static {kind} {array}[{size}];")
        return array

    def state(self, array: str, size: int, rest: str = "0.0f", kind: str = "float") -> str:
        """Add static memory that a reset sets to ``rest``, an expression of ``n``."""
        self.memory(array, size, kind)
        self.resets.append(f"for (int n = 0; n < {size}; n++) {array}[n] = {rest};")
        return array

    def counter(self, name: str) -> str:
        """Add an integer that a reset sets to 0."""
        self._memory += 4
        self.variables.append(f"static int {name};")
        self.resets.append(f"{name} = 0;")
        return name

    def counted(self, name: str) -> None:
        """Add a counter that the caller may read, and that no reset changes."""
        if (line := f"long {name};") not in self.variables:
            self.variables.append(line)

    def helper(self, text: str) -> None:
        """Add a function that other functions call, unless it is there."""
        if text not in self.helpers:
            self.helpers.append(text)

    def function(self, template: str, **values: object) -> None:
        """Add a function ``$id`` without arguments, and its call after the earlier ones."""
        self.functions.append(Template(template.strip("\n")).substitute(values))
        (self.calls if self._waits else self.once).append(f"{values['id']}();")


def literal(value: float) -> str:
    """Return a float32 number in C; nine digits restore its bits.

    Raises:
        ValueError: for infinity and NaN.
    """
    if not math.isfinite(value):
        raise ValueError(f"{value} is no number that C99 can write")
    text = f"{torch.tensor(value, dtype=torch.float32).item():.9g}"
    return f"{text if set(text) & set('.e') else f'{text}.0'}f"


def _array(kind: str, array: str, values: Sequence[str]) -> str:
    lines = [", ".join(values[i : i + 12]) for i in range(0, len(values), 12)]
    body = ",\n  ".join(lines)
    return f"static const {kind} {array}[{len(values)}] = {{\n  {body}}};"


def element(source: Source, array: str, value: float | Tensor, shape: tuple[int, ...]) -> str:
    """Return the C expression of a parameter of neuron ``n``: a number, or an array element per neuron or channel."""
    if not isinstance(value, Tensor) or value.numel() == 1:
        return literal(float(value))
    if not value.isfinite().all():
        raise ValueError(f"has {array.rpartition('_')[2]} that is not finite")
    if len(shape) != 3:
        return f"{source.floats(array, value.expand(shape))}[n]"
    channels = value.expand(torch.broadcast_shapes(value.shape, (1, 1, 1)))
    if channels.shape[1:] == (1, 1):
        return f"{source.floats(array, channels.expand(shape[0], 1, 1))}[n % {shape[0]}]"
    return f"{source.floats(array, value.expand(shape).permute(1, 2, 0))}[n]"
