"""Losses on spike times."""

import math

import pytest
import torch

from snnfast import loss

INF = math.inf


def leaf(values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def test_virtual_times_come_after_the_end_and_have_a_gradient():
    t, u = leaf([[3.0, INF, INF]]), leaf([[1.0, 0.5, 0.0]])
    times = loss.virtual_times(t, u, t_max=20.0, v_threshold=2.0, scale=4.0)
    assert times.tolist() == [[3.0, 20 + 4 * 0.75, 24.0]]
    times.sum().backward()
    assert t.grad.tolist() == [[1, 0, 0]]
    assert u.grad.tolist() == [[0, -2, -2]]


def test_squared_error_worked_by_hand():
    t = leaf([[8.0, 13.0], [9.0, INF]])
    target = torch.tensor([[10.0, 13.0], [INF, 12.0]])
    value = loss.spike_time_squared_error(t, target)
    assert value.item() == 0.5 * 2**2 / 2  # a silent neuron and an absent target do not count
    value.backward()
    assert t.grad.tolist() == [[-1, 0], [0, 0]]


def test_squared_error_broadcasts_targets():
    t = torch.tensor([[8.0, 13.0], [9.0, 13.0]])
    assert loss.spike_time_squared_error(t, torch.tensor([8.0, 12.0])).item() == (1 + 1 + 1) / 4


def test_cross_entropy_worked_by_hand():
    t, labels = leaf([[10.0, 12.0]]), torch.tensor([0])
    value = loss.first_spike_cross_entropy(t, labels)
    assert value.item() == pytest.approx(math.log(1 + math.exp(-2)))
    value.backward()
    later = 1 / (1 + math.exp(2))
    torch.testing.assert_close(t.grad, torch.tensor([[later, -later]], dtype=torch.float64))
    half = loss.first_spike_cross_entropy(t, labels, temperature=2.0)
    assert half.item() == pytest.approx(math.log(1 + math.exp(-1)))


def test_cross_entropy_ignores_silent_neurons_of_other_classes():
    t = leaf([[10.0, 12.0, INF]])
    value = loss.first_spike_cross_entropy(t, torch.tensor([0]))
    assert value.item() == pytest.approx(math.log(1 + math.exp(-2)))
    value.backward()
    assert t.grad.isfinite().all()
    assert t.grad[0, 2] == 0


def test_cross_entropy_wants_a_spike_before_the_end():
    virtual, labels = leaf([[21.0, 24.0]]), torch.tensor([0])
    ranked = loss.first_spike_cross_entropy(virtual, labels)
    assert ranked.item() == pytest.approx(math.log(1 + math.exp(-3)))
    value = loss.first_spike_cross_entropy(virtual, labels, t_max=20.0)
    assert value.item() == pytest.approx(math.log(1 + math.exp(-3) + math.exp(1)))
    value.backward()
    assert virtual.grad[0, 0] > 0.5
    assert virtual.shape == (1, 2)


def test_a_silent_neuron_never_wins():
    t = torch.tensor([[INF, 5.0, 4.0], [INF, INF, INF], [3.0, 3.0, INF]])
    assert loss.first_spike(t).tolist() == [2, -1, 0]
    virtual = torch.tensor([[21.0, 5.0], [20.5, 23.0], [20.0, 23.0]])
    assert loss.first_spike(virtual, t_max=20.0).tolist() == [1, -1, 0]


def test_revival_pushes_only_neurons_that_are_silent_nearly_always():
    t = torch.tensor([[INF, INF, 1.0], [INF, 2.0, 1.0]])
    u = leaf([[0.5, 0.5, 2.0], [1.0, 2.0, 2.0]])
    value = loss.revival(t, u, v_threshold=2.0)
    assert value.item() == (0.75 + 0.5) / 2
    value.backward()
    assert u.grad.tolist() == [[-0.25, 0, 0], [-0.25, 0, 0]]
    assert loss.revival(t, u, share=0.4).item() == (0.5 + 0 + 0.5) / 2


@pytest.mark.parametrize(
    "label", [torch.tensor([0.5]), torch.tensor([True]), torch.zeros(1, 1).long()]
)
def test_labels_of_bp_stdp_are_classes(label):
    r = torch.zeros(3, 1, 2)
    with pytest.raises(
        TypeError, match=r"label must be a class or a tensor \[B\] of integers, got"
    ):
        loss.bp_stdp_error(r, torch.zeros(3, 1, 2), label)
