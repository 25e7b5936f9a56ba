"""A user's own data: every kind of source, and errors that name its faults."""

import numpy as np
import pytest
import torch
from torchvision import io
from typer.testing import CliRunner

import snnfast
from snnfast_zoo.cli import app
from snnfast_zoo.data.own import is_own, label_of, own_images
from snnfast_zoo.papers.procedures import PROCEDURES, bp_stdp, diehl2015, sequence, spikeprop, stbp, stdp
from snnfast_zoo.papers.sequence.data import rows


def same(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=0)


def arrays(channels=3, height=9, width=6, classes=3, n=36, dtype=np.uint8):
    generator = np.random.default_rng(0)
    labels = np.arange(n) % classes
    images = generator.integers(0, 256, (n, channels, height, width))
    images[np.arange(n), 0, labels] = 255
    return images.astype(dtype), labels


def test_a_file_with_both_parts(tmp_path):
    images, labels = arrays()
    parts = {"train_images": images[:30], "train_labels": labels[:30]}
    parts |= {"test_images": images[30:], "test_labels": labels[30:]}
    np.savez(tmp_path / "mine.npz", **parts)
    torch.save({k: torch.as_tensor(v) for k, v in parts.items()}, tmp_path / "mine.pt")
    for suffix in ("npz", "pt"):
        source = str(tmp_path / f"mine.{suffix}")
        whole = own_images(source, "train+val")
        same(whole[0], torch.from_numpy(images[:30]).float() / 255)
        same(whole[1], torch.from_numpy(labels[:30]))
        same(own_images(source, "test")[0], torch.from_numpy(images[30:]).float() / 255)
        train, val = own_images(source, "train"), own_images(source, "val")
        assert (len(train[0]), len(val[0])) == (28, 2)
        joined = torch.cat([train[0], val[0]]).flatten(1).sum(1).sort().values
        same(joined, whole[0].flatten(1).sum(1).sort().values)
    assert label_of(source) == "mine"


def test_a_file_of_one_part_is_cut_by_class(tmp_path):
    images, labels = arrays(dtype=np.float64)
    np.savez(tmp_path / "mine.npz", images=images[:, 0], labels=labels)
    source = str(tmp_path / "mine.npz")
    test = own_images(source, "test")
    assert (tuple(test[0].shape), test[0].dtype) == ((6, 1, 9, 6), torch.float32)
    assert test[1].bincount().tolist() == [2, 2, 2]
    assert len(own_images(source, "train+val")[0]) == 30


def test_a_function_of_a_module(tmp_path, monkeypatch):
    (tmp_path / "my_sets.py").write_text(
        "import torch\ncalls = []\n"
        "def both():\n    x = torch.rand(8, 1, 4, 4)\n    y = torch.arange(8) % 2\n    return (x, y), (x[:2], y[:2])\n"
        "def one():\n    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    assert own_images("my_sets:both", "test")[0].shape == (2, 1, 4, 4)
    with pytest.raises(ValueError, match=r"^my_sets:one must return \(\(images, labels\)"):
        own_images("my_sets:one", "test")
    with pytest.raises(ValueError, match="has no function 'none'"):
        own_images("my_sets:none", "test")
    with pytest.raises(ImportError, match=r"^no_such_module:both: no module 'no_such_module' is in"):
        own_images("no_such_module:both", "test")
    for source in (":", "my_sets:", ":both", ".my_sets:both"):
        with pytest.raises(ValueError, match=f"^{source} must be module:function"):
            own_images(source, "test")
    with pytest.raises(ValueError, match=r"^json:loads must be callable without arguments: missing"):
        own_images("json:loads", "test")
    (tmp_path / "needs_more.py").write_text("import not_there_either\n")
    with pytest.raises(ImportError, match=r"^No module named 'not_there_either'"):
        own_images("needs_more:both", "test")


def write_folder(folder, images, labels):
    for part, chosen in (("train", slice(0, 30)), ("test", slice(30, None))):
        for i, (image, label) in enumerate(zip(images[chosen], labels[chosen])):
            path = folder / part / f"class{label}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            io.write_png(torch.from_numpy(image), str(path))


def test_a_folder_of_images(tmp_path):
    images, labels = arrays()
    write_folder(tmp_path / "mine", images, labels)
    found = own_images(str(tmp_path / "mine"), "test")
    assert tuple(found[0].shape) == (6, 3, 9, 6)
    assert found[1].tolist() == [0, 0, 1, 1, 2, 2]


def test_a_set_of_torchvision_needs_its_folder():
    assert is_own("Fashion-MNIST")
    with pytest.raises(ValueError, match=r"^kmnist needs the folder of KMNIST in torchvision.*--data FOLDER"):
        own_images("kmnist", "train")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"labels": np.arange(36) % 3 + 1}, r"labels must count from 0, the smallest is 1"),
        ({"labels": np.arange(36) % 2 * 2}, r"go up to 2, but no training image is of class 1"),
        ({"labels": np.arange(35) % 3}, r"all labels must have shape \[36\], one an image"),
        ({"labels": np.arange(36) % 3 + 0.5}, r"all labels must be integers, got torch.float64"),
        ({"labels": np.arange(36) // 12 % 9 * (np.arange(36) < 35)}, None),
        (
            {"images": np.zeros((36, 4))},
            r"all images must have shape \[N, C, H, W\] or \[N, H, W\], frames \[N, T, C, H, W\]",
        ),
        ({"images": np.full((36, 4, 4), np.nan)}, r"all images must be finite"),
        ({"images": np.zeros((36, 4, 4), np.int64)}, r"must be floating point or uint8, got torch.int64"),
        ({"images": np.array([None] * 36)}, r"holds no plain arrays"),
        ({"labels": np.array(["a", "b", "c"] * 12, object)}, r"Python objects; make strings of them .*dtype=str"),
        (
            {"labels": np.arange(36) % 3 * 10**12},
            r"go up to 2000000000000, but no training image is of class 1, 2, 3, 4, 5$",
        ),
        ({"labels": (np.arange(36) % 3).astype(">i8")}, None),
        ({"pixels": np.zeros(3), "images": None}, r"must hold train_images, .*, or images and labels"),
    ],
)
def test_what_is_wrong_with_arrays_is_told(tmp_path, change, error):
    images, labels = arrays()
    content = {"images": images, "labels": labels, **change}
    np.savez(tmp_path / "mine.npz", **{k: v for k, v in content.items() if v is not None})
    if error is None:
        own_images(str(tmp_path / "mine.npz"), "train")
        return
    with pytest.raises((ValueError, TypeError), match=error):
        own_images(str(tmp_path / "mine.npz"), "train")


def test_damaged_files_are_told(tmp_path):
    """Any wrong byte either has no effect or raises a ValueError."""
    images, labels = arrays(height=3, width=2)
    np.savez_compressed(tmp_path / "mine.npz", images=images, labels=labels)
    torch.save({"images": torch.from_numpy(images), "labels": torch.from_numpy(labels)}, tmp_path / "mine.pt")
    for suffix, kind in ("npz", "arrays"), ("pt", "tensors"):
        file = tmp_path / f"mine.{suffix}"
        whole = file.read_bytes()
        errors = 0
        for k in range(0, len(whole), 7):
            file.write_bytes(whole[:k] + bytes([whole[k] ^ 0x55]) + whole[k + 1 :])
            try:
                own_images(str(file), "train")
            except (ValueError, TypeError):
                errors += 1
        assert errors
        file.write_bytes(b"")
        with pytest.raises(ValueError, match=f"holds no plain {kind}"):
            own_images(str(file), "train")


def test_what_is_no_archive_of_dense_arrays_is_told(tmp_path):
    images, labels = arrays()
    np.save(tmp_path / "one.npy", images)
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    with pytest.raises(ValueError, match=r"one.npz holds no plain arrays: it is a single array"):
        own_images(str(tmp_path / "one.npz"), "train")
    sparse = {"images": torch.from_numpy(images).to_sparse(), "labels": torch.from_numpy(labels)}
    torch.save(sparse, tmp_path / "mine.pt")
    with pytest.raises(TypeError, match=r"mine.pt: all images must be a dense tensor, got torch"):
        own_images(str(tmp_path / "mine.pt"), "train")


def test_a_class_that_is_only_held_out_counts(tmp_path):
    source = str(tmp_path / "mine.npz")
    images, labels = arrays(classes=2)
    parts = {"test_images": images[:4], "test_labels": labels[:4], "train_images": images}
    for rare in range(len(labels)):
        changed = np.where(np.arange(len(labels)) == rare, 2, labels)
        np.savez(source, **parts, train_labels=changed)
        if 2 in own_images(source, "val")[1]:
            break
    result = stbp(source, **QUIET, hidden=(3,), validate=True)
    assert result.model(torch.rand(2, 3, 9, 6)).shape == (2, 3)
    np.savez(source, **{**parts, "train_images": images[:6]}, train_labels=labels[:6])
    with pytest.raises(ValueError, match=r"a twelfth of the training part .* needs 7 items, got 6"):
        stbp(source, **QUIET, validate=True)


class Trap:
    def __reduce__(self):
        return print, ("unpickled",)


def test_nothing_is_unpickled(tmp_path, capsys):
    torch.save({"images": Trap()}, tmp_path / "mine.pt")
    with pytest.raises(ValueError, match=r"mine\.pt holds no plain tensors"):
        own_images(str(tmp_path / "mine.pt"), "train")
    np.savez(tmp_path / "mine.npz", images=np.array([Trap()]), labels=np.array([0]))
    with pytest.raises(ValueError, match=r"mine\.npz holds no plain arrays"):
        own_images(str(tmp_path / "mine.npz"), "train")
    assert "unpickled" not in capsys.readouterr().out


def test_parts_of_different_sizes_and_missing_files_are_told(tmp_path):
    images, labels = arrays()
    parts = {"train_images": images, "train_labels": labels}
    parts |= {"test_images": images[..., 1:], "test_labels": labels}
    np.savez(tmp_path / "mine.npz", **parts)
    with pytest.raises(ValueError, match="training images are 3x9x6, test images 3x9x5"):
        own_images(str(tmp_path / "mine.npz"), "train")
    for missing in ("none.npz", "none.pt", "none/of/these"):
        with pytest.raises(FileNotFoundError, match="there is no such"):
            own_images(str(tmp_path / missing), "train")
    (tmp_path / "bad.npz").write_bytes(b"PK no")
    with pytest.raises(ValueError, match="holds no plain arrays"):
        own_images(str(tmp_path / "bad.npz"), "train")


def test_procedures_size_their_network_to_fit(tmp_path):
    images, labels = arrays(classes=4, height=20, width=16)
    np.savez(tmp_path / "mine.npz", images=images, labels=labels)
    source, quiet = str(tmp_path / "mine.npz"), {"progress": False, "echo": None}
    result = stbp(source, epochs=1, **quiet)
    assert result.model(torch.rand(2, 3, 20, 16)).shape == (2, 4)
    result = diehl2015(source, epochs=1, out=tmp_path / "run", **quiet)
    assert result.model(torch.rand(2, 3, 20, 16)).shape == (2, 4)
    again = diehl2015(source, epochs=1, out=tmp_path / "run", resume=True, **quiet)
    assert again.accuracy == result.accuracy


QUIET = {"progress": False, "echo": None, "epochs": 1}
SMALL = {
    "stdp": {"neurons": 4, "duration": 20.0},
    "spikeprop": {"hidden": (5,)},
    "bp-stdp": {"hidden": (5,)},
    "spiking-vgg": {"width": 0.05, "num_steps": 2},
    "sequence": {"hidden": (5,)},
    "vgg16": {},
}


@pytest.mark.parametrize("procedure", PROCEDURES, ids=lambda p: p.name)
def test_every_procedure_takes_own_images(procedure, tmp_path):
    images, labels = arrays(classes=4, height=12, width=10)
    np.savez(tmp_path / "mine.npz", images=images, labels=labels)
    result = procedure(str(tmp_path / "mine.npz"), **QUIET, **SMALL.get(procedure.name, {}))
    assert 0 <= result.accuracy <= 1
    assert result.run.settings["dataset"].endswith("mine.npz")


def test_folds_of_own_images_take_all_of_them(tmp_path):
    images, labels = arrays()
    np.savez(tmp_path / "mine.npz", images=images, labels=labels)
    data = bp_stdp.load(bp_stdp.preset(str(tmp_path / "mine.npz"), folds=3))
    assert (len(data.train[0]), len(data.held_out[0])) == (24, 12)
    assert data.train[0].shape[1] == 3 * 9 * 6


def frames(n=18):
    """Events of 2 polarities in 5 steps; each class has another pixel."""
    labels = np.arange(n) % 3
    counts = np.zeros((n, 5, 2, 8, 6), np.uint8)
    counts[np.arange(n), 2, 1, labels, labels] = 3
    return counts, labels


def test_frames_of_events_are_currents_of_their_steps(tmp_path):
    counts, labels = frames()
    np.savez(tmp_path / "mine.npz", images=counts, labels=labels)
    source = str(tmp_path / "mine.npz")
    result = stbp(source, **QUIET, shift=1.0, out=tmp_path / "run")
    x = torch.from_numpy(counts[:2]).float()
    same(result.model(x), result.model.layers(x.transpose(0, 1)).mean(0))
    same(own_images(source, "train+val")[0].amax(), torch.tensor(3.0))  # counts stay
    with pytest.raises(ValueError, match=r"^Wu2018: images must have shape \[B, T, 2, 8, 6\], got"):
        result.model(x[..., 1:])
    with pytest.raises(ValueError, match=r"^stbp: encoding bernoulli is for images, got frames"):
        stbp(source, **QUIET, encoding="bernoulli")
    data = sequence.load(sequence.preset(source))
    assert data.train[0].shape == (15, 5, 2 * 8 * 6)
    with pytest.raises(ValueError, match=r"mine\.npz has frames \[.*\], which only stbp and sequence take"):
        diehl2015(source, **QUIET)


@pytest.mark.parametrize("train", [bp_stdp, spikeprop, stdp])
def test_rates_and_times_take_pixels_from_0_to_1(train, tmp_path):
    images, labels = arrays()
    source = str(tmp_path / "mine.npz")
    np.savez(source, images=images.astype(np.float32), labels=labels)  # bytes without their scale
    with pytest.raises(ValueError, match=r"mine\.npz: pixels must lie in \[0, 1\], got values from"):
        train(source, **QUIET)


def test_sequences_are_rows():
    x = torch.rand(3, 2, 5, 4)
    same(rows("mine.npz", x)[:, 1], x[:, :, 1].flatten(1))
    same(rows("smnist", x[:, :1]), x[:, 0])


def test_the_command_takes_own_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images, labels = arrays()
    np.savez("Mine.npz", images=images, labels=labels)
    ran = CliRunner().invoke(app, ["train", "stbp", "--dataset", "Mine.npz", "--epochs", "1"])
    assert ran.exit_code == 0, ran.output
    assert (tmp_path / "runs" / "stbp-Mine" / "result.json").exists()
    for name in ("--task", "--dataset"):
        short = ["--hidden", "4", "--epochs", "0", "--out", name[2:]]
        ran = CliRunner().invoke(app, ["train", "sequence", name, "Mine.npz", *short])
        assert ran.exit_code == 0, ran.output
    wrong = CliRunner().invoke(app, ["train", "stbp", "--dataset", "mine"])
    assert wrong.exit_code == 2
    assert "or your own: a file .npz or .pt, a folder, module:function" in wrong.output


def test_channels_that_stand_last_are_refused(tmp_path):
    labels = np.arange(36) % 3
    for shape, axis in (((36, 8, 8, 3), 1), ((36, 28, 28, 1), 1), ((36, 5, 16, 16, 2), 2)):
        np.savez(tmp_path / "last.npz", images=np.zeros(shape, np.uint8), labels=labels)
        with pytest.raises(ValueError, match=rf"last\.npz: all images of shape .* np\.moveaxis\(images, -1, {axis}\)"):
            own_images(str(tmp_path / "last.npz"), "test")
    np.savez(tmp_path / "last.npz", images=np.zeros((36, 6, 9, 3), np.uint8), labels=labels)
    with pytest.warns(UserWarning, match=r"have 6 channels of 9x3; move channels that stand last"):
        own_images(str(tmp_path / "last.npz"), "test")


def test_labels_that_are_names_are_told(tmp_path):
    names = np.array(["cat", "dog"])[np.arange(24) % 2]
    np.savez(tmp_path / "names.npz", images=np.zeros((24, 1, 5, 5)), labels=names)
    with pytest.raises(TypeError, match=r"labels must be integers from 0 on, got 'cat', .*; classes, labels = np"):
        own_images(str(tmp_path / "names.npz"), "test")


def test_arrays_in_the_place_of_a_name_are_told(tmp_path):
    for value in (np.zeros((6, 1, 4, 4)), torch.zeros(6, 1, 4, 4), (np.zeros((6, 1, 4, 4)), np.zeros(6))):
        with pytest.raises(TypeError, match=r"^stbp: dataset must be a name; save arrays in a file: np\.savez"):
            stbp(value)
        with pytest.raises(TypeError, match=r"^load: folder must be the folder of a run, got"):
            snnfast.load(value)
    images, labels = np.zeros((24, 1, 8, 8), np.uint8), np.arange(24) % 2
    np.savez(tmp_path / "mine.npz", images=images, labels=labels)
    assert stbp.preset(tmp_path / "mine.npz").dataset == str(tmp_path / "mine.npz")
