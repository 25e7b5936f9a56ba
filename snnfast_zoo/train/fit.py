"""The loop over epochs and batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.optim.swa_utils import update_bn

from snnfast import check
from snnfast.nn.calibration import calibrate_, firing_layers, look_for_time, rates

from .progress import progress_bar
from .run import Output, Run
from .score import EVALUATED, Loss, Part, as_many_labels, batches, evaluate, outputs_of

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]
Augment = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

# A run stops after this number of consecutive steps with a gradient that is not finite.
MOST_SKIPPED = 10
# fit calibrates a network with a layer whose initial firing rate is outside of this range.
DEAD, SATURATED = 0.01, 0.9


@check.keywords
def fit(
    run: Run,
    train: Part,
    held_out: Part | None,
    *,
    epochs: int,
    batch_size: int,
    loss: Loss | None = None,
    augment: Augment | None = None,
    step: Step | None = None,
    calibrate: float | None = 0.1,
    output: Output | None = None,
) -> Run:
    """Train ``run.model`` until ``epochs`` epochs are done, counted from the beginning of the run.

    Order, augmentation and encoding draw from torch's global generator: ``torch.manual_seed`` before the model is made
    fixes a run, and a checkpoint keeps the generator's state. The same machine, device and number of threads repeat a
    run bit for bit, interrupted after any epoch or not.

    ``run.history`` gains one dictionary per epoch: ``loss`` and ``accuracy``, counted by ``run.score`` over the
    training batches while the weights change; ``held_out_loss`` and ``held_out_accuracy``; ``seconds``; and the
    optimizer's ``lr``. Accuracies are in [0, 1]. A step whose gradient is not finite changes nothing and is not
    counted; ``skipped`` is the number of such steps, if there were any. After 10 in a row the run stops with an error
    that says what to try.

    With several processes in ``output``, each takes its share of a common order, ``DistributedDataParallel`` averages
    the gradients, and counts are summed (``docs/processes.md``). Each draws its own random numbers for augmentation,
    encoding and dropout. The first process writes checkpoints; they resume with any number of processes.

    Args:
        run: the run to train; its model may be on any device.
        train: images ``[N, ...]`` and labels int64 ``[N]``, on any device; shuffled every epoch.
        held_out: images and labels that are scored after every epoch; the training does not depend on them. None: no
            scoring.
        epochs: at least 0.
        batch_size: images in each step, of all processes together; the last batch of an epoch may be smaller.
        loss: scores ``[B, classes]`` and labels ``[B]`` to a scalar; may be None with a ``step`` and without
            ``held_out``.
        augment: maps the training images ``[B, ...]`` and labels of a batch to the input of the model and the labels
            of the loss, which may be shares ``[B, classes]``. Accuracies still count the labels of ``train``.
        step: changes the weights by the images and labels of a batch, and returns the outputs of the model and the
            loss, or None for a rule without a loss; None: the optimizer follows the gradient of ``loss``.
        calibrate: before the first step of a run, if a spiking layer fires at less than 0.01 or more than 0.9 of the
            steps for the first batch, scale the weights so that all layers fire at this rate, by
            :func:`snnfast.nn.calibrate_`; a line says so. None: leave the weights as they are. With a ``step``, and for
            networks that :func:`snnfast.nn.calibrate_` refuses, the weights stay as they are.
        output: checkpoint, progress bar, lines and processes; None: a bar in a terminal, and a line per epoch.

    Raises:
        TypeError, ValueError: for a negative number of epochs, a batch size below 1, no training images, another number
            of labels, another precision, or gradients or a loss that are not finite.
    """
    epochs = check.integer("fit", "epochs", epochs, 0)
    batch_size = check.integer("fit", "batch_size", batch_size)
    calibrate = None if calibrate is None else check.positive("fit", "calibrate", calibrate)
    n = len(train[0])
    if n == 0:
        raise ValueError("fit: train holds no images")
    for name, part in {"train": train, "held_out": held_out}.items():
        if part is not None:
            as_many_labels("fit", name, part)
    if held_out is not None and loss is None:
        raise ValueError("fit: held_out needs a loss to score it by, got loss=None")
    output = Output() if output is None else output
    processes = output.processes
    if step is not None:
        processes.refuse_several("fit")
    if isinstance(run.scheduler, ReduceLROnPlateau):
        raise TypeError(
            "fit: run.scheduler must step without a value; step ReduceLROnPlateau in Output(after_epoch=), by "
            "run.history"
        )
    look_for_time("fit", run.model)
    share = -(-batch_size // processes.size)
    with deterministic_convolutions():
        if calibrate is not None and step is None and epochs > run.epoch == 0 and _untouched(run):
            # Evenly spaced: the samples may be sorted by class.
            first = next(batches(run.model, train, batch_size, torch.linspace(0, n - 1, min(batch_size, n)).long()))
            _calibrate(run.model, first, augment, calibrate, output)
        learn = gradient_step(run, loss, output) if step is None else step
        while run.epoch < epochs:
            title, start = f"epoch {run.epoch + 1}/{epochs}", time.perf_counter()
            rate = {} if run.optimizer is None else {"lr": run.optimizer.param_groups[0]["lr"]}
            skipped = in_a_row = 0
            order = processes.common_order(torch.randperm(n))
            run.model.train()
            run.score.start()
            with progress_bar(title, len(order), progress=output.progress if processes.first else False) as bar:
                for images, labels in batches(run.model, train, share, order):
                    images, targets = (images, labels) if augment is None else augment(images, labels)
                    try:
                        outputs, value = learn(images, targets)
                    except _NotFiniteError as error:
                        skipped, in_a_row = skipped + 1, in_a_row + 1
                        if in_a_row == MOST_SKIPPED:
                            raise ValueError(_not_finite(error, in_a_row, title)) from None
                    else:
                        in_a_row = 0
                        run.score.add(outputs, labels, value)
                    if bar.update(len(labels)):
                        bar.set_postfix_str(str(run.score), refresh=False)
            run.score.gather(processes)
            row = run.score.row()
            if not row.get("loss", 0.0) < float("inf"):
                raise ValueError(f"fit: the loss became {row['loss']} in {title}{WAYS_OUT}")
            row |= {"skipped": skipped} if skipped else {}
            if run.scheduler is not None:
                run.scheduler.step()
            if held_out is not None and loss is not None:
                processes.same_buffers(run.model)
                images, labels = (values[processes.rank :: processes.size] for values in held_out)
                how: dict[str, Any] = {"decide": run.score.decide, "precision": run.precision, "batch_size": share}
                scored = evaluate(run.model, (images, labels), loss=loss, **how)
                scored.gather(processes)
                row |= {"held_out_loss": scored.loss, "held_out_accuracy": scored.accuracy}
            output.end_epoch(run, title, {**row, "seconds": time.perf_counter() - start, **rate})
    return run


def gradient_step(run: Run, loss: Loss | None, output: Output) -> Step:
    """Return the step along the gradient of ``loss``, by the optimizer of ``run``."""
    model, optimizer, clip, precision = run.model, run.optimizer, run.clip, run.precision
    if optimizer is None or loss is None:
        raise ValueError("fit: give run an optimizer and fit a loss, or give fit a step")
    clip = None if clip is None else check.positive("fit", "clip", clip)
    if precision not in (torch.float32, torch.bfloat16):
        raise ValueError(f"fit: precision must be torch.float32 or torch.bfloat16, got {check.shown(precision)}")
    parallel = output.processes.parallel(model)

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

    Args:
        model: has gradients.
        optimizer: steps along them.
        clip: the largest norm of the gradient over all parameters; None: no limit.

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
    "; try a lower learning rate, Run(clip=) (--clip) for the norm of the gradient, smaller recurrent weights (a "
    "spectral radius below 1), or fewer steps"
)


def _not_finite(error: Exception, steps: int, title: str) -> str:
    return f"fit: {error} in {steps} steps in a row, in {title}; none of them changed the weights{WAYS_OUT}"


def _untouched(run: Run) -> bool:
    """Return whether the optimizer has made no step yet."""
    return not (run.optimizer and run.optimizer.state)


def _calibrate(model: nn.Module, batch: Part, augment: Augment | None, rate: float, output: Output) -> None:
    """Calibrate a network with a silent or a saturated layer, and report it."""
    if not firing_layers(model):
        return
    images, labels = batch
    with torch.random.fork_rng([images.device] if images.is_cuda else []):
        images = images if augment is None else augment(images, labels)[0]
    try:
        before = rates(model, images)
        dead = {name: r for name, r in before.items() if not DEAD <= r <= SATURATED}
        if not dead:
            return
        calibrate_(model, images, rate)
    except (TypeError, ValueError):  # compiled, or a loop over steps: the layers themselves warn
        return
    shown = ", ".join(f"{name} at {r:.3g}" for name, r in dead.items())
    output.say(f"fires at the beginning: {shown} of the steps; weights scaled to a rate of {rate:g}")


def refuse_without_norm(model: nn.Module) -> None:
    """Raise ValueError if a model without batch normalisation cannot be recalibrated, before it learns."""
    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        raise ValueError("recalibrate needs batch normalisation, the model has none")


def recalibrate(run: Run, images: Tensor, ready: Callable[[Tensor], Tensor] = lambda x: x) -> None:
    """Compute means and variances of batch normalisation anew, over all ``images``; repeated, it changes nothing.

    Args:
        run: its model has batch normalisation.
        images: training images ``[N, ...]``.
        ready: maps a batch of them to the input of the model in evaluation.
    """
    labels = torch.zeros(len(images), dtype=torch.int64)
    device = next(run.model.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        with torch.autocast(device.type, run.precision, enabled=run.precision != torch.float32):
            update_bn((ready(x) for x, _ in batches(run.model, (images, labels), EVALUATED)), run.model)


@contextmanager
def deterministic_convolutions() -> Iterator[None]:
    """Use deterministic convolutions; the fastest ones of cuDNN would make a resumed run drift."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before
