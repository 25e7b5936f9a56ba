"""Traces of neurons of other libraries, in ``tests/ports/traces/LIBRARY_NEURON.json``, all in float64.

Shared by the ``cases`` of a file: the input ``x`` ``[T, B, N]``, the membrane ``v0`` ``[B, N]`` before the first step,
and the ``weights`` ``[T, B, N]`` of the loss ``(weights * spikes).sum()``. Each case: the ``settings``, the ``spikes``,
the membrane ``v_seq`` (``v_seq_is`` says whether before or after the reset), the gradients ``grad_x`` and ``grad_v0``
of the loss, and ``on_threshold``: the neurons [b, n] whose first step lands exactly on the threshold.
``scripts/record_traces.py`` of commit d69633cc wrote them.
"""

import json
from pathlib import Path

import torch


def recorded(name):
    """Read the trace ``tests/ports/traces/<name>.json``."""
    return json.loads((Path(__file__).parent / "ports/traces" / f"{name}.json").read_text())


def inputs_of(trace, dtype=torch.float64):
    """Return the input ``x`` ``[T, B, N]``, the initial membrane ``v0`` ``[B, N]``, and the ``weights`` of the loss."""
    return [torch.tensor(trace[name], dtype=dtype) for name in ("x", "v0", "weights")]
