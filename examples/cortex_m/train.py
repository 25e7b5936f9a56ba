"""Integer network for a Cortex-M: train it on digits, export it as C, and save the outputs of PyTorch for ten images.

python examples/cortex_m/train.py firmware
make -C examples/cortex_m run FIRMWARE=$PWD/firmware     # arm-none-eabi-gcc, qemu-system-arm
"""

import argparse
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import snnfast
from snnfast import data
from snnfast.export import integer
from snnfast.nn import LI, LIF, Last, Time, quantize

STEPS, IMAGES = 4, 10


def network():
    return nn.Sequential(
        Time(nn.Conv2d(1, 8, 3, padding=1)), LIF(tau=2.0, decay_input=False), Time(nn.MaxPool2d(2), nn.Flatten()),
        Time(nn.Linear(128, 10)), LI(tau=4.0), Last(),
    )  # fmt: skip


def fit(net, images, labels, epochs, lr):
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(64):
            x = images[chosen]
            loss = cross_entropy(net(x.expand(STEPS, *x.shape)), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def array(kind, name, rows):
    body = ",\n  ".join("{" + ", ".join(map(str, row)) + "}" for row in rows.flatten(1).tolist())
    return f"static const {kind} {name}[{len(rows)}][{rows[0].numel()}] = {{\n  {body}}};\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    torch.manual_seed(0)
    images, labels = data.as_tensors(data.load("digits", split="train"))
    held_out, wanted = data.as_tensors(data.load("digits", split="test"))
    net = network()
    fit(net, images, labels, options.epochs, 5e-3)
    net = quantize(net, "int8")
    fit(net, images, labels, options.epochs // 2, 1e-3)

    net = integer(net, (1, 8, 8), unit=1 / 127)
    x = (127 * held_out).round().to(torch.int8)
    y = net(x.expand(STEPS, *x.shape))
    print(f"{100 * (y.argmax(1) == wanted).float().mean():.2f} % of the held-out digits")
    print(snnfast.export_c(net, options.folder, (1, 8, 8)))
    (options.folder / "expected.h").write_text(
        f"#define STEPS {STEPS}\n" + array("int8_t", "images", x[:IMAGES]) + array("int32_t", "outputs", y[:IMAGES])
    )


if __name__ == "__main__":
    main()
