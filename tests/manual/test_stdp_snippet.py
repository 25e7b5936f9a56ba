"""The STDP section of n3ml's manual, as printed, with ``n3ml`` replaced by ``snnfast``."""

# ruff: noqa: W291, W293  the manual as printed

from types import SimpleNamespace

import matplotlib as mpl
import numpy
import pytest
import torch
from mnist import lay_mnist

pytest.importorskip("torchvision")

# What the manual's listings take for granted; the scripts it names import plot from there.
IMPORTS = """
import time

import torch
from n3ml.visualizer import plot

fig, mat = None, None
"""

DATA = """
import torchvision
from torchvision.transforms import transforms

train_loader = torch.utils.data.DataLoader(
    torchvision.datasets.MNIST(
        opt.data,
        train=True,
        transform=torchvision.transforms.Compose([
            transforms.ToTensor(), transforms.Lambda(lambda x: x * 32 * 4)])),
    batch_size=opt.batch_size,
    shuffle=True)
"""

ENCODER = """
from n3ml.encoder import PoissonEncoder
# Define an encoder to generate spike train for an image
encoder = PoissonEncoder(opt.time_interval)
"""

MODEL = """
from n3ml.model import DiehlAndCook2015
# Define a model
model = DiehlAndCook2015(neurons=100)
"""

TRAINING = """
for epoch in range(opt.num_epochs):
    start = time.time()
    for step, (images, labels) in enumerate(train_loader):
        # Initialize a model
        model.init_param()

        # Encode images into spiked_images 
        images = images.view(1, 28, 28)
        spiked_images = encoder(images)
        spiked_images = spiked_images.view(opt.time_interval, -1)
        # spiked_images = spiked_images.cuda()

        # Train a model
        for t in range(opt.time_interval):
            
            # feed forward to SNN
            model.run({'inp': spiked_images[t]})

            # Update weights using STDP learning rule
            model.update()

        # Normalize weights
        model.normalize()
        
        #Observe how the weights are changing during training process
        w = model.xe.w.detach().cpu().numpy()
        fig, mat = plot(fig, mat, w)       
"""


def test_stdp_snippet_runs_as_printed(tmp_path):
    mpl.use("Agg")
    images = torch.zeros(3, 28, 28, dtype=torch.uint8)
    for i, image in enumerate(images):
        image[8 * i + 2 : 8 * i + 8, 6:22] = 255
    part = images.numpy(), torch.arange(len(images), dtype=torch.uint8).numpy()
    lay_mnist(tmp_path, train=part, t10k=part)
    torch.manual_seed(0)
    opt = SimpleNamespace(data=str(tmp_path), batch_size=1, time_interval=60, num_epochs=1)
    names = {"opt": opt}
    for part in (IMPORTS, DATA, ENCODER, MODEL):
        exec(compile(part.replace("n3ml", "snnfast"), "manual", "exec"), names)
    before = names["model"].xe.w.clone()
    exec(compile(TRAINING.replace("n3ml", "snnfast"), "manual", "exec"), names)
    model = names["model"]
    learned = (model.xe.w != before).any(1)
    assert learned.any()
    torch.testing.assert_close(model.xe.w[learned].sum(1), torch.full_like(before[learned, 0], 78.4))
    torch.testing.assert_close(model.exc.theta > 0, learned, rtol=0, atol=0)
    torch.testing.assert_close(torch.from_numpy(names["w"]), model.xe.w, rtol=0, atol=0)
    # 100 neurons as 10 by 10 tiles with a pixel between them, showing the weights of now.
    shown = names["mat"].get_array()
    assert shown.shape == (289, 289)
    numpy.testing.assert_array_equal(shown[29:57, 58:86], names["w"][12].reshape(28, 28))
    from matplotlib import pyplot

    pyplot.close(names["fig"])
