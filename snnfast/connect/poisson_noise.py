"""Poisson input of sparse networks, which kernels draw themselves."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snnfast import check

from .placed import placed

MOST = 1000.0  # expected arrivals a step; many more are as good as a normal distribution
WORDS = 2**32  # values of a random word


class PoissonNoise:
    """Spikes of a Poisson process to each neuron, from outside of the network.

    At every step neuron ``i`` receives ``weight_i k``, where ``k`` is Poisson with mean ``rate_i``, independent of all
    others: the sum of many Poisson trains. ``k`` is drawn by inversion from one word of Philox 4x32-10 whose key is
    the seed and whose counter is neuron, sample and step (Salmon et al., SC 2011), so it is the same for any number of
    threads and in parts; probabilities are multiples of ``2**-32``.

    Args:
        rate: expected number of arrivals a step, from 0 to 1000: a number, or a tensor ``[neurons]``. Of neurons with
            several inputs ``[inputs * neurons]``, those of the first input first.
        weight: what an arrival adds to the input: a number, or a tensor like ``rate``; it has no gradient.
        seed: an integer in [0, 2**64). None: drawn from ``generator``.
        generator: None: PyTorch's generator of the CPU, which ``torch.manual_seed`` seeds.

    Attributes:
        rate, weight, seed: the arguments.
        step: number of steps that were drawn before; see :meth:`after`.
        table: a row for each run of neighbours with the same rate: first neuron, smallest number of arrivals, and the
            words from which on there is one more.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape or range.
    """

    def __init__(
        self,
        rate: float | Tensor,
        weight: float | Tensor = 1.0,
        *,
        seed: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        op = "PoissonNoise"
        check.generator(op, generator)
        if seed is not None and generator is not None:
            raise ValueError(f"{op}: give seed or generator, not both")
        if seed is None:
            seed = int(torch.randint(0, 2**63 - 1, (1,), generator=generator))
        self.seed = check.integer(op, "seed", seed, 0, 2**64 - 1)
        self.step = 0
        self.rate, self.weight = _values(op, "rate", rate), _values(op, "weight", weight)
        rates = self.rate.numpy() if isinstance(self.rate, Tensor) else np.array([self.rate])
        if not np.all((rates >= 0) & (rates <= MOST)):
            raise ValueError(
                f"{op}: rate must be from 0 to {MOST:.0f} arrivals a step, got {rates.min():g} to {rates.max():g}"
            )
        self.table = torch.from_numpy(_table(rates))
        self._copies: dict[Any, tuple[Tensor, ...]] = {}  # on GPUs

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled and copied: all but the copies on GPUs."""
        return self.__dict__ | {"_copies": {}}

    def __repr__(self) -> str:
        """Return the arguments; tensors by their shape."""
        shown = {name: getattr(self, name) for name in ("rate", "weight", "seed")}
        parts = (f"{name}={list(v.shape) if isinstance(v, Tensor) else v}" for name, v in shown.items())
        return f"PoissonNoise({', '.join(parts)})"

    def after(self, steps: int) -> PoissonNoise:
        """Return the noise that follows ``steps`` steps, for the next part of a sequence."""
        later = copy.copy(self)
        later._copies = self._copies
        later.step = self.step + check.integer("after", "steps", steps, 0)
        return later

    def fields(self, op: str, targets: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return table, weights and key as kernels read them on ``device``, for ``targets`` inputs of neurons."""
        for name in ("rate", "weight"):
            value = getattr(self, name)
            if isinstance(value, Tensor) and len(value) != targets:
                raise ValueError(
                    f"{op}: {name} of the noise must be a number or have shape [{targets}], got {list(value.shape)}"
                )
        table, weight = placed(
            self._copies, (targets, dtype), device, lambda: (self.table, self._weights(targets, dtype))
        )
        seed = self.seed - 2**64 if self.seed >= 2**63 else self.seed
        if device.type == "cpu":
            return table, weight, torch.tensor([seed, self.step])
        # A tensor from a list would be copied from the CPU, which a CUDA graph refuses.
        return table, weight, torch.cat([torch.full((1,), word, device=device) for word in (seed, self.step)])

    def _weights(self, targets: int, dtype: torch.dtype) -> Tensor:
        weight = self.weight
        return weight.to(dtype) if isinstance(weight, Tensor) else torch.full((targets,), weight, dtype=dtype)


def _values(op: str, name: str, value: object) -> Any:
    """Return a number, or a tensor of finite numbers in one dimension, in float64 on the CPU."""
    if not isinstance(value, Tensor):
        return check.number(op, name, value)
    check.shape(op, name, value, ("neurons",))
    if value.requires_grad:
        raise ValueError(f"{op}: {name} has no gradient; pass {name}.detach()")
    values = value.detach().double().cpu()
    check.finite(op, name, values)
    return values


def _table(rates: Any) -> Any:
    """Return the rows of :attr:`PoissonNoise.table`."""
    first = np.flatnonzero(np.concatenate([[True], rates[1:] != rates[:-1]]))[: max(len(rates), 1)]
    distinct, which = np.unique(rates[first] if len(rates) else np.zeros(1), return_inverse=True)
    most = float(distinct.max())
    k = np.arange(int(most + 7 * most**0.5) + 40)
    log_factorial = np.cumsum(np.log(np.maximum(k, 1)))
    with np.errstate(divide="ignore", invalid="ignore"):
        log_power = np.where(k == 0, 0.0, k * np.log(distinct[:, None]))
    reached = np.exp(log_power - distinct[:, None] - log_factorial).cumsum(1)
    words = np.minimum(np.rint(reached * WORDS), WORDS).astype(np.int64)
    least = (words >= 1).argmax(1)
    width = int(((words >= 1) & (words < WORDS)).sum(1).max())
    place = np.minimum(least[:, None] + np.arange(width), len(k) - 1)
    rows = np.column_stack([least, np.take_along_axis(words, place, 1)])
    return np.column_stack([first, rows[which]]).astype(np.int64)
