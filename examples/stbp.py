"""STBP: train the network of Wu et al. 2018 on MNIST, as in n3ml's manual, or on the digits in the package.

python examples/stbp.py --data digits
python examples/stbp.py --data ~/mnist --epochs 20
"""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader

import snnfast
import snnfast.data


def run(loader, model, criterion, optimizer=None, max_steps=None):
    """Run one pass over the data, training if there is an optimizer; return accuracy and loss."""
    device = next(model.parameters()).device
    corrects, total_loss, total = 0, 0.0, 0
    for step, (images, labels) in enumerate(loader):
        if step == max_steps:
            break
        images, labels = images.to(device), labels.to(device)
        rates = model(images)
        loss = criterion(rates, nn.functional.one_hot(labels, 10).float())
        if optimizer is not None:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        corrects += (rates.argmax(1) == labels).sum().item()
        total_loss += loss.item() * len(labels)
        total += len(labels)
    return corrects / total, total_loss / total


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits", help="digits, or the folder of MNIST")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--time-interval", type=int, default=8)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-steps", type=int, help="batches an epoch, to try it out")
    opt = parser.parse_args()
    torch.manual_seed(opt.seed)

    name, root = ("digits", None) if opt.data == "digits" else ("mnist", opt.data)
    train_loader, test_loader = (
        DataLoader(snnfast.data.load(name, root, split=split), batch_size=opt.batch_size, shuffle=split != "test")
        for split in ("train+val", "test")
    )

    model = snnfast.papers.Wu2018(
        time_interval=opt.time_interval, input_shape=(1, 8, 8) if name == "digits" else (1, 28, 28), encoding="direct"
    )
    if torch.cuda.is_available():
        model = model.cuda()
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=opt.lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, opt.epochs)

    for epoch in range(opt.epochs):
        train_acc, train_loss = run(train_loader, model, criterion, optimizer, opt.max_steps)
        with torch.no_grad():
            test_acc, test_loss = run(test_loader, model, criterion, max_steps=opt.max_steps)
        scheduler.step()
        print(
            f"epoch {epoch + 1}: training {100 * train_acc:.2f} % (loss {train_loss:.4f}), "
            f"test {100 * test_acc:.2f} % (loss {test_loss:.4f})"
        )


if __name__ == "__main__":
    main()
