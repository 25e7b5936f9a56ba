"""Synaptic operations of a product, as NeuroBench counts them.

An operation is the effect of a nonzero input on an output through a nonzero weight; biases do not count. It is an
accumulate if all inputs of a call are -1, 0 or 1, else a multiply-accumulate (Yik et al. 2025, "The NeuroBench
framework for benchmarking neuromorphic computing algorithms and systems", section "Synaptic operations").
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from snnfast import check
from snnfast.nn.sparse_linear import SparseLinear
from snnfast.nn.sparse_recurrent import SparseRecurrent

__all__ = ["active_inputs", "are_spikes", "arriving", "fan_out", "is_product", "sample_dims", "sparse_operations"]

# Type of a product -> number of dimensions of an input sample.
_PRODUCTS: dict[type[nn.Module], int] = {
    nn.Linear: 1,
    SparseLinear: 1,
    nn.Conv1d: 2,
    nn.Conv2d: 3,
    nn.Conv3d: 4,
    nn.ConvTranspose1d: 2,
    nn.ConvTranspose2d: 3,
    nn.ConvTranspose3d: 4,
}


def is_product(module: nn.Module) -> bool:
    """Return whether operations of a module can be counted."""
    return isinstance(module, tuple(_PRODUCTS))


def sample_dims(product: nn.Module) -> int:
    """Return the number of dimensions of an input sample."""
    return _PRODUCTS[_kind(product)]


def are_spikes(x: Tensor) -> Tensor:
    """Return whether all values are -1, 0 or 1, as a tensor: reading it would synchronise with the GPU."""
    return ((x == 0) | (x == 1) | (x == -1)).all()


def active_inputs(product: nn.Module, x: Tensor) -> Tensor:
    """Return how often each input of a sample is not 0, float64, over all samples of ``x``."""
    active = (x != 0).reshape(-1, *x.shape[x.dim() - sample_dims(product) :])
    return active.sum(0, dtype=torch.float64)


def arriving(spikes: Tensor, delays: Tensor | None, past: Tensor | None) -> Tensor:
    """Return the spikes that arrive at recurrent neurons in a call; without ``past``, from its second step on.

    Args:
        spikes: spikes of the call, ``[T, ..., H]``.
        delays: ``[H]``, in addition to the step that all spikes take, as in :func:`snnfast.ops.recurrent`.
        past: spikes before the call, ``[P, ..., H]``, in a layer that keeps them; None: there were none.
    """
    sent = spikes if past is None else torch.cat([past.to(spikes), spikes])
    first = max(len(sent) - len(spikes), 1)
    if delays is None:
        return sent[first - 1 : -1]
    delays = delays.detach().clamp(0, len(sent) + 1).to(check.state_dtype(spikes.dtype))
    whole_steps = delays.floor()
    late, before = delays - whole_steps, int(whole_steps.max()) + 1
    # No spikes before: rows of zeros.
    rows = torch.nn.functional.pad(sent, (0, 0) * (sent.dim() - 1) + (before, 0))
    steps = torch.arange(len(sent), device=spikes.device)[first:] - 1
    index = (steps[:, None] + before - whole_steps.long()).view(-1, *(1,) * (spikes.dim() - 2), len(whole_steps))
    index = index.expand(-1, *spikes.shape[1:])
    return (1 - late) * rows.gather(0, index) + late * rows.gather(0, index - 1)


def sparse_operations(layer: SparseRecurrent, spikes: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return operations of sparse connections in a call, the number if all neurons fired, and :func:`are_spikes`.

    Args:
        layer: the layer.
        spikes: spikes of the call, ``[T, ..., H]``.
        past: spikes before the call, ``[P, ..., H]``, in a layer that keeps them; None: there were none.
    """
    c, sent = layer.connectivity, spikes if past is None else torch.cat([past.to(spikes), spikes])
    weight = torch.as_tensor(layer.weight).expand(c.n_pre) if not isinstance(layer.weight, Tensor) else layer.weight
    counted = (c.per_synapse(weight.detach().cpu()) != 0).cumsum(0)
    paths = torch.cat([counted.new_zeros(1), counted])[c.first].diff().view(c.n_pre, -1).to(spikes.device)
    operations = torch.zeros(c.n_pre, dtype=torch.float64, device=spikes.device)
    dense, samples = 0.0, spikes[0].numel() / max(c.n_pre, 1)
    for k, step in enumerate(c.steps.tolist()):
        arrived = sent[max(len(sent) - len(spikes) - step, 0) : max(len(sent) - step, 0)]
        operations += (arrived != 0).flatten(0, -2).sum(0, dtype=torch.float64) * paths[:, k]
        dense += len(arrived) * samples * float(c.first.diff().view(c.n_pre, -1)[:, k].sum())
    return operations, operations.new_tensor(dense), are_spikes(sent)


def fan_out(product: nn.Module, shape: torch.Size, *, dense: bool = False) -> Tensor:
    """Return the number of outputs of each input of a sample, float64; with ``dense`` including weights of 0."""
    kind = _kind(product)
    weight = torch.as_tensor(product.weight)
    # In inference mode and under autocast this gradient would not exist. The hooks hide the saved tensors from an
    # activation checkpoint around the product.
    with (
        torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(weight.device.type, enabled=False),
    ):
        unit_weight = torch.ones(weight.shape, dtype=torch.float64, device=weight.device)
        counter = copy.copy(product)
        vars(counter).pop("weight", None)  # a number
        counter._parameters = {"weight": unit_weight if dense else unit_weight * (weight != 0), "bias": None}  # type: ignore[dict-item]
        x = torch.ones(1, *shape, dtype=torch.float64, device=weight.device, requires_grad=True)
        (paths,) = torch.autograd.grad(kind.forward(counter, x).sum(), x)
    return paths[0]


def _kind(product: nn.Module) -> type[nn.Module]:
    """Return the class of PyTorch that defines the product."""
    return next(kind for kind in _PRODUCTS if isinstance(product, kind))
