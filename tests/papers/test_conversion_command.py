"""The commands ``snnfast train diehl2015 | vgg16`` and ``snnfast convert``."""

import itertools
import json

import pytest
import torch
from command import call
from torch import nn
from torchvision.io import write_png

import snnfast
from snnfast.conversion.report import Comparison
from snnfast_zoo.papers.conversion import convert as conversion
from snnfast_zoo.papers.conversion import train as ann
from snnfast_zoo.papers.procedures import diehl2015, vgg16
from snnfast_zoo.train import images
from snnfast_zoo.train.checkpoint import read_checkpoint, write_checkpoint
from snnfast_zoo.train.result import RESULT


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Train a small network like the paper's on the digits, one epoch, without the validation split."""
    folder = tmp_path_factory.mktemp("run")
    diehl2015("digits", epochs=1, validate=True, out=folder, progress=False)
    return folder


QUICK = ("--device", "cpu", "--images", 40, "--batch-size", 20, "--calibration-images", 60)
STEPS = ("--steps", 2, "--steps", 9)


def result_of(folder):
    return json.loads((folder / RESULT).read_text())


def test_training_writes_result_and_resumes(tmp_path):
    common = ("train", "diehl2015", "--epochs", 1, "--batch-size", 300)
    text = call(*common, "--out", tmp_path, "--dropout", 0.1)
    assert "test accuracy" in text
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoint.pt", "result.json", "curves.png"}
    settings = json.loads((tmp_path / "result.json").read_text())["settings"]
    assert (settings["network"], settings["dropout"], settings["lr"]) == ("cnn", 0.1, 4e-3)
    again = call(*common, "--out", tmp_path, "--dropout", 0.1, "--resume")
    assert again.splitlines()[-2:] == text.splitlines()[-2:]
    assert "exists: resume it" in call(*common, "--out", tmp_path, code=2)


def test_ctrl_c_while_training(tmp_path, monkeypatch):
    def cut(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(images, "load", cut)
    text = call("train", "vgg16", "--out", tmp_path, code=130)
    assert "nothing was saved yet" in text


def test_options_become_settings_that_suit_the_data(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(ann, "train_classifier", lambda settings, *rest: seen.append(settings) or Summary())
    for dataset, want in (("digits", "vgg"), ("mnist", "vgg"), ("cifar10", "vgg16")):
        call("train", "vgg16", "--dataset", dataset, "--data", tmp_path)
        assert seen[-1].network == want
        assert seen[-1] == vgg16.preset(dataset, network=want)
    call("train", "vgg16", "--dataset", "cifar10", "--data", tmp_path, "--network", "resnet20")
    assert seen[-1].network == "resnet20"
    call("train", "diehl2015", "--network", "dense", "--seed", 5, "--validate")
    assert seen[-1] == diehl2015.preset("digits", network="dense", seed=5, validate=True)


class Summary:
    def summary(self):
        return ""


@pytest.mark.parametrize("method", ["percentile", "spikenorm", "qcfs"])
def test_convert_reports_and_keeps_the_network(run, tmp_path, method):
    monitor = ["--monitor"] if method == "percentile" else []
    warm_up = 1 if method == "spikenorm" else 0
    more = ("--warm-up", warm_up, "--out", tmp_path, *monitor)
    text = call("convert", run, "--method", method, *QUICK, *STEPS, *more)
    assert text.startswith("test split: 40 images, 9 steps")
    drawn = {f"monitor_{name}.png" for name in ("rates", "raster", "weights") if monitor}
    assert {p.name for p in tmp_path.iterdir()} == {"snn.pt", "result.json", "report.png"} | drawn
    result = result_of(tmp_path)
    assert ("activity" in result) == ("multiply-accumulates" in text) == bool(monitor)
    if monitor:
        layers, seen = result["report"]["layers"], result["activity"]["neurons"]
        assert result["activity"]["samples"] == 40
        assert [n["spikes"] for n in seen] == pytest.approx([n["spikes"] for n in layers])
    assert result["report"]["steps"] == [2, 9]
    assert len(result["report"]["layers"]) == 2
    assert result["settings"]["run"]["network"] == "cnn"
    # The stored network gives the same, also with the options of all methods, which older versions stored.
    stored = read_checkpoint(tmp_path / "snn.pt")
    stored["settings"] |= {"levels": 4, "scaling_factor": 1.0}
    write_checkpoint(tmp_path / "snn.pt", stored)
    _, trained, _ = diehl2015.reopen(run)
    network = conversion.converted(tmp_path, trained.model.eval())
    pixels, labels = conversion.spread(images.part("digits", "test"), 40)
    scores = network(pixels, 9, warm_up=warm_up)
    accuracy = (scores.argmax(1) == labels).double().mean().item()
    assert accuracy == pytest.approx(result["report"]["accuracy"][1])
    assert method == "qcfs" or torch.equal(network.conv1.weight, trained.model.conv1.weight)


def test_a_conversion_is_a_call(run, tmp_path):
    """A call equals the command with the same options."""
    settings = {"images": 40, "batch_size": 20, "calibration_images": 60, "steps": (2, 9)}
    result = snnfast.procedure.convert(str(run), out=tmp_path / "call", progress=False, **settings)
    call("convert", run, *QUICK, *STEPS, "--out", tmp_path / "command")
    one, other = (result_of(tmp_path / name) for name in ("call", "command"))
    assert (one["settings"], one["report"]) == (other["settings"], other["report"])
    assert result.report.accuracy == tuple(one["report"]["accuracy"])
    beside = snnfast.procedure.convert(run, method="max", progress=False, **settings)
    assert beside.out == run / "max"
    with pytest.raises(TypeError, match=r"^convert: there is no setting 'lrr'; known: method, "):
        snnfast.procedure.convert(run, lrr=1)


def test_a_conversion_answers_as_it_was_scored(run, tmp_path):
    """Also by the command, for random input spikes from the seed, and only with all that it needs."""
    settings = {"calibration_images": 60, "steps": (2, 9), "warm_up": 1, "method": "max"}
    result = snnfast.procedure.convert(run, out=tmp_path, progress=False, **settings)
    assert f"snnfast infer {tmp_path} IMAGES" in result.summary()
    net = snnfast.load(tmp_path)
    pixels, labels = snnfast.data.as_tensors(snnfast.data.load("digits", split="test"))
    accuracy = (net(pixels) == labels).double().mean().item()
    assert accuracy == pytest.approx(result.report.accuracy[1], abs=1e-9)
    assert (net.classes[3], type(net.model).__name__) == ("3", "SpikingNetwork")
    torch.save(pixels[:4], tmp_path / "some.pt")
    lines = call("infer", tmp_path, tmp_path / "some.pt", "--device", "cpu").splitlines()
    assert [line.split()[-1] for line in lines[:4]] == [str(k) for k in net(pixels[:4]).tolist()]
    stored = read_checkpoint(tmp_path / "snn.pt")
    del stored["data"]
    write_checkpoint(tmp_path / "snn.pt", stored)
    with pytest.raises(snnfast.checkpoint.CheckpointError, match=r"of an earlier version; run snnfast convert again"):
        snnfast.load(tmp_path)


def write_images(root):
    """Write ten classes of images like CIFAR-10, with two training and two test images."""
    generator = torch.Generator().manual_seed(0)
    for part, label, i in itertools.product(("train", "test"), range(10), range(2)):
        path = root / part / f"class{label}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = torch.randint(256, (3, 32, 32), generator=generator, dtype=torch.uint8)
        write_png(pixels, str(path))


@pytest.mark.parametrize("normal", [False, True])
def test_vgg16_on_images_like_cifar10(tmp_path, normal):
    """Run the commands in docs/conversion.md, with a narrow network and few images."""
    write_images(tmp_path / "images")
    run, data = tmp_path / "run", ("--data", tmp_path / "images", "--device", "cpu")
    modern = ("--batch-norm", "--schedule", "one-cycle", "--precision", "bfloat16")
    call(
        *("train", "vgg16", "--dataset", "cifar10", *data, "--epochs", 2, "--out", run),
        *("--width", 0.02, *(modern if normal else ())),
    )
    settings = diehl2015.stored(run)
    model = ann.network(settings)
    first = model.features[0]
    assert (settings.optimizer, settings.crop, settings.flip) == ("sgd", 4, True)
    assert (settings.network, first.out_channels) == ("vgg16", 1)
    assert any(isinstance(m, nn.BatchNorm2d) for m in model.modules()) == normal
    call(
        *("convert", run, *data, "--method", "spikenorm", "--encoder", "saturating"),
        *("--calibration-steps", 25, "--steps", 5, "--steps", 25),
    )
    report = result_of(run / "spikenorm")["report"]
    assert len(report["layers"]) == 15
    assert report["images"] == 20
    call("convert", run, *data, "--per-channel", "--calibration-images", 8, *STEPS)
    assert result_of(run / "percentile")["report"]["images"] == 20


def test_folders_of_images_that_are_wrong_are_told(tmp_path):
    write_images(tmp_path)
    options = ("train", "vgg16", "--dataset", "cifar10", "--data", tmp_path, "--out", tmp_path)
    (tmp_path / "test" / "class3").rename(tmp_path / "test" / "class33")
    text = call(*options, code=2)
    assert "got class3 only in train, class33 only in test" in " ".join(text.split())
    (tmp_path / "test").rename(tmp_path / "held out")
    assert "there is no folder" in " ".join(call(*options, code=2).split())


@pytest.mark.parametrize("method", ["max", "qcfs"])
def test_an_interrupted_conversion_goes_on_to_the_same_report(run, tmp_path, monkeypatch, method):
    common = (
        *("convert", run, "--method", method, *QUICK, *STEPS, "--seed", 3),
        *("--encoder", "poisson", "--validate"),
    )
    call(*common, "--out", tmp_path / "whole")
    add, calls = Comparison.add, []

    def cut(comparison, *batch):
        if len(calls) == 1:
            raise KeyboardInterrupt
        calls.append(1)
        add(comparison, *batch)

    with monkeypatch.context() as patched:
        patched.setattr(Comparison, "add", cut)
        patched.setattr(conversion, "SAVE_EVERY", 0.0)
        text = call(*common, "--out", tmp_path / "parts", code=130)
    assert "repeat the command with --resume to go on" in text
    stored = read_checkpoint(tmp_path / "parts" / "snn.pt")
    assert stored["comparison"]["images"] == 20
    call(*common, "--out", tmp_path / "parts", "--resume")
    whole, parts = (result_of(tmp_path / name) for name in ("whole", "parts"))
    assert whole["report"] == parts["report"]
    assert whole["split"] == "validation"
    assert "exists: resume it" in call(*common, "--out", tmp_path / "parts", code=2)
    other = call(*common, "--reset", "hard", "--out", tmp_path / "parts", "--resume", code=2)
    assert "reset: 'soft' there, 'hard' here" in other


def test_validation_split_of_a_run_that_learned_it(run, tmp_path):
    diehl2015("digits", epochs=1, batch_size=500, out=tmp_path, progress=False)
    text = call("convert", tmp_path, "--validate", code=2)
    assert "was trained on the validation split" in " ".join(text.split())


def test_some_images_are_of_all_classes():
    part = torch.arange(100.0), torch.arange(10).repeat_interleave(10)
    images, labels = conversion.spread(part, 20)
    assert labels.tolist() == [i // 2 for i in range(20)]
    assert images.tolist() == [5.0 * i for i in range(20)]
    assert len(conversion.spread(part, 300)[0]) == 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--percentile", -1), "percentile must be more than 0, got -1"),
        (("--percentile", "nan"), "percentile must be finite, got nan"),
        (("--method", "balance"), "method must be one of max, percentile, spikenorm, qcfs"),
        (("--reset", "none"), "reset must be one of soft, hard"),
        (("--encoder", "rate"), "encoding must be one of constant, poisson, saturating"),
        (("--initial-membrane", 1), "initial_membrane must lie in [0, 1)"),
        (("--steps", 5, "--steps", 2), "steps must be increasing numbers from 1 on"),
        (("--steps", 0), "steps must be at least 1, got 0"),
        (("--warm-up", -1), "warm_up must be at least 0, got -1"),
        ((*STEPS, "--warm-up", 2), "steps must be more than warm_up, got 2 and 2"),
        (("--calibration-images", 0), "calibration_images must be at least 1, got 0"),
        (("--method", "spikenorm", "--scaling-factor", -1), "scaling_factor must be positive"),
        (("--method", "qcfs", "--per-channel"), "per_channel is for max, percentile and spikenorm"),
        (("--method", "max", "--percentile", 99), "percentile is for percentile and spikenorm"),
        (("--scaling-factor", 0.1), "scaling_factor is for spikenorm, not for percentile"),
        (("--calibration-steps", 100), "calibration_steps is for spikenorm, not for percentile"),
        (("--method", "max", "--levels", 9), "levels is for qcfs, not for max"),
        (("--method", "spikenorm", "--epochs", 4), "epochs is for qcfs, not for spikenorm"),
        (("--method", "qcfs", "--reset", "hard"), "qcfs needs reset='soft'"),
        (("--device", "tpu"), "--device must be auto, cpu, cuda"),
    ],
)
def test_wrong_options_of_convert(run, tmp_path, arguments, message):
    text = call("convert", run, *QUICK, *arguments, "--out", tmp_path, code=2)
    assert message in " ".join(text.split())
    assert not (tmp_path / "snn.pt").exists()


def test_a_result_is_not_replaced(run, tmp_path):
    call("convert", run, *QUICK, *STEPS, "--out", tmp_path)
    for folder in (run, tmp_path):
        before = (folder / "result.json").read_text()
        text = call("convert", run, *QUICK, *STEPS, "--out", folder, code=2)
        assert "exists: resume it (resume=True, --resume), or give another folder" in " ".join(text.split())
        assert (folder / "result.json").read_text() == before
    with pytest.raises(FileExistsError, match=r"result\.json exists"):
        diehl2015("digits", epochs=0, out=tmp_path, progress=False)


def test_a_run_that_is_not_finished_is_not_converted(run, tmp_path):
    checkpoint = read_checkpoint(run / "checkpoint.pt")
    write_checkpoint(tmp_path / "checkpoint.pt", {**checkpoint, "epoch": 0})
    text = call("convert", tmp_path, code=2)
    assert "is at epoch 0 of 1; resume it" in " ".join(text.split())


def test_wrong_folders_and_options_of_training(tmp_path):
    assert "there is no checkpoint" in call("convert", tmp_path, code=2)
    (tmp_path / "checkpoint.pt").write_bytes(b"no")
    assert "is no readable checkpoint" in call("convert", tmp_path, code=2)
    text = call("train", "diehl2015", "--network", "vgg", code=2)
    assert "network must be one of cnn, dense, got 'vgg'" in text
    assert "mnist needs --data" in call("train", "diehl2015", "--dataset", "mnist", code=2)
    text = call("train", "vgg16", "--dataset", "cifar10", code=2)
    assert "cifar10 needs --data, the folder of CIFAR-10" in " ".join(text.split())


def test_cuda_asked_for_and_absent(run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for command in (("train", "diehl2015"), ("train", "vgg16"), ("convert", run)):
        assert "--device cuda was asked for, but" in call(*command, "--device", "cuda", code=2)
