"""Spike-timing-dependent plasticity of a dense layer, for all time steps and samples at once."""

from __future__ import annotations

import torch
from torch import Tensor

from snnfast import backend, reference
from snnfast.plasticity import Rule
from snnfast.reference.stdp import Reduction, StdpState, Update, prepare


def stdp(
    w: Tensor,
    pre: Tensor,
    post: Tensor,
    *,
    rule: Rule,
    dt: float = 1.0,
    state: StdpState | None = None,
    reward: float | Tensor | None = None,
    reduction: Reduction = "sum",
    update: Update = "step",
    norm: float | None = None,
    validate: bool = True,
) -> StdpState:
    """Changes the weights of a layer by the spikes of the neurons that it connects.

    Traces are those of :mod:`snnfast.plasticity`, one a neuron and sample. With the potentiation and depression of
    ``rule``, a step changes the weight from neuron i to neuron j by ::

        grown = sum_b s_post[t, b, j] potentiation(w, x_pre[t, b, i], ...)
        lost  = sum_b s_pre[t, b, i] depression(w, x_post[t, b, j], ...)
        w <- clamp(w + scale (grown - lost), w_min, w_max)        scale: 1 or, with reduction="mean", 1 / B

    With ``update="step"`` this happens at each step and ``w`` is the weight before the step; all samples of the batch
    see the same one. With ``update="sequence"`` ``w`` is the weight before the call, ``grown`` and ``lost`` are summed
    over all steps, too, and added and clamped once. For a reward-modulated rule ::

        e[b] <- e[b] exp(-dt / tau_eligibility) + s_post potentiation(w, ...) - s_pre depression(w, ...)
        grown = sum_b reward[t, b] e[b]        lost = 0

    ``w`` is **changed in place**; nothing is changed when an error is raised. There is no gradient. A sequence cut in
    two, with the state of the first half given to the second, gives what it gives in one (with ``update="step"`` and
    without ``norm``, which acts at the end of each call).

    Work follows the spikes, but for reward-modulated rules, whose eligibility decays everywhere in each step. The CPU
    kernels equal the reference bit for bit in float64, and in float32 but for rules with a power or exponential of the
    weight, which agree to rounding. Sources of the rules: :mod:`snnfast.plasticity`.

    Args:
        w: weights ``[N_post, N_pre]``, float32 or float64, within the bounds of ``rule``.
        pre: presynaptic spikes ``[T, B, N_pre]``, bool, uint8 or floating point; a spike is what is not 0.
        post: postsynaptic spikes ``[T, B, N_post]``, likewise.
        rule: from :mod:`snnfast.plasticity`.
        dt: length of a step, ms.
        state: to go on from, as returned; it is not changed. None: no neuron has spiked before.
        reward: for a reward-modulated rule: a number, ``[T]`` or ``[T, B]``.
        reduction: ``"sum"`` or ``"mean"`` of the changes over the batch.
        update: ``"step"`` or ``"sequence"``.
        norm: sum of magnitudes to which the weights of every postsynaptic neuron are scaled after the last step (rows
            of zeros stay; bounds hold); None: they are not.
        validate: look at the values of ``w`` and ``reward``; on CUDA this waits for the device.

    Returns:
        :class:`StdpState` after the last step.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """
    kernels = backend.library("stdp", w) if isinstance(w, Tensor) else None
    if kernels is None:
        return reference.stdp(
            w,
            pre,
            post,
            rule=rule,
            dt=dt,
            state=state,
            reward=reward,
            reduction=reduction,
            update=update,
            norm=norm,
            validate=validate,
        )
    settings = prepare(
        w,
        pre,
        post,
        rule=rule,
        dt=dt,
        state=state,
        reward=reward,
        reduction=reduction,
        update=update,
        norm=norm,
        validate=validate,
    )
    weights = w.detach()
    rows = weights if weights.is_contiguous() else weights.contiguous()
    after = settings.state
    kernels.stdp(
        rows,
        pre.detach(),
        post.detach(),
        after.trace_pre,
        after.trace_pre2,
        after.trace_post,
        after.trace_post2,
        after.eligibility,
        settings.reward,
        rule.constants(dt),
        settings.decay_eligibility,
        settings.scale,
        settings.each_step,
        settings.norm,
    )
    if rows is not weights:
        weights.copy_(rows)
    elif not torch.compiler.is_compiling():
        torch.autograd.graph.increment_version(
            w
        )  # so that a backward pass that needs the old ones says so
    return after


def register(namespace: str) -> None:
    """Makes the kernel in ``namespace`` traceable without data."""

    @torch.library.register_fake(f"{namespace}::stdp")
    def _(w: Tensor, *arguments: object) -> None:
        return None
