"""Thresholds by Spike-Norm of all layers of VGG16, ``T x B``, or of a chain of convolutions, ``T x B x layers``.

The chain has equal layers of 32 channels on images of 16x16, so that its cost by depth shows the cost of a layer.
``ann`` runs the ReLU network T times: all products once per step, a lower bound for spikes of all layers. ``anew``
starts again at the first layer for every layer, as in n3ml, with the same neurons.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import neurons
from benchmarks.timing import Prepared, Task

SHAPES = ((10, 10, 4), (10, 10, 8), (10, 10, 16), (10, 10, 32), (5, 10))
QUICK_SHAPES = ((2, 1, 2),)
FLOOR = "ann"
BASELINES = ("anew",)
CALIBRATION = "calibration"
CHANNELS, SIDE = 32, 16


def network(layers: int | None) -> nn.Module:
    from snnfast.papers import VGG16

    torch.manual_seed(0)
    if layers is None:
        return VGG16()
    return VGG16((CHANNELS,) * layers, (), input_shape=(3, SIDE, SIDE))


def prepare(task: Task) -> Prepared:
    from snnfast.papers import SVGG16
    from snnfast_zoo.n3ml.threshold import spikenorm

    steps, batch, *depth = task.shape
    ann = network(*depth or (None,)).eval().requires_grad_(False)
    ann = ann.to(task.device, task.torch_dtype)
    images = torch.rand(batch, *ann.input_shape)  # type: ignore[misc, call-overload]
    images = images.to(task.device, task.torch_dtype)
    snn = SVGG16(ann)

    def calibrate() -> list[Tensor]:
        torch.manual_seed(1)
        return spikenorm([images], encode, snn, steps, progress=False)

    def forwards() -> list[Tensor]:
        return [ann(images) for _ in range(steps)]

    runs: dict[str, Callable[[], Any]] = {
        FLOOR: forwards,
        "anew": lambda: anew(ann, images, steps),
        neurons.OURS: calibrate,
    }
    run = neurons.chosen(task.implementation, runs)
    if task.implementation == FLOOR:
        return Prepared({FLOOR: run}, {})
    return Prepared({CALIBRATION: run}, {"threshold of the last": float(run()[-1])})


def encode(images: Tensor) -> Tensor:
    return (torch.rand_like(images) < images).to(images.dtype)


def anew(ann: nn.Module, images: Tensor, steps: int) -> list[Tensor]:
    """Run all steps of all previous layers again for every layer."""
    from snnfast import ops

    layers = [m for m in ann.modules() if not list(m.children())]
    products = [i for i, m in enumerate(layers) if isinstance(m, (nn.Conv2d, nn.Linear))]
    thresholds: dict[int, Tensor] = {}
    for last in products:
        torch.manual_seed(1)
        v: dict[int, Tensor] = {}
        largest = images.new_tensor(-torch.inf)
        for _ in range(steps):
            x = encode(images)
            for i, layer in enumerate(layers[: last + 1]):
                if isinstance(layer, nn.ReLU):
                    continue
                if isinstance(layer, nn.Linear):
                    x = x.flatten(1)
                x = layer(x)
                if i in thresholds:
                    spikes, v[i] = ops.iaf(x.unsqueeze(0), v.get(i), v_threshold=thresholds[i], v_reset=None)
                    x = spikes[0]
            largest = torch.maximum(largest, x.max())
        thresholds[last] = largest
    return list(thresholds.values())
