"""Batch normalisation, channel by channel."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from snnfast import check

from .call import reference_op

OP = "batch_norm"


class BatchNormCall(NamedTuple):
    """See :func:`batch_norm`."""

    x: Tensor
    weight: Tensor | None
    bias: Tensor | None
    mean: Tensor | None
    var: Tensor | None
    eps: float


def _batch_norm(call: BatchNormCall) -> tuple[Tensor, Tensor, Tensor]:
    channels = (-1, *(1,) * (call.x.dim() - 2))
    dims = [d for d in range(call.x.dim()) if d != 1]
    x = call.x.double()
    if call.mean is None or call.var is None:
        mean = x.mean(dims)
        var = (x - mean.view(channels)).square().mean(dims)
    else:
        mean, var = call.mean.double(), call.var.double()
    y = (x - mean.view(channels)) / (var + call.eps).sqrt().view(channels)
    if call.weight is not None:
        y = y * call.weight.double().view(channels)
    if call.bias is not None:
        y = y + call.bias.double().view(channels)
    return y.to(call.x.dtype), mean.detach(), var.detach()


@reference_op(_batch_norm)
def batch_norm(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    mean: Tensor | None = None,
    var: Tensor | None = None,
    *,
    eps: float = 1e-5,
) -> BatchNormCall:
    """Batch normalisation of channels: PyTorch's ``batch_norm``, on the CPU with exact sums channels-last, too.

        y[b, c, ...] = weight[c] (x[b, c, ...] - mean[c]) / sqrt(var[c] + eps) + bias[c]

    Without ``mean`` and ``var`` these are the mean and the biased variance of ``x`` over all dimensions but the second
    (Ioffe and Szegedy, Batch Normalization, ICML 2015), and the gradient of ``x`` goes through them, too. With ``z =
    (x - mean) / sqrt(var + eps)`` and means over the same dimensions::

        dL/dx      = weight / sqrt(var + eps) (dL/dy - mean(dL/dy) - z mean(z dL/dy))     without mean and var
        dL/dx      = weight / sqrt(var + eps) dL/dy                                       with mean and var
        dL/dweight = sum of z dL/dy           dL/dbias = sum of dL/dy

    The kernels are for the CPU, for channels-last ``x`` in float32, bfloat16 or float64, and for ``[B, C]`` from 2**18
    values on. Their sums are in float64 over blocks of 16 rows, in the same order for any number of threads. In all
    other cases (contiguous images, float16, CUDA, ``torch.compile``, ``torch.vmap``) PyTorch's function runs, on the
    CPU with a contiguous ``x``: for images its sums are then in float64, too.

    Args:
        x: ``[B, C, ...]``, float32, float64, bfloat16 or float16.
        weight: ``[C]``, in the dtype of ``x``, or float32 for a narrower ``x``; 1 if None.
        bias: the same; 0 if None.
        mean: ``[C]``, without gradient, for example a running mean; that of ``x`` if None.
        var: ``[C]``; given if ``mean`` is.
        eps: added to the variance; positive, or with ``mean`` and ``var`` at least 0.

    Returns:
        ``(y, mean, var)``: ``y`` like ``x``; the mean and variance used, ``[C]`` in float64, without gradients.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype or device, or if ``x`` has fewer than two
            values per channel to compute ``mean`` and ``var``.
        RuntimeError: for second derivatives and forward-mode differentiation of the kernels.
    """
    check.tensor(OP, "x", x)
    check.dtype(OP, "x", x.dtype, check.FLOATING)
    if x.dim() < 2:
        raise ValueError(f"{OP}: x must have shape [B, C, ...], got {list(x.shape)}")
    check.elements(OP, "x", x.shape)
    channels = x.shape[1]
    learned = (("weight", weight), ("bias", bias))
    for name, value in (*learned, ("mean", mean), ("var", var)):
        if value is None:
            continue
        check.shape(OP, name, value, (channels,))
        check.on_device(OP, name, value, "x", x.device)
        allowed = (x.dtype, check.state_dtype(x.dtype))
        if name in ("mean", "var"):
            check.dtype(OP, name, value.dtype, check.FLOATING)
            if value.requires_grad:
                raise ValueError(f"{OP}: {name} must not require a gradient")
        elif value.dtype not in allowed:
            check.dtype(OP, name, value.dtype, tuple(dict.fromkeys(allowed)))
    if (mean is None) != (var is None):
        present, missing = ("var", "mean") if mean is None else ("mean", "var")
        raise ValueError(f"{OP}: {missing} must be given if {present} is")
    if mean is None and x.numel() <= channels:
        raise ValueError(
            f"{OP}: x must have more than 1 value a channel to take its mean and variance of, got shape {list(x.shape)}"
        )
    above = check.positive if mean is None else check.at_least_zero
    return BatchNormCall(x, weight, bias, mean, var, above(OP, "eps", eps))
