"""BP-STDP between two layers: Tavanaei and Maida 2019."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from snnfast import check

from .call import Changed, reference_op
from .stdp import Reduction, Update


class BpStdpCall(NamedTuple):
    """See :func:`bp_stdp_`; ``scale`` is the factor of errors."""

    w: Changed
    pre: Tensor
    error: Tensor
    scale: float
    epsilon: int
    each_step: bool
    return_error: bool


def _bp_stdp(call: BpStdpCall) -> Tensor | None:
    w, spikes, error = call.w.detach(), call.pre.detach() != 0, call.error.detach()
    passed = w.new_zeros(spikes.shape) if call.return_error else None
    changes: list[Change] = []
    counts = w.new_zeros(spikes.shape[1:])
    for t in range(len(spikes)):
        move_window(counts, spikes, t, call.epsilon)
        if passed is not None:
            passed[t] = pass_back(w, error[t], counts)
        changes += [Change(call.scale * e, c.clone()) for e, c in zip(error[t], counts)]
        if call.each_step:
            apply(w, changes)
    apply(w, changes)
    return passed


class Change(NamedTuple):
    """Weight change of one sample in one step: the outer product of ``factor`` ``[O]`` and ``counts`` ``[I]``."""

    factor: Tensor
    counts: Tensor


def move_window(counts: Tensor, spikes: Tensor, t: int, epsilon: int) -> None:
    """Move the window of ``counts`` ``[B, I]`` by one step, to the steps ``t - epsilon`` to ``t``."""
    counts += spikes[t].to(counts)
    if t > epsilon:
        counts -= spikes[t - epsilon - 1].to(counts)


def pass_back(w: Tensor, error: Tensor, counts: Tensor) -> Tensor:
    """Return the error of the presynaptic neurons ``[B, I]``, summed in the order of the postsynaptic neurons."""
    total = torch.zeros_like(counts)
    for o in range(w.shape[0]):
        total = total + error[:, o, None] * w[o]
    return torch.where(counts > 0, total, 0)


def apply(w: Tensor, changes: list[Change]) -> None:
    """Add the changes one after the other, and clear the list."""
    with torch.no_grad():
        for change in changes:
            w += change.factor[:, None] * change.counts
    changes.clear()


@reference_op(_bp_stdp)
def bp_stdp_(
    w: Tensor,
    pre: Tensor,
    error: Tensor,
    *,
    lr: float = 0.0005,
    epsilon: int = 4,
    update: Update = "step",
    reduction: Reduction = "sum",
    return_error: bool = True,
    validate: bool = True,
) -> BpStdpCall:
    """Change the weights between two layers by the errors of the second and the recent spikes of the first.

    With the spikes of a neuron in the window of the last ``epsilon + 1`` steps::

        c[t, b, i] = sum of pre[t', b, i] over t' = t - epsilon ... t, none before step 0
        w[o, i] <- w[o, i] + (scale error[t, b, o]) c[t, b, i]       scale: lr or, with reduction="mean", lr / B
        passed[t, b, i] = sum_o error[t, b, o] w[o, i]               where c[t, b, i] > 0, else 0

    The changes are added one after the other: steps in order, and within a step the samples in order. With
    ``update="step"`` the next step sees them; errors are passed back through the weights before the step. With
    ``update="sequence"`` weights change after the last step. All samples of a step see the same weights; to learn from
    one sample after the other, call with ``B = 1``.

    ``w`` is **changed in place**; nothing is changed when an error is raised. There is no gradient. Windows are
    running counts: a step adds the spikes that enter and subtracts those that leave, so its cost does not depend on
    ``epsilon``. The CPU kernels equal the reference bit for bit.

    Args:
        w: weights ``[O, I]``, float32 or float64.
        pre: presynaptic spikes ``[T, B, I]``, bool, uint8 or floating point; anything but 0 is a spike.
        error: errors of the postsynaptic neurons ``[T, B, O]`` in the dtype of ``w``. For outputs: 1 if the neuron
            should have fired in the window and did not, -1 if it did and should not have, else 0
            (:func:`snnfast.loss.bp_stdp_error`). For hidden neurons: ``passed`` of the next layer.
        lr: learning rate, at least 0.
        epsilon: number of earlier steps in a window, at least 1.
        update: ``"step"`` or ``"sequence"``.
        reduction: ``"sum"`` or ``"mean"`` of the changes over the batch.
        return_error: compute the errors of the presynaptic neurons.
        validate: check the values of ``w`` and ``error``; on CUDA this waits for the device.

    Returns:
        ``passed`` ``[T, B, I]``, or None.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.

    Source: Tavanaei and Maida, BP-STDP: Approximating backpropagation using spike timing dependent plasticity,
    Neurocomputing 330 (2019), section 3.
    """
    op = "bp_stdp_"
    check.weights(op, "w", w, ("N_post", "N_pre"))
    check.spikes(op, "pre", pre, ("T", "B", w.shape[1]), w)
    batch = pre.shape[1]
    check.tensor_of(op, "error", error, (*pre.shape[:2], w.shape[0]), w.dtype, w.device)
    check.integer(op, "epsilon", epsilon)
    check.choice(op, "update", update, ("step", "sequence"))
    check.choice(op, "reduction", reduction, ("sum", "mean"))
    rate = check.at_least_zero(op, "lr", lr)
    if check.flag(op, "validate", validate):
        check.finite(op, "w", w)
        check.finite(op, "error", error)
    return BpStdpCall(
        w=w,
        pre=pre,
        error=error,
        scale=rate / max(batch, 1) if reduction == "mean" else rate,
        epsilon=epsilon,
        each_step=update == "step",
        return_error=check.flag(op, "return_error", return_error),
    )
