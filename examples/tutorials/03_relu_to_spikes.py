"""
From a ReLU network to spikes
=============================

A trained network with ReLUs becomes a spiking one without further training: an integrate-and-fire
neuron has a rate proportional to the output of a ReLU. This tutorial trains a small network,
converts it, and shows how many time steps the spikes need.
"""

import torch
from torch import nn

import snnfast
from snnfast.data import digits

torch.manual_seed(0)
images, labels = digits("train+val").tensors
test = digits("test").tensors

# %%
# The ReLU network
# ----------------
# You can convert anything made of convolutions, linear layers, batch norms, ReLUs, poolings,
# additions and concatenations.

ann = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1),
    nn.BatchNorm2d(16),
    nn.ReLU(),
    nn.AvgPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1),
    nn.BatchNorm2d(32),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(512, 10),
)
optimizer = torch.optim.Adam(ann.parameters(), lr=3e-3)
for _ in range(8):
    for batch in torch.randperm(len(images)).split(64):
        loss = nn.functional.cross_entropy(ann(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
ann.eval()

# %%
# Conversion
# ----------
# Training images choose the thresholds: here the 99.9th percentile of each layer's activations.

snn = snnfast.convert(ann, [(images, labels)], method="percentile")
scores = snn(test[0], num_steps=32)
print(f"{(scores.argmax(1) == test[1]).float().mean():.1%} at 32 steps")

# %%
# The report
# ----------
# It shows the difference between rates and activations in each layer, the silent and saturated
# neurons, the number of operations of the spikes, and the accuracy for each number of steps:

report = snnfast.conversion_report(ann, snn, [test], steps=(1, 2, 4, 8, 16, 32))
print(report)
figure = report.figure()
