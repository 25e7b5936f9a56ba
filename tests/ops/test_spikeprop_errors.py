"""Errors and warnings of ``spikeprop``."""

import math
import warnings

import pytest
import torch
from backends import PRESENT, force
from spikeprop_cases import F64, SILENT, case, forward_arguments, on

from snnfast import ops


def good(device="cpu"):
    return {
        "t_in": torch.tensor([[0.0, 2.0, math.inf]], device=device),
        "w": torch.full((4, 3, 2), 0.5, device=device),
        "delays": torch.tensor([0.0, 1.0], device=device),
        "tau": 2.0,
        "t_max": 9.0,
    }


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"t_in": [[1.0]]}, TypeError, "t_in must be a tensor, got list"),
        ({"w": 3.0}, TypeError, "w must be a tensor, got float"),
        ({"delays": 16}, TypeError, "delays must be a tensor, got int"),
        ({"t_in": torch.ones(3)}, ValueError, "t_in must have shape [B, I], got [3]"),
        ({"w": torch.ones(4, 3)}, ValueError, "w must have shape [O, I, K], got [4, 3]"),
        ({"delays": torch.ones(4, 3, 2)}, ValueError, "delays must have shape [K] or [I, K], got [4, 3, 2]"),
        (
            {"t_in": torch.ones(1, 3, dtype=torch.int64)},
            TypeError,
            "t_in must have one of the dtypes float32, float64, got torch.int64",
        ),
        (
            {"t_in": torch.ones(1, 3, dtype=torch.bfloat16)},
            TypeError,
            "t_in must have one of the dtypes float32, float64, got torch.bfloat16",
        ),
        (
            {"w": torch.ones(4, 3, 2, dtype=F64)},
            TypeError,
            "w must have the dtype of t_in, torch.float32, got torch.float64",
        ),
        (
            {"delays": torch.ones(2, dtype=torch.int64)},
            TypeError,
            "delays must have the dtype of t_in, torch.float32, got torch.int64",
        ),
        ({"w": torch.ones(4, 3, 2, device="meta")}, ValueError, "w must be on the device of t_in, cpu, got meta"),
        (
            {"delays": torch.ones(0), "w": torch.ones(4, 3, 0)},
            ValueError,
            "delays must hold at least one delay, got none",
        ),
        (
            {"delays": torch.ones(2, 2)},
            ValueError,
            "delays must have shape [K] or [I, K] with I = 3 as in t_in, got [2, 2]",
        ),
        (
            {"w": torch.ones(4, 2, 2)},
            ValueError,
            "w must have shape [O, I, K] with I = 3 as in t_in and K = 2 as in delays, got [4, 2, 2]",
        ),
        (
            {"w": torch.ones(4, 3, 5)},
            ValueError,
            "w must have shape [O, I, K] with I = 3 as in t_in and K = 2 as in delays, got [4, 3, 5]",
        ),
        (
            {"t_in": torch.tensor([[0.0, math.nan, 1.0]])},
            ValueError,
            "t_in must hold times that are at least 0 and not NaN, inf for no spike, got values from nan to nan",
        ),
        (
            {"t_in": torch.tensor([[0.0, -1.0, 1.0]])},
            ValueError,
            "t_in must hold times that are at least 0 and not NaN, inf for no spike, got values from -1 to 1",
        ),
        (
            {"t_in": torch.tensor([[0.0, 9.5, math.inf]])},
            ValueError,
            "t_max must not lie before the last input spike, got t_max 9 and a spike at 9.5",
        ),
        (
            {"delays": torch.tensor([0.0, -1.0])},
            ValueError,
            "delays must be finite and at least 0, got values from -1 to 0",
        ),
        (
            {"delays": torch.tensor([0.0, math.inf])},
            ValueError,
            "delays must be finite and at least 0, got values from 0 to inf",
        ),
        (
            {"t_in": torch.zeros(1, 3).to_sparse(), "validate": False},
            TypeError,
            "t_in must be a dense tensor, got torch.sparse_coo",
        ),
        ({"tau": 1e300}, ValueError, "tau must lie within the range of float32, got 1e+300"),
        ({"tau": 1e-300}, ValueError, "tau must lie within the range of float32, got 1e-300"),
        ({"tau": 0.0}, ValueError, "tau must be positive, got 0"),
        ({"tau": -2}, ValueError, "tau must be positive, got -2"),
        ({"tau": math.nan}, ValueError, "tau must be finite, got nan"),
        ({"tau": "7"}, TypeError, "tau must be a number, got str"),
        ({"tau": torch.ones(1)}, ValueError, "tau must have one value, got shape [1]"),
        ({"tau": torch.tensor(0.0)}, ValueError, "tau must be positive and finite, got 0"),
        (
            {"tau": torch.tensor(1.0, dtype=F64)},
            TypeError,
            "tau must have the dtype of t_in, torch.float32, got torch.float64",
        ),
        ({"v_threshold": 0.0}, ValueError, "v_threshold must be positive, got 0"),
        ({"v_threshold": 1e-39}, ValueError, "v_threshold must lie within the range of float32, got 1e-39"),
        ({"t_max": math.inf}, ValueError, "t_max must be finite, got inf"),
        ({"t_max": 0}, ValueError, "t_max must be positive, got 0"),
        ({"dt": 0.0}, ValueError, "dt must be positive, got 0"),
        ({"w": torch.full((4, 3, 2), math.nan)}, ValueError, "w must be finite, got NaN or infinity"),
        ({"dt": True}, TypeError, "dt must be a number, got bool"),
        ({"slope_min": 0.0}, ValueError, "slope_min must be positive, got 0"),
    ],
)
@pytest.mark.parametrize("name", [n for n in (*PRESENT, "reference") if n != "cuda"])
def test_errors(name, change, error, message):
    with force(name), pytest.raises(error) as caught:
        ops.spikeprop(**{**good(), **change})
    assert str(caught.value) == f"spikeprop: {message}"


@pytest.mark.filterwarnings(SILENT)
def test_values_are_not_looked_at_without_validate(backend):
    a = good(backend.device)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        t = ops.spikeprop(**{**a, "w": a["w"] * 0}, validate=False)
        assert t.isinf().all()
        late = torch.tensor([[0.0, 9.5, math.nan]], device=backend.device)
        t = ops.spikeprop(**{**a, "t_in": late}, validate=False)
    alone = ops.spikeprop(**{**a, "t_in": torch.tensor([[0.0, math.inf, math.inf]]).to(late)})
    # Later than t_max and NaN count as no spike.
    torch.testing.assert_close(t, alone, rtol=0, atol=0)


def test_warns_if_training_cannot_proceed_and_says_what_to_do(backend):
    a = good(backend.device)
    weak = {**a, "w": (a["w"] * 0.01).requires_grad_()}
    with pytest.warns(UserWarning, match="spikeprop: all outputs are silent") as caught:
        ops.spikeprop(**weak)
    text = str(caught[0].message)
    assert "no neuron of w [4, 3, 2] reached v_threshold = 1 by t_max = 9" in text
    assert "Scale up w" in text
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ops.spikeprop(**a)
        # u_max has a gradient; without one nothing is learned.
        ops.spikeprop(**weak, return_u_max=True)
        with torch.no_grad():
            ops.spikeprop(**weak)
        ops.spikeprop(**{**weak, "w": weak["w"].detach()})


@pytest.mark.parametrize(
    ("t_in", "w"),
    [
        ((2**62 + 2**18, 0), (1, 0, 1)),
        ((1, 0), (2**62 + 2**18, 0, 1)),
        ((2**40, 0), (2**40, 0, 1)),
        ((2**28, 0), (2**29, 0, 1)),
    ],
)
def test_sizes_whose_product_overflows_get_an_error(kernels, t_in, w):
    t_in, w = torch.zeros(t_in, device=kernels.device), torch.zeros(w, device=kernels.device)
    delays = torch.ones(1, device=kernels.device)
    with pytest.raises(ValueError, match="spikeprop: t_in or w is too large: a tensor of shape"):
        ops.spikeprop(t_in, w, delays, tau=2.0, t_max=9.0)
    with pytest.raises(RuntimeError, match=r"^spikeprop: a tensor of shape \[\d+, \d+\] is too large"):
        kernels.ops.spikeprop_forward(*forward_arguments({"t_in": t_in, "w": w, "delays": delays, "tau": 2.0}))


@pytest.mark.parametrize("dt", [0.0, 0.5])
@pytest.mark.parametrize("return_u_max", [False, True])
def test_a_tape_from_elsewhere_reads_and_writes_nothing_outside(kernels, dt, return_u_max):
    """Any 32-bit words where the tape of the forward pass should be: an error, or a gradient without a meaning."""
    a = on(kernels.device, case(2, 20, 4, 20, dtype=torch.float32))
    arguments = forward_arguments(a, dt, 37 if dt else 0, return_u_max)
    t, u, slope, tape, _ = kernels.ops.spikeprop_forward(*arguments)
    grads = (torch.ones_like(t), torch.ones_like(u))
    wanted = (True, True, True, False)

    def backward(tape):
        return kernels.ops.spikeprop_backward(*arguments, t, slope, tape, *grads, *wanted)

    expected = backward(tape)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(-(2**31), 2**31, tape.shape, generator=generator, dtype=torch.int32)
    hostile = [torch.full_like(tape, v) for v in (-1, -(2**31), 2**31 - 1, 2**30, 10**6)]
    hostile.append(noise.to(tape.device))
    words = torch.randperm(len(tape), generator=generator)
    hostile += [tape.index_fill(0, words[k::9].to(tape.device), 5_000_000) for k in range(9)]
    for other in hostile:
        if kernels.name == "cpu":
            with pytest.raises(RuntimeError, match=r"^spikeprop: tape must be that of a forward"):
                backward(other)
        else:
            assert [g.shape for g in backward(other)] == [g.shape for g in expected]
    for got, want in zip(backward(tape), expected):
        torch.testing.assert_close(got, want, rtol=0, atol=0)
