"""Nothing is read before it is written, nothing returned unwritten: all fresh memory is NaN here."""

import pytest
import torch
from samples import assert_equal, few, gradients, samples


@pytest.mark.parametrize("sample", samples(torch.float32)[::3] + few(torch.bfloat16), ids=str)
def test_fresh_memory_shows_nowhere(kernels, nan_memory, sample):
    assert torch.empty(3).isnan().all()
    arguments = sample.arguments(kernels.device)
    outputs, grads = sample.op(**arguments), gradients(sample.op, arguments)
    for t in (*outputs, *grads.values()):
        assert t is None or not t.isnan().any()
    torch.use_deterministic_algorithms(False)
    assert_equal(outputs, sample.op(**arguments))
    assert_equal(grads, gradients(sample.op, arguments))
