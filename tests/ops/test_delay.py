"""Delays of a real number of steps: outputs, gradients, and a sequence in parts."""

import math

import pytest
import torch
from backends import PRESENT
from cases import check_each, in_one_test
from samples import assert_equal

from snnfast import ops, reference

SHAPES = ((0, 3), (4, 0), (6,), (1, 1), (17, 5), (9, 2, 70), (60, 3, 47), (3, 2, 4, 20))
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
SIGMAS = (0.0, 0.5, 3.2)


def sequence(*shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def delays(x, longest=None, seed=1):
    """Return a delay for each neuron: whole, fractional, 0, longer than the sequence or nearly as long."""
    longest = max(12.0, 0.9 * len(x)) if longest is None else longest
    generator = torch.Generator().manual_seed(seed)
    d = torch.rand(x.shape[1:], generator=generator, dtype=torch.float64) * longest
    d = torch.where(torch.rand(d.shape, generator=generator) < 0.3, d.round(), d)
    return d.to(torch.float64 if x.dtype == torch.float64 else torch.float32)


def on(device, *tensors):
    return [t.to(device) if isinstance(t, torch.Tensor) else t for t in tensors]


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equals_the_reference(kernels, dtype, sigma):
    def check(shape):
        x = sequence(*shape, dtype=dtype)
        for d in (0.0, 2, 1.75, 50.0, delays(x)):
            for past in (None, sequence(5, *shape[1:], dtype=dtype, seed=2)):
                want = reference.delay(x, d, past, sigma=sigma)
                got = ops.delay(*on(kernels.device, x, d, past), sigma=sigma)
                assert_equal([got.cpu()], [want])

    check_each(SHAPES, check)


def gradients(op, x, d, past, sigma, grad):
    leaves = [t.clone().requires_grad_() for t in (x, d, past)]
    return torch.autograd.grad(op(*leaves, sigma=sigma), leaves, grad)


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize(
    ("dtype", "bound"),
    [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2), (torch.float16, 3e-3)],
    ids=str,
)
def test_gradients_equal_the_reference(kernels, dtype, bound, sigma):
    def check(shape):
        x, past, grad = (sequence(n, *shape[1:], dtype=dtype, seed=n) for n in (shape[0], 4, shape[0]))
        d = delays(x)
        want = gradients(reference.delay, x, d, past, sigma, grad)
        got = gradients(ops.delay, *on(kernels.device, x, d, past), sigma, grad.to(kernels.device))
        for g, w in zip(got, want, strict=True):
            assert g.dtype == w.dtype
            scale = w.abs().max().item() if w.numel() else 0.0
            torch.testing.assert_close(g.cpu(), w, rtol=0, atol=bound * scale)

    check_each(SHAPES, check)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_gradients_equal_finite_differences(backend, sigma):
    x, past = sequence(9, 2, 3).to(backend.device), sequence(6, 2, 3, seed=2).to(backend.device)
    d = torch.tensor([0.3, 2.6, 7.45], dtype=torch.float64, device=backend.device)
    inputs = tuple(t.requires_grad_() for t in (x, d, past))
    assert torch.autograd.gradcheck(lambda *a: ops.delay(*a, sigma=sigma), inputs)


def test_by_hand(backend):
    x = torch.tensor([1.0, 2.0, 4.0, 8.0], device=backend.device, requires_grad=True)
    d = torch.tensor(1.25, device=backend.device, requires_grad=True)
    y = ops.delay(x, d)
    # 3/4 of the step before, 1/4 of the one before that
    assert y.tolist() == [0, 0.75, 1.75, 3.5]
    y.backward(torch.tensor([1.0, 10.0, 100.0, 1000.0], device=backend.device))
    assert x.grad.tolist() == [0.75 * 10 + 0.25 * 100, 0.75 * 100 + 0.25 * 1000, 750, 0]
    # dy/dd = x[t-2] - x[t-1]
    assert d.grad.item() == 10 * (0 - 1) + 100 * (1 - 2) + 1000 * (2 - 4)


def test_by_hand_with_past_and_a_triangle(backend):
    x = torch.tensor([16.0, 32.0], device=backend.device)
    past = torch.tensor([1.0, 2.0, 4.0, 8.0], device=backend.device)
    # sigma 1: weights 1/4, 2/4, 1/4 of 1, 2 and 3 steps back
    y = ops.delay(x, 2.0, past, sigma=1.0)
    assert y.tolist() == [(2 + 2 * 4 + 8) / 4, (4 + 2 * 8 + 16) / 4]
    # without past, two of the three steps back are before the first
    assert ops.delay(x, 2.0, sigma=1.0).tolist() == [0, 4]


@pytest.mark.parametrize("d", [0.0, 3.0])
def test_gradient_of_a_whole_delay_is_that_to_the_right(backend, d):
    x = sequence(12, 5).to(backend.device)
    delay = torch.full((5,), d, dtype=torch.float64, device=backend.device, requires_grad=True)
    ops.delay(x, delay).sum().backward()
    step = 2.0**-20
    want = (ops.delay(x, d + step) - ops.delay(x, d)).sum(0) / step
    torch.testing.assert_close(delay.grad, want, rtol=1e-8, atol=1e-8)


def test_delays_out_of_range(backend):
    x = sequence(6, 5, dtype=torch.float32).to(backend.device).requires_grad_()
    d = torch.tensor([-2.0, math.inf, -math.inf, math.nan, 100.0], device=backend.device)
    d.requires_grad_()
    y = ops.delay(x, d)
    y.nansum().backward()
    torch.testing.assert_close(y[:, [0, 2]], x[:, [0, 2]], rtol=0, atol=0)
    assert not y[:, [1, 4]].any()
    assert y[:, 3].isnan().all()
    assert d.grad[[0, 1, 2, 4]].tolist() == [0, 0, 0, 0]
    assert not x.grad[:, [1, 4]].any()
    (slope,) = torch.autograd.grad(ops.delay(x.detach(), d), d, x.detach().flip(0))
    assert slope.tolist() == [0] * 5


@pytest.mark.parametrize("sigma", [1e-9, 7.5, 1e6, 1e38])
def test_any_width(kernels, sigma):
    x = sequence(6, 70)
    d, past = delays(x), sequence(3, 70, seed=2)
    got = ops.delay(*on(kernels.device, x, d, past), sigma=sigma)
    assert_equal([got.cpu()], [reference.delay(x, d, past, sigma=sigma)])


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_sequence_in_parts_gives_the_bits_of_the_whole(backend, dtype, sigma):
    def check(chunk):
        x = sequence(20, 3, 40, dtype=dtype)
        d = delays(x, 6.0)
        x, d = on(backend.device, x, d)
        want = ops.delay(x, d, sigma=sigma)
        known, got = x[:0], []
        for part in x.split(chunk):
            got.append(ops.delay(part, d, known[-11:], sigma=sigma))
            known = torch.cat([known, part])
        assert_equal([torch.cat(got)], [want])

    check_each([1, 2, 7, 20], check)


def test_the_past_of_a_part_carries_its_gradient(backend):
    x, d = sequence(12, 9), delays(sequence(12, 9), 4.0)
    grad = sequence(12, 9, seed=4)
    x, d, grad = on(backend.device, x, d, grad)
    want = gradients(ops.delay, x, d, x[:0], 0.0, grad)
    leaves = [t.clone().requires_grad_() for t in (x, d)]
    y = [ops.delay(leaves[0][:7], leaves[1]), ops.delay(leaves[0][7:], leaves[1], leaves[0][:7])]
    got = torch.autograd.grad(torch.cat(y), leaves, grad)
    torch.testing.assert_close(got, want[:2], rtol=0, atol=1e-12 * grad.abs().max().item() * 12)


@pytest.mark.parametrize("shape", [(), (7,), (3, 1), (5, 3, 7), (5, 1, 7), (1, 1, 1)], ids=str)
def test_a_delay_each(backend, shape):
    x = sequence(20, 5, 3, 7)
    d = torch.rand(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 5
    want_x, want_d, _ = gradients(reference.delay, x, d, x[:0], 0.0, x)
    got_x, got_d, _ = gradients(ops.delay, *on(backend.device, x, d, x[:0]), 0.0, x.to(backend.device))
    assert got_d.shape == shape
    torch.testing.assert_close(got_x.cpu(), want_x, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got_d.cpu(), want_d, rtol=1e-12, atol=1e-10)


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
    x = sequence(6, 2, 3, 4, 5)
    d = torch.rand(3, 1, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 4
    x, d, past, grad = on(backend.device, x, d, x[:3].clone(), x.flip(0))
    want = gradients(ops.delay, x, d, past, 0.0, grad)
    leaves = [t.requires_grad_() for t in (layout(x), d.clone(), layout(past))]
    y = ops.delay(*leaves)
    assert_equal([y], [ops.delay(x, d, past)])
    got = torch.autograd.grad(y, leaves, layout(grad))
    torch.testing.assert_close(got, want, rtol=1e-13, atol=1e-12)


def test_an_input_expanded_over_time(backend):
    x = sequence(1, 3, 50).to(backend.device)
    d = delays(x).to(backend.device)
    assert_equal([ops.delay(x.expand(30, 3, 50), d)], [ops.delay(x.repeat(30, 1, 1), d)])


def test_only_the_gradients_that_are_asked_for(backend):
    x, past = sequence(6, 4).to(backend.device), sequence(3, 4, seed=1).to(backend.device)
    d = torch.full((4,), 1.5, dtype=torch.float64, device=backend.device)
    want = gradients(ops.delay, x, d, past, 0.0, x)
    for k in range(3):
        leaves = [x.clone(), d.clone(), past.clone()]
        leaves[k].requires_grad_()
        ops.delay(*leaves).backward(x)
        torch.testing.assert_close(leaves[k].grad, want[k], rtol=0, atol=0)
        assert [t.grad is None for t in leaves].count(True) == 2
    assert not ops.delay(x, d, past).requires_grad


def test_threads_and_other_devices_change_no_bit(threads):
    x = sequence(50, 3000, dtype=torch.float32)
    d = delays(x)
    outputs = {}
    for count in (1, 2, 3):
        threads(count)
        outputs[count] = [ops.delay(x, d), *gradients(ops.delay, x, d, x[:2], 0.0, x)]
    assert_equal(outputs[2], outputs[1])
    assert_equal(outputs[3], outputs[1])


@pytest.mark.skipif("cuda_emulation" not in PRESENT, reason="no emulated CUDA")
def test_emulated_cuda_gives_the_bits_of_the_cpu():
    from backends import force

    x = sequence(21, 150, dtype=torch.float32)
    d, past = delays(x), sequence(5, 150, dtype=torch.float32, seed=3)
    found = {}
    for name in ("cpu", "cuda_emulation"):
        with force(name):
            found[name] = [ops.delay(x, d, past), *gradients(ops.delay, x, d, past, 1.5, x)]
    assert_equal(found["cuda_emulation"], found["cpu"])


@pytest.mark.parametrize("neurons", [15_001, 32_000])
def test_outputs_beyond_the_caches_are_written_whole(kernels, neurons):
    """The CPU stores outputs from 4 MiB on in another way, and whole lines from 8 MiB on in a third one."""
    x = sequence(70, 32_000, dtype=torch.float32)[:, :neurons]
    d = torch.tensor(2.5)
    want = x.new_zeros(x.shape)
    want[2:] += 0.5 * x[:-2]
    want[3:] += 0.5 * x[:-3]
    torch.testing.assert_close(ops.delay(*on(kernels.device, x, d)).cpu(), want, rtol=1e-6, atol=1e-6)


def raw(name):
    return torch.ops.snnfast_emulated if name == "cuda_emulation" else torch.ops.snnfast


X = torch.zeros(4, 2, 3)
WRONG = (
    ({"x": [1.0]}, TypeError, r"delay: x must be a tensor, got list"),
    ({"x": torch.zeros(3, dtype=torch.int64)}, TypeError, r"delay: x must have one of the dtypes"),
    ({"x": torch.tensor(1.0)}, ValueError, r"delay: x must have shape \[T, ...\]"),
    ({"d": -0.5}, ValueError, r"delay: d must be at least 0, got -0.5"),
    ({"d": "1"}, TypeError, r"delay: d must be a number, got str"),
    ({"d": math.nan}, ValueError, r"delay: d must be finite, got nan"),
    ({"d": torch.ones(4)}, ValueError, r"d must be a number or broadcast to x.shape\[1:\] = \[2, 3\]"),
    ({"d": torch.ones(3).double()}, TypeError, r"delay: d must have dtype torch.float32"),
    ({"past": 0.0}, TypeError, r"delay: past must be a tensor, got float"),
    ({"past": torch.zeros(5, 3)}, ValueError, r"past must have shape \[P, 2, 3\], got \[5, 3\]"),
    ({"past": torch.tensor(0.0)}, ValueError, r"past must have shape \[P, 2, 3\], got \[\]"),
    ({"past": X.double()}, TypeError, r"past must have the dtype of x, torch.float32, got torch.float64"),
    ({"sigma": -1.0}, ValueError, r"delay: sigma must be at least 0, got -1"),
    ({"sigma": torch.ones(1)}, TypeError, r"delay: sigma must be a number, got Tensor"),
)


@in_one_test(("arguments", "error", "message"), WRONG)
def test_errors(backend, arguments, error, message):
    inputs = {"x": X, "d": 1.0, **arguments}
    moved = dict(zip(inputs, on(backend.device, *inputs.values()), strict=True))
    with pytest.raises(error, match=message):
        ops.delay(**moved)


@pytest.mark.parametrize("name", [n for n in PRESENT if n != "cuda"])
def test_raw_calls_with_wrong_tensors_are_refused(name):
    forward, backward = raw(name).delay_forward, raw(name).delay_backward
    nan = math.nan
    for arguments in (
        (X.int(), 1.0, None, None, 0.0),
        (torch.tensor(1.0), 1.0, None, None, 0.0),
        (X, 1.0, torch.ones(2, 2), None, 0.0),
        (X, 1.0, torch.ones(3).double(), None, 0.0),
        (X, 1.0, None, torch.zeros(7), 0.0),
        (X, 1.0, None, torch.tensor(0.0), 0.0),
        (X, 1.0, None, X.double(), 0.0),
        (X, 1.0, None, None, -1.0),
        (X, 1.0, None, None, nan),
    ):
        with pytest.raises(RuntimeError, match="delay"):
            forward(*arguments)
    for arguments in (
        (X, 1.0, None, None, 0.0, X[:3], True, False, False),
        (X, 1.0, None, None, 0.0, X.double(), True, False, False),
        (X, 1.0, None, None, 0.0, X, True, False, True),
    ):
        with pytest.raises(RuntimeError, match="delay"):
            backward(*arguments)


@pytest.mark.parametrize("name", [n for n in PRESENT if n != "cuda"])
def test_raw_calls_with_any_delay_stay_in_their_tensors(name):
    """Delays that the public op would refuse."""
    for d in (-5.0, -1e300, 1e300, math.inf, math.nan):
        for sigma in (0.0, 2.5, 1e300, math.inf):
            y = raw(name).delay_forward(X, d, None, X, sigma)
            raw(name).delay_backward(X, d, None, X, sigma, y, True, True, True)
