"""A small call of every op, forward and backward, the same on every device; and all ways of synchronising blocks.

As a program it runs them once, for compute-sanitizer and Nsight Compute: ``python tests/every_op.py cuda --launches``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnfast import backend, connect, ops, plasticity
from snnfast.reference.neuron_arguments import NEURONS

# Enough neurons to fill a GPU for every size of an element, so that a thread has several (fills in
# csrc/cuda/launch.h).
LARGE = {"steps": 100, "neurons": 1 << 17}


def drawn(*shape: int, device: str, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator).to(device)


@functools.lru_cache(maxsize=16)  # random numbers cannot be drawn during graph capture
def cotangent(shape: tuple[int, ...], device: str, dtype: torch.dtype, seed: int) -> Tensor:
    """Return a random gradient of an output of this shape, as from a loss."""
    return drawn(*shape, device=device, seed=seed).to(dtype) - 0.25


def tensors(result: object) -> list[Tensor]:
    """Return all tensors in the result of an op."""
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, tuple | list):
        return [tensor for part in result for tensor in tensors(part)]
    return []


class Example(NamedTuple):
    """A call of ``function`` with copies of ``inputs``, which it may change.

    ``smooth``: compute gradients of all inputs, of a weighted sum as in training; with ``summed`` of the plain sum,
    whose gradient is an expanded value, which kernels read in another way.
    """

    function: Callable[..., object]
    inputs: tuple[Tensor, ...]
    smooth: bool
    summed: bool = False

    def run(self, function: Callable[..., object] | None = None) -> list[Tensor]:
        """Run ``function``, by default that of the example; return inputs afterwards, results, and gradients."""
        inputs = [x.detach().clone().requires_grad_(self.smooth) for x in self.inputs]
        outputs = tensors((function or self.function)(*inputs))
        found = [x.detach() for x in (*inputs, *outputs)]
        if self.smooth:
            wanted = [y for y in outputs if y.requires_grad]
            weights = [
                torch.ones((), device=y.device).to(y.dtype).expand_as(y)
                if self.summed
                else cotangent(tuple(y.shape), str(y.device), y.dtype, 20 + k)
                for k, y in enumerate(wanted)
            ]
            found += torch.autograd.grad(wanted, inputs, weights)
        return found


def examples(device: str, steps: int = 12, neurons: int = 96) -> dict[str, Example]:
    """Return an example of every op by name; arguments are made here, so that a run only computes.

    There are few launches for all sizes, for a profiler with a limited number: ``bp_stdp_`` has three per step.
    """
    few = min(neurons, 128)  # recurrent neurons
    x = 2.5 * drawn(steps, 3, neurons, device=device)
    pre = drawn(steps, 3, 40, device=device, seed=1) < 0.2
    post = drawn(steps, 3, neurons, device=device, seed=2) < 0.1
    w = 0.3 * drawn(neurons, 40, device=device, seed=3)
    error = drawn(steps, 3, neurons, device=device, seed=4).sub(0.5).mul(2).round()
    t_in = 8 * drawn(3, 40, device=device, seed=8)
    terminals = 0.1 * drawn(neurons, 40, 4, device=device, seed=9)
    waits = torch.arange(1.0, 5.0, device=device)

    # Channels-last with 8 channels: what batch_norm and pool2d have kernels for.
    images = drawn(steps, 8, 8, 8, device=device, seed=10).to(memory_format=torch.channels_last)
    spikes = (images < 0.1).to(w.dtype)
    kernels = drawn(4, 8, 3, 3, device=device, seed=11)

    whole = (1 << 22) * drawn(steps, 3, neurons, device=device, seed=12).mul(9).int()
    gain = torch.ones(neurons, dtype=torch.int32, device=device)

    def learn(w: Tensor) -> object:
        return ops.stdp_(w, pre, post, rule=plasticity.pair(1e-4, 1e-3))

    def times(t_in: Tensor, w: Tensor) -> Tensor:
        return ops.spikeprop(t_in, w, waits, tau=7.0, t_max=40.0).nan_to_num(posinf=0.0)

    def all_times(t_in: Tensor, w: Tensor, w_rec: Tensor) -> Tensor:
        constants = {"tau_mem": 7.0, "tau_syn": 3.0, "t_max": 40.0, "max_spikes": 4, "stops": True}
        return ops.eventprop(t_in, w, w_rec, **constants).nan_to_num(posinf=0.0)

    connectivity = connect.fixed_outdegree(few, outdegree=4, delay=[j % 3 + 1 for j in range(few)], seed=1)

    def sparse(x: Tensor, weight: Tensor) -> object:
        return ops.sparse_recurrent(x, weight, connectivity)

    forward = connect.fixed_outdegree(neurons, 40, outdegree=2, seed=1)

    synapses = connect.fixed_outdegree(40, neurons, outdegree=2, seed=1)

    def learn_synapses(w: Tensor) -> object:
        return ops.sparse_stdp_(w, pre, post, synapses, rule=plasticity.pair(1e-4, 1e-3))

    def linear(x: Tensor, weight: Tensor) -> object:
        return ops.sparse_linear(x, weight, forward)

    of_neurons = {name: Example(getattr(ops, name), (x,), True) for name in NEURONS}
    return (
        of_neurons
        | networks(device, 40, neurons, 64, steps)
        | {
            "delay": Example(lambda x: ops.delay(x, 1.5), (x,), True),
            "integer_lif": Example(lambda x: ops.integer_lif(x, gain=gain, bias=gain), (whole,), False),
            "spike_count": Example(ops.spike_count, (x,), False),
            "poisson": Example(lambda p: ops.poisson(p, steps, seed=7), (x[0] / 3,), False),
            "stdp_": Example(learn, (w,), False),
            "bp_stdp_": Example(lambda w: ops.bp_stdp_(w, pre[:12], error[:12]), (w,), False),
            "spikeprop": Example(times, (t_in, terminals), True),
            "eventprop": Example(all_times, (t_in, 5 * w[:few], 0.1 - 0.2 * drawn(few, few, device=device)), True),
            "recurrent": Example(ops.recurrent, (x[..., :few], 0.1 * drawn(few, few, device=device)), True),
            "sparse_recurrent": Example(sparse, (x[..., :few], 0.3 * drawn(4 * few, device=device)), True),
            "sparse_stdp_": Example(learn_synapses, (0.3 * drawn(80, device=device),), False),
            "sparse_linear": Example(linear, (x, 0.3 * drawn(2 * neurons, device=device)), True),
            "spike_linear": Example(ops.spike_linear, (pre.to(w.dtype), w), True),
            "batch_norm": Example(lambda x: ops.batch_norm(x)[0], (images,), True),
            "pool2d": Example(lambda x: ops.pool2d(x, 2), (images,), True),
            "spike_conv2d": Example(ops.spike_conv2d, (spikes, kernels), True),
        }
    )


def calls(device: str, steps: int = 12, neurons: int = 96) -> dict[str, Example]:
    """Return :func:`examples`, and calls of ops in other ways, named ``op, way``."""
    x = 2.5 * drawn(steps, 3, neurons, device=device)
    d, past, v = (drawn(*x.shape[1:], device=device, seed=1), x[:3].flip(0), drawn(*x.shape[1:], device=device, seed=2))
    images = drawn(steps, 8, 9, 8, device=device, seed=10).to(memory_format=torch.channels_last)
    spikes = (images < 0.1).float()
    weight, bias = (drawn(*shape, device=device, seed=3) - 0.3 for shape in ((4, 8, 3, 2), (4,)))
    matrix = drawn(5, neurons, device=device, seed=3) - 0.3
    gain, shift, mean, variance = (0.1 + drawn(8, device=device, seed=k) for k in range(4, 8))
    square = 0.1 * drawn(neurons, neurons, device=device, seed=8)
    rows, pixels = (t.mul(9).to(torch.int8) for t in (x[:2, 0], images[:2]))
    ints = [t.mul(100).to(torch.int8) for t in (matrix, weight)]
    synapses = connect.fixed_outdegree(neurons, outdegree=4, delay=2, seed=1)
    noise = connect.PoissonNoise(2.0, 0.4, seed=1)
    of_two = {f"{op}, of two": call for op, call in networks(device, 40, neurons, 64, steps, (2,)).items()}
    return (
        examples(device, steps, neurons)
        | of_two
        | {
            "batch_norm, weights": Example(lambda *inputs: ops.batch_norm(*inputs)[0], (images, gain, shift), True),
            "batch_norm, statistics": Example(
                lambda *inputs: ops.batch_norm(*inputs, mean, variance)[0], (images, gain, shift), True
            ),
            "delay, of each neuron": Example(lambda *inputs: ops.delay(*inputs, sigma=1.5), (x, 3 * d, past), True),
            "pool2d, average": Example(lambda x: ops.pool2d(x, (3, 2), method="average"), (images,), True),
            "recurrent, delayed": Example(
                lambda x, weight, past, delay: ops.recurrent(x, weight, past, delay=delay, neuron="alif"),
                (x, square, past, 3 * d[0]),
                True,
            ),
            "sparse_recurrent, noise": Example(
                lambda weight: ops.sparse_recurrent(None, weight, synapses, num_steps=steps, batch=3, noise=noise),
                (0.1 * drawn(4 * neurons, device=device),),
                True,
            ),
            "spike_conv2d, stride": Example(
                lambda *inputs: ops.spike_conv2d(*inputs, stride=2, padding=1, method="events"),
                (spikes, weight, bias),
                True,
            ),
            "spike_conv2d, integers": Example(ops.spike_conv2d, (pixels, ints[1]), False),
            "spike_count, state": Example(
                lambda x: ops.spike_count(x, v, v.floor(), v_threshold=1 + d, v_reset=0.1), (x,), False
            ),
            "spike_linear, events": Example(
                lambda *inputs: ops.spike_linear(*inputs, method="events"), (x.floor(), matrix, matrix[:, 0]), True
            ),
            "spike_linear, integers": Example(ops.spike_linear, (rows, ints[0]), False),
        }
    )


# Networks, by inputs and neurons: on an H100 the weights, or the state alone, lie in shared memory, or nothing does.
LAUNCHES = {
    "64x400": (64, 400, ()),
    "784x400": (784, 400, ()),
    "9x9100": (9, 9100, ()),
    "4 of 784x400": (784, 400, (4,)),
}


def launches(device: str, small: bool = False) -> dict[str, Example]:
    """Return examples of these networks, and of other launches that :func:`examples` does not cover."""
    x = 2.5 * drawn(12, 3, 96 if small else 1 << 17, device=device)
    found = {"lif, gradient of the sum": Example(ops.lif, (x,), True, summed=True)}
    for size, (inputs, neurons, many) in LAUNCHES.items():
        for delay in (0, 3):
            hidden = 9 if small else 500
            built = networks(
                device,
                *((12, 3 + neurons // 300) if small else (inputs, neurons)),
                hidden,
                6 if small else 30,
                many,
                delay,
            )
            names = ("diehl_cook_",) if delay else ("diehl_cook_", "bp_stdp_network_")  # one has the delay
            found |= {f"{op} {size}, inhibition delay {delay}": built[op] for op in names}
    return found


def networks(
    device: str,
    inputs: int,
    neurons: int,
    hidden: int,
    steps: int,
    many: tuple[int, ...] = (),
    delay: int | None = None,
) -> dict[str, Example]:
    """Return learning networks, a single one or ``many`` at once."""
    rule = plasticity.triplet(1e-4, 1e-2)
    share = min(0.2, 13 / inputs)  # share of inputs that fire
    presented = (drawn(3, steps, inputs, device=device, seed=7) < share).byte()
    labels, desired = torch.arange(3, device=device), drawn(steps, 3, device=device, seed=6) < 0.5
    delays = torch.arange(inputs, device=device).remainder(9).byte()
    delays = delays.expand(*many, neurons, inputs).contiguous()
    theta = torch.zeros(*many, neurons, device=device)
    w, first, last = (
        min(0.3, 12 / i) * drawn(*many, o, i, device=device, seed=3)
        for i, o in ((inputs, neurons), (inputs, hidden), (hidden, 10))
    )
    batch = 3 if delay is None else 1
    more: dict[str, Any] = {} if delay is None else {"inhibition_delay": delay, "one_winner": not delay}

    def current(w: Tensor, theta: Tensor) -> object:
        return ops.diehl_cook_(presented, w, theta, rule=rule, norm=0.1 * inputs, v_threshold=1.0, **more)

    def conductance(w: Tensor, theta: Tensor) -> object:
        return ops.diehl_cook_(presented, w, theta, synapses="conductance", rule=rule, delays=delays, norm=0.1 * inputs)

    def layers(first: Tensor, last: Tensor) -> object:
        spikes = presented.transpose(0, 1).bool()
        return ops.bp_stdp_network_([first, last], spikes, labels, desired, thresholds=[0.9, 1.0], batch=batch)

    return {
        "diehl_cook_": Example(current, (w, theta), False),
        "diehl_cook_ with conductances": Example(conductance, (w, theta.double()), False),
        "bp_stdp_network_": Example(layers, (first, last), False),
    }


if __name__ == "__main__":
    import argparse

    from benchmarks.timing import require_kernels

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("device", choices=("cpu", "cuda"))
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--large", action="store_true", help="sizes that fill a GPU")
    parser.add_argument("--launches", action="store_true", help="other sizes of networks, too")
    chosen = parser.parse_args()
    require_kernels(chosen.device)
    cases = examples(chosen.device, **(LARGE if chosen.large else {}))
    cases = {name: e for name, e in cases.items() if not chosen.only or name in chosen.only}
    if chosen.device == "cuda":
        cases = {name: e for name, e in cases.items() if name not in backend.BY_REFERENCE}
    if chosen.launches:
        cases |= launches(chosen.device, small=chosen.device == "cpu")
    with backend.use(chosen.device):
        for name, example in cases.items():
            example.run()
            print(name, flush=True)
    if chosen.device == "cuda":
        torch.cuda.synchronize()
