"""Network of Tavanaei and Maida, trained by BP-STDP."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from snnfast import check, ops
from snnfast.encoder import BernoulliEncoder, desired_times
from snnfast.encoder.labels import times_of
from snnfast.ops import BpStdpNetworkResult, Rates
from snnfast.reference.stdp import Reduction, Update

from ..networks import Draws, Setting, seeds_of
from .parts import NAME, Batch, Layer, Totals, TrainingPass

SAMPLES_A_CALL = 1024  # small batches are joined up to this number, to amortise the cost of a call
SECOND = 1000.0  # ms; with this step length, rates in Hz are probabilities per step


class TavanaeiAndMaida2017(nn.Module):
    """Fully connected network of integrate-and-fire neurons; the output with the most spikes decides.

    ``TravanaeiAndMaida2017`` is the same with n3ml's spelling, arguments and calls. Two ways lead to the same weights,
    bit for bit. Whole presentations in one call, which is the fast way::

        model.fit(loader, encoder)                   # batches of (images, labels)

    and step by step, as in the manual, with :class:`snnfast.learning.BpStdp`::

        for t in range(num_steps):
            model(spikes[t])                         # one step; spikes are in model.fc1.o, model.fc2.o
            learner.step(windows, desired[t], label)
        model.reset()                                # at rest; weights stay

    Layers are ``fc1``, ``fc2``, ...; the last holds the outputs. Weights have no gradient.

    ``networks=K`` makes K independent networks, for example to train several seeds at once. Each equals, bit for bit,
    a model that is made alone after ``torch.manual_seed`` of its seed, if the encoder has no generator and the loader
    draws nothing from PyTorch's (a ``DataLoader`` does, unless it has a ``generator=``). Every tensor and result has a
    first dimension K; inputs may have it, or are presented to all. Thresholds, deviations and learning rates may be K
    numbers, one per network. Sizes, steps and batches are the same for all.

    Args:
        in_features: inputs.
        hidden: neurons of the hidden layer; several numbers for several hidden layers.
        out_features: outputs, one per class.
        threshold: threshold of the hidden neurons, or one per network.
        output_threshold: threshold of the outputs, or one per network; None for the paper's, 0.025 times the number of
            neurons in the last hidden layer.
        std: standard deviation of the initial weights, one number or one per layer; the paper's is 1. That of a layer
            may be a list of one per network: ``[[0.1, 0.2], 0.3]``.
        networks: number of networks; None: one, without a dimension for it.
        seeds: one seed per network, from which its weights, spikes and desired times are drawn; None: the last seed of
            ``torch.manual_seed`` and its successors.

    Attributes:
        draws: the random-number states of the networks.

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
        threshold: Setting = 0.9,
        output_threshold: Setting | None = None,
        std: float | Sequence[Setting] = 1.0,
        networks: int | None = None,
        seeds: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.draws, self.networks = Draws(seeds_of(NAME, networks, seeds)), networks
        between = check.sizes(NAME, "hidden", [hidden] if isinstance(hidden, int) else hidden)
        sizes = [
            check.integer(NAME, "in_features", in_features),
            *between,
            check.integer(NAME, "out_features", out_features),
        ]
        if not between:
            raise ValueError(f"{NAME}: hidden must name at least one layer")
        leading = () if networks is None else (networks,)
        for pair in pairwise(sizes):
            check.elements(NAME, "in_features, hidden, out_features or networks", (*leading, *pair))
        last = 0.025 * between[-1] if output_threshold is None else output_threshold
        deviations = list(std) if isinstance(std, Sequence) else [std] * (len(sizes) - 1)
        if len(deviations) != len(sizes) - 1:
            raise ValueError(f"{NAME}: std must be a number or one a layer, {len(sizes) - 1}, got {len(deviations)}")
        thresholds = [threshold] * len(between) + [last]
        for depth, (n_in, n_out) in enumerate(pairwise(sizes)):
            layer = Layer(n_in, n_out, thresholds[depth], deviations[depth], leading, self.draws)
            self.add_module(f"fc{depth + 1}", layer)

    @classmethod
    def preset(cls, dataset: str, hidden: Sequence[int] | None = None, **changes: Any) -> TavanaeiAndMaida2017:
        """Return the network of docs/results.md for "xor", "iris", "digits" or "mnist".

        Args:
            dataset: the name of the data set.
            hidden: as in the class; None for those of the results.
            **changes: other arguments of the class.
        """
        return cls(**{**preset(dataset, hidden), **changes})

    def extra_repr(self) -> str:
        """Return the settings that the layers do not show."""
        return "" if self.networks is None else f"networks={self.networks}"

    @property
    def layers(self) -> list[Layer]:
        """The layers ``fc1``, ``fc2``, ..."""
        return [layer for layer in self.children() if isinstance(layer, Layer)]

    @property
    def weights(self) -> list[Tensor]:
        """The weight matrices of all layers."""
        return [layer.weight for layer in self.layers]

    def reset(self) -> None:
        """Reset all neurons to rest; weights stay."""
        for layer in self.layers:
            layer.reset()

    def reset_parameters(self) -> None:
        """Draw the weights of every layer anew."""
        for layer in self.layers:
            layer.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Advance one time step: input spikes ``[in_features]`` or ``[B, in_features]`` to output spikes.

        With K networks these inputs are presented to all; ``[K, B, in_features]`` holds inputs per network. Inputs may
        be on another device than the network; the output is on that of the network.
        """
        check.tensor("TavanaeiAndMaida2017", "x", x)
        per_network = self.networks is not None and x.dim() == 3
        if not (1 <= x.dim() <= 2 or per_network):
            wanted = "[in_features] or [B, in_features]" + ", or [K, B, in_features]" * bool(self.networks)
            raise ValueError(f"TavanaeiAndMaida2017: x must have shape {wanted}, got {list(x.shape)}")
        batch = (x if x.dim() > 1 else x[None]).to(self.weights[0].device)
        shape = (*self.weights[0].shape[:-2], *x.shape[per_network:-1])
        state = []
        for layer in self.layers:
            neurons = layer.weight.shape[-2]
            u = layer.u if layer.u.shape[:-1] == shape else layer.u.new_zeros((*shape, neurons))
            state.append(u.view(*layer.weight.shape[:-2], batch.shape[-2], neurons))
        result = ops.bp_stdp_network_(
            self.weights,
            batch.unsqueeze(-3),
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

    def present(self, spikes: Tensor | Rates, *, dt: float = 1.0, return_hidden: bool = False) -> BpStdpNetworkResult:
        """Run all time steps at once, from rest, without learning; ``u`` and ``o`` of the layers do not change.

        Args:
            spikes: input spikes ``[T, B, ...]``, or :class:`snnfast.ops.Rates`; for K networks shared by all, or
                ``[K, T, B, ...]``.
            dt: length of a step in ms, for rates.
            return_hidden: also return the spikes of the hidden layers.
        """
        return ops.bp_stdp_network_(
            self.weights,
            self._flat(spikes),
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
        lr: Setting = 0.0005,
        epsilon: int = 4,
        update: Update = "step",
        reduction: Reduction = "sum",
        batch: int | None = None,
        validate: bool = True,
    ) -> BpStdpNetworkResult:
        """Run all time steps at once, from rest, and learn, by :func:`snnfast.ops.bp_stdp_network_`.

        Args:
            spikes: input spikes ``[T, P, ...]``, or :class:`snnfast.ops.Rates`. For K networks, spikes, labels and
                desired times are shared by all or have a first dimension K.
            labels: int64 ``[P]``.
            desired: bool ``[T, P]``; from :func:`snnfast.encoder.desired_times`.
            dt: length of a step in ms, for rates.
            lr: learning rate, or one per network.
            epsilon: length of a window before the current step, in steps.
            update: ``"step"`` or ``"sequence"``.
            reduction: ``"sum"`` or ``"mean"``.
            batch: samples presented at a time; None: all.
            validate: check the values of weights and labels.
        """
        return ops.bp_stdp_network_(
            self.weights,
            self._flat(spikes),
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
        lr: Setting = 0.0005,
        epsilon: int = 4,
        beta: float = 250.0,
        update: Update = "step",
        reduction: Reduction = "sum",
        progress: bool | None = False,
    ) -> TrainingPass:
        """Present all samples of ``loader`` once, a batch at a time, and learn.

        With batches of one sample this equals the manual's loop: the same random numbers, drawn in the same order, and
        the same weights, bit for bit.

        Args:
            loader: batches ``(images [B, ...], labels [B])``.
            encoder: maps images to spikes ``[T, B, ...]``, where anything but 0 is a spike; None for
                ``BernoulliEncoder(num_steps=20)``.
            lr: learning rate, or one per network.
            epsilon: length of a window before the current step, in steps.
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
        totals = Totals(epsilon, self.weights[0])
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

        # disable=None of tqdm: enabled if standard error is a terminal
        shown = tqdm(loader, disable=None if progress is None else not progress, leave=False)
        size = 0
        for batch in self._drawn(shown, encoder):
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
    ) -> TrainingPass:
        """Present all samples of ``loader`` once, without learning, and score the outputs."""
        encoder = BernoulliEncoder(num_steps=20) if encoder is None else encoder
        totals = Totals(epsilon, self.weights[0])
        for batch in self._drawn(loader, encoder):
            spikes, labels, desired = self._inputs([batch], encoder, beta)
            totals.add(self.present(spikes, dt=SECOND).spikes, labels, desired)
        return totals.result()

    @property
    def _thresholds(self) -> list[Setting]:
        return [layer.threshold for layer in self.layers]

    def _flat(self, spikes: Tensor | Rates) -> Tensor | Rates:
        """Flatten spikes ``[T, P, ...]`` or ``[K, T, P, ...]`` so that the last dimension is the inputs."""
        if isinstance(spikes, Rates):
            return spikes
        check.tensor(NAME, "spikes", spikes)
        if spikes.dim() < 3:
            raise ValueError(f"{NAME}: spikes must have shape [T, B, ...], got {list(spikes.shape)}")
        per_network = self.networks is not None and spikes.dim() > 3 and spikes.shape[0] == self.networks
        per_network = per_network and spikes[0, :1, :1].numel() <= self.weights[0].shape[-1]
        return spikes.flatten(3 if per_network else 2)

    def _drawn(self, loader: Iterable[tuple[Tensor, Tensor]], encoder: nn.Module) -> Iterator[Batch]:
        """Draw the random numbers of each batch in the order of the manual's loop, before batches are joined."""
        for batch in loader:
            if not isinstance(batch, (tuple, list)) or len(batch) != 2:
                raise ValueError(f"{NAME}: a batch must be images and labels, got a {type(batch).__name__}")
            images, labels = batch
            samples = labels.shape[0] if labels.dim() == 1 else 0
            if samples == 0 or images.shape[0] != samples:
                raise ValueError(
                    f"{NAME}: a batch must be images [B, ...] and labels [B], "
                    f"got {list(images.shape)} and {list(labels.shape)}"
                )
            drawn = self.draws.per_network(partial(self._draw, images, samples, encoder))
            data, seeds, uniform = drawn[0]
            if self.networks is not None:
                by_kind = list(zip(*drawn))
                seeds, uniform = torch.stack(by_kind[1]), torch.stack(by_kind[2])
                data = data if isinstance(encoder, BernoulliEncoder) else torch.stack(by_kind[0])
            yield Batch(data, labels, seeds, uniform)

    def _draw(self, images: Tensor, samples: int, encoder: nn.Module, network: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return images or spikes, seeds of the spikes, and uniform numbers of the desired times."""
        if isinstance(encoder, BernoulliEncoder):
            data, seeds, steps = images, encoder.seeds(samples), encoder.num_steps
        else:
            data = encoder(images.to(self.weights[0].device)).flatten(2) != 0
            seeds, steps = torch.empty(0, dtype=torch.int64), len(data)
        return data, seeds, torch.rand(samples, steps)

    def _inputs(self, batches: list[Batch], encoder: nn.Module, beta: float) -> tuple[Tensor | Rates, Tensor, Tensor]:
        """Return the op's inputs: spikes or their rates, labels, desired times; several batches are concatenated."""
        device, classes = self.weights[0].device, self.weights[-1].shape[-2]
        labels = torch.cat([batch.labels for batch in batches])
        check.in_range(NAME, "labels", labels, 0, classes - 1)
        spikes: Tensor | Rates
        if isinstance(encoder, BernoulliEncoder):
            images = torch.cat([batch.data for batch in batches]).to(device)
            spikes = encoder.rates(images, torch.cat([batch.seeds for batch in batches], -1))
        else:
            spikes = torch.cat([batch.data for batch in batches], -2)
        desired_times(0, beta, 0)  # checks beta
        uniform = torch.cat([batch.uniform for batch in batches], -2)
        return spikes, labels.to(device), times_of(uniform, beta).to(device)


def preset(dataset: str, hidden: Sequence[int] | None = None) -> dict[str, Any]:
    """Return the arguments of the network of docs/results.md for a data set."""
    sizes = {"xor": (2, 20, 2), "iris": (4, 30, 3), "digits": (64, 300, 10), "mnist": (784, 500, 10)}
    if dataset not in sizes:
        raise ValueError(f"{NAME}: dataset must be one of {', '.join(sizes)}, got {dataset!r}")
    inputs, neurons, classes = sizes[dataset]
    hidden = (neurons,) if hidden is None else tuple(hidden)
    std: float | tuple[float, ...] = 0.2 if dataset == "digits" else 0.5
    if dataset == "mnist":
        std = (0.2, 0.3) if len(hidden) == 1 else (0.1, *[0.2] * len(hidden))
    return {"in_features": inputs, "hidden": hidden, "out_features": classes, "std": std}
