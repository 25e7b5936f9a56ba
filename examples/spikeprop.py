"""SpikeProp: Iris with n3ml's calls, or with an optimizer of PyTorch.

python examples/spikeprop.py
python examples/spikeprop.py --optimizer adam
"""

import argparse

import torch
from torch import nn

import snnfast
import snnfast.data
import snnfast.encoder
import snnfast.nn.loss
import snnfast.optimizer


class LabelEncoder:
    """Target times: 8 ms for the output of the class, 13 ms for the others."""

    def __init__(self, num_classes):
        self.num_classes = num_classes

    def run(self, label):
        """Return the target times of the outputs for a label."""
        o = torch.full((self.num_classes,), 13.0)
        o[label] = 8.0
        return o


def accuracy(model, spikes, labels):
    """Return the share of samples whose first output spike is correct; an output without a spike (inf) never wins."""
    with torch.no_grad():
        return (snnfast.loss.first_spike(model(spikes)) == labels).float().mean().item()


def bohte(opt, train, train_target, test, test_target):
    """Train by n3ml's procedure: squared error to target times, one update for each sample."""
    label_encoder = LabelEncoder(3)
    model = snnfast.model.Bohte2002(50, 10, 3)
    model.initialize()
    optimizer = snnfast.optimizer.Bohte(lr=0.0075 if opt.lr is None else opt.lr)
    for epoch in range(opt.epochs):
        order = torch.randperm(len(train))[: opt.max_steps]
        for i in order:
            wanted = label_encoder.run(train_target[i])
            optimizer.step(model=model, spiked_input=train[i], spiked_label=wanted)
        yield epoch, accuracy(model, train, train_target), accuracy(model, test, test_target)


def adam(opt, train, train_target, test, test_target):
    """Train the same network, calibrated, with a cross-entropy of the first spike and batches of 20."""
    model = snnfast.model.Bohte2002(50, 10, 3, virtual=4.0)
    model.calibrate(train, (9.0, 14.0))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01 if opt.lr is None else opt.lr)
    for epoch in range(opt.epochs):
        for batch in torch.randperm(len(train)).split(20)[: opt.max_steps]:
            value = snnfast.loss.first_spike_cross_entropy(model(train[batch]), train_target[batch])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        yield epoch, accuracy(model, train, train_target), accuracy(model, test, test_target)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--optimizer", choices=["bohte", "adam"], default="bohte")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--max-firing-time", type=float, default=10)
    parser.add_argument("--not-to-fire", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-steps", type=int, help="steps an epoch, to try it out")
    opt = parser.parse_args()
    torch.manual_seed(opt.seed)

    data_loader = snnfast.data.IRISDataLoader(ratio=0.8)
    data = data_loader.run()
    summary = data_loader.summarize()
    data_encoder = snnfast.encoder.Population(
        neurons=12,
        minimum=summary["min"],
        maximum=summary["max"],
        max_firing_time=opt.max_firing_time,
        not_to_fire=opt.not_to_fire,
        dt=1,
    )
    # Four features of twelve neurons each, and two inputs that always fire at 0.
    train, test = (
        nn.functional.pad(data_encoder.run(data[f"{part}.data"]).flatten(1), (0, 2)).float()
        for part in ("train", "test")
    )
    procedure = bohte if opt.optimizer == "bohte" else adam
    for epoch, trained, tested in procedure(opt, train, data["train.target"], test, data["test.target"]):
        print(f"epoch {epoch + 1}: training {100 * trained:.2f} %, test {100 * tested:.2f} %")


if __name__ == "__main__":
    main()
