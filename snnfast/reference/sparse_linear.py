"""Linear map through sparse connections, presynaptic neuron by presynaptic neuron."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from snnfast import check

from .call import reference_op
from .recurrent import delivered, synapse_rows

# numpy, which snnfast.connect needs, is missing where the package is built.
if TYPE_CHECKING:
    from snnfast.connect import Connectivity
else:
    Connectivity = Any


class SparseLinearCall(NamedTuple):
    """See :func:`sparse_linear`; ``first`` and ``targets`` are of the connectivity, ``outputs`` is its ``n_post``."""

    x: Tensor
    weight: Tensor
    first: Tensor
    targets: Tensor
    outputs: int


def _sparse_linear(call: SparseLinearCall) -> Tensor:
    x, weight, first, targets, outputs = call
    spikes = x.to(weight.dtype)
    y = delivered(spikes.new_zeros(*x.shape[:-1], outputs), [spikes], synapse_rows(weight, first, targets, _ONE_STEP))
    return y.to(x.dtype)


_ONE_STEP = torch.ones(1, dtype=torch.int64)


@reference_op(_sparse_linear)
def sparse_linear(x: Tensor, weight: Tensor | float, connectivity: Connectivity) -> SparseLinearCall:
    """Linear map of ``x`` through sparse connections: ``torch.nn.functional.linear`` with synapses for a matrix.

    ::

        y_i = sum over synapses e to i of weight_e x_pre(e)

    The sum is in order of the presynaptic neurons, in order of the synapses; an input of 0 adds nothing, so the time
    grows with the spikes. All other dimensions, such as steps and samples, are independent. A spike counts at its own
    step, as in every layer that feeds forward. Gradients flow to ``x`` and ``weight``; there are no second derivatives.
    A GPU gets a copy of the synapses at the first call, which the connectivity keeps.

    Args:
        x: ``[..., n_pre]``, for example spikes ``[T, B, n_pre]``; float32, float64, bfloat16 or float16, any values and
            any strides.
        weight: ``[synapses]``, in the order of ``connectivity.edges()``; or ``[n_pre]``, one for the synapses of each
            presynaptic neuron; or a number. A tensor in float64 for float64 ``x``, else float32. If there are as many
            synapses as presynaptic neurons, one for each synapse.
        connectivity: the synapses, of :mod:`snnfast.connect`, all with the delay of one step that is the default.

    Returns:
        ``y`` ``[..., n_post]`` in the dtype of ``x``.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """
    from snnfast import connect

    op = "sparse_linear"
    if not isinstance(connectivity, connect.Connectivity):
        raise TypeError(
            f"{op}: connectivity must be a Connectivity, made by snnfast.connect, got {check.kind(connectivity)}"
        )
    c = connectivity
    # Compiled code cannot read the value of a delay.
    if c.steps.numel() > 1 or (not torch.compiler.is_compiling() and c.longest > 1):
        raise ValueError(
            f"{op}: connectivity must have a delay of 1 step everywhere, got {c.shortest} to {c.longest}; "
            "ops.delay delays x, and sparse_recurrent has a delay for each synapse"
        )
    check.tensor(op, "x", x)
    check.dtype(op, "x", x.dtype, check.FLOATING)
    if x.dim() == 0 or x.shape[-1] != c.n_pre:
        raise ValueError(f"{op}: x must have shape [..., {c.n_pre}] for {c}, got {list(x.shape)}")
    if x.device.type not in connect.DEVICES:
        raise ValueError(
            f"{op}: x must be on the CPU or on CUDA, where sparse connections have kernels, got {x.device}; elsewhere "
            "use torch.nn.functional.linear with connectivity.dense(weight)"
        )
    check.elements(op, "y", (*x.shape[:-1], c.n_post))
    if not isinstance(weight, Tensor):
        number = check.number(op, "weight", weight)
        weight = torch.full((c.n_pre,), number, dtype=check.state_dtype(x.dtype), device=x.device)
    check.shape(op, "weight", weight, (len(c),), (c.n_pre,), ())
    check.of_state(op, "weight", weight, x)
    weight = weight.expand(c.n_pre) if weight.dim() == 0 else weight
    first, targets, _ = c.on(x.device)
    return SparseLinearCall(x=x, weight=weight, first=first, targets=targets, outputs=c.n_post)
