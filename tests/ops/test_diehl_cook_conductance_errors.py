"""Errors of the network of Diehl and Cook with conductances name the argument and change nothing."""

import pytest
import torch
from backends import PRESENT
from diehl_cook_cases import assert_refused

from snnfast import ops, plasticity
from snnfast.ops import DiehlCookConductanceState, Events, Rates


def arguments(**changes):
    """Return the arguments of a valid call of 2 presentations, 3 steps, 5 inputs and 4 neurons, with ``changes``."""
    given = {
        "x": torch.ones(2, 3, 5),
        "w": torch.full((4, 5), 0.5),
        "theta": torch.full((4,), 20.0).double(),
        "rule": plasticity.pair(),
        "rest": 1.0,
    }
    return {**given, **changes}


HZ, SEEDS = torch.ones(2, 5), torch.arange(2)
ERRORS = {
    "x": (TypeError, "x must be a tensor, Events or Rates, got list", {"x": [1]}),
    "x shape": (
        ValueError,
        r"x must have shape \[P, T, 5\], got \[2, 3, 4\]",
        {"x": torch.ones(2, 3, 4)},
    ),
    "x dtype": (
        TypeError,
        "x must have one of the dtypes bool, uint8, float32, float64, got torch.int64",
        {"x": torch.ones(2, 3, 5).long()},
    ),
    "x device": (
        ValueError,
        "x must be on the device of w, cpu, got meta",
        {"x": torch.ones(2, 3, 5, device="meta")},
    ),
    "w": (TypeError, "w must be a tensor, got list", {"w": [1]}),
    "w dtype": (
        TypeError,
        "w must have dtype float32 or float64, got torch.float16",
        {"w": torch.ones(4, 5).half()},
    ),
    "w shape": (
        ValueError,
        r"w must have shape \[N, I\] or \[K, N, I\], got \[5\]",
        {"w": torch.ones(5)},
    ),
    "w above": (
        ValueError,
        r"w must lie in \[0, 1\], got values from 1.5 to 1.5",
        {"w": torch.full((4, 5), 1.5)},
    ),
    "w negative, fixed": (
        ValueError,
        "w must be at least 0 and not NaN, got values from -1 to -1",
        {"w": torch.full((4, 5), -1.0), "rule": None},
    ),
    "w NaN": (ValueError, "w must lie in", {"w": torch.full((4, 5), float("nan"))}),
    "theta": (TypeError, "theta must be a tensor, got float", {"theta": 0.0}),
    "theta dtype": (
        TypeError,
        "theta must have dtype torch.float64, got torch.float32",
        {"theta": torch.zeros(4)},
    ),
    "theta shape": (
        ValueError,
        r"theta must have shape \[4\], got \[5\]",
        {"theta": torch.zeros(5).double()},
    ),
    "theta NaN": (
        ValueError,
        "theta must be finite",
        {"theta": torch.full((4,), float("nan")).double()},
    ),
    "rule": (
        TypeError,
        "rule must be a rule of snnfast.plasticity or None, got str",
        {"rule": "pair"},
    ),
    "rule with reward": (
        ValueError,
        "rule must not ",
        {"rule": plasticity.reward_modulated(plasticity.pair(), 9.0)},
    ),
    "rule below 0": (
        ValueError,
        "rule.w_min must be at least 0, a conductance, got -1",
        {"rule": plasticity.pair(w_min=-1.0)},
    ),
    "norm": (ValueError, "norm must be positive, got -1", {"norm": -1.0}),
    "norm, fixed": (
        ValueError,
        "norm must be None without a rule, got 2",
        {"norm": 2.0, "rule": None},
    ),
    "state": (TypeError, "state must be a DiehlCookConductanceState or None", {"state": ()}),
    "delays": (TypeError, "delays must be a tensor, got int", {"delays": 3}),
    "delays dtype": (
        TypeError,
        "delays must have dtype torch.uint8, got torch.int64",
        {"delays": torch.zeros(4, 5).long()},
    ),
    "delays shape": (
        ValueError,
        r"delays must have shape \[4, 5\], got \[5, 4\]",
        {"delays": torch.zeros(5, 4, dtype=torch.uint8)},
    ),
    "delays device": (
        ValueError,
        "delays must be on the device of w, cpu, got meta",
        {"delays": torch.zeros(4, 5, dtype=torch.uint8, device="meta")},
    ),
    "tau NaN": (ValueError, "tau must be finite", {"tau": float("nan")}),
    "v_threshold": (TypeError, "v_threshold must be a number, got str", {"v_threshold": "13"}),
    "hz above 1/dt": (
        ValueError,
        r"x.hz must lie in \[0, 2000\] Hz, got values from 2001",
        {"x": Rates(HZ * 2001, 3, SEEDS)},
    ),
    "hz negative": (
        ValueError,
        r"x.hz must lie in \[0, 2000\] Hz, got values from -1",
        {"x": Rates(-HZ, 3, SEEDS)},
    ),
    "hz NaN": (
        ValueError,
        r"x.hz must lie in \[0, 2000\] Hz",
        {"x": Rates(HZ * float("nan"), 3, SEEDS)},
    ),
    "inputs": (
        ValueError,
        r"x.inputs must lie in \[0, 4\], got values from 5 to 5",
        {"x": Events(torch.tensor([5]).int(), torch.tensor([[0, 1]]))},
    ),
    **{
        name: (ValueError, f"{name} must be positive, got 0", {name: 0.0})
        for name in ("dt", "tau", "tau_inh", "tau_g_exc", "tau_g_inh", "tau_theta")
    },
    **{
        name: (ValueError, f"{name} must be at least 0, got -1", {name: -1.0})
        for name in (
            "rest",
            "refractory",
            "refractory_inh",
            "w_exc_inh",
            "w_inh_exc",
            "theta_plus",
        )
    },
    "w_exc_inh 1e300": (ValueError, "w_exc_inh must lie within the range", {"w_exc_inh": 1e300}),
    **{
        name: (ValueError, f"{name} must be finite", {name: float("inf")})
        for name in ("v_rest", "v_reset", "v_rest_inh", "v_reset_inh", "e_exc", "e_inh")
    },
}


@pytest.mark.parametrize("backend", ["reference", *PRESENT])
@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_the_argument_and_change_nothing(backend, case):
    error, message, changes = ERRORS[case]
    assert_refused(ops.diehl_cook_conductance_, backend, arguments(**changes), error, message)


@pytest.mark.parametrize("field", DiehlCookConductanceState._fields)
def test_errors_name_the_part_of_the_state(field):
    given = arguments()
    state = ops.diehl_cook_conductance_(**given, return_state=True).state
    for wrong, error in (
        (torch.zeros(3, 3), ValueError),
        (None, TypeError),
        (getattr(state, field).to(torch.int64), TypeError),
    ):
        with pytest.raises(error, match=rf"diehl_cook_conductance_: state\.{field} must"):
            ops.diehl_cook_conductance_(**given, state=state._replace(**{field: wrong}))


def test_the_state_given_is_not_changed():
    given = arguments()
    state = ops.diehl_cook_conductance_(**given, return_state=True).state
    before = [s.clone() for s in state]
    ops.diehl_cook_conductance_(**given, state=state, return_state=True)
    torch.testing.assert_close(list(state), before, rtol=0, atol=0)
