"""A batch of training images, ``B x C x H x W``, from 8-bit images in memory: picked, cropped, mirrored, normalised.

``step`` is what such a batch is for: a training step of VGG16 at half its width with batch norm, under autocast unless
``--dtype float32``. ``one_by_one`` changes every image on its own, by torchvision on PIL images, as the manual does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks import neurons
from benchmarks.timing import Prepared, Task

if TYPE_CHECKING:
    from snnfast.train import Run

SHAPES = ((128, 3, 32, 32),)
QUICK_SHAPES = ((2, 3, 32, 32),)
FLOOR = "step"
BASELINES = ("one_by_one",)
# As many batches in memory as CIFAR-10 has, about.
BATCHES = 400


def prepare(task: Task) -> Prepared:
    from snnfast.papers.procedures import vgg16
    from snnfast.train.runs import classifier
    from snnfast.train.runs.run import Data

    batch, *size = task.shape
    settings = vgg16.preset("cifar10", width=0.5, batch_norm=True, batch_size=batch)
    images = torch.randint(256, (BATCHES * batch, *size), dtype=torch.uint8)
    part = torch.empty(1, *size, device=task.device), torch.zeros(1, dtype=torch.int64)
    run = vgg16.prepare(settings, Data(part, part))
    augment = classifier.augment(settings)
    assert augment is not None
    order = torch.randperm(len(images))[:batch]
    if task.implementation == FLOOR:
        return Prepared({FLOOR: training(run, augment(images[order]).to(task.device), task)}, {})
    if task.implementation == neurons.OURS:
        images = images.to(task.device)
        chosen = order.to(task.device)
        return Prepared({"batch": lambda: augment(images[chosen])}, {})
    if task.implementation != "one_by_one":
        raise neurons.Skip(f"choose from {FLOOR}, {neurons.OURS}, {', '.join(BASELINES)}")
    return Prepared({"batch": one_by_one(images, order)}, {})


def training(run: Run, images: Tensor, task: Task) -> Callable[[], Tensor]:
    from snnfast.train import answer

    assert run.optimizer is not None
    model, optimizer = run.model.to(memory_format=torch.channels_last), run.optimizer
    labels = torch.randint(10, (len(images),)).to(task.device)

    def step() -> Tensor:
        loss = functional.cross_entropy(answer(model, images, task.torch_dtype), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def one_by_one(images: Tensor, order: Tensor) -> Callable[[], Tensor]:
    from PIL import Image
    from torchvision import transforms

    from snnfast.train.runs.images import NORMALIZATION

    change = transforms.Compose(
        [
            transforms.RandomCrop(images.shape[-1], padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(*NORMALIZATION["cifar10"]),
        ]
    )
    pixels = np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())
    return lambda: torch.stack([change(Image.fromarray(pixels[i])) for i in order.tolist()])
