"""Random spikes from probabilities, for all time steps at once."""

from __future__ import annotations

import torch
from torch import Tensor

from snnfast import backend, reference
from snnfast.reference.poisson import prepare


def poisson(
    p: Tensor,
    time_steps: int,
    *,
    generator: torch.Generator | None = None,
    seed: int | Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    validate: bool = True,
) -> Tensor:
    """Spikes that fire with probability ``p``, independently at every step and element.

    A Poisson process seen in steps (Gerstner et al., Neuronal Dynamics, chapter 7)::

        s[t] = 1 if u[t] < p else 0        u[t] uniform in {0, 1, ..., 2**24 - 1} / 2**24

    so ``p = 0`` never fires, ``p = 1`` always does, and the probability of a spike is ``p`` rounded
    up to a multiple of 2**-24. ``u`` is the top of a word of Philox 4x32-10 (Salmon et al., SC
    2011) whose key is the seed: element ``e = t N + n`` takes word ``e % 4`` of counter ``e // 4``.
    The same seed gives the same spikes on the CPU, on CUDA and in the reference, for any number of
    threads. There is no gradient with respect to ``p``.

    The seed is the first that applies:

    - ``seed``;
    - a number drawn from ``generator``, which may be on the CPU for ``p`` on CUDA, to get the
      spikes of the CPU;
    - a number drawn from PyTorch's CPU generator, so that after ``torch.manual_seed`` spikes are
      the same on every device. Under ``torch.compile`` and in a CUDA graph it is the generator of
      ``p``'s device, which draws anew in every run.

    Args:
        p: probability of a spike per step, in [0, 1]; any shape, any strides, float32, float64,
            bfloat16 or float16. Used in float32.
        time_steps: number of steps T.
        generator: where to draw the seed from. Compiled code takes none; pass ``seed`` as a tensor.
        seed: an integer in [-2**63, 2**64), or an int64 tensor with one value on the device of
            ``p``.
        dtype: of the spikes: bool, uint8, float32, float64, bfloat16 or float16.
        validate: look whether ``p`` lies in [0, 1]. On CUDA this waits for the device. Under
            ``torch.compile`` and in a CUDA graph values cannot be looked at: then, and with False,
            NaN and negative ``p`` never fire and ``p`` above 1 always does.

    Returns:
        spikes ``[time_steps, *p.shape]``, contiguous.

    Raises:
        TypeError, ValueError: for arguments of wrong type, dtype, device or range.
    """
    kernels = backend.library("poisson", p) if isinstance(p, Tensor) else None
    if kernels is None:
        return reference.poisson(
            p, time_steps, generator=generator, seed=seed, dtype=dtype, validate=validate
        )
    p, key = prepare(p, time_steps, generator, seed, dtype, validate)
    spikes: Tensor = kernels.poisson(p, key, time_steps, dtype)
    return spikes


def register(namespace: str) -> None:
    """Makes the kernel in ``namespace`` traceable without data."""

    @torch.library.register_fake(f"{namespace}::poisson")
    def _(p: Tensor, seed: Tensor, time_steps: int, dtype: torch.dtype) -> Tensor:
        return p.new_empty((time_steps, *p.shape), dtype=dtype)
