"""A network trained by BP-STDP: Tavanaei and Maida 2019."""

from __future__ import annotations

import torch
from torch import Tensor

from snnfast.calls import bp_stdp_network as calls
from snnfast.calls.call import equation

from .bp_stdp import Change, apply, move_window, pass_back
from .presentations import spikes_of


@equation(calls.bp_stdp_network_)
def bp_stdp_network_(call: calls.BpStdpNetworkCall) -> calls.BpStdpNetworkResult:
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
    return calls.BpStdpNetworkResult(
        rasters[-1],
        tuple(rasters[:-1]) if call.return_hidden else None,
        tuple(after) if call.return_state else None,
    )


def present_all(
    call: calls.BpStdpNetworkCall, rasters: list[Tensor], membranes: list[Tensor]
) -> None:
    """Presents all samples to one network, a batch at a time; fills ``rasters`` ``[T, P, N]``, one a layer."""
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
        own = [v[group] for v in membranes]
        present(call, w, x[:, group], own, [s[:, group] for s in rasters], taught)


def present(
    call: calls.BpStdpNetworkCall,
    w: list[Tensor],
    x: Tensor,
    membranes: list[Tensor],
    rasters: list[Tensor],
    taught: tuple[Tensor, Tensor] | None,
) -> None:
    """Fills ``rasters`` ``[T, B, N]``, one a layer, with the response to ``x`` ``[T, B, I]``; learns if taught."""
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
