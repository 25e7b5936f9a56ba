"""``sparse_recurrent``: recurrent connections through synapses, against the reference and against dense connections."""

import pytest
import torch
from backends import PRESENT, fetched, force, placed
from recurrent_cases import KERNELS, LIF, needs_kernels
from samples import assert_equal, assert_gradients_close, cotangents, gradients, require_grad, rich
from sparse_cases import Sparse, agree, case, connected

from snnfast import connect, neuron, ops
from snnfast.reference.call import flatten

each_kernel = pytest.mark.parametrize("op", KERNELS, ids=str)
CONNECTED = ("one step", "one delay", "a delay a neuron", "a delay a synapse", "two synapses a pair", "none")
pytestmark = needs_kernels


# ---- the kernels against the equations


@pytest.mark.usefixtures("kernels")
@each_kernel
def test_every_neuron_equals_the_reference(op):
    for variant in {"plain", rich(op), *(["soft"] if op is LIF else [])}:
        agree(op, *case(op, variant, (12, 2, 7)))


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("batch", [1, 2, 4, 5, 16, 17, 37])
def test_samples_of_every_number_of_lanes_equal_the_reference(batch):
    agree(LIF, *case(LIF, shape=(9, batch, 20), past=2))


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("weights", ["synapse", "neuron", "number"])
@pytest.mark.parametrize("kind", CONNECTED)
def test_delays_and_weights_equal_the_reference(kind, weights):
    for T, past in ((40, 3), (40, 0), (2, 0), (0, 1)):
        agree(LIF, *case(LIF, "soft", (T, 3, 7), past=past, weights=weights, c=connected(7, kind)))


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(
    "shape", [(3, 0, 4), (3, 2, 0), (1, 1), (5, 2), (5, 2, 3, 4), (34, 2, 70), (3, 2, 300)], ids=str
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_shapes_and_dtypes_equal_the_reference(shape, dtype):
    agree(LIF, *case(LIF, shape=shape, dtype=dtype, past=1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_more_neurons_than_a_block_of_the_cpu_equal_the_reference(dtype):
    agree(LIF, *case(LIF, shape=(34, 3, 300), dtype=dtype, past=1))


@pytest.mark.usefixtures("kernels")
def test_more_neurons_than_threads_of_cuda_equal_the_reference():
    c = connected(600, degree=1)
    agree(LIF, *case(LIF, shape=(18, 1, 600), past=1, weights="neuron", c=c))


@pytest.mark.usefixtures("kernels")
def test_delays_longer_than_a_segment_and_than_the_sequence_equal_the_reference():
    """The backward pass recomputes 32 steps at a time."""
    c = connected(5).with_delay(torch.tensor([1, 33, 40, 64, 200] * 3))
    agree(LIF, *case(LIF, shape=(70, 3, 5), past=50, c=c))
    c = connected(5).with_delay(torch.tensor([1, 12, 20] * 5))
    agree(LIF, *case(LIF, shape=(100, 3, 5), past=0, c=c))  # lists of spikes are used again


@pytest.mark.usefixtures("kernels")
def test_a_delay_beyond_every_memory_never_arrives():
    c = connected(5).with_delay(torch.tensor([1, 2, 2**31 - 1] * 5))
    agree(LIF, *case(LIF, shape=(9, 3, 5), past=2, c=c))


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("past", [[0.5, -2.0], [3.0, 1.0]])
@pytest.mark.parametrize("batch", [1, 5])
def test_spikes_of_before_may_be_any_numbers(past, batch):
    c, arguments = case(LIF, shape=(5, batch, 2), past=1, c=connect.fixed_probability(2, probability=1.0))
    arguments["past"] = torch.tensor([[past]], dtype=torch.float64).expand(1, batch, 2)
    agree(LIF, c, arguments)


def test_targets_of_32_bits():
    """More neurons than 16 bits number; all sums are exact, so their order does not matter."""
    H, T = 2**15 + 9, 4
    c = connect.fixed_outdegree(H, outdegree=2, seed=1)
    assert c.targets.dtype == torch.int32
    pre, post = c.edges()
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randint(0, 9, s, generator=generator) / 8 for s in ((T, 2, H), (len(c),)))
    weight.requires_grad_()
    options = {"decay": 0.5, "decay_input": False}
    spikes, v = ops.sparse_recurrent(x, weight, c, **options)
    before, state, want = torch.zeros(2, H), None, []
    for current in x:
        current = current.index_add(-1, post, before[:, pre] * weight)
        (before,), state = ops.lif(current[None], state, **options)
        want.append(before)
    assert_equal([spikes, v], [torch.stack(want), state])
    found, wanted = (torch.autograd.grad((s * x).sum(), weight)[0] for s in (spikes, torch.stack(want)))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


# ---- what must hold


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(100, 16, 200), (40, 3, 40)], ids=str)
def test_spikes_are_those_of_dense_connections(shape, dtype, kernels):
    """Bit for bit, and gradients to rounding."""
    shape = (20, 2, *shape[2:]) if kernels.name == "cuda_emulation" else shape
    H = shape[-1]
    c = connect.fixed_indegree(H, indegree=H // 10, multapses=False, seed=3)
    _, arguments = case(LIF, shape=shape, dtype=dtype, c=c, past=1)
    arguments["weight"] /= (H / 40) ** 0.5
    dense = arguments | {"weight": c.dense(arguments["weight"])}
    sparse = Sparse(LIF, c)

    def run(**values):
        return fetched(ops.recurrent(neuron="lif", **placed(values)))

    assert_equal(sparse(**arguments), run(**dense))
    found, wanted = gradients(sparse, arguments), gradients(run, dense)
    pre, post = c.edges()
    wanted["weight"] = wanted["weight"][post, pre]
    assert_gradients_close(found, wanted)


def test_a_run_worked_by_hand_with_dense_connections():
    """The run of ``test_recurrent_by_hand.py``, without the weight of 0."""
    x = torch.tensor([[1.0, 0.5], [0.25, 0.25], [0.5, 1.0]], dtype=torch.float64).requires_grad_()
    matrix = torch.tensor([[0.0, 0.5], [1.0, -0.25]], dtype=torch.float64)
    c = connect.from_dense(matrix)
    pre, post = c.edges()
    weight = matrix[post, pre].requires_grad_()
    past = torch.zeros(1, 2, dtype=torch.float64).requires_grad_()
    options = {"decay": 0.5, "decay_input": False, "surrogate": "straight_through"}
    spikes, last = ops.sparse_recurrent(x, weight, c, past, **options)
    assert spikes.tolist() == [[1, 0], [0, 1], [1, 0]]
    loss = (spikes * torch.tensor([[1.0], [2.0], [4.0]])).sum() + 4 * last.sum()
    grads = [g.tolist() for g in torch.autograd.grad(loss, (x, weight, past))]
    assert grads == [[[-5.65625, 4.40625], [6.8125, -3.25], [-0.5, 5.0]], [-3.25, -0.5, 5.0], [[4.40625, -3.9296875]]]


def test_a_delayed_spike_worked_by_hand():
    """A neuron fires at step 0; three synapses bring 1/8, 1/4 and 1/2 to the other neuron at steps 1, 3 and 3."""
    c = connect.from_edges([0, 0, 0], [1, 1, 1], 2, delay=torch.tensor([3, 1, 3]))
    weight = c.arrange(torch.tensor([0.25, 0.125, 0.5]))
    x = torch.zeros(5, 2)
    x[0, 0] = 1
    _, _, v = ops.sparse_recurrent(x, weight, c, decay=0.0, decay_input=False, return_v_seq=True)
    assert v[:, 1].tolist() == [0, 0.125, 0, 0.75, 0]
    assert_equal(c.delays(), torch.tensor([1, 3, 3]))


@pytest.mark.parametrize("batch", [1, 3])
def test_a_weight_that_no_spike_meets_may_be_infinite(batch):
    c = connect.from_edges([0, 1], [1, 0], 2)
    x = torch.zeros(3, batch, 2)
    x[0, 0, 1] = 2
    spikes, v = ops.sparse_recurrent(x, torch.tensor([torch.inf, 0.25]), c, decay=1.0, decay_input=False)
    assert v.isfinite().all()
    assert float(spikes.sum()) == 1


def test_an_infinite_weight_leaves_samples_without_a_spike_alone():
    c = connect.from_edges([0, 1], [1, 0], 2)
    x = torch.zeros(3, 3, 2)
    x[0, :2, 0] = 2
    spikes, v = ops.sparse_recurrent(x, torch.tensor([torch.inf, 0.25]), c, decay=1.0, decay_input=False)
    assert spikes[1, :, 1].tolist() == [1, 1, 0]
    assert v[2].tolist() == [0, 0]


def test_in_parts_gives_the_bits_of_the_whole():
    c, arguments = case(LIF, shape=(60, 3, 20))
    x = arguments.pop("x")
    run = Sparse(LIF, c)
    spikes, v = run(x=x, **arguments)
    first, state = run(x=x[:23], **arguments)
    second, state = run(x=x[23:], past=first[-c.longest :], **arguments | {"v": state})
    assert_equal([torch.cat([first, second]), state], [spikes, v])


def test_any_number_of_threads_gives_the_same_bits():
    c, arguments = case(LIF, shape=(20, 40, 50), dtype=torch.float32, c=connected(50, degree=20))
    results = []
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append([*Sparse(LIF, c)(**arguments), *gradients(Sparse(LIF, c), arguments).values()])
    torch.set_num_threads(before)
    assert_equal(*results)


@pytest.mark.parametrize("kind", ["plain", "delays", "inputs"])
@pytest.mark.parametrize("wide", [False, True])
def test_a_sample_on_several_threads_has_the_same_bits(kind, wide):
    """Each thread has a range of the neurons; several inputs and delays, past spikes and noise."""
    H = 2600 if not wide else 33_000
    inputs = 1 + (kind == "inputs")
    c = connect.fixed_outdegree(H, inputs * H, outdegree=150 if kind == "delays" else 66, delay=13, seed=1)
    if kind == "delays":
        c = c.with_delay(13 + torch.arange(len(c)) % 2)
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(40, H, generator=generator) < 0.2) * 1.5
    weight = torch.randn(len(c), generator=generator) * 0.4
    past = (torch.rand(9, H, generator=generator) < 0.1).float()

    @neuron(inputs=2)
    def two(fire, x, y, v):
        s, _, v = fire(0.5 * v + x - 0.1 * y, 1.0)
        return s, v

    options = {"noise": connect.PoissonNoise(0.5, 0.2, seed=3), "return_v_seq": True}
    results, before = [], torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        if inputs > 1:
            results.append(two.sparse_recurrent((x, 0.5 * x), weight, c, past, **options))
        else:
            results.append(ops.sparse_recurrent(x, weight, c, past, neuron="alif", **options))
    torch.set_num_threads(before)
    assert results[0][0][20:].any()
    for other in results[1:]:
        assert_equal(list(other), list(results[0]))


def test_a_neuron_of_the_user_equals_the_neuron_of_the_package():
    @neuron
    def leaky(fire, x, v, *, decay=0.5):
        s, _, v = fire(decay * v + x, 1.0)
        return s, v

    c, arguments = case(LIF, shape=(20, 5, 20), dtype=torch.float32, past=2)
    x, weight, past = (arguments[k] for k in ("x", "weight", "past"))
    found = leaky.sparse_recurrent(x, weight, c, past)
    want = ops.sparse_recurrent(x, weight, c, past, decay=0.5, decay_input=False)
    assert_equal(list(found), list(want))
    with force("reference"):
        assert_equal(list(leaky.sparse_recurrent(x, weight, c, past)), list(want))


# ---- registration with PyTorch


def test_opcheck_finds_nothing():
    for c, weights in ((connected(7), "synapse"), (connected(7, "one step"), "neuron")):
        _, arguments = case(LIF, shape=(9, 2, 7), dtype=torch.float32, past=2, weights=weights, c=c)
        call = ops.sparse_recurrent.check(connectivity=c, neuron="lif", **require_grad(arguments))
        forward = torch.ops.snnfast.recurrent_lif_forward
        torch.library.opcheck(forward, (*flatten(call), 4))
        with torch.no_grad():
            spikes, *states, _, checkpoints = forward(*flatten(call), 4)
        more = (checkpoints, 4, True, torch.ones_like(spikes), *(None for _ in states), None)
        plain = [a.detach() if isinstance(a, torch.Tensor) else a for a in flatten(call)]
        torch.library.opcheck(torch.ops.snnfast.recurrent_lif_backward, (*plain, spikes, *more))


@pytest.mark.parametrize("wanted", ["x", "weight", "past"])
def test_vmap_over_any_argument_equals_a_loop(wanted):
    c, arguments = case(LIF, shape=(12, 2, 7), past=2)
    batch = torch.stack([arguments[wanted] * k for k in (1.0, 0.5, 0.25)])

    def run(value):
        return Sparse(LIF, c)(**arguments | {wanted: value})

    want = [torch.stack(ts) for ts in zip(*map(run, batch), strict=True)]
    assert_equal(list(torch.vmap(run)(batch)), want)


@pytest.mark.usefixtures("fresh_compiler")
def test_compiled_and_exported_give_the_same():
    c, arguments = case(LIF, shape=(9, 2, 7), dtype=torch.float32)
    inputs = [arguments[k].requires_grad_() for k in ("x", "weight")]

    def function(x, weight):
        return ops.sparse_recurrent(x, weight, c, neuron="alif", tau=3.0)

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    want, got = function(*inputs), compiled(*inputs)
    assert_equal(list(got), list(want))
    weights = cotangents(want)
    found, wanted = (dict(zip("xw", torch.autograd.grad(y, inputs, weights), strict=True)) for y in (got, want))
    assert_gradients_close(found, wanted)

    class Module(torch.nn.Module):
        def forward(self, *inputs):
            return function(*inputs)

    exported = torch.export.export(Module(), tuple(inputs)).module()
    assert_equal(list(exported(*inputs)), list(function(*inputs)))


# ---- errors

X, C = torch.zeros(4, 2, 3), connect.from_edges([0, 1, 1, 2], [1, 0, 2, 0], 3)
W = torch.zeros(4)
MISTAKES = {
    "x has no neurons": ((torch.zeros(4), W, C), {}, ValueError, r"x must have shape \[T, ..., H\]"),
    "other neurons": ((torch.zeros(4, 2, 5), W, C), {}, ValueError, r"connect the 5 neurons of x, .* got 3 -> 3"),
    "two sides": ((X, W, connect.fixed_total(3, 4, total=4)), {}, ValueError, "got 3 -> 4 neurons"),
    "a matrix": ((X, W, torch.zeros(3, 3)), {}, TypeError, "must be a Connectivity, .* got Tensor"),
    "weights of a matrix": ((X, torch.zeros(3, 3), C), {}, ValueError, r"\[4\] or \[3\] or \[\], got \[3, 3\]"),
    "weight is wide": ((X, W.double(), C), {}, TypeError, "weight must have dtype torch.float32"),
    "weight is a word": ((X, "w", C), {}, TypeError, "weight must be a number"),
    "past lacks time": ((X, W, C, X[0]), {}, ValueError, r"past must have shape \[P, 2, 3\], got \[2, 3\]"),
    "past without end": ((X, W, C, X[:1].expand(2**57, 2, 3)), {}, ValueError, "past is too large"),
    "no such neuron": ((X, W, C), {"neuron": "no such"}, ValueError, "neuron must be one of .*lif"),
    "a readout": ((X, W, C), {"neuron": "li"}, ValueError, "neuron must be one of .*, got 'li'"),
    "a delay": ((X, W, C), {"delay": W}, TypeError, "delay"),
    "another device": (
        (X.to("meta"), W, C),
        {},
        ValueError,
        "x must be on the CPU or on CUDA, .* got meta; elsewhere use recurrent",
    ),
}


@pytest.mark.parametrize("label", MISTAKES)
def test_errors_name_the_argument(label):
    args, kwargs, error, message = MISTAKES[label]
    with pytest.raises(error, match=message):
        ops.sparse_recurrent(*args, **kwargs)


def raw(**changes):
    call = ops.sparse_recurrent.check(X, W, C, past=X)
    torch.ops.snnfast.recurrent_lif_forward(*flatten(call._replace(**changes)), 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"weight": torch.zeros(5)},
        {"weight": W.double()},
        {"delay": torch.zeros(3)},
        {"targets": None},
        {"steps": None},
        {"targets": C.targets.long()},
        {"targets": C.targets + 1},
        {"targets": C.targets - 3},
        {"targets": C.targets.int() - 3},
        {"targets": C.targets[:-1]},
        {"steps": torch.tensor([0])},
        {"steps": torch.tensor([], dtype=torch.int64)},
        {"steps": torch.tensor([1, 2])},
        {"steps": torch.tensor([1.0])},
        {"first": C.first[:-1]},
        {"first": C.first + 1},
        {"first": C.first.flip(0)},
        {"first": torch.tensor([0, 9, 3, 4])},
        {"first": C.first.int()},
    ],
    ids=str,
)
def test_raw_calls_with_wrong_tensors_are_refused(changes):
    with pytest.raises(RuntimeError, match="recurrent_lif: "):
        raw(**changes)
    raw()


@pytest.mark.skipif("cuda_emulation" not in PRESENT, reason="no emulated CUDA")
def test_wrong_synapses_on_a_gpu_reach_no_other_memory():
    """A kernel checks every index, since the host does not read them; the emulation has the bounds of the CPU."""
    call = ops.sparse_recurrent.check(2 * torch.ones(4, 2, 3), torch.ones(4), C, past=torch.ones(4, 2, 3))
    for changes in (
        {"first": torch.tensor([-9, 1, 3, 99])},
        {"first": C.first.flip(0)},
        {"targets": C.targets + 2},
        {"targets": C.targets - 900},
        *({"steps": torch.tensor([step])} for step in (-9, 0, 5, 2**63 - 1)),
    ):
        flat = flatten(call._replace(**changes))
        spikes, v, _, checkpoints = torch.ops.snnfast_emulated.recurrent_lif_forward(*flat, 2)
        assert v.isfinite().all()
        rest = torch.ones_like(spikes), torch.ones_like(v), None
        grads = torch.ops.snnfast_emulated.recurrent_lif_backward(*flat, spikes, checkpoints, 2, True, *rest)
        assert grads[0].isfinite().all()


def test_raw_calls_with_falling_delays_are_refused():
    c = connect.from_edges([0, 1], [1, 0], 2, delay=torch.tensor([1, 2]))
    call = ops.sparse_recurrent.check(torch.zeros(3, 1, 2), torch.zeros(2), c)
    with pytest.raises(RuntimeError, match="recurrent_lif: "):
        torch.ops.snnfast.recurrent_lif_forward(*flatten(call._replace(steps=call.steps.flip(0))), 0)
