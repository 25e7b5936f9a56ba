"""Recurrent neurons with sparse connections: one call of the kernels, or one for each part that is recorded."""

from __future__ import annotations

from functools import partial
from typing import Any

from snnfast.reference.call import public_op
from snnfast.reference.recurrent import scan_recurrent
from snnfast.reference.sparse_recurrent import recorded
from snnfast.reference.sparse_recurrent import sparse_recurrent as reference

from .neuron import built_in, runner

_run = runner(scan_recurrent, built_in)


@public_op(reference)
def sparse_recurrent(op: str, call: Any) -> tuple[Any, ...]:
    """Run a call, in parts if its spikes are recorded as events."""
    return recorded(call, partial(_run, op))
