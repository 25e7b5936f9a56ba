""":func:`integer`: a network that was trained with few bits, in whole numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from snnfast import check
from snnfast.nn import Count, IntegerLIF, Last, Max, Rate, SpikeConv2d, SpikeLinear, reset
from snnfast.nn.spike_conv2d import has_events
from snnfast.nn.sum_pool2d import SumPool2d
from snnfast.reference.integer_lif import DECAY, MOST_CURRENT, MOST_MEMBRANE
from snnfast.reference.neuron_arguments import NEURONS
from snnfast.reference.spike_linear import MOST_INPUTS

from .exact import PRODUCTS, trained_weights, windows
from .plan import LayerNode, at_rest, input_shape_of, layers_of, replace

__all__ = ["integer"]

MOST_INPUT = 128  # the largest magnitude of int8
_RANGE = 64  # a membrane is at most so many thresholds, and more only where currents are
_LEAST = 2**8  # units of a threshold


class _Whole(NamedTuple):
    """Whole numbers: what 1 stands for, and the largest magnitude; of products one each an output, and their biases."""

    unit: Any
    most: Any
    bias: Tensor | None = None
    kind: str = "value"


def integer(
    net: nn.Module, input_shape: Sequence[int] | None = None, *, unit: float = 1.0, limit: int = MOST_MEMBRANE
) -> nn.Module:
    """A copy of a network that :func:`snnfast.nn.quantize` made, in whole numbers: int8 weights, int32 sums, no floats.

    Products keep their whole weights ``q``: :class:`snnfast.nn.SpikeLinear` and :class:`snnfast.nn.SpikeConv2d` in
    int8, whose sums are exact. The neurons behind them become :class:`snnfast.nn.IntegerLIF`, which multiplies a sum by
    what the output's ``scale`` is in units of the membrane: the threshold is ``2**24`` of them, a 64th of ``limit``, or
    fewer where currents could pass ``2**28``. Rounded are the decay (to ``2**-15``), thresholds, biases and scales (to
    such units), and every step the leak; spikes can therefore differ from those of ``net``, but not from those of the
    program of :func:`snnfast.export_c` and of :func:`snnfast.nir.from_nir`, nor on any machine. On CUDA products run in
    float64, which is exact, too, and neurons in plain PyTorch.

    Args:
        net: layers in :class:`snnfast.nn.Time` (Linear, Conv2d, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, Flatten,
            Dropout, Identity), IF, LIF, ParametricLIF or LI behind each product, and a readout. It is not changed;
            means become sums.
        input_shape: of a sample, ``[features]`` or ``[C, H, W]``; may be None where the first layer is linear.
        unit: what an input of 1 stands for: the copy takes int8, of images in [0, 1] ``(127 * x).round()`` with
            ``unit=1 / 127``.
        limit: largest magnitude of a membrane: it is cut there, and counted (``IntegerLIF.saturated``).

    Returns:
        The copy, in evaluation: int8 ``[T, B, ...]`` -> int8 spikes, int32 membranes in the last layer's ``unit``, or
        the readout of these; ``Rate`` becomes ``Count``.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range, and by name for a layer without an equal, for
            neurons with parameters of their own each, a refractory period or several spikes a step, and for sums or
            currents that could overflow.

    Example:
        >>> whole = snnfast.export.integer(small, (1, 28, 28), unit=1 / 127)
        >>> whole((127 * images).round().to(torch.int8).expand(4, *images.shape))
    """
    unit = check.positive("integer", "unit", unit)
    limit = check.whole("integer", "limit", limit, _RANGE * _LEAST, MOST_MEMBRANE)
    made = at_rest("integer", net)
    shape = input_shape_of("integer", made, input_shape)
    try:
        nodes = layers_of(made, shape)
        values = {-1: _Whole(unit, MOST_INPUT)}
        for place, node in enumerate(nodes):
            try:
                layer, values[place] = _layer(node, [values[i] for i in node.inputs], limit)
            except ValueError as error:
                kind = "sum" if node.module is None else type(node.module).__name__
                raise ValueError(f"{node.name}, a {kind}, {error}") from None
            if layer is not node.module and layer is not None:
                replace(made, node.name, layer)
        if values[len(nodes) - 1].kind == "sums":
            raise ValueError(f"{nodes[-1].name} gives sums; end the network with neurons, such as LI")
    except ValueError as error:
        raise ValueError(f"integer: {error}") from None
    reset(made)
    return made


def _layer(node: LayerNode, given: list[_Whole], limit: int) -> tuple[nn.Module | None, _Whole]:
    """The layer in whole numbers, and what it gives."""
    layer, x = node.module, given[0]
    if isinstance(layer, PRODUCTS):
        if x.kind != "value":
            raise ValueError("gets no spikes")
        return _product(node, layer, x)
    if getattr(layer, "op", "") in ("lif", "iaf", "li"):
        if x.kind != "sums":
            raise ValueError("does not stand directly behind a linear layer or a convolution")
        return _neuron(layer, x, node.before, limit)
    if x.kind == "sums":
        raise ValueError("stands between a product and its neurons; put it behind them")
    if isinstance(layer, (nn.MaxPool2d, nn.Flatten, Count, Last, Max)):
        return layer, x
    if isinstance(layer, Rate):
        return Count(), x
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        layer = windows(node)
    if isinstance(layer, nn.AvgPool2d):
        return _sums(layer, x)
    raise ValueError("has no equal in whole numbers")


def _sums(layer: nn.AvgPool2d, x: _Whole) -> tuple[nn.Module, _Whole]:
    """Sums of windows instead of means: what 1 stands for is a part of it."""
    rows, columns = _pair(layer.kernel_size)
    if layer.ceil_mode or not (layer.count_include_pad or _pair(layer.padding) == (0, 0)):
        raise ValueError("has windows of several sizes")
    most = rows * columns * x.most
    if x.kind != "value" or most >= MOST_INPUT:
        raise ValueError(f"sums {rows * columns} inputs, which could reach {most}; 8 bits hold {MOST_INPUT - 1}")
    made: Any = SumPool2d(layer.kernel_size, layer.stride, layer.padding)
    return made, _Whole(x.unit / (layer.divisor_override or rows * columns), most)


def _product(node: LayerNode, layer: nn.Linear | nn.Conv2d, x: _Whole) -> tuple[nn.Module, _Whole]:
    found = trained_weights(node)
    if found is None:
        raise ValueError("has weights in floating point; call snnfast.nn.quantize first")
    q = found.q.to(torch.int8)
    each = q[0].numel()
    if each > MOST_INPUTS:
        raise ValueError(f"has {each} inputs an output; sums of at most {MOST_INPUTS} fit in 32 bits")
    made: Any
    if isinstance(layer, nn.Linear):
        made = SpikeLinear(layer.in_features, layer.out_features, bias=False)
        q = q.t().contiguous().t()  # the weights of an input side by side, as they are summed
    else:
        sizes: Any = (layer.in_channels, layer.out_channels, layer.kernel_size)
        if not has_events(layer):
            raise ValueError("has groups, a dilation, or a padding that is not of zeros, less than the kernel")
        made = SpikeConv2d(*sizes, stride=layer.stride, padding=layer.padding, bias=False)
    made.weight = nn.Parameter(q, requires_grad=False)
    most = q.flatten(1).abs().long().sum(1) * x.most if q.numel() else q.new_zeros(len(q), dtype=torch.int64)
    bias = torch.zeros(len(q)) if layer.bias is None else layer.bias.detach()
    return made.eval(), _Whole(found.scale.double() * x.unit, most, bias.double(), "sums")


def _neuron(layer: Any, x: _Whole, shape: tuple[int, ...], limit: int) -> tuple[nn.Module, _Whole]:
    call: Any = NEURONS[layer.op].check(torch.zeros(1, 1, *shape), **layer._arguments(torch.zeros(1)))
    if hasattr(call, "refractory"):
        raise ValueError("has a refractory period, or several spikes a step")
    if call.return_v_seq and call.fires:
        raise ValueError("returns membranes, too; set return_v_seq=False")
    numbers: dict[str, float] = {}
    for name in ("decay", "gain", "v_threshold", "v_rest", "v_reset"):
        value = torch.as_tensor(getattr(call, name), dtype=torch.float64).flatten()
        if not bool((value == value[:1]).all()):
            raise ValueError(f"has a {name} for each neuron; whole neurons share it")
        numbers[name] = float(value[0])
    decay, gain, threshold, rest, back = numbers.values()
    if call.fires and not call.hard_reset and rest:
        raise ValueError(f"has a soft reset and v_rest={rest:g}, which must be 0")
    if call.fires and threshold <= rest:
        raise ValueError(f"has v_threshold={threshold:g}, not above v_rest={rest:g}")
    # A membrane of 1 is so much: the threshold has as many units as the largest current allows.
    current = (x.most.clamp(min=1) * x.unit + x.bias.abs()) * gain  # type: ignore[union-attr]
    largest = float(current.max()) if current.numel() else 1.0
    unit = largest / (
        MOST_CURRENT // 2 if call.fires else min(MOST_CURRENT // 2, limit)
    )  # half: rounding may double it
    if call.fires:
        unit = max(unit, (threshold - rest) / ((limit + 1) // _RANGE))
        if (threshold - rest) / unit < _LEAST:
            raise ValueError(
                f"has v_threshold={threshold:g}, and its currents could reach {largest:g}: too large for "
                f"membranes up to {limit}"
            )

    def whole(value: Any) -> Tensor:
        return (torch.as_tensor(value, dtype=torch.float64) / unit).round().to(torch.int32)

    made = IntegerLIF(
        whole(x.unit * gain),
        whole(x.bias * gain),  # type: ignore[operator]
        decay=round(decay * DECAY),
        v_threshold=int(whole(threshold - rest)) + bool(call.strict) if call.fires else None,
        v_reset=int(whole(back - rest)) if call.hard_reset else None,
        limit=limit,
        unit=unit,
        stateful=layer.stateful,
    )
    return made.eval(), _Whole(1.0, 1) if call.fires else _Whole(unit, limit, kind="membranes")
