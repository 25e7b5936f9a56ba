"""Images in folders by class: read once, as bytes; errors name the folder."""

import pickle
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import io

from snnfast import data
from snnfast_zoo.data.own import class_names, own_images


def write(path, seed, channels=3, height=6, width=5):
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (channels, height, width), generator=generator, dtype=torch.uint8)
    io.write_png(pixels, str(path))
    return pixels


@pytest.fixture
def root(tmp_path):
    for part, images in (("train", 6), ("test", 2)):
        for label, name in enumerate(("cat", "dog")):
            for i in range(images):
                write(tmp_path / part / name / f"{i}.png", seed=100 * label + i)
    return tmp_path


def test_images_are_read_as_they_lie_there_in_the_order_of_classes(root):
    images, labels = data.as_tensors(data.image_folder(root), dtype=torch.uint8)
    assert labels.tolist() == [0] * 6 + [1] * 6
    again = write(root / "again.png", seed=102)
    torch.testing.assert_close(images[8], again, rtol=0, atol=0)
    test, labels = data.as_tensors(data.image_folder(str(root), train=False))
    assert labels.tolist() == [0, 0, 1, 1]
    torch.testing.assert_close(test, images[[0, 1, 6, 7]] / 255, rtol=0, atol=0)


def test_a_jpeg_and_grey_images_have_three_colours(root):
    grey = write(root / "train" / "cat" / "grey.png", seed=7, channels=1)
    flat = torch.full((3, 6, 5), 90, dtype=torch.uint8)
    io.write_jpeg(flat, str(root / "train" / "cat" / "flat.jpg"))
    images, _ = data.as_tensors(data.image_folder(root), dtype=torch.uint8)
    torch.testing.assert_close(images[6], flat, rtol=0, atol=2)
    torch.testing.assert_close(images[7], grey.expand(3, -1, -1), rtol=0, atol=0)


def test_transparent_pixels_are_refused_and_an_opaque_alpha_is_dropped(root):
    file = root / "train" / "cat" / "0.png"
    colours = write(file, seed=0)
    alpha = torch.full((1, 6, 5), 255, dtype=torch.uint8)
    Image.fromarray(torch.cat([colours, alpha]).movedim(0, 2).numpy()).save(file)
    torch.testing.assert_close(data.image_folder(root)[0][0], colours, rtol=0, atol=0)
    alpha[0, 2, 1] = 0
    Image.fromarray(torch.cat([colours, alpha]).movedim(0, 2).numpy()).save(file)
    with pytest.raises(ValueError, match=r"image_folder: .*cat.0\.png has transparent pixels"):
        data.image_folder(root)[0]


def test_indexed_colours_are_read_as_colours(root):
    file = root / "train" / "cat" / "0.png"
    wanted = torch.zeros(3, 6, 5, dtype=torch.uint8)
    wanted[0, :3], wanted[2, 3:] = 200, 90
    indexed = Image.fromarray(wanted.movedim(0, 2).numpy()).quantize(4)
    indexed.save(file)
    torch.testing.assert_close(data.image_folder(root)[0][0], wanted, rtol=0, atol=8)
    indexed.save(file, transparency=indexed.getpixel((0, 0)))
    with pytest.raises(ValueError, match=r"image_folder: .*cat.0\.png has transparent pixels"):
        data.image_folder(root)[0]


def test_folders_of_classes_without_parts_are_split_as_arrays_are(root):
    images, labels = data.as_tensors(data.image_folder(root), dtype=torch.uint8)
    np.savez(root / "mine.npz", images=images, labels=labels)
    whole = str(root / "train")
    for split, count in (("train+val", 10), ("test", 2)):
        found, wanted = (own_images(source, split) for source in (whole, str(root / "mine.npz")))
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)
        assert len(found[1]) == count
    assert class_names(whole, 2) == ["cat", "dog"] == class_names(str(root), 2)


def test_load_splits_a_folder_as_any_other_set(root):
    parts = {s: data.load("folder", root, s) for s in ("train", "val", "train+val", "test")}
    sizes = {s: len(p) for s, p in parts.items()}
    assert sizes == {"train": 11, "val": 1, "train+val": 12, "test": 4}
    assert sorted(parts["train"].indices + parts["val"].indices) == list(range(12))
    with pytest.raises(ValueError, match="load: folder needs root"):
        data.load("folder")
    with pytest.raises(ValueError, match="load: transform is for torchvision sets, folder takes"):
        data.load("folder", root, transform=torch.flatten)


def test_processes_of_a_loader_may_read_it(root):
    opened = data.image_folder(root)
    torch.testing.assert_close(pickle.loads(pickle.dumps(opened))[3], opened[3])


def test_a_missing_part_is_told(root, tmp_path):
    (root / "test").rename(root / "validation")
    with pytest.raises(FileNotFoundError, match=r"image_folder: root must .* no folder .*test$"):
        data.image_folder(root)
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere.train$"):
        data.image_folder(tmp_path / "nowhere")
    with pytest.raises(TypeError, match="image_folder: root must be a folder, got NoneType"):
        data.image_folder(None)


def test_an_empty_class_is_told(root):
    for image in (root / "test" / "dog").iterdir():
        image.unlink()
    data.image_folder(root)
    with pytest.raises(FileNotFoundError, match=r"^image_folder: .*test: .* the classes dog"):
        data.image_folder(root, train=False)


def test_no_classes_are_told(tmp_path):
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
    with pytest.raises(FileNotFoundError, match=r"^image_folder: .*train: .*any class folder"):
        data.image_folder(tmp_path)


def test_classes_that_differ_are_told(root):
    (root / "test" / "dog").rename(root / "test" / "hound")
    for train in (True, False):
        with pytest.raises(ValueError, match=r"same classes, got dog only in train, hound only in"):
            data.image_folder(root, train)


def test_images_of_mixed_sizes_are_told(root):
    write(root / "train" / "dog" / "7.png", seed=0, height=5, width=6)
    opened = data.image_folder(root)
    with pytest.raises(ValueError, match=r"as the first, 6x5, got 5x6 in .*dog.7\.png$"):
        data.as_tensors(opened)


def test_an_image_of_16_bits_is_told(root):
    Image.fromarray(np.full((6, 5), 40_000, np.uint16)).save(root / "train" / "dog" / "7.png")
    with pytest.raises(ValueError, match=r"dog.7\.png must have 8 bits a colour, got 16$"):
        data.as_tensors(data.image_folder(root))


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff\xe0 cut off"])
def test_an_unreadable_file_is_told(root, content):
    (root / "train" / "cat" / "3.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=r"image_folder: .*cat.3\.jpg cannot be read as an image"):
        data.as_tensors(data.image_folder(root))


def test_without_torchvision_the_error_says_what_to_install(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match=r"image_folder: needs torchvision, .* pip install"):
        data.image_folder(root)
