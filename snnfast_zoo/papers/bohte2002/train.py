"""Training by SpikeProp (Bohte et al. 2002), on XOR, Iris, Wisconsin breast cancer, digits and MNIST."""

from __future__ import annotations

import math
import warnings
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.optim.lr_scheduler import CosineAnnealingLR

from snnfast.nn import SpikeProp, loss
from snnfast_zoo.train import Run, evaluate, fit, samples
from snnfast_zoo.train.figures import curves
from snnfast_zoo.train.place import Data, Place, extent_of
from snnfast_zoo.train.procedure import Procedure
from snnfast_zoo.train.result import Result
from snnfast_zoo.train.samples import classes
from snnfast_zoo.train.score import Decide, Loss, Part, Score

from . import figures as bohte2002_figures
from .codes import augmentation, coder, noisy
from .lif import LIFNetwork
from .model import Bohte2002
from .settings import SpikepropSettings, chosen


def load(
    settings: SpikepropSettings,
    root: str | Path | None = None,
    *,
    download: bool = False,
    device: torch.device | str = "cpu",
) -> Data:
    """Return the data of a run as spike times, in the parts of :func:`snnfast_zoo.train.samples.load`.

    The code is fitted to the training part without noise.
    """
    parts = samples.load(settings, root, download=download)
    encode = coder(settings, parts.train[0])
    copies = noisy(settings, parts.train[0]), parts.train[1].repeat(settings.copies)

    def part(values: Part) -> Part:
        return encode(values[0]).to(device), values[1].to(device)

    return Data(part(copies), part(parts.held_out), parts.split, parts.raw, extent_of(parts.train[0]))


def ready(settings: SpikepropSettings, x: Tensor) -> Tensor:
    """Return spike times; the codes of iris and cancer are fitted to their training parts."""
    values = x.flatten(1)
    fitted = settings.dataset in ("iris", "cancer", "xor")
    train = samples.load(settings).train[0] if fitted else values
    times: Tensor = coder(settings, train)(values.cpu())
    return times.to(x.device)


def model(settings: SpikepropSettings, data: Data) -> Bohte2002 | LIFNetwork:
    """Return the network, calibrated on the first 1,000 training samples."""
    times = data.train[0]
    outputs = 1 if settings.dataset == "xor" else classes(settings.dataset, data)
    how: dict[str, Any] = {name: getattr(settings, name) for name in ("t_max", "virtual", "slope_min")}
    network: Bohte2002 | LIFNetwork
    if settings.neurons == "lif":
        how |= {"tau_mem": settings.tau, "tau_syn": settings.tau_syn or settings.tau}
        how["max_spikes"] = settings.max_spikes
        network = LIFNetwork(times.shape[1], settings.hidden, outputs, **how)
    else:
        delays = settings.terminals if settings.terminals > 1 else [0.0]
        how["tau"] = settings.tau
        network = Bohte2002(times.shape[1], settings.hidden, outputs, delays, **how)
    network.reset_parameters(settings.low, 1.0)
    network.to(times.device)
    with warnings.catch_warnings():
        # Of neurons that no gain brings to fire_at; the end of a run names a layer that stays silent.
        warnings.filterwarnings("ignore", "calibrate: .* cannot fire")
        network.calibrate(times[:1000], torch.linspace(*settings.fire_at, len(network.layers)).tolist())
    return network


def train(settings: SpikepropSettings, place: Place) -> Result:
    """Train, score the held-out samples, and count bounded slopes."""
    with place.reading() as where:
        data = load(settings, **where)
    place.processes.refuse_several("spikeprop")
    torch.manual_seed(settings.seed)
    network = model(settings, data)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.lr, fused=True)
    cosine = CosineAnnealingLR(optimizer, max(settings.epochs, 1)) if settings.cosine else None
    run = Run(network, optimizer, cosine, score=Score(decide(settings)))
    # XOR: both parts are the same patterns.
    names = {"loss": "loss", "accuracy": "accuracy"} if settings.dataset == "xor" else None
    figures = {"curves": curves(settings, "SpikeProp", names)}
    if settings.neurons == "srm":
        figures |= bohte2002_figures.figures(settings.dataset, run, data.held_out)
    place.begin(run, data, figures)
    fit(
        run,
        data.train,
        data.held_out,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        loss=objective(settings),
        augment=augmentation(settings),
        calibrate=None,  # done by model
        output=place,
    )
    accuracy = evaluate(network, data.held_out, loss=objective(settings), decide=run.score.decide).accuracy
    measured: dict[str, Any] = {"clipped": None, "converged": converged(settings, run)}
    remarks = []
    if settings.neurons == "srm":
        measured["clipped"] = clipped_shares(network, data.held_out[0])
        shares = ("no spikes" if math.isnan(share) else f"{100 * share:.1f} %" for share in measured["clipped"])
        remarks.append(f"spikes whose slope is below slope_min, by layer: {', '.join(shares)}")
    revival = "an earlier --fire-at, or --slope-min 1 or more"
    return place.finish(run, data, accuracy, measured, remarks, revival=revival)


def decide(settings: SpikepropSettings) -> Decide:
    """Return the map from output times ``[B, O]`` to labels: first spike, for XOR the nearer target; else -1."""
    if settings.dataset != "xor":
        return lambda t: loss.first_spike(t, settings.t_max)
    middle = sum(settings.targets) / 2
    return lambda t: torch.where(t[:, 0] > settings.t_max, -1, (t[:, 0] < middle).long())


def answers(settings: SpikepropSettings, network: nn.Module, times: Tensor, folder: Path) -> Tensor:
    """Return the labels of input times."""
    return decide(settings)(network(times))


def objective(settings: SpikepropSettings) -> Loss:
    """Return the loss of a run, a function of output times ``[B, O]`` and labels ``[B]``."""
    if settings.loss == "cross-entropy":
        return partial(loss.first_spike_cross_entropy, t_max=settings.t_max)
    early, late = settings.targets

    def squared_error(t: Tensor, labels: Tensor) -> Tensor:
        wanted = labels[:, None] if t.shape[1] == 1 else F.one_hot(labels, t.shape[1])
        return loss.spike_time_squared_error(t, late + (early - late) * wanted.to(t))

    return squared_error


def converged(settings: SpikepropSettings, run: Run) -> int | None:
    """Return the first cycle of XOR whose sum of squared errors is below 1 ms^2; None if there is none."""
    if settings.dataset != "xor":
        return None
    # The loss is half the mean over the four patterns.
    learned = (i + 1 for i, row in enumerate(run.history) if 8 * row["loss"] < 1)
    return next(learned, None)


def clipped_shares(model: nn.Module, times: Tensor) -> list[float]:
    """Return :meth:`snnfast.nn.SpikeProp.clipped_share` by layer for the first 1,000 of the input times ``[N, I]``."""
    network = cast(Bohte2002, model)
    with torch.no_grad():
        heard = network.spike_times(times[:1000])
    return [cast(SpikeProp, layer).clipped_share(t) for layer, t in zip(network.layers, heard)]


spikeprop = Procedure(
    *("spikeprop", SpikepropSettings, chosen, load, model, train, ready, answers),
    paper="Bohte et al. 2002",
    network="Bohte2002",
)
