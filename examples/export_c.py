"""Train a small network, write it as C, compile it, and let it classify digits.

    python examples/export_c.py --epochs 3

Needs a C compiler, ``cc``. Writes the folders ``firmware`` and ``firmware_int8``.
"""

import argparse
import subprocess

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import snnfast
from snnfast import data
from snnfast.nn import LI, LIF, Last, SpikeLinear, Time


def accuracy(outputs, labels):
    return 100 * (outputs.argmax(1) == labels).float().mean().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--num-steps", type=int, default=8)
    parser.add_argument("--max-steps", type=int, default=None, help="batches an epoch")
    options = parser.parse_args()
    torch.manual_seed(0)
    images, labels = data.as_tensors(data.load("digits", split="train"))
    held_out, truth = data.as_tensors(data.load("digits", split="test"))
    hidden, last = SpikeLinear(64, 100, method="events"), SpikeLinear(100, 10, method="events")
    net = nn.Sequential(Time(nn.Flatten(), hidden), LIF(decay_input=False), Time(last), LI(tau=4.0), Last())
    optimizer = torch.optim.Adam(net.parameters(), lr=4e-3)

    def currents(images):
        return images.expand(options.num_steps, -1, -1, -1, -1)

    for epoch in range(1, options.epochs + 1):
        for chosen in torch.randperm(len(images)).split(32)[: options.max_steps]:
            loss = cross_entropy(net(currents(images[chosen])), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.4f}")
    net.eval()
    with torch.no_grad():
        want = net(currents(held_out))
        print(f"PyTorch: {accuracy(want, truth):.2f} %")
        for weights, folder in {"float32": "firmware", "int8": "firmware_int8"}.items():
            report = snnfast.export_c(net, folder, (1, 8, 8), weights=weights)
            print(report)
            subprocess.run(["make", "-s", "-C", folder], check=True)
            frames = "\n".join(
                "reset\n" + "\n".join([" ".join(map(str, image.flatten().tolist()))] * options.num_steps)
                for image in held_out
            )
            done = subprocess.run([f"{folder}/snn"], input=frames, capture_output=True, text=True, check=True)
            steps = torch.tensor([[float(n) for n in row.split()] for row in done.stdout.splitlines()])
            outputs = steps[options.num_steps - 1 :: options.num_steps]
            torch.testing.assert_close(outputs, report.network(currents(held_out)), rtol=0, atol=0)
            print(f"C, {weights}: {accuracy(outputs, truth):.2f} %, the bits of PyTorch's network")


if __name__ == "__main__":
    main()
