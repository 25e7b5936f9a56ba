"""Thresholds of converted networks, by the names of n3ml's manual; :func:`snnfast.convert` does it in one call."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from snnfast.conversion.calibration import from_activations, from_currents
from snnfast.conversion.network import SpikingNetwork

__all__ = ["activation_based", "spikenorm"]


def activation_based(
    train_loader: Iterable[Any],
    model: nn.Module,
    *,
    percentile: float = 100.0,
    consistent: bool = True,
    progress: bool | None = None,
) -> list[Tensor]:
    """Thresholds for spikes that count 1 and weights as they are, from the largest activations (Diehl et al. 2015).

    With ``lambda_l`` the largest activation of layer ``l`` over the images (or a percentile), a spike of layer ``l``
    stands for ``lambda_l``, so the layer after it sees its input as ``1 / lambda_l`` of what it was. Hence ::

        threshold_l = lambda_l / lambda_(l-1)          lambda_0 = 1

    which is the paper's data-based normalisation ``W_l lambda_(l-1) / lambda_l`` with a threshold of 1, in other units
    (Rueckauer et al. 2017, equation 5, has the two written out). n3ml takes ``lambda_l`` alone: then only the first
    layer is in balance.

    Args:
        train_loader: batches of images, or of images and labels.
        model: the trained ReLU network: a chain of layers without biases, as the paper's.
        percentile: in (0, 100]; the largest if 100.
        consistent: divide by ``lambda_(l-1)``; False gives n3ml's thresholds.
        progress: progress bar; None: if standard error is a terminal.

    Returns:
        One threshold a layer of neurons, the output included, for ``update_threshold``.

    Raises:
        TypeError, ValueError: for a model that is no such chain, an empty loader, images of wrong shape, a percentile
            out of range.
    """
    network = SpikingNetwork(model, spiking_output=True)
    _check_chain(network)
    largest = from_activations(
        network, train_loader, percentile=percentile, progress=progress, name="activation_based"
    )
    if not consistent:
        return largest
    return [largest[0], *(now / before for before, now in itertools.pairwise(largest))]


def spikenorm(
    train_loader: Iterable[Any],
    encoder: Callable[[Tensor], Tensor] | None,
    model: SpikingNetwork,
    num_steps: int,
    scaling_factor: float = 1.0,
    *,
    batches: int = 1,
    progress: bool | None = None,
) -> list[Tensor]:
    """Spike-Norm: thresholds from the largest current of the running spiking network (Sengupta et al. 2019).

    Layer by layer: with the thresholds of all earlier layers set and all membranes at rest, the largest current into
    the layer over batch, neurons and ``num_steps`` steps becomes its threshold, times ``scaling_factor``. The spikes of
    the layer before are kept, one byte each, so every layer runs twice, not once for each layer after it. ``model``
    has the thresholds when this returns.

    In n3ml ``scaling_factor`` has no effect, and membranes carry over between layers.

    Args:
        train_loader: batches of images, or of images and labels.
        encoder: from images ``[B, ...]`` to the input of one step, of the same shape; None for the model's own.
        model: the spiking network.
        num_steps: steps, at least 1; the paper takes 2500, the manual 500.
        scaling_factor: thresholds are this part of the largest current, above 0. Below 1 there are more spikes sooner,
            and neurons with the largest currents saturate.
        batches: of ``train_loader`` to use.
        progress: progress bar over layers; None: if standard error is a terminal.

    Returns:
        One threshold a layer of neurons, for ``update_threshold``.

    Raises:
        TypeError, ValueError: for an empty loader, images of wrong shape, and arguments of wrong type or range; the
            thresholds of ``model`` are then what they were.
    """
    if not isinstance(model, SpikingNetwork):
        raise TypeError(
            f"spikenorm: model must be a spiking network, got {type(model).__name__}; make one with SVGG16 or "
            "snnfast.conversion.SpikingNetwork"
        )
    if encoder is not None and not callable(encoder):
        raise TypeError(f"spikenorm: encoder must be callable, got {type(encoder).__name__}")
    if encoder is not None and model.plan.constant_input:
        raise ValueError(
            "spikenorm: the model takes constant current; give encoder=None, or a model with encoding='poisson'"
        )
    return from_currents(
        model,
        train_loader,
        num_steps=num_steps,
        scaling_factor=scaling_factor,
        batches_used=batches,
        encoding=encoder,
        progress=progress,
    )


def _check_chain(network: SpikingNetwork) -> None:
    nodes = network.plan.nodes
    for node in nodes.values():
        signals = [name for name in node.reads if nodes[name].kind not in ("static", "size")]
        if len(signals) > 1:
            raise ValueError(
                f"activation_based: {node.place} joins branches, so there is no one layer before it; use "
                "snnfast.convert(model, loader, method='max')"
            )
        if node.kind == "affine":
            what = "has a bias" if node.is_product else "adds a constant"
            raise ValueError(
                f"activation_based: {node.place} {what}, which would have to be divided by the activation before it; "
                "use snnfast.convert(model, loader, method='max')"
            )
