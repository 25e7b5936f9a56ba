"""The layer ``Delay``: learning, its state between calls, and sequences in parts."""

import copy

import pytest
import torch
from samples import assert_equal
from torch import nn

from snnfast import nn as sn
from snnfast import ops


def sequence(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def layer(channels=5, max_delay=7.0, **options):
    torch.manual_seed(3)
    return sn.Delay(channels, max_delay, **options)


def test_is_the_op_with_a_delay_a_channel(backend):
    x = sequence(12, 2, 5, 3).to(backend.device)
    delay = layer(sigma=0.5).to(backend.device)
    assert delay.d.shape == (5,)
    assert bool(((delay.d >= 0) & (delay.d <= 7)).all())
    assert_equal([delay(x)], [ops.delay(x, delay.d.view(5, 1), sigma=0.5)])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("sigma", [0.0, 1.3])
def test_steps_equal_the_whole_sequence_bit_for_bit(backend, dtype, sigma):
    x = sequence(25, 2, 5, dtype=dtype).to(backend.device)
    delay = layer(sigma=sigma, stateful=True).to(backend.device)
    whole = delay(x)
    delay.reset()
    steps = torch.stack([delay.step(row) for row in x])
    assert_equal([steps], [whole])
    assert len(delay.past) == 8 + (2 if sigma else 0)
    delay.reset()
    parts = torch.cat([delay(part) for part in x.split([3, 1, 11, 10])])
    assert_equal([parts], [whole])


def test_gradients_pass_from_part_to_part(backend):
    x = sequence(20, 2, 5, dtype=torch.float64).to(backend.device)
    whole, parts = layer().double(), layer(stateful=True).double()
    loss = [whole.to(x.device)(x), torch.cat([parts.to(x.device)(p) for p in x.split(6)])]
    for y in loss:
        (y * x.flip(0)).sum().backward()
    torch.testing.assert_close(parts.d.grad, whole.d.grad, rtol=1e-12, atol=1e-12)


def test_learns_a_delay():
    """The gradient looks one step ahead; a wide triangle finds a delay that is many steps away."""
    x = (sequence(60, 16, 1) > 1).float()
    target = ops.delay(x, 9.0)
    delay = sn.Delay(1, 12.0, sigma=8.0)
    nn.init.constant_(delay.d, 2.0)
    optimizer = torch.optim.Adam([delay.d], lr=0.3)
    for _ in range(150):
        optimizer.zero_grad()
        (delay(x) - target).square().sum().backward()
        optimizer.step()
        delay.sigma = delay.sigma * 0.95 if delay.sigma > 0.05 else 0.0
    assert delay.sigma == 0
    assert delay.delays.item() == pytest.approx(9.0, abs=0.05)


def test_a_delay_out_of_range_is_clamped_and_comes_back():
    delay = layer(3, 4.0)
    x = sequence(12, 2, 3)
    with torch.no_grad():
        delay.d.copy_(torch.tensor([-1.0, 2.5, 9.0]))
    assert delay.delays.tolist() == [0, 2.5, 4]
    want = ops.delay(x, torch.tensor([0, 2.5, 4]))
    assert_equal([delay(x)], [want])
    delay(x).square().sum().backward()
    assert delay.d.grad[[0, 2]].abs().min() > 0


def test_state_is_saved_copied_and_detached():
    x = sequence(9, 2, 5)
    delay = layer(stateful=True)
    delay(x)
    again = copy.deepcopy(delay)
    other = layer(stateful=True)
    other.load_state_dict(delay.state_dict())
    want = delay(x)
    assert_equal([again(x), other(x)], [want, want])
    assert want.requires_grad
    learned = x.clone().requires_grad_()
    delay(sn.LIF()(learned)).sum().backward()
    with pytest.raises(RuntimeError, match="Delay: the state past carries the graph"):
        delay(x)
    sn.detach(delay)
    delay(x)
    sn.reset(delay)
    assert delay.past is None


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sn.Delay(0, 3.0), ValueError, "Delay: channels must be at least 1"),
        (lambda: sn.Delay(3, -1.0), ValueError, "Delay: max_delay must be at least 0, got -1"),
        (lambda: sn.Delay(3, "3"), TypeError, "Delay: max_delay must be a number, got str"),
        (lambda: sn.Delay(3, 3.0, sigma=-1), ValueError, "Delay: sigma must be at least 0"),
        (lambda: layer()(torch.zeros(4, 2, 3)), ValueError, r"x must have shape \[T, B, 5, ...\]"),
        (lambda: layer()(torch.zeros(4, 5)), ValueError, r"x must have shape \[T, B, 5, ...\]"),
        (lambda: layer().step(torch.zeros(2, 5)), RuntimeError, "Delay.step: needs stateful=True"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_another_batch_wants_a_reset():
    delay = layer(stateful=True)
    delay(sequence(4, 2, 5))
    with pytest.raises(ValueError, match=r"Delay: the state past has shape \[4, 2, 5\]"):
        delay(sequence(4, 3, 5))


def test_repr_says_what_it_is():
    assert repr(layer()) == "Delay(channels=5, max_delay=7.0)"
    assert repr(layer(sigma=1.0, stateful=True)) == ("Delay(channels=5, max_delay=7.0, sigma=1.0, stateful=True)")
