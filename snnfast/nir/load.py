"""Conversion of a NIR graph to a network: :func:`from_nir`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from snnfast.nn import IF, LI, LIF, CubaLIF, Delay, IntegerLIF, SpikeConv2d, SpikeLinear, Time

from .cycles import cycles_of, recurrent
from .export import INTEGER_LIF
from .layers import Graph, Scale, SumPool2d, Threshold, TwoLI, sorted_by_need
from .package import package
from .scheme import Steps, checked, delays_of, numbers

__all__ = ["from_nir"]

_DIMENSIONS = {"Affine": 1, "Linear": 1, "Conv1d": 2, "Conv2d": 3, "SumPool2d": 3, "AvgPool2d": 3}


def from_nir(graph: Any, *, dt: float | None = None, scheme: str | None = None) -> Graph:
    """Return a ``nir.NIRGraph`` as a module over ``[T, B, ...]``, with the names of its nodes.

    Neurons fire where ``v > v_threshold``, as in NIR, unless the graph comes from :func:`to_nir` and a layer fired at
    its threshold. Parameters of one value become numbers; ``r`` and ``w_in`` scale the input of a neuron. Nested graphs
    are flattened. Linear layers run inside :class:`snnfast.nn.Time`. Neurons with a cycle through a Linear, an Affine
    or a Scale become :class:`snnfast.nn.Recurrent`: recurrent spikes arrive one step later, plus a Delay in the cycle.

    If the graph's Input has a shape, every node is checked against the shape of its input samples: they must have as
    many elements as the node has neurons.

    Args:
        graph: a graph with one input and one output.
        dt: length of a step in seconds; None: the value stored by :func:`to_nir`. Graphs of other tools do not have it;
            if the tool counts time in steps, it is 1.
        scheme: ``"euler"`` or ``"exponential"``, likewise: ``decay`` is ``1 - dt / tau`` or ``exp(-dt / tau)``.

    Raises:
        ImportError: without the package ``nir``.
        TypeError, ValueError: without ``dt`` or ``scheme``, for several inputs or outputs, for a node or a cycle
            without an equivalent, and for a node with a missing or impossible field, by name.
    """
    nir = package("from_nir")
    if not isinstance(graph, nir.NIRGraph):
        raise TypeError(f"from_nir: graph must be a NIRGraph, got {type(graph).__name__}")
    metadata = graph.metadata if isinstance(graph.metadata, dict) else {}
    if not isinstance(metadata.get("dt"), (float, int, np.number, type(None))):
        raise ValueError(f"from_nir: the dt that the graph keeps must be a number, got {metadata['dt']!r}")
    dt = metadata.get("dt") if dt is None else dt
    scheme = _text(metadata.get("scheme")) if scheme is None else scheme
    for name, value in (("dt", dt), ("scheme", scheme)):
        if value is None:
            raise ValueError(f"from_nir: the graph does not say its {name}, and NIR has no default; give {name}=")
    steps = checked("from_nir", float(dt) if isinstance(dt, np.generic) else dt, scheme)
    try:
        nodes, sources = _taken_apart(graph)
    except RecursionError:
        raise ValueError("from_nir: the graph has graphs in graphs without end") from None
    ends = {kind: [n for n, node in nodes.items() if _kind(node) == kind] for kind in ("Input", "Output")}
    for kind, names in ends.items():
        if len(names) != 1:
            raise ValueError(f"from_nir: the graph must have one {kind}, got {', '.join(names) or 'none'}")
    (entry,), (end,) = ends["Input"], ends["Output"]
    if not sources[end]:
        raise ValueError(f"from_nir: nothing leads to {end}")
    kinds = {name: _kind(node) for name, node in nodes.items()}
    passes = [name for name, node in nodes.items() if isinstance(node, _PassOn)]
    try:
        cycles = cycles_of(kinds, sources, passes)
        order = sorted_by_need({n: s for n, s in sources.items() if n != entry} | {entry: [""]})
    except ValueError as error:
        raise ValueError(f"from_nir: {error}") from None
    dimensions = {entry: _dimensions_of_input(nodes[entry])}
    with _named(f"{entry}, an Input, cannot be read"):
        has_int8 = any(np.asarray(getattr(node, "weight", 0.0)).dtype == np.int8 for node in nodes.values())
        samples = {entry: _sample_of_input(nodes[entry], torch.int8 if has_int8 else torch.float32)}
    modules: dict[str, nn.Module] = {}
    for name in order:
        if name == entry:
            modules[name] = nn.Identity()
            continue
        if not sources[name]:
            raise ValueError(f"from_nir: nothing leads to {name}")
        before = dimensions[sources[name][0]]
        x = _sum_of_samples(name, [samples[source] for source in sources[name]])
        with _named(f"{name}, a {kinds[name]}, cannot be read"):
            loaded = _Load(name, nodes[name], steps, before, None if x is None else tuple(x.shape[2:]))
            modules[name], dimensions[name] = loaded.module()
            if name in cycles:
                modules[name] = recurrent(modules[name], cycles[name], nodes, steps)
        samples[name] = None
        if x is not None:
            with _named(f"{name}, a {kinds[name]}, does not take samples {list(x.shape[2:])}"), torch.no_grad():
                samples[name] = modules[name](x)
    return Graph(modules, {n: [""] if n == entry else sources[n] for n in order}, end)


@contextmanager
def _named(subject: str) -> Iterator[None]:
    """Turn an error about a node into a ValueError that names it; it may be anything if a field is missing or odd."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith("from_nir: "):
            raise
        raise ValueError(f"from_nir: {subject}: {type(error).__name__}: {error}") from error


def _sample_of_input(node: Any, dtype: torch.dtype) -> Tensor | None:
    """Return zeros ``[1, 1, ...]`` in the shape of an Input; None if it has no shape."""
    shape = np.asarray((node.input_type or {}).get("input"))
    if shape.ndim > 1 or not np.issubdtype(shape.dtype, np.integer) or (shape < 1).any():
        return None
    # On the CPU, whatever the default device. An expanded tensor takes no memory.
    zero = torch.zeros((), dtype=dtype, device="cpu")
    return zero.expand(1, 1, *shape.ravel().tolist())


def _sum_of_samples(name: str, samples: list[Tensor | None]) -> Tensor | None:
    """Return the sum of the inputs of ``name``: zeros, used for their shape."""
    known = [x for x in samples if x is not None]
    for x in known[1:]:
        if x.shape != known[0].shape:
            raise ValueError(
                f"from_nir: {name} gets samples {list(known[0].shape[2:])} and {list(x.shape[2:])}, which have no sum"
            )
    return known[0] if len(known) == len(samples) else None


def _taken_apart(graph: Any, prefix: str = "") -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Return nodes by name, and the predecessors of each; nodes of nested graphs have its name as a prefix."""
    nodes: dict[str, Any] = {}
    sources: dict[str, list[str]] = {}
    enter: dict[str, str] = {}
    leave: dict[str, str] = {}
    for name, node in graph.nodes.items():
        path = prefix + name
        if _kind(node) != "NIRGraph":
            nodes[path] = node
            enter[name] = leave[name] = path
            sources[path] = []
            continue
        inner, of_inner = _taken_apart(node, f"{path}.")
        for kind, side in (("Input", enter), ("Output", leave)):
            names = [n for n in inner if _kind(inner[n]) == kind]
            if len(names) != 1:
                raise ValueError(f"from_nir: the graph {path} must have one {kind}, got {len(names)}")
            side[name] = names[0]
            inner[names[0]] = _PassOn()
        nodes |= inner
        sources |= of_inner
    for edge in graph.edges:
        if len(edge) != 2:
            raise ValueError(f"from_nir: an edge must name two nodes, got {edge!r}")
        a, b = edge
        for name in (str(a), str(b)):
            if name not in enter:
                raise ValueError(f"from_nir: the edge from {a} to {b} names no node {prefix}{name}")
        sources[enter[str(b)]].append(leave[str(a)])
    return nodes, sources


class _PassOn:
    """Input or output of a nested graph, which passes its input on."""


def _kind(node: Any) -> str:
    return type(node).__name__


def _dimensions_of_input(node: Any) -> int:
    shape = (node.input_type or {}).get("input")
    return 1 if shape is None else max(int(np.size(shape)), 1)


class _Load:
    """Conversion of one node to a module."""

    def __init__(self, name: str, node: Any, steps: Steps, dimensions: int, sample: tuple[int, ...] | None) -> None:
        self.name, self.node, self.steps, self.dimensions = name, node, steps, dimensions
        self.sample = sample
        self.exact = {
            key.removeprefix("snnfast_"): value for key, value in (getattr(node, "metadata", None) or {}).items()
        }

    def module(self) -> tuple[nn.Module, int]:
        """Return the module, and the number of dimensions of an output sample."""
        kind = _kind(self.node)
        make = getattr(self, f"_{kind.lower().strip('_')}", None)
        if make is None:
            raise ValueError(f"from_nir: there is no equal for {self.name}, a {kind}")
        make = self._integer_lif if "gain" in self.exact else make
        module = make()  # that of a Flatten changes self.dimensions
        return module, _DIMENSIONS.get(kind, self.dimensions)

    def _output(self) -> nn.Module:
        return nn.Identity()

    _identity = _passon = _output

    # Layers without time.

    def _affine(self) -> nn.Module:
        node, weight = self.node, self._tensor("weight")
        if weight.dim() != 2:
            raise ValueError(f"from_nir: {self.name} must have a weight [out, in], got {list(weight.shape)}")
        kind = SpikeLinear if weight.dtype == torch.int8 else nn.Linear
        linear = kind(weight.shape[1], weight.shape[0], bias=hasattr(node, "bias"))
        linear.weight = nn.Parameter(weight, requires_grad=weight.is_floating_point())
        if hasattr(node, "bias"):
            linear.bias = nn.Parameter(self._tensor("bias").expand(len(weight)).contiguous())
        return Time(linear)

    _linear = _affine

    def _conv2d(self) -> nn.Module:
        weight, two = self._tensor("weight"), _kind(self.node) == "Conv2d"
        options = {n: _as_ints(getattr(self.node, n), two) for n in ("stride", "padding", "dilation")}
        groups = int(self.node.groups)
        is_int8 = weight.dtype == torch.int8
        conv: Any = cast(Any, SpikeConv2d if is_int8 else nn.Conv2d if two else nn.Conv1d)(
            weight.shape[1] * groups, len(weight), tuple(weight.shape[2:]), groups=groups, bias=not is_int8, **options
        )
        conv.weight = nn.Parameter(weight, requires_grad=not is_int8)
        if not is_int8:
            conv.bias = nn.Parameter(self._tensor("bias").expand(len(weight)).contiguous())
        return Time(conv)

    _conv1d = _conv2d

    def _sumpool2d(self) -> nn.Module:
        kind = SumPool2d if _kind(self.node) == "SumPool2d" else nn.AvgPool2d
        return Time(kind(*(_as_ints(getattr(self.node, n)) for n in ("kernel_size", "stride", "padding"))))

    _avgpool2d = _sumpool2d

    def _flatten(self) -> nn.Module:
        dims = int(self.node.start_dim), int(self.node.end_dim)
        shape = (self.node.input_type or {}).get("input")
        count = self.dimensions if shape is None else int(np.size(shape))
        first, last = (d if d >= 0 else d + count for d in dims)
        self.dimensions = count - (last - first)
        # NIR counts dimensions without the batch; negative ones count from the end, as in PyTorch.
        return Time(nn.Flatten(*(d + 1 if d >= 0 else d for d in dims)))

    def _scale(self) -> nn.Module:
        return Scale(self._tensor("scale"))

    def _threshold(self) -> nn.Module:
        return Threshold(self._constant(self._per_neuron("threshold")))

    def _delay(self) -> nn.Module:
        steps = delays_of(self.name, self.node) / self.steps.dt
        self._check_neurons("delay", steps)
        if steps.ndim == 0:
            raise ValueError(f"from_nir: {self.name} has one delay for any number of channels; give it one for each")
        per_channel = steps.reshape(len(steps), -1)
        if (per_channel != per_channel[:, :1]).any():
            raise ValueError(
                f"from_nir: {self.name} has several delays in a channel; there is an equal for one a channel"
            )
        delay = Delay(len(steps), float(np.float32(per_channel.max(initial=0.0))))
        with torch.no_grad():
            delay.d.copy_(torch.from_numpy(per_channel[:, 0]))
        return delay

    # Neurons.

    def _integer_lif(self) -> nn.Module:
        fields = {n: np.asarray(self.exact[n]) for n in INTEGER_LIF if n in self.exact}
        scales = {n: torch.from_numpy(fields.pop(n).astype(np.int32)) for n in ("gain", "bias")}
        for name in ("decay", "v_threshold", "v_reset", "limit"):
            scales[name] = int(fields.pop(name)) if name in fields else None  # type: ignore[assignment]
        return IntegerLIF(**scales, unit=float(fields["unit"]))  # type: ignore[arg-type]

    def _i(self) -> nn.Module:
        return self._scaled(LI(decay=1.0, decay_input=False), self._gain())

    def _if(self) -> nn.Module:
        return self._scaled(IF(**self._firing()), self._gain())

    def _li(self) -> nn.Module:
        leak, scale = self._leak("tau")
        return self._scaled(LI(**leak), scale)

    def _lif(self) -> nn.Module:
        leak, scale = self._leak("tau")
        return self._scaled(LIF(**leak, **self._firing()), scale)

    def _cubali(self) -> nn.Module:
        leak, scale = self._leak("tau_mem")
        scaled = bool(self.exact.get("scaled_syn", True))
        syn, w_in = self._current(scaled)
        neurons = TwoLI(LI(**syn, decay_input=scaled), LI(**leak))
        return self._scaled(neurons, self._product(w_in, scale))

    def _cubalif(self) -> nn.Module:
        leak, scale = self._leak("tau_mem")
        syn, w_in = self._current(False)
        syn = {f"{name}_syn": value for name, value in syn.items()}
        neurons = CubaLIF(**syn, **leak, **self._firing())
        return self._scaled(neurons, self._product(w_in, scale))

    def _product(self, a: Any, b: Any) -> Any:
        # The current is linear in the input, so a factor of the current may scale the input.
        return a if b is None else b if a is None else a * b

    def _scaled(self, module: nn.Module, scale: Any) -> nn.Module:
        if scale is None:
            return module
        return nn.Sequential(Scale(self._shaped(torch.as_tensor(scale).float())), module)

    def _gain(self) -> Any:
        """Return ``r dt``, the factor of the input without leak; None for 1."""
        gain = self._per_neuron("r") * self.steps.dt
        return None if np.allclose(gain, 1, rtol=1e-6, atol=0) else gain

    def _leak(self, tau: str) -> tuple[dict[str, Any], Any]:
        """Return the leak arguments of a neuron, and a further scale of its input or None."""
        leak_argument, rate = self._leak_argument(tau)
        r = self._per_neuron("r")
        decay_input, scale = True, cast(Any, r)
        if np.allclose(r * rate, 1, rtol=1e-5, atol=0) and not self.exact.get("decay_input", False):
            decay_input, scale = False, None
        elif np.all(r == 1):
            scale = None
        leak = {**leak_argument, "decay_input": decay_input, "v_rest": self._constant(self._per_neuron("v_leak"))}
        return leak, scale

    def _current(self, scaled: bool) -> tuple[dict[str, Any], Any]:
        """Return the leak argument of a current, and the scale of its input or None."""
        leak_argument, rate = self._leak_argument("tau_syn", "_syn")
        w_in = self._per_neuron("w_in")
        gain = w_in if scaled else w_in * rate
        none = np.allclose(gain, 1, rtol=1e-5 if self.exact else 1e-6, atol=0)
        return leak_argument, None if none else gain

    def _leak_argument(self, field: str, suffix: str = "") -> tuple[dict[str, Any], Any]:
        """Return the leak as an argument, ``tau`` or ``decay``, and the leak rate per step."""
        rate = self.steps.rate(f"from_nir: {self.name}", self._per_neuron(field))
        for name in ("tau", "decay"):
            exact = self.exact.get(name + suffix)
            if exact is None:
                continue
            exact = np.asarray(exact, dtype=np.float64)
            # A time constant that was changed since the export has precedence.
            ratio, expected = (exact * rate, 1.0) if name == "tau" else (1 - exact, rate)
            if np.broadcast_shapes(exact.shape, rate.shape) == rate.shape and np.allclose(
                ratio, expected, rtol=1e-6, atol=0
            ):
                return {name: self._constant(exact)}, rate
        if (rate == 0).any():
            return {"decay": self._constant(1 - rate)}, rate
        return {"tau": self._constant(1 / rate)}, rate

    def _firing(self) -> dict[str, Any]:
        fields = {n: self._constant(self._per_neuron(n)) for n in ("v_threshold", "v_reset")}
        return fields | {"strict": bool(self.exact.get("strict", True))}

    def _per_neuron(self, field: str) -> Any:
        """Return a field with one value, or one per neuron or channel, in float64."""
        array = numbers(self.name, self.node, field)
        self._check_neurons(field, array)
        return array

    def _check_neurons(self, field: str, array: Any) -> None:
        """Check that there are as many values as elements or channels in a sample."""
        shape = self.sample
        if shape is None or array.size == 1 or array.shape in (shape, shape[:1]):
            return
        raise ValueError(
            f"from_nir: {self.name}, a {_kind(self.node)}, gets samples {list(shape)}, but has {field} of "
            f"{list(array.shape)}"
        )

    def _constant(self, array: Any) -> float | Tensor:
        """Return a number if all neurons share it, else a tensor that broadcasts to a sample."""
        array = np.asarray(array, dtype=np.float64)
        if array.size and (array == array.flat[0]).all():
            return float(array.flat[0])
        return self._shaped(torch.from_numpy(array.astype(np.float32)))

    def _tensor(self, name: str) -> Tensor:
        if name == "scale":
            self._per_neuron(name)
        is_int8 = name == "weight" and np.asarray(self.node.weight).dtype == np.int8
        array = numbers(self.name, self.node, name).astype(np.int8 if is_int8 else np.float32)
        return self._shaped(torch.from_numpy(array)) if name == "scale" else torch.from_numpy(array)

    def _shaped(self, value: Tensor) -> Tensor:
        """Reshape one value per channel, ``[C]``, for samples ``[C, ...]``."""
        if value.dim() == 1 and value.numel() > 1 and self.dimensions > 1:
            return value.view(-1, *(1,) * (self.dimensions - 1))
        return value


def _as_ints(value: Any, pair: bool = True) -> Any:
    """Return an integer, or a pair of integers; ``"same"`` and ``"valid"`` unchanged."""
    if isinstance(value, (str, bytes)):
        return _text(value)
    values = [int(v) for v in np.ravel(value)]
    if pair:
        return tuple(values * 2 if len(values) == 1 else values)
    return values[0]


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
