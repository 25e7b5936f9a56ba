"""BP-STDP of one layer pair: backpropagated errors meet windows of presynaptic spikes."""

from __future__ import annotations

import torch
from torch import Tensor

from snnfast import backend, reference
from snnfast.calls.stdp import Reduction, Update
from snnfast.reference.bp_stdp import prepare

SPIKES = (torch.bool, torch.uint8, torch.float32, torch.float64)


def bp_stdp(
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
) -> Tensor | None:
    """Changes the weights between two layers by the errors of the second and the recent spikes of the first.

    With the spikes of a neuron in the window of the last ``epsilon + 1`` steps, ::

        c[t, b, i] = sum of pre[t', b, i] over t' = t - epsilon ... t, none before step 0
        w[o, i] <- w[o, i] + (scale error[t, b, o]) c[t, b, i]       scale: lr or, with reduction="mean", lr / B
        passed[t, b, i] = sum_o error[t, b, o] w[o, i]               where c[t, b, i] > 0, else 0

    The changes are added one after the other, steps in order and in each the samples in order. With ``update="step"``
    those of a step are there in the next; the errors passed back are of the weights before the step. With
    ``update="sequence"`` weights change after the last step. One sample after the other is ``B = 1``: all samples of a
    step see the same weights.

    ``w`` is **changed in place**; nothing is changed when an error is raised. There is no gradient. Windows are
    running counts: a step adds the spikes that enter and subtracts those that leave, whatever ``epsilon`` is. The CPU
    kernels equal the reference bit for bit.

    Args:
        w: weights ``[O, I]``, float32 or float64.
        pre: presynaptic spikes ``[T, B, I]``, bool, uint8 or floating point; a spike is what is not 0.
        error: errors of the postsynaptic neurons ``[T, B, O]`` in the dtype of ``w``. Of outputs: 1 for one that
            should have fired in the window and did not, -1 for one that did and should not, else 0
            (:func:`snnfast.loss.bp_stdp_error`); of hidden neurons: ``passed`` of the next layer.
        lr: learning rate, at least 0.
        epsilon: steps that a window reaches back, at least 1.
        update: ``"step"`` or ``"sequence"``.
        reduction: ``"sum"`` or ``"mean"`` of the changes over the batch.
        return_error: compute the errors of the presynaptic neurons.
        validate: look at the values of ``w`` and ``error``; on CUDA this waits for the device.

    Returns:
        ``passed`` ``[T, B, I]``, or None.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.

    Source: Tavanaei and Maida, BP-STDP: Approximating backpropagation using spike timing dependent plasticity,
    Neurocomputing 330 (2019), section 3.
    """
    kernels = backend.library("bp_stdp", w) if isinstance(w, Tensor) else None
    if kernels is None:
        return reference.bp_stdp(
            w,
            pre,
            error,
            lr=lr,
            epsilon=epsilon,
            update=update,
            reduction=reduction,
            return_error=return_error,
            validate=validate,
        )
    rule = prepare(
        w,
        pre,
        error,
        lr=lr,
        epsilon=epsilon,
        update=update,
        reduction=reduction,
        validate=validate,
    )
    rows = w.detach().contiguous()
    passed: Tensor = kernels.bp_stdp_(
        rows,
        spikes(pre),
        error.detach().contiguous(),
        rule.scale(pre.shape[1]),
        rule.epsilon,
        rule.each_step,
        return_error,
    )
    changed(w, rows)
    return passed if return_error else None


def spikes(x: Tensor) -> Tensor:
    """Spikes as the kernels read them: contiguous, of a dtype that they know."""
    x = x.detach()
    return (x if x.dtype in SPIKES else x != 0).contiguous()


def changed(w: Tensor, rows: Tensor) -> None:
    """Takes over what a kernel has made of ``rows``, which are ``w`` or a contiguous copy of it."""
    if not w.is_contiguous():
        w.detach().copy_(rows)
    elif not torch.compiler.is_compiling():
        # so that a backward pass that needs the old ones says so
        torch.autograd.graph.increment_version(w)


def register(namespace: str) -> None:
    """Makes the kernel in ``namespace`` traceable without data."""

    @torch.library.register_fake(f"{namespace}::bp_stdp_")
    def _(
        w: Tensor,
        pre: Tensor,
        error: Tensor,
        scale: float,
        epsilon: int,
        each_step: bool,
        return_error: bool,
    ) -> Tensor:
        return w.new_empty((pre.shape[0] if return_error else 0, *pre.shape[1:]))
