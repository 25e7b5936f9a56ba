"""
A convolutional network, and where its time goes
=================================================

Convolutions, batch normalisation and pooling have no time: :class:`snnfast.nn.Time` runs them over
all steps at once. Neurons run all their steps in one kernel. This tutorial trains such a network
and compares the neurons' kernel with a loop over time in plain PyTorch.
"""

import time

import matplotlib.pyplot as plt
import torch
from torch import nn

from snnfast import backend
from snnfast.data import digits
from snnfast.nn import LIF, Rate, Time

torch.manual_seed(0)
images, labels = digits("train+val").tensors
test_images, test_labels = digits("test").tensors

# %%
# The network
# -----------
# Every neuron is a LIF neuron with the surrogate gradient ``"atan"``. Pooling after the neurons
# works on spikes.

net = nn.Sequential(
    Time(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16)),
    LIF(surrogate="atan"),
    Time(nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32)),
    LIF(surrogate="atan"),
    Time(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10)),
    LIF(surrogate="atan"),
    Rate(),
)


def shown(batch: torch.Tensor, steps: int = 4) -> torch.Tensor:
    """Repeat the image at every step."""
    return batch.expand(steps, *batch.shape)


# %%
# Training
# --------
# It trains like any other network. Accuracy on the test images after each epoch:

optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
accuracies = []
for _ in range(6):
    net.train()
    for batch in torch.randperm(len(images)).split(64):
        loss = nn.functional.cross_entropy(4 * net(shown(images[batch])), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()
    with torch.no_grad():
        right = net(shown(test_images)).argmax(1) == test_labels
    accuracies.append(right.float().mean().item())
print(" ".join(f"{a:.1%}" for a in accuracies))

# %%
# Kernel and reference
# --------------------
# Every op has a reference in plain PyTorch, a loop over time. ``backend.use`` forces it. Spikes are
# equal bit for bit; the times differ.

x = (3 * torch.rand(16, 32, 4096)).requires_grad_()
layer = LIF()


def milliseconds(name: str) -> float:
    """Return the time of the fastest of five forward and backward passes."""
    best = float("inf")
    with backend.use(name):
        for _ in range(5):
            start = time.perf_counter()
            layer(x).sum().backward()
            best = min(best, time.perf_counter() - start)
    return best * 1e3


with backend.use("reference"):
    expected = layer(x)
print("equal spikes:", torch.equal(layer(x), expected))
times = {name: milliseconds(name) for name in ("reference", "cpu")}

figure, axis = plt.subplots(figsize=(6, 2))
axis.barh(list(times), list(times.values()))
axis.set_xlabel("forward and backward pass, ms")
figure.tight_layout()
