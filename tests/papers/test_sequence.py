"""The network for sequences, and its synthetic memory tasks."""

import pytest
import torch
from samples import assert_all

from snnfast.nn import LIF, AdLIF, Recurrent
from snnfast.papers import SequenceNetwork
from snnfast_zoo.data.sequences import binary_adding, copy_memory, delayed_xor


@pytest.mark.parametrize("num_steps", [2, 3, 100])
def test_binary_adding_adds_the_marked_bits(num_steps):
    x, labels = binary_adding(400, num_steps, seed=4)
    assert x.dtype == torch.uint8
    assert x.shape == (400, num_steps, 2)
    markers, half = x[..., 1], num_steps // 2
    assert_all(markers[:, :half].sum(1), 1)
    assert_all(markers[:, half:].sum(1), 1)
    torch.testing.assert_close((x[..., 0] & markers).sum(1), labels, rtol=0, atol=0)
    assert (labels.bincount() / 400).tolist() == pytest.approx([0.25, 0.5, 0.25], abs=0.07)
    assert x[..., 0].float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_delayed_xor_compares_two_spikes_far_apart():
    x, labels = delayed_xor(400, 40, seed=4)
    assert_all(x.sum((1, 2)), 2)
    first, last = x[:, :10], x[:, 30:]
    assert_all(first.sum((1, 2)), 1)
    assert_all(last.sum((1, 2)), 1)
    want = (first.sum(1).argmax(1) != last.sum(1).argmax(1)).long()
    torch.testing.assert_close(labels, want, rtol=0, atol=0)
    assert labels.float().mean().item() == pytest.approx(0.5, abs=0.07)


def test_copy_memory_asks_for_the_symbols_at_the_end():
    x, labels = copy_memory(50, 12, seed=4)
    assert x.shape == (50, 12, 9)
    assert_all(x[:, :5, :8].sum(2), 1)
    assert not x[:, 5:, :8].any()
    assert x[..., 8].sum(0).tolist() == [0] * 7 + [50] * 5
    digits = x[:, :5, :8].argmax(2)
    torch.testing.assert_close((digits * 8 ** torch.arange(5)).sum(1), labels, rtol=0, atol=0)


@pytest.mark.parametrize("make", [binary_adding, delayed_xor, copy_memory])
def test_made_samples_are_those_of_their_seed(make):
    samples, again, other = make(9, 20, seed=1), make(9, 20, seed=1), make(9, 20, seed=2)
    torch.testing.assert_close(samples, again, rtol=0, atol=0)
    assert not torch.equal(samples[0], other[0])
    with pytest.raises(ValueError, match=f"{make.__name__}: num_steps must be at least"):
        make(9, 1)
    with pytest.raises(TypeError, match=f"{make.__name__}: samples must be an integer"):
        make(9.0)


@pytest.mark.parametrize("recurrent", [True, False])
@pytest.mark.parametrize("neuron", ["lif", "alif", "adlif"])
def test_network_answers_and_learns(neuron, recurrent):
    torch.manual_seed(0)
    net = SequenceNetwork(2, (8, 6), 3, neuron=neuron, recurrent=recurrent, gain=60.0, max_delay=3.0)
    x = binary_adding(5, 24)[0]
    logits = net(x)
    assert logits.shape == (5, 3)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert [s.shape for s in net.spikes(x)] == [(24, 5, 8), (24, 5, 6)]
    assert net.spikes(x)[0].any()


def test_network_is_made_of_what_was_asked_for():
    net = SequenceNetwork(2, (8,), 3, neuron="adlif", max_delay=4.0)
    layer = net.layers[1]
    assert isinstance(layer, Recurrent)
    assert isinstance(layer.neuron, AdLIF)
    assert 0 <= layer.delays.min() < layer.delays.max() <= 4
    assert layer.delays.requires_grad
    assert SequenceNetwork(2, (8,), 3).layers[1].delays is None
    assert isinstance(SequenceNetwork(2, (8,), 3, neuron="lif", recurrent=False).layers[1], LIF)
    assert layer.neuron.ranges["a"] == (0, 1)
    only = SequenceNetwork(2, (8,), 3, spikes_adapt=True).layers[1].neuron
    assert_all(only.value("a"), 0)
    assert only.value("b").min() > 0


def test_several_answers_are_the_last_membranes():
    torch.manual_seed(0)
    net = SequenceNetwork(9, (8,), 4, outputs=5, gain=20.0)
    x = copy_memory(3, 12)[0]
    logits = net(x)
    assert logits.shape == (3, 5, 4)
    whole = net.layers(x.float().transpose(0, 1))
    torch.testing.assert_close(logits, whole[-5:].transpose(0, 1), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: SequenceNetwork(2, (8,), 3, neuron="izh"), ValueError, "neuron must be lif or alif or adlif"),
        (lambda: SequenceNetwork(2, (), 3), ValueError, "hidden must have at least one layer"),
        (lambda: SequenceNetwork(2, (0,), 3), ValueError, "hidden must be at least 1, got 0"),
        (lambda: SequenceNetwork(2, (8,), 3, readout="sum"), ValueError, "readout must be last or max or mean"),
        (lambda: SequenceNetwork(2, (8,), 3, omega=(9.0, 3.0)), ValueError, "omega must be two numbers in order"),
        (lambda: SequenceNetwork(2, (8,), 3, gain=0), ValueError, "gain must be positive, got 0"),
        (lambda: SequenceNetwork(2, (8,), 3, recurrent=1), TypeError, "recurrent must be True or False, got 1"),
        (lambda: SequenceNetwork(2, (8,), 3, spikes_adapt=0.0), TypeError, "spikes_adapt must be True or False, got 0"),
        (lambda: SequenceNetwork(2, (8,), 3, tau=0.5), ValueError, "tau must be at least 1 step, got 0.5"),
        (lambda: SequenceNetwork(2, (8,), 3, tau_out="5"), TypeError, "tau_out must be a number, got str"),
        (lambda: SequenceNetwork(2, (8,), 3).spikes(torch.zeros(4, 5)), ValueError, r"x must have shape \[B, T, 2\]"),
        (lambda: SequenceNetwork(2, (8,), 3)(torch.zeros(4, 5)), ValueError, r"x must have shape \[B, T, 2\]"),
        (lambda: SequenceNetwork(2, (8,), 3)(torch.zeros(4, 5, 3)), ValueError, r"x must have shape \[B, T, 2\]"),
    ],
)  # fmt: skip
def test_errors(call, error, message):
    with pytest.raises(error, match=f"SequenceNetwork: {message}"):
        call()
