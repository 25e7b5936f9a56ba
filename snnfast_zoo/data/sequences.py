"""Memory tasks with generated samples: binary adding, delayed XOR, copy memory."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from snnfast import check

__all__ = ["TASKS", "binary_adding", "copy_memory", "delayed_xor"]

COPY_SYMBOLS, COPY_CLASSES = 5, 8


class SequenceTask(NamedTuple):
    """Sizes of the input and the target of a task: ``outputs`` targets, each with ``classes`` classes.

    ``outputs=None``: a target at every step.
    """

    in_features: int
    classes: int
    outputs: int | None = 1


TASKS = {
    "adding": SequenceTask(2, 3),
    "xor": SequenceTask(2, 2),
    "copy": SequenceTask(COPY_CLASSES + 1, COPY_CLASSES, COPY_SYMBOLS),
}


def binary_adding(samples: int, num_steps: int = 100, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Generate binary adding: the sum of two marked bits in a long sequence of random bits.

    At every step the first input is a random bit. The second is 1 at two steps, one in each half of the sequence, drawn
    at random. The label is the sum of the two bits there: 0, 1 or 2, where 1 has probability 1/2.

    Args:
        samples: number of samples.
        num_steps: steps of each, at least 2.
        seed: seed of the random numbers.

    Returns:
        uint8 ``[samples, num_steps, 2]`` of 0 and 1, and labels int64 ``[samples]``.

    Source: the adding problem of Hochreiter and Schmidhuber (1997) with bits for numbers, as in NeuroSeqBench.
    """
    samples, num_steps, generator = _drawn("binary_adding", samples, num_steps, seed, 2)
    x = torch.randint(2, (samples, num_steps, 2), generator=generator, dtype=torch.uint8)
    x[..., 1] = 0
    half, rows = num_steps // 2, torch.arange(samples)
    labels = torch.zeros(samples, dtype=torch.int64)
    for first, last in ((0, half), (half, num_steps)):
        step = torch.randint(first, last, (samples,), generator=generator)
        x[rows, step, 1] = 1
        labels += x[rows, step, 0]
    return x, labels


def delayed_xor(samples: int, num_steps: int = 100, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Generate delayed XOR: whether two spikes, far apart in time, are on different inputs.

    One spike is in the first quarter of the steps, one in the last, each at a random step on one of two inputs.

    Args:
        samples: number of samples.
        num_steps: steps of each, at least 4.
        seed: seed of the random numbers.

    Returns:
        uint8 ``[samples, num_steps, 2]`` of 0 and 1, and labels int64 ``[samples]``, 0 or 1.
    """
    samples, num_steps, generator = _drawn("delayed_xor", samples, num_steps, seed, 4)
    x = torch.zeros(samples, num_steps, 2, dtype=torch.uint8)
    quarter, rows = num_steps // 4, torch.arange(samples)
    labels = torch.zeros(samples, dtype=torch.int64)
    for first, last in ((0, quarter), (num_steps - quarter, num_steps)):
        step = torch.randint(first, last, (samples,), generator=generator)
        bit = torch.randint(2, (samples,), generator=generator)
        x[rows, step, bit] = 1
        labels ^= bit
    return x, labels


def copy_memory(samples: int, num_steps: int = 100, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Generate copy memory: five symbols out of eight must be repeated on a cue many steps later.

    The symbols are spikes on one of eight inputs, at the first five steps. A ninth input fires at the last five steps;
    at each of these one symbol must be repeated, in the same order.

    Args:
        samples: number of samples.
        num_steps: steps of each, at least 10.
        seed: seed of the random numbers.

    Returns:
        uint8 ``[samples, num_steps, 9]`` of 0 and 1, and labels int64 ``[samples]``: the symbols as one number in
        base 8, with the first symbol as its last digit.

    Source: Hochreiter and Schmidhuber (1997); Arjovsky, Shah, Bengio (2016).
    """
    count = COPY_SYMBOLS
    samples, num_steps, generator = _drawn("copy_memory", samples, num_steps, seed, 2 * count)
    symbols = torch.randint(COPY_CLASSES, (samples, count), generator=generator)
    x = torch.zeros(samples, num_steps, COPY_CLASSES + 1, dtype=torch.uint8)
    x[torch.arange(samples)[:, None], torch.arange(count), symbols] = 1
    x[:, -count:, COPY_CLASSES] = 1
    return x, (symbols * COPY_CLASSES ** torch.arange(count)).sum(1)


def _drawn(task: str, samples: int, num_steps: int, seed: int, fewest: int) -> tuple[int, int, torch.Generator]:
    samples = check.integer(task, "samples", samples)
    num_steps = check.integer(task, "num_steps", num_steps, fewest)
    generator = torch.Generator().manual_seed(check.integer(task, "seed", seed, 0))
    return samples, num_steps, generator
