"""A small network and its training."""

import torch

from snnfast.train import fit
from snnfast_zoo.papers.procedures import stbp
from snnfast_zoo.papers.wu2018.procedure import rate_error
from snnfast_zoo.train.runs import images
from snnfast_zoo.train.runs.run import Data

DATA = (torch.rand(40, 1, 8, 8), torch.arange(40) % 10)


def tiny(seed=0, epochs=4, **changes):
    settings = stbp.Settings(num_steps=3, epochs=epochs, batch_size=16, shift=1.0, seed=seed, **changes)
    return settings, stbp.prepare(settings, Data(DATA, DATA))


def go(settings, run, epochs, **options):
    return fit(
        run,
        DATA,
        DATA,
        epochs=epochs,
        batch_size=settings.batch_size,
        loss=rate_error,
        augment=images.augmentation(settings),
        progress=False,
        echo=None,
        **options,
    )
