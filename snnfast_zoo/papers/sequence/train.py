"""Training on sequences: memory tasks, images by rows and pixels, recordings, and user data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.optim.lr_scheduler import CosineAnnealingLR

from snnfast.learning import EProp
from snnfast.nn import calibrate_
from snnfast.nn.loss import ce_steps
from snnfast.reference.surrogate import Surrogate
from snnfast_zoo import data as sets
from snnfast_zoo.data.sequences import TASKS, SequenceTask, binary_adding, copy_memory, delayed_xor
from snnfast_zoo.data.splits import permutation
from snnfast_zoo.train import Run, Step, descend, evaluate, fit, images, samples
from snnfast_zoo.train.figures import Draw, curves
from snnfast_zoo.train.place import Data, Place
from snnfast_zoo.train.procedure import Procedure
from snnfast_zoo.train.result import Result
from snnfast_zoo.train.score import Decide, Loss, Part, Score
from snnfast_zoo.train.settings import SOURCES, FoldedSettings, option

from .events import EventNetwork
from .figures import sample
from .model import NEURONS, READOUTS, SequenceNetwork

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GENERATED = {"adding": binary_adding, "xor": delayed_xor, "copy": copy_memory}
IMAGES = {"smnist": SequenceTask(28, 10), "psmnist": SequenceTask(1, 10)}
RECORDINGS = {"qtdb": SequenceTask(4, len(sets.QTDB_CLASSES), None), "nmnist": SequenceTask(2 * 34 * 34, 10)}
SEEDS = {"train": 1, "validation": 2, "test": 3}  # seeds of the generated samples
HELD_OUT = 2000
CALIBRATED = 256  # number of sequences used to calibrate the rates
EVENTS = "events"
SURROGATES = ("atan", "fast_sigmoid", "gaussian", "rectangle", "sigmoid", "triangle")


@dataclass(frozen=True, kw_only=True)
class SequenceSettings(FoldedSettings):
    """Settings of a run on sequences."""

    name = "sequence"

    dataset: str = option(
        "adding",
        "adding, xor or copy (generated); smnist (MNIST by rows) or psmnist (permuted MNIST by pixels); qtdb or nmnist "
        f"(recordings); or your own sequences, frames of events, or images, by rows: {SOURCES}.",
        choices=(*GENERATED, *IMAGES, *RECORDINGS),
        flag="--task --dataset",
        user_data=True,
    )
    num_steps: int = option(100, "Steps of a generated sequence.", least=10, flag="--steps")
    samples: int = option(20000, "How many training sequences to generate.", least=1)
    hidden: tuple[int, ...] = option((192,), "Neurons of a layer; repeat for more layers.", least=1)
    neuron: str = option(
        "adlif",
        "lif, alif, adlif, brf (balanced resonators), or events: lif by exact events, learned by EventProp.",
        choices=(*NEURONS, EVENTS),
    )
    recurrent: bool = option(True, "Feed the spikes of a layer back to it.")
    spikes_adapt: bool = option(
        False, "Only spikes drive the adaptation of adlif (a is 0), which then remembers longer."
    )
    max_delay: float = option(0.0, "Longest learned delay of the spikes that are fed back, in steps.", least=0)
    readout: str = option("last", "last, max or mean membrane.", choices=tuple(READOUTS))
    tau: float = option(20.0, "Time constant of lif, alif and events, in steps.", least=1)
    omega: tuple[float, float] = option(
        (3.0, 10.0), "Lowest and highest frequency with which brf begins, in radians a 100 steps.", least=0, below=100
    )
    tau_out: float = option(5.0, "Time constant of the readout, in steps.", least=1)
    surrogate: str = option("fast_sigmoid", "Surrogate gradient of the spikes.", choices=SURROGATES)
    alpha: float | None = option(None, "Steepness of the surrogate gradient; default: the surrogate's own.", above=0)
    gain: float | None = option(
        None,
        "Factor on the initial input weights of every layer of neurons; default: so that each layer fires at a tenth "
        "of the steps.",
        above=0,
    )
    leads: float = option(
        0.0,
        "Augmentation of qtdb: exchange the two leads in this share of the sequences; invert a lead in half as many.",
        least=0,
        most=1,
    )
    epochs: int = option(50, "Epochs; also the length of the learning rate's cosine.", least=0)
    updates: int = option(
        0, "Least number of steps of the optimizer: few sequences get more epochs than --epochs.", least=0
    )
    batch_size: int = option(64, "Sequences in each step.", least=1)
    lr: float = option(3e-3, "Adam's initial learning rate.", above=0)
    clip: float = option(1.0, "Clip gradients to this norm.", above=0)
    rule: str = option(
        "bptt",
        "bptt (backpropagation through time) or eprop (e-prop: gradients do not flow through recurrent spikes).",
        choices=("bptt", "eprop"),
    )

    @property
    def learns_xor(self) -> bool:
        """False: the task "xor" of sequences differs from that of the four patterns."""
        return False

    def __post_init__(self) -> None:
        super().__post_init__()
        generated = f"generated sequences, {', '.join(GENERATED)}"
        self._only("num_steps", self.dataset in GENERATED, generated, self.dataset)
        self._only("samples", self.dataset in GENERATED, generated, self.dataset)
        one_answer = self.dataset not in ("copy", "qtdb")
        self._only("readout", one_answer, "tasks with one answer", self.dataset)
        self._only("folds", self.dataset == "nmnist", "nmnist", self.dataset)
        self._only("leads", self.dataset == "qtdb", "qtdb", self.dataset)
        self._only("max_delay", self.recurrent, "recurrent layers", "recurrent=False")
        self._only("max_delay", self.rule == "bptt", "bptt", self.rule)
        self._only("spikes_adapt", self.neuron == "adlif", "adlif", self.neuron)
        self._only("omega", self.neuron == "brf", "brf", self.neuron)
        self._only("tau", self.neuron in ("lif", "alif", EVENTS), "lif, alif and events", self.neuron)
        if self.neuron == EVENTS:
            if self.dataset in (*GENERATED, *IMAGES, "qtdb"):
                raise ValueError(
                    f"sequence: neurons events are for frames of events, such as nmnist, not {self.dataset}"
                )
            for name in ("max_delay", "rule", "tau_out", "surrogate", "alpha", "gain"):
                self._only(name, False, f"neurons that run in steps, {', '.join(NEURONS)}", self.neuron)
            if self.readout == "last":
                raise ValueError("sequence: neurons events take readout mean or max, got last")


def chosen(dataset: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of docs/results.md, or neutral settings for user data."""
    found = dict(CHOSEN.get(f"{dataset} {changes.get('neuron')}", CHOSEN.get(dataset, NEUTRAL)))
    if not changes.get("recurrent", True):
        found.pop("max_delay", None)
    if "epochs" in changes and not changes.get("updates"):
        found.pop("updates", None)
    return found


def load(
    settings: SequenceSettings,
    root: str | Path | None = None,
    *,
    download: bool = False,
    device: torch.device | str = "cpu",
) -> Data:
    """Return sequences ``[N, T, in_features]`` and labels; generated parts differ in their seeds."""
    raw: tuple[int, ...] = ()
    if settings.dataset in GENERATED:
        make, num_steps = GENERATED[settings.dataset], settings.num_steps
        parts = (
            make(count, num_steps, seed=SEEDS[name])
            for name, count in (("train", settings.samples), (settings.held_out, HELD_OUT))
        )
    elif settings.dataset in RECORDINGS:
        if root is None:
            raise ValueError(f"sequence: {settings.dataset} needs its folder: root= (--data)")
        found = (qtdb if settings.dataset == "qtdb" else nmnist)(settings, Path(root))
        raw = tuple(found[0][0].shape[1:])
        parts = ((rows(settings.dataset, x), labels) for x, labels in found)
    else:
        source = "mnist" if settings.dataset in IMAGES else settings.dataset
        opened = [images.part(source, split, root, download, frames=True) for split in settings.splits]
        raw = tuple(opened[0][0].shape[1:])
        parts = ((rows(settings.dataset, x), labels) for x, labels in opened)
    train, held_out = ((x.to(device), labels.to(device)) for x, labels in parts)
    return Data(train, held_out, settings.held_out, raw)


def ready(settings: SequenceSettings, x: Tensor) -> Tensor:
    """Return images as rows, and frames and generated sequences unchanged."""
    return x if settings.dataset in (*GENERATED, "qtdb") else rows(settings.dataset, x)


def model(settings: SequenceSettings, data: Data) -> SequenceNetwork | EventNetwork:
    """Return the initial network."""
    known = {**TASKS, **IMAGES, **RECORDINGS}.get(settings.dataset)
    inferred = SequenceTask(data.train[0].shape[2], images.classes(settings.dataset, data))
    task = inferred if known is None else known
    # Evenly spaced: the samples may be sorted by class.
    x = data.train[0]
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


CHOSEN: dict[str, dict[str, Any]] = {
    "adding": {"epochs": 64, "gain": 20.0},
    "xor": {"samples": 10000, "hidden": (64,), "epochs": 15, "gain": 60.0},
    "copy": {"hidden": (128,), "gain": 60.0, "max_delay": 100.0, "tau_out": 1.0, "epochs": 30},
    "smnist": {"hidden": (128,), "readout": "mean", "epochs": 20, "gain": 5.0},
    "psmnist": {"hidden": (64, 212, 212), "readout": "mean", "epochs": 27, "batch_size": 8, "lr": 0.012, "gain": 40.0},
    "psmnist brf": {
        **{"hidden": (256,), "omega": (15.0, 85.0), "readout": "mean", "tau_out": 20.0, "gain": 60.0},
        **{"epochs": 30, "batch_size": 8, "lr": 0.03, "alpha": 5.0},
    },
    "qtdb": {"hidden": (100,), "epochs": 40, "batch_size": 4, "lr": 0.04, "alpha": 5.0, "leads": 0.5},
    "nmnist events": {"hidden": (128,), "recurrent": False, "readout": "mean", "epochs": 10, "batch_size": 32},
    "nmnist": {"hidden": (256,), "recurrent": False, "readout": "mean", "epochs": 20, "batch_size": 32, "lr": 0.03},
}

NEUTRAL: dict[str, Any] = {
    **{"hidden": (128,), "readout": "mean", "epochs": 20, "updates": 500},
    **{"batch_size": 16, "lr": 0.01},  # calibrated weights are large; Adam's steps do not grow with them
}


def rows(dataset: str, x: Tensor) -> Tensor:
    """Return images ``[N, C, H, W]`` as sequences of rows, frames ``[N, T, C, H, W]`` as flat sequences.

    Images of "psmnist" become sequences of pixels in a fixed random order.
    """
    if dataset == "qtdb":
        return x
    if dataset != "psmnist":
        return (x if x.dim() == 5 else x.transpose(1, 2)).flatten(2)
    order = torch.from_numpy(permutation("psmnist", 784, 0))
    return x.flatten(1)[:, order].unsqueeze(2)


def qtdb(settings: SequenceSettings, root: Path) -> tuple[Part, Part]:
    """Return the heartbeats of a run.

    Some eight consecutive sequences are of one patient, and the test part has other patients than the training part.
    Validation therefore takes three stretches of the training part, each a twentieth of it.
    """
    x, labels = sets.qtdb(root)
    if not settings.validate:
        return (x, labels), sets.qtdb(root, train=False)
    n, size = len(x), len(x) // 20
    if not size:
        raise ValueError(f"qtdb: validation takes three twentieths of the training part, 20 sequences or more, got {n}")
    held_out = torch.zeros(n, dtype=torch.bool)
    for start in (0, (n - size) // 2, n - size):
        held_out[start : start + size] = True
    return (x[~held_out], labels[~held_out]), (x[held_out], labels[held_out])


def with_other_leads(x: Tensor, share: float) -> Tensor:
    """Exchange the leads in ``share`` of the electrocardiograms ``[B, T, 4]``, and invert each lead in half as many.

    The channels are rises and falls of the first lead, then of the second one.
    """
    leads = x.unflatten(2, (2, 2))
    exchanged = torch.rand(len(x), 1, 1, 1, device=x.device) < share
    inverted = torch.rand(len(x), 1, 2, 1, device=x.device) < share / 2
    leads = torch.where(exchanged, leads.flip(2), leads)
    return torch.where(inverted, leads.flip(3), leads).flatten(2)


def nmnist(settings: SequenceSettings, root: Path) -> tuple[Part, Part]:
    """Return the recordings of a run: the set's two parts, or folds of their union."""
    lists = [next(iter(sorted(root.glob(f"{name}*.txt"))), root) for name in ("train", "test")]
    found = [sets.nmnist(source, train) for source, train in zip(lists, (True, False))]
    train, test = ((part.frames, part.labels) for part in found)
    if settings.folds is not None:
        whole = torch.cat([train[0], test[0]]), torch.cat([train[1], test[1]])
        return samples.folded(settings, settings.folds, whole)
    if not settings.validate:
        return train, test
    x, labels = train
    inner = sets.stratified_folds(labels, 12, seed=0) == 0
    return (x[~inner], labels[~inner]), (x[inner], labels[inner])


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


def each_step(logits: Tensor) -> Tensor:
    """Return labels ``[B, T]`` for logits ``[B, T, classes]``."""
    return logits.argmax(-1)


def steps_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy over labelled steps; logits ``[B, T, classes]``, labels ``[B, T]``."""
    return ce_steps(logits.transpose(0, 1), labels.transpose(0, 1))


def predicted(logits: Tensor) -> Tensor:
    """Return labels ``[B]``; ``[B, outputs, classes]`` gives one number whose lowest digit is the first output."""
    found = logits.argmax(-1)
    if found.dim() == 1:
        return found
    places = logits.shape[-1] ** torch.arange(found.shape[1], device=found.device)
    return (found * places).sum(1)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy over samples and outputs; labels as in :func:`predicted`."""
    if logits.dim() == 2:
        return F.cross_entropy(logits, labels)
    classes = logits.shape[-1]
    places = classes ** torch.arange(logits.shape[1], device=labels.device)
    digits = labels[:, None] // places % classes
    return F.cross_entropy(logits.flatten(0, 1), digits.flatten())


sequence = Procedure(
    *("sequence", SequenceSettings, chosen, load, model, train, ready, answers),
    paper="backpropagation through time",
    network="SequenceNetwork",
    suffix=lambda settings: f"-{settings.neuron}",
)
