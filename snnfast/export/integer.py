""":func:`integer`: conversion of a quantized network to integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from snnfast import check
from snnfast.nn import LI, LIF, Count, IntegerLIF, Last, Max, Rate, RatePool, Recurrent, SpikeConv2d, SpikeLinear, reset
from snnfast.nn.equations import SpikeCount, ilif
from snnfast.nn.integer_adlif import IntegerAdLIF
from snnfast.nn.integer_ilif import IntegerILIF
from snnfast.nn.integer_recurrent import PARTS, IntegerRecurrent
from snnfast.nn.spike_conv2d import has_events
from snnfast.nn.substeps import ilif_substeps, li_substeps
from snnfast.nn.sum_pool2d import SumPool2d
from snnfast.reference.integer_lif import DECAY, MOST_CURRENT, MOST_MEMBRANE
from snnfast.reference.neuron_arguments import NEURONS
from snnfast.reference.spike_linear import MOST_INPUTS

from .exact import PRODUCTS, trained_weights, windows
from .plan import LayerNode, at_rest, input_shape_of, layers_of, replace

__all__ = ["integer"]

MOST_INPUT = 128  # the largest magnitude of int8
_RANGE = 64  # largest membrane in thresholds, unless a current exceeds it
_LEAST = 2**8  # smallest threshold in units of the membrane


class _Integers(NamedTuple):
    """Integers that stand for real numbers.

    Attributes:
        unit: real value of 1; of a product, one per output.
        most: largest magnitude; of a product, one per output.
        bias: real biases of a product.
        kind: ``"value"`` for inputs and spikes, ``"sums"`` for products, ``"membranes"`` for outputs of LI.
    """

    unit: Any
    most: Any
    bias: Tensor | None = None
    kind: str = "value"


def integer(
    net: nn.Module, input_shape: Sequence[int] | None = None, *, unit: float = 1.0, limit: int = MOST_MEMBRANE
) -> nn.Module:
    """Convert a network of :func:`snnfast.nn.quantize` to integers: int8 weights, int32 sums, no floating point.

    Products keep their integer weights ``q`` as :class:`snnfast.nn.SpikeLinear` and :class:`snnfast.nn.SpikeConv2d` of
    int8, whose sums are exact. The neurons after them become :class:`snnfast.nn.IntegerLIF`, which multiplies each sum
    by the output's ``scale`` in units of the membrane. The threshold has ``2**24`` units, a 64th of ``limit``, or fewer
    if currents could exceed ``2**28``. The decay is rounded to ``2**-15``; thresholds, biases and scales are rounded to
    units, and so is the leak of every step. Spikes can therefore differ from those of ``net``, but they are the same on
    every machine, in the program of :func:`snnfast.export_c` and after :func:`snnfast.nir.from_nir`. On CUDA, products
    run in float64, which is exact, too, and neurons in plain PyTorch.

    Args:
        net: layers in :class:`snnfast.nn.Time` (Linear, Conv2d, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d, Flatten,
            Dropout, Identity), IF, LIF, ParametricLIF, ILIF, AdLIF, LI, or Recurrent and RLIF of LIF and AdLIF, after
            each product (MaxPool2d may stand between), and a readout; or a result of :func:`expand`. It is not changed;
            average pooling becomes sum pooling.
        input_shape: shape of a sample, ``[features]`` or ``[C, H, W]``; may be None if the first layer is linear.
        unit: real value of an input of 1. The copy takes int8: for images in [0, 1], ``(127 * x).round()`` with
            ``unit=1 / 127``.
        limit: largest magnitude of a membrane; larger ones are clamped and counted (``IntegerLIF.saturated``).

    Returns:
        The copy, in evaluation mode: int8 ``[T, B, ...]`` -> int8 spikes, int32 membranes in the last layer's ``unit``,
        or their readout; ``Rate`` becomes ``Count``.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range; for a layer that has no integer form, neurons with
            one parameter per neuron, a refractory period or several spikes a step, and sums or currents that could
            overflow. The message names the layer.

    Example:
        >>> integer_net = snnfast.export.integer(small, (1, 28, 28), unit=1 / 127)
        >>> integer_net((127 * images).round().to(torch.int8).expand(4, *images.shape))
    """
    unit = check.positive("integer", "unit", unit)
    limit = check.integer("integer", "limit", limit, _RANGE * _LEAST, MOST_MEMBRANE)
    result = at_rest("integer", net)
    shape = input_shape_of("integer", result, input_shape)
    try:
        nodes = layers_of(result, shape)
        values = {-1: _Integers(unit, MOST_INPUT)}
        for place, node in enumerate(nodes):
            try:
                layer, values[place] = _layer(node, [values[i] for i in node.inputs], limit)
            except ValueError as error:
                kind = "sum" if node.module is None else type(node.module).__name__
                raise ValueError(f"{node.name}, a {kind}, {error}") from None
            if layer is not node.module and layer is not None:
                replace(result, node.name, layer)
        if values[len(nodes) - 1].kind == "sums":
            raise ValueError(f"{nodes[-1].name} gives sums; end the network with neurons, such as LI")
    except ValueError as error:
        raise ValueError(f"integer: {error}") from None
    reset(result)
    return result


def _layer(node: LayerNode, inputs: list[_Integers], limit: int) -> tuple[nn.Module | None, _Integers]:
    """Return the integer layer and the description of its output."""
    layer, x = node.module, inputs[0]
    if isinstance(layer, PRODUCTS):
        if x.kind != "value":
            raise ValueError("gets no spikes")
        return _product(node, layer, x)
    if getattr(layer, "op", "") in ("lif", "iaf", "li", "adlif") or isinstance(layer, Recurrent):
        if x.kind != "sums":
            raise ValueError("does not stand directly behind a linear layer or a convolution")
        if isinstance(layer, Recurrent):
            return _recurrent(node, layer, x, limit)
        neurons, output, _ = _neuron(layer, x, node.before, limit)
        return neurons, output
    if isinstance(layer, (ilif.layer, ilif_substeps.layer, li_substeps.layer)):
        if x.kind != "sums":
            raise ValueError("does not stand directly behind a linear layer or a convolution")
        return _several(layer, x, node.before, limit)
    if isinstance(layer, nn.MaxPool2d):  # of sums, too: their scales are positive
        return layer, x
    if isinstance(layer, (Count, Rate)) and x.kind == "sums":
        membranes, total, _ = _neuron(LI(decay=1.0, decay_input=False), x, node.before, limit)
        return nn.Sequential(membranes, Last()), total
    if isinstance(layer, RatePool) and x == _Integers(1.0, 1):
        return layer, x
    if x.kind == "sums":
        raise ValueError("stands between a product and its neurons; put it behind them")
    if isinstance(layer, (nn.Flatten, Count, Last, Max)):
        return layer, x
    if isinstance(layer, Rate):
        return Count(), x
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        layer = windows(node)
    if isinstance(layer, nn.AvgPool2d):
        return _sums(layer, x)
    raise ValueError("has no equal in whole numbers")


def _sums(layer: nn.AvgPool2d, x: _Integers) -> tuple[nn.Module, _Integers]:
    """Replace means of windows by sums: the divisor moves into the unit."""
    rows, columns = _pair(layer.kernel_size)
    if layer.ceil_mode or not (layer.count_include_pad or _pair(layer.padding) == (0, 0)):
        raise ValueError("has windows of several sizes")
    most = rows * columns * x.most
    if x.kind != "value" or most >= MOST_INPUT:
        raise ValueError(f"sums {rows * columns} inputs, which could reach {most}; 8 bits hold {MOST_INPUT - 1}")
    pool: Any = SumPool2d(layer.kernel_size, layer.stride, layer.padding)
    return pool, _Integers(x.unit / (layer.divisor_override or rows * columns), most)


def _product(node: LayerNode, layer: nn.Linear | nn.Conv2d, x: _Integers) -> tuple[nn.Module, _Integers]:
    weights = trained_weights(node)
    if weights is None:
        raise ValueError("has weights in floating point; call snnfast.nn.quantize first")
    q = weights.q.to(torch.int8)
    fan_in = q[0].numel()
    if fan_in > MOST_INPUTS:
        raise ValueError(f"has {fan_in} inputs an output; sums of at most {MOST_INPUTS} fit in 32 bits")
    product: Any
    if isinstance(layer, nn.Linear):
        product = SpikeLinear(layer.in_features, layer.out_features, bias=False)
        q = q.t().contiguous().t()  # the weights of an input are contiguous, as they are summed
    else:
        sizes: Any = (layer.in_channels, layer.out_channels, layer.kernel_size)
        if not has_events(layer):
            raise ValueError("has groups, a dilation, or a padding that is not of zeros, less than the kernel")
        product = SpikeConv2d(*sizes, stride=layer.stride, padding=layer.padding, bias=False)
    product.weight = nn.Parameter(q, requires_grad=False)
    most = q.flatten(1).abs().long().sum(1) * x.most if q.numel() else q.new_zeros(len(q), dtype=torch.int64)
    bias = torch.zeros(len(q)) if layer.bias is None else layer.bias.detach()
    return product.eval(), _Integers(weights.scale.double() * x.unit, most, bias.double(), "sums")


def _of_one_threshold(values: dict[str, Tensor], x: _Integers, shape: tuple[int, ...]) -> _Integers:
    """Give neurons with a threshold for each channel the largest one: scale currents and membranes of a channel.

    Changes ``values``, parameters by name; returns the currents ``x``.
    """
    threshold, rest = values["v_threshold"], values["v_rest"]
    sample = (shape[0], *(1,) * (len(shape) - 1))
    above = threshold - rest
    if threshold.numel() == 1 or torch.broadcast_shapes(above.shape, sample) != sample or not bool((above > 0).all()):
        return x
    size = above.expand(sample) / above.max()
    for name in ("v_threshold", "v_reset", "v_init"):
        value = rest + (values[name] - rest) / size
        is_one = torch.allclose(value, value.flatten()[0], rtol=1e-6, atol=0)  # a fraction of float32 thresholds
        values[name] = value.flatten()[0] if is_one else value
    size = size.flatten()
    return x._replace(unit=x.unit / size, bias=None if x.bias is None else x.bias / size)


def _recurrent(node: LayerNode, layer: Recurrent, x: _Integers, limit: int) -> tuple[nn.Module, _Integers]:
    """Return recurrent integer neurons."""
    weights = trained_weights(node)
    if weights is None:
        raise ValueError("has weights in floating point; call snnfast.nn.quantize first")
    if len(node.before) != 1:
        raise ValueError(f"gets {list(node.before)} a sample, not one dimension")
    q = layer.connected(weights.q).to(torch.int8)
    delays: dict[str, Tensor] = {}
    parts = 1
    if layer.delays is not None:
        parts = PARTS
        steps = (layer.delays.detach().double().clamp(min=0) * parts).round().to(torch.int32)
        delays = {"delay": steps // parts, "late": steps % parts}
    back = _Integers(weights.scale.double() / parts, q.abs().long().sum(1) * parts)
    try:
        neurons, spikes, gain = _neuron(layer.neuron, x, node.before, limit, back)
    except ValueError as error:
        raise ValueError(f"holds a {type(layer.neuron).__name__} that {error}") from None
    return IntegerRecurrent(neurons, q, (back.unit * gain / neurons.unit).round().int(), **delays).eval(), spikes


def _neuron(
    layer: Any, x: _Integers, shape: tuple[int, ...], limit: int, back: _Integers | None = None
) -> tuple[IntegerLIF, _Integers, Tensor]:
    """Return integer neurons, their output, and the real gain of their currents; ``back``: recurrent sums."""
    still = torch.zeros(1, 1, *shape)
    call: Any = NEURONS[layer.op].check(still, **layer._arguments(still))
    if hasattr(call, "refractory"):
        raise ValueError("has a refractory period, or several spikes a step")
    if call.return_v_seq and call.fires:
        raise ValueError("returns membranes, too; set return_v_seq=False")
    values = {n: getattr(call, n) for n in ("decay", "gain", "v_threshold", "v_rest", "v_reset")}
    init = getattr(layer, "v_init", None)
    values["v_init"] = values["v_rest"] if init is None else init
    values = {name: torch.as_tensor(value, dtype=torch.float64).detach() for name, value in values.items()}
    adapts = layer.op == "adlif"
    if not adapts and back is None:
        x = _of_one_threshold(values, x, shape)
    for name, value in values.items():
        if not (adapts and name in ("decay", "gain")) and not bool((value == value.flatten()[0]).all()):
            raise ValueError(f"has a {name} for each neuron; whole neurons share it")
    decay, gain = (values[name].flatten() for name in ("decay", "gain"))
    names = ("v_threshold", "v_rest", "v_reset", "v_init")
    threshold, rest, after, init = (float(values[name].flatten()[0]) for name in names)
    if call.fires and not call.hard_reset and rest:
        raise ValueError(f"has a soft reset and v_rest={rest:g}, which must be 0")
    if call.fires and threshold <= rest:
        raise ValueError(f"has v_threshold={threshold:g}, not above v_rest={rest:g}")
    # The unit of the membrane is as small as the largest current allows.
    current = (x.most.clamp(min=1) * x.unit + x.bias.abs()) * gain  # type: ignore[union-attr]
    if back is not None:
        current = current + back.most * back.unit * gain
    largest = float(current.max()) if current.numel() else 1.0
    held = limit if bool((decay < 1).all()) else limit // _RANGE  # without a leak currents add up
    unit = largest / (MOST_CURRENT // 2 if call.fires else min(MOST_CURRENT // 2, held))  # half: rounding may double it
    if call.fires:
        unit = max(unit, (threshold - rest) / ((limit + 1) // _RANGE))
        if (threshold - rest) / unit < _LEAST:
            raise ValueError(
                f"has v_threshold={threshold:g}, and its currents could reach {largest:g}: too large for "
                f"membranes up to {limit}"
            )

    def as_int32(value: Any) -> Tensor:
        return (torch.as_tensor(value, dtype=torch.float64) / unit).round().to(torch.int32)

    settings: dict[str, Any] = {
        "v_threshold": int(as_int32(threshold - rest)) + bool(call.strict) if call.fires else None,
        "v_reset": int(as_int32(after - rest)) if call.hard_reset else None,
        "v_init": int(as_int32(init - rest)),
        **{"limit": limit, "unit": unit, "stateful": layer.stateful},
    }
    gains = as_int32(x.unit * gain), as_int32(x.bias * gain)
    neurons: IntegerLIF
    if adapts:
        settings |= _adaptation(call, gain, unit, len(gains[0]))
        neurons = IntegerAdLIF(gains[0], gains[1], **settings)
    else:
        neurons = IntegerLIF(gains[0], gains[1], decay=round(float(decay[0]) * DECAY), **settings)
    output = _Integers(1.0, 1) if call.fires else _Integers(unit, limit, kind="membranes")
    return neurons.eval(), output, gain


def _adaptation(call: Any, gain: Tensor, unit: float, channels: int) -> dict[str, Any]:
    """Return the adaptation of whole neurons: decays, and drives of a current that has the gain of the membrane."""
    real = {n: torch.as_tensor(getattr(call, n), dtype=torch.float64).detach() for n in ("decay_w", "gain_w", "a", "b")}
    drive = gain * real["gain_w"].flatten()
    scaled = {
        "decay": torch.as_tensor(call.decay, dtype=torch.float64).detach().flatten() * DECAY,
        "decay_w": real["decay_w"].flatten() * DECAY,
        "a": drive * real["a"].flatten() * DECAY,
        "b": drive * real["b"].flatten() / unit,
    }
    integers = {name: value.round().to(torch.int32).expand(channels).clone() for name, value in scaled.items()}
    return integers | {"symplectic": bool(call.symplectic)}


def _several(layer: Any, x: _Integers, shape: tuple[int, ...], limit: int) -> tuple[nn.Module, _Integers]:
    """Return neurons with several spikes a step, or the same in substeps, from neurons with one spike."""
    fires = not isinstance(layer, li_substeps.layer)
    if fires and not isinstance(layer.surrogate, SpikeCount):
        raise ValueError("has a surrogate other than that of snnfast.nn.ILIF")
    substeps = not isinstance(layer, ilif.layer)
    clock = {"steps": int(layer.steps), "start": int(layer.start)} if substeps else {}
    if substeps:
        bias = torch.as_tensor(layer.bias, dtype=torch.float64)
        if bias.numel() not in (1, shape[0]):
            raise ValueError(f"has a bias for each neuron, {list(bias.shape)}; whole neurons of a channel share it")
        x = x._replace(bias=x.bias + bias.flatten())  # type: ignore[operator]
    alike: Any
    one: Any
    if fires:
        alike = LIF(decay=layer.decay, decay_input=False, v_threshold=layer.v_threshold, v_reset=None)
    else:
        alike = LI(decay=layer.decay, decay_input=layer.gain != 1, v_rest=layer.v_rest)
    one, values, _ = _neuron(alike, x, shape, limit)
    settings = {n: getattr(one, n) for n in ("decay", "v_threshold", "v_reset", "limit", "unit", "v_init")}
    most = int(layer.surrogate.most) if fires else 1
    neurons = IntegerILIF(one.gain, one.bias, most=most, stateful=layer.stateful, **settings, **clock)
    # Of binary spikes, too: the most in a step, which neurons charge by together.
    return neurons.eval(), values._replace(most=most) if fires else values
