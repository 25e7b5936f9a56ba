"""Loss and accuracy of a model. Re-exported by :mod:`snnfast.train`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from snnfast import check

from .processes import Processes

__all__ = ["EVALUATED", "Decide", "Loss", "Part", "Score", "batches", "evaluate", "largest", "outputs_of"]

EVALUATED = 500  # images that evaluate takes at a time

Part = tuple[Tensor, Tensor]  # images and labels
Loss = Callable[[Tensor, Tensor], Tensor]
Decide = Callable[[Tensor], Tensor]


def largest(outputs: Tensor) -> Tensor:
    """Return the class of the largest of ``outputs`` ``[B, classes]``."""
    return outputs.argmax(1)


class Score:
    """Mean loss and accuracy over batches.

    Args:
        decide: outputs ``[B, classes]`` to predicted labels ``[B]``, or ``[B, T, classes]`` to ``[B, T]``.
    """

    def __init__(self, decide: Decide = largest) -> None:
        self.decide = decide
        self.start()

    def __str__(self) -> str:
        return f"loss {self.loss:.4f}, {100 * self.accuracy:.2f} %"

    def start(self) -> None:
        """Set the counts to 0."""
        self.images = 0
        self._loss: Tensor | float = 0.0
        self._correct: Tensor | float = 0

    def add(self, outputs: Tensor, labels: Tensor, loss: Tensor | None) -> None:
        """Count a batch; ``loss`` is its mean. With labels ``[B, T]``, a sample counts by its share of correct labels.

        A label of -100 does not count, as in ``torch.nn.functional.cross_entropy``.
        """
        # Stays on the device: reading a number here would make a GPU wait in every step.
        self.images += len(labels)
        if loss is not None:
            self._loss = self._loss + loss.detach() * len(labels)
        right = self.decide(outputs.detach()) == labels
        if labels.dim() > 1:
            counted = (labels != -100).flatten(1).sum(1).clamp(min=1)
            right = right.flatten(1).sum(1, dtype=torch.float64) / counted
        self._correct = self._correct + right.sum()

    @property
    def loss(self) -> float:
        """Mean loss per image; NaN without images."""
        return float(self._loss) / self.images if self.images else float("nan")

    @property
    def accuracy(self) -> float:
        """Share of correct answers; NaN without images."""
        return float(self._correct) / self.images if self.images else float("nan")

    def row(self) -> dict[str, float]:
        """Return the row of an epoch in the history of a run."""
        return {"loss": self.loss, "accuracy": self.accuracy}

    def state_dict(self) -> dict[str, Any]:
        """Return the counts, as plain values and tensors."""
        return {"images": self.images, "loss": self._loss, "correct": self._correct}

    def gather(self, processes: Processes) -> None:
        """Replace the counts by their sums over all processes."""
        if processes.size == 1:
            return
        counts = processes.gather((self.images, float(self._loss), float(self._correct)))
        self.images, self._loss, self._correct = map(sum, zip(*counts))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue counting from a saved state."""
        self.images, self._loss, self._correct = (state[k] for k in ("images", "loss", "correct"))


@check.keywords
def evaluate(
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    *,
    loss: Loss,
    decide: Decide = largest,
    batch_size: int = EVALUATED,
    precision: torch.dtype = torch.float32,
) -> Score:
    """Score ``model`` on ``data`` in evaluation mode, and leave it in that mode.

    A stochastic encoding draws from PyTorch's global generator, whose state is restored afterwards.

    Args:
        model: maps images to outputs ``[B, classes]``.
        data: images and labels.
        loss: maps outputs and labels to the mean loss of a batch.
        decide: maps outputs to predicted labels.
        batch_size: images in each batch.
        precision: bfloat16 for autocast, float32 for none.

    Raises:
        ValueError: for another number of labels than images.
    """
    as_many_labels("evaluate", "data", data)
    model.eval()
    score = Score(decide)
    devices = {p.device for p in model.parameters() if p.is_cuda}
    with torch.no_grad(), torch.random.fork_rng(devices=[d.index for d in devices]):
        for images, labels in batches(model, data, batch_size):
            outputs = outputs_of(model, images, precision)
            score.add(outputs, labels, loss(outputs, labels))
    return score


def as_many_labels(function: str, name: str, part: Part) -> None:
    """Raise ValueError unless ``part`` holds as many labels as images."""
    images, labels = part
    if len(images) != len(labels):
        raise ValueError(
            f"{function}: {name} must hold as many labels as images, got {len(images)} images and {len(labels)} labels"
        )


def batches(
    model: nn.Module, data: tuple[Tensor, Tensor], batch_size: int, order: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of ``data``, in ``order`` if given, on the device of ``model``."""
    images, labels = data
    device = next((p.device for p in model.parameters()), images.device)
    indices = torch.arange(len(images)) if order is None else order
    for chosen in indices.split(batch_size) if len(indices) else ():
        yield (
            images[chosen.to(images.device)].to(device, non_blocking=True),
            labels[chosen.to(labels.device)].to(device, non_blocking=True),
        )


def outputs_of(model: nn.Module, images: Tensor, precision: torch.dtype) -> Tensor:
    """Return the scores of ``images``; products and convolutions in ``precision``, the scores in float32 or longer."""
    if precision == torch.float32:
        return model(images)  # type: ignore[no-any-return]
    with torch.autocast(images.device.type, precision):
        outputs = model(images)
    # A loss in bfloat16 would round, and so would the sum over an epoch.
    return outputs.float()  # type: ignore[no-any-return]
