"""A ReLU network run as a spiking one: :class:`SpikingNetwork` holds it, :class:`Stream` runs it, chunk by chunk."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from snnfast import check, ops
from snnfast.reference.poisson import check_range

from .trace import Traced, trace

Encoder = Callable[[Tensor], Tensor]

ENCODINGS = ("constant", "poisson", "saturating")
RESETS = ("soft", "hard")
# Steps that run layer by layer where nothing else is asked for: enough that membranes stay in registers for a while,
# few enough that the spikes of a layer stay in the cache.
CHUNK = 16


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


class Plan:
    """What runs when: worked out once from the graph, by the names of its nodes.

    Attributes:
        neurons: the spiking nodes in the order in which they run.
        once: nodes that no neuron comes before, with constant input; they run once.
        stored: what is worked out for all steps of a chunk, in order: neurons, max pools, and the products they read.
        recipe: by name of a stored node that is no neuron and no pool, the nodes to run for it at every step.
        tail: nodes that no neuron comes after; they run on means over time.
        counted: stored nodes, and the input, that the tail reads.
        unread: neurons whose spikes nobody reads, only their counts.
        absorbed: by name of a product, the neurons whose thresholds its weights take over.
        flattened: the products among them that a Flatten comes before.
        scaled: neurons whose spikes have to be multiplied by their thresholds.
    """

    def __init__(self, traced: Traced, *, constant_input: bool, by_step: bool = False) -> None:
        """``by_step`` runs the tail at every step as well, for those who count what it does."""
        self.graph: fx.Graph = traced.module.graph
        self.kinds, self.places = traced.kinds, traced.places
        self.products, self.homogeneous = traced.products, traced.homogeneous
        output = next(n for n in self.graph.nodes if n.op == "output")
        self.result = output.args[0].name
        self.input = next(n.name for n in self.graph.nodes if n.op == "placeholder")
        nodes = self.nodes
        kinds = self.kinds
        self.neurons = [n.name for n in nodes if kinds[n.name] == "spiking"]
        self.once: list[str] = []
        constant = set()
        for n in nodes:
            given = (
                constant_input
                if n.op == "placeholder"
                else all(i.name in constant for i in n.all_input_nodes)
            )
            if given and kinds[n.name] != "spiking":
                constant.add(n.name)
                if n.op != "placeholder":
                    self.once.append(n.name)
        before_neurons: set[str] = set()
        for n in reversed(nodes):
            if any(u.name in before_neurons or kinds[u.name] == "spiking" for u in n.users):
                before_neurons.add(n.name)
        varying = [n for n in nodes if n.name not in constant]
        self.tail = [
            n.name
            for n in varying
            if not by_step
            and n.name not in before_neurons
            and kinds[n.name] != "spiking"
            and n.op != "placeholder"
        ]
        middle = {n.name for n in varying} - set(self.tail)
        read = {i.name for n in nodes if n.name in self.tail for i in n.all_input_nodes} | {
            self.result
        }
        self.counted = [n.name for n in varying if n.name in middle and n.name in read]
        self.constant = constant
        self.stored = []
        for n in varying:
            if n.name not in middle:
                continue
            users = [u.name for u in n.users if u.name in middle]
            stateful = kinds[n.name] in ("spiking", "max_pool")
            feeds = any(kinds[u] in ("spiking", "max_pool") for u in users)
            if stateful or feeds or len(users) > 1 or n.name in self.counted:
                self.stored.append(n.name)
        self.stored = [s for s in self.stored if s != self.input and not self._is_a_size(s)]
        self.recipe = {
            s: self._recipe(s) for s in self.stored if kinds[s] not in ("spiking", "max_pool")
        }
        by_name = {n.name: n for n in nodes}
        self.unread = {
            s for s in self.neurons if not any(u.name in middle for u in by_name[s].users)
        }
        self.absorbed: dict[str, str] = {}
        self.flattened: set[str] = set()
        self.scaled: set[str] = set()
        for s in self.neurons:
            ends = self._products_after(by_name[s], middle)
            if ends is None:
                self.scaled.add(s)
            else:
                self.absorbed |= dict.fromkeys(ends, s)
        self.reads = {s: self._stored_inputs(s) for s in self.stored}

    @property
    def nodes(self) -> list[fx.Node]:
        """The nodes of the graph but for its output, in order."""
        return [n for n in self.graph.nodes if n.op != "output"]

    def _is_a_size(self, name: str) -> bool:
        node = next(n for n in self.graph.nodes if n.name == name)
        is_size = node.op == "call_method" and node.target in ("size", "dim")
        return is_size or (node.op == "call_function" and node.target is getattr)

    def _recipe(self, name: str) -> list[str]:
        """The nodes between stored ones and ``name``, which are run at every step."""
        by_name = {n.name: n for n in self.graph.nodes}
        wanted, todo = {name}, [by_name[name]]
        while todo:
            for i in todo.pop().all_input_nodes:
                known = i.name in self.constant or i.name in self.stored or i.name == self.input
                if not known and i.name not in wanted:
                    wanted.add(i.name)
                    todo.append(i)
        return [n.name for n in self.graph.nodes if n.name in wanted]

    def _stored_inputs(self, name: str) -> list[str]:
        """The stored nodes, and the input, that ``name`` reads in a chunk."""
        by_name = {n.name: n for n in self.graph.nodes}
        run = self.recipe.get(name, [name])
        found = [i.name for r in run for i in by_name[r].all_input_nodes]
        return [f for f in dict.fromkeys(found) if f not in self.constant and f not in run]

    def _products_after(
        self, node: fx.Node, middle: set[str], flat: bool = False
    ) -> list[str] | None:
        """The products that alone read the spikes of ``node``, through pools at most; None if others do."""
        ends: list[str] = []
        for user in node.users:
            if user.name not in middle:
                continue
            if user.name in self.products:
                ends.append(user.name)
                self.flattened |= {user.name} if flat else set()
            elif user.name in self.homogeneous and user.name not in self.counted:
                flattens = "flatten" in self.places[user.name].lower()
                more = self._products_after(user, middle, flat or flattens)
                if more is None:
                    return None
                ends += more
            else:
                return None
        return ends

    def call(self, network: nn.Module, node: fx.Node) -> Callable[[Callable[[str], Any]], Any]:
        """What runs ``node``: a function of a look-up of values by name."""
        if node.op == "get_attr":
            value = _attribute(network, str(node.target))
            return lambda look: value
        if node.op == "call_module":
            run: Callable[..., Any] = network.get_submodule(str(node.target))
        elif node.op == "call_method":
            method = str(node.target)

            def run(it: Any, *args: Any, **kwargs: Any) -> Any:
                return getattr(it, method)(*args, **kwargs)
        else:
            assert callable(node.target)
            run = node.target
        if len(node.args) == 1 and isinstance(node.args[0], fx.Node) and not node.kwargs:
            name = source_of(node)
            return lambda look: run(look(name))

        def general(look: Callable[[str], Any]) -> Any:
            args = fx.map_arg(node.args, lambda n: look(n.name))
            kwargs = fx.map_arg(node.kwargs, lambda n: look(n.name))
            return run(*args, **kwargs)

        return general

    def __deepcopy__(self, memo: dict[int, Any]) -> Plan:
        # A plan is never changed, and a graph points back at its modules.
        return self


class Stream:
    """A run of a :class:`SpikingNetwork` over a batch, which may be continued, and read at any time.

    Memory does not grow with the number of steps: it holds the membranes, the counts that the output reads, and what a
    chunk of steps needs.

    Attributes:
        steps: steps done.
        counts: with ``record=True`` the number of spikes of every layer of neurons, by name, each as its activations.
        active: with ``record=True``, by name of a product that reads spikes, how often each of its inputs was not 0.
    """

    @torch.no_grad()
    def __init__(self, network: SpikingNetwork, images: Tensor, *, record: bool = False) -> None:
        self.network = network
        self.plan = network._plan_by_step if record else network.plan
        self.device, self.steps, self.record = images.device, 0, record
        self.counts: dict[str, Tensor] = {}
        self.active: dict[str, Tensor] = {}
        self._images = images
        self._v: dict[str, Tensor] = {}
        self._sums: dict[str, Tensor] = {}
        self._pools: dict[str, tuple[Tensor, Tensor]] = {}
        self._nodes = {n.name: n for n in self.plan.nodes}
        self._calls = {
            n.name: self._call(n)
            for n in self.plan.nodes
            if n.op != "placeholder" and self.plan.kinds[n.name] != "spiking"
        }
        self._seed = 0
        self._constant: dict[str, Any] = {}
        if network.encoding == "constant":
            self._constant[self.plan.input] = images
        elif isinstance(network.encoding, str):
            if network.encoding == "poisson":
                check_range("SpikingNetwork", "images", images, -1.0, 1.0)
            self._seed = int(torch.randint(0, 2**62, (1,)))
        for name in self.plan.once:
            self._constant[name] = self._calls[name](self._constant.__getitem__)

    @torch.no_grad()
    def advance(self, num_steps: int, *, chunk: int | None = None) -> Stream:
        """Runs ``num_steps`` more steps, ``chunk`` at once, and returns itself."""
        size = check.whole("SpikingNetwork", "chunk", CHUNK if chunk is None else chunk)
        end = self.steps + check.whole("SpikingNetwork", "num_steps", num_steps, least=0)
        while self.steps < end:
            self._chunk(min(size, end - self.steps))
        return self

    @torch.no_grad()
    def output(self) -> Tensor:
        """The scores after the steps so far; see :meth:`SpikingNetwork.forward`."""
        if not self.steps:
            raise RuntimeError("SpikingNetwork: there is no output before the first step")
        if self.network.spiking_output:
            return self._sums[self.plan.result].clone()
        values: dict[str, Any] = dict(self._constant)
        for name in self.plan.counted:
            mean = self._sums[name] / self.steps
            if name in self.plan.neurons and not self.network.unit_spikes:
                mean = mean * self.network.neurons(name).threshold
            values[name] = mean.to(self._images.dtype)
        for name in self.plan.tail:
            # A pool of means: the largest sum is the sum of what the spiking pool gives out.
            values[name] = self.plan.call(self.network, self._nodes[name])(values.__getitem__)
        result: Tensor = values[self.plan.result]
        return result

    def select(self, chosen: Tensor) -> None:
        """Goes on with a part of the batch: indices, or a mask ``[B]``."""
        B = len(self._images)
        self._images = self._images[chosen]
        for state in (self._v, self._sums, self.counts, self.active):
            for name in state:
                state[name] = state[name][chosen]
        self._pools = {name: (a[chosen], b[chosen]) for name, (a, b) in self._pools.items()}
        for name, value in self._constant.items():
            node = self._nodes[name]
            if isinstance(value, Tensor) and node.op != "get_attr" and len(value) == B:
                self._constant[name] = value[chosen]
            elif node.op != "get_attr":
                self._constant[name] = self._calls[name](self._constant.__getitem__)

    def _call(self, node: fx.Node) -> Callable[[Callable[[str], Any]], Any]:
        source = None if self.network.unit_spikes else self.plan.absorbed.get(node.name)
        if source is None:
            return self.plan.call(self.network, node)
        # The weights of one run take over what a spike counts for: a factor on the spikes would be another pass over
        # them, and thresholds stay free to be changed between runs.
        layer = copy.copy(self.network.get_submodule(str(node.target)))
        weight: Tensor = layer.weight  # type: ignore[assignment]
        threshold = self.network.neurons(source).threshold.to(weight.dtype)
        name = source_of(node)
        is_flat = threshold.dim() < 2 or node.name in self.plan.flattened
        if isinstance(layer, nn.Linear) and not is_flat:
            return lambda look: layer(look(name) * threshold)
        if threshold.numel() > 1:
            channels = threshold.numel()
            groups = getattr(layer, "groups", 1)
            each = weight.reshape(groups, weight.shape[0] // groups, channels // groups, -1)
            weight = (each * threshold.view(groups, 1, channels // groups, 1)).view_as(weight)
        else:
            weight = weight * threshold.view(())
        layer._parameters = {**layer._parameters, "weight": weight}  # type: ignore[dict-item]
        return lambda look: layer(look(name))

    def _encode(self, steps: int) -> Tensor:
        """The input of the next steps, ``[steps, B, ...]``."""
        images, encoding = self._images, self.network.encoding
        if callable(encoding):
            rows = [encoding(images) for _ in range(steps)]
            for row in rows:
                if not isinstance(row, Tensor) or row.shape != images.shape:
                    got = list(row.shape) if isinstance(row, Tensor) else type(row).__name__
                    raise ValueError(
                        f"SpikingNetwork: the encoder must keep the shape {list(images.shape)}, got {got}"
                    )
            return torch.stack([row.to(images) for row in rows])
        p, sign = images.abs(), images.sign()
        # A seed a step, so that chunks of any size see the same spikes.
        rows = [
            ops.poisson(p, 1, seed=self._seed + self.steps + t, dtype=images.dtype, validate=False)[
                0
            ]
            for t in range(steps)
        ]
        return torch.stack([row * sign for row in rows])

    def _chunk(self, steps: int) -> None:
        plan, network = self.plan, self.network
        values: dict[str, Tensor] = {}
        if network.encoding != "constant":
            values[plan.input] = self._encode(steps)
            if plan.input in plan.counted:
                self._add(plan.input, values[plan.input])
        readers: dict[str, int] = {}
        for name in plan.stored:
            for read in plan.reads[name]:
                readers[read] = readers.get(read, 0) + 1
        for name in plan.stored:
            kind = plan.kinds[name]
            if kind == "spiking":
                value = self._fire(name, self._sequence(self._nodes[name], values, steps), steps)
            elif kind == "max_pool":
                value = self._pool(name, self._sequence(self._nodes[name], values, steps))
            else:
                value = self._products(name, values, steps)
            if value is not None and readers.get(name):
                values[name] = value
            if kind != "spiking" and name in plan.counted and value is not None:
                self._add(name, value)
            for read in plan.reads[name]:
                readers[read] -= 1
                if not readers[read]:
                    values.pop(read, None)
        self.steps += steps

    def _sequence(self, node: fx.Node, values: dict[str, Tensor], steps: int) -> Tensor:
        """What a stored node reads, ``[steps, B, ...]``."""
        name = source_of(node)
        if name in values:
            return values[name]
        constant: Tensor = self._constant[name]
        return constant.unsqueeze(0).expand(steps, *constant.shape)

    def _fire(self, name: str, x: Tensor, steps: int) -> Tensor | None:
        layer = self.network.neurons(name)
        v = self._v.get(name)
        if v is None:
            v = layer.rest(x[0])
        threshold = layer.threshold.to(v.dtype)
        wanted = name in self.plan.counted
        if name in self.plan.unread:
            count, self._v[name] = ops.spike_count(
                x, v, self._sums.get(name), v_threshold=threshold, v_reset=layer.v_reset
            )
            self._sums[name] = count
            if self.record:
                self.counts[name] = count
            return None
        spikes, v_out = ops.iaf(x, v, v_threshold=threshold, v_reset=layer.v_reset)
        self._v[name] = v_out
        if wanted or self.record:
            # Whole numbers, so that chunks of any size add up to the same.
            count = spikes.sum(0, dtype=v.dtype)
            if wanted:
                self._sums[name] = self._sums[name] + count if name in self._sums else count
            if self.record:
                self.counts[name] = self.counts[name] + count if name in self.counts else count
        if name in self.plan.scaled and not self.network.unit_spikes:
            spikes.mul_(threshold.to(spikes.dtype))
        return spikes

    def _pool(self, name: str, x: Tensor) -> Tensor:
        """A spike wherever the largest sum so far under the window grows."""
        sums, largest = self._pools.get(name, (None, None))
        run, total = ops.li(x, sums, decay=1.0, decay_input=False)
        pool = self._calls[name]
        source = source_of(self._nodes[name])
        pooled = pool({source: run.flatten(0, 1)}.__getitem__)
        pooled = pooled.view(len(x), -1, *pooled.shape[1:])
        first = torch.zeros_like(pooled[0]) if largest is None else largest
        self._pools[name] = (total, pooled[-1].clone())
        return torch.diff(pooled, dim=0, prepend=first.unsqueeze(0)).to(x.dtype)

    def _products(self, name: str, values: dict[str, Tensor], steps: int) -> Tensor:
        """A stored affine node, step by step: a product over another number of rows may round otherwise."""
        recipe = self.plan.recipe[name]
        rows: list[Tensor] = []
        for t in range(steps):
            here: dict[str, Any] = {}

            def look(n: str, here: dict[str, Any] = here, t: int = t) -> Any:
                if n in here:
                    return here[n]
                return values[n][t] if n in values else self._constant[n]

            for part in recipe:
                if self.record and part in self.plan.products:
                    self._record(part, look(source_of(self._nodes[part])))
                here[part] = self._calls[part](look)
            rows.append(here[name])
        return rows[0].unsqueeze(0) if steps == 1 else torch.stack(rows)

    def _record(self, name: str, x: Tensor) -> None:
        active = (x != 0).to(torch.float32)
        self.active[name] = self.active[name] + active if name in self.active else active

    def _add(self, name: str, value: Tensor) -> None:
        total = self._sums.get(name)
        for row in value.to(check.state_dtype(value.dtype)):
            total = row.clone() if total is None else total + row
        assert total is not None
        self._sums[name] = total


def source_of(node: fx.Node) -> str:
    """The name of the node that ``node`` reads first."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    return source.name


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


def _attribute(network: nn.Module, path: str) -> Any:
    value: Any = network
    for name in path.split("."):
        value = getattr(value, name)
    return value


def _short(value: Tensor) -> str:
    if value.numel() == 1:
        return f"{value.item():g}"
    return f"[{', '.join(map(str, value.shape))}] from {value.min().item():g} to {value.max().item():g}"
