"""No memory is read before it is written, returned unwritten, or leaked."""

import gc
import math
import resource

import pytest
import torch
from backends import PRESENT
from cases import check_each
from samples import Sample, assert_equal, few, gradients, rich, samples

from snnfast.backend import memory


def test_fresh_memory_shows_nowhere(kernels, nan_memory, op):
    def check(sample):
        torch.use_deterministic_algorithms(True)
        assert torch.empty(3).isnan().all()
        arguments = sample.arguments(kernels.device)
        outputs, grads = op(**arguments), gradients(op, arguments)
        written = [t for t in (*outputs, *grads.values()) if t is not None]
        assert not any(t.isnan().any() for t in written)
        torch.use_deterministic_algorithms(False)
        assert_equal(outputs, op(**arguments))
        assert_equal(grads, gradients(op, arguments))

    check_each(samples(op, torch.float32)[::3] + few(op, torch.bfloat16), check)


@pytest.mark.skipif("cpu" not in PRESENT, reason="no CPU kernels")
def test_used_memory_shows_nowhere(op, fresh_cache):
    """Outputs and gradients ``[T, N]`` have 3 MiB, whose memory is cached and reused."""
    arguments = Sample(op, rich(op), (40, 20_000), torch.float32).arguments()
    memory.set_limit(0)
    want, want_grads = op(**arguments), gradients(op, arguments)
    memory.set_limit(2**28)
    for _ in range(3):
        got, grads = op(**arguments), gradients(op, arguments)
        assert_equal(list(got), list(want))
        assert_equal(grads, want_grads)
        for t in (*got, *grads.values()):
            t.fill_(math.nan)  # content of the memory that the next call reuses
        del got, grads, t


def test_repeated_calls_keep_no_memory(op):
    """The memory of a call is freed with its results."""
    arguments = Sample(op, rich(op), (20, 20_000), torch.float32).arguments()
    for _ in range(3):
        gradients(op, arguments)
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(30):
        gradients(op, arguments)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 20_000  # KiB; one call's outputs and gradients take 8 MiB
