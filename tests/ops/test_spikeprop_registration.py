"""Registration of the kernels of ``spikeprop`` with PyTorch: compilation, export, ``vmap``, direct calls."""

import pytest
import torch
from spikeprop_cases import CASES, GRADED, SILENT, case, forward_arguments, leaves, on

from snnfast import ops


def test_compiles_to_one_graph(kernels):
    a = leaves(case(**CASES["real"]), kernels.device)

    def run(a):
        t, u = ops.spikeprop(**a, return_u_max=True)
        return torch.where(t.isfinite(), t, 20.0).sum() + 2 * u.sum()

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    want = torch.autograd.grad(run(a), [a[k] for k in GRADED])
    got = torch.autograd.grad(compiled(a), [a[k] for k in GRADED])
    for g, w in zip(got, want):
        torch.testing.assert_close(g, w, rtol=1e-13, atol=1e-13)


def gradients_of(run, a):
    return torch.autograd.grad(run(*(a[k] for k in GRADED)), [a[k] for k in GRADED])


@pytest.mark.filterwarnings(SILENT)
def test_gradients_are_the_same_however_it_runs(kernels):
    """The raw op, vmap, torch.export, AOT and torch.compile give what the op gives."""
    a = leaves(case(**CASES["real"]), kernels.device)

    def run(t_in, w, delays, tau):
        t, u = ops.spikeprop(t_in, w, delays, tau=tau, t_max=18.0, return_u_max=True)
        return torch.where(t.isfinite(), t, 20.0).sum() + 2 * u.sum()

    class Module(torch.nn.Module):
        def forward(self, *inputs):
            return run(*inputs)

    def raw(t_in, w, delays, tau):
        numbers = (1.0, 18.0, 0.0, 0, 0.05, True, False, False)
        t, u, *_ = kernels.ops.spikeprop_forward(t_in, w, delays, 0.0, tau, *numbers)
        return torch.where(t.isfinite(), t, 20.0).sum() + 2 * u.sum()

    def mapped(t_in, w, delays, tau):
        batched = torch.vmap(lambda t: run(t[None], w, delays, tau))
        return batched(t_in).sum()

    inputs = tuple(a[k] for k in GRADED)
    detached = tuple(v.detach() for v in inputs)
    exported = torch.export.export(Module(), detached).module()
    ways = {
        "raw": raw,
        "vmap": mapped,
        "export": exported,
        "decomposed": torch.export.export(Module(), detached).run_decompositions().module(),
        "aot_eager": torch.compile(run, fullgraph=True, backend="aot_eager"),
        "eager": torch.compile(run, fullgraph=True, backend="eager"),
    }
    want = gradients_of(run, a)
    assert all(g.any() for g in want)
    for name, way in ways.items():
        for got, expected in zip(gradients_of(way, a), want):
            torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.filterwarnings(SILENT)
@pytest.mark.parametrize("name", ["t_in", "w", "delays"])
def test_vmap_equals_a_loop(kernels, name):
    a = on(kernels.device, case(**CASES["real"]))
    batch = torch.stack((a[name], a[name] * 0.9, a[name] * 0.8), 1).requires_grad_()

    def call(value):
        return ops.spikeprop(**{**a, name: value}, return_u_max=True)

    def value(t, u):
        return torch.where(t.isfinite(), t, 20.0).sum() + u.sum()

    got, want = torch.vmap(call, in_dims=1)(batch), [call(b) for b in batch.unbind(1)]
    for g, w in zip(got, zip(*want)):
        torch.testing.assert_close(g, torch.stack(w), rtol=0, atol=0)
    grads = torch.autograd.grad(value(*got), batch)[0]
    expected = torch.autograd.grad(sum(value(*w) for w in want), batch)[0]
    torch.testing.assert_close(grads, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings(SILENT)
def test_vmap_over_nothing_gives_nothing(kernels):
    a = on(kernels.device, case(**CASES["real"]))
    w = a["w"].new_empty(0, *a["w"].shape).requires_grad_()
    t = torch.vmap(lambda w: ops.spikeprop(**{**a, "w": w}))(w)
    assert t.shape == (0, len(a["t_in"]), w.shape[1])
    t.sum().backward()
    assert w.grad.shape == w.shape


@pytest.mark.parametrize("return_u_max", [False, True])
def test_opcheck(kernels, return_u_max):
    a = on(kernels.device, case(**CASES["one_lane_more"], dtype=torch.float32))
    for requires_grad in (False, True):
        a["w"] = a["w"].detach().requires_grad_(requires_grad)
        arguments = forward_arguments(a, return_u_max=return_u_max)
        torch.library.opcheck(kernels.ops.spikeprop_forward.default, arguments)
    arguments = tuple(v.detach() if isinstance(v, torch.Tensor) else v for v in arguments)
    t, u, slope, tape, _ = kernels.ops.spikeprop_forward(*arguments)
    more = (t, slope, tape, torch.ones_like(t), torch.ones_like(u) if return_u_max else None)
    wanted = (True, True, True, False)
    torch.library.opcheck(kernels.ops.spikeprop_backward.default, (*arguments, *more, *wanted))


@pytest.mark.parametrize("dt", [0.0, 0.5])
@pytest.mark.parametrize("return_u_max", [False, True])
def test_a_tape_from_elsewhere_reads_and_writes_nothing_outside(kernels, dt, return_u_max):
    """Any 32-bit words where the tape of the forward pass should be: an error, or a gradient without a meaning."""
    a = on(kernels.device, case(6, 50, 4, 20, dtype=torch.float32))
    arguments = forward_arguments(a, dt, 37 if dt else 0, return_u_max)
    t, u, slope, tape, _ = kernels.ops.spikeprop_forward(*arguments)
    grads = (torch.ones_like(t), torch.ones_like(u))
    wanted = (True, True, True, False)

    def backward(tape):
        return kernels.ops.spikeprop_backward(*arguments, t, slope, tape, *grads, *wanted)

    expected = backward(tape)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(-(2**31), 2**31, tape.shape, generator=generator, dtype=torch.int32)
    hostile = [torch.full_like(tape, v) for v in (-1, -(2**31), 2**31 - 1, 2**30, 10**6)]
    hostile.append(noise.to(tape.device))
    words = torch.randperm(len(tape), generator=generator)
    hostile += [tape.index_fill(0, words[k::9].to(tape.device), 5_000_000) for k in range(9)]
    for other in hostile:
        if kernels.name == "cpu":
            with pytest.raises(RuntimeError, match=r"^spikeprop: tape must be that of a forward"):
                backward(other)
        else:
            assert [g.shape for g in backward(other)] == [g.shape for g in expected]
    for got, want in zip(backward(tape), expected):
        torch.testing.assert_close(got, want, rtol=0, atol=0)
