"""Batch normalisation folded into the products before it, for evaluation: :func:`fuse`."""

from __future__ import annotations

import copy
import warnings
from typing import Any

from torch import nn

from snnfast import check

from .graph import LINEAR, PRODUCTS, LayerGraph
from .hooks import refuse_own_forward
from .state import without_graphs
from .verify import Verify, agree, calls_of

__all__ = ["fuse"]


def fuse(net: nn.Module, *, verify: Verify = None) -> nn.Module:
    """A copy of a network for evaluation, with every batch normalisation folded into the product before it.

    For a convolution or linear layer ``y = W x + b`` and its normalisation with running statistics ``m`` and ``q``::

        g (y - m) / sqrt(q + eps) + c = W' x + b'
        W' = g / sqrt(q + eps) W          b' = g / sqrt(q + eps) (b - m) + c

    The new weights are computed in float64. The results of the copy are equal but for rounding;
    neurons and all other layers stay. Products and normalisations are found in the order in which ``net`` calls them,
    inside of :class:`snnfast.nn.Time` and across it. If that order depends on values, :mod:`torch.fx` cannot trace
    ``forward``; then only neighbours in ``nn.Sequential`` and ``Time`` are folded, with a warning. A linear layer with
    its normalisation takes only ``[N, C]``, since in ``[N, L, C]`` ``nn.BatchNorm1d`` normalises ``L``.

    A normalisation that cannot be folded stays, with a warning that says why: it does not directly follow a product of
    the same number of channels, one of the two is used twice or has hooks, other layers read the product, too,
    ``forward`` itself reads a weight of one of the two (a tied decoder), or it has no running statistics.

    Args:
        net: the network; it is not changed.
        verify: an input of ``net``, a list of inputs of consecutive calls, or of tuples with the arguments of a call:
            runs copies of both networks on them, and compares results and gradients, as
            :func:`snnfast.nn.replace` does; without the weights that are folded.

    Returns:
        The copy, in evaluation mode, with ``nn.Identity`` in the places of the normalisations. Do not train it.

    Raises:
        TypeError: if ``net`` is not a module.
        ValueError: if it has no batch normalisation, or a layer whose ``forward`` was set on the instance; and with
            ``verify`` if the networks differ, with the first layer.
    """
    check.module("fuse", "net", net)
    refuse_own_forward("fuse", net)
    inputs = calls_of("fuse", verify)
    fused = copy.deepcopy(net, without_graphs(net))
    norms = {name: m for name, m in fused.named_modules() if isinstance(m, tuple(PRODUCTS))}
    if not norms:
        raise ValueError("fuse: net has no batch normalisation")
    graph = LayerGraph.trace(fused)
    products, reasons = graph.fold()
    for name, norm in norms.items():
        if norm in reasons:
            kind = type(norm).__name__
            warnings.warn(f"fuse: {name}, a {kind}, stays: {reasons[norm]}{graph.notes}", stacklevel=2)
    for product in products:
        if isinstance(product, LINEAR):
            product.register_forward_pre_hook(_takes_rows)
    if products and graph.notes:
        warnings.warn(
            f"fuse: what follows each other in nn.Sequential or Time was folded as if forward calls it so{graph.notes}",
            stacklevel=2,
        )
    changed = [name for name, norm in norms.items() if norm not in reasons]
    changed += [name for name, module in fused.named_modules() if module in products]
    # The layers that were replaced may stand in lists of layers, too.
    layers = {id(module): new for old, new in graph.replaced.items() for module in (old, new)}
    result: nn.Module = copy.deepcopy(fused, without_graphs(fused) | layers).eval()
    if inputs:
        agree("fuse", copy.deepcopy(net, without_graphs(net)).eval(), result, inputs, changed=changed)
    return result


def _takes_rows(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
    """Refuse ``[N, L, C]``, of which BatchNorm1d normalises ``L``, but the folded layer ``C``."""
    if arguments[0].dim() != 2:
        raise ValueError(
            f"fuse: a linear layer with BatchNorm1d folded into it takes [N, C], got {list(arguments[0].shape)}"
        )


# Like a monitor's hook, it may see one step in place of several equal ones.
_takes_rows.counts_steps = True  # type: ignore[attr-defined]
