"""Neurons that the package does not have, written as the equation of one step, as fast as built-in neurons.

    python examples/own_neurons.py [--num-steps 64]

The script prints the time of a training step of each neuron, in a kernel and as a loop of PyTorch.
"""

import argparse
import time

import torch

import snnfast


@snnfast.neuron
def klif(fire, x, v, *, decay=0.5, k=1.0, v_threshold=1.0):
    """KLIF (Jiang and Zhang 2023): the membrane is scaled by ``k``, which is learned, and cut off below 0."""
    h = torch.relu(k * (decay * v + x))
    s, h, v = fire(h, v_threshold)
    return s, v


@snnfast.neuron
def two_compartments(fire, x, v, d, *, beta_d=-0.5, beta_s=0.5, gamma=0.5, v_threshold=1.0):
    """TC-LIF (Zhang et al. 2024): a dendrite ``d`` and a soma ``v`` that drive each other."""
    d = d + beta_d * v + x
    s, _, v = fire(v + beta_s * d, v_threshold)
    return s, v, d - gamma * s


@snnfast.neuron
def resonator(fire, x, u, w, q, *, omega=10.0, b_offset=1.0, dt=0.01, v_threshold=1.0):
    """Balanced resonate-and-fire (Higuchi et al. 2024): a damped oscillator, refractory by ``q``, without a reset."""
    b = ((1 - (dt * omega) ** 2) ** 0.5 - 1) / dt - b_offset - q
    u, w = u + dt * (b * u - omega * w + x), w + dt * (omega * u + b * w)
    s, u, _ = fire(u, v_threshold + q)
    return s, u, w, 0.9 * q + s


@snnfast.neuron
def adaptive(fire, x, v, w, s, *, alpha=0.9, beta=0.98, a=0.5, b=1.0, v_threshold=1.0):
    """Adaptive LIF (Bittar and Garner 2022): ``w`` follows membrane and spikes, and is taken off the input."""
    w = beta * w + a * v + b * v_threshold * s
    s, v, _ = fire(alpha * (v - v_threshold * s) + (1 - alpha) * (x - w), v_threshold)
    return s, v, w, s


@snnfast.neuron(inputs=2)
def gated(fire, x, gate, v, u, *, decay=0.9, v_threshold=1.0):
    """Two inputs, two states, two outputs: a current and its gate, spikes and their amplitudes."""
    u = decay * u + torch.sigmoid(gate) * x
    s, _, v = fire(decay * v + u, v_threshold)
    return s, s * torch.tanh(u), v, u


def seconds(call, inputs) -> float:
    """CPU seconds of a forward and a backward pass."""
    start = time.process_time()
    call(*inputs)[0].sum().backward()
    return time.process_time() - start


def main() -> None:
    """Time each neuron on ``[num_steps, 32, 1024]``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-steps", type=int, default=64)
    x = torch.randn(parser.parse_args().num_steps, 32, 1024, requires_grad=True)
    for op in (klif, two_compartments, resonator, adaptive, gated):
        inputs = [x] * len(op.inputs)
        seconds(op, inputs)  # compiles
        kernel = 1e3 * min(seconds(op, inputs) for _ in range(5))
        loop = 1e3 * min(seconds(op.reference, inputs) for _ in range(2))
        print(f"{op.name:>16}: kernel {kernel:6.1f} ms, loop {loop:6.1f} ms, {loop / kernel:4.1f} times")


if __name__ == "__main__":
    main()
