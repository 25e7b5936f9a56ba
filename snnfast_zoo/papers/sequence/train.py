"""Training on sequences by backpropagation through time or e-prop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from snnfast.learning import EProp
from snnfast.nn import calibrate_
from snnfast.reference.surrogate import Surrogate
from snnfast_zoo.data.sequences import SequenceTask
from snnfast_zoo.train import Run, Step, descend, evaluate, fit, images
from snnfast_zoo.train.figures import Draw, curves
from snnfast_zoo.train.place import Data, Place
from snnfast_zoo.train.procedure import Procedure
from snnfast_zoo.train.result import Result
from snnfast_zoo.train.score import Decide, Loss, Score

from .answers import cross_entropy, each_step, predicted, steps_cross_entropy
from .data import KNOWN, load, ready, with_other_leads
from .events import EventNetwork
from .figures import sample
from .model import SequenceNetwork
from .settings import EVENTS, SequenceSettings, chosen

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CALIBRATED = 256  # number of sequences used to calibrate the rates


def model(settings: SequenceSettings, data: Data) -> SequenceNetwork | EventNetwork:
    """Return the initial network."""
    x = data.train[0]
    task = KNOWN.get(settings.dataset) or SequenceTask(x.shape[2], images.classes(settings.dataset, data))
    # Evenly spaced: the samples may be sorted by class.
    few = x[torch.linspace(0, len(x) - 1, min(CALIBRATED, len(x))).long()]
    if settings.neuron == EVENTS:
        how = {name: getattr(settings, name) for name in ("recurrent", "readout", "tau")}
        events = EventNetwork(task.in_features, settings.hidden, task.classes, num_steps=x.shape[1], **how)
        events.to(data.device).calibrate(few)
        return events
    names = ("neuron", "recurrent", "spikes_adapt", "max_delay", "readout", "tau", "omega", "tau_out")
    surrogate = settings.surrogate
    network = SequenceNetwork(
        task.in_features,
        settings.hidden,
        task.classes,
        outputs=task.outputs,
        surrogate=surrogate if settings.alpha is None else Surrogate(surrogate, settings.alpha),
        gain=settings.gain or 1.0,
        **{name: getattr(settings, name) for name in names},
    ).to(data.device)
    if settings.gain is None:
        calibrate_(network, few)
    return network


def train(settings: SequenceSettings, place: Place) -> Result:
    """Train, score the held-out sequences, and measure the rates of the neurons."""
    with place.reading() as where:
        data = load(settings, **where)
    torch.manual_seed(settings.seed)
    network = model(settings, data)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.lr, fused=True)
    epochs = max(settings.epochs, -(-settings.updates // -(-len(data.train[0]) // settings.batch_size)))
    cosine = CosineAnnealingLR(optimizer, max(epochs, 1))
    # Clip: recurrence makes some gradients very large.
    run = Run(network, optimizer, cosine, clip=settings.clip, score=Score(decide(settings)))
    place.begin(run, data, figures(settings, run, data))
    loss = steps_cross_entropy if settings.dataset == "qtdb" else cross_entropy
    fit(
        run,
        data.train,
        data.held_out,
        epochs=epochs,
        batch_size=settings.batch_size,
        loss=loss,
        augment=(lambda x, y: (with_other_leads(x, settings.leads), y)) if settings.leads else None,
        step=eprop(run, loss, settings) if settings.rule == "eprop" else None,
        calibrate=None,  # done by model, unless the gain is set
        output=place,
    )
    accuracy = evaluate(network, data.held_out, loss=loss, decide=run.score.decide).accuracy
    count = sum(p.numel() for p in network.parameters())
    with torch.no_grad():
        rates = [round(s.mean().item(), 4) for s in network.spikes(data.held_out[0][:100])]
    remark = f"{count} parameters, spikes a neuron and step {', '.join(f'{r:.3f}' for r in rates)}"
    revival = "another --gain (none: calibrated), or a lower --lr"
    return place.finish(run, data, accuracy, {"parameters": count, "rates": rates}, [remark], revival=revival)


def figures(settings: SequenceSettings, run: Run, data: Data) -> dict[str, Draw]:
    """Return the curves, and the first held-out sample with its spikes and class probabilities over time."""
    x, label = (part[0] for part in data.held_out)

    def first(run: Run) -> Figure:
        title = f"{settings.dataset}: a {settings.held_out} sample"
        return sample(run.model, x, label, run.data["classes"], title=title)

    # A label of "copy" is five symbols, not one class; exact events have no answer at every step.
    answered = settings.dataset != "copy" and settings.neuron != EVENTS
    return {"curves": curves(settings, "Sequences"), **({"sample": first} if answered else {})}


def decide(settings: SequenceSettings) -> Decide:
    """Return the function from logits to predicted labels."""
    return each_step if settings.dataset == "qtdb" else predicted


def answers(settings: SequenceSettings, network: nn.Module, x: Tensor, folder: Path) -> Tensor:
    """Return the labels of sequences."""
    return decide(settings)(network(x))


def eprop(run: Run, loss: Loss, settings: SequenceSettings) -> Step:
    """Return a training step by e-prop on whole sequences."""
    network = cast(SequenceNetwork, run.model)
    optimizer = cast(torch.optim.Optimizer, run.optimizer)
    found: list[Tensor] = []  # the loss of the last step

    def scored(v: Tensor, labels: Tensor) -> Tensor:
        found[:] = [loss(network.read(v), labels)]
        return found[0]

    feedback = "symmetric" if len(network.layers) == 4 else "random"
    # A resumed run draws the same feedback.
    drawn = torch.Generator().manual_seed(settings.seed)
    learn = EProp(network.layers, scored, feedback=feedback, generator=drawn)

    def step(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        optimizer.zero_grad()
        learn.reset()
        v = learn.step(network.time_first(x), labels)
        descend(network, optimizer, settings.clip)
        return network.read(v), found[0]

    return step


sequence = Procedure(
    *("sequence", SequenceSettings, chosen, load, model, train, ready, answers),
    paper="backpropagation through time",
    network="SequenceNetwork",
    suffix=lambda settings: f"-{settings.neuron}",
)
