"""Spike-Norm (Sengupta et al. 2019), 1 of 2: trains VGG16 on CIFAR-10, or a small VGG on the digits in the package.

python examples/spikenorm_train.py --data digits
python examples/spikenorm_train.py --data ~/cifar10 --epochs 200 --optimizer sgd --lr 0.01 --batch-size 64
"""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader

import snnfast
import snnfast.data


def run(loader, model, criterion, optimizer=None, max_steps=None):
    """One pass over the data; trains if there is an optimizer. Returns accuracy and loss."""
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


def datasets(name, root):
    """Training and test part; CIFAR-10 normalised, and cropped and mirrored at random, as in the manual."""
    change = {"train+val": None, "test": None}
    if name == "cifar10":
        from torchvision import transforms as t

        plain = [t.ToTensor(), t.Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))]
        moved = [t.RandomCrop(32, padding=4), t.RandomHorizontalFlip(), *plain]
        change = {"train+val": t.Compose(moved), "test": t.Compose(plain)}
    return (snnfast.data.load(name, root, split=s, transform=c) for s, c in change.items())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits", help="digits, or the folder of CIFAR-10")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--optimizer", choices=["adam", "sgd"], default="adam")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--file", default="spikenorm.pt", help="where the network goes")
    parser.add_argument("--max-steps", type=int, help="batches an epoch, to try it out")
    opt = parser.parse_args()
    torch.manual_seed(opt.seed)

    name, root, network = "cifar10", opt.data, {}
    if opt.data == "digits":
        name, root = "digits", None
        network = {"plan": (16, 16, "P", 32, 32), "hidden": (128,), "input_shape": (1, 8, 8)}
    train, test = datasets(name, root)
    train_loader = DataLoader(train, batch_size=opt.batch_size, shuffle=True)
    test_loader = DataLoader(test, batch_size=opt.batch_size)

    model = snnfast.papers.VGG16(**network)
    if torch.cuda.is_available():
        model = model.cuda()
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
        print(
            f"epoch {epoch + 1}: training {100 * accuracy:.2f} % (loss {loss:.4f}), "
            f"test {100 * tested:.2f} %"
        )
        data = {"name": name, "root": root}
        torch.save({"network": network, "data": data, "model": model.state_dict()}, opt.file)


if __name__ == "__main__":
    main()
