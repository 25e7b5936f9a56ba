"""``nn.Rate`` and ``nn.Count`` over time: values, 16 bits, ``vmap``, gradients."""

import pytest
import torch
from operators import Log

from snnfast import nn as sn


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
