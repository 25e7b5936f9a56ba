"""Bernoulli spikes from counted random numbers: Salmon et al., SC 2011."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from snnfast import check

from .call import reference_op


class PoissonCall(NamedTuple):
    """See :func:`poisson`; ``p`` in float32, the seed on its device."""

    p: Tensor
    seed: Tensor
    num_steps: int
    dtype: torch.dtype


WORD = 0xFFFFFFFF


def _poisson(call: PoissonCall) -> Tensor:
    """Return spikes ``[num_steps, *p.shape]``."""
    shape = (call.num_steps, *call.p.shape)
    elements = call.num_steps * call.p.numel()
    counter = torch.arange((elements + 3) // 4, device=call.p.device)
    zero = torch.zeros_like(counter)
    key = (call.seed & WORD, call.seed >> 32)
    words = philox4x32_10((counter & WORD, counter >> 32, zero, zero), key)
    uniform = (torch.stack(words, 1).flatten()[:elements] >> 8) * 2.0**-24
    return (uniform.view(shape) < call.p).to(call.dtype)


def philox4x32_10(
    counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return four random 32-bit words for every counter; all words are int64 tensors.

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
    """Return high and low word of a product; computed in halves, since it exceeds a signed 64-bit integer."""
    low = (a & 0xFFFF) * b
    high = (a >> 16) * b + (low >> 16)
    return high >> 16, ((high & 0xFFFF) << 16) | (low & 0xFFFF)


@reference_op(_poisson)
def poisson(
    p: Tensor,
    num_steps: int,
    *,
    generator: torch.Generator | None = None,
    seed: int | Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    validate: bool = True,
) -> PoissonCall:
    """Draw spikes with probability ``p``, independently at every step and element.

    A Poisson process in discrete time (Gerstner et al., Neuronal Dynamics, chapter 7)::

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
      ``p``'s device, which draws a new number in every run.

    Args:
        p: probability of a spike per step, in [0, 1]; any shape, any strides, float32, float64,
            bfloat16 or float16. Used in float32.
        num_steps: number of steps T.
        generator: where to draw the seed from. Compiled code takes none; pass ``seed`` as a tensor.
        seed: an integer in [-2**63, 2**64), or an int64 tensor with one value on the device of
            ``p``.
        dtype: dtype of the spikes: bool, uint8, float32, float64, bfloat16 or float16.
        validate: check that ``p`` lies in [0, 1]. On CUDA this waits for the device. Under ``torch.compile``,
            ``torch.vmap`` and in a CUDA graph values cannot be checked. Unchecked, NaN and negative ``p`` never fire,
            and ``p`` above 1 always does.

    Returns:
        spikes ``[num_steps, *p.shape]``, contiguous.

    Raises:
        TypeError, ValueError: for arguments of wrong type, dtype, device, range or size.
    """
    check.tensor("poisson", "p", p)
    check.dtype("poisson", "p", p.dtype, check.FLOATING)
    num_steps = check.integer("poisson", "num_steps", num_steps, 0)
    check.elements("poisson", "p", p.shape)
    check.elements("poisson", "num_steps", (num_steps, *p.shape))
    check.spike_dtype("poisson", dtype)
    p = p.detach() if p.requires_grad else p
    if check.flag("poisson", "validate", validate):
        check.in_range("poisson", "p", p, 0.0, 1.0)
    return PoissonCall(
        p if p.dtype == torch.float32 else p.to(torch.float32), _seed(generator, seed, p.device), num_steps, dtype
    )


def _seed(generator: torch.Generator | None, seed: int | Tensor | None, device: torch.device) -> Tensor:
    """Return the seed as an int64 on ``device``, without waiting for the device."""
    check.generator("poisson", generator)
    if seed is not None:
        if generator is not None:
            raise ValueError("poisson: give generator or seed, not both")
        return _given_seed(seed, device)
    recorded = check.is_recorded(device)
    if generator is None:
        # The CPU generator, which torch.manual_seed seeds: the spikes are then the same on every device. A CUDA graph
        # would replay a number of the CPU generator; that of the device advances with every replay.
        source = device if recorded else torch.device("cpu")
    else:
        source = generator.device
        if source.type != "cpu" and source != device:
            raise ValueError(f"poisson: generator must be on cpu or the device of p, {device}, got {source}")
        if recorded and source != device:
            raise ValueError(f"poisson: in a CUDA graph generator must be on the device of p, {device}, got {source}")
    drawn = torch.randint(0, 2**63 - 1, (1,), generator=generator, device=source)
    if source == device:
        return drawn
    return torch.full((1,), int(drawn), device=device)  # a copy would be slower and might wait


def _given_seed(seed: int | Tensor, device: torch.device) -> Tensor:
    if isinstance(seed, Tensor):
        check.dtype("poisson", "seed", seed.dtype, (torch.int64,))
        if seed.numel() != 1:
            raise ValueError(f"poisson: seed must have one value, got shape {list(seed.shape)}")
        check.on_device("poisson", "seed", seed, "p", device)
        return seed if seed.dim() == 1 else seed.reshape(1)
    if isinstance(seed, bool) or not isinstance(seed, check.INTEGERS):
        raise TypeError(f"poisson: seed must be an integer or a tensor of one, got {type(seed).__name__}")
    value = int(seed)
    if not -(2**63) <= value < 2**64:
        raise ValueError(f"poisson: seed must lie in [-2**63, 2**64), got {check.shown(value)}")
    value = value - 2**64 if value >= 2**63 else value
    return torch.full((1,), value, dtype=torch.int64, device=device)
