"""
Regression: a signal in, a signal out
=====================================

Spiking networks also compute values. The readout :class:`snnfast.nn.LI` leaks and does not fire; its
membrane is a continuous output at every step. Here a network gets the noisy position of a pendulum
and estimates its velocity.
"""

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from snnfast.nn import LI, AdLIF, Recurrent, Time, calibrate_

torch.manual_seed(0)

# %%
# The task
# --------
# Pendulums of different length swing with decreasing strength. The input is their position with
# noise, ``[T, B, 1]``; the target is their velocity, in units of its standard deviation.


def pendulums(count: int, steps: int = 100) -> tuple[Tensor, Tensor]:
    t = torch.arange(steps).view(-1, 1, 1)
    speed = 0.1 + 0.15 * torch.rand(1, count, 1)
    phase, damping = 6.3 * torch.rand(1, count, 1), 0.005 + 0.01 * torch.rand(1, count, 1)
    swing = torch.exp(-damping * t)
    position = swing * torch.sin(speed * t + phase)
    velocity = swing * (speed * torch.cos(speed * t + phase) - damping * torch.sin(speed * t + phase))
    return position + 0.1 * torch.randn_like(position), velocity / 0.087


x, target = pendulums(512)
test_x, test_target = pendulums(128)

# %%
# The network
# -----------
# The first linear layer gives each neuron its own weight and bias, so that a hundred neurons fire at
# different positions. Recurrent connections and adaptation let them compare with the past.
# :func:`~snnfast.nn.calibrate_` makes every neuron fire at a fifth of the steps before training.

net = nn.Sequential(
    Time(nn.Linear(1, 100)), Recurrent(AdLIF(100, surrogate="fast_sigmoid"), 100), Time(nn.Linear(100, 1)), LI(tau=3.0)
)
print("firing rates:", calibrate_(net, x, rate=0.2))

optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 25 * 8)
errors = []
for _ in range(25):
    for batch in torch.randperm(512).split(64):
        loss = nn.functional.mse_loss(net(x[:, batch]), target[:, batch])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        errors.append(loss.item())

# %%
# How good is the estimate?
# -------------------------
# The share of the variance that the answer leaves unexplained, compared with that of the slope of the
# noisy position from step to step.

with torch.no_grad():
    answer = net(test_x)
variance = test_target.var()
unexplained = nn.functional.mse_loss(answer, test_target) / variance
slope = torch.diff(test_x, dim=0, prepend=test_x[:1]) / 0.087
noise = nn.functional.mse_loss(slope, test_target) / variance
print(f"unexplained: {unexplained:.1%}; by the slope of the input: {noise:.1%}")

figure, axes = plt.subplots(2, 1, sharex=True, figsize=(7, 4.5))
axes[0].plot(test_x[:, 0], color="gray")
axes[0].set_ylabel("position, with noise")
axes[1].plot(test_target[:, 0], color="gray", label="velocity")
axes[1].plot(answer[:, 0], color="crimson", label="answer of the network")
axes[1].set(ylabel="velocity", xlabel="step")
axes[1].legend()
figure.tight_layout()

# %%
# What the neurons do
# -------------------
# Spikes of the hidden layer for the same pendulum, and the error while it learned.

from snnfast import visual

with torch.no_grad():
    spikes = net[:2](test_x[:, :1])
raster = visual.raster(spikes, title=f"{spikes.mean():.0%} of the neurons fire in a step")

figure, axis = plt.subplots(figsize=(7, 2.5))
axis.semilogy(errors)
axis.set(xlabel="step of the optimizer", ylabel="mean squared error")
figure.tight_layout()
