"""Losses on spike times."""

import math

import pytest
import torch

from snnfast.nn import loss

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
    assert loss.first_spike(torch.tensor([[5.0, math.nan, INF]])).tolist() == [-1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: loss.first_spike(torch.rand(3)), r"first_spike: t must have shape \[B, O\], got \[3\]"),
        (lambda: loss.spike_time_squared_error(torch.rand(3), torch.rand(3)), r"t must have shape \[B, O\]"),
        (lambda: loss.first_spike_cross_entropy(torch.rand(3), LABELS), r"t must have shape \[B, O\]"),
        (lambda: loss.virtual_times(torch.rand(4, 3), torch.rand(1, 3), t_max=9.0),
         r"virtual_times: u_max must have shape \[4, 3\], got \[1, 3\]"),
        (lambda: loss.revival(torch.rand(4, 3), torch.rand(1, 3)), r"revival: u_max must have shape \[4, 3\]"),
        (lambda: loss.mse_count(SPIKES, torch.tensor([3])), r"mse_count: labels must lie in \[0, 2\], got"),
    ],
)  # fmt: skip
def test_shapes_of_spike_times(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_targets_have_to_broadcast():
    with pytest.raises(ValueError, match=r"target must broadcast to t's \[2, 3\], got \[2, 2\]"):
        loss.spike_time_squared_error(torch.zeros(2, 3), torch.zeros(2, 2))


def test_revival_pushes_only_neurons_that_are_silent_nearly_always():
    t = torch.tensor([[INF, INF, 1.0], [INF, 2.0, 1.0]])
    u = leaf([[0.5, 0.5, 2.0], [1.0, 2.0, 2.0]])
    value = loss.revival(t, u, v_threshold=2.0)
    assert value.item() == (0.75 + 0.5) / 2
    value.backward()
    assert u.grad.tolist() == [[-0.25, 0, 0], [-0.25, 0, 0]]
    assert loss.revival(t, u, share=0.4).item() == (0.5 + 0 + 0.5) / 2
    with pytest.raises(ValueError, match=r"revival: share must lie in \[0, 1\), got 2"):
        loss.revival(t, u, share=2.0)


@pytest.mark.parametrize("label", [torch.tensor([0.5]), torch.tensor([True]), torch.zeros(1, 1).long()])
def test_labels_of_bp_stdp_are_classes(label):
    r = torch.zeros(3, 1, 2)
    with pytest.raises(TypeError, match=r"label must be a class or a tensor \[B\] of integers, got"):
        loss.bp_stdp_error(r, torch.zeros(3, 1, 2), label)


SPIKES = torch.tensor([[1.0, 0, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.float64)[:, None]
LABELS = torch.tensor([1])


def cross_entropy(logits, label=1):
    return math.log(sum(math.exp(x - logits[label]) for x in logits))


def test_a_batch_first_sequence_is_told():
    labels = torch.tensor([0, 1, 2])
    message = r"got \[3, 8, 5\] and \[3\]; of a batch-first sequence give spikes.transpose\(0, 1\)$"
    with pytest.raises(ValueError, match=message):
        loss.ce_rate(torch.rand(3, 8, 5), labels)
    with pytest.raises(ValueError, match=r"got \[4, 8, 5\] and \[3\]$"):
        loss.ce_rate(torch.rand(4, 8, 5), labels)


def test_cross_entropies_of_sequences_worked_by_hand():
    assert loss.ce_rate(SPIKES, LABELS).item() == pytest.approx(cross_entropy([3 / 4, 1 / 4, 0]))
    assert loss.ce_count(SPIKES, LABELS).item() == pytest.approx(cross_entropy([3, 1, 0]))
    assert loss.ce_time(SPIKES, LABELS).item() == pytest.approx(cross_entropy([0, -1, -4]))
    v = SPIKES * torch.tensor([1.0, -2.0, 3.0]) + 0.5
    assert loss.ce_membrane(v, LABELS).item() == pytest.approx(cross_entropy([1.5, 0.5, 0.5]))
    last = loss.ce_membrane(v[:2], LABELS, readout="last").item()
    assert last == pytest.approx(cross_entropy([1.5, -1.5, 0.5]))
    mean = loss.ce_membrane(v, LABELS, readout="mean").item()
    assert mean == pytest.approx(cross_entropy([1.25, 0, 0.5]))


def test_squared_error_of_counts_worked_by_hand():
    value = loss.mse_count(SPIKES, LABELS, correct=0.75, incorrect=0.25)
    assert value.item() == pytest.approx((0.5**2 + 0.5**2 + 0.25**2) / 3)
    two = loss.mse_count(SPIKES, LABELS, torch.tensor([2]))
    assert two.item() == pytest.approx((1 + 0.5**2) / 3)


def test_rate_penalties_worked_by_hand():
    assert loss.rate_l1(SPIKES).item() == pytest.approx(4 / 12)
    assert loss.rate_l1(SPIKES, torch.tensor([1])).item() == pytest.approx(1 / 3)
    value = loss.rate_bounds(SPIKES, low=0.1, high=0.5)
    assert value.item() == pytest.approx((0.25**2 + 0 + 0.1**2) / 3)
    # of the mean over the batch
    batch = torch.cat([SPIKES, torch.zeros_like(SPIKES)], 1)
    value = loss.rate_bounds(batch, low=0.125, high=0.3)
    assert value.item() == pytest.approx((0.075**2 + 0 + 0.125**2) / 3)


@pytest.mark.parametrize("function", [loss.ce_rate, loss.ce_count, loss.ce_time, loss.ce_membrane, loss.mse_count])
def test_losses_of_sequences_leave_out_what_is_beyond_the_end(function):
    torch.manual_seed(0)
    x = (torch.rand(6, 2, 3, dtype=torch.float64) < 0.4).double()
    labels, lengths = torch.tensor([2, 0]), torch.tensor([6, 3])
    x[3:, 1] = 1
    x.requires_grad_()
    value = function(x, labels, lengths)
    value.backward()
    alone = function(x[:, :1], labels[:1]) + function(x[:3, 1:], labels[1:])
    assert value.item() == pytest.approx(alone.item() / 2)
    assert not x.grad[3:, 1].any()
    assert x.grad[:3, 1].any()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: loss.ce_rate(SPIKES[:, 0], LABELS), ValueError, r"ce_rate: spikes must have shape \[T, B, cl"),
        (lambda: loss.ce_count(SPIKES, torch.tensor([1, 2])), ValueError, r"labels \[B\], got \[4, 1, 3\] and \[2\]"),
        (lambda: loss.ce_time(SPIKES, LABELS.int()), TypeError, "ce_time: labels must be int64"),
        (lambda: loss.ce_membrane(SPIKES, LABELS, readout="sum"), ValueError, "readout must be max or mean or last"),
        (lambda: loss.mse_count(SPIKES, LABELS, correct="1"), TypeError, "mse_count: correct must be a number"),
        (lambda: loss.rate_bounds(SPIKES, low=0.6), ValueError, "low must be at most high = 0.5, got 0.6"),
        (lambda: loss.rate_bounds(SPIKES[:, 0, 0]), ValueError, r"spikes must have shape \[T, B, ...\]"),
        (lambda: loss.rate_l1(SPIKES.bool()), TypeError, "rate_l1: spikes must have one of the dtypes"),
        (lambda: loss.ce_count(SPIKES.bool(), LABELS), TypeError, "ce_count: spikes must have one of the dtypes"),
        (lambda: loss.ce_membrane(SPIKES[:0], LABELS), ValueError, "ce_membrane: v_seq must have at least one step"),
    ],
)  # fmt: skip
def test_errors_of_losses_of_sequences(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    "function",
    [loss.ce_rate, loss.ce_count, loss.ce_time, loss.ce_membrane, loss.mse_count, loss.rate_l1, loss.rate_bounds],
)  # fmt: skip
def test_errors_of_lengths_name_the_loss(function):
    labels = () if function in (loss.rate_l1, loss.rate_bounds) else (LABELS,)
    with pytest.raises(TypeError, match=f"^{function.__name__}: lengths must be a tensor, got list"):
        function(SPIKES, *labels, [4])
    with pytest.raises(ValueError, match=rf"^{function.__name__}: lengths must lie in \[1, 4\]"):
        function(SPIKES, *labels, torch.tensor([5]))


def test_steps_without_a_label_do_not_count():
    torch.manual_seed(0)
    x = torch.randn(5, 3, 4, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(4, (5, 3))
    labels[1, 2], lengths = -100, torch.tensor([5, 2, 4])
    counted = (torch.arange(5)[:, None] < lengths) & (labels >= 0)
    weight = torch.rand(4, dtype=torch.float64)
    shares = x.log_softmax(-1).gather(2, labels.clamp(min=0)[..., None])[..., 0]
    got = loss.ce_steps(x, labels, lengths, weight=weight)
    weights = weight[labels.clamp(min=0)] * counted
    torch.testing.assert_close(got, -(weights * shares).sum() / weights.sum())
    got.backward()
    assert not x.grad[~counted].any()


def test_tet_worked_by_hand():
    x = torch.zeros(2, 1, 2, dtype=torch.float64)
    x[1, 0, 0] = math.log(3)  # shares 3/4 and 1/4
    x.requires_grad_()
    got = loss.tet(x, torch.tensor([0]), share=0.25, target=1.0)
    apart = (3 + (math.log(3) - 1) ** 2) / 4
    assert got.item() == pytest.approx(0.75 * (math.log(2) - math.log(0.75)) / 2 + 0.25 * apart)
    got.backward()  # of the first step -1/2 and +1/2, of the second -1/4 and 1/4
    assert x.grad[0, 0].tolist() == pytest.approx([-0.1875 - 0.125, 0.1875 - 0.125])
    alone = loss.tet(x, torch.tensor([0]), torch.tensor([1]), share=0.0)
    assert alone.item() == pytest.approx(math.log(2))
    with pytest.raises(ValueError, match=r"tet: share must lie in \[0, 1\], got 2"):
        loss.tet(x, torch.tensor([0]), share=2.0)
    with pytest.raises(ValueError, match=r"ce_steps: x must have shape \[T, B, classes\] and labels"):
        loss.ce_steps(x, torch.zeros(3, 2, dtype=torch.int64))
