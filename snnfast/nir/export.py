"""Export of a network as a NIR graph: :func:`to_nir`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from snnfast import check
from snnfast.export.plan import LayerNode, at_rest, layers_of
from snnfast.nn import IF, LI, LIF, CubaLI, CubaLIF, Delay, IntegerLIF, ParametricLIF, Recurrent, Time
from snnfast.nn.own_neuron import OwnNeuron
from snnfast.nn.spiking import leak
from snnfast.reference.integer_lif import DECAY

from .layers import Graph, Offset, Scale, SumPool2d, Threshold, TwoLI
from .package import package
from .scheme import Steps, checked

__all__ = ["to_nir"]

INTEGER_LIF = ("gain", "bias", "decay", "v_threshold", "v_reset", "limit", "unit")  # arguments of its constructor
_LEAVES = (Scale, Offset, TwoLI)


def to_nir(net: nn.Module, input_shape: Sequence[int], *, dt: float, scheme: str) -> Any:
    """Return ``net`` as a ``nir.NIRGraph``.

    The network is traced by ``torch.fx``: layers of :mod:`snnfast.nn`, of ``torch.nn`` and of :mod:`snnfast.nir`, in
    any modules and with sums of their outputs. ``nn.Linear`` becomes an Affine, or a Linear without bias; batch
    normalisation directly after a product is folded into it, as in evaluation; dropout and identities are removed.
    ``dt``, ``scheme`` and properties that NIR lacks (whether a neuron fires at its threshold) are stored in
    ``metadata``, so that :func:`from_nir` restores the same spikes bit for bit. A network of
    :func:`snnfast.export.integer` has its int8 weights and, in the membrane's units, its neurons; its integers are in
    ``metadata``, too.

    Args:
        net: the network.
        input_shape: shape of a sample, without steps and batch.
        dt: length of a step in seconds.
        scheme: ``"euler"`` or ``"exponential"``: ``decay`` is ``1 - dt / tau`` or ``exp(-dt / tau)``.

    Raises:
        ImportError: without the package ``nir``.
        TypeError, ValueError: for arguments of wrong type or range, and for a layer without an equivalent in NIR, by
            name: soft reset, adaptive thresholds, readouts such as ``Rate``, hooks.
    """
    nir = package("to_nir")
    steps = checked("to_nir", dt, scheme)
    shape = tuple(check.sizes("to_nir", "input_shape", input_shape))
    still = at_rest("to_nir", net, *_LEAVES)
    try:
        layers = layers_of(still, shape, *_LEAVES)
    except ValueError as error:
        raise ValueError(f"to_nir: {error}") from None
    found = _Export(nir, steps, still)
    found.run(layers, shape)
    result = nir.NIRGraph(found.nodes, found.edges, type_check=False)
    result.metadata = {"dt": steps.dt, "scheme": steps.scheme, "source": "snnfast"}
    return result


class _Export:
    """Nodes and edges of a NIR graph, built along a list of layers."""

    def __init__(self, nir: Any, steps: Steps, net: nn.Module) -> None:
        self.nir, self.steps, self.net = nir, steps, net
        keys = net.keys if isinstance(net, Graph) else {}
        self.names = {f"nodes.{key}": name for name, key in keys.items()}
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []

    def run(self, nodes: Sequence[LayerNode], shape: tuple[int, ...]) -> None:
        """Build all of ``nodes``, for samples of ``shape``."""
        values = {-1: self._add("input", self.nir.Input(input_type={"input": np.array(shape)}), ())}
        for index, node in enumerate(nodes):
            sources = [values[i] for i in node.inputs]
            if node.module is None:
                values[index] = self._sum(node, *sources)
            else:
                values[index] = self._layer(node._replace(name=self._name(node.name)), *sources)
        end = {"output": np.array(nodes[-1].after)}
        self._add("output", self.nir.Output(output_type=end), values[len(nodes) - 1])

    def _name(self, name: str) -> str:
        """Return the name of a layer without the ``layer`` of :class:`snnfast.nn.Time`, or its name in the graph."""
        words: list[str] = []
        module: Any = self.net
        for word in name.split("."):
            words += [] if isinstance(module, Time) else [word]
            module = getattr(module, word)
        name = ".".join(words)
        longest = next((n for n in self.names if name == n or name.startswith(f"{n}.")), "")
        return self.names.get(longest, "") + name[len(longest) :]

    def _add(self, name: str, node: Any, sources: Sequence[str]) -> tuple[str, ...]:
        while name in self.nodes:
            name += "_"
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        return (name,)

    def _sum(self, node: LayerNode, a: tuple[str, ...], b: tuple[str, ...]) -> tuple[str, ...]:
        """Return the sources of a sum; NIR sums the distinct predecessors of a node, so repeated ones pass a Scale."""
        if len(b) > 1 or b[0] in a:
            b = self._add(node.name, self.nir.Scale(scale=_filled(1.0, node.after)), b)
        return (*a, *b)

    def _layer(self, node: LayerNode, sources: tuple[str, ...]) -> tuple[str, ...]:
        if isinstance(node.module, Recurrent):
            return self._recurrent(node, node.module, sources)
        return self._add(node.name, self._node_of(node), sources)

    def _node_of(self, node: LayerNode) -> Any:
        make = next((f for kind, f in _KINDS.items() if isinstance(node.module, kind)), None)
        if make is None:
            equation = getattr(node.module, "neuron", None)
            step = ", whose equation is a step function" if isinstance(equation, OwnNeuron) else ""
            raise ValueError(f"to_nir: NIR has no equal for {node.name}, a {type(node.module).__name__}{step}")
        return make(self, node.name, node.module, node.before)

    def _recurrent(self, node: LayerNode, layer: Recurrent, sources: tuple[str, ...]) -> tuple[str, ...]:
        """Add neurons, and a cycle through a Linear, with a Delay before it if spikes take more than one step."""
        if not isinstance(layer.neuron, tuple(_KINDS)) or len(node.after) != 1:
            equation = getattr(layer.neuron, "neuron", None)
            step = ", whose equation is a step function," if isinstance(equation, OwnNeuron) else ""
            kind = f"{type(layer).__name__} of {type(layer.neuron).__name__}"
            description = f"a {kind}{step} for {list(node.after)}"
            raise ValueError(f"to_nir: NIR has no equal for {node.name}, {description}")
        neuron = self._add(node.name, self._node_of(node._replace(module=layer.neuron)), sources)
        way = neuron
        if layer.delays is not None:
            seconds = layer.delays.detach().double().clamp(min=0).numpy() * self.steps.dt
            way = self._add(f"{node.name}.delay", self.nir.Delay(delay=seconds), way)
        weight = layer.connected(layer.weight.detach())
        back = self.nir.Linear(weight=_array(weight), metadata=_exact({"steps": 1}))
        way = self._add(f"{node.name}.recurrent", back, way)
        self.edges.append((way[0], neuron[0]))
        return neuron

    # One method per kind of node.

    def _linear(self, name: str, layer: nn.Linear, shape: tuple[int, ...]) -> Any:
        if len(shape) != 1:
            raise ValueError(f"to_nir: {name} must get one dimension a sample, got {list(shape)}; flatten it before")
        if layer.bias is None:
            return self.nir.Linear(weight=_array(layer.weight))
        return self.nir.Affine(weight=_array(layer.weight), bias=_array(layer.bias))

    def _conv(self, name: str, layer: Any, shape: tuple[int, ...]) -> Any:
        if layer.padding_mode != "zeros":
            raise ValueError(f"to_nir: NIR has no equal for {name}, which pads by {layer.padding_mode}")
        two = isinstance(layer, nn.Conv2d)
        values = {n: getattr(layer, n) for n in ("stride", "padding", "dilation")}
        if not two:
            values = {n: v if isinstance(v, str) else v[0] for n, v in values.items()}
        bias = np.zeros(layer.out_channels, np.float32) if layer.bias is None else layer.bias
        size = tuple(shape[1:]) if two else shape[1]
        conv = (self.nir.Conv2d if two else self.nir.Conv1d)(
            input_shape=size, weight=_array(layer.weight), groups=layer.groups, bias=_array(bias), **values
        )
        conv.input_type = {"input": np.array(shape)}  # nir's own is wrong for grouped convolutions
        return conv

    def _pool(self, name: str, layer: Any, shape: tuple[int, ...]) -> Any:
        if isinstance(layer, nn.AvgPool2d) and (
            layer.ceil_mode
            or layer.divisor_override is not None
            or (not layer.count_include_pad and layer.padding not in (0, (0, 0)))
        ):
            raise ValueError(
                f"to_nir: NIR has no equal for {name}, an AvgPool2d with ceil_mode={layer.ceil_mode}, "
                f"divisor_override={layer.divisor_override}, count_include_pad={layer.count_include_pad}"
            )
        kind = self.nir.SumPool2d if isinstance(layer, SumPool2d) else self.nir.AvgPool2d
        names = ("kernel_size", "stride", "padding")
        values = {n: np.array(_pair(getattr(layer, n))) for n in names}
        pool = kind(**values)
        with torch.no_grad():
            y = layer(torch.zeros(1, *shape))
        pool.input_type = {"input": np.array(shape)}
        pool.output_type = {"output": np.array(y.shape[1:])}
        return pool

    def _flatten(self, name: str, layer: nn.Flatten, shape: tuple[int, ...]) -> Any:
        before = {"input": np.array(shape)}
        return self.nir.Flatten(before, start_dim=layer.start_dim, end_dim=layer.end_dim)

    def _scale(self, name: str, layer: Scale, shape: tuple[int, ...]) -> Any:
        return self.nir.Scale(scale=_filled(layer.scale, shape))

    def _offset(self, name: str, layer: Offset, shape: tuple[int, ...]) -> Any:
        if len(shape) != 1:
            raise ValueError(f"to_nir: NIR has no equal for {name}, an Offset of {list(shape)}")
        return self.nir.Affine(weight=np.eye(*shape, dtype=np.float32), bias=_filled(layer.offset, shape))

    def _threshold(self, name: str, layer: Threshold, shape: tuple[int, ...]) -> Any:
        return self.nir.Threshold(threshold=_filled(layer.v_threshold, shape))

    def _delay(self, name: str, layer: Delay, shape: tuple[int, ...]) -> Any:
        if layer.sigma:
            raise ValueError(f"to_nir: {name} spreads spikes by sigma = {layer.sigma:g}; set it to 0 first")
        steps = layer.delays.detach().double().numpy()
        per_neuron = steps.reshape(-1, *(1,) * (len(shape) - 1)) * self.steps.dt
        # float64, so that a float32 delay is restored bit for bit.
        return self.nir.Delay(delay=np.ascontiguousarray(np.broadcast_to(per_neuron, shape)))

    def _integer_lif(self, name: str, layer: IntegerLIF, shape: tuple[int, ...]) -> Any:
        """Return a node in units of the membrane; the integers themselves are metadata."""
        if type(layer) is not IntegerLIF:
            raise ValueError(f"to_nir: NIR has no equal for {name}, a {type(layer).__name__}")
        exact = _exact({n: _values(v) for n in INTEGER_LIF if (v := getattr(layer, n)) is not None})
        gain, bias = (_values(v.view(-1, *(1,) * (len(shape) - 1))) for v in (layer.gain, layer.bias))
        rate = 1 - layer.decay / DECAY
        fields = {"v_threshold": _filled(layer.v_threshold, shape)} if layer.v_threshold is not None else {}
        if fields:
            self._refuse_reset(name, layer)
            fields["v_reset"] = _filled(layer.v_reset, shape)
        if rate == 0:
            if bias.any():
                raise ValueError(f"to_nir: {name} has a bias and no leak; NIR has no equal")
            kind = self.nir.IF if fields else self.nir.I
            return kind(r=_filled(gain / self.steps.dt, shape), **fields, metadata=exact)
        leaky = {"tau": self.steps.tau(f"to_nir: {name}", rate), "r": gain / rate, "v_leak": bias / rate}
        kind = self.nir.LIF if fields else self.nir.LI
        return kind(**{n: _filled(v, shape) for n, v in leaky.items()}, **fields, metadata=exact)

    def _iaf(self, name: str, layer: IF, shape: tuple[int, ...]) -> Any:
        return self.nir.IF(
            r=_filled(1 / self.steps.dt, shape),
            **self._firing(name, layer, shape),
            metadata=_exact({"strict": layer.strict}),
        )

    def _lif(self, name: str, layer: Any, shape: tuple[int, ...]) -> Any:
        leakage = _leak(layer, shape)
        if (leakage.rate == 0).all() and not layer.decay_input and layer.v_rest in (None, 0.0):
            return self._iaf(name, layer, shape)
        leak, metadata = self._leak(name, layer, leakage, shape)
        firing = self._firing(name, layer, shape)
        metadata |= {"strict": layer.strict}
        return self.nir.LIF(**leak, **firing, metadata=_exact(metadata))

    def _li(self, name: str, layer: Any, shape: tuple[int, ...]) -> Any:
        leakage = _leak(layer, shape)
        at_zero = not isinstance(layer.v_rest, Tensor) and layer.v_rest == 0
        if (leakage.rate == 0).all() and not layer.decay_input and at_zero:
            return self.nir.I(r=_filled(1 / self.steps.dt, shape))
        leak, metadata = self._leak(name, layer, leakage, shape)
        return self.nir.LI(**leak, metadata=_exact(metadata))

    def _cuba_lif(self, name: str, layer: CubaLIF, shape: tuple[int, ...]) -> Any:
        syn = _leak(layer, shape, "_syn")
        leak, metadata = self._leak(name, layer, _leak(layer, shape), shape)
        current, of_current = self._current(name, syn, shape, scaled=False)
        firing = self._firing(name, layer, shape)
        metadata |= of_current | {"strict": layer.strict}
        leak["tau_mem"] = leak.pop("tau")
        return self.nir.CubaLIF(**leak, **current, **firing, metadata=_exact(metadata))

    def _cuba_li(self, name: str, layer: CubaLI, shape: tuple[int, ...]) -> Any:
        syn = _leak(layer, shape, "_syn")
        return self._filtered(name, layer, syn, shape, scaled=False)

    def _two_li(self, name: str, layer: TwoLI, shape: tuple[int, ...]) -> Any:
        synapse: Any = layer[0]
        syn = _leak(synapse, shape)
        return self._filtered(name, layer[1], syn, shape, scaled=synapse.decay_input)

    def _filtered(self, name: str, membrane: Any, syn: _Leak, shape: tuple[int, ...], scaled: bool) -> Any:
        leak, metadata = self._leak(name, membrane, _leak(membrane, shape), shape)
        current, of_current = self._current(name, syn, shape, scaled=scaled)
        leak["tau_mem"] = leak.pop("tau")
        return self.nir.CubaLI(**leak, **current, metadata=_exact(metadata | of_current))

    def _leak(
        self, name: str, layer: Any, leakage: _Leak, shape: tuple[int, ...]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return ``tau``, ``r`` and ``v_leak``, and the leak argument of the layer."""
        rate = leakage.rate
        rest = layer.v_rest
        if rest is None:
            rest = getattr(layer, "v_reset", 0.0)
        if not layer.decay_input and (rate <= 0).any():
            raise ValueError(f"to_nir: {name} mixes neurons with and without leak; NIR has no equal")
        r = 1.0 if layer.decay_input else 1 / rate
        fields = {"tau": self.steps.tau(f"to_nir: {name}", rate), "r": r, "v_leak": rest}
        filled = {n: _filled(v, shape) for n, v in fields.items()}
        return filled, {leakage.name: leakage.value, "decay_input": layer.decay_input}

    def _current(
        self, name: str, leakage: _Leak, shape: tuple[int, ...], *, scaled: bool
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        rate = leakage.rate
        if (rate <= 0).any():
            raise ValueError(f"to_nir: {name} has a current without leak; NIR has no equal")
        w_in = 1.0 if scaled else 1 / rate
        fields = {"tau_syn": self.steps.tau(f"to_nir: {name}", rate), "w_in": w_in}
        filled = {n: _filled(v, shape) for n, v in fields.items()}
        return filled, {f"{leakage.name}_syn": leakage.value, "scaled_syn": scaled}

    def _refuse_reset(self, name: str, layer: Any) -> None:
        """Refuse a soft reset, and membranes that do not start where NIR's do."""
        hint = "; NIR has no equal: of a ReLU network convert with reset='hard' and initial_membrane=0.0"
        if layer.v_reset is None:
            raise ValueError(f"to_nir: {name} resets by subtraction, NIR's neurons to v_reset{hint}")
        init = layer.v_init or None if isinstance(layer, IntegerLIF) else layer.v_init
        if init is not None:
            raise ValueError(f"to_nir: {name} starts at v_init, NIR's neurons at rest{hint}")

    def _firing(self, name: str, layer: Any, shape: tuple[int, ...]) -> dict[str, Any]:
        self._refuse_reset(name, layer)
        for extra, usual in (("refractory", 0), ("max_spikes", 1)):
            value = getattr(layer, extra, usual)
            if value != usual:
                raise ValueError(f"to_nir: {name} has {extra}={value}; NIR has no equal")
        return {"v_threshold": _filled(layer.v_threshold, shape), "v_reset": _filled(layer.v_reset, shape)}


_KINDS: dict[type[nn.Module], Callable[..., Any]] = {
    Threshold: _Export._threshold,
    IntegerLIF: _Export._integer_lif,
    IF: _Export._iaf,
    LIF: _Export._lif,
    ParametricLIF: _Export._lif,
    CubaLIF: _Export._cuba_lif,
    LI: _Export._li,
    CubaLI: _Export._cuba_li,
    TwoLI: _Export._two_li,
    Delay: _Export._delay,
    Scale: _Export._scale,
    Offset: _Export._offset,
    nn.Linear: _Export._linear,
    nn.Conv1d: _Export._conv,
    nn.Conv2d: _Export._conv,
    nn.AvgPool2d: _Export._pool,
    SumPool2d: _Export._pool,
    nn.Flatten: _Export._flatten,
}


class _Leak(NamedTuple):
    """Leak of a layer: the name of the argument that sets it, ``tau`` or ``decay``, and its value."""

    name: str
    value: Any

    @property
    def rate(self) -> Any:
        return 1 / self.value if self.name == "tau" else 1 - self.value


def _leak(layer: Any, shape: tuple[int, ...], suffix: str = "") -> _Leak:
    """Return the leak of ``layer``, in float64 values that broadcast to ``shape``."""
    w = layer._parameters.get(f"w{suffix}")
    if w is not None:
        tau = 1 / torch.sigmoid(w.detach())  # as the layer computes it, in float32
        tau = tau.view(()) if tau.numel() == 1 else tau.view(-1, *(1,) * (len(shape) - 1))
        return _Leak("tau", _values(tau))
    ((name, value),) = leak(layer, suffix).items()
    return _Leak(name.removesuffix(suffix), _values(value))


def _values(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().double().numpy()
    return np.asarray(value, dtype=np.float64)


def _exact(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return metadata for values that NIR's float32 fields cannot hold exactly."""
    # HDF5 cannot compress scalars, so numbers are stored as such, not as arrays.
    plain = {n: v.item() if np.ndim(v) == 0 and hasattr(v, "item") else v for n, v in metadata.items()}
    return {f"snnfast_{name}": value for name, value in plain.items()}


def _array(value: Any) -> Any:
    return value.detach().numpy().copy() if isinstance(value, Tensor) else np.asarray(value)


def _filled(value: Any, shape: tuple[int, ...]) -> Any:
    """Broadcast a value to every neuron, as float32."""
    filled = np.broadcast_to(_values(value), shape)
    return np.ascontiguousarray(filled, dtype=np.float32)
