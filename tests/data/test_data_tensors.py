"""Data sets as tensors (``as_tensors``)."""

import numpy as np
import pytest
import torch
import torchvision
from data_cases import mnist_root as mnist_root  # a fixture
from torch.utils.data import Dataset, Subset, TensorDataset

from snnfast import data


class InMemory(Dataset):
    """Stand-in for a torchvision set that keeps its images in memory."""

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


def test_as_tensors_equals_reading_item_by_item(mnist_root, monkeypatch):
    dataset = data.torchvision_dataset("mnist", mnist_root)
    items = torch.stack([dataset[i][0] for i in range(len(dataset))])
    monkeypatch.setattr("snnfast_zoo.data.vision._read_items", None)
    images, labels = data.as_tensors(dataset)
    torch.testing.assert_close(images, items, rtol=0, atol=0)
    assert labels.tolist() == [i % 10 for i in range(36)]
    assert labels.dtype == torch.int64


def test_as_tensors_of_a_subset_and_a_subset_of_it(mnist_root, monkeypatch):
    dataset = data.load("mnist", mnist_root, "val")
    monkeypatch.setattr("snnfast_zoo.data.vision._read_items", None)
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
    monkeypatch.setattr("snnfast_zoo.data.vision._read_items", None)
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
