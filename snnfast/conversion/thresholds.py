"""Thresholds for converted networks, layer by layer; :func:`snnfast.convert` chooses them in one call."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from .calibration import from_activations, from_currents
from .network import SpikingNetwork


def thresholds_from_activations(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    percentile: float = 100.0,
    consistent: bool = True,
    progress: bool | None = None,
) -> list[Tensor]:
    """Return thresholds for spikes of size 1 and unchanged weights, from the largest activations (Diehl et al. 2015).

    With ``lambda_l`` the largest activation of layer ``l`` over the images (or a percentile), a spike of layer ``l``
    stands for ``lambda_l``, so the next layer sees its input divided by ``lambda_l``. Hence::

        threshold_l = lambda_l / lambda_(l-1)          lambda_0 = 1

    which is the paper's data-based normalisation ``W_l lambda_(l-1) / lambda_l`` with a threshold of 1, in other units
    (both are in Rueckauer et al. 2017, equation 5). n3ml uses ``lambda_l`` alone, which balances only the first layer.

    Args:
        model: the trained ReLU network: a chain of layers without biases, as in the paper.
        loader: batches of images, or of images and labels.
        percentile: in (0, 100]; 100 is the largest activation.
        consistent: divide by ``lambda_(l-1)``; False gives n3ml's thresholds.
        progress: show a progress bar; None: only if standard error is a terminal.

    Returns:
        One threshold per layer of neurons, including the output, for ``update_threshold``.

    Raises:
        TypeError, ValueError: for a model that is not such a chain, an empty loader, images of wrong shape, a
            percentile out of range.
    """
    network = SpikingNetwork(model, spiking_output=True)
    _check_chain(network)
    largest = from_activations(
        network, loader, percentile=percentile, progress=progress, name="thresholds_from_activations"
    )
    if not consistent:
        return largest
    return [largest[0], *(current / before for before, current in itertools.pairwise(largest))]


def thresholds_from_currents(
    network: SpikingNetwork,
    loader: Iterable[Any],
    num_steps: int,
    *,
    scaling_factor: float = 1.0,
    percentile: float = 100.0,
    per_channel: bool = False,
    encoding: Callable[[Tensor], Tensor] | None = None,
    batches: int = 1,
    progress: bool | None = None,
) -> list[Tensor]:
    """Set thresholds by Spike-Norm, from the largest current of the running spiking network (Sengupta et al. 2019).

    Spike-Norm goes layer by layer, with the thresholds of all earlier layers set and all membranes at rest. The largest
    input current of the layer, over batch, neurons and ``num_steps`` steps, times ``scaling_factor``, becomes its
    threshold. The spikes of the previous layer are stored, one byte each, so every layer runs twice, not once for each
    layer after it. ``network`` gets the thresholds.

    In n3ml ``scaling_factor`` has no effect, and membranes carry over between layers.

    Args:
        network: the spiking network.
        loader: batches of images, or of images and labels.
        num_steps: number of steps, at least 1; the paper uses 2500, the manual 500.
        scaling_factor: thresholds are this fraction of the largest current, above 0. Below 1 there are more spikes
            sooner, and neurons with the largest currents saturate.
        percentile: in (0, 100]; below 100 this percentile of the currents instead of the largest, with negative
            currents counted as 0.
        per_channel: one threshold for every channel.
        encoding: from images ``[B, ...]`` to the input of one step, of the same shape; None for the network's own.
        batches: number of batches of ``loader`` to use.
        progress: show a progress bar over layers; None: only if standard error is a terminal.

    Returns:
        One threshold per layer of neurons, for ``update_threshold``.

    Raises:
        TypeError, ValueError: for an empty loader, images of wrong shape, and arguments of wrong type or range; the
            thresholds of ``network`` are then unchanged.
    """
    op = "thresholds_from_currents"
    if not isinstance(network, SpikingNetwork):
        raise TypeError(
            f"{op}: network must be a spiking network, got {type(network).__name__}; make one with SVGG16 or "
            "snnfast.conversion.SpikingNetwork"
        )
    if encoding is not None and not callable(encoding):
        raise TypeError(f"{op}: encoding must be callable, got {type(encoding).__name__}")
    if encoding is not None and network.plan.constant_input:
        raise ValueError(
            f"{op}: the network takes constant current; give encoding=None, or a network with encoding='poisson'"
        )
    return from_currents(
        network,
        loader,
        num_steps=num_steps,
        scaling_factor=scaling_factor,
        percentile=percentile,
        per_channel=per_channel,
        batches_used=batches,
        encoding=encoding,
        progress=progress,
        name=op,
    )


def _check_chain(network: SpikingNetwork) -> None:
    nodes = network.plan.nodes
    for node in nodes.values():
        signals = [name for name in node.reads if nodes[name].kind not in ("static", "size")]
        if len(signals) > 1:
            raise ValueError(
                f"thresholds_from_activations: {node.place} joins branches, so there is no one layer before it; use "
                "snnfast.convert(model, loader, method='max')"
            )
        if node.kind == "affine":
            constant = "has a bias" if node.is_product else "adds a constant"
            raise ValueError(
                f"thresholds_from_activations: {node.place} {constant}, which would have to be divided by the "
                "activation before it; use snnfast.convert(model, loader, method='max')"
            )
