"""One small call of every op, forward and backward, the same on every device; and the ways that blocks meet."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snnfast import backend, ops, plasticity
from snnfast.calls.neuron import NEURONS

# Of every op: its neurons fill a GPU whatever the size of an element, so that a thread has several (fills in
# csrc/cuda/launch.h).
LARGE = {"steps": 100, "neurons": 1 << 17}


def drawn(*shape: int, device: str, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator).to(device)


def tensors(result: object) -> list[Tensor]:
    """All tensors of what an op returns."""
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, tuple | list):
        return [tensor for part in result for tensor in tensors(part)]
    return []


class Example(NamedTuple):
    """``function`` of copies of ``inputs``, which it may change.

    ``smooth``: it has gradients for all of them, of a weighted sum as training has it, or of the plain sum if ``summed``:
    the gradient of that is one value, which kernels read another way.
    """

    function: Callable[..., object]
    inputs: tuple[Tensor, ...]
    smooth: bool
    summed: bool = False

    def run(self, function: Callable[..., object] | None = None) -> list[Tensor]:
        """The inputs as they are afterwards, what is returned, and gradients; of ``function``, if it is given."""
        inputs = [x.detach().clone().requires_grad_(self.smooth) for x in self.inputs]
        outputs = tensors((function or self.function)(*inputs))
        found = [x.detach() for x in (*inputs, *outputs)]
        if self.smooth:
            wanted = [y for y in outputs if y.requires_grad]
            weights = [
                torch.ones((), device=y.device).to(y.dtype).expand_as(y)
                if self.summed
                else drawn(*y.shape, device=str(y.device), seed=20 + k).to(y.dtype) - 0.25
                for k, y in enumerate(wanted)
            ]
            found += torch.autograd.grad(wanted, inputs, weights)
        return found


def examples(device: str, steps: int = 12, neurons: int = 96) -> dict[str, Example]:
    """Every op by its name; arguments are made here, so that a run only computes.

    Launches are few whatever the sizes, for a profiler that looks at a number of them: ``bp_stdp_`` has three a step.
    """
    few = min(neurons, 128)  # that feed each other
    x = 2.5 * drawn(steps, 3, neurons, device=device)
    pre = drawn(steps, 3, 40, device=device, seed=1) < 0.2
    post = drawn(steps, 3, neurons, device=device, seed=2) < 0.1
    w = 0.3 * drawn(neurons, 40, device=device, seed=3)
    error = drawn(steps, 3, neurons, device=device, seed=4).sub(0.5).mul(2).round()
    hidden, out = 0.3 * drawn(64, 40, device=device), 0.3 * drawn(10, 64, device=device, seed=5)
    desired = drawn(steps, 3, device=device, seed=6) < 0.5
    labels = torch.arange(3, device=device)
    theta = torch.zeros(neurons, device=device)
    presented = (drawn(3, steps, 40, device=device, seed=7) < 0.2).byte()
    delays = torch.arange(40, device=device).remainder(9).byte().expand(neurons, 40).contiguous()
    t_in = 8 * drawn(3, 40, device=device, seed=8)
    terminals = 0.1 * drawn(neurons, 40, 4, device=device, seed=9)
    waits = torch.arange(1.0, 5.0, device=device)

    images = (drawn(steps, 3, 8, 8, device=device, seed=10) < 0.1).to(w.dtype)
    kernels = drawn(4, 3, 3, 3, device=device, seed=11)
    rule = plasticity.triplet(1e-4, 1e-2)

    def learn(w: Tensor) -> object:
        return ops.stdp_(w, pre, post, rule=plasticity.pair(1e-4, 1e-3))

    def network(first: Tensor, last: Tensor) -> object:
        return ops.bp_stdp_network_([first, last], pre, labels, desired, thresholds=[0.9, 1.0])

    def current(w: Tensor, theta: Tensor) -> object:
        return ops.diehl_cook_(presented, w, theta, rule=rule, norm=4.0, v_threshold=1.0)

    def conductance(w: Tensor, theta: Tensor) -> object:
        return ops.diehl_cook_conductance_(presented, w, theta, rule=rule, delays=delays, norm=4.0)

    def times(t_in: Tensor, w: Tensor) -> Tensor:
        return ops.spikeprop(t_in, w, waits, tau=7.0, t_max=40.0).nan_to_num(posinf=0.0)

    of_neurons = {name: Example(getattr(ops, name), (x,), True) for name in NEURONS}
    return of_neurons | {
        "delay": Example(lambda x: ops.delay(x, 1.5), (x,), True),
        "spike_count": Example(ops.spike_count, (x,), False),
        "poisson": Example(lambda p: ops.poisson(p, steps, seed=7), (x[0] / 3,), False),
        "stdp_": Example(learn, (w,), False),
        "bp_stdp_": Example(lambda w: ops.bp_stdp_(w, pre[:12], error[:12]), (w,), False),
        "bp_stdp_network_": Example(network, (hidden, out), False),
        "diehl_cook_": Example(current, (w, theta), False),
        "diehl_cook_conductance_": Example(conductance, (w, theta.double()), False),
        "spikeprop": Example(times, (t_in, terminals), True),
        "recurrent": Example(
            ops.recurrent, (x[..., :few], 0.1 * drawn(few, few, device=device)), True
        ),
        "spike_linear": Example(ops.spike_linear, (pre.to(w.dtype), w), True),
        "pool2d": Example(lambda x: ops.pool2d(x, 2), (images,), True),
        "spike_conv2d": Example(ops.spike_conv2d, (images, kernels), True),
    }


class Size(NamedTuple):
    """``steps`` of ``inputs`` to ``neurons`` neurons, the layers between them; of so many networks at once."""

    inputs: int
    neurons: int
    networks: int = 1
    steps: int = 30

    def small(self) -> Size:
        return Size(12, 3 + self.neurons // 300, self.networks, 6)


# Learning networks by how their blocks meet on an H100: in a cluster, in a cooperative grid without clusters, or alone
# (tests/emulation/test_plans.py).
SIZES = {
    "784x400": Size(784, 400),  # a cluster of 8 blocks, or one block
    "9x2100": Size(9, 2100),  # a cluster of 4, or a grid of 9
    "12x1100": Size(12, 1100),  # a cluster of 2, or a grid of 5
    "4 networks of 784x400": Size(784, 400, 4),
    "4 networks of 12x1100": Size(12, 1100, 4),
}


def networks(device: str, small: bool = False) -> dict[str, Example]:
    """Networks whose blocks tell each other something in every step, while they learn."""
    found: dict[str, Example] = {}
    for name, size in SIZES.items():
        size = size.small() if small else size
        many = (size.networks,) if size.networks > 1 else ()
        I, N = size.inputs, size.neurons
        spikes = (drawn(2, size.steps, I, device=device, seed=7) < min(0.3, 13 / I)).byte()
        w = 13 / I * drawn(*many, N, I, device=device, seed=3)
        theta = torch.zeros(*many, N, device=device)
        delays = torch.arange(I, device=device).remainder(5).byte().expand(*many, N, I).contiguous()
        for delay in (0, 3):

            def learn(w: Tensor, theta: Tensor, spikes: Tensor = spikes, **more: Any) -> object:
                rule = plasticity.triplet(1e-4, 1e-2)
                return ops.diehl_cook_(
                    spikes, w, theta, rule=rule, norm=13.0, v_threshold=1.0, theta_plus=0.05, **more
                )

            call = partial(learn, inhibition_delay=delay, one_winner=not delay)
            found[f"diehl_cook_ {name}, inhibition delay {delay}"] = Example(call, (w, theta), False)
        if I < 100 or size.networks == 1:

            def conduct(w: Tensor, theta: Tensor, spikes: Tensor, delays: Tensor) -> object:
                rule = plasticity.triplet(1e-4, 1e-2)
                return ops.diehl_cook_conductance_(
                    spikes, w, theta, rule=rule, delays=delays, norm=13.0
                )

            call = partial(conduct, spikes=spikes, delays=delays)
            found[f"diehl_cook_conductance_ {name}"] = Example(call, (w, theta.double()), False)
    for count in (1, 4):
        many = (count,) if count > 1 else ()
        I, hidden = (12, 9) if small else (784, 500)
        first, last = (
            (drawn(*many, o, i, device=device, seed=o) - 0.4) / i**0.5
            for o, i in ((hidden, I), (10, hidden))
        )
        trains = drawn(20, 3, I, device=device, seed=1) < 0.05
        labels = torch.arange(3, device=device)
        desired = drawn(20, 3, device=device, seed=6) < 0.5

        def step(
            first: Tensor,
            last: Tensor,
            trains: Tensor = trains,
            labels: Tensor = labels,
            desired: Tensor = desired,
        ) -> object:
            return ops.bp_stdp_network_([first, last], trains, labels, desired, thresholds=[0.9, 1.0])

        name = f"{count} networks of " * (count > 1) + f"{I}-{hidden}-10"
        found[f"bp_stdp_network_ {name}"] = Example(step, (first, last), False)
    x = 2.5 * drawn(12, 3, 96 if small else 1 << 17, device=device)
    found["lif, gradient of the sum"] = Example(ops.lif, (x,), True, summed=True)
    return found


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("device", choices=("cpu", "cuda"))
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--large", action="store_true", help="sizes that fill a GPU")
    parser.add_argument("--networks", action="store_true", help="the ways that blocks meet, too")
    chosen = parser.parse_args()
    cases = examples(chosen.device, **(LARGE if chosen.large else {}))
    cases = {name: e for name, e in cases.items() if not chosen.only or name in chosen.only}
    if chosen.networks:
        cases |= networks(chosen.device, small=chosen.device == "cpu")
    with backend.use(chosen.device):
        for name, example in cases.items():
            example.run()
            print(name, flush=True)
    if chosen.device == "cuda":
        torch.cuda.synchronize()
