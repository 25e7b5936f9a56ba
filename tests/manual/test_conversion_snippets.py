"""The two conversion sections of n3ml's manual, as printed, with ``n3ml`` replaced by ``snnfast``."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from mnist import lay_mnist, rows_of_classes
from torch import nn

import snnfast.papers

torchvision = pytest.importorskip("torchvision")

# What the listings take for granted. They are indented here where they could not be parsed, train and validate come
# before their calls, and validate, whose result is used, returns it.
IMPORTS = """
import torch
from torch import nn

num_epochs, data, batch_size = opt.num_epochs, opt.data, opt.batch_size
n_timesteps = opt.num_steps
num_corrects = total_images = 0
"""

DIEHL_DATA = """
import torchvision
from torchvision.transforms import transforms

train_loader = torch.utils.data.DataLoader(
        torchvision.datasets.MNIST(
            data,
            train=True,
            transform=torchvision.transforms.Compose([
                transforms.ToTensor()])),
        batch_size=batch_size,
        shuffle=True)

val_loader = torch.utils.data.DataLoader(
        torchvision.datasets.MNIST(
            data,
            train=False,
            transform=torchvision.transforms.Compose([
                transforms.ToTensor()])),
        batch_size=batch_size,
        shuffle=False)
"""

DIEHL_ANN = """
from n3ml.model import Diehl2015

model = Diehl2015()
if torch.cuda.is_available():
    model.cuda()

criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.001)

best_acc = 0

for epoch in range(num_epochs):
    print("epoch: {}".format(epoch))
    train(train_loader, model, criterion, optimizer)

    loss, acc = validate(val_loader, model, criterion)
    print("In test, loss: {} - acc: {}".format(loss, acc))

    if acc > best_acc:
        best_epoch = epoch
        best_acc = acc
        state_dict = {
            'epoch': epoch,
            'best_acc': best_acc,
            'model': model.state_dict(),
        }
        torch.save(state_dict, opt.save)
"""

FUNCTIONS = """
def train(train_loader, model, criterion, optimizer):
    model.train()

    total_images = 0
    num_corrects = 0
    total_loss = 0

    for step, (images, labels) in enumerate(train_loader):
        if torch.cuda.is_available():
            images = images.cuda()
            labels = labels.cuda()

        outputs = model(images)

        loss = criterion(outputs, labels)

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        num_corrects += float(torch.argmax(outputs, dim=1).eq(labels).sum())
        total_loss += float(loss)
        total_images += images.size(0)

def validate(val_loader, model, criterion):
    model.eval()

    total_images = 0
    num_corrects = 0
    total_loss = 0

    with torch.no_grad():
        for step, (images, labels) in enumerate(val_loader):
            if torch.cuda.is_available():
                images = images.cuda()
                labels = labels.cuda()

            outputs = model(images)

            loss = criterion(outputs, labels)

            num_corrects += float(torch.argmax(outputs, dim=1).eq(labels).sum())
            total_loss += float(loss)
            total_images += images.size(0)

    val_loss = total_loss / total_images
    val_acc = num_corrects / total_images

    return val_loss, val_acc
"""

DIEHL_SNN = """
from n3ml.model import Diehl2015, SNN_Diehl2015
snn = SNN_Diehl2015(batch_size=opt.batch_size)
print(snn.batch_size)
snn.eval()
snn.cuda()
"""

WEIGHTS = """
saved_state_dict = torch.load(opt.save)
print(saved_state_dict['epoch'])
print(saved_state_dict['best_acc'])
for index, m in enumerate (saved_state_dict['model']):
    snn.state_dict()[m].copy_(saved_state_dict['model'][m])
"""

DIEHL_THRESHOLD = """
from n3ml.threshold import activation_based
threshold = activation_based(train_loader=train_loader, model=ann)
snn.update_threshold(threshold)
"""

INFERENCE = """
with torch.no_grad():
    for images, labels in val_loader:
        images = images.cuda()
        labels = labels.cuda()

        outs = snn(images, num_steps=n_timesteps)
        num_corrects += torch.argmax(outs, dim=1).eq(labels).sum(dim=0)
        total_images += images.size(0)

        print("Total images: {} - val. accuracy: {}".format(
            total_images, (num_corrects.float() / total_images).item())
        )
"""

SENGUPTA_DATA = """
import torchvision
from torchvision.transforms import transforms

train_loader = torch.utils.data.DataLoader(
   torchvision.datasets.CIFAR10(
       data,
       train=True,
       transform=torchvision.transforms.Compose([
           transforms.RandomCrop(32, padding=4),
           transforms.RandomHorizontalFlip(),
           transforms.ToTensor(),
           transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))])),
   batch_size=opt.batch_size,
   shuffle=True)

val_loader = torch.utils.data.DataLoader(
   torchvision.datasets.CIFAR10(
       data,
       train=False,
       transform=torchvision.transforms.Compose([
           transforms.ToTensor(),
           transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))])),
   batch_size=opt.batch_size,
   shuffle=False)
"""

SENGUPTA_ANN = DIEHL_ANN.replace("Diehl2015", "VGG16")  # word for word but for the network

SENGUPTA_SNN = """
from n3ml.model import VGG16, SVGG16
snn = SVGG16(ann, batch_size=opt.batch_size)
snn.eval()
"""

SENGUPTA_THRESHOLD = """
from n3ml.threshold import spikenorm
threshold = spikenorm(train_loader=train_loader,
                encoder=lambda x: torch.mul(torch.le(torch.rand_like(x), torch.abs(x)*1.0).float(),
                                            torch.sign(x)),
                model=snn, num_steps=opt.num_steps, scaling_factor=opt.scaling_factor)

snn.update_threshold(threshold)
"""


CUDA = pytest.param(True, marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))


def run(opt, cuda, monkeypatch, parts, *, ann):
    """Executes the listings and returns their names; ``ann`` makes the network they call so."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    if not cuda:
        # Printed without a question.
        monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor)
        monkeypatch.setattr(nn.Module, "cuda", lambda module: module)
    torch.manual_seed(0)
    names = {"opt": opt}
    for part in parts:
        if part in (DIEHL_THRESHOLD, SENGUPTA_SNN):
            names["ann"] = ann()
            names["ann"].load_state_dict(torch.load(opt.save)["model"])
        exec(compile(part.replace("n3ml", "snnfast"), "manual", "exec"), names)
    return names


@pytest.mark.parametrize("cuda", [False, CUDA])
def test_diehl_snippet_runs_as_printed(tmp_path, monkeypatch, capsys, cuda):
    lay_mnist(tmp_path, train=rows_of_classes(40), t10k=rows_of_classes(20))
    opt = SimpleNamespace(data=str(tmp_path), save=tmp_path / "ann.pt", batch_size=10, num_epochs=4, num_steps=30)
    parts = (*(IMPORTS, DIEHL_DATA, FUNCTIONS, DIEHL_ANN, DIEHL_SNN, WEIGHTS, DIEHL_THRESHOLD), INFERENCE)
    names = run(opt, cuda, monkeypatch, parts, ann=snnfast.model.Diehl2015)
    printed = capsys.readouterr().out
    assert printed.count("In test, loss") == 4
    assert "Total images: 20 - val. accuracy" in printed
    snn, saved = names["snn"], names["saved_state_dict"]["model"]
    for name, weight in saved.items():
        torch.testing.assert_close(snn.get_parameter(name).cpu(), weight.cpu(), rtol=0, atol=0)
    assert [t.item() for t in snn.thresholds] == [t.item() for t in names["threshold"]]
    assert snn.batch_size == 10
    assert names["best_acc"] > 0.3
    # Twice as good as chance, at the least, after four epochs and thirty steps.
    assert names["num_corrects"].item() / names["total_images"] > 0.2


@pytest.mark.parametrize("cuda", [False, CUDA])
def test_sengupta_snippet_runs_as_printed(tmp_path, monkeypatch, capsys, cuda):
    """On images of the right shape, and with the manual's network, narrower."""
    plan = (4, 4, "P", 6, 6, "P", 8, 8, 8, "P", 8, 8, 8, "P", 8, 8, 8)
    vgg16 = partial(snnfast.model.VGG16, plan, (16, 16))
    monkeypatch.setattr(snnfast.model, "VGG16", vgg16)

    def cifar10(root, train, transform):
        size = 12 if train else 8
        return torchvision.datasets.FakeData(size, (3, 32, 32), transform=transform)

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", cifar10)
    opt = SimpleNamespace(
        data=str(tmp_path), save=tmp_path / "ann.pt", batch_size=4, num_epochs=1, num_steps=20, scaling_factor=0.7
    )
    parts = (
        *(IMPORTS, SENGUPTA_DATA, FUNCTIONS, SENGUPTA_ANN, SENGUPTA_SNN, WEIGHTS),
        *(SENGUPTA_THRESHOLD, INFERENCE),
    )
    names = run(opt, cuda, monkeypatch, parts, ann=vgg16)
    assert "Total images: 8 - val. accuracy" in capsys.readouterr().out
    snn = names["snn"]
    assert len(names["threshold"]) == 16
    assert all(t.item() > 0 for t in names["threshold"])
    assert [t.item() for t in snn.thresholds] == [t.item() for t in names["threshold"]]
    assert names["outs"].shape == (4, 10)
    torch.testing.assert_close(names["outs"], names["outs"].round(), rtol=0, atol=0)
