"""Traces of neurons of other libraries; scripts/record_traces.py writes and describes them."""

import json
from pathlib import Path

import torch


def recorded(name):
    """Read the trace ``tests/ports/traces/<name>.json``."""
    return json.loads((Path(__file__).parent / "ports/traces" / f"{name}.json").read_text())


def inputs_of(trace, dtype=torch.float64):
    """Return the input ``x`` ``[T, B, N]``, the initial membrane ``v0`` ``[B, N]``, and the ``weights`` of the loss."""
    return [torch.tensor(trace[name], dtype=dtype) for name in ("x", "v0", "weights")]
