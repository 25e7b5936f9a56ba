"""Bernoulli spikes in plain PyTorch: what the kernels of ``snnfast.ops.poisson`` must compute."""

from __future__ import annotations

from numbers import Integral

import torch
from torch import Tensor

from snnfast import check
from snnfast.check import SPIKE_DTYPES  # noqa: F401
from snnfast.check import in_range as check_range
from snnfast.check import is_recorded as _is_recorded

INTEGERS = (Integral, torch.SymInt)
WORD = 0xFFFFFFFF


def poisson(
    p: Tensor,
    time_steps: int,
    *,
    generator: torch.Generator | None = None,
    seed: int | Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    validate: bool = True,
) -> Tensor:
    """See :func:`snnfast.ops.poisson`."""
    p, key = prepare(p, time_steps, generator, seed, dtype, validate)
    shape = (time_steps, *p.shape)
    elements = time_steps * p.numel()
    counter = torch.arange((elements + 3) // 4, device=p.device)
    zero = torch.zeros_like(counter)
    words = philox4x32_10((counter & WORD, counter >> 32, zero, zero), (key & WORD, key >> 32))
    uniform = (torch.stack(words, 1).flatten()[:elements] >> 8) * 2.0**-24
    return (uniform.view(shape) < p).to(dtype)


def philox4x32_10(
    counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four random 32-bit words for every counter; all words are int64 tensors.

    Philox 4x32-10 of Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011.
    """
    x, y, z, w = counter
    k0, k1 = (k & WORD for k in key)
    for _ in range(10):
        x_high, x_low = _product(x, 0xD2511F53)
        z_high, z_low = _product(z, 0xCD9E8D57)
        x, y, z, w = z_high ^ y ^ k0, z_low, x_high ^ w ^ k1, x_low
        k0, k1 = (k0 + 0x9E3779B9) & WORD, (k1 + 0xBB67AE85) & WORD
    return x, y, z, w


def _product(a: Tensor, b: int) -> tuple[Tensor, Tensor]:
    """High and low word of a product; in halves, since a signed 64-bit integer does not hold it."""
    low = (a & 0xFFFF) * b
    high = (a >> 16) * b + (low >> 16)
    return high >> 16, ((high & 0xFFFF) << 16) | (low & 0xFFFF)


def prepare(
    p: Tensor,
    time_steps: int,
    generator: torch.Generator | None,
    seed: int | Tensor | None,
    dtype: torch.dtype,
    validate: bool,
) -> tuple[Tensor, Tensor]:
    """Checks the arguments of :func:`poisson`; returns float32 ``p`` and the seed on its device."""
    if not isinstance(p, Tensor):
        raise TypeError(f"poisson: p must be a tensor, got {type(p).__name__}")
    if p.dtype not in check.FLOATING:
        raise TypeError(
            f"poisson: p must have one of the dtypes {check.dtype_names(check.FLOATING)}, got {p.dtype}"
        )
    if isinstance(time_steps, bool) or not isinstance(time_steps, INTEGERS):
        raise TypeError(f"poisson: time_steps must be an integer, got {type(time_steps).__name__}")
    if time_steps < 0:
        raise ValueError(f"poisson: time_steps must be at least 0, got {time_steps}")
    if dtype not in SPIKE_DTYPES:
        raise TypeError(
            f"poisson: dtype must be one of {check.dtype_names(SPIKE_DTYPES)}, got {dtype}"
        )
    p = p.detach()
    if validate:
        check_range("poisson", "p", p, 0.0, 1.0)
    return p.to(torch.float32), _seed(generator, seed, p.device)


def _seed(
    generator: torch.Generator | None, seed: int | Tensor | None, device: torch.device
) -> Tensor:
    """One int64 on ``device``, without waiting for the device."""
    if seed is not None:
        if generator is not None:
            raise ValueError("poisson: give generator or seed, not both")
        return _given_seed(seed, device)
    recorded = _is_recorded(device)
    if generator is None:
        # torch.manual_seed seeds the CPU generator whichever the device, so that spikes are the
        # same on all of them. A recording would repeat a number of the CPU; the generator of the
        # device advances with every replay.
        source = device if recorded else torch.device("cpu")
    else:
        source = generator.device
        if source.type != "cpu" and source != device:
            raise ValueError(
                f"poisson: generator must be on cpu or the device of p, {device}, got {source}"
            )
        if recorded and source != device:
            raise ValueError(
                "poisson: in a CUDA graph generator must be on the device of p, "
                f"{device}, got {source}"
            )
    drawn = torch.randint(0, 2**63 - 1, (1,), generator=generator, device=source)
    if source == device:
        return drawn
    return torch.full((1,), int(drawn), device=device)  # a copy would be slower and might wait


def _given_seed(seed: int | Tensor, device: torch.device) -> Tensor:
    if isinstance(seed, Tensor):
        if seed.dtype != torch.int64:
            raise TypeError(f"poisson: seed must have dtype torch.int64, got {seed.dtype}")
        if seed.numel() != 1:
            raise ValueError(f"poisson: seed must have one value, got shape {list(seed.shape)}")
        if seed.device != device:
            raise ValueError(
                f"poisson: seed must be on the device of p, {device}, got {seed.device}"
            )
        return seed.reshape(1)
    if isinstance(seed, bool) or not isinstance(seed, INTEGERS):
        raise TypeError(
            f"poisson: seed must be an integer or a tensor of one, got {type(seed).__name__}"
        )
    value = int(seed)
    if not -(2**63) <= value < 2**64:
        raise ValueError(f"poisson: seed must lie in [-2**63, 2**64), got {value}")
    value = value - 2**64 if value >= 2**63 else value
    return torch.full((1,), value, dtype=torch.int64, device=device)
