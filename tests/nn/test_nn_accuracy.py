"""Layers that compute in another way than PyTorch's have at most 3 times PyTorch's error, against float64."""

import pytest
import torch
from backends import PRESENT

from benchmarks import accuracy

CASES = {f"{name}, {kind}": make for name, kind, make in accuracy.cases()}


@pytest.mark.skipif("cpu" not in PRESENT, reason="no CPU kernels")
@pytest.mark.parametrize("case", CASES)
def test_errors_are_at_most_three_times_pytorch_s(case):
    torch.manual_seed(0)
    found = accuracy.errors(CASES[case]())
    assert found["result"]
    for part in found.values():
        for name, (ours, pytorch) in part.items():
            assert ours <= accuracy.LIMIT * max(pytorch, accuracy.FLOOR), (name, ours, pytorch)
