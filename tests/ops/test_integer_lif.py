"""``integer_lif``: worked examples, kernel against reference, saturation, and currents that are too large."""

import pytest
import torch
from backends import PRESENT

from snnfast import ops, reference
from snnfast.nn import IntegerLIF
from snnfast.reference.integer_lif import MOST_CURRENT, MOST_MEMBRANE

SHAPES = ((5, 3, 7), (4, 2, 3, 5, 4), (1, 1, 300), (0, 2, 3), (3, 0, 4), (2, 600, 1), (3, 2, 5, 9, 11))
KINDS = {"hard": {}, "soft": {"v_reset": None}, "membranes": {"v_threshold": None}, "to -5": {"v_reset": -5}}


def whole(*values):
    return torch.tensor(values, dtype=torch.int32)


def drawn(*shape, low=-9, high=30, seed=0):
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.int32)


def sequence(x, **arguments):
    return {"gain": drawn(x.shape[2], low=0), "bias": drawn(x.shape[2], seed=1), "v_threshold": 500} | arguments


def same(got, want):
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_by_hand():
    """Half of an odd membrane is rounded towards minus infinity."""
    x = whole(3, 0, -7, 0, 100, 0).view(6, 1, 1)
    y, v, cut = ops.integer_lif(x, gain=whole(5), bias=whole(2), v_threshold=90, v_reset=None)
    # 17; 8 + 2; 5 - 35 + 2; -14 + 2; -6 + 500 + 2 - 90; 203 + 2 - 90
    assert y.flatten().tolist() == [0, 0, 0, 0, 1, 1]
    assert (v.item(), cut.item()) == (115, 0)
    rows = ops.integer_lif(x, gain=whole(5), bias=whole(2), v_threshold=None)[0].flatten().tolist()
    assert rows == [17, 10, -28, -12, 496, 250]
    odd = ops.integer_lif(whole(-3, 0, 0).view(3, 1, 1), gain=whole(1), bias=whole(0), v_threshold=None)[0]
    assert odd.flatten().tolist() == [-3, -2, -1]


@pytest.mark.skipif("cpu" not in PRESENT, reason="no CPU kernels")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_reference(shape, kind):
    x = drawn(*shape)
    last = x.movedim(2, -1).contiguous().movedim(-1, 2)  # channels-last
    for layout in (
        x,
        last,
        x[:1].expand(4, *shape[1:]) if len(x) else x,
        x.transpose(0, 1).contiguous().transpose(0, 1),
    ):
        for decay in (0, 1, 20001, 32768):
            for v in (None, drawn(*shape[1:], low=-400, high=400, seed=3)):
                arguments = sequence(x, decay=decay, limit=700) | KINDS[kind]
                same(ops.integer_lif(layout, v, **arguments), reference.integer_lif(layout, v, **arguments))


def test_steps_in_parts_are_the_same():
    x = drawn(9, 2, 5)
    whole_run = ops.integer_lif(x, **sequence(x))
    first, v, _ = ops.integer_lif(x[:4], **sequence(x))
    second, v, _ = ops.integer_lif(x[4:], v, **sequence(x))
    same((torch.cat([first, second]), v), whole_run[:2])
    layer = IntegerLIF(**sequence(x), stateful=True)
    same((torch.stack([layer.step(row) for row in x]), layer.v), whole_run[:2])


@pytest.mark.parametrize("implementation", [ops, reference])
def test_the_largest_numbers_do_not_wrap(implementation):
    x = whole(1, -1).repeat(6, 1).view(6, 1, 2)
    arguments = {"gain": whole(*[MOST_CURRENT] * 2), "bias": whole(MOST_CURRENT, -MOST_CURRENT), "decay": 2**15}
    y, v, cut = implementation.integer_lif(x, **arguments, v_threshold=None)
    assert y[:, 0].tolist() == [[MOST_MEMBRANE, -MOST_MEMBRANE]] * 6
    assert (v.tolist(), cut.item()) == ([[MOST_MEMBRANE, -MOST_MEMBRANE]], 12)
    for sign in (1, -1):
        with pytest.raises((ValueError, RuntimeError), match="integer_lif: x gain must lie in"):
            implementation.integer_lif(2 * sign * x.abs(), **arguments)


def test_a_layer_counts_and_reports():
    layer = IntegerLIF(whole(10, 10), whole(0, 0), limit=50, v_threshold=40)
    x = whole(6, 1).view(1, 1, 2)
    with pytest.warns(UserWarning, match="1 of 2 membranes were beyond 50 and cut"):
        layer(x)
    layer(x)
    assert layer.saturated == 2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": torch.zeros(3, 2, 4)}, "x must have dtype int32"),
        ({"x": drawn(3, 2)}, r"x must have shape \[T, B, C, ...\], got \[3, 2\]"),
        ({"v": drawn(2, 5)}, r"v must have shape \[2, 4\], got \[2, 5\]"),
        ({"gain": drawn(3)}, r"gain must have shape \[4\], got \[3\]"),
        ({"gain": torch.ones(4)}, "gain must have the dtype of x"),
        ({"gain": whole(1, 1, 1, -1)}, "gain must lie in"),
        ({"bias": whole(1, 1, 1, MOST_CURRENT + 1)}, "bias must lie in"),
        ({"decay": 32769}, "decay must be at most 32768"),
        ({"v_threshold": 0}, "v_threshold must be at least 1"),
        ({"v_threshold": 2**30}, "v_threshold must be at most 1073741823"),
        ({"v_reset": -(2**30)}, "v_reset must be at least -1073741823"),
        ({"limit": 2**30}, "limit must be at most 1073741823"),
    ],
)
def test_errors(changed, message):
    x = drawn(3, 2, 4)
    for implementation in (ops, reference):
        with pytest.raises((TypeError, ValueError, RuntimeError), match=f"integer_lif: ({message})"):
            implementation.integer_lif(**{"x": x} | sequence(x) | changed)
