""":func:`expand`: a network with integer spikes as a network with binary spikes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from snnfast import check
from snnfast.nn import LI, Count, Delay, Last, Rate
from snnfast.nn.equations import SpikeCount, ilif
from snnfast.nn.joined import PlainLayer, joined
from snnfast.nn.substeps import ilif_substeps, li_substeps
from snnfast.reference.neuron_arguments import NEURONS

from .plan import LayerNode, at_rest, input_shape_of, layers_of
from .readout import READOUTS

__all__ = ["Expanded", "expand"]

NEVER = 2**30  # substeps until a further charge, of neurons that charge once

PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d)
AVERAGES = (nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
MAXIMA = (nn.MaxPool1d, nn.MaxPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d)


class Expanded(nn.Sequential):
    """Network with binary spikes, over substeps ``[S, B, ...]``; a result of :func:`expand`.

    Attributes:
        steps: substeps of a step, ``D``.
        delay: substeps from the input of a step to its result.
        single: whether it takes a single step.
    """

    steps: int
    delay: int
    single: bool

    def frames(self, x: Tensor) -> Tensor:
        """Steps ``[T, B, ...]`` -> substeps ``[(T - 1) steps + delay + 1, B, ...]``: the input, and zeros between."""
        check.sequence("frames", x, (torch.int8,))
        if len(x) == 0:
            raise ValueError(f"frames: x must have at least one step, got shape {list(x.shape)}")
        if self.single and len(x) > 1:
            raise ValueError(f"frames: the network was expanded with single=True, and x has {len(x)} steps")
        y = x.new_zeros((len(x) - 1) * self.steps + self.delay + 1, *x.shape[1:])
        y[: len(x) * self.steps : self.steps] = x
        return y

    def __getitem__(self, index: Any) -> Any:
        """Return a layer, or the layers of a slice, whose ``frames`` are those of the whole network."""
        part = super().__getitem__(index)
        if isinstance(part, Expanded):
            part.steps, part.delay, part.single = self.steps, self.delay, self.single
        return part

    def extra_repr(self) -> str:
        """Return the numbers of substeps."""
        return f"steps={self.steps}, delay={self.delay}{', single=True' * self.single}"


def expand(
    net: nn.Module, input_shape: Sequence[int] | None = None, *, steps: int | None = None, single: bool = False
) -> Expanded:
    """Convert a network of :class:`snnfast.nn.ILIF` to binary spikes: each step becomes ``steps`` substeps.

    The ``n`` spikes of a neuron in a step become 1 in the first ``n`` substeps. Products behind them add up to the
    same currents, for ``W (s[0] + s[1] + ...) = W n``. A neuron adds the currents of a step up, charges once, and only
    then fires, so it fires ``steps - 1`` substeps after the neurons before it. Biases are added once a step, by the
    neurons; batch normalisation is folded.

    Spikes and outputs are equal bit for bit where sums are exact in any order: with weights of few bits, as those of
    :func:`snnfast.nn.quantize` with ``scale="power-of-two"``, or in float64 with weights in float32. Else the currents
    differ by the rounding of sums, which can move a spike where ``h / v_threshold`` is that close to a half.

    Args:
        net: layers in :class:`snnfast.nn.Time` (Linear, Conv1d, Conv2d, batch normalisation, pooling, Flatten,
            Dropout, Identity), ILIF, sums of currents, and at the end LI, a product, or Rate, Count or Last behind
            these. MaxPool must stand behind ILIF, not before it. ``net`` is not changed.
        input_shape: shape of a sample, ``[features]`` or ``[C, H, W]``; may be None if the first layer is linear.
        steps: ``D``, at least ``most`` of each ILIF; the largest of these if None.
        single: for networks of a single step: neurons charge once. Else neurons near the input begin further steps,
            with their biases alone, while later ones still compute the last step; these spikes have no effect.

    Returns:
        The network in evaluation mode on the CPU, of plain layers: for :func:`integer`, :func:`snnfast.export_c`,
        :class:`Step`. It keeps states between calls if an ILIF does. Its ``frames(x)`` makes its input of that of
        ``net``. ``Rate`` becomes a sum over steps, of one step the same. Without a readout the output for step ``t``
        stands at substep ``delay + t steps``.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range, a network without ILIF, and for a layer without
            an equal in binary spikes, by name.

    Example:
        >>> net = nn.Sequential(Time(nn.Linear(64, 100)), ILIF(4), Time(nn.Linear(100, 10)), Rate())
        >>> binary = snnfast.export.expand(net)
        >>> scores = binary(binary.frames(torch.rand(1, 8, 64)))    # those of net, from spikes of 0 and 1
    """
    still = at_rest("expand", net)
    shape = input_shape_of("expand", still, input_shape)
    try:
        nodes = layers_of(still, shape)
    except ValueError as error:
        raise ValueError(f"expand: {error}") from None
    layers: list[Any] = [node.module for node in nodes]
    numbers = [layer for layer in layers if _is_ilif(layer)]
    most = [layer.surrogate.most for layer in numbers]
    if not most:
        raise ValueError("expand: net has no snnfast.nn.ILIF, whose spikes could become binary")
    steps = max(most) if steps is None else check.integer("expand", "steps", steps)
    if steps < max(most):
        raise ValueError(f"expand: steps must be at least {max(most)}, the most spikes of an ILIF, got {steps}")
    builder = _BinaryBuilder(
        steps, check.flag("expand", "single", single), stateful=any(layer.stateful for layer in numbers)
    )
    for place, node in enumerate(nodes):
        try:
            builder.add(place, node, is_last=place == len(nodes) - 1)
        except ValueError as error:
            kind = "sum" if node.module is None else type(node.module).__name__
            raise ValueError(f"expand: {node.name}, a {kind}, {error}") from None
    return builder.end(len(nodes) - 1)


def _is_ilif(layer: Any) -> bool:
    return isinstance(layer, ilif.layer) and isinstance(layer.surrogate, SpikeCount)


class _Signal(NamedTuple):
    """A signal of the binary network.

    Attributes:
        place: index of its layer; -1 is the input.
        kind: ``"spikes"`` of 0 and 1, ``"input"``, ``"means"`` of these, ``"currents"`` or ``"membranes"``.
        delay: substeps after the input of a step until its values are there.
        bias: part of the currents that neurons add, once a step.
    """

    place: int
    kind: str
    delay: int = 0
    bias: Tensor | float = 0.0


class _BinaryBuilder:
    """Layers of a binary network, built along the list of layers."""

    def __init__(self, steps: int, single: bool, stateful: bool) -> None:
        self.steps, self.single, self.stateful = steps, single, stateful
        self.layers: list[PlainLayer] = []
        self.signals = {-1: _Signal(-1, "input")}
        self.readout: nn.Module | None = None

    def add(self, place: int, node: LayerNode, is_last: bool) -> None:
        """Add the layer of ``node``."""
        signals = [self.signals[i] for i in node.inputs]
        x, layer = signals[0], node.module
        if type(layer) in READOUTS:
            if not is_last:
                raise ValueError("is followed by other layers; a readout must be the last one")
            self.signals[place] = self._read_out(layer, x)
        elif layer is None:
            self.signals[place] = self._sum(node, *signals)
        else:
            self.signals[place] = self._layer(node, layer, x)

    def end(self, last: int) -> Expanded:
        """Return the network."""
        x = self.signals[last]
        if x.kind == "currents":
            x = self._integrated("output", LI(decay=0.0, decay_input=False), x, ())
        result = Expanded(*joined(self.layers, x.place, *filter(None, (self.readout,)))).eval()
        result.steps, result.delay, result.single = self.steps, x.delay, self.single
        return result.requires_grad_(False)

    def _put(self, name: str, module: nn.Module | None, *inputs: _Signal) -> int:
        self.layers.append(PlainLayer(name.replace(".", "_"), module, tuple(x.place for x in inputs)))
        return len(self.layers) - 1

    def _layer(self, node: LayerNode, layer: nn.Module, x: _Signal) -> _Signal:
        if x.kind == "membranes":
            raise ValueError("reads membranes; LI must be the last layer before the readout")
        if _is_ilif(layer):
            return self._neurons(node, layer, x)
        if isinstance(layer, LI):
            return self._integrated(node.name, layer, x, node.before)
        if isinstance(layer, nn.Flatten):
            bias = x.bias
            if isinstance(bias, Tensor):
                bias = bias.expand(node.before).flatten(layer.start_dim, layer.end_dim)
            flat = nn.Flatten(layer.start_dim + 1, layer.end_dim + 1)
            return x._replace(place=self._put(node.name, flat, x), bias=bias)
        if x.kind == "currents" and isinstance(layer, (*PRODUCTS, *AVERAGES, *MAXIMA)):
            raise ValueError("stands between a product and its neurons; put it behind them")
        if isinstance(layer, PRODUCTS):
            return self._product(node, layer, x)
        if isinstance(layer, AVERAGES):
            return x._replace(place=self._put(node.name, layer, x), kind="input" if x.kind == "input" else "means")
        if isinstance(layer, MAXIMA):
            if x.kind == "means":
                raise ValueError("reads means of spikes; the largest of them is no sum over substeps")
            return x._replace(place=self._put(node.name, layer, x))
        fires = getattr(layer, "neuron", None) is not None
        raise ValueError("fires by another rule than snnfast.nn.ILIF" if fires else "has no equal in binary spikes")

    def _product(self, node: LayerNode, layer: Any, x: _Signal) -> _Signal:
        product, bias = copy.deepcopy(layer), 0.0 if layer.bias is None else layer.bias.detach().clone()
        product.bias = None
        if isinstance(bias, Tensor) and not isinstance(layer, nn.Linear):
            bias = bias.view(-1, *(1,) * (len(node.after) - 1))
        return _Signal(self._put(node.name, product, x), "currents", x.delay, bias)

    def _neurons(self, node: LayerNode, layer: Any, x: _Signal) -> _Signal:
        if layer.return_v_seq:
            raise ValueError("returns membranes, too; set return_v_seq=False")
        neurons = ilif_substeps.layer(
            **{name: _detached(getattr(layer, name)) for name in ("decay", "v_threshold")},
            **self._clock(x),
            v_reset=None,
            surrogate=layer.surrogate,
            stateful=self.stateful,
        )
        return _Signal(self._put(node.name, neurons, x), "spikes", x.delay + self.steps - 1)

    def _integrated(self, name: str, layer: LI, x: _Signal, shape: Sequence[int]) -> _Signal:
        call: Any = NEURONS["li"].check(torch.zeros(1, 1, *shape), **layer._arguments(torch.zeros(1)))
        values = {n: _detached(getattr(call, n)) for n in ("decay", "gain", "v_rest")}
        neurons = li_substeps.layer(**values, **self._clock(x), stateful=self.stateful)
        return _Signal(self._put(name, neurons, x), "membranes", x.delay)

    def _clock(self, x: _Signal) -> dict[str, Any]:
        """Return the arguments of neurons that charge by ``x``."""
        clock = {"steps": float(NEVER if self.single else self.steps), "start": float(x.delay)}
        # Behind the input all of a step is there at once.
        return clock | {"bias": x.bias, "gathers": float(x.delay > 0)}

    def _sum(self, node: LayerNode, a: _Signal, b: _Signal) -> _Signal:
        if {a.kind, b.kind} - {"currents", "input"}:
            raise ValueError(f"adds {a.kind} and {b.kind}; add currents, between products and ILIF")
        late = max(a.delay, b.delay)
        a, b = (self._delayed(node, x, late) for x in (a, b))
        return _Signal(self._put(node.name, None, a, b), "currents", late, a.bias + b.bias)

    def _delayed(self, node: LayerNode, x: _Signal, delay: int) -> _Signal:
        """Delay currents, so that those of a step arrive between the same two charges."""
        if x.delay == delay:
            return x
        line = Delay(node.before[0], float(delay - x.delay), stateful=self.stateful)
        line.d.data.fill_(line.max_delay)
        return x._replace(place=self._put(f"{node.name}_delay", line, x), delay=delay)

    def _read_out(self, layer: Any, x: _Signal) -> _Signal:
        sums = isinstance(layer, (Count, Rate))
        if x.kind == "spikes" and sums:
            self.readout = Count()
            return x
        if x.kind == "currents" and (sums or isinstance(layer, Last)):
            x = self._integrated("output", LI(decay=float(sums), decay_input=False), x, ())
        elif x.kind != "membranes" or not isinstance(layer, Last):
            raise ValueError(
                f"reads {x.kind}; in binary spikes Rate and Count read a product or ILIF, Last a product or LI"
            )
        self.readout = Last()
        return x


def _detached(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value
