"""Spike-Norm (Sengupta et al. 2019), 2 of 2: the network of spikenorm_train.py with spikes.

python examples/spikenorm_infer.py
python examples/spikenorm_infer.py --num-steps 2500
"""

import argparse

import torch
from torch.utils.data import DataLoader

import snnfast
import snnfast.data
import snnfast.n3ml.threshold


def signed_bernoulli(x):
    """At every step a value fires with its magnitude as probability, with its sign."""
    return torch.mul(torch.le(torch.rand_like(x), torch.abs(x) * 1.0).float(), torch.sign(x))


def datasets(name, root):
    """Training and test part; CIFAR-10 normalised, as in the manual."""
    change = None
    if name == "cifar10":
        from torchvision import transforms as t

        normalize = t.Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
        change = t.Compose([t.ToTensor(), normalize])
    parts = ("train+val", "test")
    return (snnfast.data.load(name, root, split=part, transform=change) for part in parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", default="spikenorm.pt", help="of spikenorm_train.py")
    parser.add_argument("--num-steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--scaling-factor", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-steps", type=int, help="batches to test, to try it out")
    opt = parser.parse_args()
    torch.manual_seed(opt.seed)

    trained = torch.load(opt.file, weights_only=True)
    train, test = datasets(**trained["data"])
    ann = snnfast.papers.VGG16(**trained["network"])
    ann.load_state_dict(trained["model"])
    snn = snnfast.papers.SVGG16(ann, batch_size=opt.batch_size)
    if torch.cuda.is_available():
        snn = snn.cuda()

    threshold = snnfast.threshold.spikenorm(
        train_loader=DataLoader(train, batch_size=opt.batch_size, shuffle=True),
        encoder=signed_bernoulli,
        model=snn,
        num_steps=opt.num_steps,
        scaling_factor=opt.scaling_factor,
    )
    print("thresholds:", ", ".join(f"{t:.3g}" for t in threshold))

    corrects = total = 0
    for step, (images, labels) in enumerate(DataLoader(test, batch_size=opt.batch_size)):
        if step == opt.max_steps:
            break
        counts = snn(images, num_steps=opt.num_steps)
        corrects += (counts.argmax(1) == labels).sum().item()
        total += len(labels)
        print(f"{total} images: {100 * corrects / total:.2f} %")


if __name__ == "__main__":
    main()
