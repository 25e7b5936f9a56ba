"""
Surrogates and encoders compared
================================

Two choices come with every spiking network: what replaces the derivative of a spike, and how values
become spikes. This tutorial trains the same small network with each of them, so that you can see
what they change on your own task.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

from snnfast import surrogate
from snnfast.data import digits
from snnfast.encoder import BernoulliEncoder, RegularEncoder
from snnfast.nn import LIF, Rate, Time, calibrate_

images, labels = digits("train+val").tensors
test_images, test_labels = digits("test").tensors
images, test_images = images.flatten(1), test_images.flatten(1)
STEPS = 8

# %%
# The surrogates
# --------------
# A spike is a step of the membrane, whose derivative is 0 almost everywhere. In the backward pass
# one of these takes its place. Neurons far from the threshold learn only where it is wide.

u = torch.linspace(-2, 2, 401)
names = ("atan", "sigmoid", "fast_sigmoid", "rectangle", "triangle", "gaussian", "straight_through")
figure, axis = plt.subplots(figsize=(7, 3.2))
for name in names:
    axis.plot(u, getattr(surrogate, name)().derivative(u), label=name)
axis.set(xlabel="membrane minus threshold", ylabel="slope", ylim=(0, 1.6))
axis.legend(fontsize=8)
figure.tight_layout()

# %%
# The encoders
# ------------
# A constant current needs no encoder: the first layer makes the spikes. ``BernoulliEncoder`` draws
# each step at random; ``RegularEncoder`` has the same rates with regular spikes. The last encoder is
# written here: a pixel fires once, and the brighter it is, the earlier.


def constant(x: torch.Tensor) -> torch.Tensor:
    return x.expand(STEPS, *x.shape)


def first_spike(x: torch.Tensor) -> torch.Tensor:
    when = ((1 - x) * STEPS).floor()
    return (torch.arange(STEPS).view(-1, 1, 1) == when).float()


encoders = {
    "constant current": constant,
    "Bernoulli": BernoulliEncoder(STEPS, scale=1.0),
    "regular": RegularEncoder(STEPS, scale=1.0),
    "first spike": first_spike,
}
figure, axes = plt.subplots(1, 4, sharey=True, figsize=(7, 2.4))
for axis, (name, encoder) in zip(axes, encoders.items(), strict=True):
    axis.imshow(encoder(images[:1])[:, 0].T, aspect="auto", cmap="magma")
    axis.set_title(name, fontsize=9)
    axis.set_xlabel("step")
axes[0].set_ylabel("pixel")
figure.tight_layout()

# %%
# The comparison
# --------------
# The same weights at the beginning, the same rate of spikes before training, the same number of epochs, two seeds each.


def accuracy(encoder, slope: str, seed: int) -> float:
    torch.manual_seed(seed)
    net = nn.Sequential(
        Time(nn.Linear(64, 96)),
        LIF(decay_input=False, surrogate=slope),
        Time(nn.Linear(96, 10)),
        LIF(decay_input=False, surrogate=slope),
        Rate(),
    )
    calibrate_(net, encoder(images[:256]))
    optimizer = torch.optim.Adam(net.parameters(), lr=8e-3)
    for _ in range(6):
        for batch in torch.randperm(len(images)).split(64):
            loss = nn.functional.cross_entropy(4 * net(encoder(images[batch])), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        right = net(encoder(test_images)).argmax(1) == test_labels
    return 100 * right.float().mean().item()


def compare(axis, title: str, runs: dict) -> None:
    """Plot a row for each choice, with a dot for each seed."""
    for row, (name, (encoder, slope)) in enumerate(runs.items()):
        found = [accuracy(encoder, slope, seed) for seed in range(2)]
        axis.plot(found, [row] * 2, "o", color="royalblue", alpha=0.6)
        print(f"{title}, {name}: {sum(found) / 2:.1f} %")
    axis.set(yticks=range(len(runs)), yticklabels=list(runs), xlabel="% of the test images")
    axis.set_title(title, fontsize=10)


figure, axes = plt.subplots(1, 2, figsize=(7.5, 3))
compare(axes[0], "surrogates", {name: (constant, name) for name in names})
compare(axes[1], "encoders", {name: (encoder, "atan") for name, encoder in encoders.items()})
figure.tight_layout()

# %%
# The surrogates with a width learn; ``straight_through``, whose slope is 1 however far a membrane is
# from the threshold, does not in this network. The width (``alpha``) often matters more than the
# shape: :doc:`/surrogates` has the formulas. Random input spikes cost little here; a single spike
# for each pixel tells less in eight steps. :doc:`/encoders` has the other encoders.
