"""Layers that compute in another way than PyTorch's have at most 3 times PyTorch's error, Winograd 20 times."""

import pytest
import torch
from backends import PRESENT

from benchmarks import accuracy

CASES = {f"{name}, {kind}": make for name, kind, make in accuracy.cases()}


@pytest.mark.skipif("cpu" not in PRESENT, reason="no CPU kernels")
@pytest.mark.parametrize("case", CASES)
def test_errors_are_within_the_limit_of_the_layer(case):
    torch.manual_seed(0)
    made = CASES[case]()
    found = accuracy.errors(made)
    assert found["result"]
    for part in found.values():
        for name, (ours, pytorch) in part.items():
            assert ours <= made.limit * max(pytorch, accuracy.FLOOR), (name, ours, pytorch)
