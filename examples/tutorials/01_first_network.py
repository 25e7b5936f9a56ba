"""
A first spiking network
=======================

A spiking neuron adds up its input over time, leaks, and sends a spike when its membrane reaches a
threshold. This tutorial looks at one neuron, then trains a network of them on handwritten digits.
It takes a few seconds.
"""

# %%
# One neuron
# ----------
# :class:`snnfast.nn.LIF` is a leaky integrate-and-fire neuron. Input has the shape ``[T, B, ...]``:
# time first, then the batch. Here one neuron gets a constant current for 40 steps, twice as strong
# in the second half.

import matplotlib.pyplot as plt
import torch
from torch import nn

from snnfast.nn import LIF, Rate, Time

torch.manual_seed(0)
current = torch.full((40, 1, 1), 1.2)
current[20:] *= 2
spikes, membrane = LIF(tau=5.0, return_v_seq=True)(current)

figure, axes = plt.subplots(2, 1, sharex=True, figsize=(7, 4))
axes[0].plot(membrane.flatten())
axes[0].axhline(1.0, linestyle=":", color="gray")
axes[0].set_ylabel("membrane")
axes[1].stem(spikes.flatten())
axes[1].set(ylabel="spike", xlabel="time step")
figure.tight_layout()

# %%
# The membrane climbs towards the threshold (dotted), is reset by a spike, and climbs again. A
# stronger current gives more spikes: the number of spikes in a window is the neuron's output.
#
# Data
# ----
# The package has 1,797 images of digits, 8 x 8 pixels each.

from snnfast.data import digits

train, test = digits("train+val").tensors, digits("test").tensors
images, labels = train
print(images.shape, labels.shape)

# %%
# A network
# ---------
# Neurons are modules like any other. :class:`~snnfast.nn.Time` runs layers without time over
# the whole sequence, and :class:`~snnfast.nn.Rate` takes the mean over time. All 8 steps of a layer run
# in one kernel. With ``decay_input=False`` the input is not scaled by ``1/tau``: the weights that PyTorch
# draws are small, and neurons that never fire learn nothing (:doc:`/nothing_fires`).

net = nn.Sequential(
    Time(nn.Flatten(), nn.Linear(64, 128)),
    LIF(decay_input=False),
    Time(nn.Linear(128, 10)),
    LIF(decay_input=False),
    Rate(),
)

# %%
# The network gets the same image at every step: each pixel is a current. ``expand`` needs no memory
# for this, and ``Time`` computes the first layer once.


def shown(batch: torch.Tensor, steps: int = 8) -> torch.Tensor:
    return batch.expand(steps, *batch.shape)


optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
losses = []
for _ in range(15):
    for batch in torch.randperm(len(images)).split(64):
        loss = nn.functional.cross_entropy(4 * net(shown(images[batch])), labels[batch])
        optimizer.zero_grad()
        loss.backward()  # through all steps, with a surrogate for the derivative of the spike
        optimizer.step()
        losses.append(loss.item())

figure, axis = plt.subplots(figsize=(7, 3))
axis.plot(losses)
axis.set(xlabel="step of the optimizer", ylabel="loss")
figure.tight_layout()

# %%
# The accuracy on images that it has not seen:

with torch.no_grad():
    rates = net(shown(test[0]))
accuracy = (rates.argmax(1) == test[1]).float().mean()
print(f"{accuracy:.1%} of {len(test[0])} test images")

# %%
# Look inside
# -----------
# The spikes of the hidden layer for one image. Most neurons are silent at any step. On hardware that
# computes only for spikes, this makes spiking networks cheap.

from snnfast import visual

with torch.no_grad():
    hidden = net[:2](shown(test[0][:1], 40))
figure = visual.raster(hidden, title=f"a {int(test[1][0])}: spikes of the hidden layer")
print(f"{hidden.mean():.1%} of all neurons fire in a step")
