"""Shapes and dtypes of what the neuron kernels allocate (``csrc/ops/neuron.h``), for tracing without data."""

from __future__ import annotations

from torch import Tensor

from snnfast.check import state_dtype


def fake_neurons(x: Tensor, wanted: bool) -> Tensor:
    """One value a neuron in the state dtype, or nothing."""
    return x.new_empty(x.shape[1:] if wanted else (0,), dtype=state_dtype(x.dtype))


def fake_states(
    x: Tensor, states: int, return_state: bool, return_v_seq: bool, checkpoint_every: int
) -> tuple[Tensor, ...]:
    """The states after the last step, ``v_seq`` and the checkpoints of a forward scan."""
    dtype = state_dtype(x.dtype)
    count = (x.shape[0] - 1) // checkpoint_every if checkpoint_every else 0
    checkpoints = (max(count, 0), states, *x.shape[1:]) if checkpoint_every else (0,)
    return (
        *(fake_neurons(x, return_state) for _ in range(states)),
        x.new_empty(x.shape if return_v_seq else (0,), dtype=dtype),
        x.new_empty(checkpoints, dtype=dtype),
    )
