"""Both networks of Diehl and Cook: compiled, exported and raw calls; the arguments that they change."""

import pytest
import torch
from backends import CPU, PRESENT, force
from samples import assert_all, assert_equal
from torch import nn

from snnfast import ops, plasticity, reference
from snnfast.ops import Events, Rates
from snnfast.reference.call import flatten

CONDUCTANCES = "diehl_cook_ with conductances"  # as in backend.BY_REFERENCE
OPS = {
    "diehl_cook_": {"v_threshold": 2.0, "v_reset": 0.0},
    CONDUCTANCES: {"synapses": "conductance", "tau": 10.0, "rest": 2.0},
}
NAMES = list(OPS)
FROZEN = {"rule": None, "theta_plus": 0.0, "tau_theta": None}


def sample(name, dtype=torch.float32, neurons=6, inputs=8, count=2, steps=12):
    """Return stimuli, weights and thresholds that make neurons spike."""
    generator = torch.Generator().manual_seed(0)
    w = (torch.rand(neurons, inputs, generator=generator) * 0.5).to(dtype)
    current = name == "diehl_cook_"
    theta = torch.full((neurons,), 0.0 if current else 20.0, dtype=dtype if current else torch.float64)
    hz = torch.rand(count, inputs, generator=generator) * 500
    return Rates(hz, steps, torch.arange(count)), w, theta


def run(name, x, w, theta, op=None, **changes):
    """Present stimuli and learn."""
    settings = {"rule": plasticity.triplet(1e-3, 0.03), "norm": 2.0, **OPS[name], **changes}
    return (op or ops.diehl_cook_)(x, w, theta, **settings)


# ---- versions


@pytest.mark.parametrize("backend", ["reference", *PRESENT])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("needed", ["w", "theta"])
def test_a_backward_pass_through_what_has_changed_is_refused(backend, name, needed):
    with force(backend) as on:
        x, w, theta = sample(name)
        x = Rates(x.hz.to(on.device), x.num_steps, x.seeds.to(on.device))
        w, theta = w.to(on.device), theta.to(on.device)
        old = w if needed == "w" else theta
        factor = torch.ones_like(old, requires_grad=True)
        loss = (factor * old).sum()
        assert run(name, x, w, theta).counts.sum() > 0
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


@pytest.mark.parametrize("backend", ["reference", *PRESENT])
@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_change_keeps_its_version(backend, name):
    with force(backend) as on:
        x, w, theta = sample(name)
        x = Rates(x.hz.to(on.device), x.num_steps, x.seeds.to(on.device))
        w, theta = w.to(on.device), theta.to(on.device)
        factor = torch.ones_like(w, requires_grad=True)
        loss = (factor * w).sum()
        run(name, x, w, theta, norm=None, **FROZEN)
        loss.backward()
        assert_equal(factor.grad, w)


OVERLAPS = {
    r"theta must not overlap itself, got strides \[0\]": lambda w: (w, w.new_zeros(1).expand(4)),
    "theta and w must not share memory": lambda w: (w, w[:, 0]),
    r"w must not overlap itself, got strides \[4, 4, 1\]": lambda w: (
        w.as_strided((2, 3, 5), (4, 4, 1)),
        w.new_zeros(2, 3),
    ),
}


@pytest.mark.parametrize("backend", ["reference", *PRESENT])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("message", OVERLAPS)
def test_tensors_that_overlap_are_refused_and_stay(backend, name, message):
    with force(backend) as on:
        w, theta = OVERLAPS[message](torch.full((4, 5), 0.5, dtype=torch.float64, device=on.device))
        before = w.clone(), theta.clone()
        with pytest.raises(ValueError, match=f"^diehl_cook_: {message}"):
            run(name, torch.ones(2, 3, 5, device=on.device), w, theta)
        assert_equal([w, theta], list(before))


@pytest.mark.parametrize("backend", ["reference", *PRESENT])
@pytest.mark.parametrize("name", NAMES)
def test_weights_may_want_a_gradient_and_be_made_in_inference_mode(backend, name):
    with force(backend) as on:
        x, w, theta = sample(name)
        x = Rates(x.hz.to(on.device), x.num_steps, x.seeds.to(on.device))
        plain, theta_plain = w.clone().to(on.device), theta.clone().to(on.device)
        expected = run(name, x, plain, theta_plain).counts
        learned = nn.Parameter(w.clone().to(on.device))
        assert_equal(run(name, x, learned, theta.clone().to(on.device)).counts, expected)
        assert_equal(learned.detach(), plain)
        with torch.inference_mode():
            inferred = w.clone().to(on.device)
            assert_equal(run(name, x, inferred, theta.clone().to(on.device)).counts, expected)
            assert_equal(inferred, plain)


# ---- compiled and exported


class Network(nn.Module):
    """Module that learns from its input and returns the op's results."""

    def __init__(self, name, w, theta, **settings):
        super().__init__()
        self.name, self.settings = name, settings
        self.register_buffer("w", w.clone())
        self.register_buffer("theta", theta.clone())

    def forward(self, hz, seeds):
        result = run(self.name, Rates(hz, 12, seeds), self.w, self.theta, **self.settings)
        state = () if result.state is None else [value for value in result.state if value is not None]
        return (result.counts, *state)


def settings_of(name):
    """Return settings with state, spikes and delays."""
    settings = {"return_state": True, "return_spikes": True}
    if name == CONDUCTANCES:
        delays = torch.arange(48).view(6, 8).to(torch.uint8) % 4
        settings |= {"delays": delays, "longest_delay": 3}
    return settings


@pytest.mark.parametrize("backend", [b for b in PRESENT if b != "cuda_emulation"])
@pytest.mark.parametrize(("name", "dynamic"), [*zip(NAMES, (True, False), strict=True)])
def test_compiled_is_eager(backend, name, dynamic):
    torch._dynamo.reset()
    with force(backend) as on:
        x, w, theta = sample(name)
        settings = {k: v.to(on.device) if isinstance(v, torch.Tensor) else v for k, v in settings_of(name).items()}
        eager, compiled = (Network(name, w, theta, **settings).to(on.device) for _ in range(2))
        graph = torch.compile(compiled, fullgraph=True, dynamic=dynamic, backend="aot_eager")
        for count in (3, 2) if dynamic else (2, 1):
            hz, seeds = x.hz[:count].to(on.device), x.seeds[:count].to(on.device)
            assert_equal(graph(hz, seeds), eager(hz, seeds))
            assert_equal(compiled.w, eager.w)
            assert_equal(compiled.theta, eager.theta)
        assert (eager.w.cpu() != w).any()


@pytest.mark.parametrize("name", NAMES)
def test_compiled_by_inductor_is_eager_and_raises_versions(name):
    torch._dynamo.reset()
    x, w, theta = sample(name)
    network, eager = Network(name, w, theta), Network(name, w, theta)
    graph = torch.compile(network, fullgraph=True)
    factor = torch.ones_like(network.w, requires_grad=True)
    loss = (factor * network.w).sum()
    assert_equal(graph(x.hz, x.seeds), eager(x.hz, x.seeds))
    assert_equal(network.w, eager.w)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("name", NAMES)
def test_exported_is_eager(name):
    x, w, theta = sample(name)
    eager, to_export = (Network(name, w, theta, **settings_of(name)) for _ in range(2))
    exported = torch.export.export(to_export, (x.hz, x.seeds)).module()
    for _ in range(2):
        assert_equal(exported(x.hz, x.seeds), eager(x.hz, x.seeds))
    assert_equal(exported.w, eager.w)
    assert_equal(exported.theta, eager.theta)
    assert (eager.w != w).any()


def test_delays_that_cannot_be_looked_at_may_be_any():
    torch._dynamo.reset()
    x, w, theta = sample(CONDUCTANCES)
    delays = (torch.arange(48).view(6, 8) % 3).to(torch.uint8)

    def present(w, theta):
        return run(CONDUCTANCES, x, w, theta, delays=delays).counts

    w2, theta2 = w.clone(), theta.clone()
    assert_equal(torch.compile(present, fullgraph=True)(w, theta), present(w2, theta2))
    assert_equal(w, w2)


# ---- raw


OPERATORS = {"diehl_cook_": "diehl_cook_", CONDUCTANCES: "diehl_cook_conductance_"}


def raw(backend, name, call):
    return getattr(backend.ops, OPERATORS[name])(*flatten(call))


HOSTILE = {
    "inputs above": (torch.tensor([1, 8, 9, 2000], dtype=torch.int32), torch.tensor([[0, 2, 2, 4]])),
    "inputs below": (torch.tensor([-1, 1, -2000, 3], dtype=torch.int32), torch.tensor([[0, 2, 2, 4]])),
    "inputs again and again": (torch.zeros(4000, dtype=torch.int32), torch.tensor([[0, 4000, 4000, 4000]])),
    "offsets above": (torch.tensor([1, 2], dtype=torch.int32), torch.tensor([[0, 1, 2, 900]])),
    "offsets below": (torch.tensor([1, 2], dtype=torch.int32), torch.tensor([[-900, 0, 1, 2]])),
    "offsets back": (torch.tensor([1, 2], dtype=torch.int32), torch.tensor([[0, 2, 0, 2]])),
    "offsets beyond 32 bits": (torch.tensor([1, 2], dtype=torch.int32), torch.tensor([[0, 2**40, 2**40, 2]])),
}


@pytest.mark.parametrize("backend", PRESENT)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("checked", [False, True], ids=["raw", "validate=False"])
def test_events_out_of_range_touch_nothing_but_the_weights(backend, name, case, checked):
    with force(backend) as on:
        _, w, theta = sample(name)
        room = torch.full((w.shape[0] + 60, w.shape[1] + 2100), 0.25, device=on.device)
        inside = room[30:-30, 1050:-1050]
        inside.copy_(w)
        events = Events(*(v.to(on.device) for v in HOSTILE[case]))
        options = {"rule": plasticity.pair(0.01, 0.5), "norm": 2.0, **OPS[name]}
        try:
            if checked:
                ops.diehl_cook_(events, inside, theta.to(on.device), validate=False, **options)
            else:
                empty = Events(events.inputs[:0], torch.zeros_like(events.offsets))
                call = ops.diehl_cook_.check(empty, inside, theta.to(on.device), **options)
                raw(on, name, call._replace(x=call.x._replace(inputs=events.inputs, offsets=events.offsets)))
        except RuntimeError as error:
            assert "must ascend" in str(error)  # noqa: PT017
            assert_equal(inside.cpu(), w)
        assert torch.isfinite(inside).all()
        inside.fill_(0.25)
        assert_all(room, 0.25)


@pytest.mark.parametrize("backend", ["reference", *CPU])
@pytest.mark.parametrize("carry", [False, True])
def test_delays_beyond_the_longest_count_as_the_longest(backend, carry):
    name = CONDUCTANCES
    delays = (torch.arange(48).view(6, 8) * 37 % 256).to(torch.uint8)
    results = []
    for steps in (delays, delays.clamp(max=3)):
        with force(backend) as on:
            x, w, theta = sample(name)
            x, w, theta = (Rates(x.hz.to(on.device), 12, x.seeds.to(on.device)), w.to(on.device), theta.to(on.device))
            settings = {"delays": steps.to(on.device), "longest_delay": 3, "validate": False, "return_state": True}
            result = run(name, x, w, theta, **settings)
            if carry:
                result = run(name, x, w, theta, state=result.state, **settings)
            results.append((result.counts, *result.state, w, theta))
    assert results[0][0].sum() > 0
    assert_equal(*results)


@pytest.mark.parametrize("backend", PRESENT)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("text", "changes"),
    [
        (r"theta must have shape \[6\], got \[5\]", {"theta": torch.zeros(5)}),
        ("w must be float32 or float64, got float16", {"w": torch.zeros(6, 8).half()}),
        (r"w must have shape \[N, I\] or \[K, N, I\], got \[6\]", {"w": torch.zeros(6)}),
        ("w is too large", {"w": torch.zeros(1, 1).expand(2**20, 2**30)}),
        ("state must have .* tensors, got 1", {"state": [torch.zeros(6)]}),
        ("refractory", {"refractory": -1}),
    ],
)
def test_raw_calls_with_wrong_arguments_are_refused(backend, name, text, changes):
    with force(backend) as on:
        if on.device == "cuda":
            pytest.skip("the checks are those of the CPU")
        x, w, theta = sample(name)
        call = ops.diehl_cook_.check(x, w, theta, **OPS[name])
        if "w" in changes:
            rows = changes["w"].shape[0]
            changes = {**changes, "theta": theta.new_zeros(1).expand(rows)}
        if name == CONDUCTANCES and "refractory" in changes:
            changes = {"exc": call.exc._replace(refractory=-1)}
        with pytest.raises(RuntimeError, match=f"{OPERATORS[name]}: .*{text}|{OPERATORS[name]}: {text}"):
            raw(on, name, call._replace(**changes))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"longest_delay": 3}, ValueError, "longest_delay must be None without delays, got 3"),
        ({"longest_delay": 256, "delays": 2}, ValueError, "longest_delay must be at most 255 steps, got 256"),
        ({"longest_delay": -1, "delays": 2}, ValueError, "longest_delay must be at least 0, got -1"),
        ({"longest_delay": 2.0, "delays": 2}, TypeError, "longest_delay must be an integer, got float"),
        ({"longest_delay": 1, "delays": 2}, ValueError, "delays must be at most longest_delay, 1 steps, got 2"),
        ({"rest": 1e12}, ValueError, r"rest must be less than 2\*\*31 steps of 0.5 ms, got 1"),
    ],
)
def test_errors_of_delays_and_times(changes, error, message):
    x, w, theta = sample(CONDUCTANCES)
    if "delays" in changes:
        changes = {**changes, "delays": torch.full(w.shape, 2, dtype=torch.uint8)}
    with pytest.raises(error, match=f"^diehl_cook_: {message}"):
        ops.diehl_cook_(x, w, theta, synapses="conductance", **changes)


@pytest.mark.parametrize("backend", ["reference", *CPU])
def test_a_longer_longest_delay_changes_nothing_but_the_state(backend):
    name = CONDUCTANCES
    delays = (torch.arange(48).view(6, 8) % 3).to(torch.uint8)
    results = []
    for longest in (None, 2, 9):
        with force(backend) as on:
            x, w, theta = sample(name)
            x, w, theta = (Rates(x.hz.to(on.device), 12, x.seeds.to(on.device)), w.to(on.device), theta.to(on.device))
            result = run(name, x, w, theta, delays=delays.to(on.device), longest_delay=longest, return_spikes=True)
            results.append((result.spikes, w, theta))
    assert_equal(results[1], results[0])
    assert_equal(results[2], results[0])


@pytest.mark.parametrize("backend", ["reference", *PRESENT])
@pytest.mark.parametrize("name", NAMES)
def test_rates_without_inputs_are_silence(backend, name):
    with force(backend) as on:
        x = Rates(torch.zeros(3, 0, device=on.device), 17, torch.arange(3, device=on.device))
        _, w, theta = sample(name, inputs=0)
        result = run(name, x, w.to(on.device), theta.to(on.device), return_spikes=True)
        assert_equal(result.counts.cpu(), torch.zeros(3, 6, dtype=torch.int32))
        assert not result.spikes.any()


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_is_the_op_forced_to_it(name):
    x, w, theta = sample(name)
    w2, theta2 = w.clone(), theta.clone()
    with force("reference"):
        expected = run(name, x, w, theta, return_spikes=True)
    got = run(name, x, w2, theta2, op=reference.diehl_cook_, return_spikes=True)
    assert_equal((got.counts, got.spikes, w2, theta2), (expected.counts, expected.spikes, w, theta))
