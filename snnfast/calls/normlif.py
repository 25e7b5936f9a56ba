"""Calls of LIF neurons whose input is scaled and shifted on its way in, as by batch normalisation."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from snnfast import check
from snnfast.surrogate import SurrogateLike

from .call import Parameter
from .lif import lif
from .neuron import membrane, neuron_op, spiking


class NormlifCall(NamedTuple):
    """See :func:`normlif`."""

    x: Tensor
    v: Tensor | None
    decay: Parameter
    gain: Parameter
    v_threshold: Parameter
    v_reset: Parameter
    v_rest: Parameter
    scale: Parameter
    shift: Parameter
    hard_reset: bool
    fires: bool
    strict: bool
    surrogate: SurrogateLike
    detach_reset: bool
    return_state: bool
    return_v_seq: bool


@neuron_op(lif)
def normlif(
    x: Tensor,
    v: Tensor | None = None,
    *,
    scale: float | Tensor = 1.0,
    shift: float | Tensor = 0.0,
    tau: float | Tensor | None = None,
    decay: float | Tensor | None = None,
    decay_input: bool = True,
    v_threshold: float | Tensor = 1.0,
    v_reset: float | Tensor | None = 0.0,
    v_rest: float | Tensor | None = None,
    strict: bool = False,
    surrogate: SurrogateLike = "atan",
    detach_reset: bool = False,
    return_state: bool = True,
    return_v_seq: bool = False,
) -> NormlifCall:
    """LIF neurons with the input ``scale x + shift``, over all time steps of ``x``.

    For every neuron and ``t = 0 ... T-1``::

        y[t] = scale x[t] + shift
        h[t] = v_rest + decay (v[t-1] - v_rest) + gain y[t]
        s[t] = 1 if h[t] >= v_threshold else 0
        v[t] = v_reset where s[t] = 1, else h[t]      hard reset (v_reset given)
        v[t] = h[t] - s[t] v_threshold                soft reset (v_reset None)

    with ``decay = 1 - 1/tau`` and ``gain = 1/tau`` if ``decay_input`` else 1. With one scale and one shift for each
    channel ``y`` is a batch normalisation (Ioffe and Szegedy, Batch Normalization, ICML 2015) that is never written to
    memory; :class:`snnfast.nn.NormLIF` computes them. Gradients flow to ``x``, ``v`` and every parameter that is a
    tensor.

    Args:
        scale: factor of the input, one for each channel in ``[C, 1, 1]``.
        shift: added to the scaled input.
    """
    op = "normlif"
    check.sequence(op, x)
    check.state(op, "v", v, x)
    return NormlifCall(
        x=x,
        v=v,
        scale=check.parameter(op, "scale", scale, x),
        shift=check.parameter(op, "shift", shift, x),
        **membrane(op, x, tau, decay, decay_input, v_threshold, v_reset, v_rest),
        **spiking(op, strict, surrogate, detach_reset, return_state, return_v_seq),
    )
