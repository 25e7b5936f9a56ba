import os

import pytest
from backends import KERNELS, why_absent


@pytest.mark.parametrize("name", KERNELS)
def test_backend_is_there_to_be_tested(name):
    why = why_absent(name)
    if why and name == "cuda" and os.environ.get("SNNFAST_FAIL_WITHOUT_CUDA") == "1":
        pytest.fail(f"SNNFAST_FAIL_WITHOUT_CUDA=1, but {why}")
    if why:
        pytest.skip(f"no test runs on {name}: {why}")
