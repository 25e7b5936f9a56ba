"""Batch normalisation over a batch that several processes share, and running statistics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

__all__ = ["OverAllProcesses", "keep_statistics", "over_all_processes"]


@torch.no_grad()
def keep_statistics(norm: Any, mean: Tensor, var: Tensor, n: float | Tensor) -> None:
    """Update the running statistics of a layer in training mode, if it has any, as PyTorch's layers do.

    Args:
        norm: ``nn.BatchNorm1d``, ``2d`` or ``3d``.
        mean: mean of the batch, ``[C]``, in float64.
        var: biased variance of the batch, ``[C]``, in float64.
        n: number of values per channel.
    """
    if not norm.training or norm.running_mean is None:
        return
    norm.num_batches_tracked.add_(1)
    weight = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    for running, new in ((norm.running_mean, mean), (norm.running_var, var * (n / (n - 1)))):
        running.copy_(running.to(new.dtype) * (1 - weight) + new * weight)


@contextmanager
def over_all_processes(model: nn.Module) -> Iterator[None]:
    """Normalise inside, in training mode, by the mean and variance over the shares of all processes.

    Every process of ``torch.distributed`` must run ``model``, also one with an empty share. Parameters, buffers and
    keys stay, and running statistics become those of one process with the whole batch. On exit the layers are
    PyTorch's again.

    ``torch.nn.SyncBatchNorm`` does the same, but only on GPUs, and with modules that replace those of the network.

    Args:
        model: its ``nn.BatchNorm1d``, ``2d`` and ``3d`` layers are changed; subclasses of these are not.

    Raises:
        ValueError: from the layers, if all processes together have one value per channel, or the shape does not fit.
    """
    norms = [(module, type(module)) for module in model.modules() if type(module) in _KINDS]
    for module, kind in norms:
        module.__class__ = _KINDS[kind]
    try:
        yield
    finally:
        for module, kind in norms:
            module.__class__ = kind


class OverAllProcesses(nn.modules.batchnorm._BatchNorm):
    """A batch normalisation inside :func:`over_all_processes`."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` ``[B, C, ...]``."""
        if not (self.training or self.running_mean is None):
            return super().forward(x)
        self._check_input_dim(x)  # type: ignore[no-untyped-call]
        y, mean, var, n = _Normalize.apply(x, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
        keep_statistics(self, mean, var, n)
        return y  # type: ignore[no-any-return]


_KINDS: dict[type[nn.Module], type[nn.Module]] = {
    kind: type(kind.__name__, (OverAllProcesses, kind), {}) for kind in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
}


class _Normalize(torch.autograd.Function):
    """``y = z weight + bias``, ``z = (x - mean) / sqrt(var + eps)``, mean and variance over ``x`` of all processes.

    The loss of every process depends on these statistics. With ``g = dL/dz`` and means over all processes,
    ``dL/dx = (g - mean(g) - z mean(g z)) / sqrt(var + eps)`` (Ioffe and Szegedy 2015, section 3).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        local = x.numel() // x.shape[1]
        n = torch.full((1,), local, dtype=torch.float64, device=x.device)
        sums, n = _over_processes(_by_channel(x), n)
        # Several values in this process suffice: reading n would make a GPU wait.
        if local < 2 and int(n) < 2:
            raise ValueError(f"expected more than 1 value a channel in all processes together, got {int(n)}")
        state = torch.promote_types(x.dtype, torch.float32)
        mean = (sums / n).to(state)
        (squares,) = _over_processes(_by_channel((x - _wide(mean, x)).square()))
        var = (squares / n).to(state)
        ctx.save_for_backward(x, weight, mean, (var + eps).rsqrt(), n)
        ctx.mark_non_differentiable(mean, var, n)
        y = functional.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)
        return y, mean, var, n

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *unused: Any) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        x, weight, mean, scale, n = ctx.saved_tensors
        z = (x - _wide(mean, x)) * _wide(scale, x)
        local_sums = _by_channel(grad), _by_channel(grad * z)
        total, total_z = (_wide((s / n).to(z.dtype), x) for s in _over_processes(*local_sums))
        if weight is not None:
            scale = scale * weight
        grad_x = (grad - total - z * total_z) * _wide(scale, x)
        if weight is None:
            return grad_x.to(x.dtype), None, None, None
        grad_bias, grad_weight = (s.to(weight.dtype) for s in local_sums)
        return grad_x.to(x.dtype), grad_weight, grad_bias, None


def _by_channel(x: Tensor) -> Tensor:
    """Sum ``x`` ``[B, C, ...]`` over all dimensions except the channels."""
    return x.sum([d for d in range(x.dim()) if d != 1], dtype=torch.float64)


def _wide(values: Tensor, x: Tensor) -> Tensor:
    """View ``values`` per channel ``[C]`` for broadcasting with ``x`` ``[B, C, ...]``."""
    return values.view(-1, *(1,) * (x.dim() - 2))


def _over_processes(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the sums of the tensors over all processes, with one message."""
    message = torch.cat(tensors)
    distributed.all_reduce(message)
    parts: tuple[Tensor, ...] = message.split([len(tensor) for tensor in tensors])
    return parts
