"""``Recurrent`` around every layer of neurons, and ``RLIF``."""

import copy
import inspect
import math

import pytest
import torch
from samples import assert_equal
from torch import nn

import snnfast
from snnfast import ops
from snnfast.nn import LIF, RLIF, Recurrent
from snnfast.nn.own_neuron import OwnLayer
from snnfast.nn.spiking import Spiking

NEURONS = [
    value
    for name in snnfast.nn.__all__
    if inspect.isclass(value := getattr(snnfast.nn, name)) and issubclass(value, Spiking)
    if not issubclass(value, OwnLayer)
]
DELAYS = [{}, {"delay": torch.tensor([0.0, 1.0, 2.5, 0.0, 4.0])}, {"max_delay": 3.5}]


def x(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 3


def build(neuron, **options):
    torch.manual_seed(1)
    return Recurrent(neuron, 5, **options)


@pytest.mark.parametrize("neuron", NEURONS, ids=lambda n: n.__name__)
def test_it_is_the_op_with_the_arguments_of_the_neuron(backend, neuron):
    layer = build(neuron(return_v_seq=True)).to(backend.device)
    sequence = 20 * x(20, 3, 5).to(backend.device)
    spikes, v_seq = layer(sequence)
    inner = layer.neuron
    want, *_, want_v = ops.recurrent(sequence, layer.weight, neuron=inner.op, **inner._arguments(sequence))
    assert_equal(spikes.detach(), want.detach())
    assert_equal(v_seq.detach(), want_v.detach())
    assert spikes.any()
    (spikes.sum() + v_seq.sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
    assert layer.weight.grad.any()


def test_the_membranes_of_an_own_neuron_come_with_its_spikes():
    @snnfast.neuron(compile=False)
    def leaky(fire, x, v, *, decay=0.8, v_threshold=1.0):
        s, _, v = fire(decay * v + x, v_threshold)
        return s, v

    layer, sequence = build(leaky.layer(return_v_seq=True)), x(20, 3, 5)
    wanted = build(LIF(decay=0.8, decay_input=False, return_v_seq=True))(sequence)
    spikes, v_seq = layer(sequence)
    assert spikes.any()
    torch.testing.assert_close((spikes, v_seq), wanted)
    layer.neuron.return_v_seq = False
    assert_equal(layer(sequence).detach(), spikes.detach())


@pytest.mark.parametrize("options", DELAYS, ids=str)
@pytest.mark.parametrize("neuron", NEURONS, ids=lambda n: n.__name__)
def test_steps_equal_the_whole_sequence(neuron, options):
    whole = build(neuron(return_v_seq=True), **options)
    stepped = copy.deepcopy(whole)
    stepped.stateful = stepped.neuron.stateful = True
    parts = copy.deepcopy(stepped)
    sequence = x(30, 2, 5)
    want = whole(sequence)
    found = [stepped.step(x_t) for x_t in sequence]
    assert_equal([torch.stack(s).detach() for s in zip(*found, strict=True)], [w.detach() for w in want])
    found = [parts(part) for part in sequence.split([1, 9, 20])]
    assert_equal([torch.cat(s).detach() for s in zip(*found, strict=True)], [w.detach() for w in want])


def test_the_gradient_goes_through_the_state():
    layer = build(LIF(stateful=True), max_delay=2.0)
    whole = copy.deepcopy(layer)
    sequence = x(12, 2, 5)
    torch.cat([layer(part) for part in sequence.split(4)]).sum().backward()
    whole(sequence).sum().backward()
    for one, other in zip(layer.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_reset_and_detach_reach_the_neurons():
    layer = build(LIF(stateful=True))
    first = layer(x(6, 2, 5)).detach()
    assert layer.past.shape == (1, 2, 5)
    assert layer.neuron.v is not None
    layer.detach()
    assert not layer.past.requires_grad
    assert not layer.neuron.v.requires_grad
    layer.reset()
    assert layer.past is None
    assert layer.neuron.v is None
    assert_equal(layer(x(6, 2, 5)).detach(), first)
    net = nn.Sequential(nn.Linear(5, 5), layer)
    snnfast.nn.reset(net)
    assert layer.past is None
    assert layer.neuron.v is None


def test_state_is_saved_and_loaded():
    layer, other = build(LIF(stateful=True)), build(LIF(stateful=True))
    layer(x(6, 2, 5))
    other.load_state_dict(layer.state_dict())
    assert_equal(other(x(3, 2, 5, seed=1)).detach(), layer(x(3, 2, 5, seed=1)).detach())


def test_another_batch_needs_a_reset():
    layer = build(LIF(stateful=True))
    layer(x(6, 2, 5))
    with pytest.raises(ValueError, match=r"the state past has shape \[1, 2, 5\]"):
        layer(x(6, 3, 5))


def test_weights_begin_orthogonal_or_as_given():
    weight = build(LIF()).weight.detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(5))
    initial = torch.rand(5, 5)
    layer = build(LIF(), weight=initial)
    assert_equal(layer.weight.detach(), initial)
    assert layer.weight.data_ptr() != initial.data_ptr()
    shared = nn.Parameter(initial)
    assert build(LIF(), weight=shared).weight is shared


def test_without_self_connections_the_diagonal_stays_0():
    layer = build(LIF(), self_connections=False)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    before = layer.weight.detach().clone()
    for _ in range(3):
        optimizer.zero_grad()
        layer(x(20, 3, 5)).sum().backward()
        optimizer.step()
    assert not layer.weight.diagonal().any()
    assert not torch.equal(layer.weight, before)
    layer.weight.data += torch.eye(5)  # for any values on the diagonal
    silent = build(LIF(), weight=layer.weight.detach() - torch.eye(5), self_connections=True)
    assert_equal(layer(x(20, 3, 5)).detach(), silent(x(20, 3, 5)).detach())


def test_a_layer_made_without_memory_loads():
    layer = build(LIF(), self_connections=False)
    with torch.device("meta"):
        other = build(LIF(), self_connections=False)
    other.load_state_dict(layer.state_dict(), assign=True)
    assert_equal(layer(x(20, 3, 5)), other(x(20, 3, 5)))


def test_weights_are_drawn_where_the_default_has_16_bits():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        weight = RLIF(3, max_delay=2.0).weight
    finally:
        torch.set_default_dtype(before)
    torch.testing.assert_close(weight @ weight.t(), torch.eye(3))


def test_delays_may_be_without_memory():
    with torch.device("meta"), snnfast.backend.use("reference"):
        layer = RLIF(5, delay=torch.ones(5))
        assert layer(torch.zeros(4, 2, 5)).shape == (4, 2, 5)


@pytest.mark.parametrize("self_weight", [1.0, math.inf])
def test_a_parameter_of_the_users_is_not_written_to(self_weight):
    weight = nn.Parameter(torch.ones(3, 3).fill_diagonal_(self_weight))
    layer = RLIF(3, weight=weight, self_connections=False)
    assert weight.all()
    other = RLIF(3, weight=torch.ones(3, 3), self_connections=False)
    assert_equal(layer(x(9, 2, 3)), other(x(9, 2, 3)))


def test_stateful_is_that_of_the_neurons():
    whole = RLIF(3, 4.0, weight=torch.ones(3, 3))
    parts = copy.deepcopy(whole)
    parts.stateful = True
    assert parts.neuron.stateful
    assert_equal(torch.cat([parts(p) for p in x(9, 2, 3).split(4)]), whole(x(9, 2, 3)))
    parts.neuron.stateful = False
    assert not parts.stateful


def test_learned_delays_stay_in_their_range():
    layer = build(LIF(), max_delay=3.0)
    assert layer.d.min() >= 0
    assert layer.d.max() <= 3
    with torch.no_grad():
        layer.d.copy_(torch.tensor([-1.0, 0.0, 1.5, 3.0, 9.0]))
    assert layer.delays.tolist() == [0, 0, 1.5, 3, 3]
    layer(x(20, 3, 5)).sum().backward()
    assert layer.d.grad.isfinite().all()
    assert layer.d.grad.any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes(dtype):
    layer = build(LIF(stateful=True), self_connections=False, max_delay=2.0).to(dtype)
    assert layer(x(6, 2, 5).to(dtype)).dtype == dtype
    assert layer.step(x(2, 5).to(dtype)).dtype == dtype


def test_rlif_is_recurrent_lif():
    torch.manual_seed(1)
    layer = RLIF(5, 4.0, v_reset=None, self_connections=False)
    want = build(LIF(4.0, v_reset=None), self_connections=False)
    assert_equal(layer(x(20, 3, 5)).detach(), want(x(20, 3, 5)).detach())
    assert repr(layer).startswith("RLIF(\n  features=5, self_connections=False\n  (neuron): LIF(")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Recurrent(nn.ReLU(), 5), TypeError, "neuron must be a layer of neurons that fire"),
        (lambda: Recurrent(snnfast.nn.LI(), 5), TypeError, r"such as LIF\(\), got LI$"),
        (lambda: Recurrent(LIF, 5), TypeError, r"such as LIF\(\), got the class LIF, not an instance of it"),
        (
            lambda: Recurrent(snnfast.nn.like("snntorch.Leaky", beta=0.9, return_v_seq=True), 5),
            ValueError,
            "neuron must have return_v_seq=False: its membranes are not those of its op",
        ),
        (lambda: Recurrent(LIF(), 0), ValueError, "features must be at least 1"),
        (lambda: Recurrent(LIF(), 5, weight=torch.zeros(4, 5)), ValueError, r"weight must have shape \[5, 5\]"),
        (lambda: Recurrent(LIF(), 5, delay=torch.zeros(4)), ValueError, r"delay must have shape \[5\]"),
        (
            lambda: Recurrent(LIF(), 2, delay=torch.tensor([1.0, torch.inf])),
            ValueError,
            "delay must be finite, got NaN or infinity",
        ),
        (lambda: Recurrent(LIF(), 5, max_delay=-1), ValueError, "max_delay must be at least 0"),
        (lambda: RLIF(5, delay=torch.zeros(5), max_delay=1), ValueError, "RLIF: give delay or max_delay, not both"),
        (lambda: RLIF(5)(torch.zeros(3, 2, 4)), ValueError, r"RLIF: x must have shape \[T, ..., 5\]"),
        (lambda: RLIF(5)(torch.zeros(5)), ValueError, r"RLIF: x must have shape \[T, ..., 5\]"),
        (lambda: RLIF(5).step(torch.zeros(2, 5)), RuntimeError, "RLIF.step: needs stateful=True"),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_settings_of_delays_may_change_later_or_say_why_not():
    layer = RLIF(5)
    assert layer.d is layer.delay is layer.delays is None
    layer.max_delay = 3
    with pytest.raises(ValueError, match=r"^RLIF: max_delay must be given when the layer is made"):
        layer(x(3, 2, 5))
    layer = RLIF(5, max_delay=4.0)
    layer.max_delay = 0.5
    assert layer.delays.max() <= 0.5
    layer.max_delay = "long"
    with pytest.raises(TypeError, match=r"^RLIF: max_delay must be a number, got str"):
        layer(x(3, 2, 5))
    layer.max_delay, layer.delay = 4.0, torch.ones(5)
    with pytest.raises(ValueError, match=r"^RLIF: give delay or max_delay, not both"):
        layer(x(3, 2, 5))
    layer = RLIF(5)
    layer.delay = 3
    with pytest.raises(TypeError, match=r"^recurrent: delay must be a tensor, got int"):
        layer(x(3, 2, 5))


@pytest.mark.parametrize("options", [{}, {"max_delay": 3.5}], ids=str)
def test_a_layer_with_a_state_compiles_in_one_graph(options, fresh_compiler):
    layer = build(LIF(stateful=True), **options)
    plain = copy.deepcopy(layer)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for part in x(12, 2, 5).split(4):
        assert_equal(compiled(part).detach(), plain(part).detach())
    assert_equal(layer.past.detach(), plain.past.detach())


def test_a_compiled_layer_notices_longer_delays(fresh_compiler):
    layer = build(LIF(stateful=True), delay=torch.ones(5))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    compiled(x(4, 2, 5))
    layer.delay.fill_(6.0)
    with pytest.raises(RuntimeError, match="Recurrent: delay is longer than it was"):
        compiled(x(4, 2, 5))
    layer(x(4, 2, 5))
    compiled(x(9, 2, 5))
    assert len(layer.past) == 8


def test_a_layer_with_a_state_says_how_many_features_it_takes():
    layer = RLIF(5, stateful=True)
    layer(x(3, 2, 5))
    with pytest.raises(ValueError, match=r"^RLIF: x must have shape \[T, ..., 5\], got \[3, 2, 4\]"):
        layer(x(3, 2, 4))
