"""Numbers that a step reads from outside, and surrogates in all forms in which users write them."""

import itertools

import pytest
import torch
from equations import klif, plain_lif
from own_neuron_cases import Half, compare, draw
from samples import assert_equal
from torch import nn

import snnfast
from snnfast.ops import own_neuron

needs_kernels = pytest.mark.skipif(snnfast.backend.extension is None, reason="the extension is not built")


def test_numbers_outside_are_followed():
    space = {"snnfast": snnfast, "SCALE": 1.0}
    exec("def step(fire, x, v):\n    s, _, v = fire(v + SCALE * x, 1.0)\n    return s, v", space)
    op = snnfast.neuron(space["step"])
    x = torch.full((4, 1), 0.3)
    assert op(x, v_reset=None)[1].item() == pytest.approx(0.2)
    space["SCALE"] = 2.0
    assert op(x, v_reset=None)[1].item() == pytest.approx(0.4)


act = Half.apply


@snnfast.neuron
def gated_by_act(fire, x, v, *, decay=0.5):
    s, _, v = fire(decay * v + x * act(x), 1.0)
    return s, v


@needs_kernels
def test_an_apply_that_was_taken_before_has_its_gradient():
    """``Half.apply`` is bound when a call or a module takes it, before the step is traced."""
    for op, surrogate in ((plain_lif, Half.apply), (gated_by_act, "atan"), (gated_by_act, act)):
        x = draw(20, 7)
        compare(op, [x], surrogate=surrogate)
        leaf = x.clone().requires_grad_()
        op(leaf, surrogate=surrogate)[0].sum().backward()
        assert leaf.grad.abs().sum() > 1


@needs_kernels
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_a_surrogate_in_torchscript_runs_in_pytorch_and_warns():
    @torch.jit.script
    def heaviside(u: torch.Tensor) -> torch.Tensor:
        return (u >= 0).to(u)

    x = draw(20, 7)
    with pytest.warns(snnfast.backend.BackendWarning, match="heaviside"):
        spikes, _ = plain_lif(x, surrogate=heaviside)
    assert_equal(spikes, plain_lif(x)[0])


class Annealed(nn.Module):
    def __init__(self):
        super().__init__()
        self.alpha = 1.0

    def forward(self, u):
        return Sloped.apply(u, self.alpha)


class Sloped(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, alpha):
        ctx.alpha = alpha
        return (u >= 0).to(u)

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.alpha * GAINS["slope"], None


GAINS = {"slope": 1.0, "input": 1.0}


@snnfast.neuron
def reads_gains(fire, x, v):
    s, _, v = fire(0.5 * v + GAINS["input"] * x, 1.0)
    return s, v


@needs_kernels
def test_a_kernel_follows_the_numbers_outside(monkeypatch):
    """An annealed surrogate, also in its backward pass, and entries of a dict that the step reads."""
    surrogate, x = Annealed(), draw(20, 7)

    def results(run):
        leaf = x.clone().requires_grad_()
        spikes, v = run(leaf, surrogate=surrogate)
        return spikes, torch.autograd.grad(spikes.sum() + v.sum(), leaf)[0]

    found = []
    for change in (
        lambda: None,
        lambda: setattr(surrogate, "alpha", 0.5),
        lambda: monkeypatch.setitem(GAINS, "slope", 0.25),
        lambda: monkeypatch.setitem(GAINS, "input", 2.0),
    ):
        change()
        found.append(results(reads_gains))
        for got, right in zip(found[-1], results(reads_gains.reference)):
            torch.testing.assert_close(got, right)
    for before, after in itertools.pairwise(found):
        assert (before[1] - after[1]).abs().max() > 0.1
    kernels = len(next(iter(reads_gains.kernels.every.values())))
    monkeypatch.setitem(GAINS, "input", 1.0)
    results(reads_gains)  # one that was compiled before
    assert len(next(iter(reads_gains.kernels.every.values()))) == kernels


@needs_kernels
def test_torch_compile_names_the_numbers_that_it_keeps(monkeypatch):
    monkeypatch.setattr(snnfast.backend, "_warned", set())
    x = draw(4, 3).float()
    with pytest.warns(
        snnfast.backend.BackendWarning, match=r"reads_gains: what torch.compile makes keeps a dict, which"
    ):
        torch.compile(lambda x: reads_gains(x)[0], backend="aot_eager", fullgraph=True)(x)


@needs_kernels
def test_a_number_that_changes_at_every_call_is_named(monkeypatch):
    monkeypatch.setattr(snnfast.backend, "_warned", set())
    monkeypatch.setattr(own_neuron, "MANY_KERNELS", 2)
    surrogate, x = Annealed(), draw(4, 3)
    plain_lif(x, surrogate=surrogate)
    surrogate.alpha = 0.75
    with pytest.warns(snnfast.backend.BackendWarning, match=r"plain_lif: 2 kernels .*the attribute alpha.*parameter"):
        plain_lif(x, surrogate=surrogate)


@needs_kernels
def test_a_surrogate_that_cannot_be_compiled_runs_in_pytorch_and_warns():
    def in_place(u):
        return (u >= 0).to(u) + u.sub_(u.detach())

    x = torch.rand(5, 3)
    with pytest.warns(snnfast.backend.BackendWarning, match="klif runs in plain PyTorch, .*changed in place"):
        spikes, _ = klif(x, surrogate=in_place)
    assert_equal(spikes, klif(x)[0])
    with (
        snnfast.backend.use("cpu"),
        pytest.raises(snnfast.backend.BackendError, match=r"'cpu' was asked for, but .*changed in place"),
    ):
        klif(x, surrogate=in_place)
