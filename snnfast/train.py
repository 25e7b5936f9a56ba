"""Supervised training in epochs, with progress, and checkpoints from which a run goes on bit for bit."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

CHECKPOINT_FORMAT = 1

Loss = Callable[[Tensor, Tensor], Tensor]
Decide = Callable[[Tensor], Tensor]
Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def largest(outputs: Tensor) -> Tensor:
    """The class of the largest of ``[B, classes]``."""
    return outputs.argmax(1)


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read, or belongs to another run."""


class Stateful(Protocol):
    """What a checkpoint holds besides tensors: optimizers, schedulers, models."""

    def state_dict(self) -> dict[str, Any]:
        """The state as plain containers and tensors."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Takes the state over."""


@dataclass
class Run:
    """A training run: everything that changes from epoch to epoch, and so all that a checkpoint holds.

    Attributes:
        model: maps images ``[B, ...]`` to scores ``[B, classes]``.
        optimizer: steps once a batch; None for a rule that changes the weights itself.
        scheduler: steps once an epoch; None for a constant learning rate.
        settings: plain values that decide the course of the run; a checkpoint resumes only under the same.
        epoch: epochs done.
        history: one dictionary an epoch; see :func:`fit`.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer | None = None
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Writes a checkpoint; ``path`` holds the old one or the new one at any moment, never a part."""
        content = {
            "settings": dict(self.settings),
            "epoch": self.epoch,
            "history": self.history,
            "model": self.model.state_dict(),
            "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "rng": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        write_checkpoint(path, content)

    def load(self, path: Path) -> None:
        """Goes on where the checkpoint ``path`` ended, random numbers included.

        Raises:
            FileNotFoundError: there is no such file.
            CheckpointError: it is no checkpoint of this package, or one of a run with other settings.
        """
        checkpoint = read_checkpoint(path)
        same_settings(path, checkpoint["settings"], self.settings)
        try:
            self.model.load_state_dict(checkpoint["model"])
            if self.optimizer is not None:
                self.optimizer.load_state_dict(checkpoint["optimizer"])
            if self.scheduler is not None:
                self.scheduler.load_state_dict(checkpoint["scheduler"])
            torch.set_rng_state(checkpoint["rng"])
            if torch.cuda.is_available() and checkpoint["rng_cuda"]:
                torch.cuda.set_rng_state_all(checkpoint["rng_cuda"])
        except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{path} does not fit this run: {error}") from error
        self.epoch, self.history = checkpoint["epoch"], checkpoint["history"]


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a checkpoint; ``path`` holds the old one or the new one at any moment, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with temporary.open("wb") as stream:
            torch.save({"format": CHECKPOINT_FORMAT, **content}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU; nothing in it is executed.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is no checkpoint of this package.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever unpickling a broken or foreign file raises
        raise CheckpointError(f"{path} is no readable checkpoint: {error}") from error
    if not isinstance(checkpoint, dict) or checkpoint.get("format") != CHECKPOINT_FORMAT:
        raise CheckpointError(
            f"{path} is no checkpoint of this version of snnfast (format {CHECKPOINT_FORMAT})"
        )
    return checkpoint


def same_settings(path: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raises CheckpointError unless the settings in the checkpoint ``path`` are those of this run."""
    differing = [
        f"{name}: {_shown(there, name)} there, {_shown(here, name)} here"
        for name in sorted({*there, *here})
        if there.get(name) != here.get(name)
    ]
    if differing:
        raise CheckpointError(
            f"{path} is of a run with other settings ({'; '.join(differing)}); give the same or start anew"
        )


def load_weights(model: nn.Module, path: Path) -> None:
    """Gives ``model`` the weights of a checkpoint and leaves everything else of it alone.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is no checkpoint of this package, or one of another network.
    """
    weights = read_checkpoint(path)["model"]
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit this network: {error}") from error


def fit(
    run: Run,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    epochs: int,
    batch_size: int,
    loss: Loss,
    decide: Decide = largest,
    augment: Callable[[Tensor], Tensor] | None = None,
    precision: torch.dtype = torch.float32,
    step: Step | None = None,
    checkpoint: Path | None = None,
    progress: bool | None = None,
    echo: Callable[[str], object] | None = tqdm.write,
    after_epoch: Callable[[Run], None] | None = None,
) -> Run:
    """Trains ``run.model`` until ``epochs`` epochs are done, counted from the run's beginning.

    Order, augmentation and encoding draw from torch's global generator: ``torch.manual_seed`` before the model is made
    fixes a run, and a checkpoint keeps the generator's state. The same machine, device and number of threads repeat a
    run bit for bit, interrupted or not.

    ``run.history`` gains one dictionary an epoch: ``loss`` and ``accuracy`` (over the epoch's training batches, while
    the weights change), ``test_loss`` and ``test_accuracy``, ``seconds``, and the optimizer's ``lr``; accuracies in
    [0, 1].

    Args:
        run: what is trained; its model may be on any device.
        train: images ``[N, ...]`` and labels int64 ``[N]``, on any device; shuffled every epoch.
        test: held-out images and labels, scored after every epoch; nothing is chosen by them.
        epochs: at least 0.
        batch_size: images a step; the last batch of an epoch may be smaller.
        loss: scores ``[B, classes]`` and labels ``[B]`` to a scalar.
        decide: scores ``[B, classes]`` to predicted labels ``[B]``.
        augment: changes the training images ``[B, ...]`` of a batch.
        precision: ``torch.bfloat16`` runs convolutions and products under autocast.
        step: changes the weights by the images and labels of a batch, and returns what the model answered and the
            loss; None: the optimizer follows the gradient of ``loss``.
        checkpoint: file written after every epoch.
        progress: show a progress bar; None: if standard error is a terminal.
        echo: takes a line an epoch; None for silence.
        after_epoch: called after every epoch, for example to draw.

    Raises:
        ValueError: for a negative number of epochs, a batch size below 1, no training images, or a loss that is not
            finite.
    """
    if epochs < 0:
        raise ValueError(f"fit: epochs must not be negative, got {epochs}")
    if batch_size < 1:
        raise ValueError(f"fit: batch_size must be at least 1, got {batch_size}")
    if len(train[0]) == 0:
        raise ValueError("fit: train holds no images")
    learn = _gradient_step(run, loss, precision) if step is None else step
    with _deterministic_convolutions():
        while run.epoch < epochs:
            start = time.perf_counter()
            title = f"epoch {run.epoch + 1}/{epochs}"
            rate = {} if run.optimizer is None else {"lr": run.optimizer.param_groups[0]["lr"]}
            score = Score(decide)
            order = torch.randperm(len(train[0]))
            with _bar(title, len(order), progress) as bar:
                run.model.train()
                for images, labels in batches(run.model, train, batch_size, order):
                    images = images if augment is None else augment(images)
                    outputs, value = learn(images, labels)
                    score.add(outputs, labels, value)
                    if bar.update(len(labels)):
                        bar.set_postfix_str(str(score), refresh=False)
            if not score.loss < float("inf"):
                raise ValueError(f"fit: the loss became {score.loss} in {title}")
            if run.scheduler is not None:
                run.scheduler.step()
            held_out = evaluate(
                run.model,
                test,
                batch_size=batch_size,
                loss=loss,
                decide=decide,
                precision=precision,
            )
            run.epoch += 1
            run.history.append(
                {
                    "loss": score.loss,
                    "accuracy": score.accuracy,
                    "test_loss": held_out.loss,
                    "test_accuracy": held_out.accuracy,
                    "seconds": time.perf_counter() - start,
                    **rate,
                }
            )
            if checkpoint is not None:
                run.save(checkpoint)
            if echo is not None:
                echo(describe(title, run.history[-1]))
            if after_epoch is not None:
                after_epoch(run)
    return run


def _gradient_step(run: Run, loss: Loss, precision: torch.dtype) -> Step:
    optimizer = run.optimizer
    if optimizer is None:
        raise ValueError("fit: run must have an optimizer, unless a step is given")

    def step(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        outputs = answer(run.model, images, precision)
        value = loss(outputs, labels)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return outputs, value

    return step


def _bar(title: str, images: int, progress: bool | None) -> Any:
    disable = None if progress is None else not progress
    return tqdm(
        total=images, desc=title, unit="img", disable=disable, leave=False, dynamic_ncols=True
    )


@contextmanager
def _deterministic_convolutions() -> Iterator[None]:
    """The fastest convolutions of cuDNN add up in any order: a resumed run would drift from an uninterrupted one."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


def describe(title: str, row: Mapping[str, float]) -> str:
    """An epoch's row of the history as a line of text."""
    return (
        f"{title}: loss {row['loss']:.4f}, training {100 * row['accuracy']:.2f} %, "
        f"held out {100 * row['test_accuracy']:.2f} %, {row['seconds']:.1f} s"
    )


class Score:
    """Mean loss and accuracy over batches."""

    def __init__(self, decide: Decide = largest) -> None:
        self.images = 0
        self._decide = decide
        self._loss: Tensor | float = 0.0
        self._correct: Tensor | int = 0

    def __str__(self) -> str:
        return f"loss {self.loss:.4f}, {100 * self.accuracy:.2f} %"

    def add(self, outputs: Tensor, labels: Tensor, loss: Tensor) -> None:
        """Counts a batch; ``loss`` is its mean."""
        # Stays on the device: reading a number here would make a GPU wait in every step.
        self.images += len(labels)
        self._loss = self._loss + loss.detach() * len(labels)
        self._correct = self._correct + (self._decide(outputs.detach()) == labels).sum()

    @property
    def loss(self) -> float:
        """Mean loss an image; NaN without images."""
        return float(self._loss) / self.images if self.images else float("nan")

    @property
    def accuracy(self) -> float:
        """Share of correct answers; NaN without images."""
        return int(self._correct) / self.images if self.images else float("nan")


def evaluate(
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    *,
    loss: Loss,
    decide: Decide = largest,
    batch_size: int = 500,
    precision: torch.dtype = torch.float32,
) -> Score:
    """Scores ``model`` on ``data`` in evaluation mode, which it is left in.

    The random numbers of a stochastic encoding are drawn from torch's global generator, and its state is put back.
    """
    model.eval()
    score = Score(decide)
    devices = {p.device for p in model.parameters() if p.is_cuda}
    with torch.no_grad(), torch.random.fork_rng(devices=[d.index for d in devices]):
        for images, labels in batches(model, data, batch_size):
            outputs = answer(model, images, precision)
            score.add(outputs, labels, loss(outputs, labels))
    return score


def batches(
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    batch_size: int,
    order: Tensor | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of ``data``, in ``order`` if given, on the device of ``model``."""
    device = next(model.parameters()).device
    images, labels = data
    indices = torch.arange(len(images)) if order is None else order
    for chosen in indices.split(batch_size):
        yield (
            images[chosen.to(images.device)].to(device, non_blocking=True),
            labels[chosen.to(labels.device)].to(device, non_blocking=True),
        )


def answer(model: nn.Module, images: Tensor, precision: torch.dtype) -> Tensor:
    """Scores of ``images``; products and convolutions in ``precision``, the scores in float32 or longer."""
    if precision == torch.float32:
        return model(images)  # type: ignore[no-any-return]
    with torch.autocast(images.device.type, precision):
        outputs = model(images)
    # A loss in bfloat16 would round, and so would the sum over an epoch.
    return outputs.float()  # type: ignore[no-any-return]


def _shown(settings: Mapping[str, Any], name: str) -> str:
    return repr(settings[name]) if name in settings else "nothing"
