"""The BP-STDP part of n3ml's user manual, with n3ml -> snnfast; a comment in Korean, n3ml's TODO, is translated."""

import io
from contextlib import redirect_stdout
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

MODEL = """
import n3ml.model
import n3ml.encoder
import n3ml.optimizer

# Make a model
model = n3ml.model.TravanaeiAndMaida2017(opt.num_classes, hidden_neurons=opt.hidden_neurons)
model.reset_variables()

# Make an encoder
encoder = n3ml.encoder.Simple(time_interval=opt.time_interval)

# Make an optimizer
optimizer = n3ml.optimizer.TavanaeiAndMaida(model, lr=opt.lr)
"""

FUNCTIONS = '''
def mse(r: torch.Tensor,
        z: torch.Tensor,
        label: int,
        epsilon: int = 4) -> torch.Tensor:
    """
    :param r: (time interval, # classes) the spike trains of output neurons in T ms
    :param z: (time interval, # classes) the desired spike trains in T ms
    :return:
    """
    e = torch.zeros_like(r)
    for t in range(e.size(0)):
        if z[t, label] > 0.5:
            tt = t-epsilon if t-epsilon > 0 else 0
            for i in range(e.size(1)):
                if i == label:
                    if torch.sum(r[tt:t, i]) < 0.5:
                        e[t, i] = 1
                else:
                    if torch.sum(r[tt:t, i]) > 0.5:
                        e[t, i] = -1
    T = r.size(0)
    return (torch.sum(e, dim=[0, 1])/T)**2

def train(loader, model, encoder, optimizer, criterion, opt) -> None:
    plotter = Plot()

    num_images = 0
    total_loss = 0.0
    num_corrects = 0

    list_loss = []
    list_acc = []

    for image, label in loader:
        # Squeeze batch dimension
        # Now, batch processing isn't supported
        image = image.squeeze(dim=0)
        label = label.squeeze()

        spiked_image = encoder(image)
        spiked_image = spiked_image.view(spiked_image.size(0), -1)

        spiked_label = label_encoder(label, opt.beta, opt.num_classes, opt.time_interval)

        # print(label)
        # print(spiked_label)
        # exit(0)

        # np_spiked_image = spiked_image.numpy()

        spike_buffer = {
            'inp': [],
            'fc1': [],
            'fc2': []
        }

        loss_buffer = []

        print()
        print("label: {}".format(label))

        for t in range(opt.time_interval):
            # print(np_spiked_image[t])

            model(spiked_image[t])

            spike_buffer['inp'].append(spiked_image[t].clone())
            spike_buffer['fc1'].append(model.fc1.o.clone())
            spike_buffer['fc2'].append(model.fc2.o.clone())

            loss_buffer.append(model.fc2.o.clone())

            for l in spike_buffer.values():
                if len(l) > 5:  # TODO: express 5 by epsilon
                    l.pop(0)

            # print(model.fc1.u.numpy())
            # print(model.fc1.o.numpy())
            # print(model.fc2.u.numpy())
            print(model.fc2.o.numpy())

            # time.sleep(1)

            optimizer.step(spike_buffer, spiked_label[t], label)

        model.reset_variables(w=False)

        num_images += 1
        num_corrects += accuracy(r=torch.stack(loss_buffer), label=label)
        total_loss += criterion(r=torch.stack(loss_buffer), z=spiked_label, label=label, epsilon=opt.epsilon)

        if num_images > 0 and num_images % 30 == 0:
            list_loss.append(total_loss / num_images)
            list_acc.append(float(num_corrects) / num_images)

            plotter.update(y1=np.array(list_acc), y2=np.array(list_loss))

def validate(loader, model, encoder, criterion, opt):
    num_images = 0
    total_loss = 0.0
    num_corrects = 0

    for image, label in loader:
        image = image.squeeze(dim=0).cuda()
        label = label.squeeze().cuda()

        spiked_image = encoder(image)
        spiked_image = spiked_image.view(spiked_image.size(0), -1)

        spiked_label = label_encoder(label, opt.beta, opt.num_classes, opt.time_interval)

        loss_buffer = []

        for t in range(opt.time_interval):
            model(spiked_image[t])

            loss_buffer.append(model.fc2.o.clone())

        model.reset_variables(w=False)

        num_images += 1
        num_corrects += accuracy(r=torch.stack(loss_buffer), label=label)
        total_loss += criterion(r=torch.stack(loss_buffer), z=spiked_label, label=label, epsilon=opt.epsilon)

    return total_loss/num_images, float(num_corrects)/num_images


def label_encoder(label, beta, num_classes, time_interval):
    r = torch.zeros((time_interval, num_classes))
    r[:, label] = torch.rand(time_interval) <= (beta/1000)
    return r

class Plot:
    def __init__(self):
        plt.ion()
        self.fig, self.ax = plt.subplots(figsize=(10, 10))
        self.ax2 = self.ax.twinx()
        plt.title('BP-STDP')

    def update(self, y1, y2):
        x = torch.arange(y1.shape[0]) * 30

        ax1 = self.ax
        ax2 = self.ax2

        ax1.plot(x, y1, 'g')
        ax2.plot(x, y2, 'b')

        ax1.set_xlabel('number of images')
        ax1.set_ylabel('accuracy', color='g')
        ax2.set_ylabel('loss', color='b')

        self.fig.canvas.draw()
        self.fig.canvas.flush_events()


def accuracy(r: torch.Tensor, label: int) -> torch.Tensor:
    """
    :param r: (time interval, # classes) the spike trains of output neurons in T ms
    :param label:
    :return:
    """
    return (torch.argmax(torch.sum(r, dim=0)) == label).float()
'''


@pytest.fixture
def names(monkeypatch):
    torch.manual_seed(0)
    # The manual's validation says .cuda(), and its network stays on the CPU.
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)
    opt = SimpleNamespace(num_classes=10, hidden_neurons=30, time_interval=20, lr=0.01, beta=250, epsilon=4)
    names = {"opt": opt, "torch": torch, "np": np, "plt": plt}
    for part in (FUNCTIONS, MODEL):
        exec(compile(part.replace("n3ml", "snnfast"), "manual", "exec"), names)
    yield names
    plt.close("all")


def loader(images, labels):
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), batch_size=1)


def test_bp_stdp_snippet_runs_as_printed(names):
    labels = torch.arange(32) % 10
    data = loader(torch.rand(32, 1, 28, 28) * 0.3, labels)
    before = [w.clone() for w in names["model"].weights]
    printed = io.StringIO()
    with redirect_stdout(printed):
        for name in ("model", "encoder", "optimizer", "opt"):
            assert name in names
        names["train"](data, names["model"], names["encoder"], names["optimizer"], names["mse"], names["opt"])
    assert "label: 3" in printed.getvalue()
    assert all((w != old).any() for w, old in zip(names["model"].weights, before))
    after = [w.clone() for w in names["model"].weights]
    loss, accuracy = names["validate"](data, names["model"], names["encoder"], names["mse"], names["opt"])
    assert loss >= 0
    assert 0 <= accuracy <= 1
    for w, old in zip(names["model"].weights, after):
        torch.testing.assert_close(w, old, rtol=0, atol=0)
