"""Plasticity of sparse recurrent synapses while their neurons run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from snnfast import check

from .plasticity import Constants, Online
from .sparse_stdp import SparseStdpCall, sparse_stdp_
from .stdp import StdpState, started

# numpy, which snnfast.connect needs, is missing where the package is built.
if TYPE_CHECKING:
    from snnfast.connect import Connectivity
else:
    Connectivity = Any

MOST_SAMPLES = 16  # that run together, as kSparseGroup in csrc/core/recurrent.h


def plasticity_tensors(op: str, online: Online, weight: Tensor, c: Connectivity, batch: int) -> list[Tensor]:
    """Check a call; return what kernels take: synapses by postsynaptic neuron, traces to change, and numbers."""
    if torch.compiler.is_compiling() and not torch.compiler.is_exporting():  # graphs leave it out
        return torch.compiler.disable(plasticity_tensors)(op, online, weight, c, batch)  # type: ignore[no-any-return]
    from snnfast.connect.connectivity import neuron_range

    if check.is_recorded(weight.device):
        raise ValueError(
            f"{op}: plasticity must be None under torch.vmap and in a recorded call, which change no weights"
        )
    if weight.device.type != "cpu":
        raise ValueError(
            f"{op}: plasticity must be None on {weight.device}, where weights change after a call alone, by "
            "sparse_stdp_ or learning.STDP(update='sequence')"
        )
    if weight.shape != (len(c),) or not weight.is_contiguous():
        raise ValueError(
            f"{op}: weight must have shape [{len(c)}], one for each synapse, and be contiguous with plasticity, "
            f"which changes it, got {list(weight.shape)}"
        )
    if c.steps.numel() > 1:
        raise ValueError(
            f"{op}: connectivity must have the same delay everywhere with plasticity, got {c.shortest} to "
            f"{c.longest} steps"
        )
    if batch > MOST_SAMPLES:
        raise ValueError(
            f"{op}: x must have at most {MOST_SAMPLES} samples with plasticity, got {batch}; for more call "
            "sparse_stdp_ after each call, or use learning.STDP(update='sequence')"
        )
    begin, end = neuron_range(op, "sources of plasticity", online.sources, c.n_pre)
    if online.state is None:
        check.in_range(op, "weight", weight[c.out_of(online.sources)], online.rule.w_min, online.rule.w_max)
    tau = online.rule.tau_eligibility
    online.state = started(op, online.state, weight, batch, c.n_pre, c.n_pre, modulated=tau is not None)
    decay = 0.0 if tau is None else math.exp(-online.dt / tau)
    scale = 1.0 / max(batch, 1) if online.reduction == "mean" else 1.0
    numbers = torch.tensor([*online.rule.constants(online.dt), decay, scale, begin, end], dtype=torch.float64)
    return [*c.incoming, *(value for value in online.state if value is not None), numbers]


def learner(call: Any) -> Callable[[Sequence[Tensor]], None]:
    """Return the function that learns from the spikes up to a step, in plain PyTorch, within a recurrent call."""
    incoming_first, incoming, sources, *changing, numbers = call.plasticity
    traces, eligibility = changing[:4], changing[4] if len(changing) > 4 else None
    kind, every, *rest = numbers.tolist()
    *rest, decay, scale, begin, end = rest
    rule, w, delay = Constants(int(kind), bool(every), *rest), call.weight.detach(), int(call.steps[0])
    inputs, shape = len(type(call).neuron.inputs), (1, *traces[0].shape)

    def learn(spikes: Sequence[Tensor]) -> None:
        post = spikes[-1].detach().reshape(shape)
        arrived = spikes[-1 - delay].detach().reshape(shape) if len(spikes) > delay else torch.zeros_like(post)
        # Every input of a neuron has its spikes and traces.
        state = StdpState._make([*traces[:2], *(trace.repeat(1, inputs) for trace in traces[2:]), eligibility])
        reward = None if eligibility is None else w.new_zeros(shape[:2])
        rows = call.first, call.targets, incoming_first, incoming, sources
        how = rule, decay, scale, True, None, int(begin), int(end)
        step = SparseStdpCall._make([w, arrived, post.repeat(1, 1, inputs), *rows, state, reward, *how])
        after = sparse_stdp_.equation(step)
        for trace, value in zip(traces, after):
            trace.copy_(value[:, : trace.shape[1]])

    return learn
