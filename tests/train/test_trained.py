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
    samples = "FILE.npz, samples [" if one.name == "sequence" else "IMAGES; "
    assert f"snnfast infer {tmp_path} {samples}" in result.summary()


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


def test_predictions_of_an_earlier_call_stay(tmp_path, colours):
    path, images, _ = colours
    out = tmp_path / "run"
    procedure.stbp(str(path), out=out, epochs=0, **QUIET)
    np.save(tmp_path / "few.npy", images[:2])
    np.save(tmp_path / "more.npy", images)
    for name in ("few", "more", "few"):
        call("infer", out, tmp_path / f"{name}.npy", "--device", "cpu")
    sizes = {path.name: len(path.read_text().splitlines()) for path in out.glob("predictions*")}
    assert sizes == {"predictions.csv": 3, "predictions-2.csv": 37, "predictions-3.csv": 3}


def test_infer_takes_what_a_run_was_trained_on(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    frames, labels = rng.integers(0, 3, (24, 5, 2, 4, 4), dtype=np.uint8), np.arange(24) % 2
    np.savez(tmp_path / "mine.npz", images=frames, labels=labels)
    np.savez(tmp_path / "new.npz", frames=frames[:3])
    (tmp_path / "my_events.py").write_text(
        f"import numpy as np\ndef both():\n    content = np.load({str(tmp_path / 'mine.npz')!r})\n"
        "    part = content['images'], content['labels']\n    return part, part\n"
    )
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "run"
    result = procedure.sequence("my_events:both", out=out, epochs=0, hidden=(4,), **QUIET)
    assert f"snnfast infer {out} FILE.npz, samples [5, 2, 4, 4]; " in result.summary()
    for source, count in (("mine.npz", 24), ("new.npz", 3), ("my_events:both", 24)):
        said = call("infer", out, source, "--device", "cpu")
        assert f"{source}[{count - 1}]  " in said
        assert f"{source}[{count}]  " not in said
    (tmp_path / "one.bs2").write_bytes(bytes(5))
    text = call("infer", out, "one.bs2", code=2)
    assert "one.bs2 is a recording, and the run in" in text
    assert "snnfast.data.frames" in text


def test_infer_takes_recordings_of_nmnist(tmp_path):
    def write(number, row):
        events = [(t, x) for t in range(0, 200_000, 10_000) for x in range(9)]
        content = (bytes([x, row, 128 | t >> 16, t >> 8 & 255, t & 255]) for t, x in events)
        (tmp_path / f"{number}.bs2").write_bytes(b"".join(content))

    for number in range(1, 15):
        write(number, 3 + 20 * (number % 2))
    for name, numbers in (("train", range(1, 11)), ("test", range(11, 15))):
        (tmp_path / f"{name}.txt").write_text("".join(f"{n} {n % 2}\n" for n in numbers))
    out = tmp_path / "run"
    procedure.sequence("nmnist", root=tmp_path, out=out, epochs=2, hidden=(8,), **QUIET)
    net = snnfast.load(out)
    wanted = [net.name(int(k)) for k in net(data.nmnist(tmp_path / "test.txt").frames)]
    said = call("infer", out, *(tmp_path / f"{n}.bs2" for n in range(11, 15)), "--device", "cpu")
    assert [line.split()[-1] for line in said.splitlines()[:4]] == wanted


def test_a_run_knows_the_range_of_its_inputs(tmp_path, colours):
    path, images, labels = colours
    out = tmp_path / "run"
    procedure.stbp(str(path), out=out, epochs=0, **QUIET)
    net = snnfast.load(out)
    assert net.extent == pytest.approx((0, images.max() / 255))
    with pytest.raises(ValueError, match=r"load: the run in .* saw values from 0 to 0\.9.*go from 0 to 24.*; scale"):
        net(images.astype(np.float32))
    np.savez(tmp_path / "floats.npz", images=images.astype(np.float32), labels=labels)
    procedure.sequence(str(tmp_path / "floats.npz"), out=tmp_path / "floats", epochs=0, hidden=(4,), **QUIET)
    with pytest.warns(UserWarning, match=r"saw values from 0 to 24.*go from 0 to 0\.9"):
        snnfast.load(tmp_path / "floats")(images)  # bytes, which are scaled
    spikeprop = procedure.spikeprop("iris", out=tmp_path / "iris", epochs=0, **SMALL["spikeprop"], **QUIET)
    assert snnfast.load(spikeprop.out).extent == pytest.approx((0.1, 7.9))


def test_alpha_is_kept_or_refused(tmp_path, colours):
    path, images, labels = colours
    procedure.stbp(str(path), out=tmp_path / "run", epochs=0, **QUIET)
    net = snnfast.load(tmp_path / "run")
    pixels = np.full((8, 8, 4), 255, np.uint8)
    pixels[..., :3] = images[0].transpose(1, 2, 0)
    image.imsave(tmp_path / "opaque.png", pixels)
    torch.testing.assert_close(net.preprocess(tmp_path / "opaque.png"), net.preprocess(images[:1]))
    pixels[2, 3, 3] = 100
    image.imsave(tmp_path / "clear.png", pixels)
    with pytest.raises(ValueError, match=r"load: .*clear\.png has transparent pixels: save it with a background"):
        net(tmp_path / "clear.png")
    with_alpha = np.concatenate([images, np.full((36, 1, 8, 8), 255, np.uint8)], 1)
    np.savez(tmp_path / "rgba.npz", images=with_alpha, labels=labels)
    procedure.stbp(str(tmp_path / "rgba.npz"), out=tmp_path / "rgba", epochs=0, **QUIET)
    x = snnfast.load(tmp_path / "rgba").preprocess(tmp_path / "clear.png")
    assert x[0, 3, 2, 3] == pytest.approx(100 / 255)


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
