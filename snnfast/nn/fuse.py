"""Batch normalisation folded into the products before it, for evaluation: :func:`fuse`."""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from snnfast import check

from .hooks import hooked, refuse_own_forward
from .order import order
from .patch_conv2d import PatchConv2d
from .spike_conv2d import SpikeConv2d
from .spike_linear import SpikeLinear
from .state import without_graphs

__all__ = ["fuse"]

_LINEAR = (nn.Linear, SpikeLinear)
# The products that a normalisation may stand behind: those of as many dimensions.
_PRODUCTS: dict[type[nn.Module], tuple[type[nn.Module], ...]] = {
    nn.BatchNorm1d: (nn.Conv1d, *_LINEAR),
    nn.BatchNorm2d: (nn.Conv2d, PatchConv2d, SpikeConv2d),
    nn.BatchNorm3d: (nn.Conv3d,),
}


def fuse(net: nn.Module) -> nn.Module:
    """A copy of a network for evaluation, with every batch normalisation folded into the product before it.

    For a convolution or linear layer ``y = W x + b`` and its normalisation with running statistics ``m`` and ``q``::

        g (y - m) / sqrt(q + eps) + c = W' x + b'
        W' = g / sqrt(q + eps) W          b' = g / sqrt(q + eps) (b - m) + c

    The new weights are computed in float64. The results of the copy are equal but for rounding;
    neurons and all other layers stay. Products and normalisations are found in the order in which ``net`` calls them,
    inside of :class:`snnfast.nn.Time` and across it. If that order depends on values, :mod:`torch.fx` cannot trace
    ``forward``; then only neighbours in ``nn.Sequential`` and ``Time`` are folded, with a warning. A linear layer with
    its normalisation takes only ``[N, C]``, since in ``[N, L, C]`` ``nn.BatchNorm1d`` normalises ``L``.

    A normalisation that cannot be folded stays, with a warning that names it and says why: it does not directly follow
    a product of the same number of channels, one of the two is used twice or has hooks, other layers read the product,
    too, ``forward`` itself reads a weight of one of the two (a tied decoder), or it has no running statistics.

    Args:
        net: the network; it is not changed.

    Returns:
        The copy, in evaluation mode, with ``nn.Identity`` in the places of the normalisations. Do not train it.

    Raises:
        TypeError: if ``net`` is not a module.
        ValueError: if it has no batch normalisation, or a layer whose ``forward`` was set on the instance.
    """
    check.module("fuse", "net", net)
    refuse_own_forward("fuse", net)
    names = {module: name for name, module in net.named_modules()}
    norms: list[Any] = [module for module in names if isinstance(module, tuple(_PRODUCTS))]
    if not norms:
        raise ValueError("fuse: net has no batch normalisation")
    before, uses, read, notes = order(net)
    memo, guessed = without_graphs(net), False
    for norm in norms:
        product: Any = before.get(norm)
        reason = _refused(norm, product, uses, read)
        if reason:
            warnings.warn(
                f"fuse: {names[norm]}, a {type(norm).__name__}, stays: {reason}{notes}",
                stacklevel=2,
            )
            continue
        memo[id(product)] = folded(product, norm)
        memo[id(norm)] = nn.Identity()
        if type(product) in _LINEAR:
            memo[id(product)].register_forward_pre_hook(_takes_rows)
        guessed |= bool(notes)
    if guessed:
        warnings.warn(
            f"fuse: what follows each other in nn.Sequential or Time was folded as if forward calls it so{notes}",
            stacklevel=2,
        )
    result: nn.Module = copy.deepcopy(net, memo)
    return result.eval()


def _takes_rows(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
    """Of ``[N, L, C]`` BatchNorm1d normalises ``L``, and a linear layer makes ``C``."""
    if arguments[0].dim() != 2:
        raise ValueError(
            f"fuse: a linear layer with BatchNorm1d folded into it takes [N, C], got {list(arguments[0].shape)}"
        )


# As a monitor's hook, it may be given one step of several that are the same.
_takes_rows.counts_steps = True  # type: ignore[attr-defined]


def _refused(norm: Any, product: Any, uses: Counter[nn.Module], read: set[Tensor]) -> str:
    """Why ``norm`` cannot be folded into ``product``; empty if it can."""
    if type(norm) not in _PRODUCTS:
        return f"it is {type(norm).__module__}'s, not torch.nn's"
    if type(product) not in _PRODUCTS[type(norm)]:
        return "it does not directly follow a product that nothing else sees"
    channels = product.out_features if type(product) in _LINEAR else product.out_channels
    if channels != norm.num_features:
        return f"it has {norm.num_features} channels, the product before it {channels}"
    if norm.running_mean is None or norm.running_var is None:
        return "it has no running statistics"
    if uses[norm] != 1 or uses[product] != 1:
        return "it, or the product before it, is used more than once"
    if any(
        tensor in read
        for layer in (norm, product)
        for tensor in (*layer.parameters(), *layer.buffers())
    ):
        return "forward itself reads a weight of it, or of the product before it"
    if any(hooked(module) for module in (norm, product)):
        return "it, or the product before it, has hooks"
    return ""


def folded(product: Any, norm: Any) -> nn.Module:
    """A copy of a linear layer or convolution that does what it and ``norm`` behind it do, worked out in float64."""
    given = (product.weight, product.bias, norm.running_mean, norm.running_var)
    weight, bias, mean, var = (None if v is None else v.detach().double() for v in given)
    gain, shift = (None if v is None else v.detach().double() for v in (norm.weight, norm.bias))
    values = fuse_conv_bn_weights(weight, bias, mean, var, norm.eps, gain, shift)  # type: ignore[arg-type]
    result = copy.deepcopy(product)
    result.weight, result.bias = (
        nn.Parameter(value.detach().to(product.weight.dtype), product.weight.requires_grad)
        for value in values
    )
    return result  # type: ignore[no-any-return]
