"""Spikes of ``sparse_recurrent`` as events, and what these events say of them."""

import pytest
import torch
from backends import force
from recurrent_cases import LIF, needs_kernels
from samples import assert_equal
from sparse_cases import Sparse, case, connected

from snnfast import connect, neuron, ops, reference
from snnfast.connect import PoissonNoise
from snnfast.ops import SpikeEvents
from snnfast.reference.call import flatten

SPIKES = torch.tensor([[[0, 1], [1, 0]], [[0, 0], [1, 2]], [[1, 1], [0, 0]]], dtype=torch.float32)  # [3, 2, 2]


@needs_kernels
@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("run", [ops.sparse_recurrent, reference.sparse_recurrent])
def test_events_are_the_spikes_and_states_those_of_the_whole(run):
    for shape, options in (
        ((20, 3, 20), {"past": 2}),
        ((20, 20), {}),
        ((0, 2, 20), {}),
        ((20, 0, 20), {}),
        ((20, 2, 3, 20), {"dtype": torch.bfloat16}),
    ):
        c, arguments = case(LIF, shape=shape, **options)
        arguments["noise"] = PoissonNoise(0.5, 0.2, seed=1)
        spikes, *states = Sparse(LIF, c, run)(**arguments)
        events, *after = Sparse(LIF, c, run)(record="events", **arguments)
        assert_equal([events.dense(), *after], [spikes, *states])
        assert events.shape == shape


@needs_kernels
def test_refractory_neurons_and_several_spikes_a_step_go_on_where_they_stood():
    c = connected(20)
    for options in ({"refractory": 3}, {"max_spikes": 3, "v_reset": None}, {"return_state": False}):
        x = 3 * torch.rand(40, 2, 20, generator=torch.Generator().manual_seed(0))
        spikes, *states = ops.sparse_recurrent(x, 0.2, c, **options)
        events, *after = ops.sparse_recurrent(x, 0.2, c, record="events", **options)
        assert spikes.any()
        assert_equal(events.dense(), spikes)
        assert len(after) == len(states)
        for one, other in zip(after, states, strict=True):
            assert_equal(one, other)


@needs_kernels
@pytest.mark.parametrize("batch", [1, 4, 5, 37])
def test_events_of_every_number_of_lanes_and_threads_are_in_order(batch):
    """Each thread has a group of samples, or of a single sample a range of the neurons."""
    H = 2600 if batch == 1 else 20
    c = connect.fixed_outdegree(H, outdegree=66, delay=13, seed=1)
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(40, batch, H, generator=generator) < 0.2) * 1.5
    weight = torch.randn(H, generator=generator) * 0.4
    wanted = SpikeEvents.from_dense(ops.sparse_recurrent(x, weight, c, max_spikes=3, v_reset=None)[0])
    assert (wanted.dense() > 1).any()
    before = torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        events, _ = ops.sparse_recurrent(x, weight, c, max_spikes=3, v_reset=None, record="events")
        for name in ("step", "sample", "neuron"):
            assert_equal(getattr(events, name), getattr(wanted, name))
    torch.set_num_threads(before)


@needs_kernels
def test_events_of_own_neurons_are_their_spikes():
    @neuron(inputs=2)
    def two(fire, x, y, v):
        s, _, v = fire(0.5 * v + x - 0.1 * y, 1.0)
        return s, v

    c = connect.fixed_outdegree(30, 60, outdegree=9, delay=2, seed=1)
    x = 2 * torch.rand(25, 3, 30, generator=torch.Generator().manual_seed(0))
    spikes, v = two.sparse_recurrent((x, x), 0.2, c)
    for backend in ("cpu", "reference"):
        with force(backend):
            events, after = two.sparse_recurrent((x, x), 0.2, c, record="events")
        assert_equal([events.dense(), after], [spikes, v])


@needs_kernels
def test_no_dense_tensor_is_allocated():
    T, H = 3000, 500
    c = connect.fixed_outdegree(H, outdegree=3, seed=1)
    with torch.profiler.profile(profile_memory=True) as seen:
        events, _ = ops.sparse_recurrent(
            None, 0.1, c, num_steps=T, noise=PoissonNoise(0.01, 2.0, seed=1), record="events"
        )
    assert len(events) > 1000
    most = max(event.self_cpu_memory_usage for event in seen.events())
    assert 12 * len(events) <= most < T * H


@needs_kernels
def test_spikes_that_are_no_whole_numbers_are_an_error():
    @neuron
    def half(fire, x, v):
        s, _, v = fire(0.5 * v + x, 1.0)
        return 0.5 * s, v

    c = connect.fixed_outdegree(4, outdegree=2, seed=0)
    for backend in ("cpu", "reference"):
        with force(backend), pytest.raises((RuntimeError, ValueError), match="spikes must be whole numbers"):
            half.sparse_recurrent(torch.full((3, 4), 2.0), 0.0, c, record="events")


@needs_kernels
@pytest.mark.usefixtures("fresh_compiler")
def test_events_are_compiled_and_refused_under_vmap():
    c, x = connect.fixed_outdegree(7, outdegree=3, delay=2, seed=0), 2 * torch.rand(9, 2, 7)
    call = ops.sparse_recurrent.check(x, torch.rand(21), c, record="events")
    torch.library.opcheck(torch.ops.snnfast.recurrent_lif_forward, (*flatten(call), 0))

    def run(x):
        events, v = ops.sparse_recurrent(x, torch.ones(21), c, record="events")
        return events.step, events.neuron, v

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    assert_equal(list(compiled(x)), list(run(x)))
    with pytest.raises(RuntimeError, match=r"under torch\.vmap record must be 'spikes', got 'events'"):
        torch.vmap(run)(x[None])


def test_values_worked_by_hand():
    events = SpikeEvents.from_dense(SPIKES)
    assert [events.step.tolist(), events.sample.tolist(), events.neuron.tolist()] == [
        [0, 0, 1, 1, 1, 2, 2],
        [0, 1, 1, 1, 1, 0, 0],
        [1, 0, 0, 1, 1, 0, 1],
    ]
    assert len(events) == 7
    assert repr(events) == "SpikeEvents(7 spikes of shape [3, 2, 2])"
    assert_equal(events.dense(), SPIKES)
    assert_equal(events.rates(), SPIKES.double().mean(0))
    assert_equal(events.select(torch.tensor([1])).dense(), SPIKES[..., 1:])
    assert_equal(events.select(torch.tensor([1, 0])).dense(), SPIKES.flip(-1))
    assert_equal(events.window(1).dense(), SPIKES[1:])
    assert_equal(events.window(1, 2).dense(), SPIKES[1:2])
    assert_equal(SpikeEvents.cat([events.window(0, 2), events.window(2)]).dense(), SPIKES)


def test_the_variation_of_intervals_worked_by_hand():
    """Intervals 2, 4 and 6: mean 4, deviation sqrt(8 / 3)."""
    spikes = torch.zeros(20, 3)
    spikes[[1, 3, 7, 13], 0] = 1
    spikes[2::4, 1] = 1
    spikes[4, 2] = 1
    cv = SpikeEvents.from_dense(spikes).cv(3)
    torch.testing.assert_close(cv, torch.tensor([(8 / 3) ** 0.5 / 4, 0, torch.nan]).double(), equal_nan=True)
    assert SpikeEvents.from_dense(spikes).cv(4)[0].isnan()


def test_of_a_poisson_process_intervals_vary_as_much_as_their_mean():
    spikes = (torch.rand(4000, 50, generator=torch.Generator().manual_seed(0)) < 0.02).float()
    events = SpikeEvents.from_dense(spikes)
    assert abs(events.cv().mean() - 1) < 0.03
    assert abs(events.rates().mean() - 0.02) < 0.001


C, W, X = connect.fixed_outdegree(4, outdegree=2, seed=0), torch.zeros(8), torch.zeros(3, 4)
CALLS = {
    "another word": ({"record": "raster"}, ValueError, "record must be spikes or events"),
    "membranes": ({"record": "events", "return_v_seq": True}, ValueError, "return_v_seq must be False with record"),
    "a gradient": (
        {"record": "events", "v": torch.zeros(4, requires_grad=True)},
        ValueError,
        "record='events' has no gradient; call it under torch.no_grad",
    ),
}


@pytest.mark.parametrize("label", CALLS)
def test_errors_of_calls_name_the_argument(label):
    kwargs, error, message = CALLS[label]
    with pytest.raises(error, match=f"sparse_recurrent: {message}"):
        ops.sparse_recurrent(X, W, C, **kwargs)
    with torch.no_grad():
        ops.sparse_recurrent(X, W, C, **CALLS["a gradient"][0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SpikeEvents.from_dense(torch.zeros(3)), r"must have shape \[T, ..., neurons\], got \[3\]"),
        (lambda: SpikeEvents.from_dense(SPIKES / 2), "must be whole numbers"),
        (lambda: SpikeEvents.from_dense(-SPIKES), "must be whole numbers"),
        (lambda: SpikeEvents.cat([]), "parts must be at least one"),
        (lambda: SpikeEvents.cat([SpikeEvents.from_dense(s) for s in (SPIKES, SPIKES[0])]), "of the same neurons"),
        (lambda: SpikeEvents.from_dense(SPIKES).window(4), "start must be at most 3"),
        (lambda: SpikeEvents.from_dense(SPIKES).window(2, 1), "start must be at most 1"),
        (lambda: SpikeEvents.from_dense(SPIKES).select(torch.tensor([2])), r"neurons must lie in \[0, 1\]"),
        (lambda: SpikeEvents.from_dense(SPIKES).cv(0), "least must be at least 1"),
    ],
)
def test_errors_of_events_name_the_argument(call, message):
    with pytest.raises(ValueError, match=message):
        call()
