"""Equal bits for any number of threads, in any run, for any split of the batch."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from backends import PRESENT, force
from samples import Sample, assert_equal, cotangents, gradients, over_neurons, require_grad, rich, tensors


def large(op):
    return [Sample(op, rich(op), (40, 3000), torch.float32)]


@over_neurons("sample", large)
def test_number_of_threads_changes_nothing(sample, threads):
    arguments = sample.arguments()
    found = []
    for count in (1, 2, 3, 8):
        threads(count)
        found.append((sample.op(**arguments), gradients(sample.op, arguments)))
    for other in found[1:]:
        assert_equal(other[0], found[0][0])
        assert_equal(other[1], found[0][1])


@over_neurons("sample", large)
def test_runs_are_repeatable(kernels, sample):
    arguments = sample.arguments(kernels.device)
    first = (sample.op(**arguments), gradients(sample.op, arguments))
    for _ in range(3):
        assert_equal((sample.op(**arguments), gradients(sample.op, arguments)), first)


@pytest.mark.parametrize("parts", [1, 7, 64])
def test_split_of_the_batch_changes_nothing(kernels, op, parts):
    arguments = Sample(op, "plain", (20, 130, 5), torch.float32).arguments(kernels.device)
    whole = op(**arguments)
    weights = cotangents(whole)

    def piece(t, b):
        if not isinstance(t, torch.Tensor):
            return t
        return t[:, b] if t.dim() == 3 else t[b]

    def graded(arguments, weights):
        arguments = require_grad(arguments)
        outputs = op(**arguments)
        grads = torch.autograd.grad(outputs, list(tensors(arguments).values()), weights)
        return [out.detach() for out in outputs], grads

    want = graded(arguments, weights)
    found = [
        graded({k: piece(a, b) for k, a in arguments.items()}, [piece(w, b) for w in weights])
        for b in torch.arange(130).split(parts)
    ]
    for k in range(2):
        merged = [
            torch.cat(pieces, 1 if pieces[0].dim() == 3 else 0) for pieces in zip(*(f[k] for f in found), strict=True)
        ]
        assert_equal(merged, list(want[k]))


def test_kernels_respect_deterministic_algorithms(kernels, op, nan_memory):
    arguments = Sample(op, "plain", (20, 13), torch.float32).arguments(kernels.device)
    assert_equal(gradients(op, arguments), gradients(op, arguments))


@pytest.mark.parametrize("seed", ["fwd", "rev", "rand:1", "rand:2"])
@over_neurons("sample", large)
def test_order_of_cuda_threads_changes_nothing(sample, seed, monkeypatch):
    if "cuda_emulation" not in PRESENT:
        pytest.skip("built without SNNFAST_EMULATION=1")
    arguments = sample.arguments()
    want = (sample.op(**arguments), gradients(sample.op, arguments))
    monkeypatch.setenv("SNNFAST_EMULATION_SCHEDULE", seed)
    with force("cuda_emulation"):
        got = (sample.op(**arguments), gradients(sample.op, arguments))
    assert_equal(got[0], want[0])
    for name, grad in got[1].items():
        torch.testing.assert_close(grad, want[1][name], rtol=1e-5, atol=1e-5)


def test_eight_python_threads_at_once_give_the_same(kernels, op):
    arguments = Sample(op, "plain", (40, 600), torch.float32).arguments(kernels.device)
    want = (op(**arguments), gradients(op, arguments))
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(lambda: (op(**arguments), gradients(op, arguments))) for _ in range(32)]
        for job in jobs:
            assert_equal(job.result(), want)


def test_backward_in_another_thread_gives_the_same(kernels, op):
    x = torch.rand(40, 30, device=kernels.device, requires_grad=True)
    (want,) = torch.autograd.grad(op(x=x)[0].sum(), x)
    out = op(x=x)[0].sum()
    with ThreadPoolExecutor(1) as pool:
        (got,) = pool.submit(torch.autograd.grad, out, x).result()
    assert_equal(got, want)
