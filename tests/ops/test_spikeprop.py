"""First spike times and their gradients: by hand, by brute force, by finite differences, and between backends."""

import functools
import math
import warnings

import pytest
import torch
from backends import PRESENT, force

from snnfast import ops, reference

F64 = torch.float64
SILENT = "ignore:spikeprop. all outputs are silent"


def case(batch, inputs, terminals, outputs, seed=0, dtype=F64, coding="real", scale=1.0, tau=3.0):
    """Arguments of a random call: about a third of the inputs and of the outputs are silent."""
    g = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return torch.rand(shape, generator=g, dtype=F64)

    t_in = uniform(batch, inputs) * 10
    delays = uniform(inputs, terminals) * 6
    if coding == "integer":
        t_in, delays = t_in.round(), delays[:1].round().expand(inputs, -1)[0]
    if coding == "shared":
        delays = delays[0] if inputs else uniform(terminals)
    t_in = torch.where(uniform(batch, inputs) < 0.3, math.inf, t_in)
    w = (uniform(outputs, inputs, terminals) - 0.35) * scale * 14 / max(inputs * terminals, 1)
    return {
        "t_in": t_in.to(dtype),
        "w": w.to(dtype),
        "delays": delays.to(dtype),
        "tau": tau,
        "t_max": 18.0,
    }


def on(device, arguments):
    return {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}


def potential(a, t, strictly=True):
    """The potential ``[B, O]`` at times ``t`` ``[B, O]``, as the equation says."""
    events = (a["t_in"][:, :, None] + a["delays"]).flatten(1)
    s = (t[:, :, None] - events[:, None]).clamp(min=0) / a["tau"]
    s = torch.where(s.isfinite(), s, 0.0)
    return (a["w"].flatten(1) * s * torch.exp(1 - s)).sum(2)


@functools.cache
def brute_force(name, points=3601, threshold=1.0):
    """First crossings by a fine grid and bisection, and the largest potential on the grid."""
    a = case(**CASES[name])
    batch, outputs = a["t_in"].shape[0], a["w"].shape[0]
    grid = torch.linspace(0, a["t_max"], points, dtype=F64)
    shape = (batch, outputs)
    above = torch.full(shape, -1)
    largest = torch.zeros(shape, dtype=F64)
    for k, t in enumerate(grid):
        u = potential(a, t.expand(shape))
        above = torch.where((above < 0) & (u >= threshold), k, above)
        largest = torch.maximum(largest, u)
    fired = above > 0
    high = grid[above.clamp(min=1)]
    low = grid[above.clamp(min=1) - 1]
    for _ in range(60):
        middle = (low + high) / 2
        up = potential(a, middle) >= threshold
        low, high = torch.where(up, low, middle), torch.where(up, middle, high)
    return torch.where(fired, high, math.inf), largest


CASES = {
    "real": dict(batch=5, inputs=13, terminals=3, outputs=9),
    "one_terminal": dict(batch=4, inputs=30, terminals=1, outputs=21, coding="shared"),
    "integer": dict(batch=6, inputs=9, terminals=16, outputs=16, coding="integer"),
    "long_tau": dict(batch=4, inputs=20, terminals=2, outputs=7, tau=40.0, scale=1.5),
    "short_tau": dict(batch=4, inputs=20, terminals=2, outputs=7, tau=0.3, scale=3.0),
    "one_lane_more": dict(batch=2, inputs=11, terminals=2, outputs=17),
    "many": dict(batch=3, inputs=40, terminals=1, outputs=133, coding="shared"),
    "one": dict(batch=1, inputs=1, terminals=1, outputs=1, scale=0.5),
    "weak": dict(batch=3, inputs=10, terminals=2, outputs=30, scale=0.7),
}


@pytest.fixture(params=CASES)
def arguments(request):
    return case(**CASES[request.param])


# ---- by hand


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_one_input_crosses_where_lambert_w_says(backend, dtype):
    """w (s/tau) exp(1 - s/tau) = 1: with tau = 2 and w = 2 exp(-1/2), s = tau/2 exactly."""
    w = torch.full((1, 1, 1), 2 * math.exp(-0.5), dtype=dtype, device=backend.device)
    t_in = torch.tensor([[3.0], [0.0], [math.inf]], dtype=dtype, device=backend.device)
    delays = torch.tensor([0.5], dtype=dtype, device=backend.device)
    t, slope = ops.spikeprop(t_in, w, delays, tau=2.0, t_max=10.0, return_slope=True)
    tight = 1e-13 if dtype == F64 else 1e-5
    assert t[:2, 0].tolist() == pytest.approx([4.5, 1.5], abs=tight)
    assert t[2].item() == math.inf
    # u' = w (1 - s/tau) exp(1 - s/tau) / tau = 1/2
    assert slope[:2, 0].tolist() == pytest.approx([0.5, 0.5], abs=tight)
    assert slope[2].item() == math.inf


def test_gradients_of_one_input_by_hand(backend):
    """At the crossing above u' = 1/2 and eps = exp(1/2) / 2: dt/dw = -exp(1/2), dt/dt_in = 1, dt/dtau = s/tau."""
    w = torch.full((1, 1, 1), 2 * math.exp(-0.5), dtype=F64, device=backend.device).requires_grad_()
    t_in = torch.tensor([[3.0], [math.inf]], dtype=F64, device=backend.device, requires_grad=True)
    delays = torch.tensor([0.5], dtype=F64, device=backend.device, requires_grad=True)
    tau = torch.tensor(2.0, dtype=F64, device=backend.device, requires_grad=True)
    t = ops.spikeprop(t_in, w, delays, tau=tau, t_max=10.0)
    t[0].sum().backward()
    assert w.grad.item() == pytest.approx(-math.exp(0.5), abs=1e-12)
    assert t_in.grad[:, 0].tolist() == pytest.approx([1.0, 0.0], abs=1e-12)
    assert delays.grad.item() == pytest.approx(1.0, abs=1e-12)
    assert tau.grad.item() == pytest.approx(0.5, abs=1e-12)


def test_largest_potential_of_one_input_by_hand(backend):
    """It is w, a time tau after the event; where the window ends before, what was reached by then."""
    w = torch.tensor([[[0.75]], [[-1.0]]], dtype=F64, device=backend.device)
    t_in = torch.tensor([[1.0], [math.inf]], dtype=F64, device=backend.device)
    delays = torch.zeros(1, dtype=F64, device=backend.device)
    t, u = ops.spikeprop(t_in, w, delays, tau=2.0, t_max=9.0, return_u_max=True)
    assert (t == math.inf).all()
    assert u.tolist() == [[pytest.approx(0.75, abs=1e-15), 0.0], [0.0, 0.0]]
    _, u = ops.spikeprop(t_in, w, delays, tau=2.0, t_max=2.0, return_u_max=True)
    assert u[0].tolist() == [pytest.approx(0.375 * math.exp(0.5), abs=1e-15), 0.0]


def test_potential_of_a_spiking_neuron_is_the_threshold(backend):
    a = on(backend.device, case(**CASES["real"]))
    t, u = ops.spikeprop(**a, v_threshold=0.7, return_u_max=True)
    assert 0 < t.isfinite().float().mean() < 1
    assert (u[t.isfinite()] == 0.7).all()
    assert ((u[t.isinf()] < 0.7) & (u[t.isinf()] >= 0)).all()


def test_a_touch_between_two_events_counts(backend):
    """The potential of weight 1.0625 is above 1 only around one tau after the event, long before the next."""
    t_in = torch.tensor([[0.0, 9.0]], dtype=F64, device=backend.device)
    w = torch.tensor([[[1.0625], [0.0]], [[0.9375], [0.0]]], dtype=F64, device=backend.device)
    t = ops.spikeprop(t_in, w, t_in.new_zeros(1), tau=1.0, t_max=20.0)
    s = t[0, 0].item()
    assert 0.5 < s < 1
    assert 1.0625 * s * math.exp(1 - s) == pytest.approx(1.0, abs=1e-14)
    assert t[0, 1].item() == math.inf


def test_inhibition_at_the_same_time_cancels(backend):
    t_in = torch.tensor([[2.0, 2.0, 4.0]], dtype=F64, device=backend.device)
    w = torch.tensor([[[5.0], [-5.0], [math.e]]], dtype=F64, device=backend.device)
    t = ops.spikeprop(t_in, w, t_in.new_zeros(1), tau=1.0, t_max=20.0)
    only = ops.spikeprop(t_in[:, 2:], w[:, 2:], t_in.new_zeros(1), tau=1.0, t_max=20.0)
    assert t.item() == pytest.approx(only.item(), abs=1e-14)
    assert t.item() > 4


def test_a_crossing_counts_up_to_t_max(backend):
    """The crossing of the first test lies at 4.5."""
    w = torch.full((1, 1, 1), 2 * math.exp(-0.5), dtype=F64, device=backend.device)
    t_in = torch.tensor([[3.0]], dtype=F64, device=backend.device)
    delays = t_in.new_full((1,), 0.5)
    assert ops.spikeprop(t_in, w, delays, tau=2.0, t_max=4.51).item() == pytest.approx(4.5)
    assert ops.spikeprop(t_in, w, delays, tau=2.0, t_max=4.49).item() == math.inf


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_times_of_the_grid_by_hand(backend, dtype):
    """u = 2 exp(-1/2) s/2 exp(1 - s/2) from t = 3.5 on crosses 1 at 4.5, so on the grid at 4.5, 5, 4.6."""
    w = torch.full((1, 1, 1), 2 * math.exp(-0.5) * 1.0001, dtype=dtype, device=backend.device)
    t_in = torch.tensor([[3.0]], dtype=dtype, device=backend.device)
    delays = t_in.new_full((1,), 0.5)
    for dt, expected in ((0.5, 4.5), (1.0, 5.0), (0.2, 4.6), (3.0, 6.0)):
        t = ops.spikeprop(t_in, w, delays, tau=2.0, t_max=10.0, dt=dt)
        assert t.item() == pytest.approx(expected, abs=1e-6)
    assert ops.spikeprop(t_in, w, delays, tau=2.0, t_max=20.0, dt=9.0).item() == math.inf


def test_grid_does_not_see_what_happens_between_its_points(backend):
    """Up at 1.0, down again at 1.5 by inhibition; the potential at 2 is far below the threshold."""
    t_in = torch.tensor([[1.0, 1.5]], dtype=F64, device=backend.device)
    w = torch.tensor([[[9.0], [-40.0]]], dtype=F64, device=backend.device)
    exact = ops.spikeprop(t_in, w, t_in.new_zeros(1), tau=2.0, t_max=6.0)
    assert 1 < exact.item() < 1.5
    t, u = ops.spikeprop(t_in, w, t_in.new_zeros(1), tau=2.0, t_max=6.0, dt=1.0, return_u_max=True)
    assert t.item() == math.inf
    assert u.item() == 0.0
    # on the grid of 0.5 the potential is above the threshold at 1.5, where the inhibition only starts
    assert ops.spikeprop(t_in, w, t_in.new_zeros(1), tau=2.0, t_max=6.0, dt=0.5).item() == 1.5


@pytest.mark.parametrize("weight", [-2.0, 3.0])
def test_an_event_at_the_time_of_the_spike_has_no_influence_on_the_grid_either(backend, weight):
    """u(4) = eps(4) = 4/7 exp(3/7) is the first above 0.8, and u' = 3/49 exp(3/7), whatever arrives at 4."""
    t_in = torch.tensor([[0.0, 4.0]], dtype=F64, device=backend.device, requires_grad=True)
    w = torch.tensor([[[1.0], [weight]]], dtype=F64, device=backend.device, requires_grad=True)
    more = {"tau": 7.0, "v_threshold": 0.8, "t_max": 30.0, "dt": 1.0}
    t, slope = ops.spikeprop(t_in, w, t_in.new_zeros(1), return_slope=True, **more)
    t.sum().backward()
    assert (t.item(), slope.item()) == (4, pytest.approx(3 / 49 * math.exp(3 / 7)))
    assert t_in.grad.tolist() == [[pytest.approx(1), 0]]
    assert w.grad.flatten().tolist() == [pytest.approx(-28 / 3), 0]


# ---- by brute force


@pytest.mark.filterwarnings(SILENT)
@pytest.mark.parametrize("name", CASES)
def test_brute_force_finds_the_same_times(backend, name):
    expected, largest = brute_force(name)
    t, u = ops.spikeprop(**on(backend.device, case(**CASES[name])), return_u_max=True)
    t, u = t.cpu(), u.cpu()
    torch.testing.assert_close(t.isfinite(), expected.isfinite(), rtol=0, atol=0)
    fired = expected.isfinite()
    torch.testing.assert_close(t[fired], expected[fired], rtol=0, atol=1e-11)
    assert (u[~fired] >= largest[~fired] - 1e-12).all()
    torch.testing.assert_close(u[~fired], largest[~fired], rtol=0, atol=1e-3)


def test_cases_have_spikes_and_silence():
    share = torch.cat([brute_force(name)[0].isfinite().flatten() for name in CASES])
    assert 0.2 < share.double().mean() < 0.8


@pytest.mark.filterwarnings(SILENT)
@pytest.mark.parametrize("dt", [0.1, 0.25, 1.0, 7.0])
def test_grid_times_are_the_first_points_above(backend, arguments, dt):
    batch, outputs = arguments["t_in"].shape[0], arguments["w"].shape[0]
    points = [k * dt for k in range(1 + int(18.0 / dt * (1 + 1e-9)))]
    u = torch.stack(
        [potential(arguments, torch.full((batch, outputs), t, dtype=F64)) for t in points]
    )
    clear = ((u - 1).abs() > 1e-12).all(0)
    assert clear.all()
    first = (u >= 1).byte().argmax(0)
    expected = torch.where((u >= 1).any(0), torch.tensor(points, dtype=F64)[first], math.inf)
    t, u_max = ops.spikeprop(**on(backend.device, arguments), dt=dt, return_u_max=True)
    torch.testing.assert_close(t.cpu(), expected, rtol=0, atol=0)
    largest = torch.where(expected.isfinite(), 1.0, u.amax(0).clamp(min=0))
    torch.testing.assert_close(u_max.cpu(), largest, rtol=0, atol=1e-13)


# ---- float32


@pytest.mark.filterwarnings(SILENT)
def test_float32_agrees_with_float64(backend, arguments):
    wide = ops.spikeprop(**on(backend.device, arguments))
    narrow = ops.spikeprop(
        **{
            k: v.to(backend.device, torch.float32) if isinstance(v, torch.Tensor) else v
            for k, v in arguments.items()
        }
    )
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow.isfinite(), wide.isfinite(), rtol=0, atol=0)
    fired = wide.isfinite()
    torch.testing.assert_close(narrow[fired].double(), wide[fired], rtol=0, atol=2e-4)


def test_float32_stays_accurate_over_a_window_of_hundreds_of_tau(backend):
    """The same volley at 0 and at 900 tau: a sum with one origin would overflow or lose all digits."""
    g = torch.Generator().manual_seed(3)
    volley = torch.rand(1, 30, generator=g, dtype=F64) * 3
    w = torch.rand(12, 30, 1, generator=g, dtype=F64) / 8
    a = {"w": w, "delays": torch.zeros(1, dtype=F64), "tau": 1.0}
    expected = reference.spikeprop(volley, **a, t_max=10.0)
    assert expected.isfinite().all()
    weak = torch.cat((volley, volley + 900), 1)
    both = torch.cat((w * 0.01, w), 1)
    t = ops.spikeprop(
        weak.float().to(backend.device),
        both.float().to(backend.device),
        torch.zeros(1, device=backend.device),
        tau=1.0,
        t_max=1000.0,
    )
    torch.testing.assert_close(t.cpu().double(), expected + 900, rtol=0, atol=4e-4)


# ---- gradients


def loss(a, dt=None, weigh_u=0.0, **more):
    """A sum of all spike times, squared so that every neuron counts differently, and of silent potentials."""
    t, u = ops.spikeprop(**a, dt=dt, return_u_max=True, **more)
    fired = t.isfinite()
    value = torch.where(fired, (torch.where(fired, t, 0.0) - 5) ** 2, 0.0).sum()
    return value + weigh_u * (u**2).sum()


def leaves(a, device="cpu"):
    """The arguments with every tensor, and tau as one, a leaf that wants a gradient."""
    a = {**a, "tau": torch.tensor(a["tau"], dtype=a["w"].dtype)}
    return {
        k: v.detach().clone().to(device).requires_grad_() if isinstance(v, torch.Tensor) else v
        for k, v in a.items()
    }


GRADED = ("t_in", "w", "delays", "tau")


@pytest.mark.filterwarnings(SILENT)
@pytest.mark.parametrize(
    ("name", "weigh_u"),
    [
        ("real", 0.0),
        *((n, 1.0) for n in ("real", "one_terminal", "long_tau", "weak", "one_lane_more")),
    ],
)
def test_gradients_by_finite_differences(backend, name, weigh_u):
    a = leaves(case(**CASES[name]), backend.device)
    more = {"slope_min": 1e-6}
    value = loss(a, weigh_u=weigh_u, **more)
    grads = dict(zip(GRADED, torch.autograd.grad(value, [a[k] for k in GRADED])))

    def state():
        return ops.spikeprop(**a, validate=False).isfinite()

    h, checked, fired = 1e-6, 0, state()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key in GRADED:
            flat = a[key].view(-1)
            chosen = torch.randperm(flat.numel(), generator=generator)[:6]
            for i in chosen[flat[chosen.to(flat.device)].isfinite().cpu()].tolist():
                values, same = [], True
                for step in (h, -h):
                    flat[i] += step
                    values.append(loss(a, weigh_u=weigh_u, validate=False, **more).item())
                    same &= torch.equal(state(), fired)
                    flat[i] -= step
                if not same:
                    continue  # a spike came or went: there is no derivative
                found = grads[key].reshape(-1)[i].item()
                difference = (values[0] - values[1]) / (2 * h)
                assert found == pytest.approx(difference, rel=2e-5, abs=2e-6), (key, i)
                checked += 1
    assert checked > 10


@pytest.mark.filterwarnings(SILENT)
def test_peak_at_an_inhibitory_event_moves_with_it(backend):
    """Excitation at 0, strong inhibition at 0.6: the largest potential is u(0.6) = 0.8 * 0.6 exp(0.4)."""
    t_in = torch.tensor([[0.0, 0.6]], dtype=F64, device=backend.device, requires_grad=True)
    w = torch.tensor([[[0.8], [-9.0]]], dtype=F64, device=backend.device, requires_grad=True)
    delays = torch.zeros(2, 1, dtype=F64, device=backend.device, requires_grad=True)
    tau = torch.ones((), dtype=F64, device=backend.device, requires_grad=True)
    _, u = ops.spikeprop(t_in, w, delays, tau=tau, t_max=5.0, return_u_max=True)
    assert u.item() == pytest.approx(0.48 * math.exp(0.4), abs=1e-15)
    u.backward()
    slope = 0.8 * 0.4 * math.exp(0.4)
    assert t_in.grad[0].tolist() == pytest.approx([-slope, slope], abs=1e-14)
    assert delays.grad[:, 0].tolist() == pytest.approx([-slope, slope], abs=1e-14)
    assert w.grad.flatten().tolist() == pytest.approx([0.6 * math.exp(0.4), 0.0], abs=1e-14)
    assert tau.grad.item() == pytest.approx(-0.6 * slope, abs=1e-14)


@pytest.mark.filterwarnings(SILENT)
def test_peak_at_tied_events_moves_with_the_one_that_turns_it(backend):
    """At 0.6 come +0.5, -9 and -9: in this order the second turns the slope, and takes what is left of it."""
    t_in = torch.tensor([[0.0, 0.6, 0.6, 0.6]], dtype=F64, device=backend.device)
    t_in.requires_grad_()
    w = torch.tensor([[[0.8], [0.5], [-9.0], [-9.0]]], dtype=F64, device=backend.device)
    delays = torch.zeros(1, dtype=F64, device=backend.device)
    _, u = ops.spikeprop(t_in, w, delays, tau=1.0, t_max=5.0, return_u_max=True)
    u.backward()
    slope = 0.8 * 0.4 * math.exp(0.4)
    start = 0.5 * math.e
    assert t_in.grad[0].tolist() == pytest.approx([-slope, -start, slope + start, 0.0], abs=1e-14)


@pytest.mark.filterwarnings(SILENT)
def test_slope_guard_bounds_the_gradient(backend):
    """Where u' = 1/2 and th / tau = 1/2, a bound of 4 th / tau divides by 2 instead of by 1/2."""
    w = torch.full((1, 1, 1), 2 * math.exp(-0.5), dtype=F64, device=backend.device).requires_grad_()
    t_in = torch.tensor([[3.0]], dtype=F64, device=backend.device)
    for slope_min, divisor in ((0.05, 0.5), (1.0 + 1e-9, 0.5), (4.0, 2.0)):
        t, slope = ops.spikeprop(
            t_in,
            w,
            t_in.new_zeros(1),
            tau=2.0,
            t_max=9.0,
            slope_min=slope_min,
            return_slope=True,
        )
        (grad,) = torch.autograd.grad(t.sum(), w)
        assert grad.item() == pytest.approx(-0.5 * math.exp(0.5) / divisor, abs=1e-8)
        assert not slope.requires_grad
        assert (slope < slope_min * 0.5 - 1e-6).item() == (slope_min > 2)


@pytest.mark.filterwarnings(SILENT)
@pytest.mark.parametrize("dt", [None, 0.25])
def test_silence_gives_zeros_never_nan(backend, dt):
    a = leaves({**case(**CASES["weak"]), "tau": 3.0}, backend.device)
    with torch.no_grad():
        a["t_in"][0] = math.inf
        a["w"] *= 0.2
    t, u = ops.spikeprop(**a, dt=dt, return_u_max=True)
    assert t.isinf().all()
    assert not u[0].any()
    # not even an infinite or undefined gradient passes through a silent output
    for weight in (1.0, math.inf, math.nan):
        grads = torch.autograd.grad(t, list(a[k] for k in GRADED), torch.full_like(t, weight), True)
        assert all((g == 0).all() for g in grads)
    grads = torch.autograd.grad(u.sum(), [a[k] for k in GRADED])
    assert all(g.isfinite().all() for g in grads)
    assert (grads[0][0] == 0).all()
    assert any(g.any() for g in grads)


def relative_error(got, want, scale):
    """Of the largest value, or of ``scale`` where all are smaller, as sums that cancel are."""
    return ((got - want).abs().max() / want.abs().max().clamp(min=scale)).item()


@pytest.mark.filterwarnings(SILENT)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("dt", [None, 0.25])
@pytest.mark.parametrize("name", CASES)
def test_kernels_agree_with_the_reference(kernels, name, dt, dtype):
    a = leaves(case(**CASES[name], dtype=dtype))
    want = reference.spikeprop(**a, dt=dt, return_u_max=True, return_slope=True)
    there = {
        k: v.detach().to(kernels.device).requires_grad_() if isinstance(v, torch.Tensor) else v
        for k, v in a.items()
    }
    got = ops.spikeprop(**there, dt=dt, return_u_max=True, return_slope=True)
    tight = 1e-12 if dtype == F64 else 1e-4
    for g, w, scale in zip(got, want, (18.0, 1.0, 1.0)):
        assert (g.shape, g.dtype, g.device.type) == (w.shape, w.dtype, kernels.device)
        assert g.is_contiguous()
        torch.testing.assert_close(g.isfinite().cpu(), w.isfinite(), rtol=0, atol=0)
        seen = w.isfinite()
        torch.testing.assert_close(g.cpu()[seen], w[seen], rtol=0, atol=tight * scale)
    weights = torch.rand(want[0].shape, generator=torch.Generator().manual_seed(2), dtype=F64)
    weights = weights.to(dtype)
    for k in range(2):
        inputs = [there[name] for name in GRADED]
        grads = torch.autograd.grad(got[k], inputs, weights.to(kernels.device), True)
        wanted = torch.autograd.grad(want[k], [a[name] for name in GRADED], weights, True)
        scale = max(wanted[0].abs().max().item(), 1e-30)
        for g, w in zip(grads, wanted):
            assert (g.shape, g.dtype) == (w.shape, w.dtype)
            # steep functions of the times: their rounding is amplified by 1 / slope
            assert relative_error(g.cpu(), w, scale) < (1e-12 if dtype == F64 else 1e-3)


@pytest.mark.filterwarnings(SILENT)
def test_only_what_is_asked_for_gets_a_gradient(backend):
    full = leaves(case(**CASES["real"]), backend.device)
    all_grads = torch.autograd.grad(loss(full, weigh_u=1.0), [full[k] for k in GRADED])
    for k, want in zip(GRADED, all_grads):
        a = {n: v.detach() if isinstance(v, torch.Tensor) else v for n, v in full.items()}
        a[k].requires_grad_()
        (grad,) = torch.autograd.grad(loss(a, weigh_u=1.0), a[k])
        torch.testing.assert_close(grad, want, rtol=1e-13, atol=1e-13)
    plain = {k: v.detach() if isinstance(v, torch.Tensor) else v for k, v in full.items()}
    assert not ops.spikeprop(**plain).requires_grad
    with torch.no_grad():
        assert not ops.spikeprop(**full).requires_grad


def test_second_derivative_raises(backend):
    a = leaves(case(**CASES["real"]), backend.device)
    (grad,) = torch.autograd.grad(loss(a), a["w"], create_graph=True)
    with pytest.raises(RuntimeError, match="spikeprop: a second derivative was asked for"):
        grad.sum().backward()


def test_trains_through_two_layers(backend):
    """Plain gradient descent moves output spikes to their targets through a hidden layer with learnable delays."""
    g = torch.Generator().manual_seed(0)
    t_in = (torch.rand(4, 3, generator=g) * 6).to(backend.device)
    w1 = (torch.rand(5, 3, 4, generator=g) * 0.4).to(backend.device).requires_grad_()
    w2 = (torch.rand(2, 5, 4, generator=g) * 0.4).to(backend.device).requires_grad_()
    delays = torch.arange(2.0, 9.0, 2.0, device=backend.device).requires_grad_()
    target = torch.tensor([[11.0, 13.0]], device=backend.device)
    optimizer = torch.optim.Adam([w1, w2, delays], lr=0.02)
    errors = []
    for _ in range(60):
        hidden = ops.spikeprop(t_in, w1, delays, tau=4.0, t_max=20.0)
        out = ops.spikeprop(hidden, w2, delays, tau=4.0, t_max=30.0)
        error = ((out - target) ** 2).mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[0] > 1
    assert errors[-1] < 0.05


# ---- layouts, sizes, determinism


@pytest.mark.filterwarnings(SILENT)
@pytest.mark.parametrize("dt", [None, 0.5])
def test_layout_does_not_matter(backend, dt):
    a = on(backend.device, case(**CASES["real"]))
    expected = [*ops.spikeprop(**a, dt=dt, return_u_max=True)]
    layouts = {
        "t_in": (lambda v: v.mT.contiguous().mT, lambda v: torch.stack((v, v), 2)[:, :, 0]),
        "w": (
            lambda v: v.permute(2, 0, 1).contiguous().permute(1, 2, 0),
            lambda v: v.flip(1).flip(1),
        ),
        "delays": (lambda v: v.mT.contiguous().mT,),
    }
    for name, views in layouts.items():
        for view in views:
            found = ops.spikeprop(**{**a, name: view(a[name])}, dt=dt, return_u_max=True)
            for f, e in zip(found, expected):
                torch.testing.assert_close(f, e, rtol=0, atol=0)
    one = a["t_in"][:1].expand(5, -1)
    torch.testing.assert_close(
        ops.spikeprop(**{**a, "t_in": one}, dt=dt),
        ops.spikeprop(**{**a, "t_in": a["t_in"][:1]}, dt=dt).expand(5, -1),
        rtol=0,
        atol=0,
    )


def test_gradients_of_expanded_arguments(backend):
    a = leaves(case(**CASES["real"]), backend.device)
    base = a["w"].detach()[:1].clone().requires_grad_()
    (grad,) = torch.autograd.grad(loss({**a, "w": base.expand(4, -1, -1)}), base)
    copied = base.detach().expand(4, -1, -1).contiguous().requires_grad_()
    (want,) = torch.autograd.grad(loss({**a, "w": copied}), copied)
    torch.testing.assert_close(grad, want.sum(0, keepdim=True), rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings(SILENT)
@pytest.mark.parametrize("dt", [None, 0.5])
@pytest.mark.parametrize("sizes", [(0, 4, 2, 3), (3, 0, 2, 4), (3, 4, 2, 0), (0, 0, 1, 0)])
def test_empty_sizes(backend, sizes, dt):
    a = leaves(case(*sizes), backend.device)
    t, u, slope = ops.spikeprop(**a, dt=dt, return_u_max=True, return_slope=True)
    assert t.shape == u.shape == slope.shape == (sizes[0], sizes[3])
    assert (t == math.inf).all()
    assert not u.any()
    for grad, key in zip(torch.autograd.grad((t + u).sum(), [a[k] for k in GRADED]), GRADED):
        assert grad.shape == a[key].shape
        assert not grad.any()


@pytest.mark.filterwarnings(SILENT)
@pytest.mark.parametrize("outputs", [1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130])
def test_number_of_outputs_around_the_lanes(kernels, outputs):
    a = on(kernels.device, case(3, 9, 2, 130, dtype=torch.float32))
    whole = ops.spikeprop(**a, return_u_max=True)
    part = ops.spikeprop(**{**a, "w": a["w"][:outputs]}, return_u_max=True)
    for p, v in zip(part, whole):
        torch.testing.assert_close(p, v[:, :outputs], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["integer", "many"])
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_number_of_threads_does_not_matter(name, threads):
    if "cpu" not in PRESENT:
        pytest.skip("no CPU kernels")
    before = torch.get_num_threads()
    found = []
    a = leaves(case(**{**CASES[name], "batch": 70}, dtype=torch.float32))
    try:
        for count in (1, threads):
            torch.set_num_threads(count)
            t, u = ops.spikeprop(**a, return_u_max=True)
            grads = torch.autograd.grad(
                (t[t.isfinite()] ** 2).sum() + (u**2).sum(), [a[k] for k in GRADED]
            )
            found.append((t, u, *grads))
    finally:
        torch.set_num_threads(before)
    for one, other in zip(*found):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_more_terminals_than_are_sorted_in_shared_memory(kernels, dtype):
    a = case(2, 40, 20, 70, coding="integer", dtype=dtype)
    want = reference.spikeprop(**a, return_u_max=True)
    got = ops.spikeprop(**on(kernels.device, a), return_u_max=True)
    assert want[0].isfinite().any()
    for g, w in zip(got, want):
        torch.testing.assert_close(g.cpu(), w, rtol=0, atol=1e-11 if dtype == F64 else 1e-3)


@pytest.mark.parametrize("seed", ["rev", "rand:1"])
@pytest.mark.parametrize("outputs", [5, 140])
def test_order_of_cuda_threads_changes_nothing(seed, outputs, monkeypatch):
    if "cuda_emulation" not in PRESENT:
        pytest.skip("built without SNNFAST_EMULATION=1")
    found = []
    for schedule in ("fwd", seed):
        monkeypatch.setenv("SNNFAST_EMULATION_SCHEDULE", schedule)
        a = leaves(case(3, 20, 2, outputs, dtype=torch.float32))
        with force("cuda_emulation"):
            t, u = ops.spikeprop(**a, return_u_max=True)
            grads = torch.autograd.grad(
                (t[t.isfinite()] ** 2).sum() + (u**2).sum(), [a[k] for k in GRADED]
            )
        found.append((t, u, *grads))
    for one, other in zip(*found):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("coding", ["real", "integer", "shared"])
def test_order_of_the_inputs_does_not_matter(backend, coding):
    a = on(backend.device, case(4, 50, 4, 20, coding=coding))
    order = torch.randperm(50, generator=torch.Generator().manual_seed(4))
    delays = a["delays"] if a["delays"].dim() == 1 else a["delays"][order]
    shuffled = {**a, "t_in": a["t_in"][:, order], "w": a["w"][:, order], "delays": delays}
    torch.testing.assert_close(
        ops.spikeprop(**a), ops.spikeprop(**shuffled), rtol=0, atol=1e-11, equal_nan=True
    )


# ---- bad input


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
        (
            {"delays": torch.ones(4, 3, 2)},
            ValueError,
            "delays must have shape [K] or [I, K], got [4, 3, 2]",
        ),
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
        (
            {"w": torch.ones(4, 3, 2, device="meta")},
            ValueError,
            "w must be on the device of t_in, cpu, got meta",
        ),
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
            "t_in must hold times that are at least 0 and not NaN, inf for no spike, "
            "got values from nan to nan",
        ),
        (
            {"t_in": torch.tensor([[0.0, -1.0, 1.0]])},
            ValueError,
            "t_in must hold times that are at least 0 and not NaN, inf for no spike, "
            "got values from -1 to 1",
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
        (
            {"v_threshold": 1e-39},
            ValueError,
            "v_threshold must lie within the range of float32, got 1e-39",
        ),
        ({"t_max": math.inf}, ValueError, "t_max must be finite, got inf"),
        ({"t_max": 0}, ValueError, "t_max must be positive, got 0"),
        ({"dt": 0.0}, ValueError, "dt must be positive, got 0"),
        (
            {"w": torch.full((4, 3, 2), math.nan)},
            ValueError,
            "w must be finite, got NaN or infinity",
        ),
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
    torch.testing.assert_close(
        t, alone, rtol=0, atol=0
    )  # later than t_max and NaN count as no spike


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


# ---- the kernels as PyTorch sees them


def test_compiles_to_one_graph(kernels):
    a = leaves(case(**CASES["real"]), kernels.device)

    def run(a):
        t, u = ops.spikeprop(**a, return_u_max=True)
        return torch.where(t.isfinite(), t, 20.0).sum() + 2 * u.sum()

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    want = torch.autograd.grad(run(a), [a[k] for k in GRADED])
    got = torch.autograd.grad(compiled(a), [a[k] for k in GRADED])
    for g, w in zip(got, want):
        torch.testing.assert_close(g, w, rtol=1e-13, atol=1e-13)


def gradients_of(run, a):
    return torch.autograd.grad(run(*(a[k] for k in GRADED)), [a[k] for k in GRADED])


@pytest.mark.filterwarnings(SILENT)
def test_gradients_are_the_same_however_it_runs(kernels):
    """The raw op, vmap, torch.export, AOT and torch.compile give what the op gives."""
    a = leaves(case(**CASES["real"]), kernels.device)

    def run(t_in, w, delays, tau):
        t, u = ops.spikeprop(t_in, w, delays, tau=tau, t_max=18.0, return_u_max=True)
        return torch.where(t.isfinite(), t, 20.0).sum() + 2 * u.sum()

    class Module(torch.nn.Module):
        def forward(self, *inputs):
            return run(*inputs)

    def raw(t_in, w, delays, tau):
        numbers = (1.0, 18.0, 0.0, 0, 0.05, True, False, False)
        t, u, *_ = kernels.ops.spikeprop_forward(t_in, w, delays, 0.0, tau, *numbers)
        return torch.where(t.isfinite(), t, 20.0).sum() + 2 * u.sum()

    def mapped(t_in, w, delays, tau):
        one = torch.vmap(lambda t: run(t[None], w, delays, tau))
        return one(t_in).sum()

    inputs = tuple(a[k] for k in GRADED)
    detached = tuple(v.detach() for v in inputs)
    exported = torch.export.export(Module(), detached).module()
    ways = {
        "raw": raw,
        "vmap": mapped,
        "export": exported,
        "decomposed": torch.export.export(Module(), detached).run_decompositions().module(),
        "aot_eager": torch.compile(run, fullgraph=True, backend="aot_eager"),
        "eager": torch.compile(run, fullgraph=True, backend="eager"),
    }
    want = gradients_of(run, a)
    assert all(g.any() for g in want)
    for name, way in ways.items():
        for got, expected in zip(gradients_of(way, a), want):
            torch.testing.assert_close(
                got, expected, rtol=1e-12, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}"
            )


@pytest.mark.filterwarnings(SILENT)
@pytest.mark.parametrize("name", ["t_in", "w", "delays"])
def test_vmap_equals_a_loop(kernels, name):
    a = on(kernels.device, case(**CASES["real"]))
    batch = torch.stack((a[name], a[name] * 0.9, a[name] * 0.8), 1).requires_grad_()

    def one(value):
        return ops.spikeprop(**{**a, name: value}, return_u_max=True)

    def value(t, u):
        return torch.where(t.isfinite(), t, 20.0).sum() + u.sum()

    got, want = torch.vmap(one, in_dims=1)(batch), [one(b) for b in batch.unbind(1)]
    for g, w in zip(got, zip(*want)):
        torch.testing.assert_close(g, torch.stack(w), rtol=0, atol=0)
    grads = torch.autograd.grad(value(*got), batch)[0]
    expected = torch.autograd.grad(sum(value(*w) for w in want), batch)[0]
    torch.testing.assert_close(grads, expected, rtol=1e-12, atol=1e-12)


def forward_arguments(a, dt=0.0, grid_points=0, return_u_max=True):
    """Plain arguments of the raw kernels."""
    tensors = [v.contiguous() for v in (a["t_in"], a["w"], a["delays"])]
    numbers = (1.0, 18.0, dt, grid_points, 0.05, return_u_max, False, False)
    return (*tensors, a["tau"], None, *numbers)


@pytest.mark.parametrize("return_u_max", [False, True])
def test_opcheck(kernels, return_u_max):
    a = on(kernels.device, case(**CASES["one_lane_more"], dtype=torch.float32))
    for requires_grad in (False, True):
        a["w"] = a["w"].detach().requires_grad_(requires_grad)
        arguments = forward_arguments(a, return_u_max=return_u_max)
        torch.library.opcheck(kernels.ops.spikeprop_forward.default, arguments)
    arguments = tuple(v.detach() if isinstance(v, torch.Tensor) else v for v in arguments)
    t, u, slope, tape, _ = kernels.ops.spikeprop_forward(*arguments)
    more = (t, slope, tape, torch.ones_like(t), torch.ones_like(u) if return_u_max else None)
    wanted = (True, True, True, False)
    torch.library.opcheck(kernels.ops.spikeprop_backward.default, (*arguments, *more, *wanted))


@pytest.mark.parametrize("dt", [0.0, 0.5])
@pytest.mark.parametrize("return_u_max", [False, True])
def test_a_tape_from_elsewhere_reads_and_writes_nothing_outside(kernels, dt, return_u_max):
    """Any 32-bit words where the tape of the forward pass should be: an error, or a gradient without a meaning."""
    a = on(kernels.device, case(6, 50, 4, 20, dtype=torch.float32))
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


@pytest.mark.filterwarnings(SILENT)
@pytest.mark.parametrize("batch", [16, 17, 33, 130])
@pytest.mark.parametrize("outputs", [3, 40])
def test_gradient_of_weights_over_pieces_of_the_batch(kernels, batch, outputs):
    """From 17 samples on the CPU sums the gradient of the weights in pieces of the batch."""
    a = leaves(case(batch, 7, 3, outputs), kernels.device)
    (whole,) = torch.autograd.grad(loss(a, weigh_u=1.0), a["w"])
    alone = torch.zeros_like(whole)
    for t in a["t_in"].detach().split(1):
        alone += torch.autograd.grad(loss({**a, "t_in": t}, weigh_u=1.0), a["w"])[0]
    assert alone.any(dim=2).all()
    torch.testing.assert_close(whole, alone, rtol=1e-11, atol=1e-11)


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
    with pytest.raises(
        RuntimeError, match=r"^spikeprop: a tensor of shape \[\d+, \d+\] is too large"
    ):
        kernels.ops.spikeprop_forward(
            *forward_arguments({"t_in": t_in, "w": w, "delays": delays, "tau": 2.0})
        )
