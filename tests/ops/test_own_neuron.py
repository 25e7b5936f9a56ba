"""Neurons from step functions: kernels against the loop in plain PyTorch, bit for bit forward and to 1e-12 backward."""

import copy
import math
import pickle
import warnings
from pathlib import Path

import pytest
import torch
from equations import gated, glif, klif, plain_lif, resonator, two_compartments
from interpreter import python
from own_neuron_cases import Half, Recurrent, compare, draw, every_exponent, four_functions, readout
from samples import assert_equal
from torch import nn

import snnfast
from snnfast.compiler.build import CompileError, library
from snnfast.compiler.expression import TraceError
from snnfast.compiler.variant import source_of, variant_of
from snnfast.ops import own_kernels, own_neuron
from snnfast.ops.repeat import repeat
from snnfast.reference.recurrent import NOT_RECURRENT

needs_kernels = pytest.mark.skipif(snnfast.backend.extension is None, reason="the extension is not built")


def half(u):
    return Half.apply(u)


@needs_kernels
@pytest.mark.parametrize(
    ("op", "arguments"),
    [
        (klif, {"k": draw(7).abs(), "decay": 0.8, "v": draw(3, 7), "v_reset": None, "return_v_seq": True}),
        (klif, {"k": 1.3, "surrogate": snnfast.surrogate.sigmoid(3.0), "detach_reset": True}),
        (glif, {"alpha": draw(7).sigmoid(), "beta": draw(1).sigmoid(), "gamma": draw(7).sigmoid()}),
        (two_compartments, {"refractory": 2, "strict": True, "beta_d": draw(7), "v_reset": -0.2}),
        (two_compartments, {"v_reset": None, "max_spikes": 3, "surrogate": "triangle"}),
        (resonator, {"omega": draw(7).abs() * 10, "b_offset": 0.5, "u": draw(3, 7), "v_threshold": 0.3}),
        (gated, {"decay": draw(7).sigmoid()}),
        (plain_lif, {"v_rest": draw(7), "v_threshold": draw(1, 7).abs(), "v_reset": draw(7)}),
        (plain_lif, {"surrogate": half}),
        (readout, {"decay": draw(7).sigmoid(), "return_v_seq": True}),
    ],
)
def test_kernels_equal_the_reference(op, arguments):
    inputs = [draw(70, 3, 7, seed=k, scale=1.5) for k in range(len(op.inputs))]
    outputs = compare(op, inputs, **arguments)
    assert op is readout or 0.01 < outputs[0].clamp(max=1).mean() < 0.99


@needs_kernels
@pytest.mark.usefixtures("as_shipped")
def test_kernels_with_the_flags_of_users_equal_the_reference():
    """Kernels with SIMD, choices and functions; with these flags one takes two seconds to compile."""
    compare(klif, [draw(70, 3, 7)], k=draw(7).abs(), v=draw(3, 7), return_v_seq=True)
    inputs = [draw(70, 3, 7, seed=k, scale=1.5) for k in range(len(resonator.inputs))]
    compare(resonator, inputs, omega=draw(7).abs() * 10, u=draw(3, 7), v_threshold=0.3)


@snnfast.neuron
def chooses(fire, x, v, *, low=0.1, high=0.7):
    """Step with numbers on both sides of a choice, and in functions for which PyTorch requires tensors."""
    h = v * torch.where(x > 0, low, high) + torch.minimum(x, high) * torch.where(v > 0.1, 0.3, 0.9)
    s, _, v = fire(h, torch.maximum(low, h * 0.1))
    return s, v


@needs_kernels
def test_numbers_are_chosen_in_the_dtype_of_the_states():
    compare(chooses, [draw(30, 3, 7)], low=0.15)
    compare(chooses, [draw(30)], high=0.6)


@snnfast.neuron
def named(fire, x, v, trace, *, tape=0.5, left=0.2, of_left=0.3, states=0.4, v_threshold=1.0):
    """Step with names that are keywords of C++ or used in the generated code."""
    auto = tape * v + left * x
    times, absolute = auto * of_left, auto + 1
    kLeft = absolute * states + times * absolute
    _private = kLeft + trace
    s, _, v = fire(_private, v_threshold)
    return s, v, left * trace + s


@needs_kernels
def test_any_name_may_stand_in_a_step():
    compare(named, [draw(30, 3, 7)], tape=draw(7).sigmoid())


@needs_kernels
@pytest.mark.parametrize("name", ["rows", "param", "own"])
def test_any_name_may_be_that_of_a_neuron(name):
    """These names are used in the generated code."""
    space = {}
    exec(f"def {name}(fire, x, v):\n    s, _, v = fire(0.5 * v + x, 1.0)\n    return s, v", space)
    compare(snnfast.neuron(space[name]), [draw(9, 3)])


@needs_kernels
def test_float32_over_many_blocks_and_channels_last():
    x = draw(37, 4, 6, 20, 20, dtype=torch.float32).to(memory_format=torch.contiguous_format)
    compare(klif, [x], 1e-4)
    last = x.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (37, 4))
    spikes, _ = klif(last, k=1.2)
    assert_equal(spikes, klif(x, k=1.2)[0])
    assert spikes.stride() == last.stride()


@snnfast.neuron
def normlif(fire, x, v, *, decay=0.5, gain=0.5, scale=1.0, shift=0.0, v_threshold=1.0):
    """LIF neurons with a batch normalisation of their input."""
    s, _, v = fire(decay * v + gain * (scale * x + shift), v_threshold)
    return s, v


@needs_kernels
def test_a_batch_normalisation_inside_is_that_before_the_neurons():
    """One value for each channel, over several blocks of neurons, the last of which is not full."""
    x, norm = 3 * draw(20, 3, 5, 9, 13), nn.BatchNorm2d(5).double()
    with torch.no_grad():
        norm.weight.copy_(1 + draw(5).abs()), norm.bias.copy_(draw(5))
    var, mean = torch.var_mean(x, (0, 1, 3, 4), unbiased=False)
    scale = norm.weight / torch.sqrt(var + norm.eps)
    scale, shift = (p.detach().view(-1, 1, 1) for p in (scale, norm.bias - mean * scale))
    spikes, _ = compare(normlif, [x], 1e-10, scale=scale, shift=shift)
    two_layers = nn.Sequential(snnfast.nn.Time(norm), snnfast.nn.LIF(tau=2.0))
    torch.testing.assert_close(spikes, two_layers(x), rtol=0, atol=0)
    assert 0.1 < spikes.mean() < 0.9


@needs_kernels
def test_several_inputs_in_16_bits():
    inputs = [draw(40, 5, 3, seed=k).to(torch.bfloat16) for k in range(2)]
    outputs = gated(*inputs)
    for got, right in zip(outputs, gated.reference(*inputs)):
        assert got.dtype == right.dtype
        torch.testing.assert_close(got, right)


@needs_kernels
def test_is_the_packages_own_neuron():
    x = draw(50, 4, 9)
    spikes, v = plain_lif(x, decay=0.75, v_reset=None)
    expected, expected_v = snnfast.ops.lif(x, decay=0.75, v_reset=None)
    assert_equal(spikes, expected)
    assert_equal(v, expected_v)


@needs_kernels
@pytest.mark.parametrize("delay", [None, 0.7])
def test_recurrent_kernels_equal_the_reference(delay):
    more = {"weight": draw(7, 7, seed=3), "k": draw(7).abs(), "v": draw(3, 7, seed=4), "return_v_seq": True}
    if delay is not None:
        more |= {"delay": draw(7, seed=5).abs() * 3, "past": (draw(4, 3, 7, seed=6) > 0.5).double()}
    compare(Recurrent(klif), [draw(40, 3, 7)], 1e-11, **more)


@needs_kernels
def test_recurrent_lif_is_the_packages():
    x, weight = draw(40, 3, 7), draw(7, 7, seed=3)
    got = plain_lif.recurrent(x, weight, decay=0.6)
    assert_equal(got[0], snnfast.ops.recurrent(x, weight, decay=0.6)[0])


def test_a_run_worked_by_hand():
    # h = relu(2 (0.5 v + x)): 1.0 fires and resets to 0; 0.4; 2 (0.2 + 0.1) = 0.6; 2 (0.3 - 1) = -1.4 is cut off
    x = torch.tensor([[0.5], [0.2], [0.1], [-1.0]], dtype=torch.float64, requires_grad=True)
    for run in (klif, klif.reference):
        spikes, v, v_seq = run(x, k=2.0, return_v_seq=True, surrogate="straight_through")
        assert spikes.flatten().tolist() == [1, 0, 0, 0]
        assert v_seq.flatten().tolist() == pytest.approx([0, 0.4, 0.6, 0])
        (grad,) = torch.autograd.grad(spikes.sum() + v.sum(), x)
        # With slope 1 dL/dh is (1 + g (v_reset - h)) + g (1 - s), where g is dL/dv of the step: 0 after the cut-off of
        # the last step, 1 and 1.6. dL/dx is 2 dL/dh, and dL/dv of the step before dL/dh, or 0 where h is cut off.
        assert grad.flatten().tolist() == pytest.approx([-1.2, 3.2, 2.0, 0.0])


def test_glif_at_the_ends_of_its_gates():
    """A LIF with a hard reset, and an IF with a linear leak and a soft reset."""
    x = draw(30, 7, scale=2.0)
    lif = snnfast.ops.lif(x, decay=0.7, decay_input=False, return_state=False)[0]
    assert_equal(glif(x, alpha=1.0, beta=0.0, gamma=1.0, decay=0.7)[0], lif)
    leaks = snnfast.ops.lif(x - 0.125, decay=1.0, decay_input=False, v_reset=None, return_state=False)[0]
    assert_equal(glif(x, alpha=0.0, beta=0.0, gamma=0.0, leak=0.125)[0], leaks)
    assert min(lif.mean(), leaks.mean()) > 0.05


def test_glif_is_that_of_spikingjelly():
    neurons = pytest.importorskip("spikingjelly.activation_based.neuron")
    from spikingjelly.activation_based import surrogate

    layer = neurons.GatedLIFNode(T=12, inplane=4, surrogate_function=surrogate.ATan(2.0)).double()
    with torch.no_grad():
        for seed, p in enumerate(layer.parameters()):
            p.add_(draw(*p.shape, seed=seed, scale=0.5))
        layer.conduct[:] = layer.conduct[0]  # one gain for all steps
    names = {"decay": "tau", "leak": "linear_decay", "v_subtract": "v_subreset"}
    gates = {
        name: getattr(layer, names.get(name, name)).sigmoid().view(-1, 1, 1) for name in glif.parameters if name != "g"
    }
    x = draw(12, 3, 4, 5, 5, scale=1.5).requires_grad_()
    spikes = glif(x, g=layer.conduct[0].sigmoid().view(-1, 1, 1), **gates)[0]
    expected = layer(x)
    assert_equal(spikes, expected)
    leaves = [x, layer.tau, layer.gamma, layer.v_subreset]
    weights = draw(*x.shape, seed=9)
    grads = [torch.autograd.grad((y * weights).sum(), leaves, retain_graph=True) for y in (spikes, expected)]
    for got, right in zip(*grads):
        torch.testing.assert_close(got, right, rtol=1e-12, atol=1e-12)


@snnfast.neuron
def weighted(fire, x, v, *, weight=1.0):
    s, _, v = fire(v + weight * x, 1.0)
    return s, v


def test_no_steps_and_no_neurons():
    for shape in ((0, 3), (5, 0)):
        spikes, v = klif(torch.zeros(shape))
        assert spikes.shape == shape
        assert v.shape == shape[1:]


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: snnfast.neuron(lambda fire, x: x), "at least one state by position"),
        (lambda: snnfast.neuron(lambda fire, x, v, *more: (x, v)), "have no names"),
        (lambda: snnfast.neuron(lambda fire, x, v, *, k: (x, v)), "k needs a default"),
        (lambda: snnfast.neuron(lambda fire, x, v, *, strict=1: (x, v)), "strict is an argument of every neuron"),
        (lambda: snnfast.neuron(lambda fire, x, v: v), "must return its outputs"),
        (lambda: snnfast.neuron(lambda fire, x, _v: (x, _v)), "_v cannot be a field of the call"),
        (lambda: snnfast.neuron(lambda fire, x, v, *, fires=1.0: (x, v)), "fires cannot be a field of the call"),
        (lambda: weighted.recurrent(torch.zeros(3, 2), torch.zeros(2, 2)), "weight is an argument of recurrent"),
        (lambda: snnfast.neuron(lambda fire, x, v: fire(v + x)[::2]), r"fire takes .* fire\(h, threshold\)"),
        (lambda: snnfast.neuron(lambda fire, x, v: fire(v, 1, 1, 1)[::2]), r"fire takes .* fire\(h, threshold\)"),
        (lambda: snnfast.neuron(3), "step must be a function, got int"),
        (lambda: klif(torch.zeros(3, 2), q=1), "klif: there is no argument 'q'"),
        (lambda: klif(torch.zeros(3, 2), k="a"), "k must be a number, got str"),
        (lambda: klif(torch.zeros(3, 2), k=torch.ones(5)), "k must be a number or broadcast"),
        (lambda: klif(torch.zeros(3, 2), torch.zeros(3)), "v must have shape"),
        (lambda: gated(torch.zeros(3, 2)), "gated\\(\\) missing 1 required positional argument: 'gate'"),
        (lambda: gated(torch.zeros(3, 2), torch.zeros(3, 4)), "gate must have shape"),
        (lambda: klif(torch.zeros(3, 2), max_spikes=2), "max_spikes above 1 needs a soft reset"),
        (lambda: readout(torch.zeros(3, 2), strict=True), "strict needs spikes"),
        (lambda: gated.recurrent(torch.zeros(3, 2), torch.zeros(2, 2)), "one input, got 2"),
        (lambda: gated.sparse_recurrent(None, 0.1, None, num_steps=3), "neurons with one output, .* these have 2"),
        (lambda: readout.sparse_recurrent(None, 0.1, None, num_steps=3), "these have 1 and do not fire"),
        (lambda: klif.layer(q=1), "there is no argument 'q'"),
    ],
)
def test_errors_say_what_is_wrong(make, error):
    with pytest.raises((TypeError, ValueError), match=error):
        make()


@needs_kernels
def test_a_step_that_cannot_be_compiled_says_so_with_its_line():
    @snnfast.neuron
    def step(fire, x, v):
        s, _, v = fire(v + x - x.mean(), 1.0)
        return s, v

    with pytest.raises(TraceError, match=r"test_own_neuron.py:\d+ \(`s, _, v = fire\(v \+ x - x.mean\(\), 1.0\)`\)"):
        step(torch.zeros(3, 2))

    @snnfast.neuron(compile=False)
    def plain(fire, x, v):
        s, _, v = fire(v + x - x.mean(), 1.0)
        return s, v

    assert plain(torch.ones(3, 2))[0].sum() == 0


@needs_kernels
def test_without_a_compiler_it_runs_in_pytorch_and_warns_once(monkeypatch):
    def broken(name, source, target):
        raise CompileError("no compiler was found")

    @snnfast.neuron
    def step(fire, x, v):
        s, _, v = fire(v + x, 1.0)
        return s, v

    monkeypatch.setattr(own_neuron, "library", broken)
    with pytest.warns(snnfast.backend.BackendWarning, match="step runs in plain PyTorch, which is slow: no compiler"):
        spikes, _ = step(torch.ones(3, 2))
    assert spikes.sum() == 6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(torch.ones(3, 2))
    with snnfast.backend.use("cpu"), pytest.raises(snnfast.backend.BackendError, match="no compiler was found"):
        step(torch.ones(3, 2))


@needs_kernels
def test_two_neurons_of_one_name_stay_apart():
    def make(factor):
        def same(fire, x, v):
            s, _, v = fire(v + factor * x, 1.0)
            return s, v

        return snnfast.neuron(same)

    first, second = make(1.0), make(0.25)
    x = torch.full((4, 1), 0.5)
    assert first(x)[0].sum() == 2
    assert second(x)[0].sum() == 0
    assert first(x)[0].sum() == 2


@snnfast.neuron
def constants(fire, x, v, u, *, tau=3.0, period=9.0, v_threshold=0.4):
    angle = 2 * math.pi / period
    decay = torch.exp(-1 / tau)
    u, v = (
        decay * (torch.cos(angle) * u - torch.sin(angle) * v) + torch.sigmoid(tau - period) * x,
        decay * (torch.sin(angle) * u + torch.cos(angle) * v + torch.tanh(tau).clamp(max=0.9) * x),
    )
    s, _, v = fire(v, torch.sqrt(v_threshold))
    return s, v, u


@needs_kernels
@pytest.mark.parametrize(
    ("arguments", "dtype"),
    [
        ({}, torch.float64),
        ({"tau": torch.tensor([2.5] * 7)}, torch.float32),
        ({"period": torch.tensor([8.0] * 7), "tau": 4.0}, torch.float64),
    ],
)
def test_functions_of_parameters_that_are_numbers_or_tensors(arguments, dtype):
    arguments = {k: v.to(dtype) if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}
    spikes, *_ = compare(
        constants, [draw(40, 3, 7, dtype=dtype)], 1e-12 if dtype == torch.float64 else 1e-4, **arguments
    )
    assert 0.01 < spikes.mean() < 0.99


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_functions_of_every_number_have_the_bits_of_the_reference(dtype):
    x = every_exponent(dtype)
    assert_equal(four_functions(x), four_functions.reference(x))


@needs_kernels
@pytest.mark.parametrize("recurrent", [False, True])
def test_second_derivatives_are_refused(recurrent):
    x, weight = torch.rand(40, 3, 7, requires_grad=True), torch.rand(7, 7)
    spikes = klif.recurrent(x, weight)[0] if recurrent else klif(x)[0]
    (grad,) = torch.autograd.grad(spikes.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="klif: a second derivative was asked for"):
        grad.sum().backward()


# ---- layers


def test_a_layer_is_the_op_with_learned_parameters():
    layer = klif.layer(k=nn.Parameter(torch.full((5, 1, 1), 1.5)), decay=0.75, v_reset=None)
    x = torch.rand(6, 2, 5, 4, 4)
    spikes = layer(x)
    assert_equal(spikes, klif(x, k=layer.k, decay=0.75, v_reset=None)[0])
    spikes.sum().backward()
    assert layer.k.grad.shape == (5, 1, 1)
    assert layer.k.grad.abs().sum() > 0
    assert [name for name, _ in layer.named_parameters()] == ["k"]
    assert "k=[5, 1, 1]" in repr(layer)
    assert "decay=0.75" in repr(layer)


def test_a_stateful_layer_goes_on_and_is_saved():
    layer = two_compartments.layer(stateful=True, refractory=1)
    x = torch.rand(8, 3, 4)
    whole = two_compartments(x, refractory=1)[0]
    assert_equal(torch.cat([layer(x[:5]), layer(x[5:])]), whole)
    again = two_compartments.layer(stateful=True, refractory=1)
    again.load_state_dict(layer.state_dict())
    assert_equal(again(x), layer(x))
    snnfast.nn.reset(layer)
    assert layer.d is None
    assert_equal(layer(x), whole)


def test_a_layer_of_several_inputs_and_outputs():
    layer = gated.layer(decay=0.8)
    x, gate = torch.rand(8, 3, 4), torch.rand(8, 3, 4)
    spikes, carried = layer(x, gate)
    assert_equal(spikes, gated(x, gate, decay=0.8)[0])
    assert carried.shape == x.shape


def test_layers_and_ops_are_pickled_by_import_path():
    assert pickle.loads(pickle.dumps(klif)) is klif
    layer = klif.layer(k=2.0)
    again = pickle.loads(pickle.dumps(layer))
    assert type(again) is klif.layer
    assert again.k == 2.0
    assert type(copy.deepcopy(layer)) is klif.layer
    assert copy.deepcopy(klif) is klif

    @snnfast.neuron
    def local(fire, x, v):
        return fire(v + x, 1.0)[::2]

    assert copy.deepcopy(local) is local
    with pytest.raises((pickle.PicklingError, AttributeError), match="local"):
        pickle.dumps(local)


def test_it_is_a_citizen():
    net = nn.Sequential(
        snnfast.nn.Time(nn.Conv2d(1, 3, 3)),
        klif.layer(k=nn.Parameter(torch.full((3, 1, 1), 2.0))),
        snnfast.nn.Time(nn.Flatten()),
        snnfast.nn.Time(nn.Linear(108, 6)),
        snnfast.nn.Recurrent(two_compartments.layer(), 6),
        snnfast.nn.Rate(),
    )
    x = torch.rand(5, 2, 1, 8, 8)
    with snnfast.monitor(net) as watching:
        net(x).sum().backward()
    assert "Klif" in str(watching.activity())
    assert net[1].k.grad is not None
    checkpointed = torch.utils.checkpoint.checkpoint(net[1], net[0](x), use_reentrant=False)
    assert_equal(checkpointed, net[1](net[0](x)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert net[1](net[0](x)).dtype == torch.bfloat16


@needs_kernels
def test_vmap_gives_what_a_call_a_sample_gives():
    xs, k = torch.rand(5, 8, 3, 6, requires_grad=True), torch.rand(5, 6) + 0.5
    got = torch.vmap(lambda x, k: klif(x, k=k)[0])(xs, k)
    (grad,) = torch.autograd.grad(got.square().sum(), xs)
    expected = torch.stack([klif(x, k=k)[0] for x, k in zip(xs, k)])
    assert_equal(got, expected)
    torch.testing.assert_close(grad, torch.autograd.grad(expected.square().sum(), xs)[0])
    weight = torch.rand(5, 6, 6)
    got = torch.vmap(lambda x, w: klif.recurrent(x, w)[0])(xs, weight)
    assert_equal(got, torch.stack([klif.recurrent(x, w)[0] for x, w in zip(xs, weight)]))


@needs_kernels
@pytest.mark.parametrize("recurrent", [False, True])
def test_torch_compile_and_export_hold_the_kernel(recurrent):
    layer = klif.layer(k=nn.Parameter(torch.full((6,), 1.5)))
    layer = snnfast.nn.Recurrent(layer, 6) if recurrent else layer
    x = torch.rand(40, 3, 6)
    expected = layer(x)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)(x)
    assert_equal(compiled, expected)
    parameters = list(layer.parameters())
    grads = [torch.autograd.grad(y.square().sum(), parameters) for y in (compiled, expected)]
    for got, right in zip(*grads):
        torch.testing.assert_close(got, right)
    program = torch.export.export(layer, (x,), strict=False)
    assert_equal(program.module()(x), expected)
    assert any("snnfast.own_" in str(node.target) for node in program.graph.nodes)


@needs_kernels
@pytest.mark.parametrize("k", [0.7, torch.rand(6)], ids=["number", "tensor"])
def test_gradient_of_an_input_that_is_the_same_at_every_step(k):
    """The kernel returns the mean over the steps."""
    grads = []
    for repeated in (repeat, lambda y, steps: y.expand(steps, *y.shape)):
        y = torch.linspace(0, 2, 18).reshape(3, 6).requires_grad_()
        spikes = klif(repeated(y, 40), k=k)[0]
        grads.append(torch.autograd.grad(spikes.square().sum(), y)[0])
    torch.testing.assert_close(*grads)


@needs_kernels
def test_torch_compile_trains_a_neuron_without_parameters():
    """PyTorch wants the gradient of an empty list of numbers to be an empty list."""

    @snnfast.neuron
    def halved(fire, x, v):
        v = 0.5 * v + x
        return v, v

    x = torch.rand(40, 6, requires_grad=True)
    compiled = torch.compile(lambda x: halved(x)[0], backend="aot_eager", fullgraph=True)(x)
    (grad,) = torch.autograd.grad(compiled.square().sum(), x)
    torch.testing.assert_close(grad, torch.autograd.grad(halved(x)[0].square().sum(), x)[0])


@needs_kernels
def test_opcheck():
    klif(torch.rand(3, 2), k=torch.ones(2))
    name = next(
        k.name
        for v, k in klif.kernels.latest.items()
        if v.tensors == ("k",) and v.dtype == torch.float32 and v.target == "cpu" and not v.recurrent
    )
    kernel = own_kernels.KERNELS[name]
    numbers = [0.5 + n for n in range(len(kernel.numbers))]
    x, k = torch.rand(40, 6, requires_grad=True), torch.rand(6, requires_grad=True)
    for every in (0, 32):
        lists = [x], [torch.rand(6, requires_grad=True)], [k]
        arguments = (name, numbers, True, *NOT_RECURRENT, *lists, every)
        torch.library.opcheck(torch.ops.snnfast.own_neuron_forward.default, arguments)


@needs_kernels
def test_raw_calls_are_checked():
    def call(name, numbers, inputs, *states):
        connections = NOT_RECURRENT
        return torch.ops.snnfast.own_neuron_forward(name, numbers, False, *connections, inputs, [*states], [], 0)

    with pytest.raises(RuntimeError, match="the kernel nothing is not loaded in this process; import the module"):
        call("nothing", [], [torch.rand(3, 2)])
    klif(torch.rand(3, 2))
    gated(*torch.rand(2, 3, 2))
    name, of_gated = (
        next(
            k.name
            for v, k in op.kernels.latest.items()
            if not v.tensors and v.dtype == torch.float32 and v.target == "cpu" and not v.recurrent
        )
        for op in (klif, gated)
    )
    numbers = [1.0] * len(own_kernels.KERNELS[name].numbers)
    for broken, error in (
        ((name, numbers[1:], [torch.rand(3, 2)]), "parameters, got"),
        ((name, numbers, [torch.rand(3, 2).double()]), "is not for x in float64"),
        ((name, numbers, [torch.rand(3, 2)], torch.rand(3)), "a state must have shape"),
        ((name, numbers, [torch.rand(3, 2)] * 2), "do not fit the kernel"),
        # The largest number of states, inputs and outputs.
        ((of_gated, [1.0] * 4, [torch.rand(3, 2)] * 3), "do not fit the ker"),
    ):
        with pytest.raises(RuntimeError, match=error):
            call(*broken)


@needs_kernels
def test_another_process_finds_the_kernel_in_the_cache(as_shipped):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import torch, own_neurons, snnfast.compiler.build as build\n"
        "x = torch.rand(3, 2)\n"
        "def broken(*a, **k): raise AssertionError('compiled again')\n"
        "build.subprocess.run = broken\n"
        "print(own_neurons.klif(x)[0].sum().item())\n"
    )
    library("klif", source_of(klif, variant_of(klif.check(torch.zeros(1, 1)))))
    python(code, Path(__file__).parents[2] / "examples")


def test_explain_says_what_runs():
    @snnfast.neuron(compile=False)
    def plain(fire, x, v):
        s, _, v = fire(v + x, 1.0)
        return s, v

    explain, x = snnfast.backend.explain, torch.rand(5, 3)
    layers = klif.layer(), snnfast.nn.Recurrent(klif.layer(), 3), plain.layer()
    with snnfast.backend.use("reference"):
        lines = explain(nn.Sequential(*layers), x).splitlines()
    asked = "plain PyTorch reference: SNNFAST_BACKEND or snnfast.backend.use asks for it"
    compiled = "plain PyTorch reference: it was made with compile=False"
    assert lines == [f"0: klif: {asked}", f"1: recurrent: {asked}", f"2: plain: {compiled}"]
    assert explain(klif, torch.rand(2, device="meta")).endswith("no kernels for device meta")
    if snnfast.backend.extension is not None:
        isa = snnfast.backend.extension.cpu_isa()
        assert explain(klif, x) == f"klif: CPU kernel compiled from its step ({isa}): x is on cpu"
