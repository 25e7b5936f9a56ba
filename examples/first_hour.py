"""A new user's first hour: networks that fire, training on your own data, inference, and a rule of your own.

    python examples/first_hour.py

Every step prints its result; the script takes some seconds.
"""

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

import snnfast
from snnfast import plasticity, procedure
from snnfast.encoder import from_times
from snnfast.learning import STDP
from snnfast.nn import LIF, Rate, Time, calibrate_


def silent_network():
    """Show the warning of a layer that never fires, and calibrate it."""
    torch.manual_seed(0)
    net = nn.Sequential(Time(nn.Linear(64, 32)), LIF(tau=10.0), Time(nn.Linear(32, 3)), LIF(tau=10.0), Rate())
    x = (torch.rand(20, 16, 64) < 0.2).float()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(5):
            net(x)
    print(f"{len(caught)} warnings: {caught[0].message}")
    print("rates after calibrate_:", calibrate_(net, x))


def own_images(folder):
    """Train on images of your own with default settings, and use the trained network."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    images = rng.random((120, 1, 16, 16), dtype=np.float32) * 0.4
    images[labels == 0, :, 4:8] += 0.5
    images[labels == 1, :, :, 4:8] += 0.5
    names = np.array(["lying", "standing"])
    np.savez(folder / "bars.npz", images=images, labels=labels, classes=names)
    result = procedure.stbp(str(folder / "bars.npz"), out=folder / "bars", epochs=4, progress=False)
    print(result.summary())
    net = snnfast.load(folder / "bars")
    print("the first images:", [net.name(int(label)) for label in net(images[:4])])


def own_rule():
    """Apply an anti-Hebbian rule, written as a function of traces, to recorded spikes."""
    pre = from_times([0.2, 3.1, 3.4, 8.0], [0, 1, 2, 0], neurons=3)
    post = from_times([4.0, 9.0], [0, 1], neurons=2, num_steps=len(pre))
    post = torch.cat([post, post.new_zeros(len(pre) - len(post), 1, 2)])
    layer = nn.Linear(3, 2, bias=False)
    rule = plasticity.OwnRule(lambda s: -0.1 * s.s_post * s.x_pre, w_min=-1.0)
    before = layer.weight.detach().clone()
    STDP(layer, rule).run(pre, post)
    print("change of the weights:\n", (layer.weight.detach() - before).round(decimals=3))


def main():
    folder = Path("first-hour")
    folder.mkdir(exist_ok=True)
    silent_network()
    own_images(folder)
    own_rule()


if __name__ == "__main__":
    main()
