"""Backends as fixtures; the tests of ops run over ``tests/samples.py``."""

import gc
import os
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))  # for `import samples` and `import backends`

from backends import PRESENT, force

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("SNNFAST_HYPOTHESIS", "repeatable"))


@pytest.fixture(params=[*PRESENT, "reference"])
def backend(request):
    """Every backend in turn, forced."""
    with force(request.param) as chosen:
        yield chosen


@pytest.fixture(params=PRESENT)
def kernels(request):
    """Every backend but the reference in turn, forced."""
    with force(request.param) as chosen:
        yield chosen


@pytest.fixture
def nan_memory():
    """Fills every tensor that PyTorch allocates uninitialised, here and in C++, with NaN."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)


def pytest_collection_finish():
    """The thousands of tests stay; every full collection would walk them, and ``benchmarks`` asks for many."""
    gc.freeze()
