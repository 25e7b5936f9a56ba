"""Large CPU outputs, whose memory is cached and reused (``snnfast.memory``)."""

import concurrent.futures
import gc
import os
import re

import pytest
import torch
from backends import PRESENT
from interpreter import python
from samples import assert_equal

from snnfast import ops
from snnfast.backend import memory

pytestmark = [pytest.mark.skipif("cpu" not in PRESENT, reason="no CPU kernels"), pytest.mark.usefixtures("fresh_cache")]
LARGE = (40, 20_000)  # every output and gradient [T, N] takes 3 MiB


def test_memory_is_used_again_and_given_back():
    if not memory.statistics().limit:
        pytest.skip("no cache on this platform")
    x = torch.rand(LARGE)
    gc.collect()
    others = memory.statistics().in_use  # of tensors that earlier tests keep
    spikes, _ = ops.lif(x)
    if memory.statistics().in_use == others:
        pytest.skip("this PyTorch cannot wrap foreign memory")
    address = spikes.data_ptr()
    del spikes
    assert memory.statistics().in_use == others
    assert memory.statistics().cached > 0
    again, _ = ops.lif(x)
    assert again.data_ptr() == address
    other, _ = ops.lif(x)
    assert other.data_ptr() != address
    del again, other
    memory.release()
    assert memory.statistics().cached == 0


def test_outputs_of_all_sizes_share_the_memory():
    """A freed block holds two smaller outputs, and these, freed, hold a larger one again."""
    large = torch.rand(80, 20_000)
    spikes, _ = ops.lif(large)
    if not memory.statistics().in_use:
        pytest.skip("no cache on this platform, or this PyTorch cannot wrap foreign memory")
    address, used = spikes.data_ptr(), memory.statistics().in_use
    del spikes
    halves = [ops.lif(large[:40])[0] for _ in range(2)]
    assert memory.statistics()[1:] == (0, used)
    del halves
    again, _ = ops.lif(large)
    assert again.data_ptr() == address
    assert memory.statistics()[1:] == (0, used)


def test_limit_bounds_what_is_kept_and_0_keeps_nothing():
    x = torch.rand(LARGE)
    memory.set_limit(2**22)
    for _ in range(3):
        outputs = [ops.lif(x) for _ in range(4)]
        del outputs
        assert memory.statistics().cached <= 2**22
    memory.set_limit(0)
    ops.lif(x)
    assert memory.statistics().cached == 0


@pytest.mark.parametrize(("text", "limit"), [("3", 3 << 20), ("0", 0), ("-1", 0), ("few", 0)])
def test_limit_of_the_environment_is_in_mib(text, limit):
    if not memory.statistics().limit:
        pytest.skip("no cache on this platform")
    ask = "from snnfast import memory; print(memory.statistics().limit)"
    assert int(python(ask, SNNFAST_CPU_CACHE_MB=text).stdout) == limit


@pytest.mark.parametrize("text", ["99999999999", "9" * 30])
def test_the_limit_is_at_most_the_memory_of_the_machine(text):
    if not memory.statistics().limit:
        pytest.skip("no cache on this platform")
    ask = "from snnfast import memory; print(memory.statistics().limit)"
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE") >> 20 << 20
    assert int(python(ask, SNNFAST_CPU_CACHE_MB=text).stdout) == whole


def test_negative_limit_is_refused():
    with pytest.raises(ValueError, match="set_limit: size must be at least 0, got -1"):
        memory.set_limit(-1)


def test_views_keep_the_memory_they_look_at():
    x = torch.rand(LARGE)
    row = ops.lif(x)[0][7]
    want = row.clone()
    for _ in range(5):
        ops.lif(-x)[0].fill_(9)
    assert_equal(row, want)


def test_outputs_survive_numpy_pickle_and_sharing(tmp_path):
    spikes, _ = ops.lif(torch.rand(LARGE) * 2)
    want = spikes.clone()
    array = spikes.numpy()
    torch.save(spikes, tmp_path / "spikes.pt")
    del spikes
    ops.lif(-torch.rand(LARGE))
    assert_equal(torch.from_numpy(array), want)
    assert_equal(torch.load(tmp_path / "spikes.pt"), want)


@pytest.mark.parametrize("limit", [0, 2**28])
def test_out_of_memory_says_how_much_was_asked_for(limit):
    memory.set_limit(limit)
    shape = r"a tensor of shape \[35184372088832, 1\], which takes 140737 GB"
    for call in (
        lambda: ops.poisson(torch.zeros(1), 2**45, seed=1),
        lambda: ops.lif(torch.zeros(1, 1).expand(2**45, 1)),
        lambda: torch.ops.snnfast.poisson(torch.zeros(1), torch.zeros(1).long(), 2**45, torch.float32),
    ):
        with pytest.raises(RuntimeError) as caught:
            call()
        first = str(caught.value).splitlines()[0]
        assert re.fullmatch(rf"snnfast: no memory for {shape}", first), first
        assert "API call failed" not in first


def test_first_line_of_a_raw_error_is_for_a_person():
    """It does not name the place in the sources."""
    with pytest.raises(RuntimeError) as caught:
        torch.ops.snnfast.poisson(torch.zeros(1).double(), torch.zeros(1).long(), 2, torch.float32)
    assert str(caught.value).splitlines()[0] == "poisson: p must be float32, got float64"
    with pytest.raises(RuntimeError) as caught:
        torch.ops.snnfast.spike_count(torch.zeros(2, 2).long(), None, None, 1.0, None, None)
    first = str(caught.value).splitlines()[0]
    assert first == "spike_count: x must be float32, float64, bfloat16 or float16, got int64"


def test_memory_in_use_is_counted_right_under_threads():
    """A thread that finds the cache locked does not use it, but its memory must be counted."""
    x = torch.rand(40, 8_000)
    gc.collect()
    before = memory.statistics().in_use

    def work(thread):
        for _ in range(200):
            ops.poisson(x[0], 40, seed=1)
            if thread % 2:
                memory.release()  # the cache is locked while it unmaps, so that others meet the lock even on one core

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    gc.collect()
    assert memory.statistics().in_use == before
