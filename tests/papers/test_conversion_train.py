"""Training of ReLU networks for conversion: learning, exact resumption, errors."""

import math

import pytest
import torch
from procedures import interrupted, quiet
from torch import nn

import snnfast
from snnfast_zoo.papers import classifier
from snnfast_zoo.papers.conversion import train as ann
from snnfast_zoo.papers.procedures import diehl2015, vgg16
from snnfast_zoo.train.checkpoint import CheckpointError, read_checkpoint, write_checkpoint


def short(**changes):
    return diehl2015.preset("digits", **{"epochs": 2, "seed": 3, **changes})


@pytest.mark.parametrize("changes", [{}, {"schedule": "one-cycle", "precision": "bfloat16"}])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, changes):
    settings = short(**changes)
    whole = quiet(diehl2015, settings, tmp_path / "whole")
    interrupted(diehl2015, settings, tmp_path / "parts")
    parts = quiet(diehl2015, settings, tmp_path / "parts", resume=True)
    assert parts.accuracy == whole.accuracy > 0.8
    pairs = zip(parts.run.model.parameters(), whole.run.model.parameters(), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert {p.name for p in (tmp_path / "parts").iterdir()} == {*("checkpoint.pt", "result.json", "curves.png")}
    with pytest.raises(FileExistsError, match="exists: resume it"):
        quiet(diehl2015, settings, tmp_path / "parts")
    with pytest.raises(CheckpointError, match="other settings"):
        quiet(diehl2015, short(seed=4), tmp_path / "parts", resume=True)


def test_a_trained_network_converts(tmp_path):
    result = quiet(diehl2015, short(), tmp_path)
    settings, run, data = diehl2015.reopen(tmp_path)
    assert settings == short()
    images, labels = data.held_out
    network = snnfast.convert(run.model.eval(), [images], initial_membrane=0.5)
    accuracy = (network(images, 50).argmax(1) == labels).float().mean().item()
    assert accuracy == pytest.approx(result.accuracy, abs=0.02)


def test_settings_that_are_newer_than_a_checkpoint_were_off(tmp_path):
    quiet(diehl2015, short(), tmp_path)
    checkpoint = read_checkpoint(tmp_path / "checkpoint.pt")
    del checkpoint["settings"]["cutout"]
    write_checkpoint(tmp_path / "checkpoint.pt", checkpoint)
    assert diehl2015.reopen(tmp_path)[0] == short()
    with pytest.raises(CheckpointError, match=r"[(]cutout: nothing there, 2 here[)]"):
        quiet(diehl2015, short(cutout=2), tmp_path, resume=True)
    del checkpoint["settings"]["lr"]
    write_checkpoint(tmp_path / "checkpoint.pt", checkpoint)
    with pytest.raises(CheckpointError, match="lr: nothing there"):
        quiet(diehl2015, short(), tmp_path, resume=True)


def test_width_and_batch_norm_of_vgg16():
    wide = ann.network(vgg16.preset("cifar10", network="vgg16"))
    half = ann.network(vgg16.preset("cifar10", network="vgg16", width=0.5, batch_norm=True))
    layers = [
        [m.weight.shape[0] for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))] for net in (wide, half)
    ]
    assert layers[0] == [64, 64, 128, 128, *[256] * 3, *[512] * 6, 4096, 4096, 10]
    assert layers[1] == [n // 2 for n in layers[0][:-1]] + [10]
    dropout = [[m.p for m in net.features if isinstance(m, nn.Dropout)] for net in (wide, half)]
    assert (set(dropout[0]), set(dropout[1])) == ({0.2}, {0.0})
    resnet = ann.network(vgg16.preset("cifar10", network="resnet20", batch_norm=True))
    networks = (wide, half, resnet)
    norms = [sum(isinstance(m, nn.BatchNorm2d) for m in net.modules()) for net in networks]
    assert norms == [0, 13, 3 + 2 * 9 + 2]


def test_layers_and_pooling_of_vgg16():
    net = ann.network(vgg16.preset("cifar10", network="vgg16", hidden=(20, 30), pooling="max"))
    assert [m.out_features for m in net.classifier if isinstance(m, nn.Linear)] == [20, 30, 10]
    pools = {type(m) for m in net.modules() if "Pool" in type(m).__name__}
    assert pools == {nn.MaxPool2d}
    net = ann.network(vgg16.preset("cifar10", network="vgg16", hidden=(0,)))
    assert [m.out_features for m in net.classifier] == [10]


def test_what_the_optimizer_is_given():
    model = nn.Linear(2, 2)
    for name, kind in (("sgd", torch.optim.SGD), ("adam", torch.optim.Adam)):
        settings = short(optimizer=name, lr=0.5, weight_decay=0.25, nesterov=name == "sgd")
        optimizer = classifier.make_optimizer(settings, model)
        group = optimizer.param_groups[0]
        assert (type(optimizer), group["lr"], group["weight_decay"]) == (kind, 0.5, 0.25)
        assert group.get("nesterov", False) is (name == "sgd")
    assert vgg16.preset("cifar10", network="vgg16").weight_decay == 5e-4


def test_label_smoothing(monkeypatch):
    scores, labels = torch.tensor([[2.0, 0.0, 0.0, 0.0]]), torch.tensor([0])
    logs = scores.log_softmax(1)[0]
    seen = []
    monkeypatch.setattr(classifier, "fit", lambda *part, loss, **how: seen.append(loss))
    quiet(diehl2015, short(label_smoothing=0.2))
    loss = seen[0]
    # By hand: four fifths of the loss of the label, a fifth spread over all four classes.
    expected = -(0.8 * logs[0] + 0.05 * logs.sum())
    torch.testing.assert_close(loss(scores, labels), expected)


def rates(**changes):
    settings = short(lr=1.0, optimizer="sgd", epochs=10, **changes)
    optimizer = classifier.make_optimizer(settings, nn.Linear(2, 2))
    scheduler = classifier.make_scheduler(settings, optimizer)
    found = []
    for _ in range(10):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["momentum"] == 0.9
    return found


def test_schedules():
    cosine = [(1 + math.cos(math.pi * i / 10)) / 2 for i in range(10)]
    assert rates() == pytest.approx(cosine)
    found = rates(schedule="one-cycle")
    assert found[0] == pytest.approx(1 / 25)
    top = found.index(max(found))
    assert top in (2, 3)
    assert found[top] > 0.9
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)
    # The rate of the last epoch is not 0.
    assert 0.01 < found[-1] < 0.1
    # The rate rises in half of the epochs.
    found = rates(schedule="one-cycle", warm_up=0.5)
    assert found.index(max(found)) in (4, 5)
    # The rate falls from the start: it rises in one of the eleven steps.
    found = rates(schedule="one-cycle", warm_up=1 / 11)
    assert found[0] == pytest.approx(1)
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle"])
def test_a_run_of_no_epochs_is_the_network_it_started_from(tmp_path, schedule):
    result = quiet(diehl2015, short(epochs=0, schedule=schedule), tmp_path)
    assert result.run.epoch == 0


@pytest.mark.parametrize("network", ann.NETWORKS)
def test_every_network_takes_the_images_of_its_preset(network):
    dataset = "cifar10" if network in ("vgg16", "resnet20") else "mnist"
    procedure = diehl2015 if network in ("cnn", "dense") else vgg16
    model = ann.network(procedure.preset(dataset, network=network)).eval()
    x = torch.rand(1, *ann.IMAGE_SHAPES[dataset])
    assert model(x).shape == (1, 10)


def test_augmentation_flips_half_of_the_images():
    torch.manual_seed(0)
    x = torch.rand(200, 1, 4, 4)
    flipped = (classifier.augment(short(flip=True), 10)(x, None)[0] != x).flatten(1).any(1)
    assert 70 < flipped.sum() < 130
    assert classifier.augment(short(), 10) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "mlp"}, "network must be one of cnn"),
        ({"dataset": "photographs"}, "dataset must be one of digits"),
        ({"optimizer": "lion"}, "optimizer must be one of adam, sgd"),
        ({"schedule": "step"}, "schedule must be one of cosine, one-cycle"),
        ({"precision": "float16"}, "precision must be one of float32, bfloat16"),
        ({"width": 0.0}, "width must be more than 0"),
        ({"width": 0.5}, "width is for vgg16, got cnn"),
        ({"batch_norm": True}, "batch_norm is for vgg16 and resnet20, got cnn"),
        ({"hidden": (9,)}, "hidden is for vgg16, got cnn"),
        ({"pooling": "max"}, "pooling is for vgg16, got cnn"),
        ({"nesterov": True}, "nesterov is for sgd, got adam"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"label_smoothing": 1.0}, "label_smoothing must be less than 1"),
        ({"warm_up": 0.0}, "warm_up must be more than 0"),
        ({"warm_up": 0.5}, "warm_up is for one-cycle, got cosine"),
        ({"crop": -1}, "crop must be at least 0"),
        ({"epochs": -1}, "epochs must be at least 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"lr": 0.0}, "lr must be more than 0"),
        ({"dropout": 1.0}, "dropout must be less than 1, got 1.0"),
        ({"shift": -1.0}, "shift must be at least 0"),
    ],
)
def test_wrong_settings(changes, message):
    with pytest.raises(ValueError, match=f"^ann: {message}"):
        diehl2015.Settings(**changes)


def test_each_command_has_its_networks():
    with pytest.raises(ValueError, match=r"^diehl2015: network must be one of cnn, dense, got 'vgg'"):
        diehl2015.preset("digits", network="vgg")


def test_nothing_to_convert_in_the_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        diehl2015.reopen(tmp_path)
