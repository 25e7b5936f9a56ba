"""Spiking network converted from a ReLU network: :class:`SpikingNetwork`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from snnfast import check
from snnfast.monitoring.watch import Announcing

from .analog import Analog, AnalogNode, Placeholder
from .layers import sequential
from .neurons import Neurons
from .plan import Plan
from .stream import CHUNK, Encoder, Stream
from .trace import trace

ENCODINGS = ("constant", "poisson", "saturating")
RESETS = ("soft", "hard")
# Names of attributes that the network itself sets.
RESERVED = ("spiking", "input_shape", "batch_size", "_fitted")


class SpikingNetwork(Analog, Announcing):
    """A ReLU network whose ReLUs have become integrate-and-fire neurons; the weights are unchanged.

    :func:`snnfast.convert` creates one and calibrates its thresholds. Its modules have the same names as in the ReLU
    network, and batch norms are folded. The neurons are in ``spiking``, one entry per ReLU.

    With constant input, the layers before the first neurons run once. The layers after the last neurons are affine, so
    they run once, too: on spike counts, which the kernel computes without storing a spike train. Between them, products
    run step by step, so that the result does not depend on the chunk size; neurons run all steps of a chunk in one
    kernel. ``torch.save`` saves the whole network, for ``torch.load(..., weights_only=False)``.

    Args:
        model: the trained network, which is copied; :func:`snnfast.convert` lists the supported layers.
        reset: "soft" subtracts the threshold at a spike, "hard" sets the membrane to 0.
        initial_membrane: membrane before the first step, as a fraction of the threshold, in [0, 1).
        max_pool: "rate": a pool emits a spike whenever the largest spike count in its window grows, so that its rate
            is the largest rate at every step; "refuse": max pooling is an error.
        encoding: "constant": the image is the input current of every step; "poisson": at every step a value fires with
            its magnitude as probability and with its own sign, and values beyond 1 are an error; "saturating": the
            same, but values beyond 1 fire at every step; or a callable from images to the input of one step.
        unit_spikes: spikes have the size 1 instead of their threshold; thresholds are then ratios, one per layer, as
            in the manual's networks.
        spiking_output: the output has neurons, too; the result is their spike count.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range; for a network that cannot be converted.
    """

    # Image shape for which the shapes of the neurons are set.
    _fitted: torch.Size | None = None

    def __init__(
        self,
        model: nn.Module,
        *,
        reset: str = "soft",
        initial_membrane: float = 0.5,
        max_pool: str = "rate",
        encoding: str | Encoder = "constant",
        unit_spikes: bool = False,
        spiking_output: bool = False,
    ) -> None:
        one_of("reset", reset, RESETS)
        one_of("max_pool", max_pool, ("rate", "refuse"))
        if not callable(encoding):
            one_of("encoding", encoding, ENCODINGS)
        initial = check.number("convert", "initial_membrane", initial_membrane)
        if not 0 <= initial < 1:
            raise ValueError(f"convert: initial_membrane must lie in [0, 1), got {initial:g}")
        traced = trace(model, max_pool=max_pool)
        for name in RESERVED:
            if any(path.partition(".")[0] == name for path in traced.parts):
                raise ValueError(f"convert: the model has a module named {name}; rename it")
        nodes, result = traced.nodes, traced.result
        if spiking_output and nodes[result].kind != "spiking":
            args, result = (Placeholder(result),), "output_neurons"
            output = AnalogNode(result, "spiking", "the output", "call_function", None, args)
            nodes = {**nodes, result: output}
        super().__init__()
        self.encoding = encoding
        self.unit_spikes = check.flag("convert", "unit_spikes", unit_spikes)
        self.spiking_output = check.flag("convert", "spiking_output", spiking_output)
        # In other models an attribute of this name may be anything.
        is_paper = type(model).__module__.startswith("snnfast_zoo.papers.")
        self.input_shape: tuple[int, ...] | None = getattr(model, "input_shape", None) if is_paper else None
        self.plan = Plan(
            nodes,
            result,
            constant_input=encoding == "constant",
            unit_spikes=self.unit_spikes,
            counts_spikes=self.spiking_output,
        )
        weights = [getattr(part, "weight", part) for part in traced.parts.values()]
        like: Tensor = next((w for w in weights if isinstance(w, Tensor)), torch.empty(0))
        self.spiking = nn.ModuleDict()
        for name in self.plan.neurons:
            # ModuleDict's own method refuses names such as "values".
            self.spiking._modules[name] = Neurons(reset, initial, like, self.unit_spikes)
        for name, value in traced.thresholds.items():
            neurons = self.neurons(name)
            neurons.threshold = neurons.checked(value, nodes[name].place)
        self.take(traced.parts)
        self.eval()

    def neurons(self, name: str) -> Neurons:
        """Return the neurons at the node ``name``."""
        layer: Neurons = self.spiking[name]  # type: ignore[assignment]
        return layer

    @property
    def places(self) -> list[str]:
        """Positions of the neurons in the model, in the order of :attr:`thresholds`."""
        return [self.plan.nodes[name].place for name in self.plan.neurons]

    @property
    def thresholds(self) -> list[Tensor]:
        """Thresholds of the neurons, in the order in which they run."""
        return [self.neurons(name).threshold for name in self.plan.neurons]

    def update_threshold(self, threshold: Sequence[float | Tensor]) -> None:
        """Set the thresholds, one per layer of neurons, in the order in which they run.

        Raises:
            TypeError, ValueError: for a wrong number of thresholds, for one that is not above 0, and for one that is
                neither a number nor, without ``unit_spikes``, ``[C]`` or ``[C, 1, ...]``, one per channel.
        """
        if not isinstance(threshold, (Sequence, Tensor)) or isinstance(threshold, str):
            raise TypeError(f"update_threshold: threshold must be a list, got {type(threshold).__name__}")
        names = self.plan.neurons
        if len(threshold) != len(names):
            raise ValueError(
                f"update_threshold: threshold must have one value for each of the {len(names)} layers of neurons, "
                f"got {len(threshold)}"
            )
        layers = [self.neurons(name) for name in names]
        values = [
            layer.checked(value, f"update_threshold: threshold[{i}]")
            for i, (layer, value) in enumerate(zip(layers, threshold))
        ]
        for layer, checked in zip(layers, values):
            layer.threshold = checked

    def forward(
        self,
        images: Tensor,
        num_steps: int,
        *,
        warm_up: int = 0,
        chunk: int | None = None,
        confidence: float | None = None,
    ) -> Tensor:
        """Return the scores after ``num_steps`` steps.

        Args:
            images: ``[B, ...]``, floating point, as for the ReLU network; they may be on another device.
            num_steps: number of steps, at least 1.
            warm_up: number of first steps that the scores leave out, less than ``num_steps``: the rates of deep layers
                need some time to settle.
            chunk: number of steps that run layer by layer at a time; it does not change the result, and memory grows
                with it.
            confidence: an image is finished as soon as the softmax of its scores reaches this, checked after every
                chunk; None runs all steps. :meth:`classify` returns the number of steps of each image.

        Returns:
            ``[B, classes]``: the mean over time of the output, which equals the ReLU network's up to the error of
            rates; with ``spiking_output`` the spike count of every output.

        Raises:
            TypeError, ValueError: for images of wrong shape, dtype or range.
            RuntimeError: if the thresholds have not been calibrated.
        """
        if torch.compiler.is_exporting() or torch._C._is_tracing():
            raise TypeError(
                "SpikingNetwork: exporters take a function of a sequence, and this network makes its steps itself; "
                "give net.sequential(), or of one step snnfast.export.Step(net.sequential()[:-1])"
            )
        if confidence is not None:
            if self.monitor is not None:
                raise ValueError("SpikingNetwork: a monitor counts all steps of all images; leave confidence out")
            return self.classify(images, num_steps, confidence=confidence, warm_up=warm_up, chunk=chunk)[0]
        _check_warm_up("SpikingNetwork", "num_steps", num_steps, warm_up)
        stream = self.stream(images, warm_up=warm_up, watch=self.monitor is not None)
        stream.advance(num_steps, chunk=chunk)
        if self.monitor is not None:
            stream.tell(self.monitor)
        return stream.output().to(images.device)

    def classify(
        self, images: Tensor, num_steps: int, *, confidence: float, warm_up: int = 0, chunk: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return scores, and the number of steps of each image, ``[B]``; arguments as in :meth:`forward`."""
        if not 0 < check.number("SpikingNetwork", "confidence", confidence) <= 1:
            raise ValueError(f"SpikingNetwork: confidence must lie in (0, 1], got {confidence}")
        step = check.integer("SpikingNetwork", "chunk", CHUNK if chunk is None else chunk)
        _check_warm_up("SpikingNetwork", "num_steps", num_steps, warm_up)
        stream = self.stream(images, warm_up=warm_up)
        stream.advance(warm_up, chunk=step)
        scores: Tensor | None = None
        remaining = torch.arange(len(images), device=stream.device)
        steps = torch.full((len(images),), num_steps, device=stream.device)
        while len(remaining) and stream.steps < num_steps:
            stream.advance(min(step, num_steps - stream.steps), chunk=step)
            output = stream.output()
            scores = output.new_empty(len(images), *output.shape[1:]) if scores is None else scores
            scores[remaining] = output
            rates = output / (stream.steps - warm_up) if self.spiking_output else output
            sure = rates.softmax(1).amax(1) >= confidence
            if stream.steps < num_steps and bool(sure.any()):
                steps[remaining[sure]] = stream.steps
                remaining = remaining[~sure]
                stream.select(~sure)
        if scores is None:
            scores = self.analog(images)[0]
        return scores.to(images.device), steps.to(images.device)

    def over_time(self, images: Tensor, steps: Sequence[int], *, warm_up: int = 0, chunk: int | None = None) -> Tensor:
        """Return the scores after each of the increasing numbers ``steps``: ``[len(steps), B, classes]``."""
        wanted = increasing("SpikingNetwork", steps, warm_up)
        stream = self.stream(images, warm_up=warm_up)
        outputs = []
        for count in wanted:
            stream.advance(count - stream.steps, chunk=chunk)
            outputs.append(stream.output())
        return torch.stack(outputs).to(images.device)

    def sequential(self) -> nn.Sequential:
        """Return the network as plain layers over ``[T, B, ...]``, to export, train on, or change.

        ReLUs are :class:`snnfast.nn.IF` with their thresholds and initial membranes, max pooling behind them is
        :class:`snnfast.nn.RatePool`, products have the sizes of their input spikes in their weights, and the last layer
        is :class:`snnfast.nn.Rate`, or with ``spiking_output`` :class:`snnfast.nn.Count`. Networks that branch are a
        graph of such layers before it. The input of each step is that of the encoding: the images themselves for
        ``"constant"``, ``images.expand(T, *images.shape)``, else spikes that you draw.

        Spikes equal those of this network, and scores except for rounding, where products sum in the same order:
        PyTorch's may round differently for another number of rows, which can move a spike.

        Returns:
            A network with weights of its own, in evaluation mode.

        Raises:
            RuntimeError: if thresholds have not been calibrated, or shapes are not known yet.
            ValueError: for an operation that is no layer and no sum of two signals, by name.

        Example:
            >>> net = snn.sequential()
            >>> scores = net(images.expand(32, *images.shape))    # as snn(images, 32)
            >>> snnfast.export_c(net, "firmware", images.shape[1:])
        """
        self._check_calibrated()
        if self._fitted is None and any(threshold.numel() > 1 for threshold in self.thresholds):
            raise RuntimeError("SpikingNetwork: run it on images first, which tell the shapes of the thresholds")
        return sequential(self.plan, self, {name: self.neurons(name) for name in self.plan.neurons})

    def stream(self, images: Tensor, *, warm_up: int = 0, record: bool = False, watch: bool = False) -> Stream:
        """Return a run over ``images`` that you can continue step by step; see :class:`Stream`."""
        check.integer("SpikingNetwork", "warm_up", warm_up, least=0)
        self._check_calibrated()
        images = self.check_images(images)
        self._fit(images)
        return Stream(
            self.plan.by_step if record or watch else self.plan,
            self,
            {name: self.neurons(name) for name in self.plan.neurons},
            images,
            encoding=self.encoding,
            warm_up=warm_up,
            record=record,
            watch=watch,
        )

    def _check_calibrated(self) -> None:
        unset = [place for place, th in zip(self.places, self.thresholds) if bool(th.isnan().any())]
        if unset:
            raise RuntimeError(
                f"SpikingNetwork: there are no thresholds yet at {', '.join(unset)}; calibrate with "
                "snnfast.convert, or give them to update_threshold"
            )

    def check_images(self, images: Tensor) -> Tensor:
        """Check ``images``; return them on the network's device."""
        if not isinstance(images, Tensor):
            raise TypeError(f"SpikingNetwork: images must be a tensor, got {type(images).__name__}")
        if images.layout != torch.strided:
            raise TypeError(f"SpikingNetwork: images must be dense, got {images.layout}")
        if not images.is_floating_point():
            raise TypeError(f"SpikingNetwork: images must be floating point, got {images.dtype}")
        shape = self.input_shape
        if images.dim() < 2 or (shape is not None and tuple(images.shape[1:]) != tuple(shape)):
            sizes = "..." if shape is None else ", ".join(map(str, shape))
            raise ValueError(f"SpikingNetwork: images must have shape [B, {sizes}], got {list(images.shape)}")
        if not bool(images.isfinite().all()):
            raise ValueError("SpikingNetwork: images must be finite, got NaN or infinity")
        parameter = next(self.parameters(), None)
        images = images if parameter is None else images.to(parameter.device, parameter.dtype)
        return images.contiguous()

    @torch.no_grad()
    def analog(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Run the ReLU network; return its scores, and its activations at every layer of neurons.

        With ``spiking_output`` the activations include the scores.
        """
        images = self.check_images(images)
        self._fit(images)
        values = self.run(self.plan.nodes.values(), images)
        return values[self.plan.result], {name: values[name] for name in self.plan.neurons}

    @torch.no_grad()
    def _fit(self, images: Tensor) -> None:
        """Set the shapes of activations by the first image, and check that the model does not mix images."""
        if self._fitted == images.shape[1:]:
            return
        # Two batch sizes: a mean over one image is that image, and another dimension may have the size of the batch.
        for count in (2, 3):
            batch = images[:1].repeat(count, *(1,) * (images.dim() - 1))
            values = self.run(self.plan.nodes.values(), batch)
        for name, place in zip(self.plan.neurons, self.places):
            self.neurons(name).fit(values[name].shape[1:], f"SpikingNetwork: the threshold of {place}")
        self._fitted = images.shape[1:]

    def extra_repr(self) -> str:
        """Return the settings that the layers do not show."""
        return f"encoding={self.encoding!r}, unit_spikes={self.unit_spikes}, spiking_output={self.spiking_output}"


def increasing(op: str, steps: Sequence[int], warm_up: int) -> tuple[int, ...]:
    """Return ``steps``; check that they are not empty, increase, and exceed ``warm_up``."""
    wanted = check.sizes(op, "steps", steps)
    if not wanted or any(b <= a for a, b in itertools.pairwise(wanted)):
        raise ValueError(f"{op}: steps must be increasing numbers from 1 on, got {wanted}")
    _check_warm_up(op, "steps", wanted[0], warm_up)
    return wanted


def _check_warm_up(op: str, name: str, num_steps: int, warm_up: int) -> None:
    check.integer(op, name, num_steps)
    if check.integer(op, "warm_up", warm_up, least=0) >= num_steps:
        raise ValueError(f"{op}: {name} must be more than warm_up, got {num_steps} and {warm_up}")


def one_of(name: str, value: object, allowed: Iterable[str]) -> None:
    """Raise an error unless ``value`` is one of the names ``allowed``."""
    allowed = tuple(allowed)
    if value not in allowed:
        raise ValueError(f"convert: {name} must be one of {', '.join(allowed)}, got {value!r}")
