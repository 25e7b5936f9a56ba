"""Readouts: from a sequence to one value a neuron, for batches of one length or of several."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from snnfast import check
from snnfast.ops.layout import tell_format

__all__ = ["Count", "FirstSpike", "Last", "Max", "Rate", "within"]

INTEGERS = (torch.int8, torch.int32)  # of snnfast.nn.IntegerLIF


def within(lengths: Tensor, num_steps: int) -> Tensor:
    """Mask of the steps that belong to each sample: bool ``[num_steps, B]``, True before its end.

    Args:
        lengths: steps of each sample, integers ``[B]`` from 1 to ``num_steps``.
        num_steps: the steps of the batch, in which shorter samples are padded at their end.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape or range.
    """
    num_steps = check.integer("within", "num_steps", num_steps)
    return _within("within", lengths, num_steps, None)


class Rate(nn.Module):
    """The mean over time of ``[T, ...]``: for spikes their rate a step, for a membrane its mean; NaN without steps.

    The sum is in float32 at least. The gradient is the same at every step: a view with stride 0 over time, which the
    kernels read in place. With ``lengths`` it is no such view, for steps beyond the end have no gradient.
    """

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``x`` ``[T, ...]`` -> ``[...]``, in the dtype of ``x``.

        Args:
            x: sequence.
            lengths: steps of each sample of ``x`` ``[T, B, ...]``, integers ``[B]`` from 1 to ``T``; all if None.
                Steps beyond the end do not count, and have no gradient.
        """
        check.sequence("Rate", x)
        if lengths is None:
            # The gradient of x.mean(0) would be written for every step.
            return (_sum(x) / x.shape[0]).to(x.dtype)
        mask = _mask("Rate", x, lengths)
        steps = lengths.to(x.device).view(-1, *(1,) * (x.dim() - 2))
        return (_sum(torch.where(mask, x, 0)) / steps).to(x.dtype)


class Count(nn.Module):
    """The number of spikes: the sum over time of ``[T, ...]``; its gradient is like that of :class:`Rate`."""

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``x`` ``[T, ...]`` -> ``[...]``, float64 for float64 ``x``, int64 for int8, else float32.

        ``lengths`` as in :meth:`Rate.forward`.
        """
        check.sequence("Count", x, INTEGERS)
        return _sum(x if lengths is None else torch.where(_mask("Count", x, lengths), x, 0))


class Last(nn.Module):
    """The value at the last step of ``[T, ...]``, such as a membrane; with ``lengths`` at each sample's last."""

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``x`` ``[T, ...]``, at least one step, -> ``[...]``; ``lengths`` as in :meth:`Rate.forward`."""
        _some_steps("Last", x)
        if lengths is None:
            return x[-1]
        _mask("Last", x, lengths)
        return x[lengths.to(x.device).long() - 1, torch.arange(x.shape[1], device=x.device)]


class Max(nn.Module):
    """The largest value over time of ``[T, ...]``, for example of a membrane; steps that tie share the gradient."""

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``x`` ``[T, ...]``, at least one step, -> ``[...]``; ``lengths`` as in :meth:`Rate.forward`."""
        _some_steps("Max", x)
        x = tell_format(x)
        return (x if lengths is None else torch.where(_mask("Max", x, lengths), x, -torch.inf)).amax(0)


class FirstSpike(nn.Module):
    """Number of steps of ``[T, ...]`` before the first spike, differentiable; for a silent neuron all steps.

    ::

        t = sum over t of prod over k <= t of (1 - s[k])

    The gradient at a step is the change of ``t`` when a spike is added or removed there. Every step up to the first
    spike has one, and so has every step of a silent neuron.
    """

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Spikes ``x`` ``[T, ...]`` -> ``[...]``, float64 for float64 ``x``, else float32.

        Several spikes in a step (``max_spikes=`` of a neuron) count as one, with the gradient of one.

        ``lengths`` as in :meth:`Rate.forward`.
        """
        check.sequence("FirstSpike", x)
        spikes = x.to(check.state_dtype(x.dtype))
        # Several spikes count 1, and the gradient is not cut, as clamp(max=1) would.
        silent = 1 - (spikes - (spikes.detach() - 1).clamp(min=0))
        if lengths is not None:
            silent = torch.where(_mask("FirstSpike", x, lengths), silent, 0)
        return silent.cumprod(0).sum(0)


def _some_steps(op: str, x: Tensor) -> None:
    check.sequence(op, x, INTEGERS)
    if x.shape[0] == 0:  # len would fix the number of steps in torch.export
        raise ValueError(f"{op}: x must have at least one step, got shape {list(x.shape)}")


def steps_within(op: str, x: Tensor, lengths: Tensor) -> Tensor:
    """:func:`within` for ``x`` ``[T, B, ...]``, on its device."""
    if x.dim() < 2:
        raise ValueError(f"{op}: with lengths x must have shape [T, B, ...], got {list(x.shape)}")
    return _within(op, lengths, len(x), x.shape[1]).to(x.device)


def _mask(op: str, x: Tensor, lengths: Tensor) -> Tensor:
    """:func:`steps_within`, shaped to broadcast over ``x``."""
    mask = steps_within(op, x, lengths)
    return mask.view(*mask.shape, *(1,) * (x.dim() - 2))


def _within(op: str, lengths: Tensor, num_steps: int, batch: int | None) -> Tensor:
    check.tensor(op, "lengths", lengths)
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise TypeError(f"{op}: lengths must be integers, got {lengths.dtype}")
    if lengths.dim() != 1 or batch not in (None, len(lengths)):
        wanted = "B" if batch is None else batch
        hint = (
            "; x must have shape [T, B, ...], of a batch-first sequence give x.transpose(0, 1)"
            if batch is not None and lengths.shape == (num_steps,)
            else ""
        )
        raise ValueError(f"{op}: lengths must have shape [{wanted}], got {list(lengths.shape)}{hint}")
    lengths = lengths.long()
    check.in_range(op, "lengths", lengths, 1, num_steps)
    return torch.arange(num_steps, device=lengths.device)[:, None] < lengths


def _sum(x: Tensor) -> Tensor:
    return _WideSum.apply(x) if x.element_size() == 2 else x.sum(0)  # type: ignore[no-untyped-call]


class _WideSum(torch.autograd.Function):
    """Sum of a 16-bit tensor in float32. PyTorch's sum would write its 16-bit gradient for every step."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.sum(0, dtype=torch.float32)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.steps, ctx.dtype = len(inputs[0]), inputs[0].dtype

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.to(ctx.dtype).expand(ctx.steps, *grad.shape)
