"""Train a small network, write it as NIR, read it back, and compare the spikes.

    python examples/nir_round_trip.py --epochs 3

Needs the extra nir: pip install "snnfast[nir]". Writes ``digits.nir`` to the current folder.
"""

import argparse

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import snnfast
from snnfast import data
from snnfast.nn import LI, LIF, Time


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--num-steps", type=int, default=8)
    parser.add_argument("--max-steps", type=int, default=None, help="batches an epoch")
    options = parser.parse_args()
    torch.manual_seed(0)
    images, labels = data.as_tensors(data.load("digits", split="train"))
    held_out, truth = data.as_tensors(data.load("digits", split="test"))
    net = nn.Sequential(Time(nn.Flatten(), nn.Linear(64, 100)), LIF(), Time(nn.Linear(100, 10)), LI(tau=4.0))
    optimizer = torch.optim.Adam(net.parameters(), lr=4e-3)

    def currents(images):
        return images.expand(options.num_steps, -1, -1, -1, -1)

    for epoch in range(1, options.epochs + 1):
        for chosen in torch.randperm(len(images)).split(32)[: options.max_steps]:
            loss = cross_entropy(net(currents(images[chosen]))[-1], labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            right = (net(currents(held_out))[-1].argmax(1) == truth).float().mean().item()
        print(f"epoch {epoch}: loss {loss.item():.4f}, accuracy {100 * right:.2f} %")
    snnfast.nir.write("digits.nir", net, input_shape=(1, 8, 8), dt=1e-3, scheme="euler")
    back = snnfast.nir.read("digits.nir")
    with torch.no_grad():
        torch.testing.assert_close(back(currents(held_out)), net(currents(held_out)), rtol=0, atol=0)
    print("digits.nir: the same membranes, bit for bit")


if __name__ == "__main__":
    main()
