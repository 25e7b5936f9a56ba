"""Convolutions of small images in bfloat16 as products of patches."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from snnfast.nn import PatchConv2d, patch_conv2d

PRODUCT = "_PatchConv2dBackward"

# channels, outputs, kernel, padding, rows and columns of the image
LAYERS = [
    (16, 8, 3, 1, (2, 2)),
    (3, 5, (3, 2), (1, 0), (3, 2)),
    (4, 4, 1, 0, (2, 2)),
    (4, 6, (1, 3), (0, 2), (1, 2)),
    (4, 6, 3, 0, (3, 5)),
    (129, 128, 3, 1, (4, 4)),
    (2, 8200, (3, 1), (2, 0), (2, 4)),
]


@pytest.fixture(autouse=True)
def amx(monkeypatch):
    monkeypatch.setattr(patch_conv2d, "_has_amx", lambda: True)


def test_without_amx_it_is_conv2d(monkeypatch):
    conv, x = layer(16, 8, 3, padding=1, bias=False), small_integers(6, 16, 2, 2)
    assert by_product(conv(x))
    monkeypatch.setattr(patch_conv2d, "_has_amx", lambda: False)
    assert not by_product(conv(x))


def small_integers(*shape: int) -> torch.Tensor:
    """Return small integers, mostly 0, so that bfloat16 represents every sum of products exactly."""
    return (torch.randint(-1, 2, shape) * torch.randint(0, 2, shape)).to(torch.bfloat16)


def layer(*args, **keywords) -> PatchConv2d:
    conv = PatchConv2d(*args, **keywords).to(torch.bfloat16)
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.copy_(small_integers(*parameter.shape))
    return conv


def by_product(y: torch.Tensor) -> bool:
    """Return whether ``y`` (without a bias) was computed by the product of patches."""
    node = y.grad_fn
    if node.name().startswith("Add"):
        node = node.next_functions[0][0]
    return node.name() == PRODUCT


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("last", [True, False], ids=["channels-last", "contiguous"])
@pytest.mark.parametrize(("channels", "outputs", "kernel", "padding", "size"), LAYERS)
def test_result_and_gradients_are_those_of_conv2d(channels, outputs, kernel, padding, size, last, bias):
    torch.manual_seed(0)
    conv = layer(channels, outputs, kernel, padding=padding, bias=bias)
    layout = torch.channels_last if last else torch.contiguous_format
    conv.to(memory_format=layout)
    x = small_integers(6, channels, *size).contiguous(memory_format=layout).requires_grad_()
    y = conv(x)
    assert by_product(y)
    gradient = small_integers(*y.shape)
    y.backward(gradient)

    x_64 = x.detach().double().requires_grad_()
    parameters = [p.detach().double().requires_grad_() for p in conv.parameters()]
    y_64 = functional.conv2d(x_64, *parameters, padding=padding)
    y_64.backward(gradient.double())
    torch.testing.assert_close(y, y_64.bfloat16(), rtol=0, atol=0)
    torch.testing.assert_close(x.grad, x_64.grad.bfloat16(), rtol=0, atol=0)
    for parameter, expected in zip(conv.parameters(), parameters):
        torch.testing.assert_close(parameter.grad, expected.grad.bfloat16(), rtol=0, atol=0)


def test_one_pixel_by_hand():
    conv = PatchConv2d(1, 1, 3, padding=1, bias=False).to(torch.bfloat16)
    with torch.no_grad():
        conv.weight.copy_(torch.arange(9.0).view(1, 1, 3, 3))
    x = torch.tensor([[[[1.0, 0.0], [0.0, 2.0]]]], dtype=torch.bfloat16, requires_grad=True)
    y = conv(x)
    assert y.tolist() == [[[[4 + 2 * 8, 3 + 2 * 7], [1 + 2 * 5, 0 + 2 * 4]]]]
    y[0, 0, 0, 0].backward()
    assert x.grad.tolist() == [[[[4, 5], [7, 8]]]]
    assert conv.weight.grad.tolist() == [[[[0, 0, 0], [0, 1, 0], [0, 0, 2]]]]


def test_only_the_gradients_asked_for():
    conv = layer(4, 4, 3, padding=1)
    y = conv(small_integers(2, 4, 2, 2))
    assert by_product(y)
    y.sum().backward()
    assert conv.weight.grad is not None
    x = small_integers(2, 4, 2, 2).requires_grad_()
    conv.weight.requires_grad_(False)
    conv.weight.grad = None
    conv(x).sum().backward()
    assert x.grad is not None
    assert conv.weight.grad is None


def test_under_autocast_weights_stay_float32():
    torch.manual_seed(0)
    conv = PatchConv2d(8, 8, 3, padding=1)
    x = torch.randn(2, 8, 2, 2, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x)
    assert y.dtype == torch.bfloat16
    assert by_product(y)
    y.float().sum().backward()
    assert x.grad.dtype == conv.weight.grad.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        expected = nn.Conv2d.forward(conv, x)
    torch.testing.assert_close(y, expected, rtol=2**-7, atol=2**-8)


@pytest.mark.parametrize(
    ("change", "size"),
    [
        ({}, (1, 5)),
        ({"in_channels": 129, "out_channels": 128}, (1, 17)),
        ({"stride": 2}, (2, 2)),
        ({"dilation": 2, "padding": 2}, (2, 2)),
        ({"groups": 2}, (2, 2)),
        ({"kernel_size": 1}, (1, 1)),
        ({"padding": "same"}, (2, 2)),
        ({"padding_mode": "circular"}, (2, 2)),
    ],
    ids=str,
)
def test_otherwise_it_is_conv2d(change, size):
    usual = {"in_channels": 4, "out_channels": 4, "kernel_size": 3, "padding": 1}
    conv = layer(**{**usual, **change})
    x = small_integers(2, conv.in_channels, *size).requires_grad_()
    y = conv(x)
    assert not by_product(y)
    torch.testing.assert_close(y, nn.Conv2d.forward(conv, x), rtol=0, atol=0)


def test_other_dtypes_and_single_images_are_conv2d():
    conv = PatchConv2d(4, 4, 3, padding=1)
    assert not by_product(conv(torch.randn(2, 4, 2, 2)))
    conv = layer(4, 4, 3, padding=1)
    single, batch = conv(image := small_integers(4, 2, 2)), conv(image[None])
    assert by_product(batch)
    torch.testing.assert_close(single, batch[0], rtol=0, atol=0)
    assert conv(small_integers(0, 4, 2, 2)).shape == (0, 4, 2, 2)


def test_wrong_images_get_the_error_of_conv2d():
    conv = layer(4, 4, 3, padding=0)
    with pytest.raises(RuntimeError, match="expected input"):
        conv(small_integers(2, 5, 2, 2))
    with pytest.raises(RuntimeError, match=r"[Kk]ernel size"):
        conv(small_integers(2, 4, 2, 2))


def test_second_derivatives_are_refused():
    conv = layer(2, 2, 3, padding=1)
    x = small_integers(1, 2, 2, 2).requires_grad_()
    (gradient,) = torch.autograd.grad(conv(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="PatchConv2d: a second derivative"):
        gradient.sum().backward()


def test_state_dict_copies_and_vmap():
    torch.manual_seed(0)
    conv, plain = PatchConv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
    conv.load_state_dict(plain.state_dict())
    torch.testing.assert_close(copy.deepcopy(conv).weight, plain.weight, rtol=0, atol=0)
    conv = layer(4, 4, 3, padding=1)
    x = small_integers(3, 2, 4, 2, 2)
    torch.testing.assert_close(torch.vmap(conv)(x), torch.stack([conv(one) for one in x]), rtol=0, atol=0)


def test_compiled_it_is_conv2d():
    conv = layer(4, 4, 3, padding=1)
    x = small_integers(2, 4, 2, 2)
    compiled = torch.compile(conv, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), conv(x), rtol=0, atol=0)
