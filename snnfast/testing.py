"""Helpers for tests of code that uses snnfast, like ``torch.testing`` for PyTorch."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from snnfast import ops

__all__ = ["assert_spikes_close", "load_cuda_emulation"]


def assert_spikes_close(
    actual: Tensor, expected: Tensor, margin: Tensor, *, band: float = 1e-5, max_flips: float = 1e-3
) -> None:
    """Assert that two spike tensors agree wherever the membrane was not within ``band`` of the threshold.

    Two devices may round differently; then a membrane near the threshold may fire on one of them only. Such a flip is
    allowed inside the band, for at most a fraction ``max_flips`` of all spikes, in either direction; anything else is
    an error. Compare membranes only where no flip came before.

    Args:
        actual: spikes ``[T, ...]``.
        expected: spikes ``[T, ...]``.
        margin: ``h - v_threshold`` of the expected run, ``[T, ...]``.
        band: half width of the band around the threshold.
        max_flips: allowed fraction of flipped spikes.
    """
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        raise AssertionError(
            f"spikes have shape {list(actual.shape)} and dtype {actual.dtype}, "
            f"expected {list(expected.shape)} and {expected.dtype}"
        )
    flipped = actual != expected
    # After a flip the two runs of a neuron have different histories.
    first = flipped & (flipped.cumsum(0) == 1)
    outside = first & (margin.abs() > band)
    if outside.any():
        where = outside.nonzero()[0].tolist()
        raise AssertionError(
            f"{int(outside.sum())} spikes differ outside the band of {band} around the threshold, "
            f"first at {where} where h - v_threshold = {margin[tuple(where)].item():.3g}"
        )
    flips, total = int(first.sum()), max(actual.numel(), 1)
    if flips > max(1, max_flips * total):
        raise AssertionError(f"{flips} of {total} spikes differ, allowed are {max_flips:.1%}")
    late = int((first & (expected == 1)).sum())
    if flips >= 20 and not 0.2 <= late / flips <= 0.8:
        raise AssertionError(f"flips are one-sided: {late} of {flips} are missing spikes")


def load_cuda_emulation() -> bool:
    """Load the CUDA kernels compiled for the CPU, as backend ``"cuda_emulation"`` of :func:`snnfast.backend.use`.

    Returns:
        whether there are any; ``SNNFAST_EMULATION=1`` at build time makes them.
    """
    if hasattr(torch.ops.snnfast_emulated, "lif_forward"):
        return True
    library = next(Path(__file__).parent.glob("_cuda_emulation*.so"), None)
    if library is None:
        return False
    torch.ops.load_library(str(library))
    ops.register("snnfast_emulated")
    return True
