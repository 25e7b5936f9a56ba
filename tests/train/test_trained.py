"""snnfast.load and snnfast infer: the network of a run with classes and preprocessing, for every procedure."""

import numpy as np
import pytest
import torch
from command import call
from matplotlib import image
from procedures import SMALL

import snnfast
from snnfast import data
from snnfast_zoo.papers import procedures as procedure
from snnfast_zoo.papers.procedures import PROCEDURES
from snnfast_zoo.train.checkpoint import CheckpointError

pytestmark = pytest.mark.usefixtures("one_thread")
QUIET = {"progress": False, "echo": None}


@pytest.fixture
def colours(tmp_path):
    """Write a file of 36 images in three named colours."""
    rng = np.random.default_rng(0)
    labels = np.arange(36) % 3
    images = rng.integers(0, 60, (36, 3, 8, 8), dtype=np.uint8)
    images[np.arange(36), labels] += 190
    names = np.array(["red", "green", "blue"])
    np.savez(tmp_path / "colours.npz", images=images, labels=labels, classes=names)
    return tmp_path / "colours.npz", images, labels


@pytest.mark.filterwarnings("ignore:stdp", "ignore:.*silent", "ignore:calibrate")
@pytest.mark.parametrize(
    ("one", "validate"),
    [*((one, False) for one in PROCEDURES), (procedure.stbp, True), (procedure.stdp, True)],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_loaded_network_answers_as_the_run_scored(tmp_path, one, validate):
    """Check the accuracy on the held-out images, from raw pixels of the data set."""
    changes = SMALL.get(one.name, {}) | ({} if one.name == "sequence" else {"dataset": "digits"})
    if one.name == "spikeprop":
        changes |= {"hidden": (10,)}
    split = "val" if validate else "test"
    result = one(out=tmp_path, epochs=1, validate=validate, **changes, **QUIET)
    net = snnfast.load(tmp_path)
    if one.name == "sequence":
        loaded = one.load(result.settings)
        x, labels = loaded.held_out
    else:
        x, labels = data.as_tensors(data.load("digits", split=split))
    accuracy = (net(x) == labels).double().mean().item()
    if one.name == "stdp":  # its input spikes are random
        assert len(net(x)) == len(labels)
    else:
        assert accuracy == pytest.approx(result.accuracy, abs=1e-9)
    assert net.classes[:2] == ("0", "1")
    assert not net.model.training
    assert f"snnfast infer {tmp_path} IMAGES" in result.summary()


@pytest.mark.parametrize("dataset", ["iris", "cancer", "xor"])
def test_features_are_coded_as_in_training(tmp_path, dataset):
    result = procedure.spikeprop(dataset, out=tmp_path, epochs=1, **SMALL["spikeprop"], **QUIET)
    net = snnfast.load(tmp_path)
    x = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    labels = torch.tensor([0, 1, 1, 0])
    if dataset != "xor":
        x, labels = data.as_tensors(data.load(dataset, split="test"))
    assert (net(x) == labels).double().mean().item() == pytest.approx(result.accuracy, abs=1e-9)
    assert net.classes[0] == {"iris": "setosa", "cancer": "benign", "xor": "0"}[dataset]


def test_image_files_and_arrays(tmp_path, colours):
    path, images, labels = colours
    out = tmp_path / "run"
    procedure.stbp(str(path), out=out, epochs=6, **QUIET)
    path.rename(tmp_path / "gone.npz")  # the run suffices
    files = []
    for i in range(3):
        files.append(tmp_path / f"{i}.png")
        image.imsave(files[-1], images[i].transpose(1, 2, 0))
    np.save(tmp_path / "more.npy", images)
    net = snnfast.load(out)
    assert net.classes == ("red", "green", "blue")
    assert net(files).tolist() == [0, 1, 2] == net(images[:3]).tolist()
    assert net(torch.from_numpy(images).float() / 255).tolist() == labels.tolist()
    said = call("infer", out, *files, tmp_path / "more.npy", "--device", "cpu")
    assert f"{files[1]}  green\n" in said
    assert f"{tmp_path / 'more.npy'}[35]  blue\n" in said
    rows = (out / "predictions.csv").read_text().splitlines()
    assert rows[:2] == ["source,class", f"{files[0]},red"]
    assert len(rows) == 40


def test_grey_networks_take_coloured_files(tmp_path):
    procedure.stbp("digits", out=tmp_path / "run", epochs=0, **QUIET)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    image.imsave(tmp_path / "one.png", pixels)
    net = snnfast.load(tmp_path / "run")
    x = net.preprocess(tmp_path / "one.png")
    wanted = (pixels @ np.array([0.299, 0.587, 0.114]) / 255).astype(np.float32)
    torch.testing.assert_close(x[0, 0], torch.from_numpy(wanted), atol=2 / 255, rtol=0)


def test_errors(tmp_path, colours):
    path, images, _ = colours
    procedure.stbp(str(path), out=tmp_path / "run", epochs=0, **QUIET)
    net = snnfast.load(tmp_path / "run")
    image.imsave(tmp_path / "large.png", np.zeros((9, 10, 3), np.uint8))
    (tmp_path / "no.png").write_text("no image")
    for samples, error, message in (
        (images[:, :1], ValueError, r"samples must have shape \[N, 3, 8, 8\].*got \[36, 1, 8, 8\]"),
        (tmp_path / "large.png", ValueError, r"10x9 pixels, the run in .* was trained with 8x8; resize"),
        (tmp_path / "no.png", ValueError, r"no\.png cannot be read as an image"),
        (tmp_path / "missing.png", FileNotFoundError, "there is no image"),
        (3, TypeError, "samples must be a tensor"),
    ):
        with pytest.raises(error, match=f"load: .*{message}"):
            net(samples)
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        snnfast.load(tmp_path)
    assert "there is no checkpoint" in call("infer", tmp_path / "none", "a.png", code=2)
    from snnfast.train import Run

    Run(torch.nn.Linear(2, 2)).save(tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="of kind 'run', not of a run of snnfast train"):
        snnfast.load(tmp_path)
    run = Run(torch.nn.Linear(2, 2), settings=net.settings.plain(), kind="stbp")
    run.save(tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="is of an earlier version; go on with --resume"):
        snnfast.load(tmp_path)
