"""BP-STDP of one layer pair in plain PyTorch: what the kernels of ``snnfast.ops.bp_stdp`` must compute."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from snnfast import check
from snnfast.calls.stdp import Reduction, Update
from snnfast.check import SPIKE_DTYPES

DTYPES = (torch.float32, torch.float64)

OP = "bp_stdp"


@dataclass(frozen=True)
class Rule:
    """The checked numbers of a call."""

    lr: float
    epsilon: int
    each_step: bool
    mean: bool

    def scale(self, batch: int) -> float:
        """What an error is multiplied by."""
        return self.lr / max(batch, 1) if self.mean else self.lr


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
    """See :func:`snnfast.ops.bp_stdp`."""
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
    spikes, errors = pre.detach() != 0, error.detach()
    batch = pre.shape[1]
    passed = w.new_zeros(pre.shape) if return_error else None
    changes: list[Change] = []
    counts = w.new_zeros(pre.shape[1:])
    for t in range(pre.shape[0]):
        move_window(counts, spikes, t, rule.epsilon)
        if passed is not None:
            passed[t] = pass_back(w, errors[t], counts)
        changes += [
            Change(rule.scale(batch) * errors[t, b], counts[b].clone()) for b in range(batch)
        ]
        if rule.each_step:
            apply(w, changes)
            changes = []
    apply(w, changes)
    return passed


@dataclass(frozen=True)
class Change:
    """What one sample changes in one step: the outer product of ``factor`` ``[O]`` and ``counts`` ``[I]``."""

    factor: Tensor
    counts: Tensor


def move_window(counts: Tensor, spikes: Tensor, t: int, epsilon: int) -> None:
    """Makes ``counts`` ``[B, I]`` of steps ``t - 1 - epsilon`` to ``t - 1`` those of ``t - epsilon`` to ``t``."""
    counts += spikes[t].to(counts)
    if t > epsilon:
        counts -= spikes[t - epsilon - 1].to(counts)


def pass_back(w: Tensor, error: Tensor, counts: Tensor) -> Tensor:
    """The error of the presynaptic neurons ``[B, I]``, summed in the order of the neurons that it comes from."""
    total = torch.zeros_like(counts)
    for o in range(w.shape[0]):
        total = total + error[:, o, None] * w[o]
    return torch.where(counts > 0, total, 0)


def apply(w: Tensor, changes: list[Change]) -> None:
    """Adds the changes one after the other."""
    with torch.no_grad():
        for change in changes:
            w += change.factor[:, None] * change.counts


def prepare(
    w: Tensor,
    pre: Tensor,
    error: Tensor,
    *,
    lr: float,
    epsilon: int,
    update: object,
    reduction: object,
    validate: bool,
) -> Rule:
    """Checks the arguments of :func:`bp_stdp`; nothing is changed."""
    check_weights(OP, "w", w)
    check_spikes(OP, "pre", pre, w)
    if pre.dim() != 3 or pre.shape[2] != w.shape[1]:
        raise ValueError(f"{OP}: pre must have shape [T, B, {w.shape[1]}], got {list(pre.shape)}")
    check.like(OP, "error", error, w.new_empty((*pre.shape[:2], w.shape[0])), w.device)
    rule = prepare_rule(OP, lr, epsilon, update, reduction)
    if validate:
        check_finite(OP, "w", w)
        check_finite(OP, "error", error)
    return rule


def prepare_rule(op: str, lr: object, epsilon: object, update: object, reduction: object) -> Rule:
    """The options that say how weights change."""
    if isinstance(epsilon, bool) or not isinstance(epsilon, int):
        raise TypeError(
            f"{op}: epsilon must be an integer number of steps, got {type(epsilon).__name__}"
        )
    if epsilon < 1:
        raise ValueError(f"{op}: epsilon must be at least 1 step, got {epsilon}")
    if update not in ("step", "sequence"):
        raise ValueError(f"{op}: update must be step or sequence, got {update!r}")
    if reduction not in ("sum", "mean"):
        raise ValueError(f"{op}: reduction must be sum or mean, got {reduction!r}")
    return Rule(check.at_least_zero(op, "lr", lr), epsilon, update == "step", reduction == "mean")


def check_weights(op: str, name: str, w: object) -> None:
    """A matrix of float32 or float64 that may be changed in place."""
    if not isinstance(w, Tensor):
        raise TypeError(f"{op}: {name} must be a tensor, got {type(w).__name__}")
    if w.dtype not in DTYPES:
        raise TypeError(f"{op}: {name} must have dtype float32 or float64, got {w.dtype}")
    if w.dim() != 2:
        raise ValueError(f"{op}: {name} must have shape [N_post, N_pre], got {list(w.shape)}")
    if any(stride == 0 and size > 1 for stride, size in zip(w.stride(), w.shape, strict=True)):
        raise ValueError(f"{op}: {name} must not overlap itself, got strides {list(w.stride())}")


def check_spikes(op: str, name: str, value: object, w: Tensor) -> None:
    """Spikes on the device of the weights; what is not 0 is one."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {name} must be a tensor, got {type(value).__name__}")
    if value.dtype not in SPIKE_DTYPES:
        names = ", ".join(str(d).removeprefix("torch.") for d in SPIKE_DTYPES)
        raise TypeError(f"{op}: {name} must have one of the dtypes {names}, got {value.dtype}")
    if value.device != w.device:
        raise ValueError(f"{op}: {name} must be on the device of w, {w.device}, got {value.device}")


def check_finite(op: str, name: str, value: Tensor) -> None:
    """Neither NaN nor infinite, where values can be looked at."""
    if not check.is_recorded(value.device) and not bool(value.detach().isfinite().all()):
        raise ValueError(f"{op}: {name} must be finite")
