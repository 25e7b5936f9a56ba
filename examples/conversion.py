"""Conversion with the manual's names: Diehl et al. 2015 (act_based) and Spike-Norm, Sengupta et al. 2019 (spikenorm).

python examples/conversion.py train --method act_based --data digits
python examples/conversion.py infer --method act_based --num-steps 100 --reset soft
python examples/conversion.py train --method act_based --data ~/mnist --epochs 12 --batch-size 100 --lr 0.002
python examples/conversion.py train --method spikenorm --data ~/cifar10 --epochs 200 --optimizer sgd --lr 0.01
python examples/conversion.py infer --method spikenorm --num-steps 2500
"""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader

import snnfast
import snnfast.data
import snnfast.threshold

NETWORKS = {"act_based": snnfast.papers.Diehl2015, "spikenorm": snnfast.papers.VGG16}
DATA = {"act_based": "mnist", "spikenorm": "cifar10"}
SMALL = {  # for the digits in the package
    "act_based": {"input_shape": (1, 8, 8), "kernel_size": 3, "padding": 1},
    "spikenorm": {"plan": (16, 16, "P", 32, 32), "hidden": (128,), "input_shape": (1, 8, 8)},
}


def datasets(name, root, moved=False):
    """Training and test data; CIFAR-10 normalised as in the manual, and cropped and mirrored at random if ``moved``."""
    change = {"train+val": None, "test": None}
    if name == "cifar10":
        from torchvision import transforms as t

        plain = [t.ToTensor(), t.Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))]
        more = [t.RandomCrop(32, padding=4), t.RandomHorizontalFlip()] if moved else []
        change = {"train+val": t.Compose([*more, *plain]), "test": t.Compose(plain)}
    return (snnfast.data.load(name, root, split=s, transform=c) for s, c in change.items())


def run(loader, model, criterion, optimizer=None, max_steps=None):
    """Run one pass over the data, training if there is an optimizer; return accuracy and loss."""
    device = next(model.parameters()).device
    model.train(optimizer is not None)
    corrects, total_loss, total = 0, 0.0, 0
    for step, (images, labels) in enumerate(loader):
        if step == max_steps:
            break
        images, labels = images.to(device), labels.to(device)
        outputs = model(images)
        loss = criterion(outputs, labels)
        if optimizer is not None:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        corrects += (outputs.argmax(1) == labels).sum().item()
        total_loss += loss.item() * len(labels)
        total += len(labels)
    return corrects / total, total_loss / total


def train(opt):
    data = {"name": DATA[opt.method], "root": opt.data}
    network = {}
    if opt.data == "digits":
        data, network = {"name": "digits", "root": None}, SMALL[opt.method]
    training, test = datasets(**data, moved=True)
    train_loader = DataLoader(training, batch_size=opt.batch_size, shuffle=True)
    test_loader = DataLoader(test, batch_size=opt.batch_size)

    model = NETWORKS[opt.method](**network).to(opt.device)
    criterion = nn.CrossEntropyLoss()
    optimizer = (
        torch.optim.Adam(model.parameters(), lr=opt.lr)
        if opt.optimizer == "adam"
        else torch.optim.SGD(model.parameters(), lr=opt.lr, momentum=0.9, weight_decay=5e-4)
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, opt.epochs)
    for epoch in range(opt.epochs):
        accuracy, loss = run(train_loader, model, criterion, optimizer, opt.max_steps)
        with torch.no_grad():
            tested, _ = run(test_loader, model, criterion, max_steps=opt.max_steps)
        scheduler.step()
        print(f"epoch {epoch + 1}: training {100 * accuracy:.2f} % (loss {loss:.4f}), test {100 * tested:.2f} %")
        torch.save({"network": network, "data": data, "model": model.state_dict()}, opt.file)


def signed_bernoulli(x):
    """Draw signed spikes: a value fires with its magnitude as probability and keeps its sign."""
    return torch.mul(torch.le(torch.rand_like(x), torch.abs(x) * 1.0).float(), torch.sign(x))


def infer(opt):
    trained = torch.load(opt.file, weights_only=True)
    training, test = datasets(**trained["data"])
    ann = NETWORKS[opt.method](**trained["network"])
    ann.load_state_dict(trained["model"])
    if opt.method == "act_based":
        snn = snnfast.papers.SNN_Diehl2015(opt.batch_size, reset=opt.reset, **trained["network"])
        snn.load_state_dict(trained["model"], strict=False)  # everything except the thresholds
        ann, snn = ann.to(opt.device), snn.to(opt.device)
        threshold = snnfast.threshold.activation_based(
            train_loader=DataLoader(training, batch_size=1000), model=ann, percentile=opt.percentile
        )
        snn.update_threshold(threshold)
    else:
        snn = snnfast.papers.SVGG16(ann, batch_size=opt.batch_size).to(opt.device)
        threshold = snnfast.threshold.spikenorm(
            train_loader=DataLoader(training, batch_size=opt.batch_size, shuffle=True),
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("step", choices=["train", "infer"])
    parser.add_argument("--method", choices=list(NETWORKS), default="act_based")
    parser.add_argument("--data", default="digits", help="digits, or the folder of the data set")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--optimizer", choices=["adam", "sgd"], default="adam")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--batch-size", type=int, help="32 to train, 100 to infer")
    parser.add_argument("--num-steps", type=int, default=200, help="of the network with spikes")
    parser.add_argument("--reset", choices=["hard", "soft"], default="hard", help="of act_based")
    parser.add_argument("--percentile", type=float, default=99.9, help="act_based; 100: the paper's")
    parser.add_argument("--scaling-factor", type=float, default=0.8, help="of spikenorm")
    parser.add_argument("--file", default="conversion.pt", help="of the trained network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-steps", type=int, help="batches an epoch, to try it out")
    opt = parser.parse_args()
    opt.batch_size = opt.batch_size or {"train": 32, "infer": 100}[opt.step]
    opt.device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(opt.seed)
    {"train": train, "infer": infer}[opt.step](opt)


if __name__ == "__main__":
    main()
