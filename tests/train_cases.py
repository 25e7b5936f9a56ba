"""A small network and its training."""

import torch

from snnfast.train import Output, Run, fit
from snnfast_zoo.papers.procedures import stbp
from snnfast_zoo.papers.wu2018.train import rate_error
from snnfast_zoo.train import images
from snnfast_zoo.train.place import Data

DATA = (torch.rand(40, 1, 8, 8), torch.arange(40) % 10)
QUIET = {"progress": False, "echo": None}


def tiny(seed=0, epochs=4, **changes):
    settings = stbp.Settings(num_steps=3, epochs=epochs, batch_size=16, shift=1.0, seed=seed, **changes)
    torch.manual_seed(seed)
    model = stbp.model(settings, Data(DATA, DATA))
    optimizer = torch.optim.Adam(model.parameters(), settings.lr, fused=True)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    return settings, Run(model, optimizer, cosine, settings=settings.plain(), kind="stbp")


def go(settings, run, epochs, checkpoint=None, after_epoch=None):
    return fit(
        run,
        DATA,
        DATA,
        epochs=epochs,
        batch_size=settings.batch_size,
        loss=rate_error,
        augment=images.augmentation(settings),
        output=Output(checkpoint, after_epoch=after_epoch, **QUIET),
    )
