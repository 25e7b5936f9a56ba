"""Supervised training in epochs, with progress bars and checkpoints from which a run resumes bit for bit."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.optim.swa_utils import update_bn
from tqdm import tqdm

from snnfast import check
from snnfast.nn.calibration import calibrate_, firing_layers, look_for_time, rates

from .checkpoint import CheckpointError, read_checkpoint, same_settings, write_checkpoint
from .processes import Processes
from .score import EVALUATED, Loss, Part, Score, as_many_labels, batches, evaluate, largest, outputs_of

__all__ = ["Run", "Score", "Step", "descend", "evaluate", "fit", "largest"]

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]

# A run stops after this number of consecutive steps with a gradient that is not finite.
MOST_SKIPPED = 10
# fit calibrates a network with a layer whose initial firing rate is outside of this range.
DEAD, SATURATED = 0.01, 0.9
MINUTE = 60.0  # seconds between two lines of progress without a terminal


@dataclass
class Run:
    """A training run: everything that changes while it trains, which is the content of a checkpoint.

    Attributes:
        model: maps images ``[B, ...]`` to scores ``[B, classes]``.
        optimizer: steps once per batch; None for a rule that changes the weights itself.
        scheduler: steps once per epoch; None for a constant learning rate.
        settings: plain values that determine the run; a checkpoint resumes only with equal settings.
        kind: a few words that its checkpoints store, to tell them from those of other procedures.
        score: counts over the batches of the current epoch.
        epoch: epochs done.
        images: images presented in the current epoch.
        order: order of the images in the current epoch; None before it has begun.
        seconds: time spent on the current epoch, without saving and drawing.
        skipped: steps of the current epoch that changed nothing, because the gradient was not finite.
        history: one dictionary per epoch; see :func:`fit`.
        data: shape of the samples and names of their classes, for :func:`snnfast.load`.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer | None = None
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "run"
    score: Score = field(default_factory=Score)
    epoch: int = 0
    images: int = 0
    order: Tensor | None = None
    seconds: float = 0.0
    skipped: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    data: Mapping[str, Any] = field(default_factory=dict)

    # Fields that a checkpoint saves by value, and by state_dict.
    _plain = ("epoch", "images", "order", "seconds", "skipped", "history")
    _stateful = ("model", "optimizer", "scheduler", "score")

    def save(self, path: Path) -> None:
        """Write a checkpoint atomically: ``path`` holds the old or the new file at any moment."""
        parts = {name: getattr(self, name) for name in self._stateful}
        content = {
            "kind": self.kind,
            "settings": dict(self.settings),
            "data": dict(self.data),
            **{name: getattr(self, name) for name in self._plain},
            **{name: None if part is None else part.state_dict() for name, part in parts.items()},
            "rng": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        write_checkpoint(path, content)

    def load(self, path: Path) -> None:
        """Restore the run from the checkpoint ``path``, random-number state included.

        Raises:
            FileNotFoundError: there is no such file.
            CheckpointError: it is not a checkpoint of such a run, or its settings differ.
        """
        checkpoint = read_checkpoint(path, self.kind)
        try:
            same_settings(path, checkpoint["settings"], self.settings)
            for name in self._stateful:
                part = getattr(self, name)
                if part is not None:
                    part.load_state_dict(checkpoint[name])
            torch.set_rng_state(checkpoint["rng"])
            if torch.cuda.is_available() and checkpoint["rng_cuda"]:
                # A run may resume with fewer GPUs.
                torch.cuda.set_rng_state_all(checkpoint["rng_cuda"][: torch.cuda.device_count()])
            checkpoint.setdefault("skipped", 0)  # absent in checkpoints of earlier versions
            for name in self._plain:
                setattr(self, name, checkpoint[name])
        except CheckpointError:
            raise
        except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{path} does not fit this run: {error}") from error


def fit(
    run: Run,
    train: Part,
    held_out: Part | None,
    *,
    epochs: int,
    batch_size: int,
    loss: Loss | None = None,
    augment: Callable[[Tensor], Tensor] | None = None,
    mix: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None,
    precision: torch.dtype = torch.float32,
    clip: float | None = None,
    calibrate: float | None = 0.1,
    recalibrate: Callable[[Tensor], Tensor] | None = None,
    step: Step | None = None,
    order: Callable[[int], Tensor] | None = None,
    processes: Processes | None = None,
    checkpoint: str | Path | None = None,
    save_every: float = float("inf"),
    progress: bool | None = None,
    echo: Callable[[str], object] | None = tqdm.write,
    after_batch: Callable[[Run], None] | None = None,
    after_epoch: Callable[[Run], None] | None = None,
) -> Run:
    """Train ``run.model`` until ``epochs`` epochs are done, counted from the beginning of the run.

    Order, augmentation and encoding draw from torch's global generator: ``torch.manual_seed`` before the model is made
    fixes a run, and a checkpoint keeps the generator's state. The same machine, device and number of threads repeat a
    run bit for bit, interrupted in any batch or not.

    ``run.history`` gains one dictionary per epoch: ``loss`` and ``accuracy``, counted by ``run.score`` over the
    training batches while the weights change; ``held_out_loss`` and ``held_out_accuracy``; ``seconds``; and the
    optimizer's ``lr``. Accuracies are in [0, 1]. A step whose gradient is not finite changes nothing and is not
    counted; ``skipped`` is the number of such steps, if there were any. After 10 in a row the run stops with an error
    that says what to try.

    With several ``processes``, each takes its share of a common order, ``DistributedDataParallel`` averages the
    gradients, and counts are summed (``docs/processes.md``). Each draws its own random numbers for augmentation,
    encoding and dropout. The first process writes checkpoints, after epochs; they resume with any number of processes.

    Args:
        run: the run to train; its model may be on any device.
        train: images ``[N, ...]`` and labels int64 ``[N]``, on any device; shuffled every epoch.
        held_out: images and labels that are scored after every epoch; the training does not depend on them. None: no
            scoring.
        epochs: at least 0.
        batch_size: images in each step, of all processes together; the last batch of an epoch may be smaller.
        loss: scores ``[B, classes]`` and labels ``[B]`` to a scalar; may be None with a ``step`` and without
            ``held_out``.
        augment: changes the training images ``[B, ...]`` of a batch.
        mix: maps the images, after ``augment``, and the labels of a batch to the arguments of ``loss``, for example
            torchvision's ``v2.CutMix(num_classes=10)``, whose labels are shares ``[B, classes]``. Accuracies still
            count the labels of ``train``.
        precision: ``torch.bfloat16`` runs convolutions and products under autocast.
        clip: the largest norm of the gradient over all parameters; a larger gradient is scaled down to it. None: no
            limit.
        calibrate: before the first step of a run, if a spiking layer fires at less than 0.01 or more than 0.9 of the
            steps for the first batch, scale the weights so that all layers fire at this rate, by
            :func:`snnfast.nn.calibrate_`; a line says so. None: leave the weights as they are. With a ``step``, and for
            networks that :func:`snnfast.nn.calibrate_` refuses, the weights stay as they are.
        recalibrate: maps the training images ``[B, ...]`` of a batch to the input of the model in evaluation. With it,
            the means and variances of batch normalisation are computed anew after the last epoch, over all training
            images without ``augment``. None: they stay those of the last batches, as they were augmented.
        step: changes the weights by the images and labels of a batch, and returns the outputs of the model and the
            loss, or None for a rule without a loss; None: the optimizer follows the gradient of ``loss``.
        order: maps the number of an epoch to the order of its images; None: at random.
        processes: the processes that train together; None: this one alone. A ``step`` needs a single process.
        checkpoint: file written after every epoch.
        save_every: seconds after which it is also written within an epoch.
        progress: show a progress bar; None: only if standard error is a terminal.
        echo: called with one line for each epoch; None for silence.
        after_batch: called after every batch but the last of an epoch, for example to draw.
        after_epoch: called after every epoch.

    Raises:
        TypeError, ValueError: for a negative number of epochs, a batch size below 1, no training images, another number
            of labels or in an order, another precision, ``recalibrate`` without batch normalisation, or gradients or
            a loss that are not finite.
    """
    epochs = check.whole("fit", "epochs", epochs, 0)
    batch_size = check.whole("fit", "batch_size", batch_size)
    clip = None if clip is None else check.positive("fit", "clip", clip)
    calibrate = None if calibrate is None else check.positive("fit", "calibrate", calibrate)
    if precision not in (torch.float32, torch.bfloat16):
        raise ValueError(f"fit: precision must be torch.float32 or torch.bfloat16, got {check.shown(precision)}")
    checkpoint = None if checkpoint is None else Path(checkpoint)
    n = len(train[0])
    if n == 0:
        raise ValueError("fit: train holds no images")
    for name, part in {"train": train, "held_out": held_out}.items():
        if part is not None:
            as_many_labels("fit", name, part)
    if run.order is not None and len(run.order) != n:
        raise ValueError(f"fit: the epoch began with {len(run.order)} training images, got {n}")
    if held_out is not None and loss is None:
        raise ValueError("fit: held_out needs a loss to score it by, got loss=None")
    group = Processes() if processes is None else processes
    if group.size > 1 and step is not None:
        raise ValueError(
            "fit: a rule with a step of its own trains in one process; use several for seeds side by side (--seeds)"
        )
    if isinstance(run.scheduler, ReduceLROnPlateau):
        raise TypeError(
            "fit: run.scheduler must step without a value; step ReduceLROnPlateau in after_epoch, by run.history"
        )
    if recalibrate is not None and not any(isinstance(m, _BatchNorm) for m in run.model.modules()):
        raise ValueError("fit: recalibrate needs batch normalisation, the model has none")
    look_for_time("fit", run.model)
    if group.size > 1:
        save_every = float("inf")  # within an epoch the counts are spread over all processes
        batch_size = -(-batch_size // group.size)
    if not group.first:
        checkpoint = echo = after_batch = after_epoch = None
        progress = False
    in_a_row = 0  # consecutive skipped steps
    with _deterministic_convolutions():
        if calibrate is not None and step is None and epochs > 0 and _untouched(run):
            # Evenly spaced: the samples may be sorted by class.
            chosen = torch.linspace(0, n - 1, min(batch_size, n)).long()
            images, _ = next(batches(run.model, train, batch_size, chosen))
            _calibrate(run.model, images, augment, calibrate, echo)
        learn = _gradient_step(run, loss, precision, clip, group) if step is None else step
        while run.epoch < epochs:
            title = f"epoch {run.epoch + 1}/{epochs}"
            rate = {} if run.optimizer is None else {"lr": run.optimizer.param_groups[0]["lr"]}
            clock = saved = time.perf_counter()
            if run.order is None:
                run.score.start()
                images_in_order = torch.randperm(n) if order is None else order(run.epoch)
                check.shape("fit", "order", images_in_order, (n,))
                run.order = images_in_order
                if group.size > 1:
                    run.order, seed = group.gather((run.order, int(torch.randint(2**62, ()))))[0]
                    if not group.first:
                        torch.manual_seed(seed + group.rank)
            mine = group.share(run.order)
            with progress_bar(title, len(mine), done=run.images, progress=progress) as bar:
                run.model.train()
                for images, labels in batches(run.model, train, batch_size, mine[run.images :]):
                    images = images if augment is None else augment(images)
                    images, targets = (images, labels) if mix is None else mix(images, labels)
                    try:
                        outputs, value = learn(images, targets)
                    except _NotFiniteError as error:
                        in_a_row, run.skipped = in_a_row + 1, run.skipped + 1
                        if in_a_row == MOST_SKIPPED:
                            raise ValueError(_not_finite(error, in_a_row, title)) from None
                    else:
                        in_a_row = 0
                        run.score.add(outputs, labels, value)
                    run.images += len(labels)
                    if bar.update(len(labels)):
                        bar.set_postfix_str(str(run.score), refresh=False)
                    if run.images == len(mine):
                        break
                    due = checkpoint is not None and time.perf_counter() - saved >= save_every
                    if due or after_batch is not None:
                        run.seconds += time.perf_counter() - clock
                        if checkpoint is not None and due:
                            run.save(checkpoint)
                            saved = time.perf_counter()
                        if after_batch is not None:
                            after_batch(run)
                        clock = time.perf_counter()
            if group.size > 1:
                run.score.gather(group)
            row = run.score.row()
            if not row.get("loss", 0.0) < float("inf"):
                raise ValueError(f"fit: the loss became {row['loss']} in {title}{WAYS_OUT}")
            row |= {"skipped": run.skipped} if run.skipped else {}
            if run.scheduler is not None:
                run.scheduler.step()
            if recalibrate is not None and run.epoch + 1 == epochs:
                _recalibrate(run.model, train, recalibrate, precision)
            if held_out is not None and loss is not None:
                group.same_buffers(run.model)
                images, labels = (values[group.rank :: group.size] for values in held_out)
                how: dict[str, Any] = {"batch_size": batch_size, "decide": run.score.decide, "precision": precision}
                scored = evaluate(run.model, (images, labels), loss=loss, **how)
                if group.size > 1:
                    scored.gather(group)
                row |= {"held_out_loss": scored.loss, "held_out_accuracy": scored.accuracy}
            row |= {"seconds": run.seconds + time.perf_counter() - clock, **rate}
            run.history.append(row)
            run.epoch, run.images, run.order, run.seconds = run.epoch + 1, 0, None, 0.0
            run.skipped = 0
            if checkpoint is not None:
                run.save(checkpoint)
            if echo is not None:
                echo(f"{title}: {describe(row)}")
            if after_epoch is not None:
                after_epoch(run)
    return run


def _gradient_step(
    run: Run, loss: Loss | None, precision: torch.dtype, clip: float | None, processes: Processes
) -> Step:
    optimizer, model = run.optimizer, run.model
    if optimizer is None or loss is None:
        raise ValueError("fit: give run an optimizer and fit a loss, or give fit a step")

    parallel = processes.parallel(model)

    def step(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        outputs = outputs_of(parallel, images, precision)
        value = loss(outputs, labels)
        optimizer.zero_grad()
        value.backward()
        descend(model, optimizer, clip)
        return outputs, value

    return step


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, clip: float | None) -> None:
    """Step along the gradients of ``model``, clipped to a norm; also for a ``step`` of :func:`fit`.

    Raises:
        an error that :func:`fit` counts: the gradient is not finite. The weights are unchanged.
    """
    # A gradient whose norm is not finite would make all weights NaN, clipped or not.
    parameters = [p for p in model.parameters() if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if not norm.isfinite():
        raise _NotFiniteError(f"the norm of the gradient is {norm.item():g}")
    if clip is not None:
        nn.utils.clip_grads_with_norm_(parameters, clip, norm)
    optimizer.step()


class _NotFiniteError(Exception):
    """The gradient of a step is not finite; the weights are unchanged."""


WAYS_OUT = (
    "; try a lower learning rate, clip= (--clip) for the norm of the gradient, smaller recurrent weights (a spectral "
    "radius below 1), or fewer steps"
)


def _not_finite(error: Exception, steps: int, title: str) -> str:
    return f"fit: {error} in {steps} steps in a row, in {title}; none of them changed the weights{WAYS_OUT}"


def _untouched(run: Run) -> bool:
    """Return whether the run has made no step yet."""
    return run.epoch == 0 and run.images == 0 and not (run.optimizer and run.optimizer.state)


def _calibrate(
    model: nn.Module,
    images: Tensor,
    augment: Callable[[Tensor], Tensor] | None,
    rate: float,
    echo: Callable[[str], object] | None,
) -> None:
    """Calibrate a network with a silent or a saturated layer, and report it."""
    if not firing_layers(model):
        return
    with torch.random.fork_rng([images.device] if images.is_cuda else []):
        images = images if augment is None else augment(images)
    try:
        before = rates(model, images)
        dead = {name: r for name, r in before.items() if not DEAD <= r <= SATURATED}
        if not dead:
            return
        calibrate_(model, images, rate)
    except (TypeError, ValueError):  # compiled, or a loop over steps: the layers themselves warn
        return
    if echo is not None:
        shown = ", ".join(f"{name} at {r:.3g}" for name, r in dead.items())
        echo(f"fires at the beginning: {shown} of the steps; weights scaled to a rate of {rate:g}")


def _recalibrate(model: nn.Module, train: Part, ready: Callable[[Tensor], Tensor], precision: torch.dtype) -> None:
    """Compute the statistics of batch normalisation over all of ``train``; every process computes the same."""
    device = next(model.parameters()).device
    with torch.autocast(device.type, precision, enabled=precision != torch.float32):
        update_bn((ready(images) for images, _ in batches(model, train, EVALUATED)), model)


def progress_bar(title: str, images: int, *, done: int = 0, progress: bool | None = None) -> Any:
    """Return a progress bar over ``images`` images, of which ``done`` are done.

    With ``progress=None`` it is a bar if standard error is a terminal, otherwise a line per minute.

    It appears after a moment, so that short epochs do not flicker.
    """
    if progress is None and not sys.stderr.isatty():
        return _Lines(title, images, done)
    return tqdm(
        total=images,
        initial=done,
        desc=title,
        unit="img",
        disable=progress is False,
        delay=0.2,
        leave=False,
        dynamic_ncols=True,
    )


class _Lines:
    """Progress without a terminal: a line per minute to standard error, with the interface of tqdm."""

    def __init__(self, title: str, images: int, done: int) -> None:
        self.title, self.images, self.done = title, images, done
        self.said, self.due = time.perf_counter(), False

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, images: int = 1) -> bool:
        """Count images; return whether a line is due, which waits for its text until the next update."""
        if self.due:
            self.set_postfix_str("")
        self.done += images
        self.due = time.perf_counter() - self.said >= MINUTE
        return self.due

    def set_postfix_str(self, text: str, refresh: bool = True) -> None:
        """Write the line if it is due."""
        if self.due:
            shown = f", {text}" if text else ""
            tqdm.write(f"{self.title}: {self.done}/{self.images}{shown}", file=sys.stderr)
            self.said, self.due = time.perf_counter(), False


@contextmanager
def _deterministic_convolutions() -> Iterator[None]:
    """Use deterministic convolutions; the fastest ones of cuDNN would make a resumed run drift."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


def describe(row: Mapping[str, float]) -> str:
    """Return a row of the history as text."""
    names = {"accuracy": "training", "held_out_accuracy": "held out"}
    shown = [f"loss {row['loss']:.4f}"] if "loss" in row else []
    shown += [f"{name} {100 * row[key]:.2f} %" for key, name in names.items() if key in row]
    if "skipped" in row:
        shown.append(f"{row['skipped']} steps skipped, gradient not finite")
    return ", ".join([*shown, f"{row['seconds']:.1f} s"])
