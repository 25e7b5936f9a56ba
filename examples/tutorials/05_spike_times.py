"""
Exact spike times
=================

In SpikeProp (Bohte et al. 2002) a neuron fires at most once, and the *time* of its spike is its
output. This time is computed exactly, without time steps, and its gradient is exact. This tutorial
trains a network on Iris and looks at the times at which its neurons fire.
"""

import torch

from snnfast import visual
from snnfast.data import iris
from snnfast.encoder import PopulationEncoder
from snnfast.nn import SpikeProp, calibrate, loss

torch.manual_seed(0)
values, labels = iris("train+val").tensors
test_values, test_labels = iris("test").tensors

# %%
# Values become times
# -------------------
# A population of neurons with overlapping fields codes each value: the better it fits a field, the
# earlier that neuron fires.

low, high = values.amin(0).tolist(), values.amax(0).tolist()
code = PopulationEncoder(8, low, high, t_max=10, silent_from=10)
times, test_times = code(values).flatten(1), code(test_values).flatten(1)
print(times.shape, "spike times in ms, inf for silent neurons")

# %%
# Two layers
# ----------
# Each connection has four synapses with delays of 1 to 4 ms. ``calibrate`` scales the weights so
# that neurons fire at suitable times before training.

hidden, output = SpikeProp(times.shape[1], 10, delays=4), SpikeProp(10, 3, delays=4)
calibrate(hidden, times, 8.0)
calibrate(output, hidden(times).detach(), 12.0)
with torch.no_grad():
    before = {"hidden": hidden(times[:1])[0], "output": output(hidden(times[:1]))[0]}

# %%
# Training
# --------
# The first output to fire decides. The loss requires that it is the right one.

optimizer = torch.optim.Adam([*hidden.parameters(), *output.parameters()], lr=0.02)
for _ in range(150):
    fired, u_max = output(hidden(times), return_u_max=True)
    t = loss.virtual_times(fired, u_max, t_max=40.0)  # a silent output gets a time, too
    value = loss.first_spike_cross_entropy(t, labels)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()

with torch.no_grad():
    first = loss.first_spike(output(hidden(test_times)), t_max=40.0)
    after = {"hidden": hidden(times[:1])[0], "output": output(hidden(times[:1]))[0]}
print(f"{(first == test_labels).float().mean():.1%} of {len(test_labels)} test flowers")

# %%
# When neurons fire
# -----------------
# One flower before and after training. The output of its class (in colour) now fires first.

figure = visual.spike_times(before, after, mark=int(labels[0]))
