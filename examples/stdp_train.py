"""STDP, 1 of 3: the network of Diehl and Cook 2015 learns MNIST, or the digits in the package, without labels.

python examples/stdp_train.py --data digits
python examples/stdp_train.py --data ~/mnist --neurons 400
"""

import argparse

import torch
from torch.utils.data import DataLoader, Subset

import snnfast
import snnfast.data
import snnfast.visual


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits", help="digits, or the folder of MNIST")
    parser.add_argument("--neurons", type=int, default=100)
    parser.add_argument("--preset", default="tuned", help="tuned, manual, n3ml or paper")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--file", default="stdp.pt", help="where the network goes")
    parser.add_argument("--max-images", type=int, help="images an epoch, to try it out")
    opt = parser.parse_args()
    torch.manual_seed(opt.seed)

    # 64 pixels need higher rates and larger weights than 784; hz is the rate of a white pixel.
    if opt.data == "digits":
        name, root, shape, hz, changes = "digits", None, (1, 8, 8), 300.0, {"norm": 0.3}
    else:
        name, root, shape, hz, changes = "mnist", opt.data, (1, 28, 28), 128.0, {}
    train = snnfast.data.load(name, root, split="train+val")
    train = Subset(train, range(opt.max_images or len(train)))
    loader = DataLoader(train, batch_size=100, shuffle=True)

    model = snnfast.papers.DiehlAndCook2015(
        opt.neurons, shape, opt.preset, presentations=opt.epochs * len(train), **changes
    )
    figure = snnfast.visual.Live("receptive_fields.png")  # and a window where there is a display
    for epoch in range(opt.epochs):
        spikes = 0
        for step, (images, _) in enumerate(loader):
            model.set_progress((epoch * len(loader) + step) / (opt.epochs * len(loader)))
            spikes += model.present(images * hz).counts.sum().item()
        print(f"epoch {epoch + 1}: {spikes / len(train):.1f} spikes an image")
        figure.update(snnfast.visual.receptive_fields(model.xe.w, shape=shape[1:]))
    network = {"neurons": opt.neurons, "input_shape": shape, "preset": opt.preset}
    data = {"name": name, "root": root}
    torch.save({"network": network, "data": data, "hz": hz, "model": model.state_dict()}, opt.file)


if __name__ == "__main__":
    main()
