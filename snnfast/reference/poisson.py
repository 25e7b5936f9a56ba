"""Bernoulli spikes from counted random numbers: Salmon et al., SC 2011."""

from __future__ import annotations

import torch
from torch import Tensor

from snnfast.calls import poisson as calls
from snnfast.calls.call import equation

WORD = 0xFFFFFFFF


@equation(calls.poisson)
def poisson(call: calls.PoissonCall) -> Tensor:
    """Spikes ``[num_steps, *p.shape]``."""
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
