"""Execution plan of a traced network: nodes that run once, at every step, for all steps of a chunk, or on means."""

from __future__ import annotations

import functools

from .analog import AnalogNode


class Plan:
    """Execution plan of a traced network, computed once from its nodes; refers to nodes by name.

    Attributes:
        nodes: by name, in the order in which they run.
        input, result: the nodes that take the images, and return the scores.
        neurons: the spiking nodes in the order in which they run.
        once: nodes with no neuron upstream, with constant input; they run once.
        stored: nodes computed for all steps of a chunk, in order: neurons, max pools, and the products they read.
        recipe: by name of a stored node that is no neuron and no pool, the nodes to run for it at every step.
        reads: by name of a stored node, the stored nodes, and the input, that it reads in a chunk.
        tail: nodes with no neuron downstream; they run on means over time.
        counted: stored nodes, and the input, that the tail reads.
        unread: neurons of which only the spike counts are read.
        absorbed: by name of neurons whose spikes only products read, through pools at most, the least dimensions of the
            activations that keep channels apart in these pools. The products' weights can take over the thresholds.
        absorbing: by name of such a product, its neurons.
        flattened: the products among them with a Flatten before them.
        hidden: nodes whose values only such neurons read: no function of the model depends on their memory layout.
        constant_input: the input is the same at every step.
        unit_spikes: spikes have the size 1, not their threshold.
        counts_spikes: the result is a spike count, not a mean.
    """

    def __init__(
        self,
        nodes: dict[str, AnalogNode],
        result: str,
        *,
        constant_input: bool,
        unit_spikes: bool = False,
        counts_spikes: bool = False,
        has_tail: bool = True,
    ) -> None:
        """Without ``has_tail`` the tail runs at every step."""
        self.nodes, self.result = nodes, result
        self.constant_input, self.unit_spikes = constant_input, unit_spikes
        self.counts_spikes = counts_spikes
        self._reads = {name: node.reads for name, node in nodes.items()}
        self._readers: dict[str, list[str]] = {name: [] for name in nodes}
        for name, reads in self._reads.items():
            for read in reads:
                self._readers[read].append(name)
        self.input = next(n.name for n in nodes.values() if n.kind == "input")
        self.neurons = [n.name for n in nodes.values() if n.kind == "spiking"]
        constant = {self.input} if constant_input else set()
        for name in nodes:
            steady = name != self.input and all(read in constant for read in self._reads[name])
            if steady and nodes[name].kind != "spiking":
                constant.add(name)
        before: set[str] = set()
        for name in reversed(nodes):
            if any(r in before or nodes[r].kind == "spiking" for r in self._readers[name]):
                before.add(name)
        self.once = [name for name in nodes if name in constant and name != self.input]
        varying = [name for name in nodes if name not in constant]
        tail = {n for n in varying if has_tail and n not in before and n != self.input}
        tail -= set(self.neurons)
        middle = [name for name in varying if name not in tail]
        todo = list(tail)
        while todo:
            # A mean has the shape of a step, so sizes that the tail reads can be computed there again.
            read_here = self._reads[todo.pop()]
            new = {r for r in read_here if nodes[r].kind == "size"} - constant - tail
            tail |= new
            todo += new
        self.tail = [name for name in varying if name in tail]
        wanted = {r for name in tail for r in self._reads[name]} | {result}
        self.counted = [name for name in middle if name in wanted - tail]
        inside = set(middle)
        self.stored = [name for name in middle if self._is_stored(name, inside)]
        self.recipe = {s: self._recipe(s, constant) for s in self.stored if not self.is_stateful(s)}
        self.reads = {s: self._stored_inputs(s, constant) for s in self.stored}
        self.unread = {s for s in self.neurons if not inside.intersection(self._readers[s])}
        self.absorbed: dict[str, int] = {}
        self.absorbing: dict[str, str] = {}
        self.flattened: set[str] = set()
        for s in self.neurons:
            ends = self._products_after(s, inside)
            if ends is not None:
                self.absorbed[s] = max((dims for _, dims, _ in ends), default=0)
                self.absorbing |= {product: s for product, _, _ in ends}
                self.flattened |= {product for product, _, flat in ends if flat}
        unseen = self.absorbed.keys() - self.counted
        self.hidden = {name for name in nodes if unseen.issuperset(self._readers[name] or [name])}

    @functools.cached_property
    def by_step(self) -> Plan:
        """The plan that runs the tail at every step, too, so that its operations can be counted."""
        return Plan(
            self.nodes,
            self.result,
            constant_input=self.constant_input,
            unit_spikes=self.unit_spikes,
            counts_spikes=self.counts_spikes,
            has_tail=False,
        )

    def is_stateful(self, name: str) -> bool:
        """Return whether the node is neurons, or a max pool, which keeps spike counts."""
        return self.nodes[name].kind in ("spiking", "max_pool")

    def _is_stored(self, name: str, middle: set[str]) -> bool:
        if name == self.input or self.nodes[name].kind == "size":
            return False
        readers = [r for r in self._readers[name] if r in middle]
        feeds = any(self.is_stateful(r) for r in readers)
        return self.is_stateful(name) or feeds or len(readers) > 1 or name in self.counted

    def _recipe(self, name: str, constant: set[str]) -> list[str]:
        """Return the nodes between stored nodes and ``name``, which run at every step."""
        known = {*constant, *self.stored, self.input}
        wanted, todo = {name}, [name]
        while todo:
            new = [r for r in self._reads[todo.pop()] if r not in known and r not in wanted]
            wanted.update(new)
            todo += new
        return [n for n in self.nodes if n in wanted]

    def _stored_inputs(self, name: str, constant: set[str]) -> list[str]:
        run = self.recipe.get(name, [name])
        found = dict.fromkeys(read for r in run for read in self._reads[r])
        return [f for f in found if f not in constant and f not in run]

    def _products_after(
        self, name: str, middle: set[str], dims: int = 0, flat: bool = False
    ) -> list[tuple[str, int, bool]] | None:
        """Return the products that read the spikes of ``name``, with dimensions and Flatten; None if other nodes do."""
        ends: list[tuple[str, int, bool]] = []
        for reader in self._readers[name]:
            node = self.nodes[reader]
            if reader not in middle:
                continue
            if node.is_product:
                ends.append((reader, dims, flat))
            elif node.is_homogeneous and reader not in self.counted and not (node.dims and flat):
                least = max(dims, node.dims or 0)
                more = self._products_after(reader, middle, least, flat or node.is_flatten)
                if more is None:
                    return None
                ends += more
            else:
                return None
        return ends
