"""Generated code: random steps in kernels against the same steps in PyTorch."""

import random

import pytest
import torch
from random_steps import BINARY, UNARY, run
from samples import assert_equal

import snnfast

pytestmark = pytest.mark.skipif(snnfast.backend.extension is None, reason="the extension is not built")


def instructions(seed):
    chance = random.Random(seed)
    drawn = []
    for k in range(12):
        function = chance.choice(UNARY + BINARY)
        drawn.append((function, [chance.randint(0, k + 3) for _ in range(1 if function in UNARY else 2)]))
    return drawn


@pytest.mark.parametrize("seed", range(4))
def test_random_steps_have_the_bits_and_gradients_of_pytorch(seed):
    drawn = instructions(seed)

    def step(fire, x, v, *, p=0.5, k=0.25):
        found, after = run(drawn, (x, v, p, k * x))
        s, _h, reset = fire(torch.tanh(found) + 0.1 * x, 0.2)
        return s, torch.sin(reset + after * 0.1 + p * v)

    step.__name__ = f"random_{seed}"
    op = snnfast.neuron(step)
    generator = torch.Generator().manual_seed(seed)
    x, v, p = (torch.randn(s, generator=generator, dtype=torch.float64) for s in ((40, 3, 5), (3, 5), (5,)))
    results = []
    for call in (op, op.reference):
        leaves = [t.clone().requires_grad_() for t in (x, v, p)]
        s, last = call(leaves[0], leaves[1], p=leaves[2])
        loss = (s * x).sum() + last.sum()
        results.append((s, last, *torch.autograd.grad(loss, leaves)))
    for got, right in zip(results[0][:2], results[1][:2]):
        assert_equal(got, right)
    for got, right in zip(results[0][2:], results[1][2:]):
        scale = right.abs().max().clamp(min=1)
        torch.testing.assert_close(got / scale, right / scale, rtol=1e-12, atol=1e-12, equal_nan=True)


def test_states_that_change_places_and_both_bounds_equal_the_reference():
    @snnfast.neuron
    def swaps(fire, x, v, u, *, p=0.5):
        h = (p * v + x).clamp(-0.5, 0.75)
        s, _, _ = fire(h + u, 0.9)
        return s, u + h, v

    x = torch.randn(40, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for got, right in zip(swaps(x), swaps.reference(x)):
        assert_equal(got, right)
