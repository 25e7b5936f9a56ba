"""Errors of ``recurrent`` and its kernels."""

import pytest
import torch
from recurrent_cases import needs_kernels

from snnfast import ops
from snnfast.reference.call import flatten

X, W = torch.zeros(4, 2, 3), torch.zeros(3, 3)
MISTAKES = {
    "x has no neurons": ((torch.zeros(4), W), {}, ValueError, r"x must have shape \[T, ..., H\]"),
    "weight is no tensor": ((X, 3.0), {}, TypeError, "weight must be a tensor, got float"),
    "weight is not square": ((X, torch.zeros(3, 2)), {}, ValueError, r"weight must have shape \[3, 3\], got \[3, 2\]"),
    "weight is wide": (
        (X, W.double()),
        {},
        TypeError,
        "weight must have dtype torch.float32 for x of dtype torch.float32, got torch.float64",
    ),
    "past lacks time": ((X, W, X[0]), {}, ValueError, r"past must have shape \[P, 2, 3\], got \[2, 3\]"),
    "past is of another dtype": (
        (X, W, X.bool()),
        {},
        TypeError,
        "past must have the dtype of x, torch.float32, got torch.bool",
    ),
    "delay for each synapse": ((X, W), {"delay": W}, ValueError, r"delay must have shape \[3\], got \[3, 3\]"),
    "no such neuron": ((X, W), {"neuron": "no such"}, ValueError, "neuron must be one of .*lif"),
    "no name of a neuron": ((X, W), {"neuron": 3}, ValueError, "neuron must be one of .*lif"),
    "a readout": ((X, W), {"neuron": "li"}, ValueError, "neuron must be one of .*, got 'li'"),
    "unknown argument": ((X, W), {"no_such": 3}, TypeError, "no_such"),
    "wrong state": ((X, W), {"v": X}, ValueError, r"v must have shape x.shape\[1:\] = \[2, 3\]"),
}


@pytest.mark.parametrize("label", MISTAKES)
def test_errors_name_the_argument(backend, label):
    args, kwargs, error, message = MISTAKES[label]
    with pytest.raises(error, match=message):
        ops.recurrent(*args, **kwargs)


def raw(changes, backward=False):
    call = ops.recurrent.check(X, W, past=X, delay=torch.zeros(3))
    if not backward:
        flat = flatten(call._replace(**changes))
        return torch.ops.snnfast.recurrent_lif_forward(*flat, 0)
    saved = {"spikes": X, "checkpoints": torch.zeros(0, 1, 2, 3), "every": 8} | changes
    more = (saved["spikes"], saved["checkpoints"], saved["every"], True, X, None, None)
    return torch.ops.snnfast.recurrent_lif_backward(*flatten(call), *more)


@needs_kernels
@pytest.mark.parametrize(
    ("changes", "backward"),
    [
        ({"x": torch.zeros(4)}, False),
        ({"weight": torch.zeros(3, 2)}, False),
        ({"weight": W.double()}, False),
        ({"past": X[:, 0]}, False),
        ({"past": X.double()}, False),
        ({"past": torch.zeros(())}, False),
        ({"delay": torch.zeros(2)}, False),
        ({"delay": torch.zeros(3).half()}, False),
        ({"fires": False}, False),
        ({"spikes": X[:2]}, True),
        ({"spikes": X.double()}, True),
        ({"checkpoints": torch.zeros(1, 1, 2, 3)}, True),
        ({"every": 0}, True),
    ],
    ids=str,
)
def test_raw_calls_with_wrong_tensors_are_refused(changes, backward):
    with pytest.raises(RuntimeError, match="recurrent_lif: "):
        raw(changes, backward)
    raw({}, backward)
