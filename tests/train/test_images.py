"""Images of procedures: bytes in memory, augmented and normalised per batch."""

import pytest
import torch
from samples import assert_all, assert_equal
from torch.nn import functional as F  # noqa: N812
from torchvision import io
from torchvision.transforms import functional as vision

from snnfast_zoo.papers import classifier
from snnfast_zoo.papers.procedures import spiking_vgg, vgg16
from snnfast_zoo.train import images


def test_a_crop_is_a_window_of_the_padded_image():
    torch.manual_seed(0)
    x = torch.randint(1, 256, (300, 3, 5, 4), dtype=torch.uint8)
    cut = images.crop(x, 2)
    assert (cut.shape, cut.dtype) == (x.shape, torch.uint8)
    padded = F.pad(x, (2, 2, 2, 2))
    windows = {(t, left): padded[:, :, t : t + 5, left : left + 4] for t in range(5) for left in range(5)}
    found = torch.stack([(cut == w).flatten(1).all(1) for w in windows.values()])
    torch.testing.assert_close(found.sum(0), torch.ones(300, dtype=torch.int64), rtol=0, atol=0)
    # Each of 25 windows occurs 12 times on average.
    assert found.sum(1).min() > 1


def test_bytes_are_normalised_as_in_the_manual():
    x = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(2, 3, -1, -1)
    colours = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    expected = vision.normalize(x / 255, *colours)
    torch.testing.assert_close(images.normalize("cifar10", x), expected, rtol=0, atol=0)
    grey = torch.rand(2, 1, 4, 4)
    assert images.normalize("mnist", grey) is grey


def test_a_training_batch_of_cifar10_is_cropped_mirrored_and_normalised():
    settings = vgg16.preset("cifar10")
    x = torch.randint(256, (40, 3, 32, 32), dtype=torch.uint8)
    torch.manual_seed(1)
    changed = classifier.augment(settings, 10)(x, None)[0]
    torch.manual_seed(1)
    expected = images.normalize("cifar10", images.flip(images.crop(x, 4)))
    torch.testing.assert_close(changed, expected, rtol=0, atol=0)
    assert changed.ne(images.normalize("cifar10", x)).flatten(1).any(1).sum() > 30
    plain = classifier.augment(vgg16.preset("cifar10", crop=0, flip=False), 10)(x, None)[0]
    torch.testing.assert_close(plain, images.normalize("cifar10", x), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(3, 6, 5), (2, 1, 6, 5)])
def test_cutout_clears_one_square_an_image(shape):
    torch.manual_seed(0)
    x = torch.rand(600, *shape) + 1
    cut = images.cutout(x, 3)
    unchanged = cut == x
    assert_all(cut[~unchanged], 0)
    cleared = ~unchanged.flatten(1, -3)
    # the square is the same for channels and frames
    assert_equal(cleared, cleared[:, :1].expand(cleared.shape))
    # The centre is one of 30 pixels, each 20 times on average; at the border the square is clipped.
    squares = {
        (y, x): F.pad(torch.ones(3, 3), (x, 4 - x, y, 5 - y))[1:-1, 1:-1].bool() for y in range(6) for x in range(5)
    }
    found = torch.stack([(cleared[:, 0] == s).flatten(1).all(1) for s in squares.values()])
    torch.testing.assert_close(found.sum(0), torch.ones(600, dtype=torch.int64), rtol=0, atol=0)
    assert found.sum(1).min() > 5


def test_a_training_batch_is_normalised_before_its_cutout():
    x = torch.randint(256, (40, 3, 32, 32), dtype=torch.uint8)
    settings = vgg16.preset("cifar10", crop=0, flip=False, cutout=16)
    torch.manual_seed(1)
    changed = classifier.augment(settings, 10)(x, None)[0]
    torch.manual_seed(1)
    expected = images.cutout(images.normalize("cifar10", x), 16)
    torch.testing.assert_close(changed, expected, rtol=0, atol=0)


def test_cutmix_gives_as_much_of_a_label_as_of_its_image():
    settings = vgg16.preset("digits", cutmix=1.0)
    mix = classifier.cutmix(settings, 10)
    x = torch.arange(1.0, 7).view(6, 1, 1, 1).expand(-1, -1, 8, 8)  # an image of each of six classes
    torch.manual_seed(2)
    mixed, labels = mix(x.contiguous(), torch.arange(6))
    areas = torch.stack([(mixed == k + 1).float().mean((1, 2, 3)) for k in range(10)], 1)
    torch.testing.assert_close(labels, areas)
    assert_all((labels > 0).sum(1), 2)


def test_cutmix_changes_the_share_of_batches_asked_for():
    assert classifier.cutmix(vgg16.preset("digits"), 10) is None
    settings = vgg16.preset("digits", cutmix=0.25)
    mix = classifier.augment(settings, 10)
    x, labels = torch.rand(2, 1, 8, 8), torch.arange(2)
    torch.manual_seed(0)
    mixed = sum(mix(x, labels)[1].is_floating_point() for _ in range(400))
    assert 80 <= mixed <= 120


def test_recalibration_sees_images_as_they_are_scored(tmp_path, monkeypatch):
    write_folder(tmp_path)
    seen = []
    monkeypatch.setattr(classifier, "recalibrate", lambda run, x, ready: seen.append((x, ready)))
    how = {"root": tmp_path, "epochs": 0, "width": 0.05, "progress": False, "echo": None}
    spiking_vgg("cifar10", **how)
    assert not seen
    spiking_vgg("cifar10", recalibrate=True, **how)
    ((x, ready),) = seen
    assert x.dtype == torch.uint8
    torch.testing.assert_close(ready(x), images.normalize("cifar10", x), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["crop", "cutout"])
def test_what_may_clear_the_whole_image_is_refused(name):
    assert images.load(vgg16.preset("digits", **{name: 7})).train[0].shape[-2:] == (8, 8)
    with pytest.raises(ValueError, match=f"{name} must be less than .* image, 8, got 8"):
        images.load(vgg16.preset("digits", **{name: 8}))


def settings(validate=False):
    return vgg16.preset("cifar10", validate=validate)


def write_folder(root, classes=10, side=32, per_class=3):
    generator = torch.Generator().manual_seed(0)
    for part in ("train", "test"):
        for label in range(classes):
            folder = root / part / f"class{label:02}"
            folder.mkdir(parents=True)
            for i in range(per_class):
                size = (3, side, side)
                pixels = torch.randint(256, size, generator=generator, dtype=torch.uint8)
                io.write_png(pixels, str(folder / f"{i}.png"))


@pytest.mark.parametrize("validate", [False, True])
def test_cifar10_may_lie_in_folders(tmp_path, validate):
    write_folder(tmp_path)
    found = images.load(settings(validate), tmp_path)
    assert len(found.train[1]) == (28 if validate else 30)
    assert found.train[0].dtype == torch.uint8
    assert found.held_out[0].dtype == torch.float32
    if validate:
        assert (found.split, len(found.held_out[1])) == ("validation", 2)
        return
    file = io.decode_image(str(tmp_path / "test" / "class09" / "2.png"))
    torch.testing.assert_close(found.held_out[0][-1:], images.normalize("cifar10", file[None]), rtol=0, atol=0)
    torch.testing.assert_close(found.held_out[1], torch.arange(30) // 3, rtol=0, atol=0)
    assert found.split == "test"


@pytest.mark.parametrize(
    ("wrong", "came"), [({"side": 28}, "3x28x28 in 10 classes"), ({"classes": 11}, "3x32x32 in 11 classes")]
)
def test_other_images_are_no_cifar10(tmp_path, wrong, came):
    write_folder(tmp_path, **wrong)
    with pytest.raises(ValueError, match=f"load: cifar10 has images of 3x32x32 in 10 .* got {came}"):
        images.load(settings(), tmp_path)


def test_a_folder_of_which_a_part_is_missing(tmp_path):
    (tmp_path / "test").mkdir()
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*train$"):
        images.load(settings(), tmp_path)
    with pytest.raises(FileNotFoundError, match="CIFAR10 is not in"):
        images.load(settings(), tmp_path / "nowhere")
