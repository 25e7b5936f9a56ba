"""Sparse connections to neurons with several inputs: a receptor is an input, a synapse belongs to one."""

import pytest
import torch
from backends import fetched, force, placed
from recurrent_cases import needs_kernels
from samples import assert_equal, assert_gradients_close

from snnfast import connect, neuron, nn
from snnfast.connect import PoissonNoise

pytestmark = needs_kernels
H = 9


@neuron(inputs=2)
def coba(fire, xe, xi, v, ge, gi, *, leak=0.1, e=3.0, i=-1.0, decay_e=0.8, decay_i=0.9):
    """Two conductances; a spike acts from the next step on."""
    s, _, after = fire(v + leak * (ge * (e - v) + gi * (i - v) - v), 1.0)
    return s, after, decay_e * ge + xe, decay_i * gi + xi


@neuron(inputs=3)
def three(fire, x, y, z, v, *, a=0.5, b=0.25):
    """Three currents that act at once."""
    s, _, after = fire(0.8 * v + x + a * y * y - b * z, 1.0)
    return s, after


def connected(inputs, kind="a delay a synapse"):
    """Return random synapses from ``H`` neurons to all of their inputs."""
    parts = [(connect.fixed_outdegree(H, outdegree=3, seed=k), 0, k * H) for k in range(inputs)]
    c = connect.concatenate(parts, H, inputs * H)
    generator = torch.Generator().manual_seed(0)
    return c if kind == "one step" else c.with_delay(torch.randint(1, 6, (len(c),), generator=generator))


def leaves(op, c, shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    count = len(op.inputs)
    x = [2 * torch.rand(shape, generator=generator, dtype=torch.float64) for _ in range(count)]
    weight = torch.rand(len(c), generator=generator, dtype=torch.float64) * 0.6
    v = torch.rand(shape[1:], generator=generator, dtype=torch.float64) * 0.5
    return [value.to(dtype).requires_grad_() for value in (*x, weight, v)]


def outputs_and_gradients(op, c, values, **options):
    *x, weight, v = map(placed, values)
    outputs = fetched(op.sparse_recurrent(tuple(x), weight, c, v=v, **options))
    generator = torch.Generator().manual_seed(2)
    loss = sum((torch.randn(y.shape, generator=generator, dtype=torch.float64) * y).sum() for y in outputs)
    grads = torch.autograd.grad(loss, values)
    return outputs, dict(zip((*"xyz"[: len(x)], "weight", "v"), grads, strict=True))


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("kind", ["one step", "a delay a synapse"])
@pytest.mark.parametrize("op", [coba, three], ids=lambda op: op.name)
def test_kernels_equal_the_reference(op, kind):
    c = connected(len(op.inputs), kind)
    noise = PoissonNoise(torch.linspace(0, 2, len(op.inputs) * H), 0.1, seed=3)
    for batch in (1, 3, 17):
        values = leaves(op, c, (40, batch, H))
        found, grads = outputs_and_gradients(op, c, values, noise=noise)
        with force("reference"):
            wanted, expected = outputs_and_gradients(op, c, values, noise=noise)
        assert found[0].any()
        assert_equal(found, wanted)
        assert_gradients_close(grads, expected)


def test_a_spike_reaches_the_input_of_its_synapse():
    """Neuron 0 fires at step 0: 0.5 to the first input of neuron 1 at step 1, 0.25 to the second of 2 at step 2."""
    c = connect.from_edges([0, 0], [1, 3 + 2], 3, 6, delay=torch.tensor([1, 2]))
    x, y = torch.zeros(4, 3), torch.zeros(4, 3)
    x[0, 0] = 2

    @neuron(inputs=2)
    def inputs(fire, x, y, v, w):
        s, _, _ = fire(x + 0 * v + 0 * w, 1.0)
        return s, x, y

    *_, last, other = inputs.sparse_recurrent((x[:2], y[:2]), torch.tensor([0.5, 0.25]), c)
    assert last.tolist() == [0, 0.5, 0]
    *_, last, other = inputs.sparse_recurrent((x[:3], y[:3]), torch.tensor([0.5, 0.25]), c)
    assert [last.tolist(), other.tolist()] == [[0, 0, 0], [0, 0, 0.25]]


def test_a_layer_takes_a_tuple_and_runs_in_parts():
    c = connect.fixed_indegree(9, 18, indegree=5, delay=2, seed=1)
    inputs = tuple(torch.rand(2, 30, 2, 9, generator=torch.Generator().manual_seed(0)))
    weight = torch.full((len(c),), 0.3)
    expected, *_ = coba.sparse_recurrent(inputs, weight, c)
    layer = nn.SparseRecurrent(coba.layer(stateful=True), c, weight=weight)
    found = torch.cat([layer(tuple(part)) for part in zip(*(x.split([1, 9, 20]) for x in inputs))])
    assert_equal(found, expected)
    assert expected.any()
    layer.reset()
    assert layer(None, num_steps=4, batch=3).shape == (4, 3, 9)
    layer.reset()
    with pytest.raises(TypeError, match="coba: x must be a tuple of 2 tensors, or None, got Tensor"):
        layer(inputs[0])
    with pytest.raises(ValueError, match=r"neurons with their 2 inputs, 9 -> 18, got 9 -> 9 neurons"):
        nn.SparseRecurrent(coba.layer(), connect.one_to_one(9))


def test_without_input_and_as_events():
    c = connected(2)
    noise = PoissonNoise(1.0, 0.3, seed=1)
    options = {"num_steps": 60, "batch": 2, "noise": noise}
    spikes, *states = coba.sparse_recurrent(None, 0.1, c, **options)
    zeros = (torch.zeros(60, 2, H),) * 2
    assert_equal([spikes, *states], list(coba.sparse_recurrent(zeros, 0.1, c, noise=noise)))
    events, *after = coba.sparse_recurrent(None, 0.1, c, record="events", **options)
    assert spikes.any()
    assert_equal([events.dense(), *after], [spikes, *states])


def test_a_layer_of_such_neurons_and_a_matrix_are_refused():
    x = torch.zeros(3, H)
    with pytest.raises(ValueError, match=r"coba: a matrix of recurrent weights needs neurons with one input, got 2"):
        coba.recurrent(x, torch.zeros(H, H))
    for wrong in (x, (x,), [x, x]):
        with pytest.raises(TypeError, match="coba: x must be a tuple of 2 tensors, or None, got"):
            coba.sparse_recurrent(wrong, 0.1, connected(2))
    with pytest.raises(ValueError, match=r"to their 2 inputs, 9 -> 18, got 9 -> 9 neurons"):
        coba.sparse_recurrent((x, x), 0.1, connect.one_to_one(H))
