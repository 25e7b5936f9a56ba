"""Losses and labels of answers: one for a sequence, one for each of its last steps, or one for every step."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from snnfast.nn.loss import ce_steps


def each_step(logits: Tensor) -> Tensor:
    """Return labels ``[B, T]`` for logits ``[B, T, classes]``."""
    return logits.argmax(-1)


def steps_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy over labelled steps; logits ``[B, T, classes]``, labels ``[B, T]``."""
    return ce_steps(logits.transpose(0, 1), labels.transpose(0, 1))


def predicted(logits: Tensor) -> Tensor:
    """Return labels ``[B]``; ``[B, outputs, classes]`` gives one number whose lowest digit is the first output."""
    found = logits.argmax(-1)
    if found.dim() == 1:
        return found
    places = logits.shape[-1] ** torch.arange(found.shape[1], device=found.device)
    return (found * places).sum(1)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy over samples and outputs; labels as in :func:`predicted`."""
    if logits.dim() == 2:
        return F.cross_entropy(logits, labels)
    classes = logits.shape[-1]
    places = classes ** torch.arange(logits.shape[1], device=labels.device)
    digits = labels[:, None] // places % classes
    return F.cross_entropy(logits.flatten(0, 1), digits.flatten())
