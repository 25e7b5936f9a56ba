"""Network trained by BP-STDP: Tavanaei and Maida 2019."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from snnfast import check

from .bp_stdp import Change, apply, move_window, pass_back
from .call import ChangedList, Parameter, Parameters, reference_op
from .networks import networks_of, of_network, of_networks, part
from .presentations import Presentations, Rates, rates, size, spikes_of
from .stdp import Reduction, Update

LAYERS = 16  # largest number; csrc/core/bp_stdp_network.h


SHAPES = ("N_post", "N_pre"), ("K", "N_post", "N_pre")


class BpStdpNetworkResult(NamedTuple):
    """Result of presentations to a network.

    For K networks at once each tensor is ``[K, ...]``.

    Attributes:
        spikes: spikes of the outputs, bool ``[T, P, O]``.
        hidden: spikes of every hidden layer, bool ``[T, P, H]`` each; None without ``return_hidden``.
        state: membranes of every layer after the last step, ``[P, N]`` each; None without ``return_state``.
    """

    spikes: Tensor
    hidden: tuple[Tensor, ...] | None
    state: tuple[Tensor, ...] | None


class BpStdpNetworkCall(NamedTuple):
    """See :func:`bp_stdp_network_`; an empty ``state`` means rest."""

    weights: ChangedList
    x: Presentations
    labels: Tensor | None
    desired: Tensor | None
    thresholds: Parameters
    lr: Parameter
    mean: bool
    epsilon: int
    each_step: bool
    batch: int
    state: list[Tensor]
    return_hidden: bool
    return_state: bool

    def network(self, k: int) -> BpStdpNetworkCall:
        """Return the call of network ``k``, which changes its part of the weights."""
        return self._replace(
            weights=[w[k] for w in self.weights],
            x=self.x.network(k),
            labels=part(self.labels, 1, k),
            desired=part(self.desired, 2, k),
            thresholds=of_network(self.thresholds, k),
            lr=of_network(self.lr, k),
            state=[v[k] for v in self.state],
        )


def _bp_stdp_network(call: BpStdpNetworkCall) -> BpStdpNetworkResult:
    samples, num_steps = call.x.shape
    networks = call.weights[0].shape[:-2]
    rasters, after = [], [v.clone() for v in call.state]
    for w in call.weights:
        shape = *networks, num_steps, samples, w.shape[-2]
        rasters.append(w.new_zeros(shape, dtype=torch.bool))
        if not call.state:
            after.append(w.new_zeros((*networks, samples, w.shape[-2])))
    if not networks:
        present_all(call, rasters, after)
    for k in range(*networks) if networks else ():
        present_all(call.network(k), [s[k] for s in rasters], [v[k] for v in after])
    return BpStdpNetworkResult(
        rasters[-1], tuple(rasters[:-1]) if call.return_hidden else None, tuple(after) if call.return_state else None
    )


def present_all(call: BpStdpNetworkCall, rasters: list[Tensor], membranes: list[Tensor]) -> None:
    """Present all samples to one network, a batch at a time; fill ``rasters`` ``[T, P, N]``, one per layer."""
    w = [v.detach() for v in call.weights]
    samples, num_steps = call.x.shape
    x = w[0].new_zeros((num_steps, samples, w[0].shape[1]), dtype=torch.bool)
    for p in range(samples):
        x[:, p] = spikes_of(call.x, p, w[0].shape[1])
    for first in range(0, samples, call.batch):
        group = slice(first, first + call.batch)
        taught = None
        if call.labels is not None and call.desired is not None:
            taught = call.labels[group], call.desired[:, group]
        membranes_of_batch = [v[group] for v in membranes]
        present(call, w, x[:, group], membranes_of_batch, [s[:, group] for s in rasters], taught)


def present(
    call: BpStdpNetworkCall,
    w: list[Tensor],
    x: Tensor,
    membranes: list[Tensor],
    rasters: list[Tensor],
    taught: tuple[Tensor, Tensor] | None,
) -> None:
    """Fill ``rasters`` ``[T, B, N]``, one per layer, with the response to ``x`` ``[T, B, I]``; learn if taught."""
    spikes = [x, *rasters]
    counts = [w[0].new_zeros(s.shape[1:]) for s in spikes]
    changes: list[list[Change]] = [[] for _ in w]
    for t in range(len(x)):
        for depth, v in enumerate(membranes):
            v += current(w[depth], spikes[depth][t])
            fired = v >= call.thresholds[depth]
            spikes[depth + 1][t] = fired
            v[fired] = 0
        if taught is None:
            continue
        for n, s in zip(counts, spikes):
            move_window(n, s, t, call.epsilon)
        labels, desired = taught[0], taught[1][t]
        scale = call.lr / len(labels) if call.mean else call.lr
        error = output_error(counts[-1] > 0, labels, desired).to(w[0].dtype)
        for depth in reversed(range(len(w))):
            wanted = desired.nonzero().flatten().tolist()
            changes[depth] += [Change(scale * error[b], counts[depth][b].clone()) for b in wanted]
            if depth > 0:
                error = pass_back(w[depth], error, counts[depth])
        if call.each_step or t == len(x) - 1:
            for layer, of_layer in zip(w, changes):
                apply(layer, of_layer)


def current(w: Tensor, spikes: Tensor) -> Tensor:
    """Return the input current ``[B, O]``: weights of the spikes ``[B, I]``, summed in the order of the inputs."""
    total = w.new_zeros((len(spikes), len(w)))
    for i in spikes.any(0).nonzero().flatten().tolist():
        total = total + torch.where(spikes[:, i, None], w[:, i], 0)
    return total


def output_error(fired: Tensor, labels: Tensor, desired: Tensor) -> Tensor:
    """Return the error of the outputs in one step: -1, 0 or 1.

    Args:
        fired: whether an output fired in the window, bool ``[..., B, O]``.
        labels: int64 ``[B]``.
        desired: whether the output of the class should fire in the step, bool ``[..., B]``.
    """
    is_class = torch.nn.functional.one_hot(labels, fired.shape[-1]).bool()
    return (is_class & ~fired).int().sub_((~is_class & fired).int()) * desired[..., None]


@reference_op(_bp_stdp_network)
def bp_stdp_network_(
    weights: Sequence[Tensor],
    x: Tensor | Rates,
    labels: Tensor | None = None,
    desired: Tensor | None = None,
    *,
    thresholds: Sequence[float | Sequence[float]],
    dt: float = 1.0,
    lr: float | Sequence[float] = 0.0005,
    epsilon: int = 4,
    update: Update = "step",
    reduction: Reduction = "sum",
    batch: int | None = None,
    state: Sequence[Tensor] | None = None,
    return_hidden: bool = False,
    return_state: bool = False,
    validate: bool = True,
) -> BpStdpNetworkCall:
    """Present spikes to a network of integrate-and-fire neurons, which learns to fire at desired times.

    In each step layers are computed one after the other, with the spikes of the previous layer in the same step::

        v <- v + sum of w[:, i] over the neurons i of the previous layer that fire, in the order of i
        s = v >= threshold;  v <- 0 where s

    With ``labels`` and ``desired`` it learns, in the steps in which ``desired[t, p]`` asks the output of class
    ``labels[p]`` for a spike. With the window of :func:`bp_stdp_`, the error of that output is 1 if it did not fire in
    the window; the error of any other output is -1 if it did. :func:`bp_stdp_` then changes the weights of the last
    layer, passes the error back, and so on to the first layer; all errors are computed with the weights before any
    change.

    ``batch`` samples are presented at a time, from rest, with the weights after the previous presentation.
    Within a presentation the changes of all samples are added in each step or after the last, as ``update``
    says, in the order of the steps and then of the samples. Without labels nothing changes.

    The weights are **changed in place**; nothing is changed when an error is raised. There is no gradient. Work grows
    with the spikes; the CPU kernels equal the reference bit for bit. On CUDA all steps of all samples are one launch.

    Weights ``[K, N, N of the previous layer]`` are K independent networks at once; each equals a single network bit for
    bit. ``state`` and results then have K as first dimension; ``x``, its rates or seeds, ``labels`` and ``desired``
    do not need it if all networks get the same. The learning rate and each threshold may be K
    numbers, one for each network. On the CPU each thread takes a network; on CUDA all networks are one
    launch.

    Args:
        weights: one matrix per layer, ``[N, N of the previous layer]``, or ``[K, ...]`` of several networks, float32
            or float64, 16 layers at most, no two of which share memory.
        x: input spikes ``[T, P, I]`` of P samples, bool, uint8 or floating point (anything but 0 is a spike), or
            :class:`Rates`, whose spikes are drawn in the kernel and never stored.
        labels: class of each sample, int64 ``[P]``.
        desired: when the output of the class should fire, bool ``[T, P]``; from :func:`snnfast.encoder.desired_times`.
        thresholds: one for each layer, each a number or K of them, above 0 in the dtype of the weights.
        dt: length of a step in ms, for :class:`Rates`; nothing else depends on it.
        lr: learning rate, at least 0, a number or K of them.
        epsilon: number of earlier steps in a window, at least 1.
        update: ``"step"`` or ``"sequence"``.
        reduction: ``"sum"`` or ``"mean"`` of the changes over the samples of a presentation.
        batch: samples presented at a time; None: all.
        state: membranes ``[P, N]`` of each layer to start from, only without labels; they are not changed. None: 0.
        return_hidden: return the spikes of the hidden layers.
        return_state: return the membranes.
        validate: check the values of ``weights`` and ``labels``; on CUDA this waits for the device.

    Returns:
        :class:`BpStdpNetworkResult`.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.

    Source: Tavanaei and Maida, BP-STDP: Approximating backpropagation using spike timing dependent plasticity,
    Neurocomputing 330 (2019), section 3 and algorithm 1.
    """
    op = "bp_stdp_network_"
    check.flag(op, "validate", validate)
    _weights(op, weights)
    first, step = weights[0], check.positive(op, "dt", dt)
    inputs, networks = first.shape[-1], networks_of(first)
    if isinstance(x, Rates):
        stimuli = rates(op, x, inputs, first.device, step, validate, networks)
    else:
        per_network = isinstance(x, Tensor) and networks is not None and x.dim() == 4
        check.spikes(op, "x", x, (*((networks,) if per_network else ()), "T", "P", inputs), first)
        stimuli = Presentations(spikes=x.detach().transpose(-3, -2))
    samples, num_steps = stimuli.shape
    size(op, num_steps, inputs)
    size(op, num_steps, max(w.shape[-2] for w in weights), "neurons")
    check.integer(op, "epsilon", epsilon)
    check.choice(op, "update", update, ("step", "sequence"))
    check.choice(op, "reduction", reduction, ("sum", "mean"))
    rate = check.setting(op, "lr", lr, networks, check.at_least_zero)
    limits = _thresholds(op, thresholds, weights, networks)
    if (labels is None) != (desired is None):
        raise ValueError(f"{op}: give labels and desired, or neither")
    if labels is not None and state is not None:
        raise ValueError(f"{op}: state must be None where the network learns")
    if labels is not None:
        _taught(op, "labels", labels, (samples,), torch.int64, first)
        _taught(op, "desired", desired, (num_steps, samples), torch.bool, first)
        if validate:
            check.in_range(op, "labels", labels, 0, weights[-1].shape[-2] - 1)
    if state is not None:
        _one_a_layer(op, "state", state, weights)
        for depth, (v, w) in enumerate(zip(state, weights)):
            shape = (*w.shape[:-2], samples, w.shape[-2])
            check.tensor_of(op, f"state[{depth}]", v, shape, w.dtype, w.device)
    if validate:
        for depth, w in enumerate(weights):
            check.finite(op, f"weights[{depth}]", w)
    return BpStdpNetworkCall(
        weights=list(weights),
        x=stimuli,
        labels=labels,
        desired=desired,
        thresholds=limits,
        lr=of_networks(first, rate)[:, 0] if isinstance(rate, list) else rate,
        mean=reduction == "mean",
        epsilon=epsilon,
        each_step=update == "step",
        batch=max(samples, 1) if batch is None else check.integer(op, "batch", batch),
        state=[] if state is None else [v.detach() for v in state],
        return_hidden=check.flag(op, "return_hidden", return_hidden),
        return_state=check.flag(op, "return_state", return_state),
    )


def _weights(op: str, weights: object) -> None:
    if not isinstance(weights, Sequence):
        raise TypeError(f"{op}: weights must be a sequence of tensors, got {type(weights).__name__}")
    if not 1 <= len(weights) <= LAYERS:
        raise ValueError(f"{op}: weights must hold 1 to {LAYERS} matrices, got {len(weights)}")
    for depth, w in enumerate(weights):
        check.weights(op, f"weights[{depth}]", w, *SHAPES)
    for depth, (before, w) in enumerate(pairwise(weights), 1):
        name = f"weights[{depth}]"
        check.shape(op, name, w, (*before.shape[:-2], "N", before.shape[-2]))
        check.same_dtype_and_device(op, name, w, "weights[0]", before)
    for (i, a), (k, b) in combinations(enumerate(weights), 2):
        if check.overlap(a, b):
            raise ValueError(f"{op}: weights[{i}] and weights[{k}] must not share memory: each learns for itself")


def _taught(op: str, name: str, value: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype, w: Tensor) -> None:
    """Check labels or desired spikes, which are for all networks or one for each."""
    per_network = isinstance(value, Tensor) and w.dim() == 3 and value.dim() == len(shape) + 1
    check.tensor_of(op, name, value, (w.shape[0], *shape) if per_network else shape, dtype, w.device)


def _one_a_layer(op: str, name: str, values: object, weights: Sequence[Tensor]) -> None:
    if not isinstance(values, Sequence):
        raise TypeError(f"{op}: {name} must be a sequence, got {type(values).__name__}")
    if len(values) != len(weights):
        raise ValueError(f"{op}: {name} must have one entry a layer, {len(weights)}, got {len(values)}")


def _thresholds(
    op: str, thresholds: Sequence[float | Sequence[float]], weights: Sequence[Tensor], networks: int | None
) -> Parameters:
    _one_a_layer(op, "thresholds", thresholds, weights)
    every = [
        check.setting(op, f"thresholds[{depth}]", value, networks, check.positive)
        for depth, value in enumerate(thresholds)
    ]
    if any(isinstance(value, list) for value in every):
        return of_networks(weights[0], *every)
    return every  # type: ignore[return-value]
