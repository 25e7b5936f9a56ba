"""Names of other libraries, and misplaced sizes and layers: errors and warnings name the remedy."""

import importlib
import warnings

import pytest
import torch
from torch import nn

import snnfast
from snnfast.nn import LI, LIF, AdLIF, CubaLIF, ParametricLIF, Rate, Recurrent, SpikeConv2d, Time, calibrate_, like


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("nn.Lif", "did you mean 'LIF'?"),
        ("nn.LIFNode", "snnfast.nn.like('spikingjelly.LIFNode') makes it"),
        ("nn.Leaky", "snnfast.nn.like('snntorch.Leaky') makes it"),
        ("nn.Reccurent", "did you mean 'Recurrent'?"),
        ("LIF", "did you mean 'snnfast.nn.LIF'?"),
        ("lif", "did you mean 'snnfast.nn.LIF'?"),
        ("encoders", "did you mean 'encoder'?"),
    ],
)
def test_attributes(name, hint):
    module, _, attribute = name.rpartition(".")
    with pytest.raises(AttributeError, match="has no attribute") as caught:
        getattr(importlib.import_module(f"snnfast.{module}".rstrip(".")), attribute)
    assert hint in str(caught.value)


def test_a_name_like_no_other_has_no_hint():
    with pytest.raises(AttributeError, match=r"module 'snnfast.nn' has no attribute 'xyzzy'$"):
        snnfast.nn.xyzzy  # noqa: B018


def test_arguments():
    with pytest.raises(ValueError, match=r"got 'Atan'; did you mean 'atan'\?"):
        LIF(surrogate="Atan")
    with pytest.raises(ValueError, match=r"got 'snntorch.leaky'; did you mean 'snntorch.Leaky'\?"):
        like("snntorch.leaky")


def test_arguments_of_layers_and_settings_of_procedures():
    with pytest.raises(TypeError, match=r"^LIF: there is no argument 'v_treshold'.*; did you mean 'v_threshold'\?"):
        LIF(v_treshold=1.0)
    with pytest.raises(TypeError, match=r"^stbp: there is no setting 'epocs'; known: .*; did you mean 'epochs'\?"):
        snnfast.procedure.stbp(epocs=3)
    with pytest.raises(ValueError, match=r"^stbp: dataset must be one of .* got 'digit'; did you mean 'digits'\?"):
        snnfast.procedure.stbp("digit")


@pytest.mark.parametrize("layer", [LIF, LI, CubaLIF])
def test_a_size_for_tau_warns(layer):
    with pytest.warns(UserWarning, match=r"\(256\): tau is a time constant of 256 steps, not a number") as caught:
        layer(256)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(256.0)
        layer(20)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int64])
def test_discrete_input(dtype):
    x = torch.ones(4, 2, 3, dtype=dtype)
    with pytest.raises(TypeError, match=r"x must have one of the dtypes .*; give x\.float\(\)"):
        LIF()(x)
    with pytest.raises(RuntimeError, match=r"the weights are torch.float32; give x\.float\(\)"):
        Time(nn.Linear(3, 2))(x)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.BatchNorm1d(3), (5, 4, 3)),
        (nn.BatchNorm2d(3), (5, 4, 3, 8, 8)),
        (nn.Conv2d(3, 3, 3), (5, 4, 3, 8, 8)),
        (SpikeConv2d(3, 3, 3), (5, 4, 3, 8, 8)),
        (nn.AvgPool2d(2), (5, 4, 3, 8, 8)),
    ],
)
def test_layers_outside_of_time(layer, shape):
    x, kind = torch.rand(shape), type(layer).__name__
    message = rf"1, a {kind}, stands outside Time.*write Time\(nn\.{kind}\(\.\.\.\)\)"
    with pytest.raises(ValueError, match=f"Sequential: layer {message}"):
        snnfast.nn.Sequential(LIF(), layer)(x)
    snnfast.nn.Sequential(LIF(), Time(layer), LIF(), Rate())(x)
    net = nn.Sequential(nn.Sequential(LIF(), layer, LIF()))
    with pytest.raises(ValueError, match=rf"calibrate_: 0\.{message}"):
        calibrate_(net, x)
    run = snnfast.train.Run(net)
    with pytest.raises(ValueError, match=rf"fit: 0\.{message}"):
        snnfast.train.fit(run, (x, torch.zeros(len(x))), None, epochs=1, batch_size=2, step=print)


@pytest.mark.parametrize("name", ["", ".nn", ".ops", ".encoder", ".learning", ".model", ".surrogate", ".loss"])
def test_completion_shows_public_names(name):
    module = importlib.import_module(f"snnfast{name}")
    assert set(dir(module)) - {"__version__"} == set(module.__all__)


@pytest.mark.parametrize("threshold", [20.0, 2e4, float("inf")])
def test_a_threshold_whose_shift_would_round_the_membrane_is_refused(threshold):
    with pytest.raises(ValueError, match=r"snntorch\.Leaky: threshold"):
        like("snntorch.Leaky", beta=0.9, threshold=threshold)
    like("snntorch.Leaky", beta=0.9, threshold=threshold if threshold < 100 else 20.0, reset_mechanism="zero")


def test_one_time_constant_for_a_recurrent_layer_warns():
    with pytest.warns(UserWarning, match=r"AdLIF\(8\) learns them for each neuron") as caught:
        Recurrent(AdLIF(), 8)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for neuron in (AdLIF(8), AdLIF(1), LIF()):
            Recurrent(neuron, 8)


def test_learned_time_constants_take_sizes_as_before():
    assert ParametricLIF(20.0).tau.item() == pytest.approx(20.0)
