"""Labels to the desired spikes of the outputs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from snnfast import check


def desired_times(samples: int, beta: float, num_steps: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Desired spike times of the output of a sample's class: each step with probability ``beta / 1000``, independently.

    Args:
        samples: number of samples B.
        beta: rate in Hz for steps of 1 ms, in [0, 1000]; 250 in BP-STDP.
        num_steps: number of steps T.
        generator: where to draw from, on the CPU; PyTorch's own if None.

    Returns:
        bool ``[T, B]``, on the CPU. Samples are drawn one after the other, so that a batch equals its samples alone.

    Raises:
        TypeError, ValueError: for a rate or a number out of range.
    """
    op = "desired_times"
    rate = check.number(op, "beta", beta)
    if not 0 <= rate <= 1000:
        raise ValueError(f"{op}: beta must lie in [0, 1000] Hz, got {rate:g}")
    check.integer(op, "samples", samples, 0)
    check.integer(op, "num_steps", num_steps, 0)
    check.elements(op, "num_steps", (samples, num_steps))
    check.generator(op, generator)
    return times_of(torch.rand(samples, num_steps, generator=generator), rate)


def times_of(uniform: Tensor, beta: float) -> Tensor:
    """:func:`desired_times` ``[..., T, B]`` of uniform numbers ``[..., B, T]``."""
    return (uniform <= beta / 1000).mT


def label_encoder(
    label: int | Tensor, beta: float, num_classes: int, num_steps: int, *, generator: torch.Generator | None = None
) -> Tensor:
    """The spikes that BP-STDP wants: the output of the class at :func:`desired_times`, the others never.

    Args:
        label: one class, or int64 ``[B]``.
        beta: rate of the output of the class in Hz, for steps of 1 ms.
        num_classes: number of outputs.
        num_steps: number of steps T.
        generator: where to draw from, on the CPU; PyTorch's own if None.

    Returns:
        float32 ``[T, num_classes]`` or ``[T, B, num_classes]``, on the CPU.

    Raises:
        TypeError, ValueError: for labels, a rate or a number out of range.

    Source: Tavanaei and Maida, Neurocomputing 330 (2019), section 3.2; the n3ml manual.
    """
    labels = check.labels("label_encoder", "label", label).cpu()
    check.integer("label_encoder", "num_classes", num_classes)
    check.in_range("label_encoder", "label", labels, 0, num_classes - 1)
    one_hot = F.one_hot(labels.view(-1), num_classes)
    times = desired_times(len(one_hot), beta, num_steps, generator=generator)
    spikes = times[..., None] * one_hot.float()
    return spikes if labels.dim() else spikes[:, 0]
