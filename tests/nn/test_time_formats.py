"""Channels-last in ``nn.Time``: memory formats of images and gradients, and faults of PyTorch that it avoids."""

import pytest
import torch
from operators import Log
from torch import nn

from snnfast import nn as sn


def test_channels_last_passes_without_copies():
    net = nn.Sequential(sn.Time(nn.Conv2d(3, 4, 3)), sn.LIF(), sn.Time(nn.Conv2d(4, 2, 3)))
    net.to(memory_format=torch.channels_last)
    x = torch.rand(10, 3, 8, 8).to(memory_format=torch.channels_last).unflatten(0, (5, 2))
    with torch.no_grad(), Log() as log:
        y = net(x)
    assert not log.copies
    assert y.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_images_are_channels_last_from_the_first_convolution_on():
    x = torch.rand(5, 2, 1, 8, 8)
    layers = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 3)
    y = sn.Time(*layers)(x)
    plain = sn.Time(*layers, fast=False)(x)
    assert y.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    assert plain.is_contiguous()
    torch.testing.assert_close(y, plain)
    assert sn.Time(*layers).double()(x.double()).is_contiguous()


def test_gradients_stay_channels_last():
    """PyTorch's sum over steps changes the format; its batch normalisation is ten times slower when formats differ."""
    x = torch.rand(2, 3, 6, 6)
    seen = []
    y = sn.Time(nn.Conv2d(3, 4, 3))(x.expand(5, *x.shape))
    first = y.grad_fn.next_functions[0][0]
    first.register_prehook(lambda grads: seen.append(grads[0]))
    sn.LIF()(y).square().sum().backward()
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert not seen[0].is_contiguous()


@pytest.mark.parametrize(
    "layers",
    [
        lambda: (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)),
        lambda: (nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3)),
        lambda: (nn.InstanceNorm2d(3, affine=True), nn.Conv2d(3, 8, 3)),
    ],
)
@pytest.mark.parametrize("together", [False, True])
def test_normalisation_of_a_single_image_and_a_convolution(layers, together):
    """PyTorch's gradient is wrong for images whose batch stride is not their size."""
    torch.manual_seed(0)
    layers = layers()
    x = torch.rand(1, 1, 3, 8, 8, requires_grad=True)
    times = [sn.Time(*layers)] if together else [sn.Time(layer) for layer in layers]
    y, plain = nn.Sequential(*times)(x), nn.Sequential(*layers)(x[0])[None]
    weight, learned = torch.randn(y.shape), [p for layer in layers for p in layer.parameters()]
    found, wanted = (torch.autograd.grad(z, (x, *learned), weight) for z in (y, plain))
    for a, b in zip(found, wanted):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("channels", [1, 4])
def test_group_norm_of_images_without_a_gradient(channels):
    """PyTorch's backward pass ends the process if such images are channels-last."""
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, channels, 3).requires_grad_(False), nn.GroupNorm(1, channels)
    x = torch.rand(2, 3, 3, 6, 6)
    y = sn.Time(conv, norm)(x)
    assert y.stride()[2:] == (16, 4, 1)
    plain = sn.Time(conv, norm, fast=False)(x)
    weight = torch.randn(y.shape)
    for found, wanted in zip(*(torch.autograd.grad(z, norm.parameters(), weight) for z in (y, plain))):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_convolution_with_large_weights_takes_images_by_channels(dtype):
    conv, seen = nn.Conv2d(40, 30, 3, padding=1, dtype=dtype), []
    conv.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].stride()))
    x = torch.rand(2, 3, 40, 1, 1, dtype=dtype).to(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(sn.Time(conv)(x), conv(x.flatten(0, 1)).unflatten(0, (2, 3)))
    assert seen[0] == (40, 1, 1, 1)
    sn.Time(conv)(torch.rand(2, 3, 40, 16, 16, dtype=dtype))
    assert seen[-1] == (40 * 256, 1, 16 * 40, 40)
