"""Dispatch of :func:`snnfast.ops.bp_stdp_network_` to its kernel."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snnfast import backend
from snnfast.reference.bp_stdp_network import BpStdpNetworkCall, BpStdpNetworkResult
from snnfast.reference.bp_stdp_network import bp_stdp_network_ as reference
from snnfast.reference.call import flatten, public_op
from snnfast.reference.presentations import DTYPES

from .in_place import buffer, changed
from .record import Record


@public_op(reference)
def bp_stdp_network_(op: str, call: BpStdpNetworkCall) -> BpStdpNetworkResult:
    """Run the network by a kernel or the reference; with labels, the weights change in place."""
    kernels = backend.library(op, call.weights[0])
    if kernels is None:
        return reference.equation(call)  # type: ignore[no-any-return]
    weights, x = [buffer(w) for w in call.weights], call.x
    if x.spikes is not None and x.spikes.dtype not in DTYPES:
        x = x._replace(spikes=x.spikes != 0)
    fired, hidden, state = kernels.bp_stdp_network_(*flatten(call._replace(weights=weights, x=x)))
    if call.labels is not None:
        changed(*zip(call.weights, weights))
    sizes = [w.shape[-2] for w in weights]
    membranes = None
    if call.return_state:
        before = (*weights[0].shape[:-2], call.x.shape[0])
        layers = state.split([math.prod(before) * n for n in sizes])
        membranes = tuple(v.view(*before, n) for n, v in zip(sizes, layers))
    return BpStdpNetworkResult(fired, hidden.split(sizes[:-1], -1) if call.return_hidden else None, membranes)


def _shapes(call: BpStdpNetworkCall) -> tuple[Tensor, Tensor, Tensor]:
    samples, num_steps = call.x.shape
    first, sizes = call.weights[0], [w.shape[-2] for w in call.weights]
    networks = first.shape[:-2]

    def raster(neurons: int) -> Tensor:
        return first.new_empty((*networks, num_steps, samples, neurons), dtype=torch.bool)

    return (
        raster(sizes[-1]),
        raster(sum(sizes[:-1]) if call.return_hidden else 0),
        first.new_empty(math.prod(networks) * samples * sum(sizes) if call.return_state else 0),
    )


register = Record(reference, _shapes).register
