"""Accuracy of ``snnfast train sequence`` on small data sets of one's own, with no option but the neuron."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from snnfast import procedure

HEADER = ("recordings", "neuron", "training samples", "test accuracy", "limit")
LIMIT = 0.9
SAMPLES, NEURONS, TESTED = (60, 120, 200), ("lif", "adlif"), 150

Recordings = tuple[Any, Any]  # values [N, T, channels], and labels


def tones(n: int, rng: np.random.Generator) -> Recordings:
    """Return tones of three frequencies beside a channel of noise, and their classes."""
    labels, t = np.arange(n) % 3, np.arange(60)
    pitch = np.array([0.03, 0.06, 0.12])[labels] * rng.uniform(0.9, 1.1, n)
    waves = np.sin(2 * np.pi * pitch[:, None] * t + rng.uniform(0, 2 * np.pi, (n, 1)))
    return np.stack([waves, rng.normal(0, 0.3, waves.shape)], 2), labels


def bumps(n: int, rng: np.random.Generator) -> Recordings:
    """Return bumps over 20 channels that move up, down or not at all, in noise, and their classes."""
    labels, t = np.arange(n) % 3, np.arange(25)
    speed = np.array([0.5, -0.5, 0])[labels] * rng.uniform(0.8, 1.2, n)
    center = rng.uniform(8, 12, (n, 1)) + speed[:, None] * t
    return np.exp(-((np.arange(20) - center[..., None]) ** 2) / 4) + rng.normal(0, 0.1, (n, 25, 20)), labels


def patterns(n: int, rng: np.random.Generator) -> Recordings:
    """Return spikes of 40 channels, a sixth of which are more active in each sixth of the time, and their classes."""
    labels = np.arange(n) % 3
    active = np.random.default_rng(7).random((3, 6, 40)) < 1 / 6
    rates = 0.02 + 0.25 * active.repeat(5, 1)
    return rng.random((n, 30, 40)) < rates[labels], labels


KINDS = {"tones": tones, "moving bumps": bumps, "spike patterns": patterns}


def write(path: Path, kind: Callable[[int, np.random.Generator], Recordings], samples: int) -> str:
    """Write ``samples`` training samples and :data:`TESTED` test samples; return the file."""
    parts = {}
    for seed, (part, count) in enumerate((("train", samples), ("test", TESTED))):
        values, labels = kind(count, np.random.default_rng(seed))
        parts |= {f"{part}_images": values.astype(np.float32), f"{part}_labels": labels}
    np.savez(path, **parts)  # type: ignore[arg-type]
    return str(path)


def rows() -> Iterator[tuple[str, ...]]:
    """Yield the rows of the table."""
    with tempfile.TemporaryDirectory() as folder:
        for name, kind in KINDS.items():
            for neuron in NEURONS:
                for samples in SAMPLES:
                    file = write(Path(folder, "mine.npz"), kind, samples)
                    result = procedure.sequence(file, neuron=neuron, progress=False, echo=None)
                    yield name, neuron, str(samples), f"{result.accuracy:.1%}", f"{LIMIT:.0%}"
