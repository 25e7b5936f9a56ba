"""What of a traced network runs when: once, at every step, for all steps of a chunk, or on means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx, nn

from .trace import Traced


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


def source_of(node: fx.Node) -> str:
    """The name of the node that ``node`` reads first."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    return source.name


def _attribute(network: nn.Module, path: str) -> Any:
    value: Any = network
    for name in path.split("."):
        value = getattr(value, name)
    return value
