"""Class labels for neurons trained without supervision, and classification by their votes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from snnfast import check

VOTES = ("mean", "proportion")
UNASSIGNED = -1


class Assignment(NamedTuple):
    """Classes assigned to N neurons.

    Attributes:
        labels: the class to whose images a neuron responded most, int64 ``[N]``; -1 for a neuron that never spiked.
        rates: mean number of spikes of every neuron for an image of every class, float64 ``[N, C]``; 0 for a class of
            which there was no image.
    """

    labels: Tensor
    rates: Tensor


def assign_labels(counts: Tensor, labels: Tensor, num_classes: int | None = None) -> Assignment:
    """Assign every neuron the class for which it spikes most, as in Diehl and Cook (2015), section 2.5.

    With ``r[p, n]`` the spikes of neuron n for image p, and ``P_c`` the images of class c::

        rate[n, c] = mean of r[p, n] over p in P_c        label[n] = argmax_c rate[n, c]    (the first of equals)

    Use images of the training set, and a network that is not learning meanwhile.

    Args:
        counts: spikes ``[P, N]``, integers or floating point, at least 0.
        labels: classes of the images, integers ``[P]`` in [0, num_classes).
        num_classes: number of classes C; by default the largest label plus 1.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, device or range.
    """
    op = "assign_labels"
    _check_counts(op, counts)
    check.shape(op, "labels", labels, (len(counts),))
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"{op}: labels must be integers, got {labels.dtype}")
    check.on_device(op, "labels", labels, "counts", counts.device)
    if num_classes is None:
        if len(labels) == 0:
            raise ValueError(f"{op}: without images num_classes must be given")
        num_classes = int(labels.max()) + 1
    num_classes = check.integer(op, "num_classes", num_classes)
    check.in_range(op, "labels", labels, 0, num_classes - 1)
    return assignment(*class_sums(counts, labels, num_classes))


def class_sums(counts: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Return the spikes of every neuron for all images of a class, float64 ``[N, C]``, and the images ``[C]``."""
    of_class = [counts[labels == c].sum(0, dtype=torch.float64) for c in range(num_classes)]
    return torch.stack(of_class, 1), torch.bincount(labels.long(), minlength=num_classes).double()


def assignment(sums: Tensor, images: Tensor) -> Assignment:
    """Return the assignment that follows from :func:`class_sums`."""
    rates = sums / images.clamp(min=1)
    labels = torch.where((rates > 0).any(1), rates.argmax(1), UNASSIGNED)
    return Assignment(labels, rates)


def predict(counts: Tensor, assigned: Assignment, *, vote: str = "mean") -> Tensor:
    """Return the class of every image, by a vote of the neurons.

    ``"mean"``, the vote of Diehl and Cook (2015), section 2.5, and of n3ml: the class whose neurons spike most on
    average. ``"proportion"``: every spike counts for all classes, in the proportions in which its neuron responded to
    them when labels were assigned::

        score[p, c] = mean of r[p, n] over the neurons n with label c                       (mean)
        score[p, c] = sum_n r[p, n] rate[n, c] / sum_c rate[n, c]                           (proportion)

    Of equal scores the first wins, also for an image without a spike. A class without neurons never wins: with
    ``"mean"`` one that no neuron has as label, with ``"proportion"`` one to which no neuron ever responded.

    Args:
        counts: spikes ``[P, N]``, integers or floating point, at least 0.
        assigned: the result of :func:`assign_labels`.
        vote: "mean" or "proportion".

    Returns:
        Classes, int64 ``[P]``.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, device or range, or when no neuron has a class.
    """
    op = "predict"
    _check_counts(op, counts)
    if vote not in VOTES:
        raise ValueError(f"{op}: vote must be one of {', '.join(VOTES)}, got {vote!r}")
    if not isinstance(assigned, Assignment):
        raise TypeError(f"{op}: assigned must be an Assignment, got {type(assigned).__name__}")
    labels, rates = assigned
    check.shape(op, "counts", counts, ("P", len(labels)))
    check.on_device(op, "assigned", labels, "counts", counts.device)
    if vote == "mean":
        weights = (labels[:, None] == torch.arange(rates.shape[1], device=labels.device)).double()
        size = weights.sum(0)
    else:
        weights = rates / rates.sum(1, keepdim=True).clamp(min=torch.finfo(rates.dtype).tiny)
        size = torch.ones_like(rates[0])
    absent = (weights == 0).all(0)
    if bool(absent.all()):
        raise ValueError(f"{op}: no neuron has a class; none spiked when labels were assigned")

    def winners(part: Tensor) -> Tensor:
        # Divided after the sum, which is of integers for the mean vote: equal scores stay equal.
        scores = part.double() @ weights / size.clamp(min=1)
        return scores.masked_fill(absent, -torch.inf).argmax(1)

    # In parts: in float64 the counts of thousands of neurons for all of MNIST would take gigabytes.
    return torch.cat([winners(part) for part in counts.split(1000)])


def _check_counts(op: str, counts: Tensor) -> None:
    check.shape(op, "counts", counts, ("P", "N"))
    if counts.dtype == torch.bool or counts.is_complex():
        raise TypeError(f"{op}: counts must be numbers of spikes, got {counts.dtype}")
    # `not >= 0` finds NaN, too.
    if counts.numel() and not bool((counts >= 0).all()):
        raise ValueError(f"{op}: counts must be at least 0, got {counts.min().item():g}")
