"""Errors of ``stdp``, its rules and its kernels."""

import math

import pytest
import torch
from backends import PRESENT, force
from cases import in_one_test
from samples import assert_equal
from stdp_cases import MODULATED, PLAIN, kernel_call, sample

from snnfast import ops, plasticity
from snnfast.ops import StdpState
from snnfast.reference.call import flatten


def changed(**changes):
    w, pre, post, _ = sample((3, 2, 5, 4), torch.float32)
    return {"w": w, "pre": pre, "post": post, "rule": PLAIN["pair"], **changes}


STATE = StdpState(*(torch.zeros(2, n) for n in (5, 5, 4, 4)), None)
REWARDED = MODULATED["reward, pair"]


@pytest.mark.parametrize("name", [n for n in (*PRESENT, "reference") if n != "cuda"])
@in_one_test(
    ("change", "error", "message"),
    [
        ({"w": [1.0]}, TypeError, "w must be a tensor, got list"),
        ({"w": torch.zeros(4, 5).half()}, TypeError, "w must have dtype float32 or float64, got torch.float16"),
        ({"w": torch.zeros(5)}, ValueError, "w must have shape [N_post, N_pre], got [5]"),
        ({"w": torch.full((4, 5), 1.5)}, ValueError, "w must lie in [0, 1], got values from 1.5 to 1.5"),
        ({"w": torch.full((4, 5), math.nan)}, ValueError, "w must lie in [0, 1], got values from nan to nan"),
        ({"w": torch.zeros(1, 5).expand(4, 5)}, ValueError, "w must not overlap itself, got strides [0, 1]"),
        ({"w": torch.zeros(8).as_strided((4, 5), (1, 1))}, ValueError, "w must not overlap itself, got strides [1, 1]"),
        ({"pre": None}, TypeError, "pre must be a tensor, got NoneType"),
        (
            {"pre": torch.zeros(3, 2, 5, dtype=torch.int64)},
            TypeError,
            "pre must have one of the dtypes bool, uint8, float32, float64, bfloat16, float16, got torch.int64",
        ),
        ({"pre": torch.zeros(3, 2, 4)}, ValueError, "pre must have shape [T, B, 5], got [3, 2, 4]"),
        ({"pre": torch.zeros(3, 5)}, ValueError, "pre must have shape [T, B, 5], got [3, 5]"),
        ({"pre": torch.zeros(3, 2, 5, device="meta")}, ValueError, "pre must be on the device of w, cpu, got meta"),
        ({"post": torch.zeros(3, 2, 5)}, ValueError, "post must have shape [3, 2, 4], got [3, 2, 5]"),
        ({"post": torch.zeros(3, 1, 4)}, ValueError, "post must have shape [3, 2, 4], got [3, 1, 4]"),
        ({"rule": "pair"}, TypeError, "rule must be a rule of snnfast.plasticity, got str"),
        ({"dt": 0.0}, ValueError, "dt must be positive, got 0"),
        ({"dt": "1"}, TypeError, "dt must be a number, got str"),
        ({"reduction": "max"}, ValueError, "reduction must be sum or mean, got 'max'"),
        ({"update": "epoch"}, ValueError, "update must be step or sequence, got 'epoch'"),
        ({"norm": -1.0}, ValueError, "norm must be positive, got -1"),
        ({"norm": math.inf}, ValueError, "norm must be finite, got inf"),
        ({"reward": 1.0}, ValueError, "reward must be None, since rule is not reward-modulated"),
        ({"rule": REWARDED}, ValueError, "reward must be given, since rule is reward-modulated"),
        ({"rule": REWARDED, "reward": "1"}, TypeError, "reward must be a number, got str"),
        ({"rule": REWARDED, "reward": math.nan}, ValueError, "reward must be finite, got nan"),
        (
            {"rule": REWARDED, "reward": torch.zeros(3).int()},
            TypeError,
            "reward must be floating point, got torch.int32",
        ),
        (
            {"rule": REWARDED, "reward": torch.zeros(2)},
            ValueError,
            "reward must be a number or have shape [3] or [3, 2], got [2]",
        ),
        (
            {"rule": REWARDED, "reward": torch.zeros(3, device="meta")},
            ValueError,
            "reward must be on the device of w, cpu, got meta",
        ),
        (
            {"rule": REWARDED, "reward": torch.full((3,), math.inf)},
            ValueError,
            "reward must be finite, got NaN or infinity",
        ),
        ({"state": tuple(STATE)}, TypeError, "state must be a StdpState or None, got tuple"),
        ({"state": STATE._replace(trace_pre=0.0)}, TypeError, "state.trace_pre must be a tensor, got float"),
        (
            {"state": STATE._replace(trace_post2=torch.zeros(4))},
            ValueError,
            "state.trace_post2 must have shape [2, 4], got [4]",
        ),
        (
            {"state": STATE._replace(trace_pre2=torch.zeros(2, 5).double())},
            TypeError,
            "state.trace_pre2 must have dtype torch.float32, got torch.float64",
        ),
        (
            {"state": STATE._replace(trace_post=torch.zeros(2, 4, device="meta"))},
            ValueError,
            "state.trace_post must be on the device of w, cpu, got meta",
        ),
        (
            {"state": STATE, "rule": REWARDED, "reward": 1.0},
            ValueError,
            "state.eligibility must be a tensor, since rule is reward-modulated",
        ),
        (
            {"state": STATE._replace(eligibility=torch.zeros(2, 4, 5))},
            ValueError,
            "state.eligibility must be None, since rule is not reward-modulated",
        ),
    ],
)
def test_errors(name, change, error, message):
    arguments = changed(**change)
    w = arguments.pop("w")
    before = w.clone() if isinstance(w, torch.Tensor) else None
    with force(name), pytest.raises(error) as caught:
        ops.stdp_(w, arguments.pop("pre"), arguments.pop("post"), **arguments)
    assert str(caught.value) == f"stdp_: {message}"
    if before is not None:
        assert_equal(w, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tau_pre": 0.0}, "tau_pre must be positive, got 0"),
        ({"tau_eligibility": -1.0}, "tau_eligibility must be positive, got -1"),
        ({"beta": -1.0}, "beta must be at least 0, got -1"),
        ({"mu": -0.5}, "mu must be at least 0, got -0.5"),
        ({"lr_pre": math.nan}, "lr_pre must be finite, got nan"),
        ({"lr_post": math.inf}, "lr_post must be finite, got inf"),
        ({"w_min": 1.0}, "w_min must be below w_max, got 1 and 1"),
        ({"trace": "some"}, "trace must be nearest or all, got 'some'"),
        ({"kind": "cubic"}, "kind must be one of additive, linear, power, exponential, triplet, got 'cubic'"),
    ],
)
def test_errors_of_rules(change, message):
    with pytest.raises(ValueError, match="plasticity: ") as caught:
        plasticity.Rule(**{"kind": "additive", **change})
    assert str(caught.value) == f"plasticity: {message}"


def test_a_rule_names_its_arguments_for_one_that_it_does_not_have():
    message = "pair: got an unexpected keyword argument 'mu'; its arguments are lr_pre, lr_post, tau_pre"
    with pytest.raises(TypeError, match=message):
        plasticity.pair(mu=0.5)


def test_constants_of_a_triplet_rule():
    rule = plasticity.triplet(2e-3, lr_post_pair=3e-3, lr_pre_triplet=4e-3, tau_pre=10.0, trace="all", w_max=2.0)
    assert rule.constants(0.5) == plasticity.Constants(
        kind=4,
        all=True,
        decay_pre=math.exp(-0.5 / 10),
        decay_post=math.exp(-0.5 / 20),
        decay_pre2=math.exp(-0.5 / 40),
        decay_post2=math.exp(-0.5 / 40),
        lr_pre=2e-3,
        lr_post=3e-3,
        lr_pre_triplet=4e-3,
        lr_post_triplet=1e-2,
        x_tar=0.0,
        mu=0.0,
        beta=0.0,
        w_min=0.0,
        w_max=2.0,
    )
    assert [name for name in ("x_tar", "mu", "beta", "tau_pre2", "tau_pre") if rule.has(name)] == [
        "tau_pre2",
        "tau_pre",
    ]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("w", torch.zeros(4, 5).half(), "w must be float32 or float64, got float16"),
        ("w", torch.zeros(5, 4).double().T, "w must have contiguous rows, got strides [1, 4] for shape [4, 5]"),
        ("w", torch.zeros(20).double(), "w must have 2 dimensions, got shape [20]"),
        ("pre", torch.zeros(3, 2, 6), "pre must have shape [3, 2, 5], got [3, 2, 6]"),
        ("pre", torch.zeros(3, 2, 5).long(), "bfloat16 or float16, got int64"),
        ("pre", torch.zeros(3, 10), "pre must have shape [T, B, N_pre], got [3, 10]"),
        ("post", torch.zeros(3, 1, 4), "post must have shape [3, 2, 4], got [3, 1, 4]"),
        ("trace_pre", torch.zeros(2, 5), "trace_pre must be float64, got float32"),
        ("trace_pre2", torch.zeros(2, 6).double(), "trace_pre2 must have shape [2, 5], got [2, 6]"),
        ("trace_post", torch.zeros(4, 2).double().T, "trace_post must be contiguous, got strides"),
        ("trace_post2", torch.zeros(8).double(), "trace_post2 must have shape [2, 4], got [8]"),
        ("reward", torch.zeros(3, 2).double(), "must be given together, got only reward"),
        ("kind", 5, "kind of rule must be a number from 0 to 4, got 5"),
        ("kind", -1, "kind of rule must be a number from 0 to 4, got -1"),
    ],
)
def test_the_op_itself_is_safe(kernels, field, value, message):
    call = kernel_call((3, 2, 5, 4), "pair", kernels.device)
    if isinstance(value, torch.Tensor):
        value = value.to(kernels.device)
    if field in call._fields:
        call = call._replace(**{field: value})
    elif field in call.state._fields:
        call = call._replace(state=call.state._replace(**{field: value}))
    else:
        call = call._replace(rule=call.rule._replace(**{field: value}))
    with pytest.raises(RuntimeError, match="stdp_: ") as caught:
        kernels.ops.stdp_(*flatten(call))
    assert message in str(caught.value)
