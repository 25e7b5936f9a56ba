"""Linear maps of spikes: by events like the reference, bit for bit; dense like PyTorch; the choice; any layout."""

import pytest
import torch
from cases import check_each
from samples import assert_equal
from spike_linear_cases import DTYPES, F64, KINDS, SIZES, case, gradients, needs_kernels, uniform
from torch.nn import functional as F  # noqa: N812

from snnfast import ops, reference

pytestmark = needs_kernels


def found_in(x, weight, method="auto"):
    """Return the number of values that are not 0, of those that are neither 0 nor 1, and whether events were summed."""
    numbers = ("auto", "events", "dense")
    found = torch.ops.snnfast.spike_linear_forward(x, weight, None, numbers.index(method))[2]
    return found.tolist()


# ---- forward


@pytest.mark.parametrize("unit", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_events_give_the_bits_of_the_reference(dtype, unit):
    def check(size):
        for bias in (True, False):
            arguments = case(size, dtype, unit=unit, bias=bias)
            assert_equal([ops.spike_linear(*arguments, method="events")], [reference.spike_linear(*arguments)])

    check_each(SIZES, check)


@pytest.mark.parametrize("method", ["auto", "dense"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_is_the_linear_map(backend, dtype, method):
    def check(size):
        x, weight, bias = (a.to(backend.device) for a in case(size, dtype, unit=False))
        got = ops.spike_linear(x, weight, bias, method=method)
        torch.testing.assert_close(
            got,
            F.linear(x, weight, bias),
            atol=1e-2 if dtype.itemsize == 2 else 1e-5,
            rtol=1e-2 if dtype.itemsize == 2 else 1e-5,
        )

    check_each(SIZES, check)


@pytest.mark.parametrize("method", ["auto", "events", "dense"])
def test_hand_worked(backend, method):
    weight = torch.tensor([[1.0, 2.0, 3.0], [-4.0, 5.0, 0.5]], dtype=F64, device=backend.device)
    x = torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.0, 0.0], [2.0, 0.0, -1.0]], dtype=F64, device=backend.device)
    bias = torch.tensor([0.25, -1.0], dtype=F64, device=backend.device)
    y = ops.spike_linear(x, weight, bias, method=method)
    assert y.tolist() == [[5.25, 4.5], [0.25, -1.0], [-0.75, -9.5]]
    grad = torch.tensor([[1.0, 0.0], [10.0, 20.0], [0.5, -2.0]], dtype=F64, device=backend.device)
    grad_x, grad_weight, grad_bias = gradients(ops.spike_linear, x, weight, bias, grad, method=method)
    assert grad_x.tolist() == [[1, 2, 3], [-70, 120, 40], [8.5, -9, 0.5]]
    assert grad_weight.tolist() == [[1, 1, 0.5], [-4, 0, 2]]
    assert grad_bias.tolist() == [11.5, 18.0]


@pytest.mark.parametrize("method", ["auto", "events", "dense"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_bool_spikes_are_ones(backend, dtype, method):
    x, weight, bias = (a.to(backend.device) for a in case(((4, 70), 20), dtype))
    want = ops.spike_linear(x, weight, bias, method=method)
    assert_equal([ops.spike_linear(x.bool(), weight, bias, method=method)], [want])
    grad = torch.ones_like(want)
    want = gradients(ops.spike_linear, x, weight, bias, grad, method=method)[1:]
    got = gradients(ops.spike_linear, x.bool(), weight, bias, grad, method=method)
    if dtype.itemsize > 2 or method == "events":
        assert_equal(list(got), list(want))


def test_inputs_of_0_read_no_weight_by_events():
    x = torch.tensor([[0.0, -0.0, 1.0]])
    weight = torch.tensor([[torch.inf, torch.nan, 2.0]])
    assert ops.spike_linear(x, weight, method="events").item() == 2


def test_special_values():
    x = torch.zeros(5, 70)
    x[0, 3], x[1, 69], x[2, 64], x[3, 5] = torch.nan, torch.inf, 1e-45, -0.0
    weight = uniform(20, 70, seed=2, dtype=torch.float32)
    assert found_in(x, weight, "events") == [3, 3, 1]
    y = ops.spike_linear(x, weight, method="events")
    assert_equal([y], [reference.spike_linear(x, weight)])
    assert y[0].isnan().all()
    assert y[1].isinf().all()
    assert not y[3:].any()


# ---- choice of the method


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("input_major", [False, True])
@pytest.mark.parametrize(("rows", "n_in", "n_out"), [(40, 96, 80), (100, 64, 10), (48, 300, 3)])
def test_auto_follows_the_rule(rows, n_in, n_out, input_major, dtype):
    """Events are chosen while their additions and copies cost less than the dense product: docs/ops/spike_linear.md."""
    lanes = 8 if dtype == F64 else 16
    in_place = input_major and dtype.itemsize > 2
    worth = 0.15 if dtype == torch.bfloat16 else 0.4
    copied = (rows + (0 if in_place else n_in)) * n_out
    products = rows * n_in * (n_out + min(4 * n_out, 16))
    most = int((worth * products - 4 * copied) / (-(-n_out // lanes) * lanes + 8) + 1e-6)
    assert 0 < most < rows * n_in
    weight = uniform(n_out, n_in, seed=2, dtype=dtype)
    if input_major:
        weight = weight.t().contiguous().t()
    for spikes, by_events in ((0, 1), (most, 1), (most + 1, 0), (rows * n_in, 0)):
        x = torch.zeros(rows * n_in, dtype=dtype)
        x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:spikes]] = 1
        x = x.view(rows, n_in)
        assert found_in(x, weight) == [spikes, 0, by_events]
        same = "events" if by_events else "dense"
        assert_equal([ops.spike_linear(x, weight)], [ops.spike_linear(x, weight, method=same)])


def test_a_single_row_is_dense_unless_no_weight_is_copied():
    x, weight = torch.zeros(1, 100), uniform(100, 100, seed=2, dtype=torch.float32)
    assert found_in(x, weight) == [0, 0, 0]
    assert found_in(x, weight.t().contiguous().t()) == [0, 0, 1]


@pytest.mark.parametrize("dtype", [*DTYPES, torch.bool], ids=str)
def test_what_is_found(dtype):
    x = torch.zeros(3, 131)
    x[0, ::2] = 1
    x[2, 130] = 1
    weight = torch.ones(2, 131, dtype=torch.float32 if dtype == torch.bool else dtype)
    assert found_in(x.to(dtype), weight, "dense") == [67, 0, 0]
    if dtype != torch.bool:
        x[1, 64:67] = torch.tensor([-1.0, 0.5, 2.0])
        assert found_in(x.to(dtype), weight, "events") == [70, 3, 1]


# ---- layouts, threads, memory


@pytest.mark.parametrize("method", ["events", "dense"])
@pytest.mark.parametrize(("n_in", "n_out"), [(96, 128), (70, 64), (70, 33), (1100, 512)])
@pytest.mark.parametrize("rows", [3, 80])
@pytest.mark.parametrize("dtype", [torch.float32, F64, torch.bfloat16], ids=str)
def test_any_layout_gives_the_same(dtype, rows, n_in, n_out, method):
    x, weight, bias = case(((rows, n_in), n_out), dtype, unit=False)
    grad = uniform(rows, n_out, seed=4, dtype=dtype)
    want = gradients(ops.spike_linear, x, weight, bias, grad, method=method)
    want = [ops.spike_linear(x, weight, bias, method=method), *want]
    wide = torch.stack([weight, weight * torch.nan], -1)
    layouts = (
        (x.t().contiguous().t(), weight, bias),
        (torch.stack([x, x * torch.nan], 1)[:, 0], weight, torch.stack([bias, bias], 1)[:, 0]),
        (x, weight.t().contiguous().t(), bias),
        (x, F.pad(weight.t(), (0, 16)).t()[:n_out], bias),
        (x, wide[..., 0], bias),
    )
    for arguments in layouts:
        got = gradients(ops.spike_linear, *arguments, grad, method=method)
        got = [ops.spike_linear(*arguments, method=method), *got]
        if method == "events":
            assert_equal([got[0], got[2]], [want[0], want[2]])
        close = {"atol": 0.1, "rtol": 0.02} if dtype == torch.bfloat16 else {"atol": 1e-4, "rtol": 1e-4}
        torch.testing.assert_close(got, want, **close)


@pytest.mark.parametrize("size", [((3000, 100), 20), ((300, 100), 400), ((40, 2100), 70)], ids=str)
@pytest.mark.parametrize("unit", KINDS.values(), ids=KINDS)
def test_threads_change_nothing(threads, size, unit):
    x, weight, bias = case(size, torch.float32, unit=unit)
    grad = uniform(size[0][0], size[1], seed=4, dtype=torch.float32)

    def run(count):
        threads(count)
        y = ops.spike_linear(x, weight, bias, method="events")
        return [y, gradients(ops.spike_linear, x, weight, bias, grad, method="events")[1]]

    want = run(1)
    for count in (2, 3, 8):
        assert_equal(run(count), want)


@pytest.mark.parametrize("cut", [1, 7, 64])
def test_rows_alone_or_together_give_the_same_bits(cut):
    x, weight, bias = case(((100, 90), 40), torch.float32)
    want = ops.spike_linear(x, weight, bias, method="events")
    parts = [ops.spike_linear(part, weight, bias, method="events") for part in x.split(cut)]
    assert_equal([torch.cat(parts)], [want])


def test_arguments_are_left_alone(backend):
    arguments = [a.to(backend.device) for a in case(((6, 70), 20))]
    before = [a.clone() for a in arguments]
    y = ops.spike_linear(*arguments)
    y.zero_()
    assert_equal(arguments, before)


def test_autocast_casts_as_for_linear():
    x, weight, bias = case(((6, 70), 20), torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        got, want = ops.spike_linear(x, weight, bias), F.linear(x, weight, bias)
        assert ops.spike_linear(x.bfloat16(), weight, bias).dtype == torch.bfloat16
        assert ops.spike_linear(x.double(), weight.double()).dtype == F64
    assert got.dtype == want.dtype == torch.bfloat16
    torch.testing.assert_close(got, want)
