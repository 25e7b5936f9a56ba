"""Splits and folds of data sets: complete, the same on every machine, by class."""

import re

import pytest
import torch
from data_cases import checksum

from snnfast import data

# Checksums of splits that must never change, or published accuracies lose their meaning.
FOLDS_5 = "bbd41d4d7e8b5d96"
DIGITS_TEST = "6387049e998601d6"
IRIS_VAL_3 = "139a9290e94afad0"


def rows(dataset):
    return {x.numpy().tobytes() for x in dataset.tensors[0]}


@pytest.mark.parametrize("open_set", [data.digits, data.iris, data.cancer])
def test_splits_are_disjoint_and_complete(open_set):
    train, val, test = (open_set(split).tensors[0] for split in ("train", "val", "test"))
    together = torch.cat([train, val, test]).flatten(1)
    whole = open_set("all").tensors[0].flatten(1)
    assert sorted(together.tolist()) == sorted(whole.tolist())
    joined = torch.cat([train, val]).flatten(1)
    assert sorted(open_set("train+val").tensors[0].flatten(1).tolist()) == sorted(joined.tolist())


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
    torch.testing.assert_close(less, data.digits("test", val_fraction=0.5).tensors[0], rtol=0, atol=0)
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
        ({"split": "tset"}, ValueError, "split must be train or val or train+val or test or all"),
        ({"split": None}, ValueError, "split must be train or val"),
        ({"test_fraction": 1.0}, ValueError, "test_fraction must lie in [0, 1), got 1.0"),
        ({"test_fraction": -0.1}, ValueError, "test_fraction must lie in [0, 1), got -0.1"),
        ({"val_fraction": float("nan")}, ValueError, "val_fraction must be finite, got nan"),
        ({"val_fraction": "0.1"}, TypeError, "val_fraction must be a number, got str"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
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
        (torch.arange(8) // 4, 1, ValueError, "folds must be at least 2, got 1"),
        (torch.arange(8) // 4, 5, ValueError, "folds must be at most 4, the size of the smallest"),
        (torch.arange(8) // 4, 2.0, TypeError, "folds must be an integer, got float"),
    ],
)
def test_bad_folds_are_named(labels, folds, error, message):
    with pytest.raises(error, match=re.escape(f"stratified_folds: {message}")):
        data.stratified_folds(labels, folds)
