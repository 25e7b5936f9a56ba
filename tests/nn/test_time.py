"""``nn.Time``: layers at every step, errors, keys."""

import numpy as np
import pytest
import torch
from samples import assert_equal
from torch import nn

from snnfast import nn as sn


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(3, 4), (5, 2, 3)),
        (nn.Conv2d(3, 4, 3), (5, 2, 3, 6, 6)),
        (nn.Conv1d(3, 4, 3), (5, 2, 3, 6)),
        (nn.MaxPool2d(2), (5, 2, 3, 6, 6)),
        (nn.BatchNorm2d(3).eval(), (5, 2, 3, 6, 6)),
        (nn.Flatten(), (5, 2, 3, 6)),
    ],
)
def test_time_runs_the_layer_at_every_step(layer, shape):
    x = torch.rand(shape)
    torch.testing.assert_close(sn.Time(layer)(x), torch.stack([layer(x_t) for x_t in x]))


def test_several_layers_share_one_folding():
    conv, pool = nn.Conv2d(1, 2, 3), nn.AvgPool2d(2)
    x = torch.rand(3, 2, 1, 6, 6)
    torch.testing.assert_close(sn.Time(conv, pool)(x), sn.Time(pool)(sn.Time(conv)(x)), rtol=0, atol=0)


def test_batch_norm_takes_statistics_over_time_and_batch():
    norm = nn.BatchNorm1d(3)
    x = torch.rand(5, 4, 3)
    y = sn.Time(norm)(x)
    torch.testing.assert_close(y.mean((0, 1)), torch.zeros(3), atol=1e-6, rtol=0)
    assert norm.num_batches_tracked == 1


def test_labels_of_any_dtype_pass():
    x = torch.randint(4, (5, 2))
    assert sn.Time(nn.Embedding(4, 3))(x).shape == (5, 2, 3)


@pytest.mark.parametrize("shape", [(0, 2, 3), (5, 0, 3)])
def test_empty_time_or_batch(shape):
    assert sn.Time(nn.Linear(3, 4))(torch.rand(shape)).shape == (*shape[:2], 4)


def test_folding_is_a_view():
    x = torch.rand(5, 2, 3)
    y = sn.Time(nn.Identity())(x)
    assert y.data_ptr() == x.data_ptr()
    assert y.stride() == x.stride()


@pytest.mark.parametrize(
    ("layer", "shown"), [(nn.Linear, "the class Linear"), ([nn.Linear(2, 2)], "list"), (torch.relu, "builtin_")]
)
def test_what_is_no_layer_is_refused(layer, shown):
    with pytest.raises(TypeError, match=f"^Time: layers must be modules, .* got {shown}"):
        sn.Time(nn.Identity(), layer)


def test_wrong_use_of_time_raises():
    with pytest.raises(TypeError, match=r"^Time: the layer must return a tensor, got tuple"):
        sn.Time(nn.GRU(2, 2))(torch.rand(4, 3, 2))
    with pytest.raises(TypeError, match=r"^Time: the layer must return a tensor, got tuple"):
        sn.Time(nn.MaxPool2d(2, return_indices=True))(torch.rand(2, 3, 4, 4).expand(4, 2, 3, 4, 4))
    with pytest.raises(ValueError, match="at least one layer"):
        sn.Time()
    with pytest.raises(ValueError, match="LIF needs"):
        sn.Time(nn.Sequential(nn.Linear(3, 4), sn.LIF()))
    with pytest.raises(ValueError, match=r"x must have shape \[T, B, \.\.\.\], got \[3\]"):
        sn.Time(nn.Identity())(torch.rand(3))
    with pytest.raises(ValueError, match=r"keep the batch of T B = 10, got shape \[30\]"):
        sn.Time(nn.Flatten(0))(torch.rand(5, 2, 3))


def test_permuted_sequences_compile_in_one_graph_for_every_size(fresh_compiler):
    def layer(x):
        return sn.LIF()(x.permute(0, 1, 4, 2, 3))

    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    for width in (3, 5, 6):
        x = 3 * torch.rand(4, 2, 5, width, 8)
        assert_equal(compiled(x), layer(x))


def test_a_layer_that_refuses_the_shape_is_named_with_the_shape_wanted():
    images = torch.rand(4, 1, 8, 8)  # no time
    with pytest.raises(
        RuntimeError,
        match=r"^Time: Conv2d does not take \[4, 8, 8\], all steps of x \[4, 1, 8, 8\]: .*"
        r"x must have shape \[T, B, \.\.\.\], time first: .*x\.expand\(T, \*x\.shape\).*x\.transpose\(0, 1\)$",
    ):
        sn.Time(nn.Conv2d(1, 2, 3))(images)
    with pytest.raises(RuntimeError, match=r"^Time: Linear does not take \[15, 7\], all steps of"):
        sn.Time(nn.Dropout(), nn.Linear(6, 2))(torch.rand(5, 3, 7))
    with pytest.raises(ValueError, match=r"^Time: BatchNorm2d does not take \[15, 7\]"):
        sn.Time(nn.BatchNorm2d(7))(torch.rand(5, 3, 7))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.float16, torch.float64])
def test_a_layer_that_refuses_the_dtype_says_so(dtype):
    with pytest.raises(
        RuntimeError, match=rf"Linear does not .* x is {dtype}, the weights are torch.float32; give x.float\(\)$"
    ):
        sn.Time(nn.Linear(7, 2))(torch.ones(5, 3, 7, dtype=dtype))
    with pytest.raises(TypeError, match=r"^Time: x must be a tensor, got ndarray"):
        sn.Time(nn.Linear(7, 2))(np.ones((5, 3, 7)))


@pytest.mark.parametrize("layers", [1, 2])
def test_keys_are_those_documented_and_files_of_the_other_kind_load(layers):
    single, several = sn.Time(nn.Linear(3, 2)), sn.Time(nn.Linear(3, 2), nn.ReLU())
    assert list(single.state_dict()) == ["layer.weight", "layer.bias"]
    assert list(several.state_dict()) == ["layer.0.weight", "layer.0.bias"]
    source, target = (single, several) if layers == 1 else (several, single)
    nn.Sequential(target).load_state_dict(nn.Sequential(source).state_dict())
    torch.testing.assert_close(list(target.state_dict().values()), list(source.state_dict().values()), rtol=0, atol=0)
    again = sn.Time(nn.Sequential(nn.Linear(3, 2), nn.ReLU()))
    again.load_state_dict(single.state_dict())
    with pytest.raises(RuntimeError, match="Missing key"):
        sn.Time(nn.ReLU(), nn.Linear(3, 2)).load_state_dict(single.state_dict())
    double = sn.Time(nn.Linear(3, 2), nn.Linear(2, 2))
    with pytest.raises(RuntimeError, match="Unexpected key"):
        single.load_state_dict(double.state_dict())


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8])
def test_max_pooling_takes_images_of_more_pixels_than_8_bits_count(dtype):
    x = torch.randint(0, 100, (3, 2, 4, 28, 28), dtype=dtype)
    pooled = sn.Time(nn.MaxPool2d(2))(x.movedim(2, -1).contiguous().movedim(-1, 2))
    assert pooled.dtype == dtype
    assert_equal([pooled], [nn.MaxPool2d(2)(x.flatten(0, 1)).unflatten(0, (3, 2))])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(7, 9), (200, 180)])  # argmax indices of 16 and 32 bits
def test_max_pooling_with_overlap_saves_no_images(dtype, form, size):
    pool = nn.MaxPool2d(3, 2, 1)
    x = torch.randint(3, (2, 4, *size)).to(dtype).contiguous(memory_format=form).requires_grad_()
    y = pool(x)
    grad = torch.randn_like(y)
    want = torch.autograd.grad(y, x, grad)
    images = x * 1
    got = sn.Time(pool)(images[None])
    with torch.no_grad():
        images.zero_()  # after PyTorch's pooling an error
    assert_equal(got[0], y)
    assert_equal(torch.autograd.grad(got, x, grad[None]), want)


def test_max_pooling_with_overlap_has_second_derivatives():
    x = torch.randn(2, 1, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradgradcheck(sn.Time(nn.MaxPool2d(3, 2, 1)), x)
