"""A network trained by BP-STDP in plain PyTorch: what the kernels of ``snnfast.ops.bp_stdp_network`` must compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from snnfast import check
from snnfast.calls.presentations import Presentations, Rates, rates
from snnfast.calls.stdp import Reduction, Update
from snnfast.reference.bp_stdp import (
    Change,
    Rule,
    apply,
    check_finite,
    check_spikes,
    check_weights,
    move_window,
    pass_back,
    prepare_rule,
)
from snnfast.reference.presentations import spikes_of

OP = "bp_stdp_network"
LAYERS = 16  # at most


class BpStdpNetworkResult(NamedTuple):
    """What a network answered.

    Attributes:
        spikes: of the outputs, bool ``[T, P, O]``.
        hidden: of every hidden layer, bool ``[T, P, H]`` each; None unless asked for.
        state: membranes of every layer after the last step, ``[P, N]`` each; None unless asked for.
    """

    spikes: Tensor
    hidden: tuple[Tensor, ...] | None
    state: tuple[Tensor, ...] | None


@dataclass(frozen=True)
class Settings:
    """The checked arguments of a call."""

    rule: Rule
    learns: bool
    thresholds: list[float]
    batch: int


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
    """See :func:`snnfast.ops.bp_stdp_network`."""
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
    w = [v.detach() for v in weights]
    inputs = w[0].shape[1]
    if isinstance(x, Rates):
        drawn = [
            spikes_of(
                Presentations(hz=x.hz, seeds=x.seeds, num_steps=x.num_steps, per_hz=dt / 1000),
                p,
                inputs,
            )
            for p in range(len(x.hz))
        ]
        fired = torch.stack(drawn, 1) if drawn else x.hz.new_zeros((x.num_steps, 0, inputs)) != 0
    else:
        fired = x.detach() != 0
    num_steps, samples = fired.shape[:2]
    rasters = [fired.new_zeros((num_steps, samples, len(v))) for v in w]
    after = [v.new_zeros((samples, len(v))) for v in w]
    for first in range(0, samples, a.batch):
        group = slice(first, first + a.batch)
        membranes = [v[group] for v in after if state is None] or [v[group] for v in state or ()]
        network = _Network(w, a, [v.detach().clone() for v in membranes])
        taught = None
        if labels is not None and desired is not None:
            taught = (labels[group], desired[:, group])
        spikes = network.present(fired[:, group], taught)
        for raster, layer_spikes in zip(rasters, spikes, strict=True):
            raster[:, group] = layer_spikes
        for v, last in zip(after, network.v, strict=True):
            v[group] = last
    return BpStdpNetworkResult(
        rasters[-1],
        tuple(rasters[:-1]) if return_hidden else None,
        tuple(after) if return_state else None,
    )


class _Network:
    """One step after the other, one layer after the other, as the equations are written."""

    def __init__(self, w: list[Tensor], settings: Settings, v: list[Tensor]) -> None:
        self.w, self.settings, self.v = w, settings, v

    def present(self, x: Tensor, taught: tuple[Tensor, Tensor] | None) -> list[Tensor]:
        """Spikes ``[T, B, N]`` of every layer in response to ``x`` ``[T, B, I]``; learns if it is taught."""
        rule = self.settings.rule
        spikes = [x, *(x.new_zeros((*x.shape[:2], len(w))) for w in self.w)]
        counts = [
            w.new_zeros((x.shape[1], n.shape[2])) for w, n in zip([self.w[0], *self.w], spikes)
        ]
        changes: list[list[Change]] = [[] for _ in self.w]
        for t in range(x.shape[0]):
            for depth, w in enumerate(self.w):
                v = self.v[depth] + current(w, spikes[depth][t])
                spikes[depth + 1][t] = v >= self.settings.thresholds[depth]
                self.v[depth] = torch.where(spikes[depth + 1][t], 0, v)
            if taught is None:
                continue
            for n, s in zip(counts, spikes, strict=True):
                move_window(n, s, t, rule.epsilon)
            self._errors(counts, taught[0], taught[1][t], changes)
            if rule.each_step:
                self._apply(changes)
        self._apply(changes)
        return spikes[1:]

    def _errors(
        self, counts: list[Tensor], labels: Tensor, desired: Tensor, changes: list[list[Change]]
    ) -> None:
        scale = self.settings.rule.scale(len(labels))
        error = output_error(counts[-1] > 0, labels, desired).to(self.w[0].dtype)
        for depth in reversed(range(len(self.w))):
            changes[depth] += [
                Change(scale * error[b], counts[depth][b].clone())
                for b in desired.nonzero().flatten().tolist()
            ]
            if depth > 0:
                error = pass_back(self.w[depth], error, counts[depth])

    def _apply(self, changes: list[list[Change]]) -> None:
        for w, of_layer in zip(self.w, changes, strict=True):
            apply(w, of_layer)
            of_layer.clear()


def current(w: Tensor, spikes: Tensor) -> Tensor:
    """Input current ``[B, O]``, the weights of the spikes ``[B, I]`` summed in the order of the inputs."""
    total = w.new_zeros((len(spikes), len(w)))
    for i in spikes.any(0).nonzero().flatten().tolist():
        total = total + torch.where(spikes[:, i, None], w[:, i], 0)
    return total


def output_error(fired: Tensor, labels: Tensor, desired: Tensor) -> Tensor:
    """The error of the outputs in one step, -1, 0 or 1.

    Args:
        fired: whether an output fired in the window, bool ``[..., B, O]``.
        labels: int64 ``[B]``.
        desired: whether the output of the class should fire in the step, bool ``[..., B]``.
    """
    own = torch.nn.functional.one_hot(labels, fired.shape[-1]).bool()
    return (own & ~fired).int().sub_((~own & fired).int()) * desired[..., None]


def prepare(
    weights: Sequence[Tensor],
    x: Tensor | Rates,
    labels: Tensor | None,
    desired: Tensor | None,
    *,
    thresholds: Sequence[float],
    dt: float,
    lr: float,
    epsilon: int,
    update: object,
    reduction: object,
    batch: int | None,
    state: Sequence[Tensor] | None,
    validate: bool,
) -> Settings:
    """Checks the arguments of :func:`bp_stdp_network`; nothing is changed."""
    _weights(weights)
    first = weights[0]
    check.positive(OP, "dt", dt)
    if isinstance(x, Rates):
        given = rates(OP, x, first.shape[1], first.device, dt, validate)
        num_steps, samples = x.num_steps, len(x.hz)
    else:
        check_spikes(OP, "x", x, first)
        if x.dim() != 3 or x.shape[2] != first.shape[1]:
            raise ValueError(
                f"{OP}: x must have shape [T, P, {first.shape[1]}], got {list(x.shape)}"
            )
        num_steps, samples = x.shape[:2]
    rule = prepare_rule(OP, lr, epsilon, update, reduction)
    if len(thresholds) != len(weights):
        raise ValueError(
            f"{OP}: thresholds must be one a layer, {len(weights)}, got {len(thresholds)}"
        )
    limits = [check.positive(OP, f"thresholds[{depth}]", v) for depth, v in enumerate(thresholds)]
    if (labels is None) != (desired is None):
        raise ValueError(f"{OP}: give labels and desired, or neither")
    if labels is not None and desired is not None:
        if state is not None:
            raise ValueError(f"{OP}: state must be None where the network learns")
        _taught(labels, desired, first, (num_steps, samples), len(weights[-1]), validate)
    if state is not None:
        _state(state, weights, samples)
    if validate:
        for depth, w in enumerate(weights):
            check_finite(OP, f"weights[{depth}]", w)
    return Settings(rule, labels is not None, limits, _batch(batch, samples))


def _weights(weights: object) -> None:
    if not isinstance(weights, Sequence):
        raise TypeError(
            f"{OP}: weights must be a sequence of tensors, got {type(weights).__name__}"
        )
    if not 1 <= len(weights) <= LAYERS:
        raise ValueError(f"{OP}: weights must hold 1 to {LAYERS} matrices, got {len(weights)}")
    for depth, w in enumerate(weights):
        check_weights(OP, f"weights[{depth}]", w)
    for depth, (before, w) in enumerate(pairwise(weights), 1):
        name = f"{OP}: weights[{depth}]"
        if w.shape[1] != before.shape[0]:
            raise ValueError(f"{name} must have shape [N, {before.shape[0]}], got {list(w.shape)}")
        if w.dtype != before.dtype:
            raise TypeError(
                f"{name} must have the dtype of weights[0], {before.dtype}, got {w.dtype}"
            )
        if w.device != before.device:
            raise ValueError(
                f"{name} must be on the device of weights[0], {before.device}, got {w.device}"
            )


def _taught(
    labels: Tensor,
    desired: Tensor,
    w: Tensor,
    shape: tuple[int, int],
    classes: int,
    validate: bool,
) -> None:
    check.like(OP, "labels", labels, w.new_empty(shape[1], dtype=torch.int64), w.device)
    check.like(OP, "desired", desired, w.new_empty(shape, dtype=torch.bool), w.device)
    if validate and labels.numel() and not check.is_recorded(labels.device):
        low, high = (int(v) for v in labels.aminmax())
        if low < 0 or high >= classes:
            raise ValueError(
                f"{OP}: labels must lie in [0, {classes - 1}], got values from {low} to {high}"
            )


def _state(state: Sequence[Tensor], weights: Sequence[Tensor], samples: int) -> None:
    if len(state) != len(weights):
        raise ValueError(
            f"{OP}: state must be one tensor a layer, {len(weights)}, got {len(state)}"
        )
    for depth, (v, w) in enumerate(zip(state, weights, strict=True)):
        check.like(OP, f"state[{depth}]", v, w.new_empty((samples, len(w))), w.device)


def _batch(batch: object, samples: int) -> int:
    if batch is None:
        return max(samples, 1)
    if isinstance(batch, bool) or not isinstance(batch, int):
        raise TypeError(f"{OP}: batch must be an integer or None, got {type(batch).__name__}")
    if batch < 1:
        raise ValueError(f"{OP}: batch must be at least 1, got {batch}")
    return batch
