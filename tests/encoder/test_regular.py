"""The encoder RegularEncoder: evenly spaced spikes with a random lag."""

import math

import pytest
import torch
from samples import assert_all

from snnfast.encoder import RegularEncoder


def test_counts_are_the_rate_rounded_up_or_down():
    x = torch.linspace(0, 1.2, 25).repeat(200, 1)
    counts = RegularEncoder(50, scale=1.0)(x).sum(0)
    expected = 50 * x.clamp(max=1)
    assert ((counts - expected).abs() < 1 + 1e-4).all()
    torch.testing.assert_close(counts.mean(0), expected[0], rtol=0, atol=0.2)


def test_spikes_are_evenly_spaced_and_lag_is_random():
    torch.manual_seed(0)
    spikes = RegularEncoder(60, scale=2.0)(torch.full((300,), 0.4))  # one spike in five steps
    first = spikes.argmax(0)
    assert set(first.tolist()) == {0, 1, 2, 3, 4}
    for t in range(0, 60, 5):
        torch.testing.assert_close(spikes[t : t + 5].argmax(0), first, rtol=0, atol=0)
        assert_all(spikes[t : t + 5].sum(0), 1)


def test_highest_rate_fires_in_every_step():
    x = torch.tensor([5.0, 7.0, math.inf]).repeat(500, 1)
    assert RegularEncoder(200)(x).all()
    assert not RegularEncoder(200)(torch.zeros(100)).any()
    assert not RegularEncoder(200, validate=False)(torch.tensor([-1.0, math.nan])).any()


def test_a_batch_gives_what_its_samples_give_alone():
    encoder, x = RegularEncoder(9, scale=1.0, dtype=torch.bool), torch.rand(4, 20)
    torch.manual_seed(3)
    together = encoder(x)
    torch.manual_seed(3)
    torch.testing.assert_close(together, torch.stack([encoder(row) for row in x], 1), rtol=0, atol=0)
    assert together.dtype == torch.bool
    assert not torch.equal(encoder(x), encoder(x))


def test_generator_dtype_and_shape():
    one, two = (RegularEncoder(6, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    x = torch.rand(2, 3, 4, dtype=torch.float64, requires_grad=True)
    spikes = one(x)
    torch.testing.assert_close(spikes, two(x), rtol=0, atol=0)
    assert spikes.shape == (6, 2, 3, 4)
    assert spikes.dtype == torch.float32
    assert not spikes.requires_grad
    assert RegularEncoder(0)(x).shape == (0, 2, 3, 4)
    assert repr(RegularEncoder()) == "RegularEncoder(num_steps=100, scale=5, dtype=torch.float32)"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((-1,), ValueError, "num_steps must be a number of steps, got -1"),
        ((2.5,), ValueError, "num_steps must be a number of steps, got 2.5"),
        ((10, 0.0), ValueError, "scale must be positive, got 0"),
        ((10, math.nan), ValueError, "scale must be finite, got nan"),
    ],
)
def test_errors_of_the_encoder(arguments, error, message):
    with pytest.raises(error) as caught:
        RegularEncoder(*arguments)
    assert str(caught.value) == f"RegularEncoder: {message}"


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.tensor([-1.0, 5.0]), ValueError, "be at least 0 and not NaN, got values from -1"),
        (torch.tensor([math.nan]), ValueError, "be at least 0 and not NaN, got values from nan"),
        ([1.0], TypeError, "be a tensor, got list"),
        (torch.ones(1, dtype=torch.complex64), TypeError, "be real numbers, got torch.complex64"),
    ],
)
def test_errors_of_the_data(x, error, message):
    with pytest.raises(error, match=f"^RegularEncoder: x must {message}"):
        RegularEncoder(10)(x)
