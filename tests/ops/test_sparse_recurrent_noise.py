"""Poisson noise that ``sparse_recurrent`` draws in the kernel, and input that is absent."""

import math

import pytest
import torch
from backends import force
from recurrent_cases import LIF, needs_kernels
from samples import assert_equal
from sparse_cases import Sparse, agree, case, connected

from snnfast import connect, neuron, ops
from snnfast.connect import PoissonNoise
from snnfast.reference.call import flatten

pytestmark = needs_kernels
RATES = {
    "one": 1.5,
    "none": 0.0,
    "high": 1000.0,
    "populations": lambda H: torch.tensor([0.5, 0.0, 3.0]).repeat_interleave((H + 2) // 3)[:H],
    "one a neuron": lambda H: torch.linspace(0, 30, H),
}


def noise_for(kind, H, **options):
    rate = RATES[kind]
    generator = torch.Generator().manual_seed(H)
    weight = 0.3 if kind == "one" else torch.rand(H, generator=generator) - 0.4
    return PoissonNoise(rate(H) if callable(rate) else rate, weight, **{"seed": 7} | options)


def drawn(noise, steps=200, batch=8, H=100, dtype=torch.float64):
    """Return the noise as a tensor ``[steps, batch, H]``: membranes without memory, threshold and synapses."""
    c, weight = connect.fixed_total(H, total=0), torch.zeros((), dtype=dtype)
    options = {"decay": 0.0, "decay_input": False, "v_threshold": 1e9, "return_v_seq": True}
    return ops.sparse_recurrent(None, weight, c, num_steps=steps, batch=batch, noise=noise, **options)[-1]


# ---- the kernels against the equations


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", RATES)
def test_kernels_equal_the_reference(kind, dtype):
    """Also gradients: the backward pass draws the same numbers."""
    for shape in ((35, 3, 7), (5, 1, 150), (4, 17, 64))[: 3 if dtype == torch.float64 else 1]:
        c, arguments = case(LIF, shape=shape, dtype=dtype)
        agree(LIF, c, arguments | {"noise": noise_for(kind, shape[-1])})


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 1])
@pytest.mark.parametrize("after", [0, 2**32 - 3])
def test_any_seed_and_step_equal_the_reference(seed, after):
    c, arguments = case(LIF, shape=(7, 2, 70))
    agree(LIF, c, arguments | {"noise": noise_for("one", 70, seed=seed).after(after)})


# ---- what must hold


@pytest.mark.parametrize("rate", [0.02, 2.0, 40.0, 1000.0])
def test_numbers_are_poisson(rate):
    counts = drawn(PoissonNoise(rate, seed=1))
    assert_equal(counts, counts.round())
    n = counts.numel()
    assert abs(counts.mean() - rate) < 5 * (rate / n) ** 0.5
    # The variance of the sample variance of a Poisson distribution is (rate + 2 rate^2) / n.
    assert abs(counts.var() - rate) < 5 * ((rate + 2 * rate**2) / n) ** 0.5
    k = int(rate)
    share = math.exp(k * math.log(rate) - rate - math.lgamma(k + 1))
    assert abs((counts == k).double().mean() - share) < 5 * (share / n) ** 0.5


def test_neurons_samples_steps_and_seeds_are_independent():
    counts = drawn(PoissonNoise(2.0, seed=1)) - 2.0
    pairs = {
        "neurons": (counts[..., :-1], counts[..., 1:]),
        "neurons of words": (counts[..., :-16], counts[..., 16:]),
        "samples": (counts[:, :-1], counts[:, 1:]),
        "steps": (counts[:-1], counts[1:]),
        "seeds": (counts, drawn(PoissonNoise(2.0, seed=2)) - 2.0),
    }
    for name, (one, other) in pairs.items():
        assert abs((one * other).mean()) < 5 * 2.0 / one.numel() ** 0.5, name
    assert_equal(drawn(PoissonNoise(2.0, seed=1)) - 2.0, counts)


@pytest.mark.parametrize("H", [100, 300])
def test_targets_with_rate_0_draw_nothing_and_leave_the_others_alone(H):
    """Single ones, ranges that end inside of a block of 64, and whole blocks; 0.0 would change -0.0."""
    rate = torch.full((H,), 2.0)
    silent = torch.zeros(H, dtype=torch.bool)
    for part in ([0], [9], slice(20, 30), slice(50, 270)):
        silent[part] = True
    some = PoissonNoise(torch.where(silent, 0.0, rate), 0.5, seed=3)
    found, whole = drawn(some, steps=5, H=H), drawn(PoissonNoise(rate, 0.5, seed=3), steps=5, H=H)
    assert_equal(found, torch.where(silent, 0.0, whole))

    @neuron
    def passes(fire, x, v):
        s, _, v = fire(x, 1e9)
        return s, v

    x = torch.full((3, 2, H), -0.0)
    for backend in ("cpu", "reference"):
        with force(backend):
            _, v = passes.sparse_recurrent(x, 0.0, connect.fixed_total(H, total=0), noise=some)
        assert_equal(v.signbit(), silent.expand(2, H))


def test_in_parts_gives_the_bits_of_the_whole():
    c, arguments = case(LIF, shape=(60, 3, 20))
    x, noise, run = arguments.pop("x"), noise_for("one", 20), Sparse(LIF, c)
    spikes, v = run(x=x, noise=noise, **arguments)
    first, state = run(x=x[:23], noise=noise, **arguments)
    rest = arguments | {"v": state, "past": first[-c.longest :]}
    second, state = run(x=x[23:], noise=noise.after(20).after(3), **rest)
    assert_equal([torch.cat([first, second]), state], [spikes, v])


def test_any_number_of_threads_gives_the_same_bits():
    noise, before, results = PoissonNoise(2.0, seed=1), torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(drawn(noise, batch=40))
    torch.set_num_threads(before)
    assert_equal(*results)


def test_a_seed_is_drawn_from_the_generator():
    torch.manual_seed(3)
    one, other = PoissonNoise(1.0), PoissonNoise(1.0)
    assert one.seed != other.seed
    torch.manual_seed(3)
    assert PoissonNoise(1.0).seed == one.seed
    assert PoissonNoise(1.0, generator=torch.Generator().manual_seed(3)).seed == one.seed


@pytest.mark.parametrize("batch", [None, 0, 3])
def test_no_input_is_an_input_of_zeros(batch):
    c = connected(20)
    weight = torch.randn(len(c), dtype=torch.float64)
    shape = (30, 20) if batch is None else (30, batch, 20)
    options = {"noise": PoissonNoise(2.0, 0.3, seed=1)}
    found = ops.sparse_recurrent(None, weight, c, num_steps=30, batch=batch, **options)
    assert_equal(list(found), list(ops.sparse_recurrent(torch.zeros(shape, dtype=torch.float64), weight, c, **options)))
    assert found[0].any() == (batch != 0)


# ---- errors

C, W = connect.fixed_outdegree(4, outdegree=2, seed=0), torch.zeros(8)
X = torch.zeros(3, 4)
CALLS = {
    "no number of steps": ((None, W, C), {}, ValueError, "x=None needs num_steps"),
    "steps of x": ((X, W, C), {"num_steps": 3}, ValueError, "num_steps and batch are the sizes of x=None"),
    "a batch of x": ((X, W, C), {"batch": 3}, ValueError, "num_steps and batch are the sizes of x=None"),
    "steps below 0": ((None, W, C), {"num_steps": -1}, ValueError, "num_steps must be at least 0"),
    "a number": ((X, W, C), {"noise": 2.0}, TypeError, "noise must be a PoissonNoise of snnfast.connect, got float"),
    "rates of others": (
        (X, W, C),
        {"noise": PoissonNoise(torch.ones(5))},
        ValueError,
        r"rate of the noise must be a number or have shape \[4\], got \[5\]",
    ),
    "weights of others": (
        (X, W, C),
        {"noise": PoissonNoise(1.0, torch.ones(5))},
        ValueError,
        r"weight of the noise must be a number or have shape \[4\], got \[5\]",
    ),
}


@pytest.mark.parametrize("label", CALLS)
def test_errors_of_calls_name_the_argument(label):
    args, kwargs, error, message = CALLS[label]
    with pytest.raises(error, match=f"sparse_recurrent: {message}"):
        ops.sparse_recurrent(*args, **kwargs)


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "message"),
    [
        ((-1.0,), {}, ValueError, "rate must be from 0 to 1000 arrivals a step, got -1 to -1"),
        ((torch.tensor([1.0, 1001.0]),), {}, ValueError, "rate must be from 0 to 1000 arrivals a step, got 1 to 1001"),
        ((torch.tensor([torch.nan]),), {}, ValueError, "rate must be finite"),
        ((torch.zeros(2, 2),), {}, ValueError, r"rate must have shape \[neurons\], got \[2, 2\]"),
        ((1.0, "w"), {}, TypeError, "weight must be a number"),
        ((1.0, torch.tensor([torch.inf])), {}, ValueError, "weight must be finite"),
        ((1.0, torch.ones(2, requires_grad=True)), {}, ValueError, r"weight has no gradient; pass weight.detach\(\)"),
        ((1.0,), {"seed": 2**64}, ValueError, "seed must be at most"),
        ((1.0,), {"seed": 1, "generator": torch.Generator()}, ValueError, "give seed or generator, not both"),
    ],
)
def test_errors_of_the_noise_name_the_argument(args, kwargs, error, message):
    with pytest.raises(error, match=f"PoissonNoise: {message}"):
        PoissonNoise(*args, **kwargs)


def raw(**changes):
    call = ops.sparse_recurrent.check(X, W, C, noise=PoissonNoise(1.0, seed=0))
    torch.ops.snnfast.recurrent_lif_forward(*flatten(call._replace(**changes)), 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"noise_weight": None},
        {"noise_key": None},
        {"noise_weight": torch.zeros(5)},
        {"noise_weight": torch.zeros(4).double()},
        {"noise_key": torch.zeros(2)},
        {"noise_key": torch.zeros(3, dtype=torch.int64)},
        {"noise_table": torch.zeros(1, 4)},
        {"noise_table": torch.zeros(0, 4, dtype=torch.int64)},
        {"noise_table": torch.zeros(1, 1, dtype=torch.int64)},
        {"noise_table": torch.zeros(4, dtype=torch.int64)},
        {"first": None, "targets": None, "steps": None, "weight": torch.zeros(4, 4)},
    ],
    ids=str,
)
def test_raw_calls_with_wrong_tensors_are_refused(changes):
    with pytest.raises(RuntimeError, match="recurrent_lif: "):
        raw(**changes)
    raw()
    raw(noise_table=torch.tensor([[9, 0, 5], [-4, 0, 5], [2, 0, 5]]))  # runs in no order stay within their targets
