"""Recurrent neurons, by one step of the neuron's equation at a time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnfast import check

from .call import extended, fields_of_kind, reference_op
from .neuron import scan
from .neuron_arguments import NEURONS, Neuron, result_of
from .noise import noise_of_step
from .online import learner
from .spike_events import SpikeEvents
from .whole_network import WholeNetwork

# Fields of a recurrent call after those of its neuron's call: those with a gradient, those of a
# snnfast.connect.Connectivity, which are None for dense connections, those of a snnfast.connect.PoissonNoise, the
# numbers of a snnfast.connect.Part, the tensors of a snnfast.plasticity.Online, empty without, and whether the spikes
# are events, int32 [3, events]: step, sample and neuron of each.
DIFFERENTIABLE: dict[str, Any] = {"weight": Tensor, "past": Tensor | None, "delay": Tensor | None}
SPARSE = ("first", "targets", "steps", "noise_table", "noise_weight", "noise_key", "part")
FIELDS: dict[str, Any] = DIFFERENTIABLE | dict.fromkeys(SPARSE, Tensor | None)
FIELDS |= {"plasticity": list[Tensor], "record_events": bool}
NOT_SPARSE: tuple[Any, ...] = (*(None,) * len(SPARSE), [], False)  # values of the fields after those with a gradient
NOT_RECURRENT = (*(None,) * len(DIFFERENTIABLE), *NOT_SPARSE)

_CALLS: dict[Any, Any] = {}


def recurrent_of(neuron: Any) -> Any:
    """Return the recurrent call type of a neuron's call type: its fields, then :data:`FIELDS`.

    Its attribute ``neuron_call`` is the type of the neuron's call.
    """
    if neuron not in _CALLS:
        for name in FIELDS.keys() & set(neuron._fields):
            raise TypeError(f"{neuron.neuron.name}: {name} is an argument of recurrent neurons, too; rename the other")
        _CALLS[neuron] = extended(neuron, f"Recurrent{neuron.__name__}", FIELDS)
        _CALLS[neuron].neuron_call, _CALLS[neuron].neuron = neuron, neuron.neuron
    return _CALLS[neuron]


def neuron_of(call: Any) -> Any:
    """Return the neuron's call in a recurrent call."""
    return type(call).neuron_call(*call[: -len(FIELDS)])


def scan_recurrent(call: Any) -> tuple[Tensor, ...]:
    """Return spikes, last states and membranes of a recurrent call, a step at a time in plain PyTorch."""
    neuron, x, inputs = neuron_of(call), call[0], len(type(call).neuron.inputs)
    if call.record_events:
        spikes, *after = scan_recurrent(call._replace(record_events=False))
        events = SpikeEvents.from_dense(spikes)
        return torch.stack([events.step, events.sample, events.neuron]), *after
    if len(x) == 0:
        return scan(neuron)
    names = type(call).neuron.inputs + fields_of_kind(type(neuron), Tensor | None)

    def step(current: Tensor, states: list[Tensor | None]) -> tuple[Tensor, list[Tensor | None]]:
        values = (*current[None].tensor_split(inputs, -1), *states)
        s, *states, _ = scan(neuron._replace(**dict(zip(names, values))))  # type: ignore[assignment]
        return s[0], states

    states = [getattr(neuron, name) for name in names[inputs:]]
    currents = x if inputs == 1 else torch.cat(call[:inputs], -1)
    spikes, states, v_seq = fed_back(
        step,
        currents,
        states,
        *(getattr(call, name) for name in (*DIFFERENTIABLE, *SPARSE)),
        learn=learner(call) if call.plasticity else None,
    )
    return spikes.to(x.dtype), *states, v_seq


def fed_back(
    step: Callable[[Tensor, list[Any]], tuple[Tensor, list[Any]]],
    x: Tensor,
    states: list[Any],
    weight: Tensor,
    past: Tensor | None,
    delay: Tensor | None,
    *sparse: Tensor | None,
    learn: Callable[[Sequence[Tensor]], None] | None = None,
) -> tuple[Tensor, list[Any], Tensor]:
    """Iterate ``step(x[t] + recurrent input, states) -> spikes, states``; return spikes, last and first states.

    ``x``: the inputs of a neuron side by side, ``[T, ..., inputs * H]``.
    ``sparse``: the fields :data:`SPARSE`, None for dense connections.
    ``learn``: changes the weights behind every step, by the spikes up to it.
    Recurrent spikes are rounded to the dtype of ``x``: 16 bits do not hold every count of several spikes per step.
    """
    stored, x = x.dtype, x.to(check.state_dtype(x.dtype))
    before = [] if past is None else list(past.to(x.dtype))
    spikes, v_seq = list(before), []
    rows = None if sparse[0] is None else synapse_rows(weight, *sparse[:3])  # type: ignore[arg-type]
    network = None if rows is None or sparse[6] is None else WholeNetwork(sparse[6].tolist(), x)
    for t, current in enumerate(x):
        if rows is not None:
            if sparse[3] is not None:
                draw = functools.partial(noise_of_step, current.shape) if network is None else network.noise
                current = current + draw(t, *sparse[3:6])  # type: ignore[arg-type]
            current = delivered(current, spikes if network is None else network.spikes(t, spikes), rows)
        else:
            arrived = _arriving(spikes, delay, len(x) + len(before), current)
            for j in range(x.shape[-1]):
                current = current + _product(arrived[..., j, None], weight[:, j])
        s, states = step(current, states)
        if stored != x.dtype:
            rounded = s.detach().to(stored).to(x.dtype)
            s = torch.where(rounded == s, s, s + (rounded - s.detach()))  # infinite counts have no difference
        spikes.append(s)
        if learn is not None:
            learn(spikes)
        v_seq.append(states[0])
    if network is not None:
        network.spikes(len(x), spikes)
    return torch.stack(spikes[len(before) :]), states, torch.stack(v_seq)


def _product(spikes: Tensor, weight: Tensor) -> Tensor:
    """Return the product; 0 times infinity adds nothing."""
    return torch.where((spikes == 0) & ~weight.isfinite(), 0.0, spikes * weight)


class _Row(NamedTuple):
    """Synapses of presynaptic neuron ``pre`` with a delay of ``step`` steps."""

    step: int
    pre: int
    weight: Tensor
    targets: Tensor


def synapse_rows(weight: Tensor, first: Tensor, targets: Tensor, steps: Tensor) -> list[_Row]:
    """Return the rows of sparse connections, in the order in which their spikes are added."""
    begins, all_targets, rows = first.tolist(), targets.long(), []
    one_a_neuron = len(weight) != len(targets)
    for k, step in enumerate(steps.tolist()):
        for j in range((len(begins) - 1) // len(steps)):
            begin, end = begins[j * len(steps) + k : j * len(steps) + k + 2]
            if begin < end:
                w = weight[j].expand(end - begin) if one_a_neuron else weight[begin:end]
                rows.append(_Row(step, j, w, all_targets[begin:end]))
    return rows


def delivered(current: Tensor, spikes: Sequence[Any], rows: list[_Row]) -> Tensor:
    """Return the input of a step with the spikes that arrive through sparse connections."""
    for step, j, weight, targets in rows:
        if step <= len(spikes):
            current = current.index_add(-1, targets, _product(spikes[-step][..., j, None], weight))
    return current


def _arriving(spikes: list[Tensor], delay: Tensor | None, most: int, x: Tensor) -> Tensor:
    """Return the spikes that arrive at the step after ``spikes``, with no spikes before these."""
    none = torch.zeros_like(x)
    if delay is None:
        return spikes[-1] if spikes else none
    known = (delay >= 0) & (delay < most)
    steps = torch.where(known, delay, 0.0)
    whole_steps = steps.detach().floor()
    late = steps - whole_steps
    rows = torch.stack([none, none, *spikes]).movedim(-1, 0)  # [H, steps, ...]
    index = (len(spikes) + 1 - whole_steps.long()).clamp(min=1)
    j = torch.arange(len(rows), device=x.device)
    early_spikes, late_spikes = (rows[j, k].movedim(0, -1) for k in (index, index - 1))
    arrived = (1 - late) * early_spikes + late * late_spikes
    return torch.where(delay >= most, 0.0, arrived)


@reference_op(scan_recurrent, result_of)
def recurrent(
    x: Tensor,
    weight: Tensor,
    past: Tensor | None = None,
    *,
    neuron: str = "lif",
    delay: Tensor | None = None,
    **arguments: Any,
) -> Any:
    """Neurons with recurrent connections ``weight``, over all time steps of ``x``.

    For the neurons of a sample, the last dimension of ``x``, and ``t = 0 ... T-1``::

        I_i[t] = x_i[t] + sum_j weight_ij r_j[t]
        r_j[t] = s_j[t-1]                                                     without delays
        r_j[t] = (1 - f_j) s_j[t-1-l_j] + f_j s_j[t-2-l_j]                    l_j = floor(delay_j), f_j = delay_j - l_j

    where ``I[t]`` is the input of the neuron, whose state and spikes ``s[t]`` follow the equation of its op (Bellec et
    al., Long short-term memory and learning-to-learn in networks of spiking neurons, NeurIPS 2018). The sum begins
    with ``x`` and continues in the order of ``j``; a neuron whose ``r_j`` is 0 adds nothing. Gradients flow to ``x``,
    ``weight``, ``past``, ``delay``, the states and every parameter that is a tensor.

    Args:
        x: input current ``[T, ..., H]``; float32, float64, bfloat16 or float16, any strides.
        weight: ``[H, H]``, from neuron ``j`` to neuron ``i`` at ``[i, j]``, as in ``torch.nn.Linear``; float64 for
            float64 ``x``, else float32.
        past: spikes of the ``P`` steps before the first, ``[P, *x.shape[1:]]`` in the dtype of ``x``, for example the
            last of an earlier call. None: no spikes.
        neuron: the name of a spiking neuron's op in :mod:`snnfast.ops`.
        delay: axonal delay of each sending neuron in steps, in addition to the one step, ``[H]`` in the dtype of
            ``weight``; any real number. A delay below 0 counts as 0 and has no gradient. None: 0.
        arguments: arguments of ``snnfast.ops.<neuron>`` except ``x``, by name, including states.

    Returns:
        As the neuron's op: ``(spikes, *states)``, with ``return_v_seq`` ``(spikes, *states, v_seq)``.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """
    check.sequence("recurrent", x)
    call = firing_neuron("recurrent", neuron).checked("recurrent", x, **arguments)
    return recurrent_call("recurrent", call, weight, past, delay)


def firing_neuron(op: str, neuron: object) -> Neuron:
    """Return a neuron that fires, by the name of its op."""
    if not isinstance(neuron, str) or neuron not in firing():
        hint = check.suggestion(neuron, firing())
        raise ValueError(f"{op}: neuron must be one of {', '.join(firing())}, got {check.shown(neuron)}{hint}")
    return NEURONS[neuron]


def recurrent_call(op: str, call: Any, weight: Tensor, past: Tensor | None, delay: Tensor | None) -> Any:
    """Check the weights, the spikes before the first step and the delays; return the recurrent call of ``call``."""
    x = call[0]
    if x.dim() < 2:
        raise ValueError(f"{op}: x must have shape [T, ..., H], got {list(x.shape)}")
    sent = x.shape[-1:]
    check.shape(op, "weight", weight, (*sent, *sent))
    check.of_state(op, "weight", weight, x)
    check_past(op, x, past)
    if delay is not None:
        check.shape(op, "delay", delay, sent)
        check.of_state(op, "delay", delay, x)
    return recurrent_of(call.__class__)(*call, weight, past, delay, *NOT_SPARSE)


def check_past(op: str, x: Tensor, past: Tensor | None) -> None:
    """Check the spikes before the first step of neurons with input ``x``."""
    if past is not None:
        check.shape(op, "past", past, ("P", *x.shape[1:]))
        check.elements(op, "past", past.shape)
        check.same_dtype_and_device(op, "past", past, "x", x)


def firing() -> list[str]:
    """Return the names of the neurons that fire."""
    return sorted(name for name, neuron in NEURONS.items() if neuron.fires)
