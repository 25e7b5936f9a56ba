"""
Event recordings
================

An event camera reports only the pixels that change, each with its time in microseconds. This
tutorial writes such recordings to disk in the format of N-MNIST, reads them as counts a time step,
and trains a network that says which way a bar moves, and how soon it knows.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

from snnfast import data, loss
from snnfast.nn import LI, LIF, Time

torch.manual_seed(0)
rng = np.random.default_rng(0)

# %%
# Recordings
# ----------
# A bar crosses the 34 x 34 pixels of the camera in 300 ms, to the right, to the left, down or up.
# Pixels that it reaches become brighter (polarity 1), those that it leaves become darker. One event
# in five is noise. In a file of N-MNIST an event has five bytes: x, y, and 24 bits of polarity and
# time.

CLASSES = ("right", "left", "down", "up")


def bar(direction: int) -> tuple[np.ndarray, ...]:
    """Draw the events of a recording: times in microseconds, x, y and polarity."""
    events = 1200
    t = np.sort(rng.uniform(0, 300_000, events))
    begin, speed = rng.uniform(-4, 4), rng.uniform(0.9, 1.1)
    polarity = rng.integers(0, 2, events)
    front = begin + speed * 34 * t / 300_000 - 4 * (1 - polarity) + rng.normal(0, 0.5, events)
    if direction in (1, 3):
        front = 33 - front
    along = rng.integers(8, 26, events)
    x, y = (front, along) if direction < 2 else (along, front)
    noise = rng.random(events) < 0.2
    x = np.where(noise, rng.integers(0, 34, events), x.round())
    y = np.where(noise, rng.integers(0, 34, events), y.round())
    seen = (x >= 0) & (x < 34) & (y >= 0) & (y < 34)
    return tuple(v[seen].astype(np.int64) for v in (t, x, y, polarity))


folder = Path(tempfile.mkdtemp())
for part, count in (("Train", 40), ("Test", 20)):
    for direction in range(4):
        place = folder / part / str(direction)
        place.mkdir(parents=True)
        for number in range(count):
            t, x, y, polarity = bar(direction)
            columns = x, y, polarity << 7 | t >> 16, t >> 8 & 255, t & 255
            np.stack(columns, 1).astype(np.uint8).tofile(place / f"{number:05}.bin")

t, x, y, polarity = bar(0)
figure = plt.figure(figsize=(7, 4))
axis = figure.add_subplot(projection="3d")
axis.scatter(t / 1000, x, y, c=np.where(polarity, "crimson", "royalblue"), s=2)
axis.set(xlabel="ms", ylabel="x", zlabel="y", title="a bar that moves to the right")
axis.set_box_aspect((2, 1, 1), zoom=0.85)

# %%
# Frames
# ------
# :func:`snnfast.data.nmnist` counts the events of each pixel and polarity in steps of 10 ms.
# :func:`~snnfast.data.heidelberg` and :func:`~snnfast.data.dvs128_gesture` do the same for other
# formats. ``cache=`` would keep the frames on disk.

train, test = (data.nmnist(folder, part, num_steps=30) for part in (True, False))
print(train)

figure, axes = plt.subplots(1, 4, figsize=(7, 2))
for axis, step in zip(axes, (5, 12, 19, 26), strict=True):
    off, on = train.frames[0, step].float()
    axis.imshow(on - off, cmap="coolwarm", vmin=-2, vmax=2)
    axis.set(title=f"{10 * step} ms", xticks=[], yticks=[])
figure.tight_layout()

# %%
# A network
# ---------
# ``batch`` returns frames ``[T, B, 2, 34, 34]``, labels, and the number of steps of each recording.
# The readout :class:`~snnfast.nn.LI` leaks and does not fire; its largest membrane decides.

net = nn.Sequential(
    Time(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(578, 64), nn.BatchNorm1d(64)),
    LIF(tau=4.0),
    Time(nn.Linear(64, 4)),
    LI(tau=10.0),
)
optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
for epoch in range(8):
    for chosen in torch.randperm(len(train.labels)).split(32):
        frames, labels, lengths = train.batch(chosen)
        value = loss.ce_membrane(net(frames.float()), labels, lengths, readout="max")
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    print(f"epoch {epoch + 1}: loss {value.item():.3f}")

# %%
# How soon does it know?
# ----------------------
# A spiking network has an answer at every step. Here is the share of right answers if the recording
# ended there.

net.eval()
frames, labels, _ = test.batch(range(len(test.labels)))
with torch.no_grad():
    membranes = net(frames.float())
answers = membranes.cummax(0).values.argmax(2)
right = (answers == labels).float().mean(1)

figure, axis = plt.subplots(figsize=(7, 3))
axis.plot(10 * torch.arange(1, 31), 100 * right)
axis.axhline(25, linestyle=":", color="gray")
axis.set(xlabel="ms of the recording", ylabel="% right (chance is dotted)")
figure.tight_layout()
soon = 10 * int((right >= 0.95).int().argmax()) + 10
print(f"{right[-1]:.1%} of {len(labels)} recordings; 95 % after {soon} ms")

# %%
# Where next
# ----------
# :doc:`/sequences` has recordings of different length, other readouts and losses, and sequences that
# do not fit into memory. :doc:`/own_data` trains on frames by ``snnfast train``.
