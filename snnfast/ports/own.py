"""Conversion of a network with replaced neurons into layers of this package, for exporters: :func:`own_layers`.

The exporters to C and NIR and :class:`snnfast.export.Step` take layers that map a sequence to one tensor. Replaced
neurons have the call signatures of another library; in a loop that was taken apart, graph nodes select their results.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import singledispatch
from typing import Any, NoReturn

import torch
from torch import Tensor, fx, nn

from snnfast.nn.cuba_lif import CubaLIF
from snnfast.nn.neurons import IF, LI, LIF, CubaLI
from snnfast.nn.readout import Count, Last, Rate
from snnfast.nn.recurrent import Recurrent
from snnfast.nn.time import Time

from . import norse_neurons as norse
from . import snntorch
from .port import Port
from .sequences import OverTime
from .snntorch_neuron import SnntorchNeuron
from .steps import WithoutLoop
from .unrolling import alongside, every_step, filled, first_steps, viewed

__all__ = ["own_layers"]


def own_layers(function: str, net: nn.Module) -> nn.Module:
    """Change ``net``: put layers of the package in place of the neurons that :func:`snnfast.nn.replace` made.

    They spike alike except for rounding, and have no trainable parameters.

    Raises:
        ValueError: for a neuron without such a layer, with its name; ``function`` is the name of the caller.
    """
    if isinstance(net, WithoutLoop):
        return _Rewritten(function, net).module()
    for name, module in list(net.named_modules()):
        for key, child in list(module.named_children()):
            where = f"{name}.{key}" if name else key
            if isinstance(child, WithoutLoop):
                setattr(module, key, _Rewritten(function, child).module())
            elif isinstance(child, Port) and isinstance(module, OverTime):
                setattr(module, key, _converted(function, where, child, None))
    return _sequential(net) if isinstance(net, OverTime) else net


def _sequential(net: nn.Module) -> nn.Module:
    """:class:`OverTime` as ``nn.Sequential`` with :class:`snnfast.nn.Time`."""
    result = nn.Sequential()
    for key, child in net._modules.items():  # named_children leaves out a layer's second place
        if child is None:
            continue
        timed = isinstance(child, OverTime)
        plain = not timed and not any(hasattr(m, "stateful") for m in child.modules())
        result.add_module(key, _sequential(child) if timed else Time(child) if plain else child)
    return result


class _Rewritten:
    """The graph of a loop that was taken apart, rewritten to contain only calls of layers."""

    def __init__(self, function: str, net: WithoutLoop) -> None:
        self.function, self.net = function, net
        self.read: dict[str, Any] = {}  # which result of a neuron
        for node in list(net.graph.nodes):
            self._rewrite(node)
        for node in reversed(list(net.graph.nodes)):
            if not node.users and node.op not in ("placeholder", "output"):
                net.graph.erase_node(node)

    def module(self) -> nn.Module:
        """Return the network."""
        return fx.GraphModule(self.net, self.net.graph, type(self.net).__name__).eval()

    def _rewrite(self, node: fx.Node) -> None:
        target, arguments = node.target, node.args
        name = getattr(target, "__name__", target)
        rank = arguments[1:2] if name in ("sum", "mean") else None
        if target in (first_steps, alongside):
            self._pass(node, arguments[0])
        elif target is every_step:
            self._each_step(arguments[0])
            self._pass(node, arguments[0])
        elif target is filled:
            self._pass(node, arguments[1])
        elif (target is viewed and len(arguments) == 3 and not _is_number(arguments[1])) or (
            name == "flatten" and arguments[1:] in ((2,), (2, -1))
        ):
            self._layer(node, Time(nn.Flatten()))
        elif name == "movedim" and arguments[1:] == (0, 1):  # exported programs have no batch dimension
            self._pass(node, arguments[0])
        elif rank in ((0,), ([0],)) and not node.kwargs:
            self._layer(node, Count() if name == "sum" else Rate())
        elif target is operator.getitem and arguments[1] == -1:
            self._layer(node, Last())
        elif node.op == "call_module" and isinstance(self.net.get_submodule(str(target)), Port):
            self._neuron(node)

    def _pass(self, node: fx.Node, value: Any) -> None:
        node.replace_all_uses_with(value)
        self.net.graph.erase_node(node)

    def _layer(self, node: fx.Node, layer: nn.Module) -> None:
        name = f"{node.name}_layer"
        self.net.add_module(name, layer)
        with self.net.graph.inserting_before(node):
            call = self.net.graph.call_module(name, (node.args[0],))
        self._pass(node, call)

    def _each_step(self, node: Any) -> None:
        """Make layers that ran once, before the loop, run at every step."""
        if not isinstance(node, fx.Node):
            return
        for source in node.all_input_nodes:
            self._each_step(source)
        layer = self.net.get_submodule(str(node.target)) if node.op == "call_module" else None
        if layer is not None and not isinstance(layer, Time):
            parent, _, last = str(node.target).rpartition(".")
            setattr(self.net.get_submodule(parent), last, Time(layer))

    def _neuron(self, node: fx.Node) -> None:
        name = str(node.target)
        used = {n.args[1] for n in node.users if n.target is operator.getitem and n.users}
        port: Any = self.net.get_submodule(name)
        alone = not used  # the neuron returns one tensor
        if len(used) > 1:
            raise ValueError(
                f"{self.function}: of {name}, a {type(port).__name__}, more than one result is used, and a layer gives "
                "one; return spikes or membranes from forward, not both"
            )
        for result in used:
            for user in [n for n in node.users if n.args[1] == result]:
                self._pass(user, node)
        for user in list(node.users):
            if user.target is operator.getitem and not user.users:
                self.net.graph.erase_node(user)
        parent, _, last = name.rpartition(".")
        layer = _converted(self.function, name, port, None if alone else next(iter(used)))
        setattr(self.net.get_submodule(parent), last, layer)


def _is_number(size: Any) -> bool:
    """Return whether a size is a constant: neither the batch size, which may be a node, nor -1."""
    return isinstance(size, int) and size != -1


# ---- one neuron


def _converted(function: str, name: str, port: Any, result: Any) -> nn.Module:
    def refuse(why: str) -> NoReturn:
        raise ValueError(f"{function}: {name}, a {type(port).__name__}, has no layer of its own here: {why}")

    return _layer_of(port, result, refuse).eval().requires_grad_(False)


@singledispatch
def _layer_of(port: Any, result: Any, refuse: Callable[[str], NoReturn]) -> nn.Module:
    """Return the layer whose output is ``result`` of ``port`` at every step; None: its only result."""
    refuse("no kernel of the package is its equal")


def _value(value: Any) -> Any:
    """Return a constant as a float, or as a tensor without a gradient."""
    value = torch.as_tensor(value).detach()
    return value.item() if value.numel() == 1 else value.float()


@_layer_of.register
def _snntorch(port: SnntorchNeuron, result: Any, refuse: Callable[[str], NoReturn]) -> nn.Module:
    settings: Any = port  # its attributes depend on its class
    if port.why:
        refuse(port.why)
    if isinstance(port, snntorch.Alpha):
        refuse("its membrane is a sum of two currents")
    if port._graded():
        refuse("its spikes are graded")
    if result is None and port.output:
        refuse("it returns spikes and membranes; set its output to False")
    decay, threshold = _value(port._membrane_decay().clamp(0, 1)), _value(port.threshold)
    synaptic = {"decay_syn": _value(settings.alpha.clamp(0, 1))} if hasattr(port, "alpha") else {}
    leak = {"decay": decay, "decay_input": False, **synaptic}
    if result not in (None, 0):
        if port.mechanism != "none" or result != port.every_step[1]:
            refuse("its membranes are those before a reset; return its spikes")
        return (CubaLI if synaptic else LI)(**leak)
    if port.mechanism == "none":
        refuse("it has no reset")
    # The same shift of the membrane as in SnntorchNeuron._integrate.
    soft = port.mechanism == "subtract"
    fires_at = threshold / decay if soft else threshold
    rest = fires_at - threshold if soft else 0.0
    if isinstance(port, snntorch.Lapicque):  # in units of what an input of 1 adds in a step
        gain = _value(port.time_step / port.C)
        fires_at, rest = fires_at / gain, rest / gain
    firing = {
        **{"v_threshold": fires_at, "v_rest": rest, "v_reset": None if soft else 0.0},
        **{"strict": True, "detach_reset": soft or port.reset_delay},
    }
    if not soft and port.reset_delay and port.drops:
        firing["refractory"] = 1
    layer = (CubaLIF if synaptic else LIF)(**leak, **firing)
    if not isinstance(port, snntorch._Recurrent):
        return layer
    connections: Any = port.recurrent
    if not isinstance(connections, nn.Linear):
        refuse("its spikes come back to one neuron each")
    return _recurrent(layer, connections.weight, connections.bias)


def _recurrent(layer: Any, weight: Tensor, bias: Tensor | None, loops: bool = True) -> nn.Module:
    """Return recurrent neurons; ``bias`` is added to their input."""
    weight = weight.detach()
    neurons = Recurrent(layer, len(weight), weight=weight, self_connections=loops)
    if bias is None or not bool(bias.any()):
        return neurons
    constant = nn.Linear(len(weight), len(weight))
    with torch.no_grad():
        constant.weight.copy_(torch.eye(len(weight)))
        constant.bias.copy_(bias)
    return nn.Sequential(Time(constant), neurons)


@_layer_of.register
def _norse(port: norse._Neuron, result: Any, refuse: Callable[[str], NoReturn]) -> nn.Module:
    if result not in (None, 0):
        refuse("states are looked up, not what it gives at every step")
    p = port.inner
    named: dict[str, Any] = {}

    def decay(rate: str) -> Any:
        return _value(1 - torch.as_tensor(getattr(port.p, rate)) * port.dt)

    if not isinstance(port, norse.IAF):
        named["v_rest"] = _value(p.v_leak)
        named["decay"] = decay("tau_mem_inv")
    if isinstance(port, (norse._Synaptic, norse.LIFRecurrent)):
        named["decay_syn"] = decay("tau_syn_inv")
    if port.fires:
        soft = getattr(port, "soft", False)
        named |= {"v_threshold": _value(p.v_th), "strict": True}
        named["v_reset"] = None if soft else _value(p.v_reset)
    layer: nn.Module
    match port:
        case norse.LIFBox():
            layer = LIF(**named)
        case norse.IAF():
            layer = IF(**named)
        case norse.LIBox():
            layer = LI(**named)
        case norse.LIFRecurrent():
            neuron = CubaLIF(detach_reset=True, **named)
            layer = _recurrent(neuron, port.recurrent_weights, None, port.autapses)
        case norse.LIF():
            layer = CubaLIF(**named)
        case norse.LI():
            layer = CubaLI(**named)
        case _:
            refuse("no kernel of the package is its equal")
    weight = getattr(port, "input_weights", None)
    if weight is None:
        return layer
    product = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    product.weight = nn.Parameter(weight.detach().clone())
    return nn.Sequential(Time(product), *([layer] if not isinstance(layer, nn.Sequential) else layer))
