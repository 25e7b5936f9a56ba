"""One small call of every op, forward and backward, the same on every device."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from snnfast import ops, plasticity
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
    """``function`` of copies of ``inputs``, which it may change; ``smooth``: it has gradients for all of them."""

    function: Callable[..., object]
    inputs: tuple[Tensor, ...]
    smooth: bool

    def run(self, function: Callable[..., object] | None = None) -> list[Tensor]:
        """The inputs as they are afterwards, what is returned, and gradients; of ``function``, if it is given."""
        inputs = [x.detach().clone().requires_grad_(self.smooth) for x in self.inputs]
        outputs = tensors((function or self.function)(*inputs))
        found = [x.detach() for x in (*inputs, *outputs)]
        if self.smooth:
            found += torch.autograd.grad([y.sum() for y in outputs if y.requires_grad], inputs)
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
        "batch_norm": Example(lambda x: ops.batch_norm(x)[0], (images,), True),
        "pool2d": Example(lambda x: ops.pool2d(x, 2), (images,), True),
        "spike_conv2d": Example(ops.spike_conv2d, (images, kernels), True),
    }


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("device", choices=("cpu", "cuda"))
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--large", action="store_true", help="sizes that fill a GPU")
    chosen = parser.parse_args()
    sizes = LARGE if chosen.large else {}
    for name, example in examples(chosen.device, **sizes).items():
        if not chosen.only or name in chosen.only:
            example.run()
            print(name, flush=True)
    if chosen.device == "cuda":
        torch.cuda.synchronize()
