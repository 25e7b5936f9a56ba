"""Conversion of trained ReLU networks to spiking networks: :func:`convert`."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from snnfast import check

from .calibration import from_activations, from_currents
from .loader import checked_labels, each_batch, images_and_labels
from .network import SpikingNetwork, one_of
from .qcfs import QCFS, Quantised
from .stream import Encoder

# Options of every method, with their defaults.
OPTIONS: dict[str, dict[str, Any]] = {
    "max": {"per_channel": False},
    "percentile": {"per_channel": False, "percentile": 99.9},
    "spikenorm": {"per_channel": False, "percentile": 100.0, "num_steps": 100, "scaling_factor": 1.0},
    "qcfs": {"levels": 4, "epochs": 1, "lr": 1e-3},
}
METHODS = tuple(OPTIONS)


@check.keywords
def convert(
    model: nn.Module,
    calibration_loader: Iterable[Any],
    *,
    method: str = "percentile",
    percentile: float | None = None,
    per_channel: bool = False,
    num_steps: int | None = None,
    scaling_factor: float | None = None,
    levels: int | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    reset: str = "soft",
    initial_membrane: float = 0.5,
    max_pool: str = "rate",
    encoding: str | Encoder = "constant",
    progress: bool | None = None,
) -> SpikingNetwork:
    """Convert a trained ReLU network to a spiking network: every ReLU becomes integrate-and-fire neurons.

    The model may hold Linear, Conv1d, Conv2d, batch norms (folded), ReLU as a module, function or method, Dropout
    (left out), average, adaptive average and max pooling, Flatten, additions, concatenations, and constant factors;
    with or without biases. torchvision's VGG and ResNet convert as they are. An error names whatever cannot be
    converted, its place in the model and the reason.

    The neurons integrate the input current of the ReLU, in units of its activations, and a spike has the size of the
    threshold. With more steps ``rate * threshold`` approaches the activation, if that is at most the threshold.
    The methods differ in how they choose the threshold of a layer:

    - ``"max"``: its largest activation over the images (Diehl et al. 2015);
    - ``"percentile"``: a percentile of its activations, which clips the few largest and so gives more spikes
      (Rueckauer et al. 2017);
    - ``"spikenorm"``: the largest current into it while the spiking network runs, layer by layer (Sengupta et al.
      2019), or a percentile of these currents;
    - ``"qcfs"``: learned. A copy of the model is fine-tuned with activations that are quantised to ``levels`` levels
      and clipped at the thresholds (Bu et al. 2022), for inference in about ``levels`` steps. The loader must give
      labels. A model that already contains :class:`snnfast.conversion.QCFS` is not fine-tuned.

    An option that the chosen method does not have is an error.

    Args:
        model: a trained network that takes one tensor ``[B, ...]`` and returns scores; it is copied, in evaluation
            mode.
        calibration_loader: batches of training images, or of images and labels, as the model takes them.
        method: see above.
        percentile: in (0, 100], for ``"percentile"`` and for ``"spikenorm"``, which takes the percentile of the
            currents of all steps and neurons, with negative ones as 0. None: 99.9 for ``"percentile"``, else 100.
        per_channel: one threshold per channel; not for ``"qcfs"``.
        num_steps: number of steps of the run of ``"spikenorm"``, which takes one batch. None: 100.
        scaling_factor: thresholds of ``"spikenorm"`` are this fraction of the largest current, or of the percentile.
            None: 1.
        levels: quantisation levels of ``"qcfs"``. None: 4.
        epochs: number of fine-tuning epochs of ``"qcfs"``. None: 1.
        lr: learning rate of this fine-tuning, by Adam. None: 0.001.
        reset: "soft" subtracts the threshold at a spike, "hard" sets the membrane to 0 and loses the excess over the
            threshold; not for ``"qcfs"``.
        initial_membrane: membrane before the first step, as a fraction of the threshold, in [0, 1). 0.5 rounds rates
            to the nearest (Bu et al. 2022); 0 rounds them down, and deep networks need several times as many steps.
            ``"qcfs"`` takes only 0.5.
        max_pool: "rate" for spiking max pooling, "refuse" to make it an error.
        encoding: "constant" current, "poisson" spikes, or a callable; see :class:`snnfast.conversion.SpikingNetwork`.
        progress: show a progress bar; None: only if standard error is a terminal.

    Returns:
        The network, calibrated, on the device of the model: ``network(images, num_steps)`` gives scores.

    Raises:
        TypeError, ValueError: for a model that cannot be converted, an empty loader, images of wrong shape, labels
            that are not a class an image, and arguments of wrong type or range.
    """
    one_of("method", method, METHODS)
    chosen = {
        "percentile": percentile,
        "per_channel": check.flag("convert", "per_channel", per_channel),
        "num_steps": num_steps,
        "scaling_factor": scaling_factor,
        "levels": levels,
        "epochs": epochs,
        "lr": lr,
    }
    options = options_of(method, chosen)
    if method == "qcfs":
        if reset != "soft" or initial_membrane != 0.5:
            raise ValueError(
                f"convert: qcfs needs reset='soft' and initial_membrane=0.5, got {reset!r} and {initial_membrane!r}"
            )
        if not (isinstance(model, nn.Module) and any(isinstance(m, QCFS) for m in model.modules())):
            model = quantise(model, calibration_loader, levels=options.pop("levels"), progress=progress)
            fine_tune(model, calibration_loader, **options, progress=progress)
        elif unused := [name for name in options if chosen[name] is not None]:
            raise ValueError(f"convert: {unused[0]} is for a model without QCFS; this one is taken as it is")
    network = SpikingNetwork(
        model, reset=reset, initial_membrane=initial_membrane, max_pool=max_pool, encoding=encoding
    )
    if method == "spikenorm":
        from_currents(network, calibration_loader, **options, progress=progress, name="convert")
    elif method != "qcfs":
        thresholds = from_activations(network, calibration_loader, **options, progress=progress)
        network.update_threshold(thresholds)
    else:
        # Check shapes, and that the model does not mix images of a batch; the other methods do that on the way.
        from_activations(network, calibration_loader, batches_used=1, progress=False)
    return network


def options_of(method: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of ``method``, with defaults for None; raise an error for an option of another method."""
    for name, value in values.items():
        check_option(method, name, value)
    return {name: default if values[name] is None else values[name] for name, default in OPTIONS[method].items()}


def check_option(method: str, option: str, value: object, name: str | None = None) -> None:
    """Raise an error if an option is set that ``method`` lacks; ``name`` is its name in the message."""
    if value is None or value is False or option in OPTIONS[method]:
        return
    *others, last = (m for m, options in OPTIONS.items() if option in options)
    methods = f"{', '.join(others)} and {last}" if others else last
    raise ValueError(f"convert: {name or option} is for {methods}, not for {method}")


def quantise(
    model: nn.Module, calibration_loader: Iterable[Any], *, levels: int = 4, progress: bool | None = None
) -> nn.Module:
    """Return a trainable copy of ``model`` with :class:`QCFS` for ReLUs, and large activations as thresholds.

    Batch norms are folded and dropouts left out.

    Args:
        model: a network of ReLUs, as in :func:`convert`.
        calibration_loader: batches of images, or of images and labels.
        levels: number of levels of each quantised ReLU.
        progress: show a progress bar; None: only if standard error is a terminal.

    Raises:
        TypeError, ValueError: as :func:`convert`.
    """
    check.integer("quantise", "levels", levels)
    network = SpikingNetwork(model)
    thresholds = from_activations(network, calibration_loader, percentile=99.9, progress=progress, name="quantise")
    device = next((p.device for p in network.parameters()), None)
    layers = [QCFS(threshold.item(), levels).to(device) for threshold in thresholds]
    return Quantised(network, network.plan.nodes, network.plan.result, layers)


def fine_tune(
    model: nn.Module, loader: Iterable[Any], *, epochs: int = 1, lr: float = 1e-3, progress: bool | None = None
) -> None:
    """Train ``model`` in place on batches of images and labels, with cross-entropy and Adam.

    Args:
        model: a network that returns scores ``[B, classes]``.
        loader: batches of images and labels.
        epochs: number of passes over ``loader``.
        lr: learning rate of Adam.
        progress: show a progress bar; None: only if standard error is a terminal.

    Raises:
        TypeError, ValueError: for a loader without labels or without images, in any epoch, for labels that are not a
            class an image, for a model without parameters, and for arguments out of range; the model is then unchanged.
    """
    check.module("fine_tune", "model", model)
    if next(model.parameters(), None) is None:
        raise ValueError("fine_tune: model must have parameters, got none")
    check.integer("fine_tune", "epochs", epochs, least=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=check.positive("fine_tune", "lr", lr))
    before = copy.deepcopy(model.state_dict())
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.train()
        for epoch in range(epochs):
            title = f"fine-tuning {epoch + 1}"
            _train(model, optimizer, each_batch(loader, "fine_tune", progress=progress, title=title))
        model.eval()
    except Exception:
        model.load_state_dict(before)
        for module, was_training in modes:
            module.training = was_training
        raise


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterable[Any]) -> None:
    device = next(model.parameters()).device
    empty = True
    for batch in batches:
        images, labels = images_and_labels(batch)
        if labels is None:
            raise TypeError("fine_tune: the loader must give images and labels for method='qcfs'")
        check.tensor("fine_tune", "images", images)
        scores = model(images.to(device).contiguous())
        check.shape("fine_tune", "the scores of model", scores, (len(images), "classes"))
        classes = checked_labels("fine_tune", labels, scores).to(device)
        value = F.cross_entropy(scores, classes)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        empty = False
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, QCFS):
                    # A threshold of 0 would leave the layer without output.
                    module.threshold.clamp_(min=1e-3)
    if empty:
        raise ValueError(
            "fine_tune: the loader holds no images, or gives them only once; give one that can be gone through again"
        )
