"""
Digits without labels
=====================

In the network of Diehl and Cook (2015) neurons compete: a neuron that fires inhibits the others,
moves its weights towards its input, and becomes harder to excite. No label is needed. This tutorial
shows how the weights take the shape of digits.
"""

import torch

from snnfast import visual
from snnfast.data import digits
from snnfast.learning import assign_labels, predict
from snnfast.papers import DiehlAndCook2015

torch.manual_seed(0)
images, labels = digits("train+val").tensors
test_images, test_labels = digits("test").tensors

# %%
# Before
# ------
# Each of 64 neurons has a weight to every pixel, at random.

model = DiehlAndCook2015(64, input_shape=(1, 8, 8), preset="tuned", presentations=4 * len(images), norm=0.3)
figure = visual.receptive_fields(model.xe.w, shape=(8, 8), title="before any image")

# %%
# Learning
# --------
# A pixel's brightness is the rate of its spikes, up to 300 Hz. ``fit`` presents all images in one
# call of a kernel, learning included.

rates = images * 300
model.fit([(rates, labels)], epochs=1)
figure = visual.receptive_fields(model.xe.w, shape=(8, 8), title="after every image once")

# %%

model.fit([(rates, labels)], epochs=3)
figure = visual.receptive_fields(model.xe.w, shape=(8, 8), title="after four times")

# %%
# What the neurons stand for
# --------------------------
# Only now are labels used: a neuron gets the class for which it fires most. Then the neurons
# vote on test images.

counts, targets = model.respond([(rates, labels)])
assigned = assign_labels(counts, targets, num_classes=10)
counts, targets = model.respond([(test_images * 300, test_labels)])
classes = predict(counts, assigned, vote="proportion")
print(f"{(classes == targets).float().mean():.1%} of {len(targets)} test images")

matrix = torch.bincount(targets * 10 + classes, minlength=100).view(10, 10)
figure = visual.confusion(matrix)
