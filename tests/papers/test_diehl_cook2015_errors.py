"""Errors of the network of Diehl and Cook 2015: they name the argument and change nothing."""

import copy

import pytest
import torch
from diehl_cook2015_cases import assert_same, lively, rates, spikes

from snnfast.model import DiehlAndCook2015


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"neurons": 0}, ValueError, "neurons must be at least 1, got 0"),
        ({"neurons": 2.0}, TypeError, "neurons must be an integer, got float"),
        ({"input_shape": (28, 0)}, ValueError, "input_shape must be at least 1, got 0"),
        ({"input_shape": None}, TypeError, "input_shape must be a sequence of integers, got None"),
        ({"preset": "best"}, ValueError, "preset must be one of manual, n3ml, .*tuned.*, got 'best'"),
        ({"preset": 3}, TypeError, "preset must be a name or NetworkSettings, got int"),
        ({"rule": "hebb"}, ValueError, "rule must be one of pair, .*triplet, got 'hebb'"),
        ({"lr": float("inf")}, ValueError, "lr_post must be finite, got inf"),
        ({"tau_pre": -1.0}, ValueError, "tau_pre must be positive"),
        ({"norm": 0.0}, ValueError, "norm must be positive, got 0"),
        ({"w_init": 1.5}, ValueError, "w_init must be at most w_max, 1, got 1.5"),
        ({"lr_final": 0.0}, ValueError, r"lr_final must lie in \(0, 1\], got 0"),
        ({"norm": 2.0}, ValueError, "norm, .*, must lie between w_min and w_max, 0 and 1, got 2"),
        ({"one_winner": "maybe"}, TypeError, "one_winner must be True or False, got 'maybe'"),
        ({"refractory": -1.0}, ValueError, "refractory must be at least 0, got -1"),
        ({"min_spikes": 0.5}, TypeError, "min_spikes must be an integer, got float"),
        ({"boost": 0.9}, ValueError, "boost needs min_spikes, got boost=0.9 and min_spikes=0"),
        ({"preset": "tuned", "x_tar": 0.3}, ValueError, "the rule in force, triplet, has no x_tar, got 0.3"),
        ({"preset": "n3ml", "mu": 0.9}, ValueError, "the rule in force, additive, has no mu"),
        ({"beta": 2.0}, ValueError, "the rule in force, power, has no beta, got 2.0"),
        ({"tau_syn": 3.0}, ValueError, "there is no setting 'tau_syn'; known: beta, boost, dt,"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        DiehlAndCook2015(**arguments)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.full((2, 5, 4), -1.0), ValueError, r"x.hz must lie in \[0, 1000\] Hz, got values from -1"),
        (torch.full((2, 5, 4), torch.nan), ValueError, "x.hz must lie in .* got values from nan"),
        (torch.full((2, 5, 4), 1001.0), ValueError, r"x.hz must lie in \[0, 1000\] Hz, got .* to 1001"),
        (torch.zeros(2, 5, 5), ValueError, r"must have shape \[5, 4\] or \[P, 5, 4\], got \[2, 5, 5\]"),
        (torch.zeros(2, 3, 5, 4), ValueError, r"must have shape \[5, 4\] or \[P, 5, 4\]"),
        (torch.zeros(5, 4).bool(), ValueError, r"must have shape \[T, 5, 4\] or \[P, T, 5, 4\]"),
        (torch.zeros(2, 5, 4).int(), TypeError, "rates in Hz .* or spikes .*, got torch.int32"),
        (torch.full((2, 3, 20), 7).byte(), ValueError, "of uint8 must be spikes, 0 or 1, got 7"),
        (torch.ones(5, 4), ValueError, "must be rates in Hz, but is 0 or 1 everywhere; give spikes as"),
        ([1.0], TypeError, "x must be a tensor, Events or Rates, got list"),
        (torch.ones(2, 20).to_sparse(), TypeError, "x must be a dense tensor, got torch.sparse"),
    ],
)
def test_wrong_stimuli_are_named_and_change_nothing(x, error, message):
    model = lively()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(error, match=message):
        model.present(x)
    assert_same(model.state_dict(), before)


def test_wrong_arguments_of_calls_are_named():
    model = lively(lr_final=0.5)
    with pytest.raises(TypeError, match="DiehlAndCook2015: seeds must be a tensor, got list"):
        model.present(rates(), seeds=[1, 2, 3])
    with pytest.raises(TypeError, match="DiehlAndCook2015: epochs must be an integer, got float"):
        model.fit([rates()], epochs=1.5)
    with pytest.raises(TypeError, match=r"loader must have a length, since .*, got generator"):
        model.fit(rates() for _ in range(2))


def test_wrong_steps_are_named_and_change_nothing():
    model = lively()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"run takes {'inp': spikes}, got the names \['exc'\]"):
        model.run({"exc": torch.zeros(20)})
    with pytest.raises(TypeError, match=r"run takes {'inp': spikes}, got Tensor"):
        model.run(torch.zeros(20))
    with pytest.raises(ValueError, match=r"spikes must have shape \[20\], got \[21\]"):
        DiehlAndCook2015(3, 20).run({"inp": torch.zeros(21)})
    with pytest.raises(ValueError, match=r"spikes must have shape \[5, 4\] or \[20\], got \[21\]"):
        model.run({"inp": torch.zeros(21)})
    with pytest.raises(TypeError, match="spikes must be a tensor, got list"):
        model.run({"inp": [0] * 20})
    with pytest.raises(RuntimeError, match="learn needs a step before it"):
        model.update()
    with pytest.raises(ValueError, match=r"progress must lie in \[0, 1\], got 2"):
        model.set_progress(2)
    with pytest.raises(ValueError, match="respond needs at least one batch"):
        model.respond([])
    with pytest.raises(ValueError, match="seeds are for images in Hz, got spikes"):
        model.present(spikes(1), seeds=torch.tensor([1]))
    assert_same(model.state_dict(), before)


def test_weights_out_of_bounds_are_refused():
    model = lively()
    model.xe.w[0, 0] = 2.0
    with pytest.raises(ValueError, match=r"w must lie in \[0, 1\], got .* to 2"):
        model.present(spikes(1))
    model.run({"inp": spikes(1)[0, 0]})
    with pytest.raises(ValueError, match=r"w must lie in \[0, 1\], got .* to 2"):
        model.update()
