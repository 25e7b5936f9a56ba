"""
From SpikingJelly, snnTorch, Norse or Sinabs
============================================

The same neuron differs from library to library: when it resets, whether it scales its input, whether
it fires at the threshold or above. This tutorial builds neurons by their old names, loads the
weights of a trained network, and shows how to move a whole network in one line. It needs only snnfast
to be installed.
"""

import time

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from snnfast.nn import Time, like

# %%
# A neuron by its old name
# ------------------------
# :func:`snnfast.nn.like` takes the name and the arguments of the other library and returns a layer
# with the same spikes. Here are three leaky integrate-and-fire neurons with the same input. All of
# them keep 0.9 of their membrane a step.

NEURONS = {
    "spikingjelly.LIFNode": {"tau": 10.0},
    "snntorch.Leaky": {"beta": 0.9},
    "norse.LIFBoxCell": {"tau_mem_inv": 100.0, "dt": 0.001},
}
current = torch.full((60, 1), 1.5)
current[30:] = 0.3

figure, axes = plt.subplots(3, 1, sharex=True, figsize=(7, 5))
for axis, (name, arguments) in zip(axes, NEURONS.items(), strict=True):
    spikes, membrane = like(name, **arguments, return_v_seq=True)(current)
    axis.plot(membrane.flatten(), color="gray")
    axis.vlines(spikes.nonzero()[:, 0], 0, 1, color="crimson")
    axis.set_title(f"{name}: {int(spikes.sum())} spikes", fontsize=9)
axes[-1].set_xlabel("time step (membrane gray, spikes red)")
figure.tight_layout()

# %%
# snnTorch's neuron fires most, since it does not scale its input by ``1 - beta``. It also subtracts
# the threshold instead of setting the membrane to 0, and does so one step later, so its membrane is
# seen above the threshold. :doc:`/semantics` has the equations of all four libraries.
#
# Is it the same neuron?
# ----------------------
# These are the equations of ``Leaky`` on snnTorch's page, as a loop over time. A layer takes all
# steps ``[T, B, ...]`` in one call and starts at rest.


def leaky(x: Tensor, beta: float) -> Tensor:
    """Return the spikes for ``[T, B, N]``: above 1 a neuron fires, and loses 1 in the next step."""
    membrane, spikes = torch.zeros_like(x[0]), []
    for x_t in x:
        reset = (membrane > 1).float()
        membrane = beta * membrane + x_t - reset
        spikes.append((membrane > 1).float())
    return torch.stack(spikes)


torch.manual_seed(0)
x = torch.rand(100, 32, 512)
layer = like("snntorch.Leaky", beta=0.9)
same = (layer(x) == leaky(x, 0.9)).float().mean()
print(f"{same:.2%} of {x.numel():,} spikes are the same")

# %%
# Both compute the same sum in a different order, so a neuron whose membrane is within rounding of
# the threshold may fire in only one of them. The kernel does not loop in Python:


def milliseconds(neurons) -> float:
    """Return the time of the fastest of five calls."""
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        neurons(x)
        best = min(best, time.perf_counter() - start)
    return best * 1e3


loop, kernel = milliseconds(lambda x: leaky(x, 0.9)), milliseconds(layer)
print(f"loop {loop:.1f} ms, kernel {kernel:.1f} ms")

# %%
# Trained weights
# ---------------
# Weights are in linear and convolutional layers, which are PyTorch's in every library. A saved
# network of snnTorch with the layers ``fc1`` and ``fc2`` has these keys:

saved = {
    f"{layer}.{key}": value
    for layer, linear in (("fc1", nn.Linear(64, 100)), ("fc2", nn.Linear(100, 10)))
    for key, value in linear.state_dict().items()
}
print(list(saved))

# %%
# In a network of this package they belong to the linear layers in ``Time``:

net = nn.Sequential(
    Time(nn.Linear(64, 100)),
    like("snntorch.Leaky", beta=0.9),
    Time(nn.Linear(100, 10)),
    like("snntorch.Leaky", beta=0.9),
)
for place, layer in ((0, "fc1"), (2, "fc2")):
    net[place].layer.load_state_dict({key: saved[f"{layer}.{key}"] for key in ("weight", "bias")})
print(net(torch.rand(25, 8, 64)).shape)

# %%
# A whole network in one line
# ---------------------------
# Where the other library is installed, :func:`snnfast.nn.replace` takes a network as it is. Its
# neurons then run on the kernels here. Calls, states and the keys of the state dict stay, so saved
# files still load.
#
# .. code-block:: python
#
#     from snnfast.nn import replace
#
#     fast = replace(theirs, verify=x)
#
# ``verify`` runs both networks and compares spikes and membranes; an error names the first layer and
# step that differ. A neuron without an exact equivalent is refused, with the reason.
#
# A loop over the steps in the ``forward`` of a network of snnTorch or Norse is taken apart: every
# layer takes all steps in one call, which is fast. A loop that cannot be taken apart stays, with
# a warning. An ``nn.Sequential`` that takes one step a call takes sequences with ``sequences=True``.
#
# Where next
# ----------
# One page for each library shows both versions side by side, and has a table of names:
# :doc:`/coming_from_spikingjelly`, :doc:`/coming_from_snntorch`, :doc:`/coming_from_norse`,
# :doc:`/coming_from_sinabs`.
