"""JAX: a scan over time that XLA compiles, with a surrogate gradient."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import jax
from jax import numpy as jnp
from torch import Tensor, nn

from benchmarks import lif as layer
from benchmarks.timing import Prepared

NOTE = "without the compilation"


@jax.custom_vjp
def spike(u: Any) -> Any:
    return (u >= 0).astype(u.dtype)


spike.defvjp(lambda u: (spike(u), u), lambda u, grad: (grad / (1 + (jnp.pi * u) ** 2),))


def fire(h: Any, threshold: Any) -> tuple[Any, Any]:
    s = spike(h - threshold)
    return s, h * (1 - s)


# The equations of examples/own_neurons.py, with its defaults.
def klif(x: Any, v: Any) -> tuple[Any, ...]:
    return fire(jnp.maximum(1.0 * (0.5 * v + x), 0), 1.0)


def two_compartments(x: Any, v: Any, d: Any) -> tuple[Any, ...]:
    d = d - 0.5 * v + x
    s, v = fire(v + 0.5 * d, 1.0)
    return s, v, d - 0.5 * s


def resonator(x: Any, u: Any, w: Any, q: Any) -> tuple[Any, ...]:
    omega, dt = 10.0, 0.01
    b = ((1 - (dt * omega) ** 2) ** 0.5 - 1) / dt - 1.0 - q
    u, w = u + dt * (b * u - omega * w + x), w + dt * (omega * u + b * w)
    s, _ = fire(u, 1.0 + q)
    return s, u, w, 0.9 * q + s


def lif(x: Any, v: Any) -> tuple[Any, ...]:
    return fire(v + 0.5 * (x - v), 1.0)


STEPS: dict[str, tuple[Callable[..., tuple[Any, ...]], int]] = {
    "lif": (lif, 1),
    "klif": (klif, 1),
    "two_compartments": (two_compartments, 2),
    "resonator": (resonator, 3),
}


def passes(neuron: str, x: Tensor, grad: Tensor) -> Prepared:
    """Forward pass, and forward with the gradient of ``x``, of a neuron; compiled at the first run."""
    step, count = STEPS[neuron]
    values, grads = jnp.asarray(x.numpy()), jnp.asarray(grad.numpy())

    def run(x: Any) -> Any:
        def body(states: tuple[Any, ...], x_t: Any) -> tuple[tuple[Any, ...], Any]:
            s, *after = step(x_t, *states)
            return tuple(after), s

        return jax.lax.scan(body, (jnp.zeros_like(x[0]),) * count, x)[1]

    @jax.jit
    def training(x: Any, grad: Any) -> Any:
        spikes, pull = jax.vjp(run, x)
        return spikes, pull(grad)[0]

    forward = jax.jit(run)
    timed: dict[str, Callable[[], object]] = {
        layer.FORWARD: lambda: jax.block_until_ready(forward(values)),
        layer.TRAINING: lambda: jax.block_until_ready(training(values, grads)),
    }
    spikes, _ = training(values, grads)
    return Prepared(timed, {"spikes a step": float(spikes.mean())})


def long_step(net: nn.Module, x: Tensor, target: Tensor) -> Callable[[], Any]:
    """A compiled training step of the network of :mod:`benchmarks.memory`, with states checkpointed by parts."""
    weights = [jnp.asarray(p.detach().numpy()) for p in net.parameters()]
    values, labels = jnp.asarray(x.numpy()), jnp.asarray(target.numpy())
    every = max(k for k in range(1, 65) if len(x) % k == 0)

    def loss(weights: list[Any], x: Any) -> Any:
        layers = list(zip(weights[::2], weights[1::2]))

        def time_step(states: list[Any], s: Any) -> tuple[list[Any], Any]:
            after = []
            for (weight, bias), v in zip(layers, states):
                s, v = fire(0.5 * v + s @ weight.T + bias, 1.0)
                after.append(v)
            return after, s

        def part(states: list[Any], x: Any) -> tuple[list[Any], Any]:
            states, spikes = jax.lax.scan(time_step, states, x)
            return states, spikes.sum(0)

        rest = [jnp.zeros((x.shape[1], len(weight))) for weight, _ in layers]
        parts = x.reshape(-1, every, *x.shape[1:])
        rates = jax.lax.scan(jax.checkpoint(part), rest, parts)[1].sum(0) / len(x)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(rates), labels[:, None], 1)
        return -chosen.mean()

    compiled = jax.jit(jax.value_and_grad(loss)).lower(weights, values).compile()
    return lambda: jax.block_until_ready(compiled(weights, values))[0]
