"""A ReLU network as a spiking one: :class:`SpikingNetwork`, and the :class:`Neurons` in it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from snnfast import check

from .plan import Plan, source_of
from .stream import CHUNK, Stream
from .trace import Traced, trace

Encoder = Callable[[Tensor], Tensor]

ENCODINGS = ("constant", "poisson", "saturating")
RESETS = ("soft", "hard")


class Neurons(nn.Module):
    """Integrate-and-fire neurons in the place of a ReLU: ``h[t] = v[t-1] + x[t]``, a spike where ``h >= threshold``.

    A spike counts for ``threshold`` in the units of the ReLU's activations, so that ``rate * threshold`` is the
    activation, as long as that is at most the threshold.

    Attributes:
        threshold: a scalar or one value a channel, ``[C, 1, ...]``; NaN until it is calibrated.
        reset: "soft" subtracts the threshold at a spike, "hard" sets the membrane to 0.
        initial: membrane before the first step, as a part of the threshold.
    """

    threshold: Tensor

    def __init__(self, reset: str, initial: float, like: Tensor) -> None:
        super().__init__()
        self.reset, self.initial = reset, initial
        dtype = check.state_dtype(like.dtype)
        self.register_buffer("threshold", torch.tensor(math.nan, dtype=dtype, device=like.device))

    @property
    def v_reset(self) -> float | None:
        """As the ops take it."""
        return None if self.reset == "soft" else 0.0

    def set_threshold(self, value: float | Tensor, name: str) -> None:
        """Sets the threshold, above 0; ``name`` is what errors call it."""
        value = torch.as_tensor(value, dtype=self.threshold.dtype, device=self.threshold.device)
        if not (value.isfinite().all() and (value > 0).all()):
            raise ValueError(f"{name} must be positive and finite, got {_short(value)}")
        self.threshold = value.detach().clone()

    def rest(self, like: Tensor) -> Tensor:
        """The membrane before the first step, for a current ``like`` of one step."""
        dtype = check.state_dtype(like.dtype)
        return (self.threshold.to(dtype) * self.initial).expand(like.shape).contiguous()

    def extra_repr(self) -> str:
        """The constants."""
        return f"threshold={_short(self.threshold)}, reset={self.reset!r}, initial={self.initial:g}"

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        value = state_dict.get(prefix + "threshold")
        if value is not None and value.shape != self.threshold.shape:
            self.threshold = self.threshold.new_full(value.shape, math.nan)
        super()._load_from_state_dict(state_dict, prefix, *args)


class SpikingNetwork(nn.Module):
    """A ReLU network whose ReLUs have become integrate-and-fire neurons; weights stay as they are.

    :func:`snnfast.convert` makes one and calibrates its thresholds. Its modules have the names that they have in the
    ReLU network, batch norms folded; the neurons stand in ``spiking``, one entry a ReLU.

    What no neuron comes before runs once for constant input. What comes after the last neurons is affine, so it runs
    once, on their counts, which the kernel adds up without a spike train. In between products run step by step, so
    that chunks of any number of steps give the same bits, and neurons run through all steps of a chunk in one kernel.

    Args:
        model: the trained network, see :func:`snnfast.convert` for what it may hold; it is copied.
        reset: "soft" subtracts the threshold at a spike, "hard" sets the membrane to 0.
        initial_membrane: membrane before the first step, as a part of the threshold, in [0, 1).
        max_pool: "rate": a pool gives out a spike whenever the largest number of spikes under its window grows, so
            that its rate is the largest rate at every step; "refuse": max pooling is an error.
        encoding: "constant": the image is the input current of every step; "poisson": at every step a value fires with
            its magnitude as probability, with its sign, values beyond 1 being an error; "saturating": the same, values
            beyond 1 firing at every step; or a callable from images to the input of one step.
        unit_spikes: a spike counts 1 instead of its threshold; thresholds are then ratios, as in the manual's networks.
        spiking_output: neurons on the output, too; the result is their number of spikes.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range; for a network that cannot be converted.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        reset: str = "soft",
        initial_membrane: float = 0.0,
        max_pool: str = "rate",
        encoding: str | Encoder = "constant",
        unit_spikes: bool = False,
        spiking_output: bool = False,
    ) -> None:
        super().__init__()
        one_of("reset", reset, RESETS)
        one_of("max_pool", max_pool, ("rate", "refuse"))
        if not callable(encoding):
            one_of("encoding", encoding, ENCODINGS)
        initial = check.number("convert", "initial_membrane", initial_membrane)
        if not 0 <= initial < 1:
            raise ValueError(f"convert: initial_membrane must lie in [0, 1), got {initial:g}")
        traced = trace(model, max_pool=max_pool)
        if spiking_output:
            _add_output_neurons(traced)
        self.encoding = encoding
        self.unit_spikes, self.spiking_output = bool(unit_spikes), bool(spiking_output)
        self.input_shape: tuple[int, ...] | None = getattr(model, "input_shape", None)
        self.plan = Plan(traced, constant_input=encoding == "constant")
        self._plan_by_step = Plan(traced, constant_input=encoding == "constant", by_step=True)
        for name, child in traced.module.named_children():
            self.add_module(name, child)
        for name, parameter in traced.module.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, buffer in traced.module.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        if hasattr(self, "spiking"):
            raise ValueError("convert: the model has a module named spiking; rename it")
        like = next(self.parameters(), torch.empty(0))
        self.spiking = nn.ModuleDict(
            {name: Neurons(reset, initial, like) for name in self.plan.neurons}
        )
        for name, value in traced.thresholds.items():
            self.neurons(name).set_threshold(value, traced.places[name])
        self.eval()

    def neurons(self, name: str) -> Neurons:
        """The neurons at the node ``name``."""
        layer = self.spiking[name]
        assert isinstance(layer, Neurons)
        return layer

    @property
    def places(self) -> list[str]:
        """Where the neurons stand in the model, in the order of :attr:`thresholds`."""
        return [self.plan.places[name] for name in self.plan.neurons]

    @property
    def thresholds(self) -> list[Tensor]:
        """The thresholds of the neurons, in the order in which they run."""
        return [self.neurons(name).threshold for name in self.plan.neurons]

    def update_threshold(self, threshold: Sequence[float | Tensor]) -> None:
        """Sets the thresholds, one a layer of neurons, in the order in which they run.

        Raises:
            TypeError, ValueError: for another number of thresholds, and for one that is not above 0.
        """
        if not isinstance(threshold, (Sequence, Tensor)) or isinstance(threshold, str):
            raise TypeError(
                f"update_threshold: threshold must be a list, got {type(threshold).__name__}"
            )
        names = self.plan.neurons
        if len(threshold) != len(names):
            raise ValueError(
                f"update_threshold: threshold must have one value for each of the {len(names)} layers of neurons, "
                f"got {len(threshold)}"
            )
        before = self.thresholds
        try:
            for i, (name, value) in enumerate(zip(names, threshold)):
                self.neurons(name).set_threshold(value, f"update_threshold: threshold[{i}]")
        except (TypeError, ValueError):
            for name, old in zip(names, before):
                self.neurons(name).threshold = old
            raise

    def forward(
        self,
        images: Tensor,
        num_steps: int,
        *,
        chunk: int | None = None,
        confidence: float | None = None,
    ) -> Tensor:
        """Scores after ``num_steps`` steps.

        Args:
            images: ``[B, ...]``, floating point, as the ReLU network takes them; they may be on another device.
            num_steps: steps, at least 1.
            chunk: steps that run layer by layer at once; any number gives the same result, and memory grows with it.
            confidence: an image is finished as soon as the softmax of its scores reaches this, looked at after every
                chunk; None runs all steps. :meth:`classify` tells how many steps each took.

        Returns:
            ``[B, classes]``: the mean over time of the output, which is the ReLU network's up to the error of rates;
            with ``spiking_output`` the number of spikes of every output.

        Raises:
            TypeError, ValueError: for images of wrong shape, dtype or range.
            RuntimeError: thresholds have not been calibrated.
        """
        if confidence is not None:
            return self.classify(images, num_steps, confidence=confidence, chunk=chunk)[0]
        stream = self.stream(images)
        stream.advance(check.whole("SpikingNetwork", "num_steps", num_steps), chunk=chunk)
        return stream.output().to(images.device)

    def classify(
        self, images: Tensor, num_steps: int, *, confidence: float, chunk: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Scores, and the steps after which they were taken, ``[B]``; arguments are those of :meth:`forward`."""
        if not 0 < check.number("SpikingNetwork", "confidence", confidence) <= 1:
            raise ValueError(f"SpikingNetwork: confidence must lie in (0, 1], got {confidence}")
        check.whole("SpikingNetwork", "num_steps", num_steps)
        step = check.whole("SpikingNetwork", "chunk", CHUNK if chunk is None else chunk)
        stream = self.stream(images)
        scores: Tensor | None = None
        left = torch.arange(len(images), device=stream.device)
        steps = torch.full((len(images),), num_steps, device=stream.device)
        while len(left) and stream.steps < num_steps:
            stream.advance(min(step, num_steps - stream.steps), chunk=step)
            output = stream.output()
            scores = output.new_empty(len(images), *output.shape[1:]) if scores is None else scores
            scores[left] = output
            rates = output / stream.steps if self.spiking_output else output
            sure = rates.softmax(1).amax(1) >= confidence
            if stream.steps < num_steps and bool(sure.any()):
                steps[left[sure]] = stream.steps
                left = left[~sure]
                stream.select(~sure)
        if scores is None:
            scores = self.analog(images)[0]
        return scores.to(images.device), steps.to(images.device)

    def over_time(
        self, images: Tensor, steps: Sequence[int], *, chunk: int | None = None
    ) -> Tensor:
        """Scores after each of ``steps`` numbers of steps, which must grow, ``[len(steps), B, classes]``."""
        wanted = check.sizes("SpikingNetwork", "steps", steps)
        if not wanted or any(b <= a for a, b in itertools.pairwise(wanted)):
            raise ValueError(f"SpikingNetwork: steps must be increasing numbers, got {wanted}")
        stream = self.stream(images)
        outputs = []
        for count in wanted:
            stream.advance(count - stream.steps, chunk=chunk)
            outputs.append(stream.output())
        return torch.stack(outputs).to(images.device)

    def stream(self, images: Tensor, *, record: bool = False) -> Stream:
        """A run over ``images`` that goes on for as long as it is asked to; see :class:`Stream`."""
        unset = [place for place, th in zip(self.places, self.thresholds) if bool(th.isnan().any())]
        if unset:
            raise RuntimeError(
                f"SpikingNetwork: there are no thresholds yet at {', '.join(unset)}; calibrate with "
                "snnfast.convert, or give them to update_threshold"
            )
        return Stream(self, self.check_images(images), record=record)

    def check_images(self, images: Tensor) -> Tensor:
        """``images`` on the network's device, once they are what it takes."""
        if not isinstance(images, Tensor):
            raise TypeError(f"SpikingNetwork: images must be a tensor, got {type(images).__name__}")
        if not images.is_floating_point():
            raise TypeError(f"SpikingNetwork: images must be floating point, got {images.dtype}")
        shape = self.input_shape
        if images.dim() < 2 or (shape is not None and tuple(images.shape[1:]) != tuple(shape)):
            sizes = "..." if shape is None else ", ".join(map(str, shape))
            raise ValueError(
                f"SpikingNetwork: images must have shape [B, {sizes}], got {list(images.shape)}"
            )
        if not bool(images.isfinite().all()):
            raise ValueError("SpikingNetwork: images must be finite, got NaN or infinity")
        parameter = next(self.parameters(), None)
        return images if parameter is None else images.to(parameter.device, parameter.dtype)

    @torch.no_grad()
    def analog(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The ReLU network: its scores, and the activations in the place of every layer of neurons.

        With ``spiking_output`` the scores count among the activations.
        """
        images = self.check_images(images)
        values: dict[str, Any] = {}
        activations: dict[str, Tensor] = {}
        for node in self.plan.nodes:
            if node.op == "placeholder":
                value: Any = images
            elif node.name in self.plan.neurons:
                value = values[source_of(node)]
                activations[node.name] = value = value.clamp(min=0)
            else:
                value = self.plan.call(self, node)(values.__getitem__)
            is_signal = isinstance(value, Tensor) and node.op != "get_attr"
            if is_signal and (value.dim() == 0 or value.shape[0] != images.shape[0]):
                raise ValueError(
                    f"convert: {self.plan.places[node.name]} mixes the images of a batch: from "
                    f"{images.shape[0]} images it makes shape {list(value.shape)}"
                )
            values[node.name] = value
        return values[self.plan.result], activations

    def extra_repr(self) -> str:
        """What the layers do not show."""
        return f"encoding={self.encoding!r}, unit_spikes={self.unit_spikes}, spiking_output={self.spiking_output}"


def one_of(name: str, value: object, allowed: Iterable[str]) -> None:
    """Raises unless ``value`` is one of the names ``allowed``."""
    allowed = tuple(allowed)
    if value not in allowed:
        raise ValueError(f"convert: {name} must be one of {', '.join(allowed)}, got {value!r}")


def _add_output_neurons(traced: Traced) -> None:
    graph = traced.module.graph
    output = next(n for n in graph.nodes if n.op == "output")
    if traced.kinds[output.args[0].name] == "spiking":
        return
    with graph.inserting_before(output):
        neurons = graph.create_node(
            "call_function", torch.relu, (output.args[0],), name="output_neurons"
        )
    traced.kinds[neurons.name], traced.places[neurons.name] = "spiking", "the output"
    output.args = (neurons,)


def _short(value: Tensor) -> str:
    if value.numel() == 1:
        return f"{value.item():g}"
    return f"[{', '.join(map(str, value.shape))}] from {value.min().item():g} to {value.max().item():g}"
