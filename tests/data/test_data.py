import hashlib
import re
import struct
import sys
from importlib import resources

import numpy as np
import pytest
import torch
import torchvision
from torch.utils.data import Dataset, Subset, TensorDataset

from snnfast import data

# Checksums of values and splits that must never change, or published accuracies lose their meaning.
DIGITS_ALL = ("9f578524b6cec1fc", "a3c91c262eddcf7b")
IRIS_ALL = ("2374923a3acd29a6", "734737f111629912")
CANCER_ALL = ("dde142466081e9bc", "596c9bd9d0d70ad5")
FOLDS_5 = "bbd41d4d7e8b5d96"
DIGITS_TEST = "6387049e998601d6"
IRIS_VAL_3 = "139a9290e94afad0"
MNIST_VAL = "c5560f2de323be4a"


def checksum(tensor):
    return hashlib.sha256(tensor.numpy().tobytes()).hexdigest()[:16]


def rows(dataset):
    return {x.numpy().tobytes() for x in dataset.tensors[0]}


def write_idx(path, array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.tobytes())


@pytest.fixture
def mnist_root(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    random = np.random.default_rng(0)
    for part, n in (("train", 36), ("t10k", 6)):
        images = random.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        write_idx(raw / f"{part}-images-idx3-ubyte", images)
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(n, dtype=np.uint8) % 10)
    return tmp_path


class InMemory(Dataset):
    """Looks like a torchvision set that keeps its images in memory."""

    def __init__(self, pixels, labels, transform, channels_last=True):
        self.data, self.targets, self.transform = pixels, labels, transform
        self.channels_last = channels_last

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        from PIL import Image

        pixels = self.data[index] if self.channels_last else self.data[index].transpose(1, 2, 0)
        image = Image.fromarray(pixels)
        return (self.transform(image) if self.transform else image), self.targets[index]


def color_set(transform, n=5, **options):
    pixels = np.random.default_rng(1).integers(0, 256, (n, 4, 6, 3), dtype=np.uint8)
    if not options.get("channels_last", True):
        pixels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    return InMemory(pixels, [0, 1, 2, 1, 0][:n], transform, **options)


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
        resources.files(data).joinpath(name).open("rb") as stream,
        np.load(stream, allow_pickle=False) as stored,
    ):
        assert all(stored[key].dtype.kind in "uf" for key in stored.files)


def test_sources_name_every_file_and_its_licence():
    text = resources.files(data).joinpath("SOURCES.md").read_text()
    assert all(name in text for name in ("digits.npz", "iris.npz", "cancer.npz"))
    assert text.count("Licence: CC BY 4.0") == 3


# The splits.


@pytest.mark.parametrize("open_set", [data.digits, data.iris, data.cancer])
def test_splits_are_disjoint_and_complete(open_set):
    train, val, test = (open_set(split).tensors[0] for split in ("train", "val", "test"))
    together = torch.cat([train, val, test]).flatten(1)
    whole = open_set("all").tensors[0].flatten(1)
    assert sorted(together.tolist()) == sorted(whole.tolist())
    both = torch.cat([train, val]).flatten(1)
    assert sorted(open_set("train+val").tensors[0].flatten(1).tolist()) == sorted(both.tolist())


@pytest.mark.parametrize("open_set", [data.digits, data.iris, data.cancer])
@pytest.mark.parametrize(("split", "share"), [("test", 0.2), ("val", 0.16), ("train", 0.64)])
def test_every_class_has_its_share_in_each_split(open_set, split, share):
    whole = torch.bincount(open_set("all").tensors[1])
    part = torch.bincount(open_set(split).tensors[1])
    assert (part - share * whole).abs().max() <= 1


def test_splits_are_the_same_on_every_machine():
    assert checksum(data.digits("test").tensors[0]) == DIGITS_TEST
    assert checksum(data.iris("val", seed=3).tensors[0]) == IRIS_VAL_3


def test_seed_changes_the_split():
    assert rows(data.digits("test", seed=1)) != rows(data.digits("test"))
    assert rows(data.digits("test", seed=1)) == rows(data.digits("test", seed=1))


def test_val_fraction_leaves_the_test_part_alone():
    less = data.digits("test", val_fraction=0.0).tensors[0]
    torch.testing.assert_close(
        less, data.digits("test", val_fraction=0.5).tensors[0], rtol=0, atol=0
    )
    assert len(data.digits("train", val_fraction=0.0)) == len(data.digits("train+val"))


def test_splits_are_not_sorted_by_class():
    labels = data.iris("train").tensors[1]
    assert not torch.equal(labels, labels.sort().values)


def test_changing_a_data_set_does_not_change_the_next():
    data.iris("all").tensors[0].zero_()
    assert data.iris("all").tensors[0].min() > 0


@pytest.mark.parametrize("open_set", [data.digits, data.iris, data.cancer])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"split": "tset"}, ValueError, "split must be one of train, val, train+val, test, all"),
        ({"split": None}, ValueError, "split must be one of"),
        ({"test_fraction": 1.0}, ValueError, "test_fraction must lie in [0, 1), got 1.0"),
        ({"test_fraction": -0.1}, ValueError, "test_fraction must lie in [0, 1), got -0.1"),
        ({"val_fraction": float("nan")}, ValueError, "val_fraction must lie in [0, 1), got nan"),
        ({"val_fraction": "0.1"}, TypeError, "val_fraction must be a number, got str"),
        ({"seed": -1}, ValueError, "seed must not be negative, got -1"),
        ({"seed": 0.5}, TypeError, "seed must be an integer, got float"),
        ({"split": "test", "test_fraction": 0}, ValueError, "split 'test' holds nothing"),
        ({"split": "val", "val_fraction": 0.0}, ValueError, "split 'val' holds nothing"),
    ],
)
def test_bad_split_arguments_are_named(open_set, arguments, error, message):
    with pytest.raises(error, match=re.escape(f"{open_set.__name__}: {message}")):
        open_set(**arguments)


def test_folds_spread_every_class_evenly():
    labels = data.cancer("all").tensors[1]
    fold = data.stratified_folds(labels, 5, seed=2)
    assert fold.shape == labels.shape
    for part in (fold, fold[labels == 0], fold[labels == 1]):
        sizes = torch.bincount(part, minlength=5)
        assert sizes.max() - sizes.min() <= 1
    assert not torch.equal(fold, data.stratified_folds(labels, 5, seed=3))


def test_folds_are_the_same_on_every_machine():
    assert checksum(data.stratified_folds(torch.arange(100) % 3, 5)) == FOLDS_5


@pytest.mark.parametrize(
    ("labels", "folds", "error", "message"),
    [
        ([0, 1], 2, TypeError, "labels must be a tensor of integers, got list"),
        (torch.rand(4), 2, TypeError, "labels must be a tensor of integers, got torch.float32"),
        (torch.zeros(0, dtype=torch.int64), 2, ValueError, "labels must have shape [N]"),
        (torch.arange(8) // 4, 1, ValueError, "folds must lie in [2, 4]"),
        (torch.arange(8) // 4, 5, ValueError, "folds must lie in [2, 4], the size of the smallest"),
        (torch.arange(8) // 4, 2.0, TypeError, "folds must be an integer, got float"),
    ],
)
def test_bad_folds_are_named(labels, folds, error, message):
    with pytest.raises(error, match=re.escape(f"stratified_folds: {message}")):
        data.stratified_folds(labels, folds)


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
    torch.testing.assert_close(
        data.IRISDataLoader(seed=3).run()["train.data"], again["train.data"], rtol=0, atol=0
    )
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


# torchvision's data sets.


@pytest.mark.parametrize("name", ["MNIST", "mnist", "Mnist", "m-n_ist"])
def test_torchvision_names_in_any_case(mnist_root, name):
    dataset = data.torchvision_dataset(name, mnist_root)
    assert type(dataset) is torchvision.datasets.MNIST
    image, label = dataset[1]
    assert image.shape == (1, 28, 28)
    assert image.dtype == torch.float32
    assert label == 1
    assert len(data.torchvision_dataset(name, str(mnist_root), train=False)) == 6


def test_every_listed_name_is_in_torchvision(tmp_path):
    from snnfast.data.vision import _PARTS

    for name in _PARTS:
        assert hasattr(torchvision.datasets, name)
        options = {"split": "letters"} if name == "EMNIST" else {}
        with pytest.raises((FileNotFoundError, ModuleNotFoundError)):
            data.torchvision_dataset(name, tmp_path / "none", **options)


def test_own_transform_replaces_to_tensor(mnist_root):
    dataset = data.torchvision_dataset("mnist", mnist_root, transform=lambda image: image.size)
    assert dataset[0][0] == (28, 28)


@pytest.mark.parametrize("function", [data.torchvision_dataset, data.load])
def test_unknown_name_lists_close_matches(function):
    with pytest.raises(ValueError, match=r"no data set is named 'MNITS'; did you mean .*MNIST"):
        function("MNITS", "data")
    with pytest.raises(ValueError, match=r"'qqqq'; known: .*MNIST"):
        function("qqqq", "data")
    with pytest.raises(TypeError, match="name must be a string, got int"):
        function(3, "data")


def test_load_suggests_bundled_names():
    with pytest.raises(ValueError, match="did you mean digits"):
        data.load("digts")


def test_missing_set_says_where_it_looked_and_how_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        data.torchvision_dataset("mnist", tmp_path / "empty")
    message = str(caught.value)
    assert str(tmp_path / "empty") in message
    assert "download=True" in message
    assert str(tmp_path / "empty" / "MNIST" / "raw") in message
    assert not (tmp_path / "empty").exists()


def test_missing_set_without_download_does_not_offer_it(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        data.torchvision_dataset("fer2013", tmp_path)
    assert "pass download=True" not in str(caught.value)
    with pytest.raises(ValueError, match="torchvision cannot download FER2013"):
        data.torchvision_dataset("fer2013", tmp_path, download=True)


def test_download_is_passed_on_and_its_error_is_not_hidden(tmp_path, monkeypatch):
    def fail(self):
        raise RuntimeError("no network")

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", fail)
    with pytest.raises(RuntimeError, match="no network"):
        data.torchvision_dataset("mnist", tmp_path, download=True)


def test_emnist_needs_its_split(tmp_path):
    with pytest.raises(ValueError, match="EMNIST has several sets"):
        data.torchvision_dataset("emnist", tmp_path)


def test_root_must_be_a_folder():
    with pytest.raises(TypeError, match="root must be a folder, got NoneType"):
        data.torchvision_dataset("mnist", None)


def test_without_torchvision_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match=re.escape('pip install "snnfast[vision]"')):
        data.torchvision_dataset("mnist", "data")
    assert len(data.load("iris", split="all")) == 150


# One call for all.


def test_load_gives_bundled_sets():
    loaded = data.load("Digits", split="val", seed=2, val_fraction=0.1)
    expected = data.digits("val", seed=2, val_fraction=0.1)
    torch.testing.assert_close(loaded.tensors[0], expected.tensors[0], rtol=0, atol=0)
    assert len(data.load("IRIS", split="train+val")) == 120
    with pytest.raises(ValueError, match="transform is for torchvision sets"):
        data.load("iris", transform=lambda x: x)
    with pytest.raises(ValueError, match="split must be one of"):
        data.load("iris", split="valid")


def test_load_splits_torchvision_sets(mnist_root):
    parts = {s: data.load("mnist", mnist_root, s) for s in ("train", "val", "train+val", "test")}
    assert {s: len(part) for s, part in parts.items()} == {
        "train": 33,
        "val": 3,
        "train+val": 36,
        "test": 6,
    }
    assert sorted(parts["train"].indices + parts["val"].indices) == list(range(36))
    assert data.load("mnist", mnist_root, "val").indices == parts["val"].indices
    assert data.load("mnist", mnist_root, "val", seed=1).indices != parts["val"].indices


def test_val_part_of_60000_images_is_fixed():
    from snnfast.data.splits import permutation

    val = permutation("load", 60_000, 0)[:5_000]
    assert len(set(val.tolist())) == 5_000
    assert hashlib.sha256(val.astype("<i8").tobytes()).hexdigest()[:16] == MNIST_VAL


def test_load_needs_root_and_a_known_split(mnist_root):
    with pytest.raises(ValueError, match="load: MNIST needs root"):
        data.load("mnist")
    with pytest.raises(ValueError, match=re.escape("load: split must be one of train, val")):
        data.load("mnist", mnist_root, "all")


# Data sets as tensors.


def test_as_tensors_equals_reading_item_by_item(mnist_root, monkeypatch):
    dataset = data.torchvision_dataset("mnist", mnist_root)
    items = torch.stack([dataset[i][0] for i in range(len(dataset))])
    monkeypatch.setattr("snnfast.data.vision._read_items", None)
    images, labels = data.as_tensors(dataset)
    torch.testing.assert_close(images, items, rtol=0, atol=0)
    assert labels.tolist() == [i % 10 for i in range(36)]
    assert labels.dtype == torch.int64


def test_as_tensors_of_a_subset_and_a_subset_of_it(mnist_root, monkeypatch):
    dataset = data.load("mnist", mnist_root, "val")
    monkeypatch.setattr("snnfast.data.vision._read_items", None)
    images, labels = data.as_tensors(Subset(dataset, [2, 0]))
    torch.testing.assert_close(images[0], dataset[2][0], rtol=0, atol=0)
    torch.testing.assert_close(images[1], dataset[0][0], rtol=0, atol=0)
    assert labels.tolist() == [dataset[2][1], dataset[0][1]]


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("with_transform", [True, False])
def test_as_tensors_of_color_images(channels_last, with_transform, monkeypatch):
    to_tensor = torchvision.transforms.ToTensor()
    transform = to_tensor if with_transform else None
    dataset = color_set(transform, channels_last=channels_last)
    monkeypatch.setattr("snnfast.data.vision._read_items", None)
    images, labels = data.as_tensors(dataset)
    assert images.shape == (5, 3, 4, 6)
    image = dataset[3][0] if with_transform else to_tensor(dataset[3][0])
    torch.testing.assert_close(images[3], image, rtol=0, atol=0)
    assert labels.tolist() == [0, 1, 2, 1, 0]


def test_as_tensors_in_8_bits(mnist_root):
    dataset = data.torchvision_dataset("mnist", mnist_root)
    images, _ = data.as_tensors(dataset, dtype=torch.uint8)
    assert images.dtype == torch.uint8
    torch.testing.assert_close(images[:, 0], dataset.data, rtol=0, atol=0)
    images.zero_()
    assert dataset.data.any()


def test_as_tensors_goes_through_an_own_transform():
    to_tensor = torchvision.transforms.ToTensor()
    images, labels = data.as_tensors(color_set(lambda image: 1 - to_tensor(image)))
    plain, _ = data.as_tensors(color_set(to_tensor))
    torch.testing.assert_close(images, 1 - plain, rtol=0, atol=0)
    assert labels.tolist() == [0, 1, 2, 1, 0]


def test_as_tensors_sees_that_a_subclass_changes_items():
    class Inverted(InMemory):
        def __getitem__(self, index):
            image, label = super().__getitem__(index)
            return 1 - image, label

    to_tensor = torchvision.transforms.ToTensor()
    plain = color_set(to_tensor)
    images, _ = data.as_tensors(Inverted(plain.data, plain.targets, to_tensor))
    torch.testing.assert_close(images, 1 - data.as_tensors(plain)[0], rtol=0, atol=0)


def test_as_tensors_reads_pil_images_without_transform():
    class Pictures(Dataset):
        def __len__(self):
            return 5

        def __getitem__(self, index):
            image, label = color_set(None)[index]
            return image.convert("L"), label

    images, _ = data.as_tensors(Pictures())
    assert images.shape == (5, 1, 4, 6)
    assert images.dtype == torch.float32
    assert images.max() <= 1
    assert data.as_tensors(Pictures(), dtype=torch.uint8)[0].dtype == torch.uint8


def test_as_tensors_copies_a_tensor_data_set():
    iris = data.iris("all")
    features, labels = data.as_tensors(iris)
    torch.testing.assert_close(features, iris.tensors[0], rtol=0, atol=0)
    features.zero_()
    labels.zero_()
    assert iris.tensors[0].min() > 0
    assert iris.tensors[1].any()


def test_as_tensors_names_bad_input():
    images = torch.zeros(2, 1, 3, 3)
    with pytest.raises(TypeError, match=r"dtype must be torch.float32 or torch.uint8, got torch.f"):
        data.as_tensors(data.iris(), dtype=torch.float64)
    with pytest.raises(ValueError, match=r"needs a data set of 8-bit images, got torch\.float32"):
        data.as_tensors(data.iris(), dtype=torch.uint8)
    with pytest.raises(ValueError, match="must hold at least one item, got none"):
        data.as_tensors(TensorDataset(images[:0], torch.zeros(0, dtype=torch.int64)))
    with pytest.raises(TypeError, match="labels must be integers, got Tensor for item 0"):
        data.as_tensors(TensorDataset(images, torch.zeros(2)))
    with pytest.raises(TypeError, match=r"items must be \(image, label\) pairs, got tuple"):
        data.as_tensors(TensorDataset(images))
    ragged = [(torch.zeros(1, 3, 3), 0), (torch.zeros(1, 4, 3), 1)]
    with pytest.raises(ValueError, match=r"got \[1, 3, 3\] for item 0 and \[1, 4, 3\] for item 1"):
        data.as_tensors(ragged)
