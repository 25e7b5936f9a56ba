"""Class labels for neurons, and their votes."""

import pytest
import torch

from snnfast.learning import Assignment, assign_labels, predict

# Three neurons, four images of classes 0, 2, 0, 2; class 1 has no image.
COUNTS = torch.tensor([[4, 0, 1], [0, 3, 2], [2, 0, 0], [1, 1, 1]])
LABELS = torch.tensor([0, 2, 0, 2])


def test_labels_and_rates_by_hand():
    assigned = assign_labels(COUNTS, LABELS)
    expected = [[3.0, 0.0, 0.5], [0.0, 0.0, 2.0], [0.5, 0.0, 1.5]]
    assert assigned.rates.tolist() == expected
    assert assigned.labels.tolist() == [0, 2, 2]
    assert assigned.labels.dtype == torch.int64


def test_a_silent_neuron_has_no_label_and_no_vote():
    counts = torch.cat([COUNTS, torch.zeros(4, 1, dtype=torch.int64)], 1)
    assigned = assign_labels(counts, LABELS)
    assert assigned.labels.tolist() == [0, 2, 2, -1]
    shouting = torch.tensor([[1, 0, 0, 100]])
    for vote in ("mean", "proportion"):
        assert predict(shouting, assigned, vote=vote).tolist() == [0]


def test_mean_vote_by_hand():
    assigned = assign_labels(COUNTS, LABELS)
    # Class 0: neuron 0. Class 2: the mean of neurons 1 and 2.
    counts = torch.tensor([[2, 3, 0], [1, 3, 0], [2, 2, 2], [0, 0, 0]])
    assert predict(counts, assigned).tolist() == [0, 2, 0, 0]
    assert predict(counts.float(), assigned, vote="mean").tolist() == [0, 2, 0, 0]


def test_proportion_vote_by_hand():
    assigned = assign_labels(COUNTS, LABELS)
    # Shares of class 0: 6/7, 0, 1/4; of class 2: 1/7, 1, 3/4.
    counts = torch.tensor([[2, 1, 0], [1, 1, 0], [1, 0, 1], [2, 3, 0]])
    scores = torch.tensor([[12 / 7, 9 / 7], [6 / 7, 8 / 7], [31 / 28, 25 / 28], [12 / 7, 23 / 7]])
    expected = (2 * scores.argmax(1)).tolist()
    assert expected == [0, 2, 0, 2]
    assert predict(counts, assigned, vote="proportion").tolist() == expected


@pytest.mark.parametrize("vote", ["mean", "proportion"])
def test_a_class_without_neurons_never_wins(vote):
    # Classes 0, 1, 4 and 5 have no image; class 0 would win a tie of zeros.
    assigned = assign_labels(COUNTS, torch.tensor([2, 3, 2, 3]), num_classes=6)
    silent = torch.zeros(2, 3, dtype=torch.int32)
    assert predict(silent, assigned, vote=vote).tolist() == [2, 2]
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(0, 4, (500, 3), generator=generator)
    assert set(predict(counts, assigned, vote=vote).tolist()) == {2, 3}


def test_a_class_that_no_neuron_prefers_may_win_by_proportion_only():
    rates = torch.tensor([[5.0, 4.0, 0.0], [0.0, 4.0, 5.0]], dtype=torch.float64)
    assigned = Assignment(torch.tensor([0, 2]), rates)
    counts = torch.tensor([[3, 3]])
    assert predict(counts, assigned, vote="proportion").tolist() == [1]
    assert predict(counts, assigned, vote="mean").tolist() == [0]


def test_many_images_are_counted_exactly():
    generator = torch.Generator().manual_seed(1)
    counts = torch.randint(0, 20, (2500, 30), generator=generator)
    labels = torch.randint(0, 7, (2500,), generator=generator)
    assigned = assign_labels(counts, labels, 9)
    rates = [[counts[labels == c, n].double().mean().nan_to_num(0).item() for c in range(9)] for n in range(30)]
    assert assigned.rates.tolist() == rates
    whole = predict(counts, assigned)
    torch.testing.assert_close(
        whole, torch.cat([predict(c[None], assigned) for c in counts[:50]] + [whole[50:]]), rtol=0, atol=0
    )
    assert predict(counts[:0], assigned).shape == (0,)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: assign_labels([1], LABELS), TypeError, "counts must be a tensor, got list"),
        (lambda: assign_labels(COUNTS[0], LABELS), ValueError, r"shape \[P, N\], got \[3\]"),
        (lambda: assign_labels(-COUNTS, LABELS), ValueError, "counts must be at least 0, got -4"),
        (lambda: assign_labels(COUNTS / 0, LABELS), ValueError, "counts must be at least 0, got nan"),
        (lambda: assign_labels(COUNTS > 0, LABELS), TypeError, "numbers of spikes, got torch.bool"),
        (lambda: assign_labels(COUNTS, LABELS[:3]), ValueError, r"shape \[4\], got \[3\]"),
        (lambda: assign_labels(COUNTS, LABELS / 1), TypeError, "integers, got torch.float32"),
        (lambda: assign_labels(COUNTS, [0] * 4), TypeError, "labels must be a tensor, got list"),
        (lambda: assign_labels(COUNTS, LABELS, 2), ValueError, r"lie in \[0, 1\], got .* 0 to 2"),
        (lambda: assign_labels(COUNTS, -LABELS, 3), ValueError, r"got values from -2 to 0"),
        (lambda: assign_labels(COUNTS, LABELS, 0), ValueError, "num_classes must be at least 1"),
        (lambda: assign_labels(COUNTS, LABELS, 3.0), TypeError, "num_classes must be an integer"),
        (lambda: assign_labels(COUNTS[:0], LABELS[:0]), ValueError, "num_classes must be given"),
    ],
)
def test_wrong_arguments_of_assign_labels_are_named(call, error, message):
    with pytest.raises(error, match=f"^assign_labels: .*{message}"):
        call()


@pytest.mark.parametrize(
    ("counts", "options", "error", "message"),
    [
        (COUNTS[:, :2], {}, ValueError, r"counts must have shape \[P, 3\], got \[4, 2\]"),
        (COUNTS, {"vote": "loud"}, ValueError, "vote must be one of mean, proportion, got 'loud'"),
        (-COUNTS, {}, ValueError, "counts must be at least 0"),
    ],
)
def test_wrong_arguments_of_predict_are_named(counts, options, error, message):
    with pytest.raises(error, match=f"^predict: {message}"):
        predict(counts, assign_labels(COUNTS, LABELS), **options)
    with pytest.raises(TypeError, match="assigned must be an Assignment, got Tensor"):
        predict(COUNTS, LABELS)


@pytest.mark.parametrize("vote", ["mean", "proportion"])
def test_neurons_that_all_stayed_silent_cannot_vote(vote):
    assigned = assign_labels(COUNTS * 0, LABELS)
    with pytest.raises(ValueError, match="no neuron has a class; none spiked"):
        predict(COUNTS, assigned, vote=vote)
