"""Recurrent neurons with sparse connections: the call of :mod:`snnfast.reference.recurrent` with synapses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from snnfast import backend, check

from .call import reference_op
from .neuron_arguments import Neuron, result_of
from .online import plasticity_tensors
from .plasticity import Online
from .recurrent import check_past, firing_neuron, recurrent_of, scan_recurrent
from .spike_events import SpikeEvents

# numpy, which snnfast.connect needs, is missing where the package is built.
if TYPE_CHECKING:
    from snnfast.connect import Connectivity, Part, PoissonNoise
else:
    Connectivity = Part = PoissonNoise = Any


def recorded(call: Any, run: Callable[[Any], tuple[Any, ...]]) -> tuple[Any, ...]:
    """Return ``run(call)``, spikes and states; events as a :class:`SpikeEvents`, on the CPU."""
    if call.plasticity:
        if torch.compiler.is_compiling():  # graphs leave it out: the weights are no result of a kernel
            return torch.compiler.disable(recorded)(call, run)  # type: ignore[no-any-return]
        # A backward pass that needs the old weights raises.
        torch.autograd.graph.increment_version([t for t in (call.weight,) if not t.is_inference()])
    if call.record_events and backend.is_cuda(call[0]):  # the kernels write spikes
        spikes, *states = run(call._replace(record_events=False))
        return SpikeEvents.from_dense(spikes), *states
    spikes, *states = run(call)
    if call.part is not None:
        from snnfast.connect.part import part_of

        part_of(int(call.part[3])).end()
    if call.record_events:
        step, sample, neuron = spikes
        spikes = SpikeEvents(step, sample, neuron, tuple(call[0].shape), call[0].dtype)
    return spikes, *states


def _equation(call: Any) -> tuple[Any, ...]:
    return recorded(call, lambda call: result_of(call, scan_recurrent(call)))


@reference_op(_equation)
def sparse_recurrent(
    x: Tensor | None,
    weight: Tensor | float,
    connectivity: Connectivity,
    past: Tensor | None = None,
    *,
    neuron: str = "lif",
    num_steps: int | None = None,
    batch: int | None = None,
    noise: PoissonNoise | None = None,
    record: str = "spikes",
    part: Part | None = None,
    plasticity: Online | None = None,
    **arguments: Any,
) -> Any:
    """Neurons with sparse recurrent connections, over all time steps of ``x``.

    For the neurons of a sample, the last dimension of ``x``, and ``t = 0 ... T-1``::

        I_i[t] = x_i[t] + noise_i[t] + sum over synapses e to i of weight_e s_pre(e)[t - delay_e]

    where ``I[t]`` is the input of the neuron, whose state and spikes ``s[t]`` follow the equation of its op. The sum
    begins with ``x`` and ``noise`` and continues from the shortest delay to the longest, in order of the presynaptic
    neurons, in order of the synapses; a neuron that did not fire adds nothing. With a delay of one step everywhere the
    spikes are those of :func:`snnfast.ops.recurrent` with the weights as a matrix. Gradients flow to ``x``, ``weight``,
    ``past``, the states and every parameter that is a tensor. A GPU gets a copy of the synapses at the first call,
    which the connectivity keeps.

    Args:
        x: input current ``[T, ..., H]``; float32, float64, bfloat16 or float16, any strides. None: no input, for
            ``num_steps`` steps and ``batch`` samples, in the dtype of ``weight`` and on its device.
        weight: ``[synapses]``, in the order of ``connectivity.edges()``; or ``[H]``, one for the synapses of each
            presynaptic neuron; or a number. A tensor in float64 for float64 ``x``, else float32. If there are as many
            synapses as neurons, one for each synapse.
        connectivity: the synapses, of :mod:`snnfast.connect`, from ``H`` to ``H`` neurons.
        past: spikes of the ``P`` steps before the first, ``[P, *x.shape[1:]]`` in the dtype of ``x``, for example the
            last of an earlier call; spikes arrive after up to ``connectivity.longest`` steps. None: no spikes.
        neuron: the name of a spiking neuron's op in :mod:`snnfast.ops`.
        num_steps: number of steps, if ``x`` is None.
        batch: number of samples, if ``x`` is None: spikes ``[T, batch, H]``. None: ``[T, H]``.
        noise: Poisson input that the kernel draws, a :class:`snnfast.connect.PoissonNoise`.
        record: ``"spikes"``: a tensor ``[T, ..., H]``; ``"events"``: a :class:`SpikeEvents` on the CPU, which
            takes memory for each spike alone and has no gradient. On a GPU it is made from the tensor, which takes the
            tensor's memory for a moment.
        part: the neurons of this process among those of several, a :class:`snnfast.connect.Part`; None: ``x`` has all
            neurons. ``connectivity`` then connects all neurons to those of the part, ``weight`` ``[H]`` and ``noise``
            are those of all neurons, and ``x``, states and result those of the part. Without gradient and ``past``,
            which the part has.
        plasticity: changes ``weight`` in place behind every step, a :class:`snnfast.plasticity.Online`; without
            gradient.
        arguments: arguments of ``snnfast.ops.<neuron>`` except ``x``, by name, including states.

    Returns:
        As the neuron's op: ``(spikes, *states)``, with ``return_v_seq`` ``(spikes, *states, v_seq)``.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """
    op = "sparse_recurrent"
    more: dict[str, Any] = {"num_steps": num_steps, "batch": batch, "noise": noise, "record": record, "part": part}
    more["plasticity"] = plasticity
    return sparse_call(op, firing_neuron(op, neuron), x, weight, connectivity, past, **more, **arguments)


def sparse_call(
    op: str,
    neuron: Neuron,
    x: Tensor | tuple[Tensor, ...] | None,
    weight: Tensor | float,
    connectivity: Connectivity,
    past: Tensor | None = None,
    *,
    num_steps: int | None = None,
    batch: int | None = None,
    noise: PoissonNoise | None = None,
    record: str = "spikes",
    part: Part | None = None,
    plasticity: Online | None = None,
    **arguments: Any,
) -> Any:
    """Check the arguments of :func:`sparse_recurrent`; return the recurrent call of ``neuron``.

    ``x``: a tuple for neurons with several inputs. ``arguments``: of the neuron.
    """
    from snnfast import connect

    if not isinstance(connectivity, connect.Connectivity):
        raise TypeError(
            f"{op}: connectivity must be a Connectivity, made by snnfast.connect, got {check.kind(connectivity)}"
        )
    c, count = connectivity, len(neuron.inputs)
    if part is not None and not isinstance(part, connect.Part):
        raise TypeError(f"{op}: part must be a Part of snnfast.connect, got {check.kind(part)}")
    neurons = c.n_pre if part is None else len(part.neurons)
    inputs = _inputs(op, no_input(op, x, weight, neurons, num_steps, batch, count), count)
    x, H = inputs[0], inputs[0].shape[-1]
    if part is not None and x.device.type != "cpu":
        raise ValueError(f"{op}: x must be on the CPU with part, got {x.device}; or leave part out, on one GPU")
    senders = H if part is None else part.total
    if (c.n_pre, c.n_post) != (senders, count * H) or (part is not None and neurons != H):
        if part is None:
            wanted = f"the {H} neurons of x, [T, ..., {H}]"
            wanted += f", to their {count} inputs, {H} -> {count * H}" if count > 1 else ""
        else:
            wanted = f"the {senders} neurons of the network to the {neurons} of part, {senders} -> {count * neurons}, "
            wanted += f"which x has, [T, ..., {neurons}]"
        raise ValueError(f"{op}: connectivity must connect {wanted}, got {c.n_pre} -> {c.n_post} neurons")
    if not isinstance(weight, Tensor):
        number = check.number(op, "weight", weight)
        weight = torch.full((senders,), number, dtype=check.state_dtype(x.dtype), device=x.device)
    check.shape(op, "weight", weight, (len(c),), (senders,), ())
    check.of_state(op, "weight", weight, x)
    weight = weight.expand(senders) if weight.dim() == 0 else weight
    check_past(op, x, past)
    if noise is not None and not isinstance(noise, connect.PoissonNoise):
        raise TypeError(f"{op}: noise must be a PoissonNoise of snnfast.connect, got {check.kind(noise)}")
    drawn = (None,) * 3 if noise is None else noise.fields(op, count * senders, weight.dtype, x.device)
    call = neuron.checked(op, *inputs, **arguments)
    check.choice(op, "record", record, ("spikes", "events"))
    events = record == "events"
    learner, weight = learning(op, plasticity, weight, c, call, part)
    fields = *call, weight, past, None, *c.on(x.device), *drawn
    learns = torch.is_grad_enabled() and any(isinstance(value, Tensor) and value.requires_grad for value in fields)
    if part is not None and (learns or past is not None):
        raise ValueError(f"{op}: with part there is no gradient and past must be None; call it under torch.no_grad()")
    if events and call.return_v_seq:
        raise ValueError(f"{op}: return_v_seq must be False with record='events', got True")
    if learner and learns:
        raise ValueError(
            f"{op}: plasticity has no gradient; call it under torch.no_grad(), or detach its tensors besides weight"
        )
    if events and learns:
        raise ValueError(f"{op}: record='events' has no gradient; call it under torch.no_grad(), or detach its tensors")
    numbers = None if part is None else part.begin(op, c, x.shape[0], x.shape[1:-1].numel())
    return recurrent_of(call.__class__)(*fields, numbers, learner, events)


def learning(
    op: str, plasticity: object, weight: Tensor, c: Connectivity, call: Any, part: object
) -> tuple[list[Tensor], Tensor]:
    """Check plasticity within a call of neurons; return its tensors, and the weights that it changes."""
    if plasticity is None:
        return [], weight
    if not isinstance(plasticity, Online):
        raise TypeError(f"{op}: plasticity must be an Online of snnfast.plasticity, got {check.kind(plasticity)}")
    if part is not None:
        raise ValueError(f"{op}: plasticity must be None with part, got both")
    if getattr(call, "max_spikes", 1) != 1:
        raise ValueError(f"{op}: max_spikes must be 1 with plasticity, got {call.max_spikes:g}")
    weight = weight.detach()
    return plasticity_tensors(op, plasticity, weight, c, call[0].shape[1:-1].numel()), weight


def no_input(op: str, x: Any, weight: Any, H: int, num_steps: int | None, batch: int | None, count: int) -> Any:
    """Return ``x``, or if it is None, zeros that take no memory: a tuple for several inputs."""
    if x is not None:
        if num_steps is not None or batch is not None:
            raise ValueError(f"{op}: num_steps and batch are the sizes of x=None, got x as well")
        return x
    if num_steps is None:
        raise ValueError(f"{op}: x=None needs num_steps, the number of steps")
    T = check.integer(op, "num_steps", num_steps, 0)
    shape = (T, H) if batch is None else (T, check.integer(op, "batch", batch, 0), H)
    check.elements(op, "num_steps", shape)
    like = weight if isinstance(weight, Tensor) and weight.is_floating_point() else torch.zeros(())
    zeros = torch.zeros((), dtype=like.dtype, device=like.device).expand(shape)
    return zeros if count == 1 else (zeros,) * count


def _inputs(op: str, x: Any, count: int) -> tuple[Tensor, ...]:
    """Check and return the inputs of the neurons."""
    from snnfast import connect

    inputs = x if count > 1 else (x,)
    if not isinstance(inputs, tuple) or len(inputs) != count:
        raise TypeError(f"{op}: x must be a tuple of {count} tensors, or None, got {check.kind(x)}")
    for value in inputs:
        check.sequence(op, value)
    if inputs[0].dim() < 2:
        raise ValueError(f"{op}: x must have shape [T, ..., H], got {list(inputs[0].shape)}")
    if inputs[0].device.type not in connect.DEVICES:
        raise ValueError(
            f"{op}: x must be on the CPU or on CUDA, where sparse connections have kernels, got {inputs[0].device}; "
            "elsewhere use recurrent with connectivity.dense(weight)"
        )
    return inputs
