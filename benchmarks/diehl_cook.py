"""The network of Diehl and Cook while it learns, ``T x inputs x neurons``: time of one presentation.

The network is first trained with 60,000 presentations. The images are the digits in the package, enlarged to 28 x 28,
with rates of about 13 input spikes per step, as for MNIST. ``weights`` only copies the weights.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks import neurons
from benchmarks.timing import Prepared, Task

SHAPES = ((250, 784, 100), (250, 784, 400), (250, 784, 1600), (250, 784, 6400))
QUICK_SHAPES = ((20, 64, 10),)
FLOOR = "weights"
BASELINES = ("reference_loop", "bindsnet", "brian2")
# Time per presentation in a long call, in a call with a single one, with spikes drawn inside, and without learning.
RUN, ALONE, ENCODED, FROZEN = "presentation", "alone", "with encoding", "without learning"
# Time per presentation and network for several networks: enough for the threads of a CPU or the blocks of a GPU.
TOGETHER, NETWORKS = "networks at once", {"cpu": 8, "cuda": 128}
LENGTH = 128
LEARNED = 60_000
SPIKES_A_STEP = 12.6
INHIBITION, NORM, V_THRESHOLD, V_RESET, LR_PRE = 120.0, 0.1, 13.0, 5.0, 1e-4
# Neurons: learning rate and growth of the threshold in the preset "tuned".
RATES = {100: (0.03, 0.0125), 400: (0.03, 0.05), 1600: (0.06, 0.2), 6400: (0.1, 0.5)}


class DiehlCookNetwork(NamedTuple):
    """Weights [N, I] with contiguous columns, thresholds [N], rates [images, I] in Hz."""

    w: Tensor
    theta: Tensor
    hz: Tensor


def images(inputs: int) -> Tensor:
    """Return rates in Hz ``[images, inputs]``."""
    from snnfast import data

    digits = data.as_tensors(data.digits())[0].view(-1, 1, 8, 8)
    side = round(inputs**0.5)
    enlarged = torch.nn.functional.interpolate(
        digits, (side, side), mode="bilinear", antialias=True, align_corners=False
    )
    pixels = enlarged.flatten(1).clamp(min=0)
    pixels = torch.where(pixels < 0.1 * pixels.max(), 0.0, pixels / pixels.max())
    return pixels * (SPIKES_A_STEP * 1000 / pixels.sum(1).mean())


def settings(outputs: int) -> tuple[float, float]:
    return RATES[min(RATES, key=lambda n: max(n / outputs, outputs / n))]


@functools.cache
def learned(inputs: int, outputs: int, presentations: int) -> DiehlCookNetwork:
    """Train the network with a number of presentations."""
    generator = torch.Generator().manual_seed(0)
    w = 0.3 * torch.rand((inputs, outputs), generator=generator)
    network = DiehlCookNetwork((w * (NORM * inputs / w.sum(0))).t(), torch.zeros(outputs), images(inputs))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    for first in range(0, presentations, 1000):
        count = min(1000, presentations - first)
        order = torch.randint(len(network.hz), (count,), generator=generator)
        learn(network, rates(network.hz[order], first, 250))
    torch.set_num_threads(threads)
    return network


def on(device: str, network: DiehlCookNetwork) -> DiehlCookNetwork:
    return DiehlCookNetwork(*(tensor.to(device) for tensor in network))


def rates(hz: Tensor, seed: int, steps: int):  # type: ignore[no-untyped-def]
    """Return presentations of ``steps`` steps at rates ``hz``, with seeds counting up from ``seed``."""
    from snnfast import ops

    return ops.Rates(hz, steps, torch.arange(seed, seed + len(hz), device=hz.device))


def learn(network: DiehlCookNetwork, x: object, op: Callable[..., object] | None = None, **changes: object) -> object:
    """Present ``x`` and learn."""
    from snnfast import ops, plasticity

    outputs, inputs = network.w.shape[-2:]
    lr, theta_plus = settings(outputs)
    arguments = {
        "rule": plasticity.triplet(LR_PRE, lr),
        "norm": NORM * inputs,
        "inhibition": INHIBITION,
        "inhibition_delay": 0,
        "one_winner": True,
        "theta_plus": theta_plus,
        "v_threshold": V_THRESHOLD,
        "v_reset": V_RESET,
        "validate": False,
    }
    return (op or ops.diehl_cook_)(x, network.w, network.theta, **{**arguments, **changes})


def trains(network: DiehlCookNetwork, count: int, steps: int, dt: float = 1.0) -> Tensor:
    """Draw spikes ``[count, steps, inputs]``, uint8, in steps of ``dt`` ms."""
    from snnfast import ops

    return torch.stack(
        [ops.poisson(hz * dt / 1000, steps, seed=p, dtype=torch.uint8) for p, hz in enumerate(network.hz[:count])]
    )


def ours(network: DiehlCookNetwork, steps: int) -> dict[str, Callable[[], object]]:
    from snnfast import ops

    spikes = trains(network, LENGTH, steps)
    run, alone = ops.Events.from_dense(spikes), ops.Events.from_dense(spikes[:1])
    encoded = rates(network.hz[:LENGTH], 0, steps)
    frozen = {"rule": None, "theta_plus": 0.0, "norm": None}
    count = NETWORKS[network.w.device.type]
    w = network.w.mT.repeat(count, 1, 1).mT
    several = network._replace(w=w, theta=network.theta.repeat(count, 1))
    return {
        RUN: lambda: learn(network, run),
        ALONE: lambda: learn(network, alone),
        ENCODED: lambda: learn(network, encoded),
        FROZEN: lambda: learn(network, run, **frozen),
        TOGETHER: lambda: learn(several, run),
    }


def prepare(task: Task) -> Prepared:
    steps, inputs, outputs = task.shape
    quick = task.shape in QUICK_SHAPES
    if task.implementation == FLOOR:
        w = torch.rand(inputs, outputs, device=task.device)
        return Prepared({RUN: lambda: w.clone()}, {})
    if task.implementation != neurons.OURS:
        network = on(task.device, learned(inputs, outputs, 0))
        baseline = neurons.baseline(task.implementation)
        return Prepared({RUN: baseline.diehl_cook(network, trains(network, 1, steps)[0])}, {})
    network = on(task.device, learned(inputs, outputs, 200 if quick else LEARNED))
    passes = ours(network, steps)
    result = passes[RUN]()
    facts = {"spikes a presentation": result.counts.sum().item() / len(result.counts)}  # type: ignore[attr-defined]
    together = NETWORKS[network.w.device.type]
    facts[TOGETHER] = together
    return Prepared(passes, facts, dict.fromkeys(passes, LENGTH) | {ALONE: 1, TOGETHER: LENGTH * together})
