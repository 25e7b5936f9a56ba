"""From any trained ReLU network to a spiking one: :func:`convert`."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from tqdm import tqdm

from snnfast import check

from .calibration import from_activations, from_currents
from .network import SpikingNetwork, one_of
from .qcfs import QCFS, Quantised
from .stream import Encoder

METHODS = ("max", "percentile", "spikenorm", "qcfs")


def convert(
    model: nn.Module,
    calibration_loader: Iterable[Any],
    *,
    method: str = "percentile",
    percentile: float | None = None,
    per_channel: bool = False,
    num_steps: int = 100,
    scaling_factor: float = 1.0,
    levels: int = 4,
    epochs: int = 1,
    lr: float = 1e-3,
    reset: str = "soft",
    initial_membrane: float | None = None,
    max_pool: str = "rate",
    encoding: str | Encoder = "constant",
    progress: bool | None = None,
) -> SpikingNetwork:
    """Makes a spiking network of a trained ReLU network: every ReLU becomes integrate-and-fire neurons.

    The model may hold Linear, Conv1d, Conv2d, batch norms (folded), ReLU as a module, function or method, Dropout
    (left out), average, adaptive average and max pooling, Flatten, additions, concatenations, and constant factors;
    with or without biases. torchvision's VGG and ResNet convert as they are. An error names whatever cannot be
    converted, its place in the model and the reason.

    The neurons integrate the current that the ReLU would clip, in its own units, and a spike counts for their
    threshold. With more steps ``rate * threshold`` approaches the activation, wherever that is at most the threshold.
    The methods differ in how they choose the threshold of a layer:

    - ``"max"``: its largest activation over the images (Diehl et al. 2015);
    - ``"percentile"``: a percentile of its activations, which clips the few largest and so gives more spikes
      (Rueckauer et al. 2017);
    - ``"spikenorm"``: the largest current into it while the spiking network runs, layer by layer (Sengupta et al.
      2019), or a percentile of these currents;
    - ``"qcfs"``: learned. A copy of the model is fine-tuned with activations that are quantised to ``levels`` levels
      and clipped at the thresholds (Bu et al. 2022), for inference in about ``levels`` steps. The loader must give
      labels. A model that has :class:`snnfast.conversion.QCFS` in it already is taken as it is.

    Args:
        model: a trained network that takes one tensor ``[B, ...]`` and returns scores; it is copied, in evaluation
            mode.
        calibration_loader: batches of training images, or of images and labels, as the model takes them.
        method: see above.
        percentile: in (0, 100], for ``"percentile"`` and ``"spikenorm"``, whose currents of all steps and neurons
            count, those below 0 as 0. None: 99.9 for ``"percentile"``, else the largest.
        per_channel: a threshold for every channel; not for ``"qcfs"``.
        num_steps: steps of the run of ``"spikenorm"``, which takes one batch.
        scaling_factor: thresholds of ``"spikenorm"`` are this fraction of the largest current, or of the percentile.
        levels: quantisation levels of ``"qcfs"``.
        epochs: passes over the loader to fine-tune for ``"qcfs"``.
        lr: learning rate of this fine-tuning, by Adam.
        reset: "soft" subtracts the threshold at a spike, "hard" sets the membrane to 0 and loses what was above the
            threshold.
        initial_membrane: membrane before the first step, as a fraction of the threshold, in [0, 1). 0.5 rounds rates
            to the nearest; 0 rounds them down. None: 0.5 for ``"qcfs"``, which needs it, else 0.
        max_pool: "rate" for spiking max pooling, "refuse" to make it an error.
        encoding: "constant" current, "poisson" spikes, or a callable; see :class:`snnfast.conversion.SpikingNetwork`.
        progress: show a progress bar; None: only if standard error is a terminal.

    Returns:
        The network, calibrated, on the device of the model: ``network(images, num_steps)`` gives scores.

    Raises:
        TypeError, ValueError: for a model that cannot be converted, an empty loader, images of wrong shape, and
            arguments of wrong type or range.
    """
    one_of("method", method, METHODS)
    if per_channel and method == "qcfs":
        raise ValueError("convert: per_channel is for max, percentile and spikenorm, not for qcfs")
    if percentile is None:
        percentile = 99.9 if method == "percentile" else 100.0
    elif method in ("max", "qcfs"):
        raise ValueError(f"convert: percentile is for percentile and spikenorm, not for {method}")
    learned = isinstance(model, nn.Module) and any(isinstance(m, QCFS) for m in model.modules())
    if method == "qcfs" and not learned:
        model = quantise(model, calibration_loader, levels=levels, progress=progress)
        fine_tune(model, calibration_loader, epochs=epochs, lr=lr, progress=progress)
    if initial_membrane is None:
        initial_membrane = 0.5 if method == "qcfs" else 0.0
    network = SpikingNetwork(
        model,
        reset=reset,
        initial_membrane=initial_membrane,
        max_pool=max_pool,
        encoding=encoding,
    )
    if method == "spikenorm":
        from_currents(
            network,
            calibration_loader,
            num_steps=num_steps,
            scaling_factor=scaling_factor,
            percentile=percentile,
            per_channel=per_channel,
            progress=progress,
            name="convert",
        )
    elif method != "qcfs":
        thresholds = from_activations(
            network,
            calibration_loader,
            percentile=percentile,
            per_channel=per_channel,
            progress=progress,
        )
        network.update_threshold(thresholds)
    else:
        # Shapes are checked, and the batch is not mixed, as the other methods see on the way.
        from_activations(network, calibration_loader, batches_used=1, progress=False)
    return network


def quantise(
    model: nn.Module,
    calibration_loader: Iterable[Any],
    *,
    levels: int = 4,
    progress: bool | None = None,
) -> nn.Module:
    """A copy of ``model`` whose ReLUs are :class:`QCFS`, with the largest activations as thresholds; to be trained.

    Batch norms are folded and dropouts left out.

    Args:
        model: a network of ReLUs, as in :func:`convert`.
        calibration_loader: batches of images, or of images and labels.
        levels: how many steps each ReLU is quantised to.
        progress: show a progress bar; None: only if standard error is a terminal.

    Raises:
        TypeError, ValueError: as :func:`convert`.
    """
    check.whole("quantise", "levels", levels)
    network = SpikingNetwork(model)
    thresholds = from_activations(
        network, calibration_loader, percentile=99.9, progress=progress, name="quantise"
    )
    device = next((p.device for p in network.parameters()), None)
    layers = [QCFS(threshold.item(), levels).to(device) for threshold in thresholds]
    return Quantised(network, network.plan.nodes, network.plan.result, layers)


def fine_tune(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    epochs: int = 1,
    lr: float = 1e-3,
    progress: bool | None = None,
) -> None:
    """Trains ``model`` on batches of images and labels with the cross-entropy of its scores, by Adam, in place.

    Args:
        model: gives scores ``[B, classes]``.
        loader: batches of images and labels.
        epochs: passes over ``loader``.
        lr: learning rate of Adam.
        progress: show a progress bar; None: only if standard error is a terminal.

    Raises:
        TypeError, ValueError: for a loader without labels or without images, in any epoch, and for arguments out of
            range; the model is then as it was.
    """
    check.whole("fine_tune", "epochs", epochs, least=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=check.positive("fine_tune", "lr", lr))
    disable = None if progress is None else not progress
    before = copy.deepcopy(model.state_dict())
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.train()
        for epoch in range(epochs):
            bar = tqdm(loader, desc=f"fine-tuning {epoch + 1}", disable=disable, leave=False)
            _train(model, optimizer, bar)
        model.eval()
    except Exception:
        model.load_state_dict(before)
        for module, was_training in modes:
            module.training = was_training
        raise


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterable[Any]) -> None:
    device = next(model.parameters()).device
    empty = True
    for item in batches:
        if not isinstance(item, (tuple, list)) or len(item) < 2:
            raise TypeError("fine_tune: the loader must give images and labels for method='qcfs'")
        images, labels = item[0].to(device).contiguous(), item[1].to(device)
        value = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        empty = False
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, QCFS):
                    # A threshold of 0 would be the end of the layer.
                    module.threshold.clamp_(min=1e-3)
    if empty:
        raise ValueError(
            "fine_tune: the loader holds no images, or gives them only once; give one that can be gone through again"
        )
