"""Augmentation of images and labels in training."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from snnfast.train import Output, Run, fit
from snnfast_zoo.papers.procedures import stbp
from snnfast_zoo.train import images

pytestmark = pytest.mark.usefixtures("one_thread")


def test_augmentation_moves_images_by_the_shift_asked_for():
    settings = stbp.Settings(shift=1.0)
    pixels = torch.zeros(200, 1, 9, 9)
    pixels[:, :, 4, 4] = 1
    moved = images.augmentation(settings)(pixels, None)[0]
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
    # The value of a pixel is its column, which shows where it came from.
    columns = torch.arange(29.0).expand(400, 1, 29, 29)
    moved = images.augmentation(stbp.Settings(elastic=0.5))(columns, None)[0] - columns
    # At grid points away from the border, outside of which images are 0.
    points = moved[:, 0, 7:22:7, 7:22:7]
    torch.testing.assert_close(points.std(0), torch.full((3, 3), 0.5), rtol=0.15, atol=0)
    assert points.mean().abs() < 0.05
    # Half way between two independent points the interpolated values have less variance.
    assert moved[:, 0, 10, 10].std() < 0.4
    inside = moved[:, 0, 5:24, 5:24]
    assert inside.diff(dim=1).abs().max() < 1
    assert inside.diff(dim=1).std() < 0.15


def test_the_loss_gets_mixed_images_and_labels_and_the_accuracy_the_first_labels():
    model = nn.Linear(2, 2, bias=False)
    model.weight.data = torch.eye(2)
    run = Run(model, torch.optim.SGD(model.parameters(), 1.0))
    data = torch.eye(2), torch.tensor([0, 1])

    def double_and_swap(x, labels):
        return 2 * x, F.one_hot(1 - labels, 2).float()

    how = {"augment": double_and_swap, "output": Output(echo=None)}
    fit(run, data, None, epochs=1, batch_size=2, loss=F.cross_entropy, **how)
    # Each image has the outputs 2 and 0, and the label of the 0.
    assert run.history[0]["loss"] == pytest.approx(math.log(1 + math.exp(2)))
    assert run.history[0]["accuracy"] == 1
    wrong = 1 / (1 + math.exp(-2))
    expected = torch.tensor([[1 - wrong, wrong], [wrong, 1 - wrong]])
    torch.testing.assert_close(model.weight.detach(), expected)
