"""Watch a network while it learns: firing rates, silent neurons, synaptic operations, energy.

    python examples/monitor.py --epochs 5

Prints the tables, and writes figures and ``activity.csv`` to the current folder.
"""

import argparse
import csv

import torch
from torch import nn
from torch.nn.functional import mse_loss, one_hot

import snnfast
from snnfast import data, visual
from snnfast.nn import LIF, Rate, Time


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--num-steps", type=int, default=8)
    parser.add_argument("--max-steps", type=int, default=None, help="batches an epoch")
    options = parser.parse_args()
    torch.manual_seed(0)
    images, labels = data.as_tensors(data.load("digits", split="train"))
    held_out, _ = data.as_tensors(data.load("digits", split="test"))
    net = nn.Sequential(Time(nn.Flatten(), nn.Linear(64, 100)), LIF(), Time(nn.Linear(100, 10)), LIF(), Rate())
    optimizer = torch.optim.Adam(net.parameters(), lr=4e-3)
    rows = []
    for epoch in range(1, options.epochs + 1):
        batches = torch.randperm(len(images)).split(32)[: options.max_steps]
        for chosen in batches:
            x = images[chosen].expand(options.num_steps, -1, -1, -1, -1)
            loss = mse_loss(net(x), one_hot(labels[chosen], 10).float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad(), snnfast.monitor(net, membranes=4) as watching:
            net(held_out.expand(options.num_steps, -1, -1, -1, -1))
        scalars = watching.activity().scalars()
        rows.append({"epoch": epoch, **scalars})
        print(f"epoch {epoch}: loss {loss.item():.4f}, {scalars['network/energy'] * 1e9:.3g} nJ an image")
    print(watching.activity())
    for name, figure in watching.figures().items():
        visual.save(figure, f"{name}.png")
    with open("activity.csv", "w", newline="") as file:  # noqa: PTH123
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
