"""Streams, CUDA graphs, a second device, other sizes and torch.compile on a GPU, compared with the CPU.

On a GPU; with ``SNNFAST_REHEARSE=1`` at toy size with the emulated kernels (``scripts/gpu.py --rehearse``).
"""

import os

import pytest
import torch
from every_op import examples, launches
from samples import assert_equal

from snnfast import backend, ops, testing

ON_GPU = torch.cuda.is_available()
REHEARSED = os.environ.get("SNNFAST_REHEARSE") == "1"
WANTED = ON_GPU or os.environ.get("SNNFAST_FAIL_WITHOUT_CUDA") == "1"
pytestmark = pytest.mark.skipif(not (WANTED or REHEARSED), reason="no CUDA device")
DEVICE = "cpu" if REHEARSED else "cuda"
NAMES = sorted(name for name in ops.__all__ if name.islower() and name not in backend.BY_REFERENCE)
LAUNCHES = list(launches("cpu", small=True)) if WANTED or REHEARSED else []
REPEATS = 20 if ON_GPU else 2  # of each launch: the same bits each time
MODES = ("default", "reduce-overhead", "max-autotune") if ON_GPU else ("aot_eager",)
DIFFERENT = 1e-3  # share of elements that may differ: spikes at the very threshold


@pytest.fixture(autouse=True)
def kernels(monkeypatch):
    """The kernels or an error. Without TF32, whose 10 bits of mantissa change 40 % of a convolution."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    name = "cuda_emulation" if testing.load_cuda_emulation() else "cpu"
    with backend.use(name if REHEARSED else "cuda"):
        yield


def check_close(got, want):
    """No more elements differ than spikes at the threshold can explain."""
    assert len(got) == len(want)
    for a, b in zip(got, want):
        a, b = a.detach().cpu().double(), b.detach().double()
        assert a.shape == b.shape
        other = ~torch.isclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)
        assert not a.numel() or other.double().mean() <= DIFFERENT


def on_cpu(example):
    with backend.use("cpu"):
        return example.run()


def on_a_stream(run):
    if not ON_GPU:
        return run()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        got = run()
    stream.synchronize()
    return got


def graph_of(run):
    """A CUDA graph, captured after a warm-up, and the tensors that a replay of it writes."""
    for _ in range(2):
        run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = run()
    return graph, got


@pytest.mark.parametrize("name", NAMES)
def test_a_launch_on_a_stream_of_its_own(name):
    got = on_a_stream(examples(DEVICE)[name].run)
    check_close(got, on_cpu(examples("cpu")[name]))


@pytest.mark.parametrize("name", LAUNCHES)
def test_other_launches(name):
    run = launches(DEVICE, small=not ON_GPU)[name].run
    first = on_a_stream(run)
    for _ in range(1, REPEATS):
        for a, b in zip(first, on_a_stream(run)):
            assert_equal(a.nan_to_num(), b.nan_to_num())  # or threads did not wait
    check_close(first, on_cpu(launches("cpu", small=not ON_GPU)[name]))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one device")
@pytest.mark.parametrize("name", NAMES)
def test_a_second_device(name):
    check_close(examples("cuda:1")[name].run(), on_cpu(examples("cpu")[name]))


@pytest.mark.skipif(not ON_GPU, reason="no CUDA device; tests/robustness/test_capture.py simulates one")
@pytest.mark.parametrize("name", NAMES)
def test_a_graph_writes_the_same_again(name):
    graph, got = graph_of(examples("cuda")[name].run)
    for tensor in got:
        tensor.zero_()
    graph.replay()
    torch.cuda.synchronize()
    check_close(got, on_cpu(examples("cpu")[name]))


@pytest.mark.skipif(not ON_GPU, reason="no CUDA device")
def test_each_replay_draws_new_numbers():
    p = torch.full((1 << 16,), 0.5, device="cuda")
    graph, (spikes,) = graph_of(lambda: [ops.poisson(p, 1)])
    graph.replay()
    first = spikes.clone()
    graph.replay()
    assert 0.45 < (first != spikes).double().mean() < 0.55


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", NAMES if ON_GPU else NAMES[:1])
def test_compile(name, mode, fresh_compiler):
    settings = {"mode": mode} if ON_GPU else {"backend": mode}
    example = examples(DEVICE)[name]
    compiled = torch.compile(example.function, fullgraph=True, **settings)
    for _ in range(3):
        got = example.run(compiled)
    check_close(got, on_cpu(examples("cpu")[name]))
