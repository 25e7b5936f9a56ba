"""Errors of ``spike_linear`` and its kernels."""

import pytest
import torch
from backends import force
from samples import assert_equal
from spike_linear_cases import case, needs_kernels, uniform

from snnfast import ops

pytestmark = needs_kernels

X, W = torch.zeros(3, 4), torch.zeros(2, 4)
WRONG = (
    ({"x": [1.0]}, TypeError, r"spike_linear: x must be a tensor, got list"),
    ({"x": X.to_sparse()}, TypeError, r"x must be a dense tensor"),
    ({"weight": 1.0}, TypeError, r"weight must be a tensor, got float"),
    ({"weight": W.int()}, TypeError, r"weight must have one of the dtypes"),
    ({"weight": W[0]}, ValueError, r"weight must have shape \[out, in\], got \[4\]"),
    ({"x": X.double()}, TypeError, r"x must have the dtype of weight, torch.float32, or torch.bool"),
    ({"x": X.int()}, TypeError, r"x must have the dtype of weight"),
    ({"x": X[0, 0]}, ValueError, r"x must have shape \[..., 4\]"),
    ({"x": X[:, :3]}, ValueError, r"x must have shape \[..., 4\] for a weight .* got \[3, 3\]"),
    ({"bias": 0.0}, TypeError, r"bias must be a tensor, got float"),
    ({"bias": torch.zeros(3)}, ValueError, r"bias must have shape \[2\], got \[3\]"),
    ({"bias": torch.zeros(2).double()}, TypeError, r"bias must have the dtype of weight"),
    ({"bias": torch.zeros(2, device="meta")}, ValueError, r"bias must be on the device of weight, cpu"),
    ({"weight": W.to("meta")}, ValueError, r"weight must be on the device of x, cpu, got meta"),
    ({"method": "sparse"}, ValueError, r"method must be auto or events or dense, got 'sparse'"),
)


@pytest.mark.parametrize(("arguments", "error", "message"), WRONG, ids=[w[2] for w in WRONG])
def test_errors(arguments, error, message):
    for name in ("cpu", "reference"):
        with force(name), pytest.raises(error, match=message):
            ops.spike_linear(**{"x": X, "weight": W, **arguments})


def test_raw_calls_with_wrong_tensors_are_refused():
    forward, backward = (torch.ops.snnfast.spike_linear_forward, torch.ops.snnfast.spike_linear_backward)
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
    good = {"x": X, "weight": W, "bias": None, "method": 1, "bits": bits, "found": found, "grad_y": y}
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
    """For any bits nothing outside the tensors is read or written."""
    x, weight, _ = case(((6, 70), 20))
    _, bits, found = torch.ops.snnfast.spike_linear_forward(x, weight, None, 1)
    grad = uniform(6, 20, seed=4)
    arguments = (x.new_empty(0), weight, None, 1)
    want = torch.ops.snnfast.spike_linear_backward(*arguments, bits, found, grad, False, True, False)
    bits[:, 1] |= -1 << 6
    got = torch.ops.snnfast.spike_linear_backward(*arguments, bits, found, grad, False, True, False)
    assert_equal([got[1]], [want[1]])
