"""Linear maps of spikes: by events as the reference says, bit for bit; densely as PyTorch does; which of the two."""

import copy

import pytest
import torch
from backends import PRESENT, force
from cases import check_each
from samples import assert_equal
from torch import nn
from torch.nn import functional as F  # noqa: N812

from snnfast import nn as sn
from snnfast import ops, reference

pytestmark = pytest.mark.skipif("cpu" not in PRESENT, reason="no CPU kernels")

F64 = torch.float64
DTYPES = (torch.float32, F64, torch.bfloat16, torch.float16)
# x, outputs: around a word of bits, a register, a block of outputs, a chunk of inputs
SIZES = (
    ((1,), 1),
    ((3, 5), 2),
    ((2, 3, 64), 16),
    ((4, 63), 17),
    ((7, 65), 33),
    ((5, 130), 64),
    ((3, 200), 65),
    ((2, 40), 150),
    ((6, 1030), 70),
    ((0, 4), 3),
    ((3, 0), 4),
    ((3, 4), 0),
    ((2, 2100), 5),
)
# what x may be: the part that is not 0, and whether it is 1
KINDS = {"spikes": True, "values": False}


def uniform(*shape, seed, dtype=F64):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(shape, generator=generator, dtype=F64) * 2 - 1).to(dtype)


def inputs(shape, dtype=F64, part=0.2, unit=True, seed=0):
    active = uniform(*shape, seed=seed) < 2 * part - 1
    values = active if unit else active * uniform(*shape, seed=seed + 1)
    return values.to(dtype)


def case(size, dtype=F64, part=0.2, unit=True, bias=True):
    shape, outputs = size
    weight = uniform(outputs, shape[-1], seed=2, dtype=dtype)
    return (
        inputs(shape, dtype, part, unit),
        weight,
        uniform(outputs, seed=3, dtype=dtype) if bias else None,
    )


def found_in(x, weight, method="auto"):
    """The number that are not 0, that are neither 0 nor 1, and whether events were summed."""
    numbers = ("auto", "events", "dense")
    found = torch.ops.snnfast.spike_linear_forward(x, weight, None, numbers.index(method))[2]
    return found.tolist()


def gradients(op, x, weight, bias, grad, **how):
    leaves = [a.detach().requires_grad_(a.is_floating_point()) for a in (x, weight, bias)]
    y = op(*leaves, **how)
    return torch.autograd.grad(
        y, [a for a in leaves if a.requires_grad], grad, materialize_grads=True
    )


# ---- forward


@pytest.mark.parametrize("unit", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_events_give_the_bits_of_the_reference(dtype, unit):
    def check(size):
        for bias in (True, False):
            arguments = case(size, dtype, unit=unit, bias=bias)
            assert_equal(
                [ops.spike_linear(*arguments, method="events")],
                [reference.spike_linear(*arguments)],
            )

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
    x = torch.tensor(
        [[0.0, 1.0, 1.0], [0.0, 0.0, 0.0], [2.0, 0.0, -1.0]], dtype=F64, device=backend.device
    )
    bias = torch.tensor([0.25, -1.0], dtype=F64, device=backend.device)
    y = ops.spike_linear(x, weight, bias, method=method)
    assert y.tolist() == [[5.25, 4.5], [0.25, -1.0], [-0.75, -9.5]]
    grad = torch.tensor([[1.0, 0.0], [10.0, 20.0], [0.5, -2.0]], dtype=F64, device=backend.device)
    grad_x, grad_weight, grad_bias = gradients(
        ops.spike_linear, x, weight, bias, grad, method=method
    )
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


# ---- which way


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("input_major", [False, True])
@pytest.mark.parametrize(("rows", "n_in", "n_out"), [(40, 96, 80), (100, 64, 10), (48, 300, 3)])
def test_auto_follows_the_rule(rows, n_in, n_out, input_major, dtype):
    """Events while additions and copies are worth less than a part of the multiplications; docs/ops/spike_linear.md."""
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


# ---- gradients


@pytest.mark.parametrize("unit", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("method", ["auto", "events", "dense"])
def test_gradients_equal_the_reference(backend, method, unit):
    def check(size):
        arguments = case(size, unit=unit)
        grad = uniform(*size[0][:-1], size[1], seed=4)
        want = gradients(reference.spike_linear, *arguments, grad)
        moved = [a.to(backend.device) for a in (*arguments, grad)]
        got = gradients(ops.spike_linear, *moved, method=method)
        for a, b in zip(got, want, strict=True):
            scale = b.abs().max().item() if b.numel() else 0.0
            torch.testing.assert_close(a.cpu(), b, rtol=0, atol=1e-12 * max(scale, 1.0))

    check_each(SIZES, check)


@pytest.mark.parametrize("unit", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("rows", "n_in", "n_out"), [(5, 70, 40), (2100, 5, 3), (1030, 20, 70), (1100, 1100, 3)]
)
def test_weights_gradient_is_summed_row_by_row(rows, n_in, n_out, dtype, unit):
    x, weight, bias = case(((rows, n_in), n_out), dtype, unit=unit)
    grad = uniform(rows, n_out, seed=4, dtype=dtype)
    sums = torch.zeros(n_out, n_in, dtype=F64 if dtype == F64 else torch.float32)
    for x_row, grad_row in zip(x.to(sums.dtype), grad.to(sums.dtype)):
        sums += grad_row[:, None] * x_row
    got = gradients(ops.spike_linear, x, weight, bias, grad, method="events")
    assert_equal([got[1]], [sums.to(dtype)])


@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
@pytest.mark.parametrize(("rows", "n_in", "n_out"), [(9, 16, 16), (5, 150, 1), (4, 333, 10)])
def test_inputs_gradient_of_few_outputs_is_summed_output_by_output(rows, n_in, n_out, dtype):
    x, weight, bias = case(((rows, n_in), n_out), dtype)
    grad = uniform(rows, n_out, seed=4, dtype=dtype)
    want = torch.zeros(rows, n_in, dtype=dtype)
    for grad_o, row in zip(grad.t(), weight):
        want += grad_o[:, None] * row
    for given in (weight, weight.t().contiguous().t()):
        assert_equal([gradients(ops.spike_linear, x, given, bias, grad)[0]], [want])


def test_gradients_agree_with_finite_differences():
    x, weight, bias = (a.requires_grad_() for a in case(((3, 4), 5), unit=False, part=0.5))
    for method in ("events", "dense"):
        assert torch.autograd.gradcheck(
            lambda *a, how=method: ops.spike_linear(*a, method=how), (x, weight, bias)
        )


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1), (1, 2)])
@pytest.mark.parametrize("method", ["events", "dense"])
def test_only_gradients_that_are_wanted(backend, wanted, method):
    arguments = [a.to(backend.device) for a in case(((6, 70), 20))]
    grad = uniform(6, 20, seed=4).to(backend.device)
    want = gradients(ops.spike_linear, *arguments, grad, method=method)
    leaves = [a.clone().requires_grad_(k in wanted) for k, a in enumerate(arguments)]
    ops.spike_linear(*leaves, method=method).backward(grad)
    for k, leaf in enumerate(leaves):
        assert (leaf.grad is not None) == (k in wanted)
        if k in wanted:
            torch.testing.assert_close(leaf.grad, want[k], rtol=0, atol=1e-13)


@pytest.mark.parametrize("method", ["events", "dense"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_spikes_are_kept_as_bits_with_the_same_gradients(dtype, method):
    x, weight, bias = case(((6, 4, 130), 30), dtype)
    weight.requires_grad_()
    y = ops.spike_linear(x, weight, bias, method=method)
    kept = y.grad_fn.saved_tensors
    assert [tuple(t.shape) for t in kept if t.data_ptr() == x.data_ptr()] == []
    assert (
        sum(t.numel() * t.element_size() for t in kept if t.dtype == torch.int64) == 24 * 3 * 8 + 24
    )
    grad = torch.ones_like(y)
    number = ("auto", "events", "dense").index(method)
    raw = (x, weight.detach(), bias, number)
    _, bits, found = torch.ops.snnfast.spike_linear_forward(*raw)
    want = torch.ops.snnfast.spike_linear_backward(*raw, bits, found, grad, False, True, False)[1]
    x.zero_()  # nothing of it is read any more
    assert_equal([torch.autograd.grad(y, weight, grad)[0]], [want])


def test_other_values_are_kept():
    x, weight, _ = case(((6, 130), 30), unit=False)
    weight.requires_grad_()
    y = ops.spike_linear(x, weight, method="events")
    assert any(t.data_ptr() == x.data_ptr() for t in y.grad_fn.saved_tensors)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_a_second_derivative_is_refused():
    x, weight, _ = (a.requires_grad_() for a in case(((6, 30), 30)))
    y = ops.spike_linear(x, weight)
    (grad,) = torch.autograd.grad(y.square().sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="spike_linear: a second derivative was asked for"):
        grad.sum().backward()


def test_forward_mode_is_refused():
    x, weight, _ = case(((6, 30), 30))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        with pytest.raises(RuntimeError, match="spike_linear: forward-mode"):
            ops.spike_linear(dual, weight)


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
        close = (
            {"atol": 0.1, "rtol": 0.02} if dtype == torch.bfloat16 else {"atol": 1e-4, "rtol": 1e-4}
        )
        torch.testing.assert_close(got, want, **close)


@pytest.mark.parametrize("method", ["events", "dense"])
def test_a_gradient_that_is_expanded(method):
    x, weight, bias = case(((6, 70), 20))
    grad = uniform(20, seed=4).expand(6, 20)
    want = gradients(ops.spike_linear, x, weight, bias, grad.contiguous(), method=method)
    got = gradients(ops.spike_linear, x, weight, bias, grad, method=method)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-13)


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


def test_uninitialised_memory_does_not_show(nan_memory):
    for size in SIZES:
        for dtype in (torch.float32, torch.bfloat16):
            x, weight, bias = case(size, dtype)
            grad = uniform(*size[0][:-1], size[1], seed=4, dtype=dtype)
            got = gradients(ops.spike_linear, x, weight, bias, grad, method="events")
            assert not any(t.isnan().any() for t in got)
            assert not ops.spike_linear(x, weight, bias, method="events").isnan().any()


def test_arguments_are_left_alone(backend):
    arguments = [a.to(backend.device) for a in case(((6, 70), 20))]
    before = [a.clone() for a in arguments]
    y = ops.spike_linear(*arguments)
    y.zero_()
    assert_equal(arguments, before)


# ---- what PyTorch knows of it


def test_opcheck_finds_nothing():
    forward = torch.ops.snnfast.spike_linear_forward.default
    backward = torch.ops.snnfast.spike_linear_backward.default
    for size in (((5, 70), 20), ((2, 3, 5), 4), ((7,), 3), ((0, 4), 3)):
        x, weight, bias = case(size)
        for arguments in (
            (x, weight, bias, 1),
            (x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_(), 2),
            (x.detach().bool(), weight, None, 0),
        ):
            torch.library.opcheck(forward, arguments)
        raw = (x.detach(), weight.detach(), bias.detach(), 1)
        y, bits, found = forward(*raw)
        for wanted in ((True, True, True), (False, True, False)):
            torch.library.opcheck(backward, (*raw, bits, found, y, *wanted))


@pytest.mark.parametrize("in_dims", [(0, None, None), (1, None, None), (None, 0, 0), (0, 0, None)])
def test_vmap_equals_a_loop(backend, in_dims):
    def op(x, weight, bias):
        return ops.spike_linear(x, weight, bias, method="events")

    batch = 3
    arguments = []
    for k, (a, dim) in enumerate(zip(case(((4, 20), 6)), in_dims)):
        a = a if dim is None else torch.stack([a * (n + 1) for n in range(batch)], dim)
        arguments.append(a.to(backend.device).requires_grad_(k > 0))

    def of(n):
        return [a if d is None else a.select(d, n) for a, d in zip(arguments, in_dims)]

    want = torch.stack([op(*of(n)) for n in range(batch)])
    got = torch.vmap(op, in_dims=in_dims)(*arguments)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-13)
    none = [a if d is None else a.narrow(d, 0, 0) for a, d in zip(arguments, in_dims)]
    assert torch.vmap(op, in_dims=in_dims)(*none).shape == (0, *got.shape[1:])
    grad = uniform(*got.shape, seed=5).to(backend.device)
    ours = torch.autograd.grad(got, arguments[1:], grad)
    torch.testing.assert_close(ours, torch.autograd.grad(want, arguments[1:], grad))


@pytest.mark.parametrize("unit", KINDS.values(), ids=KINDS)
def test_compiles_in_one_graph_with_its_gradient(kernels, fresh_compiler, unit):
    arguments = [a.to(kernels.device) for a in case(((6, 70), 20), unit=unit)]
    grad = uniform(6, 20, seed=4).to(kernels.device)
    compiled = torch.compile(ops.spike_linear, backend="aot_eager", fullgraph=True)
    want = gradients(ops.spike_linear, *arguments, grad, method="events")
    got = gradients(compiled, *arguments, grad, method="events")
    torch.testing.assert_close(got, want, rtol=0, atol=1e-13)


def test_exports_with_dynamic_rows():
    layer = sn.SpikeLinear(70, 20)
    x, _, _ = case(((6, 70), 20), torch.float32)
    rows = torch.export.Dim("rows", min=1, max=1000)
    program = torch.export.export(layer, (x,), dynamic_shapes={"x": {0: rows}})
    x, _, _ = case(((9, 70), 20), torch.float32)
    assert_equal([program.module()(x)], [layer(x)])


def test_the_gradient_of_a_raw_call():
    x, weight, bias = case(((6, 70), 20))
    grad = uniform(6, 20, seed=4)
    want = gradients(ops.spike_linear, x, weight, bias, grad, method="events")

    def raw(*arguments):
        return torch.ops.snnfast.spike_linear_forward(*arguments, 1)[0]

    assert_equal(list(gradients(raw, x, weight, bias, grad)), list(want))


def test_autocast_casts_as_for_linear():
    x, weight, bias = case(((6, 70), 20), torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        got, want = ops.spike_linear(x, weight, bias), F.linear(x, weight, bias)
        assert ops.spike_linear(x.bfloat16(), weight, bias).dtype == torch.bfloat16
        assert ops.spike_linear(x.double(), weight.double()).dtype == F64
    assert got.dtype == want.dtype == torch.bfloat16
    torch.testing.assert_close(got, want)


# ---- errors

X, W = torch.zeros(3, 4), torch.zeros(2, 4)
WRONG = (
    ({"x": [1.0]}, TypeError, r"spike_linear: x must be a tensor, got list"),
    ({"x": X.to_sparse()}, TypeError, r"x must be a dense tensor"),
    ({"weight": 1.0}, TypeError, r"weight must be a tensor, got float"),
    ({"weight": W.int()}, TypeError, r"weight must have one of the dtypes"),
    ({"weight": W[0]}, ValueError, r"weight must have shape \[out, in\], got \[4\]"),
    (
        {"x": X.double()},
        TypeError,
        r"x must have the dtype of weight, torch.float32, or torch.bool",
    ),
    ({"x": X.int()}, TypeError, r"x must have the dtype of weight"),
    ({"x": X[0, 0]}, ValueError, r"x must have shape \[..., 4\]"),
    ({"x": X[:, :3]}, ValueError, r"x must have shape \[..., 4\] for a weight .* got \[3, 3\]"),
    ({"bias": 0.0}, TypeError, r"bias must be a tensor, got float"),
    ({"bias": torch.zeros(3)}, ValueError, r"bias must have shape \[2\], got \[3\]"),
    ({"bias": torch.zeros(2).double()}, TypeError, r"bias must have the dtype of weight"),
    (
        {"bias": torch.zeros(2, device="meta")},
        ValueError,
        r"bias must be on the device of weight, cpu",
    ),
    ({"weight": W.to("meta")}, ValueError, r"weight must be on the device of x, cpu, got meta"),
    ({"method": "sparse"}, ValueError, r"method must be auto or events or dense, got 'sparse'"),
)


@pytest.mark.parametrize(("arguments", "error", "message"), WRONG, ids=[w[2] for w in WRONG])
def test_errors(arguments, error, message):
    for name in ("cpu", "reference"):
        with force(name), pytest.raises(error, match=message):
            ops.spike_linear(**{"x": X, "weight": W, **arguments})


def test_raw_calls_with_wrong_tensors_are_refused():
    forward, backward = (
        torch.ops.snnfast.spike_linear_forward,
        torch.ops.snnfast.spike_linear_backward,
    )
    for arguments in (
        (X.int(), W, None, 1),
        (X, W.int(), None, 1),
        (X, W[0], None, 1),
        (X[:, :3], W, None, 1),
        (torch.tensor(1.0), W, None, 1),
        (X, W, torch.zeros(3), 1),
        (X, W, torch.zeros(2).double(), 1),
        (X, W, None, 3),
    ):
        with pytest.raises(RuntimeError, match="spike_linear"):
            forward(*arguments)
    y, bits, found = forward(X, W, None, 1)
    good = {
        "x": X,
        "weight": W,
        "bias": None,
        "method": 1,
        "bits": bits,
        "found": found,
        "grad_y": y,
    }
    for wrong in (
        {"grad_y": y.double()},
        {"grad_y": y[:, :1]},
        {"grad_y": y[:2]},
        {"bits": bits[:2]},
        {"bits": bits.int()},
        {"found": found[:2]},
        {"x": X[:2]},
        {"x": X.double()},
        {"weight": W[:1]},
    ):
        with pytest.raises(RuntimeError, match="spike_linear"):
            backward(**good | wrong, x_wanted=True, weight_wanted=True, bias_wanted=True)


def test_bits_after_the_last_input_are_not_looked_at():
    """Nothing outside the tensors is read or written, whatever the bits are."""
    x, weight, _ = case(((6, 70), 20))
    _, bits, found = torch.ops.snnfast.spike_linear_forward(x, weight, None, 1)
    grad = uniform(6, 20, seed=4)
    arguments = (x.new_empty(0), weight, None, 1)
    want = torch.ops.snnfast.spike_linear_backward(
        *arguments, bits, found, grad, False, True, False
    )
    bits[:, 1] |= -1 << 6
    got = torch.ops.snnfast.spike_linear_backward(*arguments, bits, found, grad, False, True, False)
    assert_equal([got[1]], [want[1]])


# ---- the layer


def test_layer_is_a_linear_layer_of_another_name():
    torch.manual_seed(0)
    ours = sn.SpikeLinear(70, 20)
    torch.manual_seed(0)
    theirs = nn.Linear(70, 20)
    assert_equal(list(ours.parameters()), list(theirs.parameters()))
    assert isinstance(ours, nn.Linear)
    torch.nn.init.uniform_(theirs.weight)
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(copy.deepcopy(ours).state_dict())
    x, _, _ = case(((2, 6, 70), 20), torch.float32)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours(x.bool()), theirs(x))
    assert repr(ours) == "SpikeLinear(in_features=70, out_features=20, bias=True)"
    assert "method='events'" in repr(sn.SpikeLinear(3, 4, method="events"))
    assert sn.SpikeLinear(3, 4, bias=False, dtype=F64)(torch.zeros(3, dtype=F64)).dtype == F64


def test_layer_learns_as_a_linear_layer_does():
    torch.manual_seed(0)
    ours = nn.Sequential(sn.LIF(tau=2.0), sn.SpikeLinear(30, 20, dtype=F64), sn.LIF(tau=2.0))
    theirs = nn.Sequential(sn.LIF(tau=2.0), nn.Linear(30, 20, dtype=F64), sn.LIF(tau=2.0))
    theirs.load_state_dict(ours.state_dict())
    x = uniform(5, 8, 30, seed=1) * 3
    found = []
    for net in (ours, theirs):
        x_own = x.clone().requires_grad_()
        net(x_own).sum().backward()
        found.append([x_own.grad, *(p.grad for p in net.parameters())])
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-12)


def test_unknown_method_of_a_layer():
    with pytest.raises(ValueError, match="SpikeLinear: method must be auto or events or dense"):
        sn.SpikeLinear(3, 4, method="fast")
