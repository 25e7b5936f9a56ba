"""Errors of the two networks of Diehl and Cook: they name the argument and change nothing."""

import pytest
import torch
from backends import PRESENT
from cases import in_one_test
from diehl_cook_cases import assert_refused
from diehl_cook_conductance_cases import CONDUCTANCE
from samples import assert_equal

from snnfast import ops, plasticity
from snnfast.ops import DiehlCookState, Events, Rates


def arguments(op, **changes):
    """Return the arguments of a valid call of 2 presentations, 3 steps, 5 inputs and 4 neurons, with ``changes``."""
    defaults = {"x": torch.ones(2, 3, 5), "w": torch.full((4, 5), 0.5), "rule": plasticity.pair()}
    if op is ops.diehl_cook_:
        return {**defaults, "theta": torch.zeros(4), **changes}
    return {**defaults, "theta": torch.full((4,), 20.0).double(), "rest": 1.0, **changes}


HZ, SEEDS = torch.ones(2, 5), torch.arange(2)
COMMON = {
    "x": (TypeError, "x must be a tensor, Events or Rates, got list", {"x": [1]}),
    "x shape": (ValueError, r"x must have shape \[P, T, 5\], got \[3, 5\]", {"x": torch.ones(3, 5)}),
    "x inputs": (ValueError, r"x must have shape \[P, T, 5\], got \[2, 3, 4\]", {"x": torch.ones(2, 3, 4)}),
    "x dtype": (
        TypeError,
        "x must have one of the dtypes bool, uint8, float32, float64, got torch.int64",
        {"x": torch.ones(2, 3, 5).long()},
    ),
    "x device": (ValueError, "x must be on the device of w, cpu, got meta", {"x": torch.ones(2, 3, 5, device="meta")}),
    "w": (TypeError, "w must be a tensor, got list", {"w": [1]}),
    "w dtype": (TypeError, "w must have dtype float32 or float64, got torch.float16", {"w": torch.ones(4, 5).half()}),
    "w shape": (ValueError, r"w must have shape \[N, I\] or \[K, N, I\], got \[5\]", {"w": torch.ones(5)}),
    "w overlaps": (ValueError, "w must not overlap itself", {"w": torch.full((1, 5), 0.5).expand(4, 5)}),
    "w above": (ValueError, r"w must lie in \[0, 1\], got values from 1.5 to 1.5", {"w": torch.full((4, 5), 1.5)}),
    "w NaN": (ValueError, "w must lie in", {"w": torch.full((4, 5), float("nan"))}),
    "theta": (TypeError, "theta must be a tensor, got float", {"theta": 0.0}),
    "rule": (TypeError, "rule must be a rule of snnfast.plasticity or None, got str", {"rule": "pair"}),
    "rule with reward": (
        ValueError,
        "rule must not wait for a reward",
        {"rule": plasticity.reward_modulated(plasticity.pair(), 9.0)},
    ),
    "norm": (ValueError, "norm must be positive, got -1", {"norm": -1.0}),
    "norm, fixed": (ValueError, "norm must be None without a rule, got 2", {"norm": 2.0, "rule": None}),
    "dt": (ValueError, "dt must be positive, got 0", {"dt": 0.0}),
    "tau": (ValueError, "tau must be positive, got -3", {"tau": -3.0}),
    "tau NaN": (ValueError, "tau must be finite", {"tau": float("nan")}),
    "tau_theta": (ValueError, "tau_theta must be positive, got 0", {"tau_theta": 0.0}),
    "refractory": (ValueError, "refractory must be at least 0, got -1", {"refractory": -1.0}),
    "theta_plus": (ValueError, "theta_plus must be at least 0, got -1", {"theta_plus": -1.0}),
    "v_threshold": (TypeError, "v_threshold must be a number, got str", {"v_threshold": "13"}),
    "hz shape": (ValueError, r"x.hz must have shape \[P, 5\], got \[2, 4\]", {"x": Rates(torch.ones(2, 4), 3, SEEDS)}),
    "hz dtype": (TypeError, "x.hz must have dtype float32, got torch.float64", {"x": Rates(HZ.double(), 3, SEEDS)}),
    "num_steps": (ValueError, "x.num_steps must be at least 0, got -1", {"x": Rates(HZ, -1, SEEDS)}),
    "num_steps type": (TypeError, "x.num_steps must be an integer, got float", {"x": Rates(HZ, 3.0, SEEDS)}),
    "seeds shape": (ValueError, r"x.seeds must have shape \[2\], got \[3\]", {"x": Rates(HZ, 3, torch.arange(3))}),
    "seeds dtype": (TypeError, "x.seeds must have dtype int64, got torch.float32", {"x": Rates(HZ, 3, SEEDS.float())}),
    "inputs": (
        ValueError,
        r"x.inputs must lie in \[0, 4\], got values from 5 to 5",
        {"x": Events(torch.tensor([5]).int(), torch.tensor([[0, 1]]))},
    ),
    "inputs order": (
        ValueError,
        "x.inputs must ascend within a step",
        {"x": Events(torch.tensor([3, 1]).int(), torch.tensor([[0, 2]]))},
    ),
    "inputs twice": (
        ValueError,
        "x.inputs must ascend within a step",
        {"x": Events(torch.tensor([3, 3]).int(), torch.tensor([[0, 2]]))},
    ),
    "offsets": (
        ValueError,
        r"x.offsets must ascend within each presentation and lie in \[0, 1\]",
        {"x": Events(torch.tensor([3]).int(), torch.tensor([[0, 2]]))},
    ),
    "offsets order": (
        ValueError,
        "x.offsets must ascend",
        {"x": Events(torch.tensor([3]).int(), torch.tensor([[1, 0]]))},
    ),
    "offsets shape": (
        ValueError,
        r"x.offsets must have shape \[P, T \+ 1\], got \[2\]",
        {"x": Events(torch.tensor([3]).int(), torch.tensor([0, 1]))},
    ),
}
SPECIFIC = {
    ops.diehl_cook_: {
        "w infinite": (ValueError, "w must be finite", {"w": torch.full((4, 5), float("inf")), "rule": None}),
        "theta dtype": (
            TypeError,
            "theta must have the dtype of w, torch.float32, got torch.float64",
            {"theta": torch.zeros(4).double()},
        ),
        "theta shape": (ValueError, r"theta must have shape \[4\], got \[5\]", {"theta": torch.zeros(5)}),
        "theta NaN": (ValueError, "theta must be finite", {"theta": torch.full((4,), float("nan"))}),
        "state": (TypeError, "state must be a DiehlCookState or None, got tuple", {"state": ()}),
        "inhibition": (ValueError, "inhibition must be at least 0, got -1", {"inhibition": -1.0}),
        "delay": (ValueError, "inhibition_delay must be at least 0, got -1", {"inhibition_delay": -1}),
        "delay type": (TypeError, "inhibition_delay must be an integer, got float", {"inhibition_delay": 1.0}),
        "one_winner": (TypeError, "one_winner must be True or False, got 'no'", {"one_winner": "no"}),
        "hz negative": (
            ValueError,
            r"x.hz must lie in \[0, 1000\] Hz, got values from -1",
            {"x": Rates(-HZ, 3, SEEDS)},
        ),
        "hz NaN": (ValueError, r"x.hz must lie in \[0, 1000\] Hz", {"x": Rates(HZ * float("nan"), 3, SEEDS)}),
        "hz above 1/dt": (
            ValueError,
            r"x.hz must lie in \[0, 2000\] Hz, got values from 2001",
            {"x": Rates(HZ * 2001, 3, SEEDS), "dt": 0.5},
        ),
    },
    CONDUCTANCE: {
        "w negative, fixed": (
            ValueError,
            "w must be at least 0 and not NaN, got values from -1 to -1",
            {"w": torch.full((4, 5), -1.0), "rule": None},
        ),
        "theta dtype": (TypeError, "theta must have dtype torch.float64, got torch.float32", {"theta": torch.zeros(4)}),
        "theta shape": (ValueError, r"theta must have shape \[4\], got \[5\]", {"theta": torch.zeros(5).double()}),
        "theta NaN": (ValueError, "theta must be finite", {"theta": torch.full((4,), float("nan")).double()}),
        "rule below 0": (
            ValueError,
            "rule.w_min must be at least 0, a conductance, got -1",
            {"rule": plasticity.pair(w_min=-1.0)},
        ),
        "state": (TypeError, "state must be a DiehlCookState or None", {"state": ()}),
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
        "hz NaN": (ValueError, r"x.hz must lie in \[0, 2000\] Hz", {"x": Rates(HZ * float("nan"), 3, SEEDS)}),
        **{
            name: (ValueError, f"{name} must be positive, got 0", {name: 0.0})
            for name in ("dt", "tau", "tau_inh", "tau_g_exc", "tau_g_inh", "tau_theta")
        },
        **{
            name: (ValueError, f"{name} must be at least 0, got -1", {name: -1.0})
            for name in ("rest", "refractory", "refractory_inh", "w_exc_inh", "w_inh_exc", "theta_plus")
        },
        "w_exc_inh 1e300": (ValueError, "w_exc_inh must lie within the range", {"w_exc_inh": 1e300}),
        **{
            name: (ValueError, f"{name} must be finite", {name: float("inf")})
            for name in ("v_rest", "v_reset", "v_rest_inh", "v_reset_inh", "e_exc", "e_inh")
        },
    },
}
STATES = {
    ops.diehl_cook_: [n for n in DiehlCookState._fields if n not in ("g_exc", "g_inh") and not n.endswith("_inh")],
    CONDUCTANCE: [n for n in DiehlCookState._fields if n != "last_spikes"],
}
CASES = [(op, case) for op, specific in SPECIFIC.items() for case in (COMMON | specific)]


@pytest.mark.parametrize("backend", ["reference", *PRESENT])
@in_one_test(("op", "case"), CASES)
def test_errors_name_the_argument_and_change_nothing(backend, op, case):
    error, message, changes = (COMMON | SPECIFIC[op])[case]
    assert_refused(op, backend, arguments(op, **changes), error, message)


@pytest.mark.parametrize(("op", "field"), [(op, field) for op, fields in STATES.items() for field in fields])
def test_errors_name_the_part_of_the_state(op, field):
    valid = arguments(op)
    state = op(**valid, return_state=True).state
    for wrong, error in (
        (torch.zeros(3, 3), ValueError),
        (None, TypeError),
        (getattr(state, field).to(torch.int64), TypeError),
    ):
        with pytest.raises(error, match=rf"^diehl_cook_: state\.{field} must"):
            op(**valid, state=state._replace(**{field: wrong}))


@pytest.mark.parametrize("op", STATES)
def test_the_state_given_is_not_changed(op):
    valid = arguments(op)
    state = op(**valid, return_state=True).state
    before = [s.clone() for s in state if s is not None]
    op(**valid, state=state, return_state=True)
    assert_equal([s for s in state if s is not None], before)


OTHER = {
    ops.diehl_cook_: {"rest": 1.0, "delays": torch.zeros(4, 5, dtype=torch.uint8), "tau_g_exc": 1.0},
    CONDUCTANCE: {"inhibition": 1.0, "inhibition_delay": 0, "one_winner": False},
}


@pytest.mark.parametrize(("op", "name"), [(op, name) for op, names in OTHER.items() for name in names])
def test_arguments_of_the_other_synapses_are_refused(op, name):
    kind, other = ("current", "conductance") if op is ops.diehl_cook_ else ("conductance", "current")
    message = f"{name} must be None with synapses='{kind}', got .*; leave it out, or pass synapses='{other}'"
    assert_refused(op, "reference", arguments(op, **{name: OTHER[op][name]}), ValueError, message)


@pytest.mark.parametrize("op", STATES)
def test_the_state_of_the_other_synapses_is_refused(op):
    (other,) = STATES.keys() - {op}
    state = other(**arguments(other), return_state=True).state
    with pytest.raises((TypeError, ValueError), match=r"^diehl_cook_: state\.\w+ must"):
        op(**arguments(op), state=state)


def test_there_are_two_kinds_of_synapses():
    with pytest.raises(ValueError, match=r"^diehl_cook_: synapses must be current or conductance, got 'spikes'"):
        ops.diehl_cook_(**arguments(ops.diehl_cook_), synapses="spikes")
