"""Recurrent neurons with sparse connections: the call of :mod:`snnfast.reference.recurrent` with synapses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from snnfast import check

from .call import reference_op
from .neuron_arguments import result_of
from .recurrent import check_past, neuron_check, recurrent, recurrent_of

# numpy, which snnfast.connect needs, is missing where the package is built.
if TYPE_CHECKING:
    from snnfast.connect import Connectivity
else:
    Connectivity = Any


@reference_op(recurrent.equation, result_of)
def sparse_recurrent(
    x: Tensor,
    weight: Tensor | float,
    connectivity: Connectivity,
    past: Tensor | None = None,
    *,
    neuron: str = "lif",
    **arguments: Any,
) -> Any:
    """Neurons with sparse recurrent connections, over all time steps of ``x``.

    For the neurons of a sample, the last dimension of ``x``, and ``t = 0 ... T-1``::

        I_i[t] = x_i[t] + sum over synapses e to i of weight_e s_pre(e)[t - delay_e]

    where ``I[t]`` is the input of the neuron, whose state and spikes ``s[t]`` follow the equation of its op. The sum
    begins with ``x`` and continues from the shortest delay to the longest, in order of the presynaptic neurons, in
    order of the synapses; a neuron that did not fire adds nothing. With a delay of one step everywhere the spikes are
    those of :func:`snnfast.ops.recurrent` with the weights as a matrix. Gradients flow to ``x``, ``weight``, ``past``,
    the states and every parameter that is a tensor. There are kernels for the CPU alone.

    Args:
        x: input current ``[T, ..., H]``; float32, float64, bfloat16 or float16, any strides.
        weight: ``[synapses]``, in the order of ``connectivity.edges()``; or ``[H]``, one for the synapses of each
            presynaptic neuron; or a number. A tensor in float64 for float64 ``x``, else float32. If there are as many
            synapses as neurons, one for each synapse.
        connectivity: the synapses, of :mod:`snnfast.connect`, from ``H`` to ``H`` neurons.
        past: spikes of the ``P`` steps before the first, ``[P, *x.shape[1:]]`` in the dtype of ``x``, for example the
            last of an earlier call; spikes arrive after up to ``connectivity.longest`` steps. None: no spikes.
        neuron: the name of a spiking neuron's op in :mod:`snnfast.ops`.
        arguments: arguments of ``snnfast.ops.<neuron>`` except ``x``, by name, including states.

    Returns:
        As the neuron's op: ``(spikes, *states)``, with ``return_v_seq`` ``(spikes, *states, v_seq)``.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """
    op = "sparse_recurrent"
    check.sequence(op, x)
    return sparse_call(op, neuron_check(op, neuron)(x, **arguments), weight, connectivity, past)


def sparse_call(op: str, call: Any, weight: Tensor | float, connectivity: Connectivity, past: Tensor | None) -> Any:
    """Check weights, connectivity and the spikes before the first step; return the recurrent call of ``call``."""
    x: Tensor = call[0]
    if x.dim() < 2:
        raise ValueError(f"{op}: x must have shape [T, ..., H], got {list(x.shape)}")
    if x.device.type != "cpu":
        raise ValueError(
            f"{op}: x must be on the CPU, where alone sparse connections have kernels, got {x.device}; on a GPU use "
            "recurrent with connectivity.dense(weight)"
        )
    from snnfast import connect

    if not isinstance(connectivity, connect.Connectivity):
        raise TypeError(
            f"{op}: connectivity must be a Connectivity, made by snnfast.connect, got {check.kind(connectivity)}"
        )
    c, H = connectivity, x.shape[-1]
    if (c.n_pre, c.n_post) != (H, H):
        raise ValueError(
            f"{op}: connectivity must connect the {H} neurons of x, [T, ..., {H}], got {c.n_pre} -> {c.n_post} neurons"
        )
    if not isinstance(weight, Tensor):
        number = check.number(op, "weight", weight)
        weight = torch.full((H,), number, dtype=check.state_dtype(x.dtype), device=x.device)
    check.shape(op, "weight", weight, (len(c),), (H,), ())
    check.of_state(op, "weight", weight, x)
    weight = weight.expand(H) if weight.dim() == 0 else weight
    check_past(op, x, past)
    return recurrent_of(call.__class__)(*call, weight, past, None, c.first, c.targets, c.steps)
