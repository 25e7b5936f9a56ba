"""The spiking VGG: equation, training by command, and errors."""

import json

import pytest
import torch
from command import call
from torch import nn
from torch.nn import functional as F  # noqa: N812

from snnfast.papers import SpikingVGG
from snnfast_zoo.papers.procedures import spiking_vgg


def test_the_equation():
    """Compare with PyTorch's layers and a loop over the time steps."""
    torch.manual_seed(0)
    net = SpikingVGG((3, "P", 4), 5, input_shape=(2, 8, 8), num_classes=3).double().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 1.0, 3.0)
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
    images = torch.rand(2, 2, 8, 8, dtype=torch.float64)
    first, second, head = (net.layers[i].layer for i in (0, 2, 4))
    v, scores = [0.0, 0.0], 0.0
    fired = 0.0
    for _ in range(5):
        x = images
        for i, layer in enumerate((first, second)):
            h = v[i] / 2 + layer(x)
            x = (h >= 1).double()
            v[i] = torch.where(h >= 1, 0.0, h)
        fired = fired + x.sum()
        linear = head[-1]
        scores = scores + F.linear(x.mean((2, 3)), linear.weight, linear.bias) / 5
    assert fired > 20
    torch.testing.assert_close(net(images), scores)


def test_the_command_learns_and_keeps(tmp_path):
    arguments = ("train", "spiking-vgg", "--epochs", "1", "--steps", "2", "--width", "0.1")
    call(*arguments, "--device", "cpu", "--out", tmp_path)
    stored = json.loads((tmp_path / "result.json").read_text())
    assert stored["accuracy"] > 0.4
    settings, run, _ = spiking_vgg.reopen(tmp_path)
    assert (settings.num_steps, settings.width, run.model.num_steps) == (2, 0.1, 2)
    assert [m.out_channels for m in run.model.modules() if isinstance(m, nn.Conv2d)] == [*(6, 6, 13, 13, 26, 26)]
    assert "spiking_vgg" in " ".join(call("convert", tmp_path, code=2).split())


def test_the_preset_of_cifar10():
    settings = spiking_vgg.preset("cifar10")
    assert (settings.optimizer, settings.nesterov, settings.crop) == ("sgd", True, 4)
    # Settings that the other optimizer or schedule lacks are absent.
    settings = spiking_vgg.preset("cifar10", optimizer="adam", schedule="cosine")
    assert (settings.nesterov, settings.warm_up) == (False, 0.3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"plan": 3}, "plan must be a sequence, got int"),
        ({"plan": (0,)}, "plan must be at least 1, got 0"),
        ({"plan": ("P", "P", "P", "P", 3)}, "images of 8x8 are too small for 4 poolings by 2"),
        ({"num_steps": 0}, "num_steps must be at least 1, got 0"),
        ({"num_classes": 0}, "num_classes must be at least 1, got 0"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises((TypeError, ValueError), match=f"^SpikingVGG: {message}"):
        SpikingVGG(**{"plan": (3,), "input_shape": (1, 8, 8), **arguments})


def test_images_of_another_shape():
    with pytest.raises(ValueError, match=r"^SpikingVGG: images must have shape \[B, 3, 32, 32\]"):
        SpikingVGG((3,))(torch.rand(2, 3, 16, 16))
