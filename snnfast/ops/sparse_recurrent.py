"""Recurrent neurons with sparse connections: a call of the kernels, whose spikes may be events."""

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
    """Run a call."""
    return recorded(call, partial(_run, op))
