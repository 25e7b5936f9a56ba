"""
Your own data, from files to a trained network
==============================================

Images in a file, one call that trains with settings for data that nobody has tuned, and the trained
network on new images. No training loop is needed. :doc:`/own_data` is the reference.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import snnfast

rng = np.random.default_rng(0)
folder = Path(tempfile.mkdtemp())

# %%
# A file
# ------
# An ``.npz`` file holds ``images`` and ``labels``, and the names of the classes if there are any. A
# folder ``train/CLASS/*.png`` works as well. Here are 300 drawings, in bytes, with noise.

CLASSES = ("cross", "ring", "stripes")


def drawing(label: int) -> np.ndarray:
    """Draw a shape of random place and size on 24 x 24 pixels."""
    y, x = np.mgrid[:24, :24]
    x, y = x - rng.uniform(8, 15), y - rng.uniform(8, 15)
    size = rng.uniform(4, 7)
    ring = abs(np.hypot(x, y) - size) < 1.2
    cross = (np.minimum(abs(x), abs(y)) < 1.2) & (np.maximum(abs(x), abs(y)) < size)
    stripes = (np.maximum(abs(x), abs(y)) < size) & ((x + y) % 5 < 2)
    shape = (cross, ring, stripes)[label]
    return np.clip(180 * shape + rng.normal(40, 30, shape.shape), 0, 255).astype(np.uint8)


labels = np.arange(300) % 3
images = np.stack([drawing(label) for label in labels])
np.savez(folder / "drawings.npz", images=images, labels=labels, classes=np.array(CLASSES))

figure, axes = plt.subplots(3, 8, figsize=(7, 2.8))
for axis, place in zip(axes.T.flat, range(24), strict=True):
    axis.imshow(images[place], cmap="gray")
    axis.set(xticks=[], yticks=[])
figure.tight_layout(pad=0.3)

# %%
# Training
# --------
# A sixth of each class is held out. For data of your own the settings are neutral: batch
# normalisation, no augmentation. The first line of a run says which it took. ``snnfast train stbp
# --dataset drawings.npz`` is the same in a shell.

result = snnfast.procedure.stbp(str(folder / "drawings.npz"), epochs=10, out=folder / "run", progress=False)
print(f"{result.accuracy:.1%} of the images that were held out")

# %%
# New images
# ----------
# :func:`snnfast.load` needs the folder of the run and nothing else: network, classes, and how images
# are prepared are in there. ``snnfast infer RUN photo.png`` does the same.

net = snnfast.load(folder / "run")
truth = rng.integers(0, 3, 24)
new = np.stack([drawing(label) for label in truth])
found = net(new)

figure, axes = plt.subplots(3, 8, figsize=(7, 3.6))
for axis, image, label, true in zip(axes.flat, new, found, truth, strict=True):
    axis.imshow(image, cmap="gray")
    axis.set(xticks=[], yticks=[])
    axis.set_title(net.name(int(label)), fontsize=8, color="green" if label == true else "crimson")
figure.tight_layout(pad=0.3)
print(f"{(found.numpy() == truth).mean():.1%} of {len(new)} new images")

# %%
# A run whose loss does not fall says at its end which layer never fires, and what to try
# (:doc:`/nothing_fires`).
