"""Readouts of sequences of equal and of different length: values by hand; steps after the end do not count."""

import copy

import pytest
import torch
from samples import assert_equal

from snnfast import nn as sn
from snnfast.nn import loss
from snnfast.nn.multi_step import MultiStep

READOUTS = (sn.Rate(), sn.Count(), sn.Last(), sn.Max(), sn.FirstSpike())
LENGTHS = torch.tensor([7, 3, 1])


def spikes(*shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(shape, generator=generator) < 0.3).to(dtype)


def name(readout):
    return type(readout).__name__


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("readout", READOUTS, ids=name)
def test_with_lengths_is_each_sample_alone(readout, dtype):
    x = spikes(7, 3, 4, 2, dtype=dtype)
    got = readout(x, LENGTHS)
    want = torch.stack([readout(x[:n, k]) for k, n in enumerate(LENGTHS)])
    assert_equal([got], [want])
    assert_equal([readout(x, torch.full((3,), 7))], [readout(x)])


@pytest.mark.parametrize("filling", [torch.nan, torch.inf, 1.0])
@pytest.mark.parametrize("readout", READOUTS, ids=name)
def test_nothing_beyond_the_end_counts_and_none_of_it_has_a_gradient(readout, filling):
    x = spikes(7, 3, 4)
    beyond = ~sn.within(LENGTHS, 7)
    filled = x.masked_fill(beyond[..., None], filling).requires_grad_()
    got = readout(filled, LENGTHS)
    assert_equal([got.detach()], [readout(x, LENGTHS)])
    got.sum().backward()
    assert not filled.grad[beyond].any()
    assert filled.grad[~beyond].any()


def test_a_network_does_not_see_the_filling():
    """Neurons use only earlier steps: results and gradients are those of each sample alone."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(sn.Time(torch.nn.Linear(4, 6)), sn.LIF(), sn.Time(torch.nn.Linear(6, 3)), sn.LI())
    x = torch.randn(9, 3, 4) * 3
    lengths = torch.tensor([9, 4, 2])
    x[~sn.within(lengths, 9)] = 50.0
    labels = torch.tensor([0, 2, 1])
    loss.ce_membrane(net(x), labels, lengths).backward()
    got = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    for k, n in enumerate(lengths):
        (loss.ce_membrane(net(x[:n, k : k + 1]), labels[k : k + 1]) / 3).backward()
    torch.testing.assert_close(got, [p.grad for p in net.parameters()], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("filling", [0.0, 50.0, torch.nan])
def test_batch_norm_does_not_see_the_filling_if_time_knows_the_lengths(filling):
    torch.manual_seed(0)
    time = sn.Time(torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6))
    x, mask = torch.randn(7, 3, 4), sn.within(LENGTHS, 7)
    filled = x.masked_fill(~mask[..., None], filling).requires_grad_()
    got = time(filled, LENGTHS)
    wanted = copy.deepcopy(time).layer(x[mask])
    assert_equal([got[mask]], [wanted])
    assert not got[~mask].any()
    got.square().sum().backward()
    assert filled.grad[mask].any()
    assert not filled.grad[~mask].any()
    plain = sn.Time(torch.nn.Linear(4, 6))
    assert_equal([plain(x, LENGTHS)], [torch.where(mask[..., None], plain(x), 0)])


def test_layers_in_spikingjelly_s_step_mode_take_lengths():
    layer, x = torch.nn.Linear(4, 6), torch.randn(7, 3, 4)
    assert_equal([MultiStep(layer)(x, LENGTHS)], [sn.Time(layer)(x, LENGTHS)])


def test_images_beyond_the_end_are_skipped_and_stay_channels_last():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(2, 5, 3, padding=1), torch.nn.BatchNorm2d(5), torch.nn.MaxPool2d(2)]
    time = sn.Time(*layers)
    x, mask = torch.randn(7, 3, 2, 4, 6, requires_grad=True), sn.within(LENGTHS, 7)
    got = time(x, LENGTHS)
    assert got.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    assert_equal([got[mask]], [sn.Time(*copy.deepcopy(layers))(x[mask][None])[0]])
    assert not got[~mask].any()
    got.square().sum().backward()
    assert x.grad[mask].any()
    assert not x.grad[~mask].any()


def test_lengths_that_do_not_fit_the_sequence_are_refused_by_time():
    time, x = sn.Time(torch.nn.Linear(4, 6)), torch.rand(7, 3, 4)
    with pytest.raises(ValueError, match=r"Time: lengths must have shape \[3\], got \[2\]"):
        time(x, torch.tensor([7, 7]))
    with pytest.raises(ValueError, match=r"Time: lengths must lie in \[1, 7\]"):
        time(x, torch.tensor([7, 8, 1]))


def test_by_hand():
    v = torch.tensor([[1.0, -2.0], [4.0, -1.0], [3.0, -5.0]], requires_grad=True)
    assert sn.Last()(v).tolist() == [3, -5]
    assert sn.Max()(v).tolist() == [4, -1]
    assert sn.Max()(v, torch.tensor([1, 3])).tolist() == [1, -1]
    assert sn.Last()(v, torch.tensor([2, 1])).tolist() == [4, -2]
    torch.testing.assert_close(sn.Rate()(v).tolist(), [8 / 3, -8 / 3])
    (sn.Max()(v) + 10 * sn.Last()(v)).sum().backward()
    assert v.grad.tolist() == [[0, 0], [1, 1], [10, 10]]


def test_first_spike_and_its_gradient_by_hand():
    s = torch.tensor([[0.0, 0, 1], [0, 0, 0], [1, 0, 1], [0, 0, 0], [1, 0, 0]], requires_grad=True)
    t = sn.FirstSpike()(s)
    assert t.tolist() == [2, 5, 0]
    t.sum().backward()
    # A spike added at step k before the first spike becomes the first; without the first spike, the next one is first.
    assert s.grad[:, 0].tolist() == [-2, -1, -2, 0, 0]
    assert s.grad[:, 1].tolist() == [-5, -4, -3, -2, -1]
    assert s.grad[:, 2].tolist() == [-2, 0, 0, 0, 0]
    assert sn.FirstSpike()(s.unsqueeze(-1), torch.tensor([1, 3, 2])).flatten().tolist() == [1, 3, 0]


def test_several_spikes_in_a_step_are_one_for_the_first_spike():
    s = torch.tensor([0.0, 3.0, 0.0, 1.0], requires_grad=True)
    t = sn.FirstSpike()(s)
    t.backward()
    assert (t.item(), s.grad.tolist()) == (1, [-1, -2, 0, 0])


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.uint16])
def test_lengths_may_be_narrower_than_the_number_of_steps(dtype):
    x = spikes(300, 2, 3)
    lengths = torch.tensor([100, 127])
    assert_equal([sn.Rate()(x, lengths.to(dtype))], [sn.Rate()(x, lengths)])
    with pytest.raises(ValueError, match=r"lengths must lie in \[1, 300\], got values from 0 to 127"):
        sn.Rate()(x, torch.tensor([0, 127]).to(dtype))


def test_within_by_hand():
    want = [[True, True, True], [True, True, False], [True, False, False]]
    assert sn.within(torch.tensor([3, 2, 1]), 3).tolist() == want


@pytest.mark.parametrize("readout", READOUTS, ids=name)
def test_vmap_and_one_graph(readout):
    x = spikes(7, 3, 4)
    stacked = torch.stack([x, 1 - x])
    assert_equal([torch.vmap(readout)(stacked)], [torch.stack([readout(x), readout(1 - x)])])
    compiled = torch.compile(readout, backend="aot_eager", fullgraph=True)
    assert_equal([compiled(x, LENGTHS)], [readout(x, LENGTHS)])


X = torch.zeros(7, 3, 4)


@pytest.mark.parametrize("readout", READOUTS, ids=name)
@pytest.mark.parametrize(
    ("x", "lengths", "error", "message"),
    [
        (X, [7, 3, 1], TypeError, "lengths must be a tensor, got list"),
        (X, LENGTHS.float(), TypeError, "lengths must be integers, got torch.float32"),
        (X, LENGTHS[:2], ValueError, r"lengths must have shape \[3\], got \[2\]"),
        (X, LENGTHS + 1, ValueError, r"lengths must lie in \[1, 7\], got values from 2 to 8"),
        (X, LENGTHS - 1, ValueError, r"lengths must lie in \[1, 7\], got values from 0 to 6"),
        (X[:, 0, 0], LENGTHS, ValueError, r"with lengths x must have shape \[T, B, ...\]"),
        (X.long(), None, TypeError, "x must have one of the dtypes"),
    ],
)
def test_errors(readout, x, lengths, error, message):
    with pytest.raises(error, match=f"{name(readout)}: .*{message}"):
        readout(x, lengths)


@pytest.mark.parametrize("readout", READOUTS, ids=name)
def test_lengths_without_memory_have_no_values_to_check(readout):
    assert readout(X.to("meta"), LENGTHS.to("meta")).shape == (3, 4)


@pytest.mark.parametrize("readout", [sn.Last(), sn.Max()], ids=name)
def test_no_steps_have_neither_a_last_nor_a_largest(readout):
    with pytest.raises(ValueError, match=f"{name(readout)}: x must have at least one step"):
        readout(X[:0])


def test_a_batch_first_sequence_is_told():
    message = r"^Rate: lengths must have shape \[8\], got \[3\]; x must have shape \[T, B, ...\], of a batch-first"
    with pytest.raises(ValueError, match=message):
        sn.Rate()(torch.rand(3, 8, 5), torch.tensor([1, 2, 3]))
    with pytest.raises(ValueError, match=r"got \[4\]$"):
        sn.Rate()(torch.rand(3, 8, 5), torch.tensor([1, 2, 3, 3]))


@pytest.mark.parametrize("readout", READOUTS, ids=name)
def test_export_with_a_free_number_of_steps(readout):
    dynamic = torch.export.Dim.DYNAMIC
    exported = torch.export.export(readout, (spikes(5, 3, 2),), dynamic_shapes=({0: dynamic},)).module()
    for steps in (5, 8):
        x = spikes(steps, 3, 2)
        torch.testing.assert_close(exported(x), readout(x), rtol=0, atol=0)
