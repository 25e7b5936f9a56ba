"""A network trained by BP-STDP: worked by hand, equal on every backend and to its layers one by one."""

import itertools

import pytest
import torch
from bp_stdp_network_cases import on, rates, sample
from samples import assert_equal, once

from snnfast import check, ops, reference
from snnfast.nn import loss

# T, P and the layers: one to three matrices, sizes around registers and blocks of eight of them, and 0.
SHAPES = (
    (7, 5, (9, 6, 3)),
    (12, 3, (20, 17, 33, 4)),
    (9, 4, (30, 3)),
    (1, 1, (1, 1)),
    (8, 6, (50, 150, 10)),
    (0, 3, (5, 4)),
    (4, 0, (5, 4)),
    (4, 2, (0, 4, 3)),
    (4, 2, (5, 0, 3)),
)
OPTIONS = tuple(itertools.product(("step", "sequence"), ("sum", "mean"), (None, 1, 2), (1, 4)))


def everything(result):
    return [result.spikes, *result.hidden, *result.state]


class TestWorkedByHand:
    def test_membranes_sum_up_fire_and_fall_to_zero(self, backend):
        w = [torch.tensor([[0.4, 0.7]], dtype=torch.float64, device=backend.device)]
        x = torch.tensor([[[1, 0]], [[1, 1]], [[0, 1]], [[0, 0]]], device=backend.device).bool()
        result = ops.bp_stdp_network_(w, x, thresholds=[1.0], return_state=True)
        # 0.4; 0.4 + 1.1 = 1.5, fires; 0.7; 0.7
        assert result.spikes.flatten().tolist() == [False, True, False, False]
        assert result.state[0].item() == pytest.approx(0.7, abs=1e-15)

    def test_fires_at_the_threshold(self, backend):
        w = [torch.full((1, 1), 0.5, device=backend.device)]
        x = torch.ones((4, 1, 1), device=backend.device)
        spikes = ops.bp_stdp_network_(w, x, thresholds=[1.0]).spikes
        assert spikes.flatten().tolist() == [False, True, False, True]

    def test_a_layer_hears_the_one_before_in_the_same_step(self, backend):
        w = [torch.ones((1, 1), device=backend.device) for _ in range(3)]
        x = torch.tensor([0, 1, 0], device=backend.device)[:, None, None].bool()
        result = ops.bp_stdp_network_(w, x, thresholds=[1.0] * 3, return_hidden=True)
        for spikes in (*result.hidden, result.spikes):
            assert spikes.flatten().tolist() == [False, True, False]

    def test_a_silent_output_of_the_class_is_strengthened(self, backend):
        hidden = torch.ones((1, 1), dtype=torch.float64, device=backend.device)
        out = torch.tensor([[0.25], [0.25]], dtype=torch.float64, device=backend.device)
        x = torch.ones((2, 1, 1), device=backend.device)
        labels = torch.tensor([1], device=backend.device)
        desired = torch.tensor([[False], [True]], device=backend.device)
        ops.bp_stdp_network_([hidden, out], x, labels, desired, thresholds=[1.0, 9.0], lr=0.1)
        # Two hidden spikes in the window; the error 1 is propagated back through 0.25 to two input spikes.
        assert out.flatten().tolist() == pytest.approx([0.25, 0.25 + 0.1 * 2], abs=1e-15)
        assert hidden.item() == pytest.approx(1 + 0.1 * 0.25 * 2, abs=1e-15)

    def test_a_firing_output_of_another_class_is_weakened(self, backend):
        hidden = torch.ones((1, 1), dtype=torch.float64, device=backend.device)
        out = torch.tensor([[1.0], [1.0]], dtype=torch.float64, device=backend.device)
        x = torch.ones((1, 1, 1), device=backend.device)
        labels = torch.tensor([1], device=backend.device)
        desired = torch.tensor([[True]], device=backend.device)
        ops.bp_stdp_network_([hidden, out], x, labels, desired, thresholds=[1.0, 1.0], lr=0.1)
        assert out.flatten().tolist() == pytest.approx([0.9, 1.0], abs=1e-15)
        assert hidden.item() == pytest.approx(0.9, abs=1e-15)

    def test_nothing_is_wrong_where_no_spike_is_desired(self, backend):
        weights, x, labels, desired = on(backend.device, *sample((7, 5, (9, 6, 3))))
        before = [w.clone() for w in weights]
        ops.bp_stdp_network_(weights, x, labels, torch.zeros_like(desired), thresholds=[0.9, 0.9], lr=1.0)
        assert_equal(weights, before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", SHAPES)
def test_same_as_the_reference(kernels, shape, dtype):
    tolerance = 0 if kernels.exact else 1e-5 if dtype == torch.float32 else 1e-12
    weights, *tensors = sample(shape, dtype)
    # The options do not depend on the dtype; the emulated CUDA runs each option with one of the shapes.
    every = kernels.name == "cpu" and shape[1] < 6 and dtype == torch.float64
    options = OPTIONS if every else OPTIONS[::5]
    for update, reduction, batch, epsilon in options:
        arguments = {"thresholds": [0.9] * len(weights), "lr": 0.05, "epsilon": epsilon}
        arguments |= {"update": update, "reduction": reduction, "batch": batch}
        arguments |= {"return_hidden": True, "return_state": True}
        inputs = weights, *tensors
        wanted, (expected, *_) = once(reference.bp_stdp_network_, *inputs, **arguments)
        actual, *inputs = on(kernels.device, weights, *tensors)
        result = ops.bp_stdp_network_(actual, *inputs, **arguments)
        for a, e in zip((*everything(result), *actual), (*everything(wanted), *expected)):
            torch.testing.assert_close(a.cpu(), e, rtol=tolerance, atol=tolerance)
        if 0 not in (*shape[:2], *shape[2]) and shape[0] > 1:
            assert not torch.equal(expected[-1], weights[-1])


@pytest.mark.parametrize("update", ["step", "sequence"])
def test_same_as_its_layers_one_by_one(backend, update):
    """The op for one pair of layers, with errors from the loss, changes the weights as the network does."""
    weights, x, labels, desired = on(backend.device, *sample((1, 4, (12, 9, 8, 3))))
    x, desired = x.repeat(6, 1, 1), desired.repeat(6, 1) | True
    x[::2] = False
    thresholds = [0.9] * 3
    expected = [w.clone() for w in weights]
    if update == "step":
        # Forward with weights that do not change: learn from the last step alone.
        desired[:-1] = False
    result = ops.bp_stdp_network_(
        weights, x, labels, desired, thresholds=thresholds, lr=0.1, update=update, return_hidden=True
    )
    is_label = torch.nn.functional.one_hot(labels, 3).bool()
    error = loss.bp_stdp_error(result.spikes, desired[..., None] & is_label, labels).double()
    for w, pre in reversed(list(zip(expected, (x, *result.hidden)))):
        error = ops.bp_stdp_(w, pre, error, lr=0.1, update=update)
    for a, e in zip(weights, expected, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("inputs", [9, 12, 1, 50])
@pytest.mark.parametrize("batch", [1, 3])
def test_rates_are_poisson_spikes_drawn_inside(backend, inputs, batch):
    weights, _, labels, desired = on(backend.device, *sample((7, 5, (inputs, 6, 3))))
    x = rates(5, inputs, backend.device)
    expected = [w.clone() for w in weights]
    probability = x.hz * torch.tensor(0.5 / 1000)
    drawn = [ops.poisson(p, 7, seed=s) for p, s in zip(probability, x.seeds)]
    arguments = {"thresholds": [0.9, 0.9], "lr": 0.1, "batch": batch, "return_hidden": True}
    wanted = ops.bp_stdp_network_(expected, torch.stack(drawn, 1), labels, desired, **arguments)
    result = ops.bp_stdp_network_(weights, x, labels, desired, dt=0.5, **arguments)
    assert_equal(result.spikes, wanted.spikes)
    assert_equal(result.hidden[0], wanted.hidden[0])
    assert_equal(weights, expected)
    without = {"thresholds": [0.9, 0.9], "dt": 0.5}
    answer = ops.bp_stdp_network_(weights, x, **without).spikes
    assert_equal(answer, ops.bp_stdp_network_(weights, torch.stack(drawn, 1), **without)[0])


def test_presentations_in_one_call_or_in_many(backend):
    weights, x, labels, desired = on(backend.device, *sample((6, 7, (12, 9, 3))))
    expected = [w.clone() for w in weights]
    arguments = {"thresholds": [0.9, 0.9], "lr": 0.1}
    parts = []
    for first in range(0, 7, 3):
        part = slice(first, first + 3)
        parts.append(ops.bp_stdp_network_(expected, x[:, part], labels[part], desired[:, part], **arguments))
    result = ops.bp_stdp_network_(weights, x, labels, desired, batch=3, **arguments)
    assert_equal(weights, expected)
    assert_equal(result.spikes, torch.cat([p.spikes for p in parts], 1))


@pytest.mark.parametrize("samples", [1, 5])
def test_cut_in_time_with_a_state(backend, samples):
    weights, x, *_ = on(backend.device, *sample((9, samples, (12, 9, 3))))
    arguments = {"thresholds": [0.9, 0.9], "return_state": True, "return_hidden": True}
    whole = ops.bp_stdp_network_(weights, x, **arguments)
    state, spikes = None, []
    for part in x.split(2):
        before = None if state is None else [v.clone() for v in state]
        result = ops.bp_stdp_network_(weights, part, state=state, **arguments)
        if state is not None:
            assert_equal(list(state), before)
        state = result.state
        spikes.append(result.spikes)
    assert_equal(torch.cat(spikes), whole.spikes)
    assert_equal(state, whole.state)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_what_is_not_zero_is_a_spike(kernels, dtype):
    weights, x, labels, desired = on(kernels.device, *sample((7, 5, (9, 6, 3))))
    expected = [w.clone() for w in weights]
    ops.bp_stdp_network_(expected, x, labels, desired, thresholds=[0.9, 0.9])
    spikes = 3 * x.to(dtype)
    if dtype.is_floating_point:
        spikes[spikes == 0] = -0.0
    ops.bp_stdp_network_(weights, spikes, labels, desired, thresholds=[0.9, 0.9])
    assert_equal(weights, expected)


def test_any_strides(kernels):
    weights, x, labels, desired = on(kernels.device, *sample((7, 5, (9, 6, 3))))
    expected = [w.clone() for w in weights]
    ops.bp_stdp_network_(expected, x, labels, desired, thresholds=[0.9, 0.9], lr=0.1)
    transposed = [w.t().clone().t() for w in weights]
    ops.bp_stdp_network_(
        transposed,
        x.transpose(0, 2).clone().transpose(0, 2),
        labels.repeat_interleave(2)[::2],
        desired.t().clone().t(),
        thresholds=[0.9, 0.9],
        lr=0.1,
    )
    assert_equal(transposed, expected)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("update", ["step", "sequence"])
def test_number_of_threads_does_not_matter(threads, update):
    weights, x, labels, desired = sample((8, 12, (200, 300, 40, 10)), torch.float32)
    weights = [0.2 * w for w in weights]
    expected = [w.clone() for w in weights]
    arguments = {"thresholds": [0.9] * 3, "update": update}
    wanted = reference.bp_stdp_network_(expected, x, labels, desired, **arguments)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        result = ops.bp_stdp_network_(weights, x, labels, desired, **arguments)
    finally:
        torch.set_num_threads(before)
    assert_equal(result.spikes, wanted.spikes)
    assert_equal(weights, expected)


def test_rates_without_inputs(backend):
    weights = [torch.zeros(4, 0, device=backend.device), torch.ones(3, 4, device=backend.device)]
    x = ops.Rates(torch.zeros(17, 0, device=backend.device), 6, torch.arange(17, device=backend.device))
    result = ops.bp_stdp_network_(weights, x, thresholds=[1.0, 1.0], return_hidden=True, return_state=True)
    assert not result.spikes.any()
    assert not result.hidden[0].any()
    assert [v.shape for v in result.state] == [(17, 4), (17, 3)]


def test_layers_without_neurons_keep_the_state_of_others(backend):
    weights, x, *_ = on(backend.device, *sample((4, 2, (5, 0, 3))))
    state = [w.new_zeros((2, len(w))) for w in weights]
    state[1] += 5.0
    result = ops.bp_stdp_network_(weights, x, thresholds=[1.0, 1.0], state=state, return_state=True)
    assert_equal(result.spikes.sum(0), torch.ones(2, 3, dtype=torch.int64, device=backend.device))
    assert_equal(result.state[1], torch.zeros_like(state[1]))


@pytest.mark.parametrize("samples", [1, 40])
def test_the_least_threshold(kernels, samples):
    """A threshold that rounds to 0 would make unused lanes of a register fire; the smallest one does not."""
    for neurons in (1, 3, 5, 9, 17, 33, 129):
        weights, x = on(kernels.device, [torch.full((neurons, 4), -1.0)], torch.ones(5, samples, 4))
        for flush in (False, True):
            try:
                torch.set_flush_denormal(flush)
                result = ops.bp_stdp_network_(weights, x, thresholds=[check.LEAST])
                assert not result.spikes.any()
            finally:
                torch.set_flush_denormal(False)


def test_raises_the_version_of_the_weights(backend):
    weights, x, labels, desired = on(backend.device, *sample((3, 2, (5, 4, 3))))
    weights[1] = weights[1].t().clone().t()
    before = [w._version for w in weights]
    ops.bp_stdp_network_(weights, x, thresholds=[1.0, 1.0])
    assert [w._version for w in weights] == before
    ops.bp_stdp_network_(weights, x, labels, desired, thresholds=[1.0, 1.0])
    assert all(w._version > v for w, v in zip(weights, before, strict=True))
