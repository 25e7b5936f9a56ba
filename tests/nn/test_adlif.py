"""``AdLIF``: the op with learned parameters in the ranges of the papers."""

import copy

import pytest
import torch

from snnfast import nn as sn
from snnfast import ops

FORMS = ("baronig2025", "bittar2022")
BOUNDS = ("clamp", "sigmoid")
NAMES = ("tau", "tau_w", "a", "b")


def sequence(*shape, dtype=torch.float32, seed=0):
    x = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (x * 8).to(dtype).requires_grad_()


def make(*args, **kwargs):
    torch.manual_seed(0)
    return sn.AdLIF(*args, **kwargs)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("channels", [None, 3])
@pytest.mark.parametrize("shape", [(30, 2, 3), (12, 2, 3, 2, 2)])
def test_layer_is_its_op(form, bounds, channels, shape):
    layer, x = make(channels, form=form, bounds=bounds, return_v_seq=True), sequence(*shape)
    values = {
        n: layer.value(n).detach().view(-1, *(1,) * (len(shape) - 3)) if channels else layer.value(n)[0].detach()
        for n in NAMES
    }
    got = layer(x)
    reset = {"v_reset": 0.0, "detach_reset": True} if form == "baronig2025" else {"v_reset": None}
    want = ops.adlif(
        x,
        form=form,
        decay=torch.exp(-1 / values["tau"]),
        decay_w=torch.exp(-1 / values["tau_w"]),
        a=values["a"],
        b=values["b"],
        return_v_seq=True,
        **reset,
    )
    torch.testing.assert_close(got, (want[0], want[-1]), rtol=0, atol=0)
    assert 0 < got[0].mean() < 1
    grads = [torch.autograd.grad(out.sum(), x)[0] for out in (got[0], want[0])]
    torch.testing.assert_close(*grads, rtol=0, atol=0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bounds", BOUNDS)
def test_parameters_start_all_over_the_ranges_of_the_paper(form, bounds):
    layer = make(2000, form=form, bounds=bounds)
    ranges = {"baronig2025": ((5, 25), (60, 300), (0, 1), (0, 2)), "bittar2022": ((5, 25), (30, 120), (-1, 1), (0, 2))}[
        form
    ]
    for name, (low, high) in zip(NAMES, ranges, strict=True):
        value, width = layer.value(name), high - low
        assert ((value >= low) & (value <= high)).all(), name
        assert value.min() < low + 0.05 * width, name
        assert value.max() > high - 0.05 * width, name
        assert abs(value.mean() - (low + high) / 2) < 0.05 * width, name
    assert set(layer.state_dict()) == {f"raw_{name}" for name in NAMES}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bounds", BOUNDS)
def test_gradients_of_the_parameters_are_those_of_finite_differences_of_a_smooth_spike(form, bounds):
    layer = make(
        3, form=form, bounds=bounds, surrogate=lambda u: torch.sigmoid(0.7 * u), q=5.0, detach_reset=False
    ).double()
    x = sequence(20, 2, 3, dtype=torch.float64)

    def run(*raw):
        values = {f"raw_{name}": value for name, value in zip(NAMES, raw, strict=True)}
        return torch.func.functional_call(layer, values, (x,))

    raw = [getattr(layer, f"raw_{name}").detach().requires_grad_() for name in NAMES]
    assert torch.autograd.gradcheck(run, raw, fast_mode=True)


def test_a_clamped_parameter_has_no_gradient_outside_and_a_sigmoid_one_never_leaves():
    x = sequence(40, 2, 3)
    layer = make(3, a=(0.0, 0.0), b=(0.0, 2.0))
    with torch.no_grad():
        layer.raw_b.copy_(torch.tensor([-0.5, 1.0, 7.0]))
    assert layer.value("b").tolist() == [0.0, 1.0, 2.0]
    layer(x).sum().backward()
    assert (layer.raw_b.grad != 0).tolist() == [False, True, False]
    layer = make(3, a=(0.0, 0.0), b=(0.0, 2.0), bounds="sigmoid")
    with torch.no_grad():
        layer.raw_b.copy_(torch.tensor([-3.0, 0.0, 3.0]))
    torch.testing.assert_close(layer.value("b"), torch.tensor([0.0949, 1.0, 1.9051]), atol=1e-4, rtol=0)
    layer(x).sum().backward()
    assert (layer.raw_b.grad != 0).all()


def test_a_range_of_one_value_fixes_it():
    layer = make(3, tau=(8, 8), tau_w=(70, 70), a=(0.5, 0.5), b=(0, 0))
    assert [layer.value(name).unique().tolist() for name in NAMES] == [[8], [70], [0.5], [0]]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("channels", [None, 3])
def test_steps_and_parts_are_the_sequence(form, channels):
    whole, x = make(channels, form=form), sequence(9, 2, 3)
    single = make(channels, form=form, stateful=True)
    want = whole(x)
    torch.testing.assert_close(torch.stack([single.step(x_t) for x_t in x]), want, rtol=0, atol=0)
    assert single.w.shape == (2, 3)
    sn.reset(single)
    assert single.w is None
    torch.testing.assert_close(torch.cat([single(x[:4]), single(x[4:])]), want, rtol=0, atol=0)
    again = copy.deepcopy(single)
    torch.testing.assert_close(again(x), single(x), rtol=0, atol=0)
    assert {"v", "w"} <= set(single.state_dict())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtype_of_the_layer_follows_to(dtype):
    layer = make(3, stateful=True).to(dtype)
    assert layer(sequence(5, 2, 3, dtype=dtype)).dtype == dtype
    assert layer.w.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_compile_with_any_shape():
    torch._dynamo.reset()
    layer = make(5)
    run = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    for T, B in ((3, 4), (6, 2)):
        x, again = (sequence(T, B, 5) for _ in range(2))
        torch.testing.assert_close(run(x), layer(again), rtol=0, atol=0)


def test_repr_shows_what_is_learned():
    assert repr(make(4)).startswith(
        "AdLIF(channels=4, form=baronig2025, tau=(5.0, 25.0), tau_w=(60.0, 300.0), a=(0.0, 1.0), b=(0.0, 2.0), "
        "bounds=clamp, q=120.0, v_threshold=1.0, v_reset=0.0"
    )
    assert "v_reset=None" in repr(make(form="bittar2022"))
    assert "q=" not in repr(make(form="bittar2022"))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"form": "euler"}, ValueError, "AdLIF: form must be baronig2025 or bittar2022, got 'euler'"),
        ({"bounds": "none"}, ValueError, "AdLIF: bounds must be clamp or sigmoid, got 'none'"),
        ({"channels": 0}, ValueError, "AdLIF: channels must be at least 1"),
        ({"tau": 5.0}, TypeError, r"AdLIF: tau must be a range \(low, high\), got 5.0"),
        ({"tau": (0, 5)}, ValueError, r"AdLIF: tau must be a range \(low, high\) with 0 < low <= high"),
        ({"a": (2, 1)}, ValueError, r"AdLIF: a must be a range \(low, high\) with low <= high, got \(2, 1\)"),
        ({"b": ("0", 1)}, TypeError, "AdLIF: b must be a number"),
        ({"q": float("inf")}, ValueError, "AdLIF: q must be finite"),
        ({"v_reset": "none"}, TypeError, "AdLIF: v_reset must be a number"),
        ({"v_threshold": "1"}, TypeError, "AdLIF: v_threshold must be a number"),
    ],
)
def test_mistakes_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        sn.AdLIF(**arguments)


def test_input_of_other_channels_is_named():
    with pytest.raises(ValueError, match="AdLIF: raw_tau has 3 channels, so x must have shape"):
        make(3)(sequence(5, 2, 4))
