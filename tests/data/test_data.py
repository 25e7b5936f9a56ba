"""The data sets that ship with the package, n3ml's loader of Iris, and one call for all data sets."""

import hashlib
import re
from importlib import resources

import numpy as np
import pytest
import torch
from data_cases import checksum
from data_cases import mnist_root as mnist_root  # a fixture

from snnfast import data

# Checksums of values and splits that must never change, or published accuracies lose their meaning.
DIGITS_ALL = ("9f578524b6cec1fc", "a3c91c262eddcf7b")
IRIS_ALL = ("2374923a3acd29a6", "734737f111629912")
CANCER_ALL = ("dde142466081e9bc", "596c9bd9d0d70ad5")
MNIST_VAL = "c5560f2de323be4a"


# The data sets that ship with the package.


def test_digits_have_promised_shapes_and_values():
    images, labels = data.digits("all").tensors
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == torch.float32
    assert (images.min(), images.max()) == (0, 1)
    torch.testing.assert_close((images * 16).round(), images * 16, rtol=0, atol=0)
    assert labels.dtype == torch.int64
    assert torch.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert len(data.DIGITS_CLASSES) == 10


def test_iris_has_promised_shapes_and_the_corrected_values():
    features, labels = data.iris("all").tensors
    assert features.shape == (150, 4)
    assert features.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert torch.bincount(labels).tolist() == [50, 50, 50]
    torch.testing.assert_close(features[34], torch.tensor([4.9, 3.1, 1.5, 0.2]))
    torch.testing.assert_close(features[37], torch.tensor([4.9, 3.6, 1.4, 0.1]))
    assert len(data.IRIS_CLASSES) == 3
    assert len(data.IRIS_FEATURES) == 4


def test_cancer_has_promised_shapes_and_missing_scores():
    scores, labels = data.cancer("all", complete=False).tensors
    assert scores.shape == (699, 9)
    assert scores.dtype == torch.float32
    assert torch.bincount(labels).tolist() == [458, 241]
    missing = scores.isnan()
    assert missing.sum(0).tolist() == [0] * 5 + [16] + [0] * 3
    assert set(scores[~missing].tolist()) == set(map(float, range(1, 11)))
    complete, labels = data.cancer("all").tensors
    torch.testing.assert_close(complete, scores[~missing.any(1)], rtol=0, atol=0)
    assert torch.bincount(labels).tolist() == [444, 239]
    assert len(data.CANCER_CLASSES) == 2
    assert len(data.CANCER_FEATURES) == 9


def test_shipped_values_are_those_compared_with_the_copies():
    # scripts/make_data.py --check makes the comparison itself, as tests do without scikit-learn.
    assert tuple(map(checksum, data.cancer("all").tensors)) == CANCER_ALL
    assert tuple(map(checksum, data.digits("all").tensors)) == DIGITS_ALL
    assert tuple(map(checksum, data.iris("all").tensors)) == IRIS_ALL


@pytest.mark.parametrize("name", ["digits.npz", "iris.npz", "cancer.npz"])
def test_shipped_files_open_without_pickle(name):
    with (
        resources.files("snnfast_zoo.data").joinpath(name).open("rb") as stream,
        np.load(stream, allow_pickle=False) as stored,
    ):
        assert all(stored[key].dtype.kind in "uf" for key in stored.files)


def test_sources_name_every_file_and_its_licence():
    text = resources.files("snnfast_zoo.data").joinpath("SOURCES.md").read_text()
    assert all(name in text for name in ("digits.npz", "iris.npz", "cancer.npz"))
    assert text.count("Licence: CC BY 4.0") == 3


# n3ml's loader of Iris.


def test_iris_loader_has_the_keys_shapes_and_types_of_n3ml():
    loaded = data.IRISDataLoader(ratio=0.8).run()
    assert set(loaded) == {"train.data", "train.target", "test.data", "test.target"}
    assert loaded["train.data"].shape == (120, 4)
    assert loaded["test.data"].shape == (30, 4)
    assert loaded["train.data"].dtype == torch.float64
    assert loaded["test.target"].dtype == torch.int64
    assert torch.bincount(loaded["test.target"]).tolist() == [10, 10, 10]
    assert len(data.IRISDataLoader(0.5).run()["test.data"]) == 75


def test_iris_loader_keeps_one_split_and_its_values():
    loader = data.IRISDataLoader(seed=3)
    first = loader.run()
    first["train.data"].zero_()
    again = loader.run()
    torch.testing.assert_close(first["test.data"], again["test.data"], rtol=0, atol=0)
    assert again["train.data"].min() > 0
    torch.testing.assert_close(data.IRISDataLoader(seed=3).run()["train.data"], again["train.data"], rtol=0, atol=0)
    assert not torch.equal(data.IRISDataLoader(seed=4).run()["train.data"], again["train.data"])
    everything = torch.cat([again["train.data"], again["test.data"]])
    assert sorted(everything.tolist()) == sorted(data.iris("all").tensors[0].double().tolist())


def test_iris_loader_summarizes_the_training_part():
    loader = data.IRISDataLoader()
    summary, train = loader.summarize(), loader.run()["train.data"]
    torch.testing.assert_close(summary["min"], train.min(0).values, rtol=0, atol=0)
    torch.testing.assert_close(summary["max"], train.max(0).values, rtol=0, atol=0)


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.5, float("nan")])
def test_iris_loader_names_a_bad_ratio(ratio):
    with pytest.raises(ValueError, match="IRISDataLoader: ratio must"):
        data.IRISDataLoader(ratio)


# One call for all.


def test_load_suggests_bundled_names():
    with pytest.raises(ValueError, match="did you mean digits"):
        data.load("digts")


def test_load_gives_bundled_sets():
    loaded = data.load("Digits", split="val", seed=2, val_fraction=0.1)
    expected = data.digits("val", seed=2, val_fraction=0.1)
    torch.testing.assert_close(loaded.tensors[0], expected.tensors[0], rtol=0, atol=0)
    assert len(data.load("IRIS", split="train+val")) == 120
    with pytest.raises(ValueError, match="transform is for torchvision sets"):
        data.load("iris", transform=lambda x: x)
    with pytest.raises(ValueError, match="split must be train or val"):
        data.load("iris", split="valid")


@pytest.mark.parametrize("name", ["cancer", "digits", "iris", "yin-yang"])
def test_load_refuses_a_folder_for_bundled_sets(name):
    """The second argument is no split."""
    with pytest.raises(ValueError, match=rf"^load: {name} .* got 'test'; give .*load\('{name}', split='test'\)$"):
        data.load(name, "test")
    with pytest.raises(ValueError, match=rf"^load: {name} is in the package and takes no root, got '/data'$"):
        data.load(name, "/data", "test")


def test_load_splits_torchvision_sets(mnist_root):
    parts = {s: data.load("mnist", mnist_root, s) for s in ("train", "val", "train+val", "test")}
    assert {s: len(part) for s, part in parts.items()} == {"train": 33, "val": 3, "train+val": 36, "test": 6}
    assert sorted(parts["train"].indices + parts["val"].indices) == list(range(36))
    assert data.load("mnist", mnist_root, "val").indices == parts["val"].indices
    assert data.load("mnist", mnist_root, "val", seed=1).indices != parts["val"].indices


def test_val_part_of_60000_images_is_fixed():
    from snnfast_zoo.data.splits import permutation

    val = permutation("load", 60_000, 0)[:5_000]
    assert len(set(val.tolist())) == 5_000
    assert hashlib.sha256(val.astype("<i8").tobytes()).hexdigest()[:16] == MNIST_VAL


def test_load_needs_root_and_a_known_split(mnist_root):
    with pytest.raises(ValueError, match="load: MNIST needs root"):
        data.load("mnist")
    with pytest.raises(ValueError, match=re.escape("load: split must be train or val")):
        data.load("mnist", mnist_root, "all")
