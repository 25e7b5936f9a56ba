"""Conversion of an unrolled loop over time steps into layers that take all steps: :class:`UnrolledLoop`."""

from __future__ import annotations

import copy
import operator
import warnings
from collections import defaultdict
from collections.abc import Sequence
from itertools import count
from typing import Any, NoReturn, TypeAlias

import torch
from torch import Tensor, fx, nn

from snnfast.nn.multi_step import EachStep, MultiStep
from snnfast.nn.tracer import OPERATORS

from .known import (
    ADDITIONS,
    JOINED,
    LAYERS,
    MAKERS,
    NORMS,
    POOLS,
    REDUCED,
    RETURNED,
    SET,
    ZEROS,
    is_elementwise,
    is_fresh,
)
from .port import Looping
from .traces import CONSTANT, is_neuron, refuse_at
from .unrolling import LINE, Node, Unrolling, alongside, every_step, filled, first_steps, viewed

__all__ = ["UnrolledLoop", "WithoutLoop"]

Nodes: TypeAlias = tuple[Node, ...]  # one of each step

# Methods with side effects, besides those whose names end in one underscore.
_EFFECTS = ("__setitem__", "setitem", "backward", "register_hook", "retain_grad")


_KEEP = "call replace again on the changed network, or replace(net, sequences=False), which keeps its loop"


class WithoutLoop(fx.GraphModule):
    """A GraphModule with all layers, parameters and attributes of the network, not only those its graph uses."""

    def take(self, attributes: dict[str, Any]) -> None:
        """Take over layers, parameters and buffers with their keys, and plain attributes."""
        for name in ("_modules", "_parameters", "_buffers", "_non_persistent_buffers_set"):
            self.__dict__[name] = attributes[name]
        for name in attributes:
            if name not in self.__dict__:
                self.__dict__[name] = attributes[name]

    def methods(self, kind: type[nn.Module]) -> None:
        """Record the names of methods that the copy lacks."""
        self.__dict__["_lost"] = frozenset(dir(kind)) - frozenset(dir(self))

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__.get("_lost", ()):
            raise AttributeError(
                f"{type(self).__name__}: replace has taken the loop of its forward apart, and the copy has no {name}; "
                "replace(net, sequences=False) keeps the loop, and what the network has"
            )
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        known = "_lost" in self.__dict__ and not name.startswith("_") and name != "training"
        if known and name in self.__dict__ and self.__dict__[name] is not value:
            warnings.warn(
                f"{type(self).__name__}: replace has read its forward once, and {name} as it was then; {_KEEP}",
                stacklevel=2,
            )
        super().__setattr__(name, value)

    def __deepcopy__(self, memo: dict[int, Any]) -> fx.GraphModule:
        result = super().__deepcopy__(memo)
        result.take(copy.deepcopy(vars(self), memo))  # type: ignore[operator]
        return result


class UnrolledLoop:
    """Unrolled graph, from which ``new_graph`` is built; the layers of ``net`` are changed."""

    def __init__(self, net: nn.Module, trace: Unrolling, by_input: bool) -> None:
        self.net, self.traced, self.graph = net, trace.root, trace.graph
        self.sized_input, self.by_input, self.unrolled = trace.sized_input, by_input, trace.steps
        self.resets = trace.resets
        self.new_graph = fx.Graph()
        self.calls: dict[str, list[Node]] = defaultdict(list)
        self.changing: set[Node] = set()  # nodes that depend on neurons
        looked_up: dict[str, Node] = {}  # repeated look-ups of the same value become one node
        for node in self.graph.nodes:
            if node.op == "get_attr" or node.target in (getattr, operator.getitem, "size"):
                key = f"{node.op} {node.target} {node.args} {node.kwargs}"
                node.replace_all_uses_with(looked_up.setdefault(key, node))
        self._collect()
        for node in self.graph.nodes:
            if self._is_neuron(node):
                self.calls[str(node.target)].append(node)
            if self._is_neuron(node) or self.changing.intersection(node.all_input_nodes):
                self.changing.add(node)
        for node in self.graph.nodes:
            self._has_no_effect(node)
        for calls in self.calls.values():
            if self._layer(calls[0]).time_dim is not None:
                self.refuse(calls[0], "it takes sequences already")
        self.known: dict[Node, Node] = {}  # nodes of ``graph`` -> nodes of ``new_graph``
        self.stacks: dict[Nodes, Node] = {}
        self.neurons: dict[str, Node | None] = {}  # None: its input is being built
        self.wrapped: dict[str, type[MultiStep]] = {}  # layers that run inside of the loop
        self.plain: set[str] = set()  # layers that run outside of the loop
        lengths = {len(calls) for calls in self.calls.values()}
        self.steps = max(lengths, default=0)
        if len(lengths) != 1 or self.steps < 2:
            times = ", ".join(map(str, sorted(lengths)))
            if lengths <= {1}:
                raise ValueError(
                    f"replace: the forward of {type(net).__name__} has no loop over steps: a call is a step; put the "
                    "loop into a forward, and the steps are taken together"
                )
            raise ValueError(
                f"replace: the forward of {type(net).__name__} calls its neurons {times} times; a loop that calls each "
                "once a step can be taken apart"
            )
        if by_input and self.steps != self.unrolled:
            first = next(iter(self.calls.values()))[0]
            self.refuse(first, f"of {self.unrolled} steps of the input it takes {self.steps}")
        try:
            self._make()
        except RecursionError:
            (output,) = (node for node in self.graph.nodes if node.op == "output")
            self.refuse(output, "its steps build on each other otherwise than by their states")

    def _make(self) -> None:
        (output,) = (node for node in self.graph.nodes if node.op == "output")
        for node in self.graph.nodes:  # first, so that the arguments keep their order
            if node.op == "placeholder":
                self.static(node)
        result = fx.node.map_arg(output.args[0], self.final)
        self.new_graph.output(result)
        for name, wrap in self.wrapped.items():
            parent, _, last = name.rpartition(".")
            setattr(self.net.get_submodule(parent), last, wrap(self.net.get_submodule(name)))
        for node in self.new_graph.nodes:  # parameters that are now inside of a wrapper
            owner, _, last = str(node.target).rpartition(".")
            if node.op == "get_attr" and owner in self.wrapped:
                node.target = f"{owner}.layer.{last}"

    def module(self) -> nn.Module:
        """Return the module that takes all steps, with the network's keys, parameters and plain attributes."""
        result = WithoutLoop(self.net, self.new_graph, type(self.net).__name__)
        result.take(vars(self.net))
        result.methods(type(self.net))
        return result.train(self.net.training)

    def _is_neuron(self, node: Node) -> bool:
        return is_neuron(self.net, node)

    def _layer(self, node: Node) -> Any:
        return self.net.get_submodule(str(node.target))

    def refuse(self, node: Node, why: str) -> NoReturn:
        """Raise an error that says where the loop cannot be taken apart, and why."""
        refuse_at(self.net, node, why)

    def _collect(self) -> None:
        """Replace writes of all steps into a tensor of ``forward`` by one ``filled`` node."""
        positions = {node: count for count, node in enumerate(self.graph.nodes)}
        for target in list(self.graph.nodes):
            sets = [n for n in target.users if n.target in SET and n.args[0] is target]
            items = [_without_ends(n.args[1]) for n in sets]
            others = [n for n in target.users if n not in sets]
            is_local = target.target in MAKERS or str(target.target).startswith(CONSTANT)
            late = sets and all(positions[n] > positions[sets[-1]] for n in others)
            dim = _dim_of(items)
            if not (is_local and late and dim is not None):
                continue
            values = [n.args[2] for n in sets]
            with self.graph.inserting_after(sets[-1]):
                sequence = self.graph.call_function(filled, (target, values, dim))
            sequence.meta[LINE] = sets[-1].meta.get(LINE)
            for other in others:
                other.replace_input_with(target, sequence)
            for node in sets:
                self.graph.erase_node(node)

    def _has_no_effect(self, node: Node) -> None:
        """Refuse a node with side effects, which the trace does not show."""
        name = str(getattr(node.target, "__name__", node.target))
        layer = self._layer(node) if node.op == "call_module" else None
        if node.op in ("call_method", "call_function"):
            changes = name.endswith("_") and not name.endswith("__")
            keywords = node.kwargs.get("inplace"), node.kwargs.get("out")
            if changes or any(keywords) or name in _EFFECTS:
                self.refuse(node, "it changes its input in place, or something else")
        known = isinstance(layer, Looping) or type(layer) in LAYERS
        if layer is not None and not node.users and not known:
            self.refuse(node, "nothing takes its result, and it may change something else")
        in_place = node.op == "call_function" and node.target in OPERATORS
        node.target = OPERATORS[node.target] if in_place else node.target
        if in_place or getattr(layer, "inplace", False):
            source = node.args[0]
            others = len(source.users) > 1 or (in_place and not self._is_fresh(source))
            if others:
                self.refuse(node, "it changes in place what something else reads, too")

    def _is_fresh(self, node: Node) -> bool:
        if node.target is operator.getitem and self._is_neuron(node.args[0]):
            return True
        if self._is_neuron(node):
            return bool(self._layer(node).returns_output_only)
        layer = self._layer(node) if node.op == "call_module" else None
        return is_fresh(node.op, node.target, layer)

    @property
    def count(self) -> Any:
        """The number of steps."""
        if self.sized_input is None or not self.by_input:
            return self.steps
        source, dim = self.sized_input
        return self.new_graph.call_method("size", (self.static(source), dim))

    # ---- values that no step changes, and results of forward

    def static(self, node: Node) -> Node:
        """Return the node in ``new_graph`` of a value that no step changes."""
        if node not in self.known:
            if node in self.changing:
                self.refuse(node, "a value of one step is used for all of them")
            if node.op == "call_module":
                self._once(node)
            if node.op == "get_attr" and str(node.target).startswith(CONSTANT):
                value = getattr(self.traced, str(node.target))
                self.net.register_buffer(str(node.target), value, persistent=False)
            self.known[node] = self.new_graph.node_copy(node, self.static)
        return self.known[node]

    def final(self, node: Node) -> Node:
        """Return the node in ``new_graph`` of a value of the last step, or of all steps together."""
        if node not in self.changing:
            return self.static(node)
        if node in self.known:
            return self.known[node]
        self.known[node] = result = self._final(node)
        return result

    def _final(self, node: Node) -> Node:
        if node.target is torch.stack:
            dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
            found = node.args[0] if node.args else None
            if isinstance(found, (list, tuple)) and len(found) != self.steps:  # branches of the last step
                return self.new_graph.node_copy(node, self.final)
            every = self.stacked(self._every(node, found))
            return every if dim == 0 else self.new_graph.call_method("movedim", (every, 0, dim))
        if node.target is filled:
            x, values, dim = node.args
            return self.new_graph.call_function(filled, (self.static(x), self.stacked(self._every(node, values)), dim))
        if node.target in ADDITIONS and (terms := self._terms(node)):
            return self.new_graph.call_method("sum", (self.stacked(terms), 0))
        if node.target is operator.getitem and node.args[0] in [c[-1] for c in self.calls.values()]:
            name, item = str(node.args[0].target), node.args[1]
            result = self.new_graph.call_function(operator.getitem, (self._neuron(name), item))
            last = item in self._layer(node.args[0]).every_step
            return self.new_graph.call_function(operator.getitem, (result, -1)) if last else result
        if self._is_neuron(node):
            calls = self.calls[str(node.target)]
            if not self._layer(node).returns_output_only or node is not calls[-1]:
                self.refuse(node, "what it returns is not taken apart")
            return self.new_graph.call_function(operator.getitem, (self._neuron(str(node.target)), -1))
        if node.op == "call_module":
            self._once(node)
        return self.new_graph.node_copy(node, self.final)

    def _once(self, node: Node) -> None:
        if str(node.target) in self.wrapped:
            self.refuse(node, "it runs in the loop, too")
        self.plain.add(str(node.target))

    def _every(self, node: Node, values: Any) -> Nodes:
        found = tuple(values) if isinstance(values, (list, tuple)) else ()
        if len(found) != self.steps or not all(isinstance(v, fx.Node) for v in found):
            self.refuse(node, f"it does not take a value of each of {self.steps} steps")
        return found

    def _terms(self, node: Node) -> Nodes:
        """Return the terms of a sum over the steps, which starts with 0 or with the first; empty for other nodes."""
        terms: list[Node] = []
        value: Any = node
        while isinstance(value, fx.Node) and value.target in ADDITIONS and len(terms) < self.steps:
            if len(value.args) != 2 or value.kwargs:  # alpha
                return ()
            value, term = value.args
            terms.append(term)
        if not (isinstance(value, (int, float)) and value == 0):
            terms.append(value)
        every = len(terms) == self.steps and all(isinstance(term, fx.Node) for term in terms)
        return tuple(reversed(terms)) if every else ()

    # ---- values of every step

    def stacked(self, nodes: Nodes) -> Node:
        """Return the node of the values of all steps, ``[T, ...]``."""
        if nodes not in self.stacks:
            self.stacks[nodes] = self._stacked(nodes)
        return self.stacks[nodes]

    def _stacked(self, nodes: Nodes) -> Node:
        first = nodes[0]
        if all(node is first for node in nodes):
            return self.new_graph.call_function(every_step, (self.static(first), self.count))
        for node in nodes[1:]:
            if (node.op, node.target, len(node.args)) != (first.op, first.target, len(first.args)):
                self.refuse(node, "steps do not all do the same")
        if first.op == "call_module":
            return self._module(nodes)
        if first.target is operator.getitem:
            return self._item(nodes)
        if first.target in POOLS:
            return self._pool(nodes)
        if first.target in JOINED:
            return self._joined(nodes)
        name = getattr(first.target, "__name__", first.target)
        if name in REDUCED:
            return self._reduced(nodes)
        if name in ("flatten", "view", "reshape") and not any(node.kwargs for node in nodes):
            return self._view(nodes, name)
        if is_elementwise(first.op, first.target, first.kwargs):
            return self._elementwise(nodes)
        self.refuse(first, "there is no form of it for all steps at once; move it out of the loop, or into a layer")

    def _joined(self, nodes: Nodes) -> Node:
        """Join the branches of every step by ``torch.cat`` or ``torch.stack``."""
        first = nodes[0]
        parts = [node.args[0] if node.args else node.kwargs.get("tensors") for node in nodes]
        dims = [node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0) for node in nodes]
        if not all(isinstance(part, (list, tuple)) and len(part) == len(parts[0]) for part in parts):
            self.refuse(first, "steps do not all have the same branches")
        if any(dim != dims[0] for dim in dims):
            self.refuse(first, "its dimension differs between steps")
        branches = [self.stacked(branch) for branch in zip(*parts)]
        return self.new_graph.call_function(first.target, (branches, _behind_time(dims[0])))

    def _reduced(self, nodes: Nodes) -> Node:
        """Sum or average dimensions of every step."""
        first = nodes[0]
        rest = [(*node.args[1:], *sorted(node.kwargs.items())) for node in nodes]
        if any(other != rest[0] for other in rest):
            self.refuse(first, "its dimensions differ between steps")
        dims, keywords = first.args[1:], dict(first.kwargs)
        dim = keywords.pop("dim", dims[0] if dims else None)
        if dim is None:
            self.refuse(first, "it reduces all dimensions of a step; give them by dim=")
        every = [_behind_time(d) for d in (dim if isinstance(dim, (list, tuple)) else (dim,))]
        x = self.stacked(tuple(node.args[0] for node in nodes))
        return self.new_graph.create_node(first.op, first.target, (x, every, *dims[1:]), keywords)

    def _elementwise(self, nodes: Nodes) -> Node:
        first = nodes[0]
        keywords = first.kwargs
        nodes_in = any(isinstance(value, fx.Node) for value in keywords.values())
        if nodes_in or any(node.kwargs != keywords for node in nodes):
            self.refuse(first, "its keywords are values of the trace, or differ between steps")
        found = [self._operand(first, values) for values in zip(*(n.args for n in nodes))]
        if not any(same for _, same in found):  # the same at each step, since no step changes its inputs
            return self.new_graph.call_function(every_step, (self.static(first), self.count))
        if len(found) > 1 and first.target not in RETURNED:  # x.to(other) does not broadcast
            values, steps = zip(*found)
            found = [
                (self.new_graph.call_function(alongside, (v, steps, *values)) if same else v, same) for v, same in found
            ]
        arguments = tuple(value for value, _ in found)
        return self.new_graph.create_node(first.op, first.target, arguments, dict(keywords))

    def _operand(self, node: Node, values: Sequence[Any]) -> tuple[Any, bool]:
        """Return an argument for all steps, and whether it has a value for each step."""
        first = values[0]
        if all(type(value) is type(first) and value == first for value in values):
            return (self.static(first) if isinstance(first, fx.Node) else first), False
        if not all(isinstance(value, fx.Node) for value in values):
            self.refuse(node, "its arguments differ between steps")
        return self.stacked(tuple(values)), True

    def _view(self, nodes: Nodes, name: str) -> Node:
        first = nodes[0]
        x = self.stacked(tuple(node.args[0] for node in nodes))
        if name == "flatten":
            ends = [(*node.args[1:], -1)[:2] if len(node.args) > 1 else (0, -1) for node in nodes]
            if any(end != ends[0] for end in ends):
                self.refuse(first, "its dimensions differ between steps")
            start, end = (d + 1 if d >= 0 else d for d in ends[0])
            return self.new_graph.call_method("flatten", (x, start, end))
        sizes = [
            tuple(arguments[0]) if arguments and isinstance(arguments[0], (tuple, list)) else arguments
            for arguments in (node.args[1:] for node in nodes)
        ]
        if len({len(size) for size in sizes}) != 1:
            self.refuse(first, "its sizes differ between steps")
        sizes = [tuple(None if _is_batch_of(node.args[0], s) else s for s in size) for node, size in zip(nodes, sizes)]
        size = [self._operand(first, values)[0] for values in zip(*sizes)]
        return self.new_graph.call_function(viewed, (x, *size))

    def _item(self, nodes: Nodes) -> Node:
        sources, items = [n.args[0] for n in nodes], [n.args[1] for n in nodes]
        first: Any = sources[0]
        if all(s is first for s in sources):  # an input sequence
            # x[t, :, :] is x[t].
            items = [_without_ends(item) for item in items]
            dim = _dim_of(items)
            if dim is not None:
                sequence = self.static(first), self.count, dim
                return self.new_graph.call_function(first_steps, sequence)
            if all(item == items[0] for item in items) and first not in self.changing:
                return self.new_graph.call_function(every_step, (self.static(nodes[0]), self.count))
        if not (isinstance(first, fx.Node) and sources == self.calls.get(str(first.target))):
            self.refuse(nodes[0], "it is neither a step of what is given nor a result of a neuron")
        if any(item != items[0] for item in items) or (items[0] not in self._layer(first).every_step):
            self.refuse(nodes[0], "of a neuron it is not known at every step")
        return self.new_graph.call_function(operator.getitem, (self._neuron(str(first.target)), items[0]))

    def _module(self, nodes: Nodes) -> Node:
        first = nodes[0]
        layer, name = self._layer(first), str(first.target)
        if isinstance(layer, Looping):
            if layer.returns_output_only and list(nodes) == self.calls[name]:
                return self._neuron(name)
            self.refuse(first, "what it returns is not taken apart, or its steps are not in order")
        flattens = type(layer) is nn.Flatten and layer.start_dim == 1
        if type(layer) not in (*LAYERS, *NORMS) and not flattens:
            self.refuse(first, f"a {type(layer).__name__} may depend on the other samples, or on time")
        if any(len(node.args) != 1 or node.kwargs for node in nodes):
            self.refuse(first, "it takes more than one argument")
        x = self.stacked(tuple(node.args[0] for node in nodes))
        if name in self.plain:
            self.refuse(first, "it runs outside of the loop, too")
        self.wrapped[name] = EachStep if type(layer) in NORMS else MultiStep
        return self.new_graph.call_module(name, (x,))

    def _pool(self, nodes: Nodes) -> Node:
        first = nodes[0]
        if any((node.args[1:], node.kwargs) != (first.args[1:], first.kwargs) for node in nodes):
            self.refuse(first, "its windows differ between steps")
        x = self.stacked(tuple(node.args[0] for node in nodes))
        names = (f"pool_{k}" for k in count())
        name = next(name for name in names if not hasattr(self.net, name))
        layer = POOLS[first.target](*first.args[1:], **first.kwargs)
        setattr(self.net, name, MultiStep(layer))
        return self.new_graph.call_module(name, (x,))

    def _neuron(self, name: str) -> Node:
        calls = self.calls[name]
        if name in self.neurons:
            found = self.neurons[name]
            if found is None:
                self.refuse(calls[0], "its spikes come back to it through other layers")
            return found
        self.neurons[name] = None
        from_rest = self._goes_on(calls)
        x = self.stacked(tuple(call.args[0] for call in calls))
        self._layer(calls[0]).take_sequence(from_rest)
        self.neurons[name] = output = self.new_graph.call_module(name, (x,))
        return output

    def _goes_on(self, calls: list[Node]) -> bool:
        """Return whether a neuron starts at rest; else it continues from the previous call.

        Refuse steps that do not continue from each other.
        """
        layer, resets = self._layer(calls[0]), self.resets.get(str(calls[0].target), [])
        alone = [layer.states_optional and len(call.args) == 1 and not call.kwargs for call in calls]
        for step, call in enumerate(calls):
            if not alone[step]:
                self._takes_states(call, calls[step - 1] if step else None)
            elif step in resets and step:
                self.refuse(call, "it is reset between its steps")
        from_rest = not alone[0] or 0 in resets
        if resets and not from_rest:
            self.refuse(calls[0], "it is reset after its steps, and not before them")
        return from_rest

    def _takes_states(self, call: Node, before: Node | None) -> None:
        """Refuse a step that does not continue from the step ``before``, or with None, does not start at rest."""
        layer: Looping = self._layer(call)
        states = call.args[1:]
        named = layer.names_of_states[len(states) :]
        states += tuple(call.kwargs[name] for name in named if name in call.kwargs)
        if before is None and layer.first_states_optional and not states:
            states = (None,)
        passed = len(call.args) - 1 + len(call.kwargs)
        if passed > len(states) or len(states) != len(layer.state_results):
            self.refuse(call, "it is to be given its input and all of its states, in their order")
        for state, result in zip(states, layer.state_results):
            bare = state is None and layer.first_states_optional
            if not (before is None if bare else self._hands_on(state, before, result)):
                self.refuse(call, "it does not go on from the states of the step before, or does not begin at rest")

    def _hands_on(self, state: Any, before: Node | None, k: int) -> bool:
        if not isinstance(state, fx.Node):
            return False
        if before is not None:
            return state.target is operator.getitem and state.args == (before, k)
        if not str(state.target).startswith(CONSTANT):
            return state.target in ZEROS
        value = getattr(self.traced, str(state.target), None)
        return isinstance(value, Tensor) and not bool(value.any())


def _is_batch_of(x: Node, size: Node) -> bool:
    """Return whether ``size`` is ``x.size(0)`` or ``x.shape[0]``."""
    target = getattr(size, "target", None)
    if target is operator.getitem:
        shape, dim = size.args
        return bool(dim == 0 and shape.args == (x, "shape"))
    return bool(target == "size" and size.args == (x, 0))


def _behind_time(dim: int) -> int:
    """Return a dimension of a step as that of ``[T, ...]``."""
    return dim + 1 if dim >= 0 else dim


def _dim_of(items: list[Any]) -> int | None:
    """Return the dimension that the indices step through, 0, 1, 2, ...; None if they do not."""
    if not items:
        return None
    *before, step = items[0] if isinstance(items[0], tuple) else (items[0],)
    if before not in ([...], [slice(None)] * len(before)) or type(step) is not int:
        return None
    steps = [(*before, t) if before else t for t in range(len(items))]
    return (-1 if before == [...] else len(before)) if items == steps else None


def _without_ends(item: Any) -> Any:
    """Return an index without whole slices at its end."""
    if not isinstance(item, tuple):
        return item
    while item and item[-1] in (slice(None), ...):
        item = item[:-1]
    return item[0] if len(item) == 1 else item
