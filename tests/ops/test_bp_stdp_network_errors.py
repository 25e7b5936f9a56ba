"""Errors of a network trained by BP-STDP, and safety of its kernels."""

import math

import pytest
import torch
from backends import PRESENT, force
from bp_stdp_network_cases import kernel_call, rates, sample
from cases import in_one_test
from samples import assert_equal

from snnfast import ops
from snnfast.reference.call import flatten


def changed(**changes):
    weights, x, labels, desired = sample((3, 2, (5, 4, 3)), torch.float32)
    return {"weights": weights, "x": x, "labels": labels, "desired": desired, "thresholds": [0.9, 0.9], **changes}


ALONE = {"labels": None, "desired": None}


@pytest.mark.parametrize("name", [n for n in (*PRESENT, "reference") if n != "cuda"])
@in_one_test(
    ("change", "error", "message"),
    [
        ({"weights": 1.0}, TypeError, "weights must be a sequence of tensors, got float"),
        ({"weights": []}, ValueError, "weights must hold 1 to 16 matrices, got 0"),
        ({"weights": [torch.zeros(5, 5)] * 17}, ValueError, "weights must hold 1 to 16 matrices, got 17"),
        ({"weights": [torch.zeros(4, 5), None]}, TypeError, "weights[1] must be a tensor, got NoneType"),
        (
            {"weights": [torch.zeros(4, 5), torch.zeros(3, 5)]},
            ValueError,
            "weights[1] must have shape [N, 4], got [3, 5]",
        ),
        (
            {"weights": [torch.zeros(4, 5), torch.zeros(3, 4).double()]},
            TypeError,
            "weights[1] must have the dtype of weights[0], torch.float32, got torch.float64",
        ),
        (
            {"weights": [torch.zeros(4, 5), torch.zeros(3, 4, device="meta")]},
            ValueError,
            "weights[1] must be on the device of weights[0], cpu, got meta",
        ),
        (
            {"weights": [torch.zeros(4, 5), torch.full((3, 4), math.nan)]},
            ValueError,
            "weights[1] must be finite, got NaN or infinity",
        ),
        ({"x": None}, TypeError, "x must be a tensor, got NoneType"),
        ({"x": rates(2, 4)}, ValueError, "x.hz must have shape [P, 5], got [2, 4]"),
        (
            {"x": ops.Rates(torch.full((2, 5), -1.0), 3, torch.zeros(2).long())},
            ValueError,
            "x.hz must lie in [0, 1000] Hz, got values from -1 to -1",
        ),
        ({"x": rates(2, 5), "dt": 0.0}, ValueError, "dt must be positive, got 0"),
        ({"x": rates(2, 5)}, ValueError, "desired must have shape [7, 2], got [3, 2]"),
        ({"x": torch.zeros(3, 2, 4)}, ValueError, "x must have shape [T, P, 5], got [3, 2, 4]"),
        (
            {"x": torch.zeros(3, 2, 5).int()},
            TypeError,
            "x must have one of the dtypes bool, uint8, float32, float64, bfloat16, float16, got torch.int32",
        ),
        ({"labels": None}, ValueError, "give labels and desired, or neither"),
        ({"labels": torch.tensor([0, 3])}, ValueError, "labels must lie in [0, 2], got values from 0 to 3"),
        ({"labels": torch.tensor([-1, 0])}, ValueError, "labels must lie in [0, 2], got values from -1 to 0"),
        ({"labels": torch.zeros(3).long()}, ValueError, "labels must have shape [2], got [3]"),
        ({"labels": torch.zeros(2)}, TypeError, "labels must have dtype torch.int64, got torch.float32"),
        ({"desired": torch.zeros(2, 2).bool()}, ValueError, "desired must have shape [3, 2], got [2, 2]"),
        ({"desired": torch.zeros(3, 2)}, TypeError, "desired must have dtype torch.bool, got torch.float32"),
        ({"thresholds": [1.0]}, ValueError, "thresholds must have one entry a layer, 2, got 1"),
        ({"thresholds": [1.0, 0.0]}, ValueError, "thresholds[1] must be positive, got 0"),
        ({"thresholds": [1e-46, 1e-46]}, ValueError, "thresholds[0] must lie within the range of float32, got 1e-46"),
        (
            {"x": rates(2, 5)._replace(num_steps=2**62)},
            ValueError,
            "a presentation must have fewer than 2**31 elements, got 4611686018427387904 steps of 5 inputs",
        ),
        ({"lr": -1.0}, ValueError, "lr must be at least 0, got -1"),
        ({"epsilon": 0}, ValueError, "epsilon must be at least 1, got 0"),
        ({"update": "epoch"}, ValueError, "update must be step or sequence, got 'epoch'"),
        ({"reduction": "max"}, ValueError, "reduction must be sum or mean, got 'max'"),
        ({"batch": 0}, ValueError, "batch must be at least 1, got 0"),
        ({"batch": 1.0}, TypeError, "batch must be an integer, got float"),
        ({"state": [torch.zeros(2, 4), torch.zeros(2, 3)]}, ValueError, "state must be None where the network learns"),
        ({**ALONE, "state": [torch.zeros(2, 4)]}, ValueError, "state must have one entry a layer, 2, got 1"),
        (
            {**ALONE, "state": [torch.zeros(2, 4), torch.zeros(2, 4)]},
            ValueError,
            "state[1] must have shape [2, 3], got [2, 4]",
        ),
    ],
)
def test_errors(name, change, error, message):
    arguments = changed(**change)
    weights = arguments["weights"] if isinstance(arguments["weights"], list) else []
    before = [w.clone() for w in weights if w is not None and not w.is_meta]
    with force(name), pytest.raises(error) as caught:
        ops.bp_stdp_network_(**arguments)
    assert str(caught.value) == f"bp_stdp_network_: {message}"
    assert_equal([w for w in weights if w is not None and not w.is_meta], before)


EVENTS = {"inputs": torch.zeros(1).int(), "offsets": torch.zeros(2, 4).long()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": []}, "weights must be those of 1 to 16 layers, got 0"),
        ({"weights": [torch.zeros(4, 5).half()] * 2}, "weights must be float32 or float64, got float16"),
        ({"weights": [torch.zeros(4, 5), torch.zeros(3, 5)]}, "weights must have shape [3, 4], got [3, 5]"),
        ({"weights": [torch.zeros(4, 5), torch.zeros(3, 4).double()]}, "weights must be float32, got float64"),
        (
            {"weights": [torch.zeros(4, 5), torch.zeros(4, 3).T]},  # whose strides move to a GPU
            "weights must be contiguous, got",
        ),
        ({"x": {"spikes": torch.zeros(2, 3, 6)}}, "spikes must have shape [2, 3, 5], got [2, 3, 6]"),
        ({"x": {"spikes": torch.zeros(2, 3, 5).half()}}, "uint8, float32 or float64, got float16"),
        ({"x": {"spikes": None}}, "x must be spikes, or inputs and offsets, or hz, seeds"),
        ({"x": {"spikes": None, **EVENTS}}, "x must be spikes or rates, got events"),
        ({"labels": None}, "labels and desired must be given together, got only desired"),
        ({"labels": torch.zeros(2)}, "labels must be int64, got float32"),
        ({"desired": torch.zeros(3, 3).bool()}, "desired must have shape [3, 2], got [3, 3]"),
        ({"thresholds": [1.0]}, "thresholds must have one entry for each of 2 layers, got 1"),
        ({"thresholds": [1.0, 0.0]}, "thresholds must be positive"),
        ({"thresholds": [1.0, 1e-46]}, "thresholds must be positive in the dtype of weights"),
        ({"thresholds": [1.0, math.nan]}, "thresholds must be positive"),
        ({"epsilon": 0}, "epsilon and batch must be at least 1, got "),
        ({"batch": 0}, "epsilon and batch must be at least 1, got "),
        ({"state": [torch.zeros(2, 4)]}, "one entry for each of 2 layers, got 1"),
        ({"state": [torch.zeros(2, 4), torch.zeros(2, 4)]}, "state must have shape [2, 3], got [2, 4]"),
    ],
)
def test_the_op_itself_is_safe(kernels, change, message):
    def moved(value):
        if isinstance(value, list):
            return [moved(v) for v in value]
        return value.to(kernels.device) if isinstance(value, torch.Tensor) else value

    call = kernel_call((3, 2, (5, 4, 3)), kernels.device)
    call = call._replace(weights=[w.float() for w in call.weights])
    for name, value in change.items():
        if name == "x":
            value = call.x._replace(**{field: moved(v) for field, v in value.items()})
        call = call._replace(**{name: moved(value)})
    with pytest.raises(RuntimeError, match="bp_stdp_network_: ") as caught:
        kernels.ops.bp_stdp_network_(*flatten(call))
    assert message in str(caught.value)


def test_the_op_itself_refuses_weights_that_share_memory(kernels):
    call = kernel_call((3, 2, (4, 4, 4)), kernels.device)
    w = torch.zeros(6, 4, dtype=torch.float64, device=kernels.device)
    for weights in ([w[:4], w[:4]], [w[:4], w[2:]]):
        with pytest.raises(RuntimeError, match="weights must not share memory"):
            kernels.ops.bp_stdp_network_(*flatten(call._replace(weights=weights)))


def test_labels_out_of_range_reach_nothing(kernels):
    call = kernel_call((3, 2, (5, 4, 3)), kernels.device)
    far = torch.tensor([2**62, -(2**62)], device=kernels.device)
    kernels.ops.bp_stdp_network_(*flatten(call._replace(labels=far)))
    assert all(w.isfinite().all() for w in call.weights)


@pytest.mark.parametrize("name", [n for n in (*PRESENT, "reference") if n != "cuda"])
def test_weights_may_not_share_memory(name):
    arguments = changed(x=torch.ones(3, 2, 4))
    w = torch.zeros(12, 4)
    wide = torch.zeros(4, 8)
    with force(name):
        for weights in ([w[:4], w[:4]], [w[:4], w[:4].t()], [w[:4], w[3:7]]):
            arguments["weights"] = weights
            with pytest.raises(ValueError, match="bp_stdp_network_: ") as caught:
                ops.bp_stdp_network_(**{**arguments, "labels": torch.tensor([0, 3])})
            assert str(caught.value) == (
                "bp_stdp_network_: weights[0] and weights[1] must not share memory: each learns for itself"
            )
        for weights in ([w[:4], w[4:8]], [wide[:, ::2], wide[:, 1::2]]):
            arguments["weights"] = weights
            ops.bp_stdp_network_(**arguments)
