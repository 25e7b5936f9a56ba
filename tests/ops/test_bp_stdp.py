"""BP-STDP of one pair of layers: worked by hand, equal on every backend, with errors that change nothing."""

import itertools
import math

import pytest
import torch
from backends import PRESENT, force
from cases import in_one_test
from samples import assert_equal

from snnfast import ops, reference
from snnfast.reference.call import flatten

OPTIONS = tuple(itertools.product(("step", "sequence"), ("sum", "mean"), (1, 4)))
# T, B, I, O: sizes around one register, eight registers, the slots that a cache holds, and 0.
SHAPES = (
    (0, 2, 3, 4),
    (3, 0, 3, 4),
    (3, 2, 0, 4),
    (3, 2, 3, 0),
    (1, 1, 1, 1),
    (9, 3, 21, 17),
    (20, 2, 150, 15),
    (7, 40, 8, 6),
)


def sample(shape, dtype=torch.float64, seed=0):
    """Return weights, spikes and errors, mostly zeros as in training."""
    num_steps, batch, n_pre, n_post = shape
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn((n_post, n_pre), generator=generator, dtype=dtype)
    pre = torch.rand((num_steps, batch, n_pre), generator=generator) < 0.2
    error = torch.randn((num_steps, batch, n_post), generator=generator, dtype=dtype)
    error[torch.rand(error.shape, generator=generator) < 0.6] = 0
    return w, pre, error


def row(values, device, dtype=torch.float64):
    """Return the spike train of one neuron, ``[T, 1, 1]``."""
    return torch.tensor(values, dtype=dtype, device=device)[:, None, None]


class TestWorkedByHand:
    def test_spikes_of_the_window_count(self, backend):
        w = torch.full((1, 1), 0.5, dtype=torch.float64, device=backend.device)
        # In step 4 with epsilon 2: spikes of the steps 2, 3, 4.
        pre, error = row([1, 1, 1, 0, 1], backend.device), row([0, 0, 0, 0, 1], backend.device)
        ops.bp_stdp_(w, pre, error, lr=0.1, epsilon=2)
        assert w.item() == pytest.approx(0.5 + 0.1 * 2, abs=1e-15)

    def test_a_negative_error_weakens(self, backend):
        w = torch.full((1, 1), 0.5, dtype=torch.float64, device=backend.device)
        pre, error = row([1, 0, 0], backend.device), row([0, -1, -1], backend.device)
        ops.bp_stdp_(w, pre, error, lr=0.1, epsilon=1)
        assert w.item() == pytest.approx(0.4, abs=1e-15)

    def test_errors_go_back_through_weights_to_those_that_fired(self, backend):
        w = torch.tensor([[1.0, 2.0], [3.0, -4.0]], dtype=torch.float64, device=backend.device)
        pre = torch.tensor([[[1, 0]], [[0, 0]], [[0, 1]]], device=backend.device).bool()
        error = torch.tensor([[[1.0, -1.0]]] * 3, dtype=torch.float64, device=backend.device)
        passed = ops.bp_stdp_(w, pre, error, lr=0.0, epsilon=1)
        assert passed.tolist() == [[[-2.0, 0.0]], [[-2.0, 0.0]], [[0.0, 6.0]]]

    def test_weights_change_in_the_step_or_at_the_end(self, backend):
        pre, error = row([1, 1], backend.device), row([1, 1], backend.device)
        for update, passed in (("step", [0.5, 0.6]), ("sequence", [0.5, 0.5])):
            w = torch.full((1, 1), 0.5, dtype=torch.float64, device=backend.device)
            result = ops.bp_stdp_(w, pre, error, lr=0.1, epsilon=1, update=update)
            assert result.flatten().tolist() == pytest.approx(passed, abs=1e-15)
            assert w.item() == pytest.approx(0.5 + 0.1 * (1 + 2), abs=1e-15)

    def test_batch_is_summed_or_averaged(self, backend):
        pre = torch.ones((1, 4, 1), device=backend.device)
        error = torch.ones((1, 4, 1), dtype=torch.float64, device=backend.device)
        for reduction, change in (("sum", 0.4), ("mean", 0.1)):
            w = torch.zeros((1, 1), dtype=torch.float64, device=backend.device)
            ops.bp_stdp_(w, pre, error, lr=0.1, reduction=reduction)
            assert w.item() == pytest.approx(change, abs=1e-15)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", SHAPES)
def test_same_as_the_reference(kernels, shape, dtype):
    tolerance = 0 if kernels.exact else 1e-5 if dtype == torch.float32 else 1e-12
    for update, reduction, epsilon in OPTIONS:
        w, pre, error = sample(shape, dtype)
        options = {"lr": 0.05, "epsilon": epsilon, "update": update, "reduction": reduction}
        expected = w.clone()
        passed = reference.bp_stdp_(expected, pre, error, **options)
        actual = w.clone().to(kernels.device)
        result = ops.bp_stdp_(actual, pre.to(kernels.device), error.to(kernels.device), **options)
        torch.testing.assert_close(actual.cpu(), expected, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(result.cpu(), passed, rtol=tolerance, atol=tolerance)
        assert min(shape) == 0 or shape[0] == 1 or not torch.equal(expected, w)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_what_is_not_zero_is_a_spike(kernels, dtype):
    w, pre, error = (x.to(kernels.device) for x in sample((9, 3, 21, 17)))
    expected = w.clone()
    ops.bp_stdp_(expected, pre, error)
    spikes = 3 * pre.to(dtype)
    if dtype.is_floating_point:
        spikes[spikes == 0] = -0.0
    ops.bp_stdp_(w, spikes, error)
    assert_equal(w, expected)


def test_any_strides(kernels):
    w, pre, error = (x.to(kernels.device) for x in sample((9, 3, 21, 17)))
    expected = w.clone()
    passed = ops.bp_stdp_(expected, pre, error)
    transposed = w.t().clone().t()
    wide = pre.repeat_interleave(2, 2)[:, :, ::2]
    result = ops.bp_stdp_(transposed, wide, error.transpose(0, 1).clone().transpose(0, 1))
    assert_equal(transposed, expected)
    assert_equal(result, passed)


def test_no_weights_of_any_strides(kernels):
    _, pre, error = (x.to(kernels.device) for x in sample((3, 2, 5, 0)))
    w = pre.new_zeros(9, dtype=error.dtype).as_strided((0, 5), (1, 7))
    assert_equal(ops.bp_stdp_(w, pre, error), torch.zeros_like(pre, dtype=w.dtype))


def test_no_error_is_asked_for(kernels):
    w, pre, error = (x.to(kernels.device) for x in sample((9, 3, 21, 17)))
    expected = w.clone()
    ops.bp_stdp_(expected, pre, error)
    assert ops.bp_stdp_(w, pre, error, return_error=False) is None
    assert_equal(w, expected)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_number_of_threads_does_not_matter(threads):
    w, pre, error = sample((20, 6, 300, 70), torch.float32)
    expected = w.clone()
    passed = reference.bp_stdp_(expected, pre, error)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        result = ops.bp_stdp_(w, pre, error)
    finally:
        torch.set_num_threads(before)
    assert_equal(w, expected)
    assert_equal(result, passed)


@pytest.mark.parametrize("name", [n for n in (*PRESENT, "reference") if n != "cuda"])
@in_one_test(
    ("change", "error", "message"),
    [
        ({"w": [1.0]}, TypeError, "w must be a tensor, got list"),
        ({"w": torch.zeros(4, 5).half()}, TypeError, "w must have dtype float32 or float64, got torch.float16"),
        ({"w": torch.zeros(5)}, ValueError, "w must have shape [N_post, N_pre], got [5]"),
        ({"w": torch.zeros(1, 5).expand(4, 5)}, ValueError, "w must not overlap itself, got strides [0, 1]"),
        ({"w": torch.full((4, 5), math.nan)}, ValueError, "w must be finite, got NaN or infinity"),
        ({"pre": None}, TypeError, "pre must be a tensor, got NoneType"),
        (
            {"pre": torch.zeros(3, 2, 5, dtype=torch.int64)},
            TypeError,
            "pre must have one of the dtypes bool, uint8, float32, float64, bfloat16, float16, got torch.int64",
        ),
        ({"pre": torch.zeros(3, 2, 4)}, ValueError, "pre must have shape [T, B, 5], got [3, 2, 4]"),
        ({"pre": torch.zeros(3, 2, 5, device="meta")}, ValueError, "pre must be on the device of w, cpu, got meta"),
        ({"error": torch.zeros(3, 1, 4)}, ValueError, "error must have shape [3, 2, 4], got [3, 1, 4]"),
        ({"error": torch.zeros(3, 2, 4).double()}, TypeError, "error must have dtype torch.float32, got torch.float64"),
        ({"error": torch.full((3, 2, 4), math.inf)}, ValueError, "error must be finite, got NaN or infinity"),
        ({"lr": -1.0}, ValueError, "lr must be at least 0, got -1"),
        ({"lr": math.nan}, ValueError, "lr must be finite, got nan"),
        ({"epsilon": 0}, ValueError, "epsilon must be at least 1, got 0"),
        ({"epsilon": 4.0}, TypeError, "epsilon must be an integer, got float"),
        ({"update": "epoch"}, ValueError, "update must be step or sequence, got 'epoch'"),
        ({"reduction": "max"}, ValueError, "reduction must be sum or mean, got 'max'"),
    ],
)
def test_errors(name, change, error, message):
    w, pre, errors = sample((3, 2, 5, 4), torch.float32)
    arguments = {"w": w, "pre": pre, "error": errors, **change}
    weights = arguments["w"]
    before = weights.clone() if isinstance(weights, torch.Tensor) else None
    with force(name), pytest.raises(error) as caught:
        ops.bp_stdp_(**arguments)
    assert str(caught.value) == f"bp_stdp_: {message}"
    if before is not None:
        assert_equal(weights, before)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("w", torch.zeros(4, 5).half(), "w must be float32 or float64, got float16"),
        ("w", torch.zeros(5, 4).double().T, "w must have contiguous rows, got strides [1, 4]"),
        ("w", torch.zeros(4, 6).double()[:, :5], "w must be contiguous, got strides [6, 1] for shape [4, 5]"),
        ("pre", torch.zeros(3, 2, 6), "pre must have shape [3, 2, 5], got [3, 2, 6]"),
        ("pre", torch.zeros(3, 10), "pre must have shape [T, B, I], got [3, 10]"),
        ("pre", torch.zeros(3, 2, 5).half(), "uint8, float32 or float64, got float16"),
        ("pre", torch.zeros(3, 2, 1).expand(3, 2, 5), "pre must be contiguous, got"),
        ("error", torch.zeros(3, 1, 4).double(), "error must have shape [3, 2, 4], got [3, 1, 4]"),
        ("error", torch.zeros(3, 2, 4), "error must be float64, got float32"),
        ("error", torch.zeros(3, 2, 1).double().expand(3, 2, 4), "error must be contiguous, got"),
        ("epsilon", 0, "epsilon must be at least 1 step, got 0"),
    ],
)
def test_the_op_itself_is_safe(kernels, field, value, message):
    call = ops.bp_stdp_.check(*(x.to(kernels.device) for x in sample((3, 2, 5, 4))))
    if isinstance(value, torch.Tensor):  # a copy on a GPU would be contiguous
        options = {"dtype": value.dtype, "device": kernels.device}
        value = torch.empty_strided(value.shape, value.stride(), **options)
    with pytest.raises(RuntimeError, match="bp_stdp_: ") as caught:
        kernels.ops.bp_stdp_(*flatten(call._replace(**{field: value})))
    assert message in str(caught.value)


@pytest.mark.parametrize("update", ["step", "sequence"])
def test_more_steps_and_samples_than_are_added_at_a_time(kernels, update):
    tensors = sample((9, 150, 21, 17))
    expected, pre, error = (x.clone() for x in tensors)
    passed = reference.bp_stdp_(expected, pre, error, update=update)
    w, pre, error = (x.to(kernels.device) for x in tensors)
    assert_equal(ops.bp_stdp_(w, pre, error, update=update).cpu(), passed)
    assert_equal(w.cpu(), expected)


def test_an_endless_window_forgets_nothing(backend):
    w, pre, error = (x.to(backend.device) for x in sample((9, 3, 21, 17)))
    expected = w.clone()
    passed = ops.bp_stdp_(expected, pre, error, epsilon=9)
    assert_equal(ops.bp_stdp_(w, pre, error, epsilon=2**63 - 1), passed)
    assert_equal(w, expected)


def test_raises_the_version_of_the_weights(backend):
    w, pre, error = (x.to(backend.device) for x in sample((3, 2, 5, 4)))
    for weights in (w, w.t().clone().t()):
        before = weights._version
        ops.bp_stdp_(weights, pre, error)
        assert weights._version > before
