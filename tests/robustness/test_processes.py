"""Python threads, child processes, inference servers."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from samples import OPS, Sample, assert_equal, gradients


@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
def test_eight_python_threads_at_once_give_the_same(kernels, op):
    arguments = Sample(op, "plain", (40, 600), torch.float32).arguments(kernels.device)
    want = (op(**arguments), gradients(op, arguments))
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(lambda: (op(**arguments), gradients(op, arguments))) for _ in range(32)]
        for job in jobs:
            assert_equal(job.result(), want)


@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
def test_backward_in_another_thread_gives_the_same(kernels, op):
    x = torch.rand(40, 30, device=kernels.device, requires_grad=True)
    (want,) = torch.autograd.grad(op(x=x)[0].sum(), x)
    out = op(x=x)[0].sum()
    with ThreadPoolExecutor(1) as pool:
        (got,) = pool.submit(torch.autograd.grad, out, x).result()
    assert_equal(got, want)


CHILD = """
import multiprocessing, sys, torch, snnfast

def work(queue):
    torch.set_num_threads(1)  # as the workers of torch.utils.data.DataLoader do
    x = torch.ones(20, 50_000)
    queue.put(snnfast.ops.lif(x, tau=1.5)[0].sum().item())

if __name__ == "__main__":
    here = snnfast.ops.lif(torch.ones(20, 50_000), tau=1.5)[0].sum().item()
    context = multiprocessing.get_context(sys.argv[1])
    queue = context.Queue()
    child = context.Process(target=work, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == here
    child.join()
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_child_process_works_after_the_parent_has_used_threads(tmp_path, method):
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    result = subprocess.run(
        [sys.executable, str(script), method], capture_output=True, text=True, timeout=90
    )
    assert result.returncode == 0, result.stderr


def test_repeated_calls_keep_no_memory():
    """What a call allocates is gone when its results are."""
    import gc
    import resource

    op = OPS["lif"]
    arguments = Sample(op, "all_tensors", (20, 20_000), torch.float32).arguments()
    for _ in range(3):
        gradients(op, arguments)
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(30):
        gradients(op, arguments)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 20_000  # KiB; one call's outputs and gradients take 8 MiB
