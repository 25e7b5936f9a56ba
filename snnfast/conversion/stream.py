"""Run of a spiking network over a batch of images, chunk by chunk."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from snnfast import check, ops
from snnfast.monitoring import Monitor
from snnfast.monitoring.operations import are_spikes, sample_dims

from .analog import Analog, AnalogNode, Run, reading
from .neurons import Neurons
from .plan import Plan
from .shortcuts import absorb, shortcut_of

Encoder = Callable[[Tensor], Tensor]

# Default number of steps that run layer by layer: enough that membranes stay in registers for a while, few enough that
# the spikes of a layer stay in the cache.
CHUNK = 16


class Stream:
    """A run over a batch that can be continued and read at any time; :meth:`SpikingNetwork.stream` creates one.

    Its memory does not grow with the number of steps: it holds the membranes, the counts that the output reads, and
    the values of a chunk of steps.

    Args:
        plan: the execution plan; ``plan.by_step`` to count the inputs of all products.
        network: the layers and parameters that the plan names.
        neurons: the neurons with their thresholds, by name.
        images: ``[B, ...]``, on the network's device.
        encoding: encoding of the images, see :class:`SpikingNetwork`.
        warm_up: number of first steps that :meth:`output` leaves out.
        record: count the spikes of all layers and the active inputs of products.
        watch: also record the data for :meth:`tell`.

    Attributes:
        steps: number of steps so far.
        constant: values that are computed once, by name.
        counts: with ``record=True``, the spike counts of every layer of neurons, by name, in the shape of its
            activations.
        active: with ``record=True``, by name of a product, how often each input was not 0; a product that reads spikes
            directly is in ``counts`` instead.
    """

    @torch.no_grad()
    def __init__(
        self,
        plan: Plan,
        network: Analog,
        neurons: Mapping[str, Neurons],
        images: Tensor,
        *,
        encoding: str | Encoder,
        warm_up: int = 0,
        record: bool = False,
        watch: bool = False,
    ) -> None:
        self.plan, self.network, self.neurons = plan, network, neurons
        self.device, self.steps, self.record, self.watch = images.device, 0, record or watch, watch
        self.warm_up = warm_up
        self.counts: dict[str, Tensor] = {}
        self.active: dict[str, Tensor] = {}
        self._first: dict[str, list[Tensor]] = {}
        self._unit: dict[str, Tensor] = {}
        self.constant: dict[str, Any] = {}
        self._images, self._encoding, self._seed = images, encoding, 0
        self._v: dict[str, Tensor] = {}
        self._sums: dict[str, Tensor] = {}
        self._warm: Tensor | None = None  # the scores at the end of the warm-up
        self._buffers: dict[str, Tensor] = {}
        self._pools: dict[str, tuple[Tensor, Tensor]] = {}
        self._calls = {
            node.name: self._call(node) for node in plan.nodes.values() if node.kind not in ("input", "spiking")
        }
        if plan.constant_input:
            self.constant[plan.input] = images
        elif isinstance(encoding, str):
            if encoding == "poisson":
                check.in_range("SpikingNetwork", "images", images, -1.0, 1.0)
            self._seed = int(torch.randint(0, 2**62, (1,)))
        for name in plan.once:
            value = self._calls[name](self.constant.__getitem__)
            if name in plan.hidden:
                value = value.contiguous(memory_format=self._layout(name, value))
            self.constant[name] = value

    @torch.no_grad()
    def advance(self, num_steps: int, *, chunk: int | None = None) -> Stream:
        """Run ``num_steps`` more steps, ``chunk`` at a time, and return ``self``."""
        size = check.integer("SpikingNetwork", "chunk", CHUNK if chunk is None else chunk)
        end = self.steps + check.integer("SpikingNetwork", "num_steps", num_steps, least=0)
        while self.steps < end:
            until = self.warm_up if self.steps < self.warm_up < end else end
            self._chunk(min(size, until - self.steps))
            if self.steps == self.warm_up:
                self._warm = self._scores()
        return self

    @torch.no_grad()
    def tell(self, monitor: Monitor) -> None:
        """Report the spikes of all neurons and the operations of all products so far to a monitor."""
        for name in self.neurons:
            first, node = torch.cat(self._first[name]), self.plan.nodes[name]
            place = node.target if node.op == "call_module" else name
            monitor.add_counts(str(place), "IF", self.counts[name], self.steps, first)
        for node in self.plan.nodes.values():
            if not node.is_product:
                continue
            product = self.network.get_submodule(node.target)
            if node.source in self.constant:
                x = self.constant[node.source]
                active, unit = (x != 0) * float(self.steps), are_spikes(x)
            else:
                known = self.counts.get(node.source)
                active, unit = (self.active[node.name] if known is None else known, self._unit[node.name])
            samples = active.flatten(0, active.dim() - sample_dims(product) - 1)
            total = samples.sum(0, dtype=torch.float64)
            monitor.add_inputs(str(node.target), product, total, len(samples) * self.steps, unit)

    @torch.no_grad()
    def output(self) -> Tensor:
        """Return the scores after the steps so far; see :meth:`SpikingNetwork.forward`."""
        if self.steps <= self.warm_up:
            after = f" after a warm-up of {self.warm_up}" if self.warm_up else ""
            raise RuntimeError(f"SpikingNetwork: there is no output before the first step{after}")
        scores = self._scores()
        if self._warm is None:
            return scores
        if self.plan.counts_spikes:
            return scores - self._warm
        steps = self.steps - self.warm_up
        return scores * (self.steps / steps) - self._warm * (self.warm_up / steps)

    def _scores(self) -> Tensor:
        """Return the scores of all steps so far, with the warm-up."""
        if self.plan.counts_spikes:
            return self._sums[self.plan.result].clone()
        values: dict[str, Any] = dict(self.constant)
        for name in self.plan.counted:
            mean = self._sums[name] / self.steps
            if name in self.neurons and not self.plan.unit_spikes:
                mean = mean * self.neurons[name].threshold
            values[name] = mean.to(self._images.dtype)
        for name in self.plan.tail:
            # Pooling means is right: the largest sum is the sum of the spiking pool's output.
            values[name] = self.network.call(self.plan.nodes[name])(values.__getitem__)
        result: Tensor = values[self.plan.result]
        return result

    def select(self, chosen: Tensor) -> None:
        """Continue with a part of the batch: indices, or a mask ``[B]``."""
        B = len(self._images)
        self._images = self._images[chosen]
        self._warm = None if self._warm is None else self._warm[chosen]
        for state in (self._v, self._sums, self.counts, self.active):
            for name in state:
                state[name] = state[name][chosen]
        self._pools = {name: (a[chosen], b[chosen]) for name, (a, b) in self._pools.items()}
        for name, value in self.constant.items():
            kind = self.plan.nodes[name].kind
            if kind not in ("static", "size") and len(value) == B:
                self.constant[name] = value[chosen]
            else:
                self.constant[name] = self._calls[name](self.constant.__getitem__)

    def _absorbs(self, name: str) -> bool:
        """Return whether the weights of products include the spike size of the neurons ``name``."""
        if self.plan.unit_spikes or name not in self.plan.absorbed:
            return False
        threshold = self.neurons[name].threshold
        return threshold.numel() == 1 or threshold.dim() + 1 >= self.plan.absorbed[name]

    def _call(self, node: AnalogNode) -> Run:
        source = self.plan.absorbing.get(node.name)
        if source is None or not self._absorbs(source):
            if node.op != "call_module":
                return self.network.call(node)
            layer = self.network.get_submodule(node.target)
            return reading(shortcut_of(layer, is_sparse=source is not None) or layer, node)
        # Scale a copy of the weights by the spike size: scaling the spikes would be another pass over them. The copy
        # lives for one run, so that thresholds may change between runs.
        product = copy.copy(self.network.get_submodule(node.target))
        threshold = self.neurons[source].threshold
        is_flat = threshold.dim() < 2 or node.name in self.plan.flattened
        if isinstance(product, nn.Linear) and not is_flat:
            size = threshold.to(product.weight.dtype)
            return reading(lambda spikes: product(spikes * size), node)
        weight = absorb(product, threshold)
        product._parameters = {**product._parameters, "weight": weight}  # type: ignore[dict-item]
        return reading(shortcut_of(product, is_sparse=True) or product, node)

    def _encode(self, steps: int) -> Tensor:
        """Return the input of the next steps, ``[steps, B, ...]``."""
        images, encoding = self._images, self._encoding
        if callable(encoding):
            # Clone for each step: the encoder may work in place.
            rows = [encoding(images.clone()) for _ in range(steps)]
            for row in rows:
                if not isinstance(row, Tensor) or row.shape != images.shape:
                    got = list(row.shape) if isinstance(row, Tensor) else type(row).__name__
                    raise ValueError(f"SpikingNetwork: the encoder must keep the shape {list(images.shape)}, got {got}")
            return torch.stack([row.to(images) for row in rows])
        p, sign = images.abs(), images.sign()
        # One seed per step, so that the spikes do not depend on the chunk size.
        rows = [
            ops.poisson(p, 1, seed=self._seed + self.steps + t, dtype=images.dtype, validate=False)[0]
            for t in range(steps)
        ]
        return torch.stack([row * sign for row in rows])

    def _chunk(self, steps: int) -> None:
        plan = self.plan
        values: dict[str, Tensor] = {}
        if not plan.constant_input:
            values[plan.input] = self._encode(steps)
            if plan.input in plan.counted:
                self._add(plan.input, values[plan.input])
        readers: dict[str, int] = {}
        for name in plan.stored:
            for read in plan.reads[name]:
                readers[read] = readers.get(read, 0) + 1
        for name in plan.stored:
            kind = plan.nodes[name].kind
            if kind == "spiking":
                value = self._fire(name, self._sequence(name, values, steps))
            elif kind == "max_pool":
                value = self._pool(name, self._sequence(name, values, steps))
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

    def _sequence(self, name: str, values: dict[str, Tensor], steps: int) -> Tensor:
        """Return the input of a stored node at all steps, ``[steps, B, ...]``."""
        source = self.plan.nodes[name].source
        if source in values:
            return values[source]
        constant: Tensor = self.constant[source]
        return constant.unsqueeze(0).expand(steps, *constant.shape)

    def _fire(self, name: str, x: Tensor) -> Tensor | None:
        layer = self.neurons[name]
        v = self._v.get(name)
        if v is None:
            v = layer.rest(x[0])
        threshold = layer.threshold.to(v.dtype)
        constants: dict[str, Any] = {"v_threshold": threshold, "v_reset": layer.v_reset}
        if threshold.device.type == "cpu" and threshold.numel() == 1:
            # The kernels are faster with a number; reading it from a GPU would synchronise.
            constants["v_threshold"] = threshold.item()
        wanted = name in self.plan.counted
        if name in self.plan.unread and not self.watch:
            count, self._v[name] = ops.spike_count(x, v, self._sums.get(name), **constants)
            self._sums[name] = count
            if self.record:
                self.counts[name] = count
            return None
        spikes, v_out = ops.iaf(x, v, **constants)
        self._v[name] = v_out
        if self.watch:
            self._first.setdefault(name, []).append(spikes[:, :1] != 0)
        if wanted or self.record:
            # Whole numbers, so that the sum does not depend on the chunk size.
            count = spikes.sum(0, dtype=v.dtype)
            if wanted:
                self._sums[name] = self._sums[name] + count if name in self._sums else count
            if self.record:
                self.counts[name] = self.counts[name] + count if name in self.counts else count
        if not self.plan.unit_spikes and not self._absorbs(name):
            spikes.mul_(threshold.to(spikes.dtype))
        return spikes

    def _pool(self, name: str, x: Tensor) -> Tensor:
        """Emit a spike wherever the largest sum so far in the window grows."""
        sums, largest = self._pools.get(name, (None, None))
        run, total = ops.li(x, sums, decay=1.0, decay_input=False)
        pool = self._calls[name]
        source = self.plan.nodes[name].source
        pooled = pool({source: run.flatten(0, 1)}.__getitem__)
        pooled = pooled.view(len(x), -1, *pooled.shape[1:])
        first = torch.zeros_like(pooled[0]) if largest is None else largest
        self._pools[name] = (total, pooled[-1].clone())
        return torch.diff(pooled, dim=0, prepend=first.unsqueeze(0)).to(x.dtype)

    def _products(self, name: str, values: dict[str, Tensor], steps: int) -> Tensor:
        """Compute a stored affine node step by step: a product over another number of rows may round differently."""
        recipe = self.plan.recipe[name]

        def row_of(t: int) -> Tensor:
            step_values: dict[str, Any] = {}

            def look(n: str) -> Any:
                if n in step_values:
                    return step_values[n]
                return values[n][t] if n in values else self.constant[n]

            for part in recipe:
                if self.record and self.plan.nodes[part].is_product:
                    self._record(part, look)
                step_values[part] = self._calls[part](look)
            row: Tensor = step_values[name]
            return row

        first = row_of(0)
        # The same code for one step as for many: products could round differently.
        rows = self._rows(name, first, steps)
        rows[0] = first
        for t in range(1, steps):
            rows[t] = row_of(t)
        return rows

    def _rows(self, name: str, row: Tensor, steps: int) -> Tensor:
        """Return memory for ``steps`` rows; reuse that of the last chunk: allocation costs more than the copy."""
        buffer = self._buffers.get(name)
        if buffer is None or len(buffer) < steps or buffer.shape[1:] != row.shape:
            buffer = torch.empty(
                (steps * len(row), *row.shape[1:]),
                dtype=row.dtype,
                device=row.device,
                memory_format=self._layout(name, row),
            ).view(steps, *row.shape)
            self._buffers[name] = buffer
        return buffer[:steps]

    def _layout(self, name: str, value: Tensor) -> torch.memory_format:
        """Return the memory layout of a value: channels last, for event convolutions, if the model cannot notice."""
        last = name in self.plan.hidden and value.dim() == 4
        return torch.channels_last if last else torch.contiguous_format

    def _record(self, name: str, look: Callable[[str], Any]) -> None:
        source = self.plan.nodes[name].source
        if self.watch:
            unit = are_spikes(look(source))
            self._unit[name] = self._unit[name] & unit if name in self._unit else unit
        if source in self.neurons:
            return
        active = (look(source) != 0).to(torch.float32)
        self.active[name] = self.active[name] + active if name in self.active else active

    def _add(self, name: str, value: Tensor) -> None:
        rows = iter(value.to(check.state_dtype(value.dtype)))
        total = self._sums[name] if name in self._sums else next(rows).clone()
        for row in rows:
            total = total + row
        self._sums[name] = total
