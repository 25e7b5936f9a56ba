"""Record of ops that compute spike times.

Their forward operators return times and largest potentials, which have gradients, and tensors for the backward
operators, which have no batch dimension of weights or saved tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from snnfast.reference.call import Op

from .layout import one_by_one
from .record import GradientRecord


def spike_times_record(
    reference: Op[..., Any], shapes: Callable[[Any], Any], *, saved: Sequence[int], **fields: Any
) -> GradientRecord:
    """Return the record; ``saved``: indices of the results that are saved for the backward operator."""
    return GradientRecord(
        reference,
        shapes,
        lambda flat, results, wanted: [*flat, *[results[k] for k in saved]],
        _derivative,
        results=2,
        vmap=lambda kernel: one_by_one(lambda *flat: kernel(*map(_contiguous, flat))),
        **fields,
    )


def _derivative(
    kernel: Callable[..., Any], saved: Sequence[Any], grads: Sequence[Tensor | None], wanted: Sequence[bool]
) -> Any:
    return kernel(*saved, *map(_contiguous, grads), *wanted)


def _contiguous(value: Any) -> Any:
    return value.contiguous() if isinstance(value, Tensor) else value
