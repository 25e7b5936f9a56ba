"""What augmentation does to images in training."""

import pytest
import torch

from snnfast.procedure import images, stbp

pytestmark = pytest.mark.usefixtures("one_thread")


def test_augmentation_moves_images_by_the_shift_asked_for():
    settings = stbp.Settings(shift=1.0)
    pixels = torch.zeros(200, 1, 9, 9)
    pixels[:, :, 4, 4] = 1
    moved = images.augmentation(settings)(pixels)
    where = torch.arange(9.0) - 4
    y = (moved.sum((1, 3)) * where).sum(1)
    x = (moved.sum((1, 2)) * where).sum(1)
    torch.testing.assert_close(moved.sum((1, 2, 3)), torch.ones(200))
    for offset in (x, y):
        assert offset.abs().max() <= 1 + 1e-5
        assert offset.min() < -0.8
        assert offset.max() > 0.8
    assert images.augmentation(stbp.Settings()) is None


def test_elastic_displacements_are_smooth_and_of_the_size_asked_for():
    torch.manual_seed(0)
    # Pixels that hold their column show from where they are moved.
    columns = torch.arange(29.0).expand(400, 1, 29, 29)
    moved = images.augmentation(stbp.Settings(elastic=0.5))(columns) - columns
    # At points, and away from the border, behind which images are 0.
    points = moved[:, 0, 7:22:7, 7:22:7]
    torch.testing.assert_close(points.std(0), torch.full((3, 3), 0.5), rtol=0.15, atol=0)
    assert points.mean().abs() < 0.05
    # Half way between two points that are drawn on their own a cubic has less than either.
    assert moved[:, 0, 10, 10].std() < 0.4
    inside = moved[:, 0, 5:24, 5:24]
    assert inside.diff(dim=1).abs().max() < 1
    assert inside.diff(dim=1).std() < 0.15
