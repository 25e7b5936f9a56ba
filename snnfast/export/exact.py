"""The network in PyTorch with bit-identical results to the C program: products in a fixed order, norms folded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from snnfast.nn import Recurrent, SpikeConv2d, SpikeLinear, reset
from snnfast.nn.spike_conv2d import has_events

from .plan import LayerNode, layers_of, replace

__all__ = ["PRODUCTS", "OrderedConv2d", "QuantisedWeights", "exact", "paddings", "trained_weights", "windows"]

PRODUCTS = (nn.Linear, nn.Conv2d)


class QuantisedWeights(NamedTuple):
    """Weights as ``scale q``, with ``q`` from -127 to 127, and one ``scale`` per output.

    Attributes:
        weight: the product ``scale q``.
        largest: the largest change of a weight.
        relative: norm of the changes, divided by the norm of the weights.
    """

    q: Tensor
    scale: Tensor
    weight: Tensor
    largest: float
    relative: float

    @classmethod
    def nearest(cls, weight: Tensor) -> QuantisedWeights:
        """Return the nearest ``scale q``, with the largest weight of an output at 127."""
        flat = weight.detach().flatten(1)
        most = flat.abs().amax(1) if flat.shape[1] else flat.new_zeros(len(flat))
        scale = torch.where(most > 0, most / 127, torch.ones_like(most))
        factor = scale.view(-1, *(1,) * (weight.dim() - 1))
        q = (weight.detach() / factor).round().clamp(-127, 127)
        lost = weight.detach() - q * factor
        largest = lost.abs().max().item() if lost.numel() else 0.0
        norm = weight.detach().norm().item()
        return cls(q, scale, q * factor, largest, lost.norm().item() / norm if norm else 0.0)


class OrderedConv2d(nn.Module):
    """``nn.Conv2d`` with sums over rows, columns and channels of the image, in this order, beginning with the bias.

    :class:`snnfast.nn.SpikeConv2d` by events has the same order, but no strides, dilation or groups.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` -> ``[N, O, H', W']``."""
        conv = self.conv
        (top, bottom), (left, right) = paddings(conv)
        x = functional.pad(x, (left, right, top, bottom))
        (kh, kw), (sh, sw), (dh, dw) = conv.kernel_size, conv.stride, conv.dilation
        rows, columns = (
            (size - d * (k - 1) - 1) // s + 1 for size, d, k, s in zip(x.shape[2:], (dh, dw), (kh, kw), (sh, sw))
        )
        y = x.new_zeros(len(x), conv.out_channels, rows, columns)
        if conv.bias is not None:
            y = y + conv.bias[:, None, None]
        group_in, group_out = conv.in_channels // conv.groups, conv.out_channels // conv.groups
        for r in range(kh):
            for s in range(kw):
                for c in range(conv.in_channels):
                    seen = x[:, c, r * dh :: sh, s * dw :: sw][:, None, :rows, :columns]
                    g = slice(c // group_in * group_out, (c // group_in + 1) * group_out)
                    y[:, g] = y[:, g] + seen * conv.weight[g, c % group_in, r, s, None, None]
        return y


def paddings(conv: nn.Conv2d) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the zeros above and below, and left and right of an image."""
    if isinstance(conv.padding, str):
        total = [d * (k - 1) if conv.padding == "same" else 0 for d, k in zip(conv.dilation, conv.kernel_size)]
        (a, b), (c, d) = ((n // 2, n - n // 2) for n in total)
    else:
        (a, b), (c, d) = ((int(n), int(n)) for n in conv.padding)
    return (a, b), (c, d)


def trained_weights(node: LayerNode) -> QuantisedWeights | None:
    """Return the quantised weights of a layer from :func:`snnfast.nn.quantize`; None for other layers.

    Raises:
        ValueError: if the weights have changed since, by name.
    """
    layer: Any = node.module
    trained = getattr(layer, "quantized", None)
    if trained is None:
        return None
    q, scale = trained
    weight = layer.weight.detach()
    if not torch.equal(weight, q * scale.view(-1, *(1,) * (q.dim() - 1))):
        raise ValueError(
            f"{node.name}, a {type(layer).__name__}, was quantised, and what came to it later, such "
            "as a batch normalisation behind it, changes its weights; call snnfast.nn.quantize last"
        )
    return QuantisedWeights(q, scale, weight, 0.0, 0.0)


def exact(
    still: nn.Module, input_shape: Sequence[int], quantise: bool
) -> tuple[list[LayerNode], dict[str, QuantisedWeights]]:
    """Change a network at rest so that it computes like the C program.

    Returns:
        its layers, and the quantised weights by name.

    Raises:
        ValueError: for operations that are no layers, a normalisation not directly after a product, and quantised
            weights that have changed, by name.
    """
    nodes = layers_of(still, input_shape)
    quantised: dict[str, QuantisedWeights] = {}
    for index, node in enumerate(nodes):
        layer = node.module
        if isinstance(layer, (*PRODUCTS, Recurrent)):
            trained = trained_weights(node)
            if trained is not None:
                quantised[node.name] = trained
            elif quantise and layer.weight.is_floating_point():
                quantised[node.name] = QuantisedWeights.nearest(layer.weight)
                layer.weight = nn.Parameter(quantised[node.name].weight, requires_grad=False)
        if isinstance(layer, PRODUCTS) and layer.weight.is_floating_point():
            layer = _ordered(node.name, layer)
        elif isinstance(layer, nn.AdaptiveAvgPool2d):
            layer = windows(node)
        if layer is not node.module and layer is not None:
            replace(still, node.name, layer)
            nodes[index] = node._replace(module=layer)
    reset(still)
    return nodes, quantised


def _ordered(name: str, product: nn.Linear | nn.Conv2d) -> nn.Module:
    """Return an equivalent product with a fixed order of sums."""
    if isinstance(product, nn.Linear):
        linear = SpikeLinear(product.in_features, product.out_features, product.bias is not None)
        linear.method = "events"
        linear.weight, linear.bias = product.weight, product.bias
        return linear
    if product.padding_mode != "zeros":
        raise ValueError(f"{name}, a Conv2d, pads by {product.padding_mode}, not by zeros")
    events = SpikeConv2d(
        product.in_channels, product.out_channels, cast("tuple[int, int]", product.kernel_size),
        product.stride, product.padding, product.dilation, product.groups, product.bias is not None,
    )  # fmt: skip
    if not has_events(events):
        return OrderedConv2d(product)
    events.method = "events"
    events.weight, events.bias = product.weight, product.bias
    return events


def windows(node: LayerNode) -> nn.Module:
    """Return an average pool with a window size for one with a number of windows."""
    if any(size % parts for size, parts in zip(node.before[1:], node.after[1:])):
        raise ValueError(f"{node.name}, an AdaptiveAvgPool2d, has windows of several sizes in {list(node.before)}")
    sides = tuple(size // parts for size, parts in zip(node.before[1:], node.after[1:]))
    return nn.AvgPool2d(cast("tuple[int, int]", sides))
