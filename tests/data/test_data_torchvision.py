"""torchvision's data sets by name: their folders, and errors for missing ones."""

import re
import sys

import pytest
import torch
import torchvision
from data_cases import mnist_root as mnist_root  # a fixture

from snnfast import data


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
    from snnfast_zoo.data.vision import _PARTS

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
    with pytest.raises(ImportError, match=re.escape('pip install ".[vision]"')):
        data.torchvision_dataset("mnist", "data")
    assert len(data.load("iris", split="all")) == 150
