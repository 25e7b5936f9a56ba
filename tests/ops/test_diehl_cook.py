"""The network of Diehl and Cook: worked by hand, the same on every backend bit for bit, cut in time, and safe."""

import functools
import math

import pytest
import torch
from backends import PRESENT, force
from interpreter import python

from snnfast import ops, plasticity, reference
from snnfast.calls.call import flatten
from snnfast.ops import DiehlCookState, Events, Rates

RULES = {
    "none": None,
    "pair": plasticity.pair(1e-3, 0.01),
    "pair, all spikes": plasticity.pair(1e-3, 0.01, trace="all"),
    "power law": plasticity.power_law(0.05, x_tar=0.1),
    "exponential": plasticity.exponential(0.05),
    "pre and post": plasticity.pre_post(1e-3, 0.03),
    "triplet": plasticity.triplet(1e-3, 0.03, lr_pre_triplet=1e-3, lr_post_pair=1e-3),
    "soft bounds": plasticity.soft_bounds(1e-3, 0.03),
    "negative weights": plasticity.pair(1e-3, 0.01, w_min=-0.2, w_max=0.5),
}
ROUNDED = ("power law", "exponential", "pre and post")  # float32 has functions of its own there
DYNAMICS = {
    "one winner at once": {"inhibition_delay": 0, "one_winner": True},
    "many winners at once": {"inhibition_delay": 0, "inhibition": 9.0, "refractory": 2.5},
    "one winner a step later": {"inhibition_delay": 1, "one_winner": True, "inhibition": 17.0},
    "many winners two steps later": {"inhibition_delay": 2},
    "threshold that decays": {"tau_theta": 300.0, "theta_plus": 0.4, "inhibition": 5.0},
    "frozen": {"theta_plus": 0.0, "inhibition": 3.0},
}
WEAK = {"inhibition": 0.5}  # with which one winner of many neurons lets others win the next steps
# N, I: one group of 64 neurons or several, whole and partial; inputs in every phase of Philox's counters of 4.
SIZES = ((5, 31), (64, 28), (70, 30), (130, 49))


def sample(sizes, dtype=torch.float64, count=3, steps=60, seed=0, low=0.0):
    """Weights, thresholds and rates that make some, not all, neurons spike."""
    n, i = sizes
    generator = torch.Generator().manual_seed(seed)
    w = (torch.rand(n, i, generator=generator, dtype=torch.float64) * 0.4 + low).to(dtype)
    theta = torch.rand(n, generator=generator, dtype=torch.float64).to(dtype)
    hz = (
        torch.rand(count, i, generator=generator)
        * 300
        * (torch.rand(count, i, generator=generator) < 0.4)
    )
    return w, theta, Rates(hz, steps, torch.arange(count) + 7)


def dense(x, i, dt=1.0):
    return torch.stack(
        [
            ops.poisson(hz * (dt / 1000), x.num_steps, seed=seed.view(1), dtype=torch.uint8)
            for hz, seed in zip(x.hz, x.seeds, strict=True)
        ]
    ).view(len(x.hz), x.num_steps, i)


def run(f, x, w, theta, **arguments):
    """The result, and weights and thresholds after it; those given stay."""
    w, theta = w.clone(), theta.clone()
    return f(x, w, theta, v_threshold=4.0, v_reset=1.0, **arguments), w, theta


def assert_exact(got, expected, name=""):
    torch.testing.assert_close(got, expected, rtol=0, atol=0, msg=lambda text: f"{name} {text}")


def assert_same(got, expected, weights_close=False):
    (a, w_a, theta_a), (b, w_b, theta_b) = got, expected
    assert_exact(a.counts, b.counts, "counts")
    if a.spikes is not None and b.spikes is not None:
        assert_exact(a.spikes, b.spikes, "spikes")
    if a.state is not None and b.state is not None and not weights_close:
        for name, x, y in zip(DiehlCookState._fields, a.state, b.state, strict=True):
            assert_exact(x, y, name)
    assert_exact(theta_a, theta_b, "theta")
    torch.testing.assert_close(w_a, w_b, rtol=0, atol=1e-5 if weights_close else 0)


def moved(values, device):
    """A tuple of tensors, and tuples of them, on another device."""

    def move(value):
        if isinstance(value, torch.Tensor):
            return value.to(device)
        return type(value)(*map(move, value)) if isinstance(value, tuple) else value

    return tuple(move(value) for value in values)


@functools.cache
def expected_of(rule, dynamics, dtype, sizes, count, steps, **changes):
    """The arguments of a call, and what the reference gives."""
    w, theta, x = sample(
        sizes, dtype, count, steps, low=-0.1 if rule == "negative weights" else 0.0
    )
    norm = None if rule in ("none", "negative weights") else 0.25 * sizes[1]
    arguments = {"rule": RULES[rule], "norm": norm, **DYNAMICS[dynamics]} | changes
    expected = run(
        reference.diehl_cook_, x, w, theta, return_spikes=True, return_state=True, **arguments
    )
    assert expected[0].counts.sum() > 3
    return (x, w, theta), arguments, expected


def assert_equals_reference(name, rule, dynamics, dtype, sizes, count=3, steps=60, **changes):
    """Whether the state is asked for or not: without it the CPU's kernel skips the more."""
    given, arguments, expected = expected_of(rule, dynamics, dtype, sizes, count, steps, **changes)
    with force(name) as on:
        close = rule in ROUNDED and (dtype == torch.float32 or not on.exact)
        given = moved(given, on.device)
        for asked in (True, False):
            got = run(ops.diehl_cook_, *given, return_spikes=asked, return_state=asked, **arguments)
            assert_same(moved(got, "cpu"), expected, close)


# The emulated CUDA meets every rule and every dynamics in both dtypes, but not each with each.
CASES = [
    (name, rule, dynamics, dtype)
    for name in PRESENT
    for k, rule in enumerate(RULES)
    for m, dynamics in enumerate(DYNAMICS)
    for dtype in (torch.float64, torch.float32)
    if name != "cuda_emulation" or (k + (m if dtype == torch.float64 else -m)) % len(DYNAMICS) == 0
]


@pytest.mark.parametrize(("name", "rule", "dynamics", "dtype"), CASES, ids=str)
def test_kernels_equal_reference(name, rule, dynamics, dtype):
    sizes = SIZES[(list(RULES).index(rule) + list(DYNAMICS).index(dynamics)) % len(SIZES)]
    assert_equals_reference(name, rule, dynamics, dtype, sizes)


@pytest.mark.parametrize("name", PRESENT)
@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("sizes", [(1100, 12), (2100, 9)], ids=str)
def test_more_neurons_than_a_block_of_cuda_takes(name, dynamics, sizes):
    """Blocks of a grid wait for each other; in the larger one a thread has several neurons."""
    rule = "pre and post" if sizes[0] == 1100 else "triplet"
    weak = (
        {"inhibition": 0.5} if "one winner" in dynamics else {}
    )  # else one neuron spikes and no other
    assert_equals_reference(name, rule, dynamics, torch.float64, sizes, 2, 25, **weak)


@pytest.mark.parametrize("name", PRESENT)
@pytest.mark.parametrize(("sizes", "count"), [((5, 31), 19), ((1100, 12), 3)], ids=str)
def test_many_images_at_once_without_learning(name, sizes, count):
    """More images than blocks, or several blocks an image."""
    assert_equals_reference(name, "none", "frozen", torch.float32, sizes, count, steps=25)


@pytest.mark.parametrize("name", PRESENT)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_forms_of_input_are_one(name, sizes):
    with force(name) as on:
        w, theta, x = sample(sizes)
        x = Rates(*(v.to(on.device) if isinstance(v, torch.Tensor) else v for v in x))
        w, theta = w.to(on.device), theta.to(on.device)
        arguments = {"rule": RULES["triplet"], "norm": 8.0, "return_spikes": True}
        spikes = dense(x, sizes[1])
        expected = run(ops.diehl_cook_, x, w, theta, **arguments)
        assert spikes.any()
        for form in (
            spikes,
            spikes.bool(),
            -spikes.float(),
            spikes.double() * 0.3,
            spikes.transpose(0, 1).contiguous().transpose(0, 1),
            Events.from_dense(spikes.cpu()),
        ):
            if isinstance(form, Events):
                form = Events(*(v.to(on.device) for v in form))
            assert_same(run(ops.diehl_cook_, form, w, theta, **arguments), expected)


@pytest.mark.parametrize("backend", ["reference", *PRESENT])
@pytest.mark.parametrize("dynamics", DYNAMICS)
@pytest.mark.parametrize("cuts", [(1, 2, 17, 10), (30,), (0, 30)], ids=str)
def test_cut_in_time_is_the_same(backend, dynamics, cuts):
    """The state holds all there is to remember: also what is under way, and between blocks of a grid."""
    neurons = 1100 if len(cuts) == 4 else 20
    w, theta, x = sample((neurons, 24), count=1, steps=30)
    spikes = dense(x, 24)
    with force(backend) as on:
        w, theta, spikes = w.to(on.device), theta.to(on.device), spikes.to(on.device)
        arguments = {
            "rule": RULES["triplet"],
            "return_state": True,
            "return_spikes": True,
            **DYNAMICS[dynamics],
            **(WEAK if neurons > 1000 and "one winner" in dynamics else {}),
        }
        whole, w_whole, theta_whole = run(ops.diehl_cook_, spikes, w, theta, **arguments)
        w_cut, theta_cut, state, raster = w.clone(), theta.clone(), None, []
        for piece in spikes.split(list(cuts), dim=1):
            part = ops.diehl_cook_(
                piece, w_cut, theta_cut, state=state, v_threshold=4.0, v_reset=1.0, **arguments
            )
            state = part.state
            raster.append(part.spikes)
        assert_same(
            (
                whole._replace(spikes=torch.cat(raster, 1), counts=whole.counts, state=state),
                w_cut,
                theta_cut,
            ),
            (whole, w_whole, theta_whole),
        )
        assert whole.spikes.sum() > 1


@pytest.mark.parametrize("name", ["reference", *PRESENT])
def test_by_hand(name):
    """Two neurons, one input each; potentials decay to exactly 1/2 in a step."""
    dt = 1.0
    tau = -1 / math.log(0.5)
    with force(name) as on:
        w = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64, device=on.device)
        theta = torch.tensor([0.0, 0.25], dtype=torch.float64, device=on.device)
        spikes = torch.tensor([[[1, 1], [1, 1], [0, 1], [0, 0], [0, 0]]], device=on.device).bool()
        result = ops.diehl_cook_(
            spikes,
            w,
            theta,
            dt=dt,
            tau=tau,
            v_threshold=1.4,
            v_reset=-0.5,
            refractory=1.0,
            inhibition=0.25,
            inhibition_delay=0,
            theta_plus=0.5,
            rule=plasticity.pair(0.125, 0.25, tau_pre=tau, tau_post=tau),
            return_spikes=True,
            return_state=True,
        )
        # v before the spike: neuron 0: 0, 1, 1.5* ; neuron 1: 0, 1, 1.5 < 1.65, then 1.25 / 2 + 1 = 1.625 < 1.65 ...
        assert result.spikes[0].nonzero().tolist() == [[2, 0]]
        assert theta.tolist() == [0.5, 0.25]
        # Traces of the inputs at step 2: 1/2 and 1. Weight 0 is clipped; input 1 spikes when x_post is 1: 0.25 - 0.125.
        assert w[0].tolist() == [1.0, 0.125]
        assert w[1].tolist() == [0.0, 1.0]
        # Neuron 0 after its spike: -0.5, -0.25, -0.125. Neuron 1: 1.25 (inhibited), 1.625, 0.8125.
        assert result.state.v.tolist() == [-0.125, 0.8125]
        assert result.state.refractory.tolist() == [0, 0]
        assert result.state.trace_pre.tolist() == [0.125, 0.25]
        assert result.state.trace_post.tolist() == [0.25, 0.0]


def explicit_network(spikes, w, exc, inh, steps):
    """n3ml's populations step by step: every connection takes a step; an inhibitory partner for every neuron."""
    n = w.shape[0]
    v, refractory, theta, s = (
        torch.full((n,), -65.0, dtype=w.dtype),
        torch.zeros(n),
        torch.zeros(n, dtype=w.dtype),
        torch.zeros(n, dtype=w.dtype),
    )
    v_i, refractory_i, s_i = (
        torch.full((n,), -60.0, dtype=w.dtype),
        torch.zeros(n),
        torch.zeros(n, dtype=w.dtype),
    )
    s_in, raster = torch.zeros(w.shape[1], dtype=w.dtype), []
    decay, decay_i = math.exp(-1 / 100), math.exp(-1 / 10)
    for t in range(steps):
        drive = w @ s_in - exc * (s_i.sum() - s_i)
        drive_i = inh * s
        s_in = spikes[t].to(w.dtype)
        v = -65 + (v + 65) * decay + (refractory <= 0) * drive
        refractory = refractory - 1
        s = (v >= -52 + theta).to(w.dtype)
        theta = theta + 0.05 * s
        v[s > 0], refractory[s > 0] = -60.0, 5.0
        v_i = -60 + (v_i + 60) * decay_i + (refractory_i <= 0) * drive_i
        refractory_i = refractory_i - 1
        s_i = (v_i >= -40).to(w.dtype)
        v_i[s_i > 0], refractory_i[s_i > 0] = -45.0, 2.0
        raster.append(s.bool())
    return torch.stack(raster), theta


@pytest.mark.parametrize("name", ["reference", *PRESENT])
def test_direct_inhibition_is_that_of_inhibitory_partners(name):
    """With n3ml's constants the network without inhibitory neurons gives what the one with them gives."""
    generator = torch.Generator().manual_seed(3)
    w = torch.rand(30, 100, generator=generator, dtype=torch.float64) * 0.3
    spikes = torch.rand(1, 250, 100, generator=generator) < 0.05
    raster, theta = explicit_network(spikes[0], w, 120.0, 22.5, 250)
    with force(name) as on:
        adaptive = torch.zeros(30, dtype=torch.float64, device=on.device)
        result = ops.diehl_cook_(
            spikes.to(on.device), w.to(on.device), adaptive, return_spikes=True
        )
    assert raster.sum() > 10
    assert_exact(result.spikes[0].cpu(), raster)
    torch.testing.assert_close(adaptive.cpu(), theta, rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", ["reference", *PRESENT])
@pytest.mark.parametrize("layout", ["transposed", "rows", "sliced"])
def test_layouts(backend, layout):
    w, theta, x = sample((70, 28))
    expected = run(reference.diehl_cook_, x, w, theta, rule=RULES["triplet"], norm=7.0)
    with force(backend) as on:
        x = Rates(x.hz.to(on.device), x.num_steps, x.seeds.to(on.device))
        room = torch.full((75, 61), 0.5, dtype=w.dtype, device=on.device)
        if layout == "transposed":
            laid = w.t().contiguous().to(on.device).t()
        else:
            laid = w.to(on.device) if layout == "rows" else room[2:72, 3:59:2]
            laid.copy_(w)
        thresholds = (
            torch.stack([theta, theta], 1).to(on.device)[:, 0]
            if layout == "sliced"
            else theta.to(on.device).clone()
        )
        result = ops.diehl_cook_(
            x, laid, thresholds, v_threshold=4.0, v_reset=1.0, rule=RULES["triplet"], norm=7.0
        )
        assert_exact(result.counts.cpu(), expected[0].counts)
        assert_exact(laid.cpu(), expected[1])
        assert_exact(thresholds.cpu(), expected[2])
        if layout == "sliced":
            laid.fill_(0.5)
            assert (room == 0.5).all()


@pytest.mark.parametrize("backend", ["reference", *PRESENT])
def test_many_presentations_in_one_call_or_in_many(backend):
    """Chunks, refreshed bounds and copied weights begin and end within them."""
    w, theta, x = sample(
        (70, 28), torch.float32, count=40 if backend == "reference" else 70, steps=12
    )
    arguments = {"rule": RULES["triplet"], "norm": 7.0, "inhibition_delay": 0, "one_winner": True}
    with force(backend) as on:
        x = Rates(x.hz.to(on.device), x.num_steps, x.seeds.to(on.device))
        w, theta = w.to(on.device), theta.to(on.device)
        whole = run(ops.diehl_cook_, x, w, theta, **arguments)
        w_cut, theta_cut, counts = w.clone(), theta.clone(), []
        for p in range(0, len(x.hz), 7):
            part = Rates(x.hz[p : p + 7], x.num_steps, x.seeds[p : p + 7])
            result = ops.diehl_cook_(
                part, w_cut, theta_cut, v_threshold=4.0, v_reset=1.0, **arguments
            )
            counts.append(result.counts)
        assert_exact(torch.cat(counts), whole[0].counts)
        assert_exact(w_cut, whole[1])
        assert_exact(theta_cut, whole[2])


@pytest.mark.parametrize("name", ["reference", *PRESENT])
def test_weights_keep_their_sum_and_bounds(name):
    w, theta, x = sample((70, 28), count=6)
    with force(name) as on:
        x = Rates(x.hz.to(on.device), x.num_steps, x.seeds.to(on.device))
        before = w.clone()
        result, after, _ = run(
            ops.diehl_cook_, x, w.to(on.device), theta.to(on.device), rule=RULES["pair"], norm=7.0
        )
        plastic = (result.counts.sum(0) > 0).cpu()
        after = after.cpu()
    assert plastic.any()
    assert not plastic.all()
    torch.testing.assert_close(
        after[plastic].sum(1), torch.full((int(plastic.sum()),), 7.0, dtype=w.dtype)
    )
    assert_exact(after[~plastic], before[~plastic])
    assert after.min() >= 0
    assert after.max() <= 1


@pytest.mark.parametrize("name", ["reference", *PRESENT])
@pytest.mark.parametrize("shape", [(0, 5, 4, 3), (2, 0, 4, 3), (2, 5, 0, 3), (2, 5, 4, 0)], ids=str)
def test_empty(name, shape):
    p, t, i, n = shape
    with force(name) as on:
        w = torch.full((n, i), 0.5, device=on.device)
        theta = torch.zeros(n, device=on.device)
        result = ops.diehl_cook_(
            torch.ones(p, t, i, device=on.device),
            w,
            theta,
            rule=plasticity.pair(),
            norm=1.0,
            return_spikes=True,
            return_state=True,
        )
    assert result.counts.shape == (p, n)
    assert result.counts.sum() == 0
    assert result.spikes.shape == (p, t, n)
    assert result.state.v.shape == (n,)


def test_same_for_any_number_of_threads_and_instruction_set():
    code = """
import sys, torch
from snnfast import ops, plasticity
for threads in sys.argv[1:]:
    torch.set_num_threads(int(threads))
    generator = torch.Generator().manual_seed(0)
    w, theta = torch.rand(70, 30, generator=generator) * 0.4, torch.zeros(70)
    x = ops.Rates(torch.rand(40, 30, generator=generator) * 200, 20, torch.arange(40))
    rule = plasticity.triplet(1e-3, 0.03)
    membrane = {"v_threshold": 4.0, "v_reset": 1.0}
    learning = ops.diehl_cook_(x, w, theta, rule=rule, norm=7.0, one_winner=True, **membrane)
    frozen = ops.diehl_cook_(x, w, theta, theta_plus=0.0, return_spikes=True, **membrane)
    print(learning.counts.tolist(), frozen.counts.tolist(), w.tolist(), theta.tolist())
"""
    outputs = set()
    for threads, isa in (("123", ""), ("1", "base"), ("2", "avx2")):
        outputs.update(python(code, *threads, SNNFAST_CPU_ISA=isa).stdout.splitlines())
    assert len(outputs) == 1


def arguments(**changes):
    """Those of a valid call of 2 presentations, 3 steps, 5 inputs, 4 neurons, changed."""
    given = {
        "x": torch.ones(2, 3, 5),
        "w": torch.full((4, 5), 0.5),
        "theta": torch.zeros(4),
        "rule": plasticity.pair(),
    }
    return {**given, **changes}


HZ, SEEDS = torch.ones(2, 5), torch.arange(2)
ERRORS = {
    "x": (TypeError, "x must be a tensor, Events or Rates, got list", {"x": [1]}),
    "x shape": (
        ValueError,
        r"x must have shape \[P, T, 5\], got \[3, 5\]",
        {"x": torch.ones(3, 5)},
    ),
    "x inputs": (
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
    "w overlaps": (
        ValueError,
        "w must not overlap itself",
        {"w": torch.full((1, 5), 0.5).expand(4, 5)},
    ),
    "w above": (
        ValueError,
        r"w must lie in \[0, 1\], got values from 1.5 to 1.5",
        {"w": torch.full((4, 5), 1.5)},
    ),
    "w NaN": (ValueError, "w must lie in", {"w": torch.full((4, 5), float("nan"))}),
    "w infinite": (
        ValueError,
        "w must be finite",
        {"w": torch.full((4, 5), float("inf")), "rule": None},
    ),
    "theta": (TypeError, "theta must be a tensor, got float", {"theta": 0.0}),
    "theta dtype": (
        TypeError,
        "theta must have the dtype of w, torch.float32, got torch.float64",
        {"theta": torch.zeros(4).double()},
    ),
    "theta shape": (
        ValueError,
        r"theta must have shape \[4\], got \[5\]",
        {"theta": torch.zeros(5)},
    ),
    "theta NaN": (ValueError, "theta must be finite", {"theta": torch.full((4,), float("nan"))}),
    "rule": (
        TypeError,
        "rule must be a rule of snnfast.plasticity or None, got str",
        {"rule": "pair"},
    ),
    "rule with reward": (
        ValueError,
        "rule must not wait for a reward",
        {"rule": plasticity.reward_modulated(plasticity.pair(), 9.0)},
    ),
    "norm": (ValueError, "norm must be positive, got -1", {"norm": -1.0}),
    "norm, fixed": (
        ValueError,
        "norm must be None without a rule, got 2",
        {"norm": 2.0, "rule": None},
    ),
    "state": (TypeError, "state must be a DiehlCookState or None, got tuple", {"state": ()}),
    "dt": (ValueError, "dt must be positive, got 0", {"dt": 0.0}),
    "tau": (ValueError, "tau must be positive, got -3", {"tau": -3.0}),
    "tau NaN": (ValueError, "tau must be finite", {"tau": float("nan")}),
    "tau_theta": (ValueError, "tau_theta must be positive, got 0", {"tau_theta": 0.0}),
    "refractory": (ValueError, "refractory must be at least 0, got -1", {"refractory": -1.0}),
    "inhibition": (ValueError, "inhibition must be at least 0, got -1", {"inhibition": -1.0}),
    "theta_plus": (ValueError, "theta_plus must be at least 0, got -1", {"theta_plus": -1.0}),
    "v_threshold": (TypeError, "v_threshold must be a number, got str", {"v_threshold": "13"}),
    "delay": (
        ValueError,
        "inhibition_delay must be at least 0, got -1",
        {"inhibition_delay": -1},
    ),
    "delay type": (
        TypeError,
        "inhibition_delay must be an integer, got float",
        {"inhibition_delay": 1.0},
    ),
    "one_winner": (TypeError, "one_winner must be True or False, got 'no'", {"one_winner": "no"}),
    "hz shape": (
        ValueError,
        r"x.hz must have shape \[P, 5\], got \[2, 4\]",
        {"x": Rates(torch.ones(2, 4), 3, SEEDS)},
    ),
    "hz dtype": (
        TypeError,
        "x.hz must have dtype float32, got torch.float64",
        {"x": Rates(HZ.double(), 3, SEEDS)},
    ),
    "hz negative": (
        ValueError,
        r"x.hz must lie in \[0, 1000\] Hz, got values from -1",
        {"x": Rates(-HZ, 3, SEEDS)},
    ),
    "hz NaN": (
        ValueError,
        r"x.hz must lie in \[0, 1000\] Hz",
        {"x": Rates(HZ * float("nan"), 3, SEEDS)},
    ),
    "hz above 1/dt": (
        ValueError,
        r"x.hz must lie in \[0, 2000\] Hz, got values from 2001",
        {"x": Rates(HZ * 2001, 3, SEEDS), "dt": 0.5},
    ),
    "num_steps": (
        ValueError,
        "x.num_steps must be at least 0, got -1",
        {"x": Rates(HZ, -1, SEEDS)},
    ),
    "num_steps type": (
        TypeError,
        "x.num_steps must be an integer, got float",
        {"x": Rates(HZ, 3.0, SEEDS)},
    ),
    "seeds shape": (
        ValueError,
        r"x.seeds must have shape \[2\], got \[3\]",
        {"x": Rates(HZ, 3, torch.arange(3))},
    ),
    "seeds dtype": (
        TypeError,
        "x.seeds must have dtype int64, got torch.float32",
        {"x": Rates(HZ, 3, SEEDS.float())},
    ),
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


@pytest.mark.parametrize("backend", ["reference", *PRESENT])
@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_the_argument_and_change_nothing(backend, case):
    error, text, changes = ERRORS[case]
    given = arguments(**changes)
    before = {
        k: v.clone()
        for k, v in given.items()
        if isinstance(v, torch.Tensor) and v.device.type == "cpu"
    }
    if backend == "cuda":
        given = {
            k: v.cuda() if isinstance(v, torch.Tensor) and v.device.type == "cpu" else v
            for k, v in given.items()
        }
        if isinstance(given["x"], tuple):
            given["x"] = type(given["x"])(
                *(v.cuda() if isinstance(v, torch.Tensor) else v for v in given["x"])
            )
        text = text.replace("of w, cpu,", "of w, cuda:0,")
    with force(backend), pytest.raises(error, match=f"diehl_cook_: {text}"):
        ops.diehl_cook_(**given)
    for k, v in before.items():
        torch.testing.assert_close(given[k].cpu(), v, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("field", DiehlCookState._fields)
def test_errors_name_the_part_of_the_state(field):
    given = arguments()
    state = ops.diehl_cook_(**given, return_state=True).state
    for wrong, error in (
        (torch.zeros(3, 3), ValueError),
        (None, TypeError),
        (getattr(state, field).to(torch.int64), TypeError),
    ):
        with pytest.raises(error, match=rf"diehl_cook_: state\.{field} must"):
            ops.diehl_cook_(**given, state=state._replace(**{field: wrong}))


def test_the_state_given_is_not_changed():
    given = arguments()
    state = ops.diehl_cook_(**given, return_state=True).state
    before = [s.clone() for s in state]
    ops.diehl_cook_(**given, state=state, return_state=True)
    assert_exact(list(state), before)


@pytest.mark.parametrize("name", PRESENT)
@pytest.mark.parametrize(("form", "carry"), [("spikes", False), ("events", True), ("rates", False)])
def test_opcheck(name, form, carry):
    w, theta, x = sample((6, 8), torch.float32, count=2, steps=9)
    spikes = dense(x, 8)
    x = {"spikes": spikes, "events": Events.from_dense(spikes), "rates": x}[form]
    state = reference.diehl_cook_(spikes, w, theta, return_state=True).state if carry else None
    with force(name) as on:
        x, w, theta, state = moved((x, w, theta, state), on.device)
        call = ops.diehl_cook_.check(
            x,
            w,
            theta,
            rule=RULES["pair"],
            norm=2.0,
            state=state,
            v_threshold=4.0,
            return_spikes=True,
        )
        torch.library.opcheck(on.ops.diehl_cook_, tuple(flatten(call)))
