"""Points of the yin-yang symbol."""

import pytest
import torch

from snnfast import data
from snnfast_zoo.data.yin_yang import parts


def test_parts_of_the_symbol_by_hand():
    points = torch.tensor(
        [
            [0.1, 0.45],
            [0.9, 0.55],
            [0.25, 0.35],
            [0.75, 0.65],
            [0.25, 0.5],
            [0.75, 0.45],
            [0.5, 0.9],
            [0.5, 0.1],
            [0, 0],
        ]
    )
    # The head of yang is a disk on the left that reaches below the middle, that of yin on the right, reaching above it.
    assert parts(points.double()).tolist() == [1, 0, 1, 0, 2, 2, 1, 0, -1]


def test_samples_are_what_they_say():
    whole, labels = data.yin_yang("all").tensors
    assert whole.shape == (6000, 4)
    assert whole.dtype == torch.float32
    torch.testing.assert_close(parts(whole[:, :2].double()), labels, rtol=0, atol=0)
    torch.testing.assert_close(whole[:, 2:], 1 - whole[:, :2], rtol=0, atol=0)
    assert ((labels.bincount() - 2000).abs() < 120).all()
    assert data.YIN_YANG_CLASSES == ("yin", "yang", "dot")


def test_splits_share_nothing_and_are_the_whole():
    splits = [data.yin_yang(split).tensors for split in ("train", "val", "test")]
    assert [len(x) for x, _ in splits] == [4000, 1000, 1000]
    for k, whole in enumerate(data.yin_yang("all").tensors):
        torch.testing.assert_close(torch.cat([part[k] for part in splits]), whole, rtol=0, atol=0)
    assert len(data.yin_yang("train+val")) == 5000
    assert len(whole.unique()) == 3
    assert len(data.yin_yang("all").tensors[0].unique(dim=0)) == 6000


def test_a_seed_draws_its_own_points_of_one_symbol():
    again, other = (data.yin_yang(seed=seed).tensors[0] for seed in (0, 1))
    torch.testing.assert_close(data.load("yin-yang").tensors[0], again, rtol=0, atol=0)
    assert not torch.equal(again, other)


@pytest.mark.parametrize(("arguments", "message"), [({"split": "dev"}, "split"), ({"seed": -1}, "seed")])
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=f"^yin_yang: {message}"):
        data.yin_yang(**arguments)
