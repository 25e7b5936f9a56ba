"""Train a convolutional network on digits, then with weights of 8 and of 4 bits, and compare.

    python examples/quantize.py --epochs 20 --seeds 5

``rounded``: the weights of the trained network on the nearest grid; ``trained``: trained on for half as many epochs.
"""

import argparse

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from snnfast import data
from snnfast.nn import LIF, Rate, Time, quantize

STEPS = 4


def network():
    def fire():
        return LIF(tau=2.0, decay_input=False)

    return nn.Sequential(
        Time(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16)), fire(), Time(nn.MaxPool2d(2)),
        Time(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32)), fire(), Time(nn.MaxPool2d(2), nn.Flatten()),
        Time(nn.Linear(128, 10)), Rate(),
    )  # fmt: skip


def fit(net, images, labels, epochs, lr, max_steps):
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(epochs, 1))
    net.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(64)[:max_steps]:
            loss = cross_entropy(net(images[chosen].expand(STEPS, -1, -1, -1, -1)), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()


@torch.no_grad()
def accuracy(net, images, labels):
    outputs = net.eval()(images.expand(STEPS, -1, -1, -1, -1))
    return 100 * (outputs.argmax(1) == labels).float().mean().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--max-steps", type=int, default=None, help="batches an epoch")
    options = parser.parse_args()
    images, labels = data.as_tensors(data.load("digits", split="train"))
    held_out = data.as_tensors(data.load("digits", split="test"))
    table: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        torch.manual_seed(seed)
        net = network()
        fit(net, images, labels, options.epochs, 5e-3, options.max_steps)
        table.setdefault("float32", []).append(accuracy(net, *held_out))
        for weights in ("int8", "int4"):
            for scale in ("free", "power-of-two"):
                small = quantize(net, weights, scale=scale)
                setting = f"{weights}, scale {scale}"
                table.setdefault(f"{setting}, rounded", []).append(accuracy(small, *held_out))
                fit(small, images, labels, options.epochs // 2, 1e-3, options.max_steps)
                table.setdefault(f"{setting}, trained", []).append(accuracy(small, *held_out))
        print(f"epoch {options.epochs} of seed {seed} done", flush=True)
    for name, values in table.items():
        mean = sum(values) / len(values)
        print(f"{name:36} {mean:.2f} %   " + " ".join(f"{v:.2f}" for v in values))


if __name__ == "__main__":
    main()
