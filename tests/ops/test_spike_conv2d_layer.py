"""The layer ``SpikeConv2d``."""

import pytest
import torch
from spike_conv2d_cases import SIZES, Convolutions, events, needs_kernels, sample, spikes
from torch import nn
from torch.nn import functional

import snnfast
from snnfast import nn as layers

pytestmark = needs_kernels


def test_the_layer_is_conv2d_by_another_name():
    torch.manual_seed(0)
    plain = nn.Conv2d(3, 4, (3, 2), padding=(1, 0))
    torch.manual_seed(0)
    layer = layers.SpikeConv2d(3, 4, (3, 2), padding=(1, 0), method="events")
    for a, b in zip(plain.state_dict().items(), layer.state_dict().items(), strict=True):
        assert a[0] == b[0]
        torch.testing.assert_close(a[1], b[1], rtol=0, atol=0)
    x = spikes((2, 3, 5, 5), dtype=torch.float32)
    with Convolutions() as seen:
        y = layer(x)
    assert seen.count == 0
    torch.testing.assert_close(y, plain(x))
    assert "method='events'" in repr(layer)
    assert repr(layers.SpikeConv2d(3, 4, 3)) == "Spike" + repr(nn.Conv2d(3, 4, 3))


@pytest.mark.parametrize(
    "keywords",
    [
        {"dilation": 2},
        {"groups": 3, "out_channels": 3},
        {"padding": 3},
        {"padding": "same"},
        {"padding": 1, "padding_mode": "circular"},
    ],
)
def test_what_events_cannot_do_is_dense(keywords):
    keywords = {"in_channels": 3, "out_channels": 4, "kernel_size": 3} | keywords
    torch.manual_seed(0)
    plain = nn.Conv2d(**keywords)
    torch.manual_seed(0)
    layer = layers.SpikeConv2d(**keywords)
    x = spikes((2, 3, 7, 7), dtype=torch.float32)
    torch.testing.assert_close(layer(x), plain(x), rtol=0, atol=0)
    with pytest.raises(ValueError, match="SpikeConv2d: method='events' takes a dilation"):
        layers.SpikeConv2d(**keywords, method="events")


def test_one_image_and_time():
    layer = layers.SpikeConv2d(3, 4, 3)
    x = spikes((5, 2, 3, 6, 6), 0.1, torch.float32)
    assert layer(x[0, 0]).shape == (4, 4, 4)
    y = layers.Time(layer)(x)
    torch.testing.assert_close(y[3, 1], layer(x[3, 1]))
    assert layers.Time(layer)(x[0].expand(5, 2, 3, 6, 6)).stride(0) == 0


def test_a_training_step_is_that_of_conv2d():
    def gradients(conv):
        torch.manual_seed(0)
        convolution = conv(4, 8, 3, padding=1)
        net = nn.Sequential(layers.LIF(), layers.Time(convolution), layers.LIF(), layers.Rate())
        x = 2 * torch.randn(4, 3, 4, 6, 6, dtype=torch.float64)
        loss = net.double()(x).square().mean()
        return torch.autograd.grad(loss, list(net.parameters()))

    events_only = lambda *a, **k: layers.SpikeConv2d(*a, **k, method="events")  # noqa: E731
    for a, b in zip(gradients(events_only), gradients(nn.Conv2d), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)


def test_forced_reference():
    x, weight, bias, padding = sample(SIZES[0])
    with snnfast.backend.use("reference"):
        y = events(x, weight, bias, padding=padding)
    torch.testing.assert_close(y, functional.conv2d(x, weight, bias, padding=padding))
