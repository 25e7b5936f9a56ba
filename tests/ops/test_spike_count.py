"""Spike counts without a spike train: equal to those of integrate-and-fire neurons, also in parts."""

import pytest
import torch
from backends import PRESENT
from cases import check_each, in_one_test
from samples import assert_equal

from snnfast import ops, reference

SHAPES = ((0, 3), (4, 0), (6,), (1, 1), (5, 3), (9, 31), (7, 4, 33), (2, 513), (3, 2, 4, 400), (64, 2), (5, 2, 3, 4, 5))
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
RESETS = (None, 0.0, -0.3)


def current(shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator, dtype=torch.float64) + 0.4).to(dtype)


def states(x, seed=1):
    generator = torch.Generator().manual_seed(seed)
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    v = torch.rand(x.shape[1:], generator=generator, dtype=torch.float64).to(x.device, dtype)
    return v, (v * 9).floor()


@pytest.mark.parametrize("v_reset", RESETS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equals_the_reference(kernels, dtype, v_reset):
    def check(shape):
        x = current(shape, dtype)
        v, count = states(x)
        for start in ((None, None), (v, count), (v, None), (None, count)):
            want = reference.spike_count(x, *start, v_threshold=0.8, v_reset=v_reset)
            moved = [None if s is None else s.to(kernels.device) for s in start]
            got = ops.spike_count(x.to(kernels.device), *moved, v_threshold=0.8, v_reset=v_reset)
            assert_equal([g.cpu() for g in got], list(want))

    check_each(SHAPES, check)


@pytest.mark.parametrize("v_reset", RESETS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_counts_the_spikes_of_iaf(backend, dtype, v_reset):
    x = current((40, 3, 7), dtype).to(backend.device)
    v, _ = states(x)
    spikes, v_out = ops.iaf(x, v, v_threshold=0.7, v_reset=v_reset)
    count, v_counted = ops.spike_count(x, v, v_threshold=0.7, v_reset=v_reset)
    assert_equal([count, v_counted], [spikes.to(count.dtype).sum(0), v_out])
    assert count.max() > 5


@pytest.mark.parametrize("threshold", [(), (7,), (3, 1), (5, 3, 7), (5, 1, 7), (1, 1, 1)], ids=str)
def test_a_threshold_each(backend, threshold):
    x = current((20, 5, 3, 7)).to(backend.device)
    th = torch.rand(threshold, generator=torch.Generator().manual_seed(2)) + 0.5
    count, _ = ops.spike_count(x, v_threshold=th.to(backend.device))
    spikes, _ = reference.iaf(x.cpu(), v_threshold=th, v_reset=None)
    torch.testing.assert_close(count.cpu(), spikes.sum(0), rtol=0, atol=0)


# Channels, images or single neurons of x [T, 4, 5, 2, 3] share a threshold.
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_neighbours_of_one_thread_have_thresholds_of_their_own(kernels, dtype):
    x = current((9, 4, 5, 2, 3), dtype)

    def check(shape):
        th = (torch.rand(shape, generator=torch.Generator().manual_seed(2)) + 0.5).to(x.dtype)
        want = reference.spike_count(x, v_threshold=th.float())
        moved = th.float().to(kernels.device)
        got = ops.spike_count(x.to(kernels.device), v_threshold=moved)
        assert_equal([g.cpu() for g in got], list(want))

    check_each([(1,), (3,), (2, 1), (2, 3), (5, 1, 1), (5, 2, 3), (4, 1, 1, 1), (4, 5, 2, 3)], check)


def test_hand_worked(backend):
    x = torch.tensor([0.5, 0.5, 0.5, 1.75, -3.0, 4.0], device=backend.device).unsqueeze(1)
    # soft: 0.5, 1 spike 0, 0.5, 2.25 spike 1.25, -1.75, 2.25 spike 1.25
    count, v = ops.spike_count(x)
    assert (count.item(), v.item()) == (3, 1.25)
    # hard to 0.25: 0.75, 1.25 spike, 0.75, 2.5 spike, -2.75, 1.25 spike
    count, v = ops.spike_count(x, v_reset=0.25)
    assert (count.item(), v.item()) == (3, 0.25)


@pytest.mark.parametrize("v_reset", RESETS)
@pytest.mark.parametrize("chunk", [1, 3, 7, 20])
def test_chunks_of_steps_give_the_same_bits(backend, chunk, v_reset):
    x = current((20, 4, 70)).to(backend.device)
    want = ops.spike_count(x, v_threshold=0.9, v_reset=v_reset)
    count = v = None
    for part in x.split(chunk):
        count, v = ops.spike_count(part, v, count, v_threshold=0.9, v_reset=v_reset)
    assert_equal([count, v], list(want))


@pytest.mark.parametrize(
    "layout",
    [
        lambda x: x.movedim(-3, -1).contiguous().movedim(-1, -3),
        lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
        lambda x: torch.stack([x, x * torch.nan], -1).flatten(-2)[..., ::2],
        lambda x: torch.stack([x, x * torch.nan], 1)[:, 0],
    ],
    ids=["channels_last", "time_inside", "sliced", "cut_out"],
)
def test_any_layout(backend, layout):
    x = current((6, 2, 3, 4, 5)).to(backend.device)
    v, count = states(x)
    th = torch.rand(3, 1, 1, generator=torch.Generator().manual_seed(2)).to(backend.device) + 0.5
    want = ops.spike_count(x, v, count, v_threshold=th)
    assert_equal(list(ops.spike_count(layout(x), v, count, v_threshold=th)), list(want))


def test_a_current_expanded_over_time(backend):
    x = current((1, 3, 50)).to(backend.device)
    want = ops.spike_count(x.repeat(30, 1, 1))
    assert_equal(list(ops.spike_count(x.expand(30, 3, 50))), list(want))


def test_arguments_are_left_alone(backend):
    x = current((5, 9)).to(backend.device)
    v, count = states(x)
    before = [a.clone() for a in (x, v, count)]
    ops.spike_count(x, v, count)
    assert_equal([x, v, count], before)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_nothing(threads):
    x = current((5, 3, 40000))
    before = torch.get_num_threads()
    want = ops.spike_count(x)
    try:
        torch.set_num_threads(threads)
        got = ops.spike_count(x)
    finally:
        torch.set_num_threads(before)
    assert_equal(list(got), list(want))


def test_special_values(kernels):
    x = torch.tensor([torch.nan, torch.inf, -torch.inf, 1.0, 1e-45]).unsqueeze(0).repeat(3, 1)
    want = reference.spike_count(x)
    got = ops.spike_count(x.to(kernels.device))
    assert_equal([g.cpu() for g in got], list(want))
    assert got[0].tolist()[:4] == [0, 3, 0, 3]


def test_an_infinite_membrane_does_not_reach_an_infinite_threshold(kernels):
    """The difference of membrane and threshold is NaN."""
    v = torch.tensor([torch.inf, torch.inf, 0.0])
    thresholds = torch.tensor([torch.inf, 1.0, torch.inf])
    for op, device in ((ops.spike_count, kernels.device), (reference.spike_count, "cpu")):
        arguments = [t.to(device) for t in (torch.zeros(1, 3), v)]
        count, _ = op(*arguments, v_threshold=thresholds.to(device), v_reset=0.0)
        assert count.tolist() == [0, 1, 0]


X = torch.zeros(4, 2, 3)
WRONG = (
    ({"x": [1.0]}, TypeError, r"spike_count: x must be a tensor, got list"),
    ({"x": torch.zeros(3, dtype=torch.int64)}, TypeError, r"spike_count: x must have one of the dtypes"),
    ({"x": torch.tensor(1.0)}, ValueError, r"spike_count: x must have shape \[T, ...\]"),
    ({"v": torch.zeros(3)}, ValueError, r"v must have shape x.shape\[1:\] = \[2, 3\], got \[3\]"),
    ({"v": torch.zeros(2, 3).double()}, TypeError, r"v must have dtype torch.float32"),
    ({"v": 0.0}, TypeError, r"v must be a tensor or None, got float"),
    ({"count": torch.zeros(3, 2)}, ValueError, r"count must have shape x.shape\[1:\] = \[2, 3\]"),
    ({"count": torch.zeros(2, 3).int()}, TypeError, r"count must have dtype torch.float32"),
    ({"v_threshold": torch.ones(4)}, ValueError, r"v_threshold must be a number or broadcast to"),
    ({"v_threshold": "1"}, TypeError, r"v_threshold must be a number, got str"),
    ({"v_threshold": float("nan")}, ValueError, r"v_threshold must be finite, got nan"),
    ({"v_reset": torch.zeros(3)}, TypeError, r"v_reset must be a number, got Tensor"),
    ({"x": torch.zeros(4, 2, 3, requires_grad=True)}, RuntimeError, r"counts have none; use"),
)


@in_one_test(("arguments", "error", "message"), WRONG)
def test_errors(backend, arguments, error, message):
    arguments = {"x": X, **arguments}
    moved = {k: a.to(backend.device) if isinstance(a, torch.Tensor) else a for k, a in arguments.items()}
    with pytest.raises(error, match=message):
        ops.spike_count(**moved)


@pytest.mark.parametrize("name", [n for n in PRESENT if n != "cuda"])
def test_raw_calls_with_wrong_tensors_are_refused(name):
    op = (torch.ops.snnfast_emulated if name == "cuda_emulation" else torch.ops.snnfast).spike_count
    for arguments in (
        (X.int(), None, None, 1.0, None, None),
        (torch.tensor(1.0), None, None, 1.0, None, None),
        (X, torch.zeros(7), None, 1.0, None, None),
        (X, None, torch.zeros(2, 3).double(), 1.0, None, None),
        (X, None, None, 1.0, torch.ones(2, 2), None),
        (X, None, None, 1.0, torch.ones(3).double(), None),
    ):
        with pytest.raises(RuntimeError, match="spike_count"):
            op(*arguments)
