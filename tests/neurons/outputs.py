"""Forward pass of the kernels against the reference in plain PyTorch."""

import pytest
import torch
from cases import check_each
from samples import Sample, assert_equal, by_dtype, expected, firing, over_neurons, samples, samples_on

from snnfast.reference.surrogate import resolve
from snnfast.testing import assert_spikes_close


class Recorder:
    """A surrogate that records ``u = h - v_threshold`` of every step."""

    def __init__(self):
        self.seen = []

    def __call__(self, u):
        self.seen.append(u)
        return resolve("atan")(u)


def compare(kernels, sample):
    arguments = sample.arguments(kernels.device)
    got = sample.op(**arguments)
    want, _ = expected(sample, kernels.device)
    if kernels.exact or not sample.op.fires:
        assert_equal(got, want)
        return
    recorder = Recorder()
    sample.op.reference(**{**arguments, "surrogate": recorder})
    margin = torch.stack(recorder.seen) if recorder.seen else torch.empty_like(got[0])
    assert_spikes_close(got[0], want[0], margin)
    agree = (got[0] == want[0]).all(0)
    for a, e in zip(got[1:], want[1:], strict=True):
        if e is not None:
            torch.testing.assert_close(a[..., agree], e[..., agree])


@over_neurons("op dtype", by_dtype)
def test_outputs_equal_the_reference(kernels, op, dtype):
    check_each(samples_on(kernels, op, dtype), lambda sample: compare(kernels, sample))


def test_state_is_float32_whatever_the_dtype_of_the_spikes(kernels, op):
    def check(sample):
        arguments = sample.arguments(kernels.device)
        got = op(**arguments)
        wide = op(**{**arguments, "x": arguments["x"].float()})
        if op.fires:
            assert got[0].dtype == sample.dtype
            wide = (wide[0].to(sample.dtype), *wide[1:])
        assert_equal(got, wide)

    check_each(samples(op, torch.bfloat16, torch.float16)[::5], check)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_long_random_run_equals_the_reference(kernels, op, dtype):
    compare(kernels, Sample(op, "plain", (64, 2100), dtype))


@over_neurons("op", firing)
def test_samples_fire_but_not_always(op):
    rate = op.reference(**Sample(op, "plain", (50, 100), torch.float32).arguments())[0].mean()
    assert 0.05 < rate < 0.95


def test_outputs_are_contiguous_and_of_the_documented_dtypes(backend, op):
    x = torch.randn(4, 3, dtype=torch.float16, device=backend.device)
    first, *rest = op(x=x)
    assert first.dtype == (torch.float16 if op.fires else torch.float32)
    assert [r.dtype for r in rest] == [torch.float32] * len(op.states)
    assert all(t.is_contiguous() for t in (first, *rest))
