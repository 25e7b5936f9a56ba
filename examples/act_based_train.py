"""Conversion after Diehl et al. 2015, 1 of 2: trains their ReLU network, on MNIST or the digits in the package.

python examples/act_based_train.py --data digits
python examples/act_based_train.py --data ~/mnist --epochs 12 --batch-size 100 --lr 0.002 --dropout 0.1
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="digits", help="digits, or the folder of MNIST")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--file", default="act_based.pt", help="where the network goes")
    parser.add_argument("--max-steps", type=int, help="batches an epoch, to try it out")
    opt = parser.parse_args()
    torch.manual_seed(opt.seed)

    name, root, network = "mnist", opt.data, {}
    if opt.data == "digits":
        name, root = "digits", None
        network = {"input_shape": (1, 8, 8), "kernel_size": 3, "padding": 1}
    train, test = (snnfast.data.load(name, root, split=split) for split in ("train+val", "test"))
    train_loader = DataLoader(train, batch_size=opt.batch_size, shuffle=True)
    test_loader = DataLoader(test, batch_size=opt.batch_size)

    model = snnfast.papers.Diehl2015(dropout=opt.dropout, **network)
    if torch.cuda.is_available():
        model = model.cuda()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=opt.lr)
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
