"""BP-STDP of a whole network: dynamics, desired spikes, errors and changes of all layers over all steps in one call."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from snnfast import backend, reference
from snnfast.calls.presentations import Rates
from snnfast.calls.stdp import Reduction, Update
from snnfast.ops.bp_stdp import changed, spikes
from snnfast.reference.bp_stdp_network import BpStdpNetworkResult, prepare


def bp_stdp_network(
    weights: Sequence[Tensor],
    x: Tensor | Rates,
    labels: Tensor | None = None,
    desired: Tensor | None = None,
    *,
    thresholds: Sequence[float],
    dt: float = 1.0,
    lr: float = 0.0005,
    epsilon: int = 4,
    update: Update = "step",
    reduction: Reduction = "sum",
    batch: int | None = None,
    state: Sequence[Tensor] | None = None,
    return_hidden: bool = False,
    return_state: bool = False,
    validate: bool = True,
) -> BpStdpNetworkResult:
    """Presents spikes to a network of integrate-and-fire neurons, which learns to fire when it is desired.

    In each step, layer after layer, with the spikes of the layer before in the same step, ::

        v <- v + sum of w[:, i] over the neurons i of the layer before that fire, in the order of i
        s = v >= threshold;  v <- 0 where s

    With ``labels`` and ``desired`` it learns. In a step in which ``desired[t, p]`` asks the output of class
    ``labels[p]`` for a spike, and with the window of :func:`bp_stdp`, the error of that output is 1 if it did not fire
    in the window, and the error of any other output is -1 if it did. :func:`bp_stdp` then changes the weights of the
    last layer, passes the error back, and so on to the first layer; all errors are of the weights before any change.

    The samples are presented ``batch`` at a time, from rest, and the weights that one presentation leaves are those
    of the next; within it, changes of all its samples are added in each step or after the last, as ``update`` says, in
    the order of steps and in it of samples. Without labels nothing changes.

    The weights are **changed in place**; nothing is changed when an error is raised. There is no gradient. Work follows
    the spikes; the CPU kernels equal the reference bit for bit.

    Args:
        weights: a matrix ``[N, N of the layer before]`` a layer, float32 or float64, 16 layers at most.
        x: input spikes ``[T, P, I]`` of P samples, bool, uint8 or floating point (a spike is what is not 0), or
            :class:`Rates`, whose spikes are drawn inside and never written.
        labels: class of each sample, int64 ``[P]``.
        desired: when the output of the class should fire, bool ``[T, P]``; of :func:`snnfast.encoder.desired_times`.
        thresholds: one a layer, positive.
        dt: length of a step in ms, for :class:`Rates`; nothing else depends on it.
        lr: learning rate, at least 0.
        epsilon: steps that a window reaches back, at least 1.
        update: ``"step"`` or ``"sequence"``.
        reduction: ``"sum"`` or ``"mean"`` of the changes over the samples of a presentation.
        batch: samples presented at a time; None: all.
        state: membranes ``[P, N]`` of each layer to go on from, only without labels; they are not changed. None: 0.
        return_hidden: return the spikes of the hidden layers.
        return_state: return the membranes.
        validate: look at the values of ``weights`` and ``labels``; on CUDA this waits for the device.

    Returns:
        :class:`BpStdpNetworkResult`.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.

    Source: Tavanaei and Maida, BP-STDP: Approximating backpropagation using spike timing dependent plasticity,
    Neurocomputing 330 (2019), section 3 and algorithm 1.
    """
    first = weights[0] if isinstance(weights, Sequence) and weights else None
    kernels = backend.library("bp_stdp_network", first) if isinstance(first, Tensor) else None
    if kernels is None:
        return reference.bp_stdp_network(
            weights,
            x,
            labels,
            desired,
            thresholds=thresholds,
            dt=dt,
            lr=lr,
            epsilon=epsilon,
            update=update,
            reduction=reduction,
            batch=batch,
            state=state,
            return_hidden=return_hidden,
            return_state=return_state,
            validate=validate,
        )
    a = prepare(
        weights,
        x,
        labels,
        desired,
        thresholds=thresholds,
        dt=dt,
        lr=lr,
        epsilon=epsilon,
        update=update,
        reduction=reduction,
        batch=batch,
        state=state,
        validate=validate,
    )
    rows = [w.detach().contiguous() for w in weights]
    membranes: list[Tensor] = []
    if state is not None:
        membranes = [v.detach().clone(memory_format=torch.contiguous_format) for v in state]
    elif return_state:
        samples = len(x.hz) if isinstance(x, Rates) else x.shape[1]
        membranes = [w.new_zeros((samples, len(w))) for w in rows]
    fired, hidden = kernels.bp_stdp_network_(
        rows,
        *_inputs(x),
        dt / 1000.0,
        None if labels is None else labels.contiguous(),
        None if desired is None else desired.contiguous(),
        a.thresholds,
        a.rule.lr,
        a.rule.mean,
        a.rule.epsilon,
        a.rule.each_step,
        a.batch,
        membranes,
        state is not None,
        return_hidden,
    )
    if a.learns:
        for w, changed_rows in zip(weights, rows, strict=True):
            changed(w, changed_rows)
    sizes = [len(w) for w in rows[:-1]]
    return BpStdpNetworkResult(
        fired,
        hidden.split(sizes, 2) if return_hidden else None,
        tuple(membranes) if return_state else None,
    )


def _inputs(x: Tensor | Rates) -> tuple[Tensor | None, Tensor | None, Tensor | None, int]:
    if isinstance(x, Rates):
        return None, x.hz.detach().contiguous(), x.seeds.contiguous(), x.num_steps
    return spikes(x), None, None, 0


def register(namespace: str) -> None:
    """Makes the kernel in ``namespace`` traceable without data."""

    @torch.library.register_fake(f"{namespace}::bp_stdp_network_")
    def _(
        weights: list[Tensor],
        x: Tensor | None,
        hz: Tensor | None,
        seeds: Tensor | None,
        time_steps: int,
        per_hz: float,
        labels: Tensor | None,
        desired: Tensor | None,
        thresholds: list[float],
        lr: float,
        mean: bool,
        epsilon: int,
        each_step: bool,
        batch: int,
        state: list[Tensor],
        carry: bool,
        return_hidden: bool,
    ) -> tuple[Tensor, Tensor]:
        *hidden, outputs = (w.shape[0] for w in weights)
        shape = (time_steps, hz.shape[0]) if hz is not None else x.shape[:2]  # type: ignore[union-attr]
        return (
            weights[0].new_empty((*shape, outputs), dtype=torch.bool),
            weights[0].new_empty((*shape, sum(hidden) if return_hidden else 0), dtype=torch.bool),
        )
