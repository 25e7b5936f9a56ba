"""Networks are saved and loaded whole; a call that raises an error changes nothing."""

import copy
import io

import pytest
import torch
from networks import NETWORKS, Functional, Residual, images, make
from torch import nn

import snnfast
from snnfast.conversion import QCFS, SpikingNetwork, fine_tune, quantise
from snnfast.conversion.report import Comparison
from snnfast.nn import SpikeProp, calibrate
from snnfast.papers import SVGG16, VGG16, Bohte2002, Diehl2015, SNN_Diehl2015
from snnfast_zoo.n3ml.threshold import spikenorm

X = images()


def loaded(network):
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("encoding", ["constant", "poisson"])
def test_a_saved_network_is_the_same(kind, encoding):
    network = snnfast.convert(make(kind), [X], method="max", per_channel=True, encoding=encoding)
    snnfast.conversion_report(make(kind), network, [X], steps=[2])
    again = loaded(network)
    for one, other in ((network, again), (network, copy.deepcopy(again))):
        scores = []
        for n in (one, other):
            torch.manual_seed(0)
            scores.append((n(X, 9), n.stream(X, record=True).advance(5).output(), n.analog(X)[0]))
        torch.testing.assert_close(scores[0], scores[1], rtol=0, atol=0)
    assert again.places == network.places
    again.update_threshold(network.thresholds)


@pytest.mark.parametrize("convert", ["SNN_Diehl2015", "convert", "quantise"])
def test_saved_networks_of_diehl(convert):
    torch.manual_seed(0)
    shape = {"input_shape": (1, 8, 8), "kernel_size": 3, "padding": 1}
    model, x = Diehl2015(**shape).eval(), torch.rand(3, 1, 8, 8)
    if convert == "quantise":
        network = quantise(model, [x])
        torch.testing.assert_close(loaded(network)(x), network(x), rtol=0, atol=0)
        return
    if convert == "convert":
        network = snnfast.convert(model, [x])
    else:
        network = SNN_Diehl2015(threshold=[0.1, 0.1, 0.1], encoding="constant", **shape)
    torch.testing.assert_close(loaded(network)(x, 20), network(x, 20), rtol=0, atol=0)


def test_the_model_can_be_saved_after_it_was_converted():
    model = make(Residual)
    snnfast.convert(model, [X])
    torch.testing.assert_close(loaded(model)(X), model(X), rtol=0, atol=0)


def state(module):
    values = {name: value.clone() for name, value in module.state_dict().items()}
    return values, [m.training for m in module.modules()], getattr(module, "input_shape", None)


def unchanged(module, before):
    after = state(module)
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=0, equal_nan=True)
    assert after[1:] == before[1:]


@pytest.mark.parametrize(
    ("t", "mean_time", "error"),
    [
        (torch.rand(4, 3), 8.0, ValueError),
        (torch.rand(4, 5).long(), 8.0, TypeError),
        (torch.rand(4, 5) - 3, 8.0, ValueError),
        ("now", 8.0, (TypeError, AttributeError)),
        (torch.rand(4, 5), 0.01, UserWarning),
    ],
    ids=["shape", "dtype", "range", "type", "warning"],
)
@pytest.mark.filterwarnings("error")
def test_calibrate_that_refuses_keeps_the_weights(t, mean_time, error):
    layer = SpikeProp(5, 3)
    before = state(layer)
    with pytest.raises(error):
        calibrate(layer, t, mean_time)
    unchanged(layer, before)


@pytest.mark.parametrize(
    ("t", "mean_times", "error"),
    [
        (torch.rand(4, 4), (8.0, 15.0), ValueError),
        (torch.rand(4, 5), (8.0, -1.0), ValueError),
        (torch.rand(4, 5), (8.0, "late"), TypeError),
        (torch.rand(4, 5), (8.0, 0.01), UserWarning),
        (torch.rand(4, 5), (8.0,), ValueError),
    ],
    ids=["shape", "range", "type", "warning", "number"],
)
@pytest.mark.filterwarnings("error")
def test_bohtes_calibrate_that_refuses_keeps_all_weights(t, mean_times, error):
    """This includes the layers that were calibrated before the refused one."""
    model = Bohte2002(5, 4, 2)
    before = state(model)
    with pytest.raises(error):
        model.calibrate(t, mean_times)
    unchanged(model, before)


def vgg():
    torch.manual_seed(0)
    snn = SVGG16(VGG16((4,), (), input_shape=(1, 4, 4)))
    snn.input_shape = None
    return snn


@pytest.mark.parametrize(
    ("loader", "encoder"),
    [
        ([torch.rand(2, 1, 4, 4).long()], None),
        ([torch.rand(2, 3, 4, 4)], None),
        ([torch.zeros(2, 1, 4, 4)], None),
        ([torch.rand(2, 1, 4, 4)], lambda x: x[:, :0]),
        ([torch.rand(2, 1, 4, 4)], "poisson"),
    ],
    ids=["dtype", "channels", "silent", "shape", "type"],
)
def test_spikenorm_that_refuses_keeps_thresholds_and_shape(loader, encoder):
    snn = vgg()
    before = state(snn)
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        spikenorm(loader, encoder, snn, 3)
    unchanged(snn, before)
    assert snn.encoding == "saturating"


@pytest.mark.parametrize("bad", [{}, "a", None, 1j, [], torch.ones(0), -1.0, 1e-60], ids=str)
def test_thresholds_that_are_refused_are_not_set_in_part(bad):
    network = SpikingNetwork(make(Functional))
    network.update_threshold([1.0, 2.0, 3.0])
    before = state(network)
    with pytest.raises((TypeError, ValueError), match=r"update_threshold: threshold\[2\] must be"):
        network.update_threshold([4.0, 5.0, bad])
    unchanged(network, before)


Y = torch.tensor([0, 1, 2, 3])


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        ([(X, Y), X], "must give images and labels"),
        ([(X, Y), (X[:, :1], Y)], "to have 2 channels"),
        ([], "the loader holds no images"),
    ],
    ids=["labels", "shape", "empty"],
)
def test_fine_tuning_that_fails_is_undone(loader, message):
    model = make(Residual)
    model.bn1.train()
    before = state(model)
    with pytest.raises((TypeError, ValueError, RuntimeError), match=message):
        fine_tune(model, loader, lr=0.1, progress=False)
    unchanged(model, before)


def test_a_loader_that_gives_its_images_once_is_told():
    """The thresholds use up the loader, and no images remain for training."""
    with pytest.raises(ValueError, match="gives them only once"):
        snnfast.convert(make(Functional), iter([(X, Y)]), method="qcfs", progress=False)


@pytest.mark.parametrize("loader", [[], 3, [X[:0]]], ids=str)
def test_a_network_with_qcfs_in_it_needs_images(loader):
    model = nn.Sequential(nn.Flatten(), nn.Linear(128, 4), QCFS(), nn.Linear(4, 2))
    with pytest.raises((TypeError, ValueError), match="convert: the loader"):
        snnfast.convert(model, loader, method="qcfs")


def test_qcfs_of_no_module():
    with pytest.raises(TypeError, match=r"model must be a module, got function"):
        snnfast.convert(make, [X], method="qcfs")


def test_an_encoding_may_work_in_place():
    model, x = make(Functional), images()
    network = snnfast.convert(model, [x], method="max", encoding=lambda images: images.mul_(0.5))
    network(x, 3)
    torch.testing.assert_close(x, images(), rtol=0, atol=0)


def test_a_report_keeps_the_modes_of_the_model():
    """This holds for every layer: some stay in evaluation mode while others train."""
    model = make(Residual).train()
    model.bn1.eval()
    network = snnfast.convert(model, [X], method="max")
    before = state(model)
    comparison = Comparison(model, network, [2])
    sums = copy.deepcopy(comparison.state_dict())
    comparison.add(X, Y)
    unchanged(model, before)
    comparison = Comparison(model, network, [2])
    for images_, labels in ((X[:, :1], Y), (X, torch.zeros(3))):
        with pytest.raises((ValueError, RuntimeError)):
            comparison.add(images_, labels)
        unchanged(model, before)
    assert str(comparison.state_dict()) == str(sums)
