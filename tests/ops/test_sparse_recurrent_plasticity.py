"""Plasticity within a call of ``sparse_recurrent``: against calls of one step, the reference, and by hand."""

import pytest
import torch
from backends import CPU, PRESENT, force
from samples import assert_equal
from spike_linear_cases import needs_kernels
from stdp_cases import PLAIN, RULES
from torch.fx.experimental.proxy_tensor import make_fx

import snnfast
from snnfast import backend, connect, ops, plasticity, reference

pytestmark = needs_kernels
EXACT = {k for k in RULES if not k.endswith(("power law", "exponential", "pre and post"))}
HOW = {"decay": 0.9, "decay_input": False}
H = 37


@snnfast.neuron
def leaky(fire, x, v, *, decay=0.9):
    """Leak, threshold and reset."""
    s, _, after = fire(decay * v + x, 1.0)
    return s, after


def connected(delay=3, total=200, neurons=H):
    """Return connections, some of the same two neurons, some of a neuron with itself."""
    return connect.fixed_total(neurons, total=total, seed=1).with_delay(delay)


def drawn(*shape, dtype=torch.float64, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def within(run, x, c, rule, parts=None, weight=None, past=None, **how):
    """Return spikes, weights, traces and states of a call, or of calls of several steps."""
    w = drawn(len(c), dtype=torch.float64 if x.dtype == torch.float64 else torch.float32) if weight is None else weight
    online = plasticity.Online(rule, dt=0.5, reduction="mean", sources=range(2, c.n_pre))
    sent, states = [] if past is None else [past], {}
    for part in x.split(parts or len(x)):
        before = torch.cat(sent)[-c.longest :] if sent else None
        spikes, v = run(part, w, c, before, plasticity=online, **HOW, **how, **states)
        states = {"v": v}
        sent.append(spikes)
    return [torch.cat(sent[past is not None :]), w, *(s for s in online.state if s is not None), v]


def step_by_step(x, c, rule, past=None):
    """Return the same of calls of one step, each followed by ``sparse_stdp_``."""
    w, state, v = drawn(len(c), dtype=torch.float64 if x.dtype == torch.float64 else torch.float32), None, None
    rest = x.new_zeros(c.longest, *x.shape[1:])
    sent = rest if past is None else torch.cat([rest, past])
    begin = len(sent)
    for current in x:
        spikes, v = ops.sparse_recurrent(current[None], w, c, sent[-c.longest :], v=v, **HOW)
        sent = torch.cat([sent, spikes])
        pre, post = (s.reshape(1, -1, c.n_pre) for s in (sent[-1 - c.longest], spikes))
        how = {"rule": rule, "dt": 0.5, "reduction": "mean", "sources": range(2, c.n_pre), "state": state}
        state = ops.sparse_stdp_(w, pre, post, c, **how)
    return [sent[begin:], w, *state[:4], v]


# ---- the kernel against the equations


@pytest.mark.parametrize("name", ["reference", *CPU])
@pytest.mark.parametrize("delay", [1, 3, 20])
@pytest.mark.parametrize("batch", [(), (1,), (3,), (2, 8)], ids=str)
def test_a_call_equals_calls_of_one_step(name, delay, batch):
    c, past = connected(delay), (drawn(5, *batch, H) < 0.2).double()
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        x = drawn(30, *batch, H, dtype=dtype)
        for before in (None, past.to(dtype)):
            want = step_by_step(x, c, PLAIN["triplet"], before)
            with force(name):
                assert_equal(within(ops.sparse_recurrent, x, c, PLAIN["triplet"], past=before), want)
        assert not torch.equal(want[1], drawn(len(c), dtype=want[1].dtype))


@pytest.mark.parametrize("label", RULES)
def test_every_rule_equals_the_reference(label):
    for dtype in (torch.float64, torch.float32)[: 1 + (label in EXACT)]:
        x, c = drawn(30, 2, H, dtype=dtype), connected()
        want = within(reference.sparse_recurrent, x, c, RULES[label])
        assert_equal(within(ops.sparse_recurrent, x, c, RULES[label]), want)


def test_in_parts_gives_the_bits_of_the_whole():
    x, c = drawn(40, 2, H), connected(4)
    want = within(ops.sparse_recurrent, x, c, PLAIN["triplet"])
    for parts in (1, 7, 39):
        assert_equal(within(ops.sparse_recurrent, x, c, PLAIN["triplet"], parts=parts), want)


@pytest.mark.parametrize("shape", [(0, 2, H), (5, 0, H), (5, 2, 0), (0, 0, 0), (1, 1, 1)], ids=str)
def test_empty_shapes_equal_the_reference(shape):
    c = connected(total=0 if shape[-1] == 0 else 3, neurons=shape[-1])
    x, rule = drawn(*shape), PLAIN["triplet"]
    found = []
    for run in (ops.sparse_recurrent, reference.sparse_recurrent):
        online, w = plasticity.Online(rule), drawn(len(c))
        spikes, v = run(x, w, c, plasticity=online, **HOW)
        found.append([spikes, v, w, *online.state[:4]])
    assert_equal(*found)


def test_targets_of_32_bits_equal_the_reference():
    c = connected(total=300, neurons=2**15 + 9)
    x = drawn(3, 1, c.n_pre)
    want = within(reference.sparse_recurrent, x, c, PLAIN["pair"])
    assert_equal(within(ops.sparse_recurrent, x, c, PLAIN["pair"]), want)


def test_any_number_of_threads_gives_the_same_bits(threads):
    """Without plasticity threads would share the neurons: many, of which each has many synapses."""
    c = connect.fixed_outdegree(700, outdegree=100, seed=1).with_delay(60)
    x, w = drawn(130, 700, dtype=torch.float32), drawn(len(c), dtype=torch.float32) / 100
    found = []
    for count in (1, 2):
        threads(count)
        found.append(within(ops.sparse_recurrent, x, c, PLAIN["pair"], weight=w.clone()))
    assert_equal(*found)


def test_events_noise_and_membranes_are_those_of_the_reference():
    c, found = connected(), []
    noise = connect.PoissonNoise(0.8, 0.7, seed=3)
    for run in (ops.sparse_recurrent, reference.sparse_recurrent):
        online, w = plasticity.Online(PLAIN["pair"]), drawn(len(c))
        how = {"num_steps": 40, "batch": 2, "noise": noise, "plasticity": online, **HOW}
        events, v = run(None, w, c, record="events", **how)
        again = run(None, w, c, return_v_seq=True, refractory=2, **how)
        found.append([events.dense(), v, *again, w, *online.state[:4]])
    assert_equal(*found)
    assert found[0][0].sum() > 0


def test_neurons_of_ones_own_learn():
    c, x, found = connected(), drawn(40, 2, H), []
    for name in ("reference", *CPU):
        online, w = plasticity.Online(PLAIN["triplet"], sources=range(2, H), dt=0.5, reduction="mean"), drawn(len(c))
        with force(name):
            spikes, v = leaky.sparse_recurrent(x, w, c, plasticity=online)
        found.append([spikes, w, *online.state[:4], v])
    assert_equal(*found)
    assert_equal(found[0], within(ops.sparse_recurrent, x, c, PLAIN["triplet"]))


# ---- what must hold


@pytest.mark.parametrize("name", ["reference", *CPU])
def test_hand_worked(name):
    """The second spike reaches its neuron through a weight that the first has strengthened, and so fires it."""
    c = connect.from_edges([0], [1], 2)
    w, x = torch.tensor([0.5]), torch.tensor([[1.0, 0.0], [0.0, 0.6], [1.0, 0.0], [0.0, 0.4]])
    rule = plasticity.pair(0.125, 0.25, tau_pre=1e30, tau_post=1e30)
    with force(name):
        spikes, _ = ops.sparse_recurrent(x, w, c, plasticity=plasticity.Online(rule), decay=0.0, decay_input=False)
    assert spikes.tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]  # 0.4 + 0.5 alone would be below the threshold
    assert w.tolist() == [0.5 + 2 * (0.25 - 0.125)]


def test_the_weights_of_a_parameter_change_and_have_no_gradient():
    c, x = connected(), drawn(20, 2, H)
    w = torch.nn.Parameter(drawn(len(c)))
    loss = (w * w).sum()
    spikes, v = ops.sparse_recurrent(x, w, c, plasticity=plasticity.Online(PLAIN["pair"]), **HOW)
    assert not spikes.requires_grad
    assert not v.requires_grad
    assert not torch.equal(w.detach(), drawn(len(c)))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_inference_mode_learns():
    c, x = connected(), drawn(20, 2, H)
    want = within(ops.sparse_recurrent, x, c, PLAIN["pair"])
    with torch.inference_mode():
        assert_equal(within(ops.sparse_recurrent, x.clone(), c, PLAIN["pair"]), want)


def test_reset_forgets_the_spikes_and_a_state_goes_on():
    c, x = connected(), drawn(20, 2, H)
    online, w = plasticity.Online(PLAIN["triplet"]), drawn(len(c))
    ops.sparse_recurrent(x, w, c, plasticity=online, **HOW)
    other, again = plasticity.Online(PLAIN["triplet"], state=online.state), w.clone()
    for learner, weight in ((online, w), (other, again)):
        ops.sparse_recurrent(x, weight, c, plasticity=learner, **HOW)
    assert_equal([w, *online.state[:4]], [again, *other.state[:4]])
    online.reset()
    ops.sparse_recurrent(x[:0], w, c, plasticity=online, **HOW)
    assert not any(trace.any() for trace in online.state[:4])
    assert repr(online).startswith("Online(Rule(kind='triplet'")


@pytest.mark.usefixtures("fresh_compiler")
def test_a_compiled_function_learns_as_it_is():
    c, x = connected(), drawn(20, 2, H)

    def run(x, w, online):
        spikes, _ = ops.sparse_recurrent(x * 1.25, w, c, plasticity=online, **HOW)
        return spikes.sum(0)

    found = []
    for function in (run, torch.compile(run, backend="aot_eager")):
        w, online = drawn(len(c)), plasticity.Online(PLAIN["triplet"])
        found.append([function(x, w, online), function(x, w, online), w, *online.state[:4]])
    assert_equal(*found)


def test_traces_and_vmap_are_refused():
    c, x, w = connected(), drawn(20, 2, H), drawn(len(connected()))

    def run(x, w):
        return ops.sparse_recurrent(x, w, c, plasticity=plasticity.Online(PLAIN["pair"]), **HOW)[0]

    with pytest.raises(ValueError, match="sparse_recurrent: plasticity must be None under torch"):
        torch.vmap(run, (0, None))(x[None], w)
    with pytest.raises(ValueError, match="sparse_recurrent: plasticity must be None under torch"):
        make_fx(run, tracing_mode="fake")(x, w)

    class Module(torch.nn.Module):
        def forward(self, x, w):
            return run(x, w)

    with pytest.raises((ValueError, RuntimeError)):
        torch.export.export(Module(), (x, w))
    assert_equal([w], [drawn(len(c))])


# ---- errors

C = connected()
X, W = drawn(5, 2, H), drawn(len(connected()))
PAIR = plasticity.pair()
MISTAKES = {
    "a rule": ({"plasticity": PAIR}, TypeError, "plasticity must be an Online of snnfast.plasticity, got Rule"),
    "a number": ({"weight": 0.5}, ValueError, r"weight must have shape \[200\], one for each synapse, and be contig"),
    "a weight a neuron": ({"weight": W[:H]}, ValueError, r"weight must have shape \[200\], .* got \[37\]"),
    "strides": ({"weight": torch.stack([W, W], 1)[:, 0]}, ValueError, "and be contiguous with plasticity"),
    "out of bounds": ({"weight": W - 2}, ValueError, r"weight must lie in \[0, 1\], got values from"),
    "delays": (
        {"connectivity": C.with_delay(torch.arange(200) % 3 + 1)},
        ValueError,
        "connectivity must have the same delay everywhere with plasticity, got 1 to 3 steps",
    ),
    "samples": ({"x": drawn(5, 17, H)}, ValueError, "x must have at most 16 samples with plasticity, got 17"),
    "a gradient": ({"x": X.clone().requires_grad_()}, ValueError, "plasticity has no gradient; call it under"),
    "several spikes": ({"max_spikes": 3, "v_reset": None}, ValueError, "max_spikes must be 1 with plasticity, got 3"),
    "sources": (
        {"plasticity": plasticity.Online(PAIR, sources=range(99))},
        ValueError,
        "sources of plasticity must be a range with step 1 within",
    ),
    "a state of another batch": (
        {"plasticity": plasticity.Online(PAIR, state=ops.StdpState(*[torch.zeros(3, H)] * 4, None))},
        ValueError,
        r"state\.trace_pre must have shape \[2, 37\]",
    ),
    "no state": (
        {"plasticity": plasticity.Online(PAIR, state=3)},
        TypeError,
        "state must be a StdpState or None, got int",
    ),
    "meta": ({"x": X.to("meta"), "weight": W.to("meta")}, ValueError, "x must be on the CPU or on CUDA"),
}


@pytest.mark.parametrize("label", MISTAKES)
def test_errors_name_the_argument(label):
    changes, error, message = MISTAKES[label]
    arguments = {"x": X, "weight": W.clone(), "connectivity": C, "plasticity": plasticity.Online(PAIR)} | changes
    with pytest.raises(error, match=f"sparse_recurrent: .*{message}"):
        ops.sparse_recurrent(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"rule": "pair"}, TypeError, "rule must be a rule of snnfast.plasticity"),
        ({"rule": plasticity.OwnRule(lambda s: s.w)}, TypeError, "rule must be .* no OwnRule, got OwnRule"),
        ({"dt": 0.0}, ValueError, "dt must be"),
        ({"reduction": "max"}, ValueError, "reduction must be sum or mean, got 'max'"),
        ({"sources": [1, 2]}, TypeError, "sources must be a range or None, got list"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_arguments_of_online_are_errors(arguments, error, message):
    with pytest.raises(error, match=f"Online: .*{message}"):
        plasticity.Online(**{"rule": PAIR, **arguments})


@pytest.mark.skipif("cuda_emulation" not in PRESENT, reason="no emulated CUDA")
def test_a_gpu_is_refused():
    with backend.use("cuda_emulation"), pytest.raises(RuntimeError, match="plasticity must be empty on CUDA"):
        ops.sparse_recurrent(X, W.clone(), C, plasticity=plasticity.Online(PAIR))


def raw(**changes):
    """Return the arguments of a call of the operator, of which some are others."""
    call = ops.sparse_recurrent.check(X, W.clone(), C, plasticity=plasticity.Online(PAIR))
    call = call._replace(**{name: change(getattr(call, name)) for name, change in changes.items()})
    return [*reference.call.flatten(call), 0]


def at(place, change):
    """Return a function that changes an element of a list."""
    return lambda values: [*values[:place], change(values[place]), *values[place + 1 :]]


@pytest.mark.parametrize(
    "changes",
    [
        {"plasticity": lambda values: values[:-1]},
        {"weight": lambda w: w[:H]},
        {"weight": lambda w: torch.stack([w, w], 1)[:, 0]},
        {"plasticity": at(0, lambda first: first.flip(0))},
        {"plasticity": at(1, lambda incoming: incoming.long())},
        {"plasticity": at(1, lambda incoming: incoming.flip(0))},
        {"plasticity": at(2, lambda sources: sources + 1)},
        {"plasticity": at(3, lambda trace: trace[:1])},
        {"plasticity": at(4, lambda trace: trace.float())},
        {"plasticity": at(5, lambda trace: trace.T.contiguous().T)},
        {"plasticity": at(6, lambda trace: trace[..., 1:])},
        {"plasticity": at(7, lambda numbers: numbers[1:])},
        {"plasticity": lambda values: [*values[:7], torch.zeros(2, 7, dtype=torch.float64), values[7]]},
        {"plasticity": at(7, lambda numbers: numbers * torch.nan)},
        {"plasticity": at(7, lambda numbers: numbers.index_fill(0, torch.tensor(0), 9.0))},
        {"plasticity": at(7, lambda numbers: numbers.index_fill(0, torch.tensor(18), 99.0))},
        {"plasticity": at(7, lambda numbers: numbers.index_fill(0, torch.tensor(17), -1.0))},
        {"x": lambda x: drawn(5, 17, H)},
        {"steps": lambda steps: torch.tensor([1, 2]), "first": lambda first: first.repeat_interleave(2)[:-1]},
    ],
    ids=lambda changes: ", ".join(changes),
)
def test_raw_calls_with_wrong_tensors_are_refused(changes):
    torch.ops.snnfast.recurrent_lif_forward(*raw())
    with pytest.raises(RuntimeError, match="recurrent_lif: "):
        torch.ops.snnfast.recurrent_lif_forward(*raw(**changes))


def test_raw_calls_of_dense_weights_and_of_gradients_are_refused():
    arguments = raw(first=lambda _: None, targets=lambda _: None, steps=lambda _: None, weight=lambda _: drawn(H, H))
    with pytest.raises(RuntimeError, match="plasticity and record_events need sparse connections"):
        torch.ops.snnfast.recurrent_lif_forward(*arguments)
    *arguments, _ = raw()
    spikes, *_, checkpoints = torch.ops.snnfast.recurrent_lif_forward(*arguments, 2)
    with pytest.raises(RuntimeError, match="neither a part of a network nor plasticity has a gradient"):
        torch.ops.snnfast.recurrent_lif_backward(*arguments, spikes, checkpoints, 2, False, spikes, None, None)
