"""Training by STBP, spatio-temporal backpropagation (Wu et al. 2018), on digits and MNIST."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.optim.lr_scheduler import CosineAnnealingLR

from snnfast_zoo.train import Run, evaluate, fit
from snnfast_zoo.train.figures import curves
from snnfast_zoo.train.fit import recalibrate, refuse_without_norm
from snnfast_zoo.train.images import Augmented, augmentation, classes, load
from snnfast_zoo.train.place import Data, Place
from snnfast_zoo.train.procedure import Procedure
from snnfast_zoo.train.result import Result
from snnfast_zoo.train.score import Part
from snnfast_zoo.train.settings import SOURCES, option

from .model import Wu2018, preset

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class StbpSettings(Augmented):
    """Settings of a run of STBP."""

    name = "stbp"

    dataset: str = option(
        "digits",
        f"digits (in the package), mnist, or your own images or frames of events: {SOURCES}.",
        choices=("digits", "mnist"),
        user_data=True,
    )
    hidden: tuple[int, ...] | None = option(
        None,
        "Fully connected network with this many hidden neurons; repeat for more layers. "
        "Default: the convolutional network.",
        least=1,
    )
    width: float = option(1.0, "Factor on the channels and neurons of the convolutional network.", above=0)
    voters: int = option(1, "Output neurons of a class; its rate is their mean.", least=1)
    num_steps: int = option(5, "Time steps per image; frames have their own.", least=1, flag="--steps")
    encoding: str = option("bernoulli", "bernoulli or direct; frames are direct.", choices=("bernoulli", "direct"))
    batch_norm: bool = option(False, "Batch norm over images and steps before all neurons.")
    epochs: int = option(20, "Epochs; also the length of the learning rate's cosine to 0.", least=0)
    batch_size: int = option(100, "Images in each step.", least=1)
    lr: float = option(1e-3, "Adam's initial learning rate.", above=0)
    precision: str = option(
        "float32",
        "float32, or bfloat16 for products and convolutions; membranes stay float32.",
        choices=("float32", "bfloat16"),
    )


def chosen(dataset: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of docs/results.md; a user's data gets neutral settings, with batch norm."""
    hidden = changes.get("hidden")
    if dataset not in ("digits", "mnist"):
        neutral = {"num_steps": 8, "encoding": "direct", "batch_size": 32, "lr": 4e-3}
        # With few images the running statistics of batch norm lag behind.
        norm = {"batch_norm": True, "recalibrate": True}
        return neutral | (norm if changes.get("batch_norm", True) else {})
    network = preset(dataset, hidden)
    found = {name: network[name] for name in ("num_steps", "encoding", "batch_norm")}
    if dataset == "digits":
        return found | {"epochs": 20, "batch_size": 32, "lr": 4e-3}
    found |= {"shift": 1.0, "rotate": 10.0, "scale": 0.1, "elastic": 0.7}
    return found | ({"epochs": 24, "lr": 3e-3} if hidden is None else {"epochs": 60, "lr": 2e-3})


def model(settings: StbpSettings, data: Data) -> Wu2018:
    """Return the untrained network."""
    if data.train[0].dim() == 5 and settings.encoding != "direct":
        raise ValueError(f"stbp: encoding {settings.encoding} is for images, got frames")
    names = ("num_steps", "hidden", "width", "voters", "encoding", "batch_norm")
    network = Wu2018(
        input_shape=data.train[0].shape[-3:],
        num_classes=classes(settings.dataset, data),
        **{name: getattr(settings, name) for name in names},
    ).to(data.device)
    # Convolutions and poolings are faster in this layout, most in bfloat16; neurons read both layouts in place.
    return network.to(memory_format=torch.channels_last)  # type: ignore[no-any-return, call-overload]


def train(settings: StbpSettings, place: Place) -> Result:
    """Train, and score the held-out images."""
    with place.reading() as where:
        data = load(settings, frames=True, **where)
    torch.manual_seed(settings.seed)
    network = model(settings, data)
    if settings.recalibrate:
        refuse_without_norm(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.lr, fused=True)
    cosine = CosineAnnealingLR(optimizer, max(settings.epochs, 1))
    run = Run(network, optimizer, cosine, precision=getattr(torch, settings.precision))
    figures = {"curves": curves(settings, "STBP"), "raster": lambda run: raster(run.model, data.held_out)}
    place.begin(run, data, figures)
    fit(
        run,
        data.train,
        data.held_out,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        loss=rate_error,
        augment=augmentation(settings),
        calibrate=0.1 if settings.is_own else None,  # would change the published results
        output=place,
    )
    if settings.recalibrate:
        recalibrate(run, data.train[0])
    how: dict[str, Any] = {"batch_size": settings.batch_size, "precision": run.precision}
    accuracy = evaluate(network, data.held_out, loss=rate_error, **how).accuracy
    return place.finish(run, data, accuracy, revival="--batch-norm, or a lower --lr")


def rate_error(rates: Tensor, labels: Tensor) -> Tensor:
    """Return the mean squared error between output rates ``[B, classes]`` and one-hot labels, as in the manual.

    The paper's loss (its equation 5) sums over the classes and halves: the same up to a constant, which Adam ignores.
    """
    return F.mse_loss(rates, F.one_hot(labels, rates.shape[1]).to(rates))


def raster(network: nn.Module, images: Part, *, num_steps: int = 40) -> Figure:
    """Draw the spikes of the last hidden layer of a :class:`Wu2018` for the first of ``images``."""
    from snnfast_zoo import visual

    recorded: list[Tensor] = []
    hook = network.layers[-3].register_forward_hook(lambda m, x, spikes: recorded.append(spikes))  # type: ignore[index, union-attr]
    device = next(network.parameters()).device
    try:
        with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []):
            rates = network(images[0][:1].to(device), num_steps)
    finally:
        hook.remove()
    title = f"a {int(images[1][0])}, seen as {int(rates.argmax())}: spikes of the last hidden layer"
    return visual.raster(recorded[0], title=title)


stbp = Procedure(
    *("stbp", StbpSettings, chosen, partial(load, frames=True), model, train),
    paper="Wu et al. 2018",
    network="Wu2018",
    suffix=lambda settings: "-fc" if settings.hidden else "",
)
