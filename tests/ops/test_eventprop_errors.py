"""Errors and warnings of ``eventprop``."""

import math
import warnings

import pytest
import torch
from cases import in_one_test
from eventprop_cases import CASES, F64, case, forward_arguments, on

from snnfast import ops


def good():
    return {
        "t_in": torch.tensor([[[0.0, 2.0], [1.0, math.inf], [3.0, 2.0]]]),
        "w": torch.full((4, 3), 5.0),
        **{"tau_mem": 4.0, "tau_syn": 2.0, "t_max": 9.0},
    }


@in_one_test(
    ("change", "error", "message"),
    [
        ({"t_in": [[1.0]]}, TypeError, "t_in must be a tensor, got list"),
        ({"w": 3.0}, TypeError, "w must be a tensor, got float"),
        ({"t_in": torch.ones(3)}, ValueError, "t_in must have shape [B, I, S] or [B, I], got [3]"),
        ({"w": torch.ones(4)}, ValueError, "w must have shape [N, I], got [4]"),
        ({"w": torch.ones(4, 2)}, ValueError, "w must have shape [N, I] with I = 3 as in t_in, got [4, 2]"),
        ({"w": torch.ones(4, 3, dtype=F64)}, TypeError, "w must have the dtype of t_in, torch.float32, got"),
        ({"t_in": torch.ones(1, 3, 2).half()}, TypeError, "t_in must have one of the dtypes float32, float64, got"),
        ({"w_rec": torch.ones(3, 4)}, ValueError, "w_rec must have shape [4, 4], got [3, 4]"),
        ({"delays_rec": torch.ones(4)}, ValueError, "delays_rec must come with w_rec, got w_rec None"),
        ({"delays": torch.ones(4)}, ValueError, "delays must have shape [3] or [4, 3], got [4]"),
        ({"delays": torch.tensor([0.0, -1.0, 0.0])}, ValueError, "delays must be finite and at least 0, got values"),
        (
            {"w_rec": torch.ones(4, 4), "delays_rec": torch.full((4,), math.inf)},
            ValueError,
            "delays_rec must be finite and at least 0, got values from inf to inf",
        ),
        (
            {"t_in": torch.tensor([[[0.0], [-1.0], [math.inf]]])},
            ValueError,
            "t_in must hold times that are at least 0 and not NaN, inf for no spike, got values from -1 to inf",
        ),
        ({"t_max": 2.5}, ValueError, "t_max must not lie before the last input spike, got t_max 2.5 and a spike at 3"),
        ({"tau_mem": 0.0}, ValueError, "tau_mem must be positive, got 0"),
        ({"tau_syn": math.nan}, ValueError, "tau_syn must be finite, got nan"),
        ({"v_threshold": -1}, ValueError, "v_threshold must be positive, got -1"),
        ({"slope_min": 0}, ValueError, "slope_min must be positive, got 0"),
        ({"max_spikes": 0}, ValueError, "max_spikes must be at least 1, got 0"),
        ({"max_spikes": 2**30}, ValueError, "max_spikes must be below 2**30, got 1073741824"),
        ({"max_spikes": 2.0}, TypeError, "max_spikes must be an integer, got float"),
        ({"stops": None}, TypeError, "stops must be True or False, got None"),
        ({"return_u_max": 1}, TypeError, "return_u_max must be True or False, got 1"),
    ],
)
def test_bad_arguments(backend, change, error, message):
    a = {k: v.to(backend.device) if isinstance(v, torch.Tensor) else v for k, v in {**good(), **change}.items()}
    with pytest.raises(error) as raised:
        ops.eventprop(**a)
    assert str(raised.value).startswith(f"eventprop: {message}")


@pytest.mark.parametrize("recurrent", [False, True])
def test_more_spikes_than_have_room(backend, recurrent):
    a = {k: v.to(backend.device) if isinstance(v, torch.Tensor) else v for k, v in good().items()}
    a["w"] = torch.cat((0.4 * a["w"], 100 * a["w"][:1]))
    a["w_rec"] = a["w"].new_zeros(5, 5) if recurrent else None
    with pytest.raises(ValueError, match=r"^eventprop: max_spikes must be at least the number of spikes of each neur"):
        ops.eventprop(**a, max_spikes=5)
    a["w"].requires_grad_()
    t, u_max = ops.eventprop(**a, max_spikes=5, validate=False, return_u_max=True)
    assert t[0, 4].isnan().all()
    assert t[0, :4].isnan().all() if recurrent else not t[0, :4].isnan().any()
    torch.testing.assert_close(u_max.isnan(), t[..., 0].isnan())
    (t.sum() + u_max.sum()).backward()
    of_full = a["w"].grad if recurrent else a["w"].grad[4]
    torch.testing.assert_close(of_full, torch.zeros_like(of_full))


def test_silence_is_told_while_only_spikes_can_give_a_gradient(backend):
    a = {k: v.to(backend.device) if isinstance(v, torch.Tensor) else v for k, v in good().items()}
    a["w"] = (0.01 * a["w"]).requires_grad_()
    with pytest.warns(UserWarning, match=r"^eventprop: all outputs are silent: no neuron of w \[4, 3\] reached"):
        ops.eventprop(**a)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ops.eventprop(**a, return_u_max=True)
        ops.eventprop(**a, v_threshold=None)
        with torch.no_grad():
            ops.eventprop(**a)
    with pytest.raises(ValueError, match=r"^eventprop: w must be finite"):
        ops.eventprop(**a | {"w": a["w"] * math.nan})


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, torch.ones(3, 7), "arrivals must have shape [B, I, S] or [B, N, I, S], got [3, 7]"),
        (0, torch.ones(4, 6, 3, dtype=F64), "arrivals must have shape [4, 7, 3], got [4, 6, 3]"),
        (1, torch.ones(6, 7, 1, dtype=F64), "w must have shape [N, I], got [6, 7, 1]"),
        (2, torch.ones(5, 5, dtype=F64), "w_rec must have shape [6, 6], got [5, 5]"),
        (3, torch.ones(6, 6, dtype=F64), "delays_rec must come with w_rec"),
        (8, 0, "max_spikes must be 1 to 2^30 - 1, got 0"),
    ],
)
def test_raw_kernels_check_their_arguments(kernels, place, value, message):
    a = case(**CASES["plain"])
    arguments = list(forward_arguments(a))
    arguments[place] = value
    arguments = [x.to(kernels.device) if isinstance(x, torch.Tensor) else x for x in arguments]
    with pytest.raises(RuntimeError) as raised:
        kernels.ops.eventprop_forward(*arguments)
    assert str(raised.value).startswith(f"eventprop: {message}")


@pytest.mark.parametrize("name", ["plain", "recurrent"])
def test_results_from_elsewhere_read_and_write_nothing_outside(kernels, name):
    """Arbitrary numbers instead of the forward pass's results give a meaningless gradient, but no crash."""
    a = on(kernels.device, case(**CASES[name]), torch.float32)
    arguments = forward_arguments(a)
    t, u, slope, peak, source = kernels.ops.eventprop_forward(*arguments)
    wanted = (True, True, True, False)
    for value in (-1.0, 0.0, 7.0, float("nan"), float("inf")):
        for k in range(3):
            hostile = [x.clone() for x in (t, slope, peak)]
            hostile[k].fill_(value)
            for other in (source, torch.full_like(source, 2**31 - 1), torch.zeros_like(source)):
                grads = (torch.ones_like(t), torch.ones_like(u))
                found = kernels.ops.eventprop_backward(*arguments, *hostile, other, *grads, *wanted)
                assert found[0].shape == a["t_in"].shape
