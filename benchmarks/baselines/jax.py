"""JAX: a scan over time that XLA compiles, with a surrogate gradient."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import jax
from jax import numpy as jnp
from torch import Tensor

from benchmarks import lif
from benchmarks.timing import Prepared

NOTE = "without the compilation"


@jax.custom_vjp
def spike(u: Any) -> Any:
    return (u >= 0).astype(u.dtype)


spike.defvjp(
    lambda u: (spike(u), u),
    lambda u, grad: (grad / (1 + (jnp.pi * u) ** 2),),
)


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


STEPS: dict[str, tuple[Callable[..., tuple[Any, ...]], int]] = {
    "klif": (klif, 1),
    "two_compartments": (two_compartments, 2),
    "resonator": (resonator, 3),
}


def own_neuron_passes(neuron: str, x: Tensor, grad: Tensor) -> Prepared:
    """Forward and backward of a neuron, compiled when it is first run."""
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

    spikes, _ = training(values, grads)
    facts = {"spikes a step": float(spikes.mean())}
    return Prepared({lif.TRAINING: lambda: jax.block_until_ready(training(values, grads))}, facts)
