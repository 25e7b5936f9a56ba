"""First spike times for any layout and size, and any number and order of threads."""

import math

import pytest
import torch
from backends import PRESENT, force
from samples import assert_all
from spikeprop_cases import CASES, F64, GRADED, SILENT, case, leaves, on

from snnfast import ops, reference


@pytest.mark.filterwarnings(SILENT)
@pytest.mark.parametrize("dt", [None, 0.5])
def test_layout_does_not_matter(backend, dt):
    a = on(backend.device, case(**CASES["real"]))
    expected = [*ops.spikeprop(**a, dt=dt, return_u_max=True)]
    layouts = {
        "t_in": (lambda v: v.mT.contiguous().mT, lambda v: torch.stack((v, v), 2)[:, :, 0]),
        "w": (lambda v: v.permute(2, 0, 1).contiguous().permute(1, 2, 0), lambda v: v.flip(1).flip(1)),
        "delays": (lambda v: v.mT.contiguous().mT,),
    }
    for name, views in layouts.items():
        for view in views:
            found = ops.spikeprop(**{**a, name: view(a[name])}, dt=dt, return_u_max=True)
            for f, e in zip(found, expected):
                torch.testing.assert_close(f, e, rtol=0, atol=0)
    repeated = a["t_in"][:1].expand(5, -1)
    torch.testing.assert_close(
        ops.spikeprop(**{**a, "t_in": repeated}, dt=dt),
        ops.spikeprop(**{**a, "t_in": a["t_in"][:1]}, dt=dt).expand(5, -1),
        rtol=0,
        atol=0,
    )


@pytest.mark.filterwarnings(SILENT)
@pytest.mark.parametrize("dt", [None, 0.5])
@pytest.mark.parametrize("sizes", [(0, 4, 2, 3), (3, 0, 2, 4), (3, 4, 2, 0), (0, 0, 1, 0)])
def test_empty_sizes(backend, sizes, dt):
    a = leaves(case(*sizes), backend.device)
    t, u, slope = ops.spikeprop(**a, dt=dt, return_u_max=True, return_slope=True)
    assert t.shape == u.shape == slope.shape == (sizes[0], sizes[3])
    assert_all(t, math.inf)
    assert not u.any()
    for grad, key in zip(torch.autograd.grad((t + u).sum(), [a[k] for k in GRADED]), GRADED):
        assert grad.shape == a[key].shape
        assert not grad.any()


@pytest.mark.filterwarnings(SILENT)
@pytest.mark.parametrize("outputs", [1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130])
def test_number_of_outputs_around_the_lanes(kernels, outputs):
    a = on(kernels.device, case(3, 9, 2, 130, dtype=torch.float32))
    whole = ops.spikeprop(**a, return_u_max=True)
    part = ops.spikeprop(**{**a, "w": a["w"][:outputs]}, return_u_max=True)
    for p, v in zip(part, whole):
        torch.testing.assert_close(p, v[:, :outputs], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["integer", "many"])
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_number_of_threads_does_not_matter(name, threads):
    if "cpu" not in PRESENT:
        pytest.skip("no CPU kernels")
    before = torch.get_num_threads()
    found = []
    a = leaves(case(**{**CASES[name], "batch": 70}, dtype=torch.float32))
    try:
        for count in (1, threads):
            torch.set_num_threads(count)
            t, u = ops.spikeprop(**a, return_u_max=True)
            grads = torch.autograd.grad((t[t.isfinite()] ** 2).sum() + (u**2).sum(), [a[k] for k in GRADED])
            found.append((t, u, *grads))
    finally:
        torch.set_num_threads(before)
    for one, other in zip(*found):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_more_terminals_than_are_sorted_in_shared_memory(kernels, dtype):
    a = case(2, 40, 20, 70, coding="integer", dtype=dtype)
    want = reference.spikeprop(**a, return_u_max=True)
    got = ops.spikeprop(**on(kernels.device, a), return_u_max=True)
    assert want[0].isfinite().any()
    for g, w in zip(got, want):
        torch.testing.assert_close(g.cpu(), w, rtol=0, atol=1e-11 if dtype == F64 else 1e-3)


@pytest.mark.parametrize("seed", ["rev", "rand:1"])
@pytest.mark.parametrize("outputs", [5, 140])
def test_order_of_cuda_threads_changes_nothing(seed, outputs, monkeypatch):
    if "cuda_emulation" not in PRESENT:
        pytest.skip("built without SNNFAST_EMULATION=1")
    found = []
    for schedule in ("fwd", seed):
        monkeypatch.setenv("SNNFAST_EMULATION_SCHEDULE", schedule)
        a = leaves(case(3, 20, 2, outputs, dtype=torch.float32))
        with force("cuda_emulation"):
            t, u = ops.spikeprop(**a, return_u_max=True)
            grads = torch.autograd.grad((t[t.isfinite()] ** 2).sum() + (u**2).sum(), [a[k] for k in GRADED])
        found.append((t, u, *grads))
    for one, other in zip(*found):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("coding", ["real", "integer", "shared"])
def test_order_of_the_inputs_does_not_matter(backend, coding):
    a = on(backend.device, case(2, 25, 4, 20, coding=coding))
    order = torch.randperm(25, generator=torch.Generator().manual_seed(4))
    delays = a["delays"] if a["delays"].dim() == 1 else a["delays"][order]
    shuffled = {**a, "t_in": a["t_in"][:, order], "w": a["w"][:, order], "delays": delays}
    torch.testing.assert_close(ops.spikeprop(**a), ops.spikeprop(**shuffled), rtol=0, atol=1e-11, equal_nan=True)
