import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from snnfast import nn as sn


class Log(TorchDispatchMode):
    """Names of the operators that run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))

    @property
    def copies(self):
        return [n for n in self.names if any(w in n for w in ("clone", "copy", "contiguous"))]


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
    assert torch.equal(sn.Time(conv, pool)(x), sn.Time(pool)(sn.Time(conv)(x)))


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


def test_channels_last_passes_without_copies():
    net = nn.Sequential(sn.Time(nn.Conv2d(3, 4, 3)), sn.LIF(), sn.Time(nn.Conv2d(4, 2, 3)))
    net.to(memory_format=torch.channels_last)
    x = torch.rand(10, 3, 8, 8).to(memory_format=torch.channels_last).unflatten(0, (5, 2))
    with torch.no_grad(), Log() as log:
        y = net(x)
    assert not log.copies
    assert y.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_gradient_of_a_rate_reaches_the_kernel_without_copies():
    x = torch.rand(5, 2, 3, requires_grad=True)
    for readout in (sn.Rate(), sn.Count()):
        spikes = sn.LIF()(x)
        strides = []
        spikes.register_hook(lambda grad, seen=strides: seen.append(grad.stride(0)))
        loss = readout(spikes).square().sum()
        with Log() as log:
            loss.backward()
        assert strides == [0]
        assert not log.copies


def test_rate_and_count():
    spikes = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert sn.Rate()(spikes).tolist() == [1.0, 0.5]
    assert sn.Count()(spikes).tolist() == [2.0, 1.0]
    assert sn.Count()(torch.empty(0, 3)).tolist() == [0.0] * 3
    with pytest.raises(ValueError, match="Rate: x must have shape"):
        sn.Rate()(torch.tensor(1.0))
    with pytest.raises(TypeError, match="Count: x must have one of the dtypes"):
        sn.Count()(torch.ones(2, 2, dtype=torch.bool))


def test_wrong_use_of_time_raises():
    with pytest.raises(ValueError, match="at least one layer"):
        sn.Time()
    with pytest.raises(ValueError, match="LIF needs"):
        sn.Time(nn.Sequential(nn.Linear(3, 4), sn.LIF()))
    with pytest.raises(ValueError, match=r"x must have shape \[T, B, \.\.\.\], got \[3\]"):
        sn.Time(nn.Identity())(torch.rand(3))
    with pytest.raises(ValueError, match=r"keep the batch of T B = 10, got shape \[30\]"):
        sn.Time(nn.Flatten(0))(torch.rand(5, 2, 3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_readouts_of_16_bits_sum_in_float32(dtype):
    """float16 ends at 65504, and bfloat16 has 8 bits."""
    x = torch.ones(70_001, 2, dtype=dtype, requires_grad=True)
    count, rate = sn.Count()(x), sn.Rate()(x)
    assert count.dtype == torch.float32
    assert count.tolist() == [70_001, 70_001]
    assert rate.dtype == dtype
    assert rate.tolist() == [1, 1]
    strides = []
    y = x[:5] * 1
    y.register_hook(lambda grad: strides.append(grad.stride()))
    sn.Rate()(y).sum().backward()
    assert strides[0][0] == 0
    torch.testing.assert_close(x.grad[0], torch.full((2,), 0.2, dtype=dtype))


def test_readouts_of_16_bits_under_vmap():
    x = (torch.rand(3, 7, 5) < 0.5).bfloat16()
    for readout in (sn.Count(), sn.Rate()):
        want = torch.stack([readout(one) for one in x])
        torch.testing.assert_close(torch.vmap(readout)(x), want, rtol=0, atol=0)
