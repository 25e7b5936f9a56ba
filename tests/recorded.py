"""Traces of other libraries' neurons, which scripts/record_traces.py wrote and describes."""

import json
from pathlib import Path

import torch


def recorded(name):
    """The trace ``tests/nn/traces/<name>.json``."""
    return json.loads((Path(__file__).parent / "nn/traces" / f"{name}.json").read_text())


def inputs_of(trace, dtype=torch.float64):
    """The input ``x`` ``[T, B, N]``, the first membrane ``v0`` ``[B, N]``, and the ``weights`` of the loss."""
    return [torch.tensor(trace[name], dtype=dtype) for name in ("x", "v0", "weights")]
