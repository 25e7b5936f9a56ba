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
from snnfast.ops.autograd import below_autograd, traced
from snnfast.ops.batch_norm import has_kernel
from snnfast.processes.batch_norm import keep_statistics

from .hooks import hooked
from .neurons import LIF
from .parametric_lif import ParametricLIF
from .spiking import Spiking
from .time import Time, takes

__all__ = ["NormLIF"]

# Dimensions of one step [B, C, ...] of each normalisation.
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
    are the running statistics. The normalised input is not written to memory, nor saved for the backward pass, which
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
            raise TypeError(f"NormLIF: neuron must be LIF or ParametricLIF of snnfast.nn, got {kind(neuron)}")
        super().__init__(norm if isinstance(norm, Time) else Time(norm), neuron)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Any:
        """Input ``[T, B, C, ...]`` -> result of ``neuron``: spikes, or with ``return_v_seq`` ``(spikes, v_seq)``.

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
        arguments = neuron._op_arguments(x)
        x, *values = _scale_and_shift(time.layer, x)
        scale, shift = (value.view(-1, *(1,) * (x.dim() - 3)) for value in values)
        return neuron._finish(*ops.normlif(x, scale=scale, shift=shift, **arguments))

    def step(self, x: Tensor) -> Any:
        """One step: input ``[B, C, ...]`` -> result of ``neuron.step``."""
        neuron: Any = self[1]
        return neuron.step(self[0](x[None])[0])


def _together(time: Any, neuron: Any, x: Any) -> bool:
    """Return whether the normalisation can run in the pass of the neurons."""
    norm = time.layer
    if not isinstance(x, Tensor) or traced() or forward_ad._current_level >= 0:
        return False
    if type(norm) not in _DIMENSIONS or x.dim() - 1 not in _DIMENSIONS[type(norm)]:
        return False
    return (
        time.fast
        and type(neuron).forward is Spiking.forward
        and neuron.refractory == 0
        and neuron.max_spikes == 1
        and not any(map(hooked, (time, norm, neuron)))
        and takes(norm, x)
        and x.shape[2] == norm.num_features
        and x.numel() > x.shape[2]  # PyTorch refuses to normalise a single value
        and not (len(x) > 1 and x.stride(0) == 0)
    )


def _scale_and_shift(norm: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``x``, and scale and shift ``[C]`` of its normalisation, in training by the statistics of ``x``."""
    affine = norm.weight, norm.bias
    weight, bias = (None if p is None else p.to(state_dtype(p.dtype)) for p in affine)
    if not norm.training and norm.running_mean is not None:
        return x, *_affine(weight, bias, norm.running_mean, norm.running_var, norm.eps)
    # This reads the weights, which on a GPU would wait for the device.
    by_grad = x.is_cpu and (weight is None or bool((weight != 0).all()))
    run: Any = _ByGradient if by_grad else _OfBatch
    x, scale, shift, mean, var = run.apply(x, weight, bias, norm.eps)
    keep_statistics(norm, mean, var, x.numel() // x.shape[2])
    return x, scale, shift


def _affine(weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    rstd = 1 / (var + eps).sqrt()
    scale = rstd if weight is None else weight * rstd
    shift = -mean * scale if bias is None else bias - mean * scale
    return scale, shift


def _forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, ...]:
    """Return ``x``, scale and shift of a normalisation by mean and variance of ``x``, and these in float64."""
    images, state = x.flatten(0, 1), state_dtype(x.dtype)
    if has_kernel(images):
        mean, var = below_autograd(torch.ops.snnfast.batch_norm_statistics, images)
    else:
        if x.is_cpu:  # PyTorch sums channels-last images less precisely
            images = images.contiguous()
        found = torch.batch_norm_update_stats(images, None, None, 0.0)
        mean, var = (value.double() for value in found)
    scale, shift = (value.to(state) for value in _affine(weight, bias, mean, var, eps))
    ctx.save_for_backward(x, weight, mean, var)
    ctx.eps = eps
    ctx.set_materialize_grads(False)
    return x, scale, shift, mean, var


class _ByGradient(torch.autograd.Function):
    """All gradients from that of the returned ``x``, ``scale g``, with the sums of a batch normalisation.

    The neurons then need no gradients of scale and shift, whose sums would lose digits for ``x`` far from 0. No weight
    may be 0.
    """

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
        outputs = _forward(ctx, *arguments)
        ctx.mark_non_differentiable(*outputs[1:])
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * 4
        x, weight, mean, var = ctx.saved_tensors
        images, grads = x.flatten(0, 1), grad.flatten(0, 1)
        std = (var + ctx.eps).sqrt()  # with this as the weights of the normalisation its scale is 1
        if has_kernel(images):
            arguments = (images, std, std, mean, var, ctx.eps, True, grads, True, True, True)
            grad_x, sum_z, total = torch.ops.snnfast.batch_norm_backward(*arguments)
        else:
            weights, m, rstd = (v.to(state_dtype(x.dtype)) for v in (std, mean, 1 / std))
            grad_x, sum_z, total = torch.ops.aten.native_batch_norm_backward(
                *(grads.contiguous(), images.contiguous(), weights, None, None, m, rstd), *(True, ctx.eps, [True] * 3)
            )
        grad_x = grad_x.view(x.shape)
        if weight is None:
            return grad_x, None, None, None
        scale = weight / std
        return grad_x, (sum_z / scale).to(weight.dtype), (total / scale).to(weight.dtype), None


class _OfBatch(torch.autograd.Function):
    """The gradients from those of scale and shift, for any weights.

    With ``g = dL/dscale - m dL/dshift`` and ``n`` values per channel ``dL/dq = -g weight / (2 sqrt(q + eps)^3)`` and
    ``dL/dm = -scale dL/dshift``. The gradient of ``x`` is that of the returned ``x`` plus
    ``dL/dm / n + 2 (x - m) dL/dq / n``.
    """

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
        outputs = _forward(ctx, *arguments)
        ctx.mark_non_differentiable(*outputs[3:])
        return outputs

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad: Tensor | None, grad_scale: Tensor | None, grad_shift: Tensor | None, *_: Any
    ) -> tuple[Tensor | None, ...]:
        if grad is None or grad_scale is None or grad_shift is None:
            return (None,) * 4
        x, weight, mean, var = ctx.saved_tensors
        rstd = 1 / (var + ctx.eps).sqrt()
        g = grad_scale - mean * grad_shift
        scale = rstd if weight is None else weight * rstd
        n = x.numel() // x.shape[2]
        slope = -g * scale * rstd.square() / n
        summand = -scale * grad_shift / n
        # slope (x - mean) + summand, in one pass in any memory format
        unit = torch.ones_like(mean)
        m, unit, slope, summand = (v.to(grad_shift.dtype) for v in (mean, unit, slope, summand))
        grad_x = functional.batch_norm(x.flatten(0, 1), m, unit, slope, summand, eps=0.0)
        affine = (None, None) if weight is None else ((g * rstd).to(weight.dtype), grad_shift)
        return grad_x.view(x.shape) + grad, *affine, None
