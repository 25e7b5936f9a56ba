"""Batch normalisation folded into the neurons behind it: :class:`NormLIF`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.function import once_differentiable
from torch.nn import functional

from snnfast import ops
from snnfast.check import kind, state_dtype
from snnfast.ops.autograd import traced

from .hooks import hooked
from .lif import LIF, ParametricLIF
from .spiking import Spiking
from .time import Time

__all__ = ["NormLIF"]

# Dimensions of one step [B, C, ...] that each takes.
_DIMENSIONS: dict[type[nn.Module], tuple[int, ...]] = {
    nn.BatchNorm1d: (2, 3),
    nn.BatchNorm2d: (4,),
    nn.BatchNorm3d: (5,),
}


class NormLIF(nn.Sequential):
    """Batch normalisation and LIF neurons in one pass: ``NormLIF(norm, neuron)`` for ``Time(norm), neuron``.

    With the mean ``m`` and the variance ``q`` of each channel of ``x``, over time, batch and space::

        scale = weight / sqrt(q + eps)
        shift = bias - m scale
        spikes = normlif(x, scale, shift)

    by :func:`snnfast.ops.normlif` (Ioffe and Szegedy, Batch Normalization, ICML 2015). In evaluation ``m`` and ``q``
    are the running statistics. The normalised input is not written to memory, and not kept for the backward pass, which
    needs ``x`` alone. The results are those of the two layers but for rounding: a membrane within rounding of its
    threshold may fire in only one of the two.

    In all other cases the two layers run one after the other: with ``lengths``, an input that is the same at every step
    (``images.expand(T, *images.shape)``, which :class:`snnfast.nn.Time` normalises once), ``refractory`` or
    ``max_spikes``, hooks on one of the two, subclasses of them, and under ``torch.compile`` and the like. The keys of
    its state dict are those of ``nn.Sequential(Time(norm), neuron)``.

    Args:
        norm: ``nn.BatchNorm1d``, ``2d`` or ``3d``, or one of them in :class:`snnfast.nn.Time`.
        neuron: :class:`snnfast.nn.LIF` or :class:`snnfast.nn.ParametricLIF`.

    Raises:
        TypeError: if they are anything else.
    """

    def __init__(self, norm: nn.Module, neuron: Spiking) -> None:
        layer = norm.layer if isinstance(norm, Time) else norm
        if not isinstance(layer, tuple(_DIMENSIONS)):
            raise TypeError(f"NormLIF: norm must be nn.BatchNorm1d, 2d or 3d, got {kind(layer)}")
        if not isinstance(neuron, (LIF, ParametricLIF)):
            raise TypeError(
                f"NormLIF: neuron must be LIF or ParametricLIF of snnfast.nn, got {kind(neuron)}"
            )
        super().__init__(norm if isinstance(norm, Time) else Time(norm), neuron)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Any:
        """Input ``[T, B, C, ...]`` -> what ``neuron`` returns: spikes, with ``return_v_seq`` ``(spikes, v_seq)``.

        Args:
            x: sequence.
            lengths: as for :class:`snnfast.nn.Time`: the statistics do not count the steps beyond the end of a sample.
        """
        time: Any
        neuron: Any
        time, neuron = self
        if lengths is not None:
            return neuron(time(x, lengths))
        if not _together(time, neuron, x):
            return neuron(time(x))
        given = neuron._given(x)
        scale, shift = (
            value.view(-1, *(1,) * (x.dim() - 3)) for value in _scale_and_shift(time.layer, x)
        )
        return neuron._finish(*ops.normlif(x, scale=scale, shift=shift, **given))

    def step(self, x: Tensor) -> Any:
        """One step: input ``[B, C, ...]`` -> what ``neuron.step`` returns."""
        neuron: Any = self[1]
        return neuron.step(self[0](x[None])[0])


def _together(time: Any, neuron: Any, x: Any) -> bool:
    """Whether the normalisation can run in the pass of the neurons."""
    norm = time.layer
    if not isinstance(x, Tensor) or traced() or forward_ad._current_level >= 0:
        return False
    if type(norm) not in _DIMENSIONS or x.dim() - 1 not in _DIMENSIONS[type(norm)]:
        return False
    own = (*norm.parameters(), norm.running_mean, norm.running_var)
    return (
        time.fast
        and type(neuron).forward is Spiking.forward
        and neuron.refractory == 0
        and neuron.max_spikes == 1
        and not any(map(hooked, (time, norm, neuron)))
        and x.is_floating_point()
        and all(p is None or state_dtype(p.dtype) == state_dtype(x.dtype) for p in own)
        and x.shape[2] == norm.num_features
        and x.numel() > x.shape[2]  # PyTorch refuses to normalise a single value
        and not (len(x) > 1 and x.stride(0) == 0)
    )


def _scale_and_shift(norm: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """The normalisation of ``x`` ``[T, B, C, ...]``, in training by its own statistics, as scale and shift ``[C]``."""
    given = norm.weight, norm.bias
    weight, bias = (None if p is None else p.to(state_dtype(p.dtype)) for p in given)
    if not norm.training and norm.running_mean is not None:
        return _affine(weight, bias, norm.running_mean, _rstd(norm.running_var, norm.eps))
    running, momentum = (None, None), 0.0
    if norm.training and norm.running_mean is not None:
        norm.num_batches_tracked.add_(1)
        seen = norm.num_batches_tracked
        momentum = 1 / float(seen) if norm.momentum is None else norm.momentum
        running = norm.running_mean, norm.running_var
    return _OfBatch.apply(x.flatten(0, 1), weight, bias, *running, momentum, norm.eps)  # type: ignore[no-untyped-call,no-any-return]


def _rstd(var: Tensor, eps: float) -> Tensor:
    return 1 / (var + eps).sqrt()


def _affine(
    weight: Tensor | None, bias: Tensor | None, mean: Tensor, rstd: Tensor
) -> tuple[Tensor, Tensor]:
    scale = rstd if weight is None else weight * rstd
    shift = -mean * scale if bias is None else bias - mean * scale
    return scale, shift


class _OfBatch(torch.autograd.Function):
    """Scale and shift of a normalisation by the mean ``m`` and the variance ``q`` of ``x`` ``[N, C, ...]`` itself.

    With ``g = dL/dscale - m dL/dshift`` and ``n`` values a channel ``dL/dq = -g weight / (2 sqrt(q + eps)^3)``,
    ``dL/dm = -scale dL/dshift`` and ``dL/dx = dL/dm / n + 2 (x - m) dL/dq / n``, which is again a scaled and shifted x.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        eps: float,
    ) -> tuple[Tensor, Tensor]:
        mean, var = torch.batch_norm_update_stats(x, running_mean, running_var, momentum)
        state = state_dtype(x.dtype)
        mean, rstd = mean.to(state), _rstd(var.to(state), eps)
        ctx.save_for_backward(x, weight, mean, rstd)
        return _affine(weight, bias, mean, rstd)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_scale: Tensor, grad_shift: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, rstd = ctx.saved_tensors
        g = grad_scale - mean * grad_shift
        scale = rstd if weight is None else weight * rstd
        n = x.numel() // x.shape[1]
        factor = -g * scale * rstd.square() / n
        summand = -scale * grad_shift / n - factor * mean
        zero, one = torch.zeros_like(mean), torch.ones_like(mean)
        # factor x + summand, in one pass in any memory format
        grad_x = functional.batch_norm(x, zero, one, factor, summand, eps=0.0)
        affine = (None, None) if weight is None else (g * rstd, grad_shift)
        return grad_x, *affine, *(None,) * 4
