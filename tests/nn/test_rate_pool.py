"""``RatePool``: by hand, in parts, and in int8."""

import pytest
import torch
from torch import nn

from snnfast.nn import RatePool


def test_a_window_spikes_when_its_largest_count_grows():
    left = torch.tensor([1.0, 0, 1, 0, 0, 1])
    right = torch.tensor([0.0, 1, 1, 1, 0, 1])
    # counts 1 1 2 2 2 3 and 0 1 2 3 3 4: the largest is 1 1 2 3 3 4
    want = torch.tensor([1.0, 0, 1, 1, 0, 1])
    x = torch.stack([left, right], 1).view(6, 1, 1, 1, 2)
    pool = RatePool(nn.MaxPool2d((1, 2)))
    torch.testing.assert_close(pool(x).flatten(), want, rtol=0, atol=0)
    whole = pool(x.to(torch.int8))
    assert whole.dtype == torch.int8
    torch.testing.assert_close(whole.flatten().float(), want, rtol=0, atol=0)
    assert pool(x[:0]).shape == (0, 1, 1, 1, 1)


def test_a_sequence_in_parts_is_the_sequence():
    x = (torch.rand(12, 3, 2, 6, 6, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    want = RatePool(nn.MaxPool2d(3, 1))(x)
    pool = RatePool(nn.MaxPool2d(3, 1), stateful=True)
    parts = torch.cat([pool(x[:5]), pool.step(x[5]).unsqueeze(0), pool(x[6:])])
    torch.testing.assert_close(parts, want, rtol=0, atol=0)
    assert set(want.unique().tolist()) == {0.0, 1.0}
    counts = nn.functional.max_pool2d(x.sum(0), 3, 1)
    torch.testing.assert_close(want.sum(0), counts, rtol=0, atol=0)


def test_a_pool_must_be_a_module():
    with pytest.raises(TypeError, match=r"^RatePool: pool must be a module, got int"):
        RatePool(2)
