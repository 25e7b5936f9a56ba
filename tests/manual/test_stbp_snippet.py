"""The STBP section of n3ml's manual, as printed, with ``n3ml`` replaced by ``snnfast``."""

# ruff: noqa: W291  the manual as printed

from types import SimpleNamespace

import matplotlib as mpl
import pytest
import torch
from mnist import lay_mnist, rows_of_classes

pytest.importorskip("torchvision")

# The manual prints three listings: the data, the model with its training loop and Plot, validate and train. It calls
# functions that it prints further down and leaves out imports, so the parts run in the order in which they work.
IMPORTS = """
import time

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn, optim

best_acc = 0
"""

DATA = """
import torchvision
from torchvision.transforms import transforms

# Load MNIST / FashionMNIST dataset
train_loader = torch.utils.data.DataLoader(
    torchvision.datasets.MNIST(
        opt.data,
        train=True,
        download = True,
        transform=torchvision.transforms.Compose([
            transforms.ToTensor(), transforms.Lambda(lambda x: x * 32)])),
    drop_last = True,
    batch_size=opt.batch_size,
    shuffle=True)

# Load MNIST/ FashionMNIST dataset
val_loader = torch.utils.data.DataLoader(
    torchvision.datasets.MNIST(
        opt.data,
        train=False,
        download=True,
        transform=torchvision.transforms.Compose([
            transforms.ToTensor(), transforms.Lambda(lambda x: x * 32)])),
    drop_last=True,
    batch_size=opt.batch_size,
    shuffle=True)
"""

MODEL = """
import n3ml.model

model = n3ml.model.Wu2018(batch_size=opt.batch_size, time_interval=opt.time_interval)
if torch.cuda.is_available():
    model = model.cuda()

criterion = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr = opt.lr)
lr_scheduler = optim.lr_scheduler.MultiStepLR(optimizer, milestones=[30, 60, 90])

for epoch in range(opt.num_epochs):
    start = time.time()
    train_acc, train_loss = train(train_loader, model, criterion, optimizer)
    end = time.time()
    print('total time: {:.2f}s - epoch: {} - accuracy: {} - loss: {}'.format(end-start, epoch, train_acc, train_loss))

    val_acc, val_loss = validate(val_loader, model, criterion)

    if val_acc > best_acc:
        best_acc = val_acc
        state = {
            'epoch': epoch,
            'model': model.state_dict(),
            'best_acc': best_acc,
            'optimizer': optimizer.state_dict()}

        print('in test, epoch: {} - best accuracy: {} - loss: {}'.format(epoch, best_acc, val_loss))

    lr_scheduler.step()
"""

PLOT = """
class Plot:
    def __init__(self):
        plt.ion()
        self.fig, self.ax = plt.subplots(figsize=(10, 10))
        self.ax2 = self.ax.twinx()
        plt.title('STBP')

    def update(self, y1, y2):
        x = torch.arange(y1.shape[0]) * 64

        ax1 = self.ax
        ax2 = self.ax2

        ax1.plot(x, y1, 'g')
        ax2.plot(x, y2, 'b')

        ax1.set_xlabel('number of images')
        ax1.set_ylabel('accuracy', color='g')
        ax2.set_ylabel('loss', color='b')

        self.fig.canvas.draw()
        self.fig.canvas.flush_events()


def validate(val_loader, model, criterion):

    total_images = 0
    num_corrects = 0
    total_loss = 0

    for step, (images, labels) in enumerate(val_loader):
        # images = images.cuda()
        # labels = labels.cuda()

        preds = model(images)
        labels_ = torch.zeros(torch.numel(labels), 10, device=labels.device)
        labels_ = labels_.scatter_(1, labels.view(-1, 1), 1)

        loss = criterion(preds, labels_)

        num_corrects += torch.argmax(preds, dim=1).eq(labels).sum(dim=0)
        total_loss += loss.cpu().detach().numpy() * images.size(0)
        total_images += images.size(0)

    val_acc = num_corrects.float() / total_images
    val_loss = total_loss / total_images

    return val_acc, val_loss


def train(train_loader, model, criterion, optimizer):
    plotter = Plot()

    total_images = 0
    num_corrects = 0
    total_loss = 0

    list_loss = []
    list_acc = []

    for step, (images, labels) in enumerate(train_loader):
        # images = images.cuda()
        # labels = labels.cuda()

        preds = model(images)

        labels_ = torch.zeros(torch.numel(labels), 10, device=labels.device)
        labels_ = labels_.scatter_(1, labels.view(-1, 1), 1)

        # print("label: {} - prediction: {}".format(labels.detach().cpu().numpy()[0], preds.detach().cpu().numpy()[0]))

        o = preds.detach().cpu().numpy()[0]     

        print("label: {} - output neuron's voltages: {}".format(labels.detach().cpu().numpy()[0], o))

        loss = criterion(preds, labels_)

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        num_corrects += torch.argmax(preds, dim=1).eq(labels).sum(dim=0)
        total_loss   += loss.cpu().detach().numpy() * images.size(0)
        total_images += images.size(0)

        if total_images > 0:  #  and total_images % 30 == 0
            list_loss.append(total_loss / total_images)
            list_acc.append(float(num_corrects) / total_images)
            plotter.update(y1=np.array(list_acc), y2=np.array(list_loss))


    train_acc = num_corrects.float() / total_images
    train_loss = total_loss / total_images

    return train_acc, train_loss
"""


@pytest.mark.parametrize(
    "cuda", [False, pytest.param(True, marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]
)
def test_stbp_snippet_runs_as_printed(tmp_path, monkeypatch, capsys, cuda):
    mpl.use("Agg")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    lay_mnist(tmp_path, train=rows_of_classes(48), t10k=rows_of_classes(32))
    torch.manual_seed(0)
    opt = SimpleNamespace(data=str(tmp_path), batch_size=16, time_interval=3, lr=1e-3, num_epochs=2)
    names = {"opt": opt}
    for part in (IMPORTS, DATA, PLOT, MODEL):
        exec(compile(part.replace("n3ml", "snnfast"), "manual", "exec"), names)
    printed = capsys.readouterr().out
    assert printed.count("output neuron's voltages") == 2 * 3
    assert printed.count("total time") == 2
    assert 0 <= names["val_acc"] <= 1
    assert names["train_loss"] > 0
    assert names["lr_scheduler"].last_epoch == 2
    assert next(names["model"].parameters()).is_cuda == cuda
    names["plt"].close("all")
