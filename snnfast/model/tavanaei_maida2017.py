"""The network of Tavanaei and Maida, trained by BP-STDP."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from tqdm import tqdm

from snnfast import check, ops
from snnfast.calls.stdp import Reduction, Update
from snnfast.encoder import BernoulliEncoder, desired_times
from snnfast.encoder.labels import times_of
from snnfast.loss import bp_stdp_loss
from snnfast.ops import BpStdpNetworkResult, Rates

NAME = "TavanaeiAndMaida2017"
SAMPLES_A_CALL = 1024  # of small batches, so that what a call costs is shared
SECOND = 1000.0  # ms; the length of a step in which rates are probabilities


class Layer(nn.Module):
    """Integrate-and-fire neurons behind a dense layer without bias.

    Attributes:
        weight: ``[out_features, in_features]``; has no gradient.
        threshold: at which a neuron fires and its membrane goes to 0.
        u: membranes ``[out_features]`` or ``[B, out_features]``.
        o: spikes of the last step, likewise, 0 or 1.
    """

    u: Tensor
    o: Tensor

    def __init__(self, in_features: int, out_features: int, threshold: float, std: float) -> None:
        super().__init__()
        self.threshold = check.positive(NAME, "threshold", threshold)
        self.std = check.at_least_zero(NAME, "std", std)
        self.weight = nn.Parameter(torch.empty(out_features, in_features), requires_grad=False)
        self.register_buffer("u", torch.zeros(out_features), persistent=False)
        self.register_buffer("o", torch.zeros(out_features), persistent=False)
        self.reset_parameters()

    def reset(self) -> None:
        """Takes the neurons to rest."""
        self.u = self.weight.new_zeros(len(self.weight))
        self.o = torch.zeros_like(self.u)

    def reset_parameters(self) -> None:
        """Draws the weights from N(0, std^2)."""
        nn.init.normal_(self.weight, std=self.std)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        out_features, in_features = self.weight.shape
        return f"{in_features}, {out_features}, threshold={self.threshold:g}"


class Trained(NamedTuple):
    """What a pass over the data gave, while the weights changed.

    Attributes:
        samples: how many samples were presented.
        accuracy: share of right answers, in [0, 1]; NaN without samples.
        loss: :func:`snnfast.loss.bp_stdp_loss`, mean over samples; NaN without samples.
    """

    samples: int
    accuracy: float
    loss: float


class TavanaeiAndMaida2017(nn.Module):
    """A fully connected network of integrate-and-fire neurons: spikes in, spikes out; the most active output decides.

    ``TravanaeiAndMaida2017`` is the same with n3ml's spelling, arguments and calls. Two ways lead to the same weights,
    bit for bit. Whole presentations in one call, which is the fast way::

        model.fit(loader, encoder)                   # batches of (images, labels)

    and step by step, as in the manual, with :class:`snnfast.learning.BpStdp`::

        for t in range(num_steps):
            model(spikes[t])                         # one step; spikes are in model.fc1.o, model.fc2.o
            learner.step(windows, desired[t], label)
        model.reset()                                # at rest; weights stay

    Layers are ``fc1``, ``fc2``, ...: the last has the outputs. Weights have no gradient.

    Args:
        in_features: inputs.
        hidden: neurons of the hidden layer; several numbers for several hidden layers.
        out_features: outputs, one a class.
        threshold: threshold of the hidden neurons.
        output_threshold: threshold of the outputs; None for the paper's, 0.025 times the number of neurons in the last
            hidden layer.
        std: standard deviation of the initial weights, one number or one a layer; the paper's is 1.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range.

    Source: Tavanaei and Maida, BP-STDP: Approximating backpropagation using spike timing dependent plasticity,
    Neurocomputing 330 (2019), arXiv 1711.04214 (2017).

    Example:
        >>> model = TavanaeiAndMaida2017(784, 100, 10)
        >>> model.present(torch.rand(20, 8, 784) < 0.1).spikes.shape
        torch.Size([20, 8, 10])
    """

    def __init__(
        self,
        in_features: int = 784,
        hidden: int | Sequence[int] = 100,
        out_features: int = 10,
        *,
        threshold: float = 0.9,
        output_threshold: float | None = None,
        std: float | Sequence[float] = 1.0,
    ) -> None:
        super().__init__()
        between = check.sizes(NAME, "hidden", [hidden] if isinstance(hidden, int) else hidden)
        sizes = [
            check.whole(NAME, "in_features", in_features),
            *between,
            check.whole(NAME, "out_features", out_features),
        ]
        if not between:
            raise ValueError(f"{NAME}: hidden must name at least one layer")
        for pair in pairwise(sizes):
            check.elements(NAME, "in_features, hidden or out_features", pair)
        last = 0.025 * between[-1] if output_threshold is None else output_threshold
        deviations = list(std) if isinstance(std, Sequence) else [std] * (len(sizes) - 1)
        if len(deviations) != len(sizes) - 1:
            raise ValueError(
                f"{NAME}: std must be a number or one a layer, {len(sizes) - 1}, got {len(deviations)}"
            )
        thresholds = [threshold] * len(between) + [last]
        for depth, (n_in, n_out) in enumerate(pairwise(sizes)):
            layer = Layer(n_in, n_out, thresholds[depth], deviations[depth])
            self.add_module(f"fc{depth + 1}", layer)

    @classmethod
    def preset(
        cls, dataset: str, hidden: Sequence[int] | None = None, **changes: Any
    ) -> TavanaeiAndMaida2017:
        """The network of docs/results.md for "xor", "iris", "digits" or "mnist".

        Args:
            dataset: the name of the data set.
            hidden: as in the class; None for those of the results.
            **changes: other arguments of the class.
        """
        return cls(**{**preset(dataset, hidden), **changes})

    @property
    def layers(self) -> list[Layer]:
        """``fc1``, ``fc2``, ..."""
        return [layer for layer in self.children() if isinstance(layer, Layer)]

    @property
    def weights(self) -> list[Tensor]:
        """The matrices of all layers."""
        return [layer.weight for layer in self.layers]

    def reset(self) -> None:
        """Takes all neurons to rest; weights stay."""
        for layer in self.layers:
            layer.reset()

    def reset_parameters(self) -> None:
        """Draws the weights of every layer anew."""
        for layer in self.layers:
            layer.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """One step: input spikes ``[in_features]`` or ``[B, in_features]`` -> output spikes, like ``layers[-1].o``."""
        check.tensor("TavanaeiAndMaida2017", "x", x)
        batch = x if x.dim() == 2 else x[None]
        shape = x.shape[:-1]
        state = [
            (layer.u if layer.u.shape[:-1] == shape else layer.u.new_zeros((*shape, len(w)))).view(
                len(batch), len(w)
            )
            for layer, w in zip(self.layers, self.weights)
        ]
        result = ops.bp_stdp_network_(
            self.weights,
            batch[None],
            thresholds=self._thresholds,
            state=state,
            return_hidden=True,
            return_state=True,
            validate=False,
        )
        spikes = (*(result.hidden or ()), result.spikes)
        for layer, u, o in zip(self.layers, result.state or (), spikes, strict=True):
            layer.u, layer.o = u.view(*shape, -1), o.to(u).view(*shape, -1)
        return self.layers[-1].o

    def present(
        self, spikes: Tensor | Rates, *, dt: float = 1.0, return_hidden: bool = False
    ) -> BpStdpNetworkResult:
        """All steps at once, from rest, without learning; ``u`` and ``o`` of the layers stay as they are.

        Args:
            spikes: input spikes ``[T, B, ...]``, or :class:`snnfast.ops.Rates`.
            dt: length of a step in ms, for rates.
            return_hidden: also return the spikes of the hidden layers.
        """
        return ops.bp_stdp_network_(
            self.weights,
            spikes if isinstance(spikes, Rates) else spikes.flatten(2),
            thresholds=self._thresholds,
            dt=dt,
            return_hidden=return_hidden,
            validate=False,
        )

    def learn(
        self,
        spikes: Tensor | Rates,
        labels: Tensor,
        desired: Tensor,
        *,
        dt: float = 1.0,
        lr: float = 0.0005,
        epsilon: int = 4,
        update: Update = "step",
        reduction: Reduction = "sum",
        batch: int | None = None,
        validate: bool = True,
    ) -> BpStdpNetworkResult:
        """Presents all steps at once, from rest, and learns: :func:`snnfast.ops.bp_stdp_network_` with this network.

        Args:
            spikes: input spikes ``[T, P, ...]``, or :class:`snnfast.ops.Rates`.
            labels: int64 ``[P]``.
            desired: bool ``[T, P]``; from :func:`snnfast.encoder.desired_times`.
            dt: length of a step in ms, for rates.
            lr: learning rate.
            epsilon: steps that a window reaches back.
            update: ``"step"`` or ``"sequence"``.
            reduction: ``"sum"`` or ``"mean"``.
            batch: samples presented at a time; None: all.
            validate: check the values of weights and labels.
        """
        return ops.bp_stdp_network_(
            self.weights,
            spikes if isinstance(spikes, Rates) else spikes.flatten(2),
            labels,
            desired,
            thresholds=self._thresholds,
            dt=dt,
            lr=lr,
            epsilon=epsilon,
            update=update,
            reduction=reduction,
            batch=batch,
            validate=validate,
        )

    def fit(
        self,
        loader: Iterable[tuple[Tensor, Tensor]],
        encoder: nn.Module | None = None,
        *,
        lr: float = 0.0005,
        epsilon: int = 4,
        beta: float = 250.0,
        update: Update = "step",
        reduction: Reduction = "sum",
        progress: bool | None = False,
    ) -> Trained:
        """Presents all samples of ``loader`` once, a batch at a time, and learns.

        With batches of one sample this is the manual's loop: the same random numbers, drawn in the same order, and the
        same weights, bit for bit.

        Args:
            loader: batches ``(images [B, ...], labels [B])``.
            encoder: images to spikes ``[T, B, ...]``; None for ``BernoulliEncoder(num_steps=20)``.
            lr: learning rate.
            epsilon: steps that a window reaches back.
            beta: rate at which the output of the class should fire, in Hz for steps of 1 ms.
            update: ``"step"``: weights change in every step; ``"sequence"``: after each batch, which is faster for
                batches of many samples.
            reduction: ``"sum"`` or ``"mean"`` of the changes over a batch.
            progress: show a progress bar; None: only if standard error is a terminal.

        Raises:
            TypeError, ValueError: for labels out of range, shapes, weights that are not finite, negative intensities
                or rates, ``epsilon`` below 1. An error in a batch is raised before that batch changes anything.
        """
        encoder = BernoulliEncoder(num_steps=20) if encoder is None else encoder
        totals = _Totals(epsilon, self.weights[0].device)
        waiting: list[Batch] = []

        def present() -> None:
            spikes, labels, desired = self._inputs(waiting, encoder, beta)
            waiting.clear()
            result = self.learn(
                spikes,
                labels,
                desired,
                dt=SECOND,
                lr=lr,
                epsilon=epsilon,
                update=update,
                reduction=reduction,
                batch=size,
                validate=totals.samples == 0,
            )
            totals.add(result.spikes, labels, desired)

        # tqdm takes None for: if it is a terminal
        shown = tqdm(loader, disable=None if progress is None else not progress, leave=False)
        size = 0
        for batch in _drawn(shown, encoder, self.weights[0].device):
            if waiting and batch.data.shape != waiting[0].data.shape:
                present()
            size = batch.labels.shape[0]
            waiting.append(batch)
            if len(waiting) * size >= SAMPLES_A_CALL:
                present()
        if waiting:
            present()
        return totals.result()

    def score(
        self,
        loader: Iterable[tuple[Tensor, Tensor]],
        encoder: nn.Module | None = None,
        *,
        epsilon: int = 4,
        beta: float = 250.0,
    ) -> Trained:
        """The same without learning."""
        encoder = BernoulliEncoder(num_steps=20) if encoder is None else encoder
        totals = _Totals(epsilon, self.weights[0].device)
        for batch in _drawn(loader, encoder, self.weights[0].device):
            spikes, labels, desired = self._inputs([batch], encoder, beta)
            totals.add(self.present(spikes, dt=SECOND).spikes, labels, desired)
        return totals.result()

    @property
    def _thresholds(self) -> list[float]:
        return [layer.threshold for layer in self.layers]

    def _inputs(
        self, batches: list[Batch], encoder: nn.Module, beta: float
    ) -> tuple[Tensor | Rates, Tensor, Tensor]:
        """What the op takes: spikes or their rates, labels, desired times; several batches, one after the other."""
        device, classes = self.weights[0].device, len(self.weights[-1])
        labels = torch.cat([batch.labels for batch in batches])
        low, high = (int(v) for v in labels.aminmax())
        if low < 0 or high >= classes:
            raise ValueError(
                f"{NAME}: labels must lie in [0, {classes - 1}], got values from {low} to {high}"
            )
        spikes: Tensor | Rates
        if isinstance(encoder, BernoulliEncoder):
            images = torch.cat([batch.data for batch in batches]).to(device)
            spikes = encoder.rates(images, torch.cat([batch.seeds for batch in batches]))
        else:
            spikes = torch.cat([batch.data for batch in batches], 1)
        desired_times(0, beta, 0)  # looks at beta
        uniform = torch.cat([batch.uniform for batch in batches])
        return spikes, labels.to(device), times_of(uniform, beta).to(device)


def preset(dataset: str, hidden: Sequence[int] | None = None) -> dict[str, Any]:
    """The arguments of the network of docs/results.md for a data set."""
    sizes = {
        "xor": (2, 20, 2),
        "iris": (4, 30, 3),
        "digits": (64, 300, 10),
        "mnist": (784, 500, 10),
    }
    if dataset not in sizes:
        raise ValueError(f"{NAME}: dataset must be one of {', '.join(sizes)}, got {dataset!r}")
    inputs, neurons, classes = sizes[dataset]
    hidden = (neurons,) if hidden is None else tuple(hidden)
    std: float | tuple[float, ...] = 0.2 if dataset == "digits" else 0.5
    if dataset == "mnist":
        std = (0.2, 0.3) if len(hidden) == 1 else (0.1, *[0.2] * len(hidden))
    return {"in_features": inputs, "hidden": hidden, "out_features": classes, "std": std}


class Batch(NamedTuple):
    """A batch of a loader, and what was drawn for it.

    Attributes:
        data: images ``[B, ...]``; spikes ``[T, B, I]`` if the encoder is not ``BernoulliEncoder``.
        labels: ``[B]``.
        seeds: of the spikes of each image, ``[B]``.
        uniform: of the desired times, ``[B, T]``.
    """

    data: Tensor
    labels: Tensor
    seeds: Tensor
    uniform: Tensor


def _drawn(
    loader: Iterable[tuple[Tensor, Tensor]], encoder: nn.Module, device: torch.device
) -> Iterator[Batch]:
    """Draws batch by batch what the manual's loop draws, and leaves all else to be done for many at a time."""
    simple = encoder if isinstance(encoder, BernoulliEncoder) else None
    for images, labels in loader:
        samples = labels.shape[0] if labels.dim() == 1 else 0
        if samples == 0 or images.shape[0] != samples:
            raise ValueError(
                f"{NAME}: a batch must be images [B, ...] and labels [B], "
                f"got {list(images.shape)} and {list(labels.shape)}"
            )
        if simple is not None:
            data, seeds, steps = images, simple.seeds(samples), simple.num_steps
        else:
            data = encoder(images.to(device)).flatten(2).to(torch.uint8)
            seeds, steps = labels.new_empty(0), len(data)
        yield Batch(data, labels, seeds, torch.rand(samples, steps))


class _Totals:
    """Accuracy and loss over batches; stays on the device, so that a GPU does not wait."""

    def __init__(self, epsilon: int, device: torch.device) -> None:
        self.samples, self._epsilon = 0, epsilon
        self._right = torch.zeros((), dtype=torch.int64, device=device)
        self._loss = torch.zeros((), dtype=torch.float64, device=device)

    def add(self, spikes: Tensor, labels: Tensor, desired: Tensor) -> None:
        wanted = desired[..., None] & F.one_hot(labels, spikes.shape[2]).bool()
        self.samples += len(labels)
        self._right += (spikes.sum(0).argmax(1) == labels).sum()
        self._loss += bp_stdp_loss(spikes, wanted, labels, self._epsilon) * len(labels)

    def result(self) -> Trained:
        n = self.samples or float("nan")
        return Trained(self.samples, int(self._right) / n, float(self._loss) / n)
