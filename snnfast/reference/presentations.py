"""Presentations: the stimuli that an op over whole images takes one after the other, in three forms."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from snnfast.reference.poisson import check_range, poisson

SPIKE_DTYPES = (torch.bool, torch.uint8, torch.float32, torch.float64)


class Events(NamedTuple):
    """Spikes of P presentations as a list of which input fired when.

    Attributes:
        inputs: int32, the firing inputs of all steps in order; within a step in ascending order.
        offsets: int64 ``[P, T + 1]``; in step ``t`` of presentation ``p`` the inputs
            ``inputs[offsets[p, t] : offsets[p, t + 1]]`` fire.
    """

    inputs: Tensor
    offsets: Tensor

    @classmethod
    def from_dense(cls, spikes: Tensor) -> Events:
        """The events of ``spikes`` ``[P, T, I]``, on its device; a spike is what is not 0."""
        fired = spikes != 0
        ends = fired.flatten(0, 1).sum(1).cumsum(0).view(fired.shape[:2])
        starts = torch.cat([ends.new_zeros(1), ends.flatten()])[: -1 if ends.numel() else None]
        first = (
            starts.view(fired.shape[:2])[:, :1] if ends.numel() else ends.new_zeros((len(ends), 1))
        )
        return cls(fired.nonzero()[:, 2].to(torch.int32), torch.cat([first, ends], 1))


class Rates(NamedTuple):
    """Firing rates from which Poisson spikes are drawn.

    Presentation ``p`` is ``ops.poisson(hz[p] * (dt / 1000), time_steps, seed=seeds[p])``.

    Attributes:
        hz: float32 ``[P, I]``, each in [0, 1000 / dt].
        time_steps: steps T of a presentation.
        seeds: int64 ``[P]`` on the device of ``hz``.
    """

    hz: Tensor
    time_steps: int
    seeds: Tensor


def count(x: Tensor | Events | Rates) -> int:
    """How many presentations ``x`` holds."""
    return (x.offsets if isinstance(x, Events) else x.hz if isinstance(x, Rates) else x).shape[0]


def spikes_of(x: Tensor | Events | Rates, p: int, inputs: int, dt: float) -> Tensor:
    """Presentation ``p`` as bool ``[T, I]``."""
    if isinstance(x, Rates):
        probability = x.hz[p].to(torch.float32) * (dt / 1000.0)
        return poisson(
            probability, x.time_steps, seed=x.seeds[p : p + 1], dtype=torch.bool, validate=False
        )
    if isinstance(x, Events):
        offsets = x.offsets[p].tolist()
        spikes = torch.zeros((len(offsets) - 1, inputs), dtype=torch.bool, device=x.inputs.device)
        for t, (begin, end) in enumerate(pairwise(offsets)):
            spikes[t, x.inputs[begin:end].long()] = True
        return spikes
    return x[p] != 0


def steps(x: Tensor | Events | Rates) -> int:
    """Steps T of every presentation."""
    if isinstance(x, Rates):
        return int(x.time_steps)
    return x.offsets.shape[1] - 1 if isinstance(x, Events) else x.shape[1]


def parts(
    x: Tensor | Events | Rates,
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, Tensor | None, int]:
    """What a kernel is given: spikes, inputs, offsets, hz, seeds, time_steps; those of the other forms None."""
    if isinstance(x, Rates):
        return None, None, None, x.hz.detach(), x.seeds, x.time_steps
    if isinstance(x, Events):
        return None, x.inputs, x.offsets, None, None, 0
    return x.detach(), None, None, None, None, 0


def prepare(
    op: str, x: object, inputs: int, device: torch.device, dt: float, validate: bool
) -> Tensor | Events | Rates:
    """Checks presentations for ``inputs`` inputs on ``device``; ``validate`` looks at values, too."""
    if isinstance(x, Rates):
        return _rates(op, x, inputs, device, dt, validate)
    if isinstance(x, Events):
        return _events(op, x, inputs, device, validate)
    if not isinstance(x, Tensor):
        raise TypeError(f"{op}: x must be a tensor, Events or Rates, got {type(x).__name__}")
    _tensor(op, "x", x, SPIKE_DTYPES, device)
    if x.dim() != 3 or x.shape[2] != inputs:
        raise ValueError(f"{op}: x must have shape [P, T, {inputs}], got {list(x.shape)}")
    return x.detach()


def _tensor(
    op: str, name: str, value: object, dtypes: tuple[torch.dtype, ...], device: torch.device
) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {name} must be a tensor, got {type(value).__name__}")
    if value.dtype not in dtypes:
        names = ", ".join(str(d).removeprefix("torch.") for d in dtypes)
        raise TypeError(f"{op}: {name} must have dtype {names}, got {value.dtype}")
    if value.device != device:
        raise ValueError(f"{op}: {name} must be on the device of w, {device}, got {value.device}")


def _rates(
    op: str, x: Rates, inputs: int, device: torch.device, dt: float, validate: bool
) -> Rates:
    _tensor(op, "x.hz", x.hz, (torch.float32,), device)
    _tensor(op, "x.seeds", x.seeds, (torch.int64,), device)
    if x.hz.dim() != 2 or x.hz.shape[1] != inputs:
        raise ValueError(f"{op}: x.hz must have shape [P, {inputs}], got {list(x.hz.shape)}")
    if x.seeds.shape != x.hz.shape[:1]:
        raise ValueError(
            f"{op}: x.seeds must have shape [{x.hz.shape[0]}], got {list(x.seeds.shape)}"
        )
    if isinstance(x.time_steps, bool) or not isinstance(x.time_steps, int):
        raise TypeError(f"{op}: x.time_steps must be an integer, got {type(x.time_steps).__name__}")
    if x.time_steps < 0:
        raise ValueError(f"{op}: x.time_steps must be at least 0, got {x.time_steps}")
    if validate:
        check_range(op, "x.hz", x.hz, 0.0, 1000.0 / dt, " Hz")
    return Rates(x.hz.detach(), x.time_steps, x.seeds)


def _events(op: str, x: Events, inputs: int, device: torch.device, validate: bool) -> Events:
    _tensor(op, "x.inputs", x.inputs, (torch.int32,), device)
    _tensor(op, "x.offsets", x.offsets, (torch.int64,), device)
    if x.inputs.dim() != 1:
        raise ValueError(f"{op}: x.inputs must have one dimension, got {list(x.inputs.shape)}")
    if x.offsets.dim() != 2 or x.offsets.shape[1] < 1:
        raise ValueError(f"{op}: x.offsets must have shape [P, T + 1], got {list(x.offsets.shape)}")
    if not validate:
        return x
    fired = x.inputs.numel()
    if x.offsets.numel():
        low, high = (int(v) for v in x.offsets.aminmax())
        if low < 0 or high > fired or bool((x.offsets.diff(dim=1) < 0).any()):
            raise ValueError(
                f"{op}: x.offsets must ascend within each presentation and lie in [0, {fired}], "
                f"got values from {low} to {high}"
            )
    if fired:
        low, high = (int(v) for v in x.inputs.aminmax())
        if low < 0 or high >= inputs:
            raise ValueError(
                f"{op}: x.inputs must lie in [0, {inputs - 1}], got values from {low} to {high}"
            )
        starts = torch.zeros(fired + 1, dtype=torch.bool, device=device)
        starts[x.offsets.flatten()] = True
        if bool(((x.inputs.diff() <= 0) & ~starts[1:-1]).any()):
            raise ValueError(f"{op}: x.inputs must ascend within a step")
    return x
