"""Monitor of a network: hooks that count while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from snnfast import check
from snnfast.nn.recurrent import Recurrent
from snnfast.nn.replaced import Replaced
from snnfast.nn.sparse_recurrent import SparseRecurrent
from snnfast.nn.spikeprop import SpikeProp
from snnfast.nn.state import Stateful
from snnfast.nn.time import Time

from .counts import NeuronCounts
from .operations import active_inputs, are_spikes, arriving, is_product, sample_dims, sparse_operations
from .tally import Tally

__all__ = ["Monitor", "monitor"]

# Joules for 32-bit floats in 45 nm: an addition takes 0.9 pJ, a multiplication 3.7 pJ (Horowitz, "Computing's energy
# problem (and what we can do about it)", ISSCC 2014, figure 1.1.9).
ENERGY_AC, ENERGY_MAC = 0.9e-12, 4.6e-12


@check.keywords
def monitor(
    net: nn.Module, *, membranes: int = 0, energy_ac: float = ENERGY_AC, energy_mac: float = ENERGY_MAC
) -> Monitor:
    """Count the activity of ``net``, layer by layer, until the monitor is switched off.

    Results of the network do not change, except the scores of a network made by :func:`snnfast.convert`, which agree to
    rounding. Without a monitor, and with one that is off, the network has no hooks and no additional cost. The monitor
    counts layers of neurons of this package, also those from :func:`snnfast.nn.replace` and ``convert`` (spikes, rates,
    silent and saturated neurons), and synaptic operations of ``nn.Linear``, convolutions and recurrent weights, as
    NeuroBench counts them: an input that is not 0 times a weight that is not 0 is one operation, an accumulate if all
    inputs of a call are -1, 0 or 1, else a multiply-accumulate; biases do not count. A constant input counts at every
    step, as if the product ran there. A sample is an element of the batch in a call of ``net``.

    Args:
        net: the network; inside ``DistributedDataParallel``, too: see :meth:`snnfast.monitoring.Tally.reduce`.
        membranes: number of neurons per layer, at most 16, whose membranes are stored for the first sample of the last
            call.
        energy_ac: energy of an accumulate in joules: 0.9e-12, a 32-bit float addition in 45 nm (Horowitz, ISSCC 2014).
        energy_mac: energy of a multiply-accumulate in joules: 4.6e-12, from the same source.

    Example:
        >>> with snnfast.monitor(net) as watching:
        ...     net(x)
        >>> print(watching.activity())

    Raises:
        TypeError, ValueError: for arguments of wrong type or range, or a network made by ``torch.compile``.
    """
    return Monitor(net, membranes=membranes, energy_ac=energy_ac, energy_mac=energy_mac)


class Monitor(Tally):
    """Monitor of a network, as :func:`monitor` returns it, with the same arguments; starts switched on.

    Attributes:
        spikes: spikes of the first sample of the last call, ``[T, neurons]``, by layer of neurons.
        membranes: membranes after every step, ``[T, n]``, by layer, with ``membranes=n``.
        samples: number of samples that went through the network.
    """

    def __init__(
        self, net: nn.Module, *, membranes: int = 0, energy_ac: float = ENERGY_AC, energy_mac: float = ENERGY_MAC
    ) -> None:
        check.module("monitor", "net", net)
        if isinstance(net, DistributedDataParallel):
            net = net.module
        stored = check.integer("monitor", "membranes", membranes, 0)
        if stored > 16:
            raise ValueError(f"monitor: membranes must be at most 16, got {membranes}")
        energy = (
            check.at_least_zero("monitor", "energy_ac", energy_ac),
            check.at_least_zero("monitor", "energy_mac", energy_mac),
        )
        self._handles: list[Any] = []
        self._announcing: list[Announcing] = []
        self._running = False  # whether the network runs; a layer may run alone, or again for an activation checkpoint
        super().__init__(net, stored, energy)
        self.on()

    def clear(self) -> None:
        """Reset all counts."""
        super().clear()
        self._inside: list[torch.Size] = []  # [T, B] of the running Time layers

    def on(self) -> Monitor:
        """Start counting."""
        if self._handles:
            return self
        for path, module in self._net.named_modules():
            if "_orig_mod" in module._modules or module._compiled_call_impl is not None:
                raise ValueError(
                    f"monitor: {path or 'net'} is compiled, and hooks do not see what it does; give the network from "
                    "before torch.compile, and call that"
                )
        firing = [m for m in self._net.modules() if _fires(m)]
        # A replaced neuron reports the products inside its kernel; its layers that run as such have hooks.
        inner = {c for m in firing if not isinstance(m, Replaced) for c in m.children()}
        for path, module in self._net.named_modules():
            name = path or type(module).__name__
            if module in inner:
                continue
            if isinstance(module, Announcing):
                module.monitor = self
                inner.update(module.modules())
                self._announcing.append(module)
                continue
            if isinstance(module, Replaced) and isinstance(module, Stateful):
                self._watch_replaced(name, module)
            elif isinstance(module, Stateful):
                self._watch_neurons(name, module)
            elif isinstance(module, Time):
                self._before(module, self._enter)
                self._after(module, self._leave, always=True)
            elif isinstance(module, SpikeProp):
                self._after(module, _named(name, self._add_times))
            elif is_product(module):
                self._after(module, _named(name, self._add_product))
        self._before(self._net, self._begin)
        self._after(self._net, self._end, always=True)
        return self

    def off(self) -> None:
        """Stop counting; the counts remain."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        for module in self._announcing:
            module.monitor = None
        self._announcing.clear()

    def __enter__(self) -> Monitor:
        return self.on()

    def __exit__(self, *error: object) -> None:
        self.off()

    # Hooks.

    def _before(self, module: nn.Module, call: Callable[..., Any]) -> None:
        self._handles.append(module.register_forward_pre_hook(_Hook(call), with_kwargs=True))

    def _after(self, module: nn.Module, call: Callable[..., Any], always: bool = False) -> None:
        hook = _Hook(call)
        self._handles.append(module.register_forward_hook(hook, with_kwargs=True, always_call=always))

    def _begin(self, net: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._batch, self._running = None, True

    def _end(self, net: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self._running = False
        if output is None:  # the network raised an error
            return
        if self._batch is None:
            self._batch = next((len(x) for x in inputs if isinstance(x, Tensor) and x.dim()), 1)
        self.samples += self._batch

    def _enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._inside.append(inputs[0].shape[:2])
        self._read_batch_size(inputs[0])

    def _leave(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        self._inside.pop()

    def _watch_neurons(self, name: str, module: Stateful) -> None:
        """Count spikes; make the layer return membranes, too, and remove them from the result for its caller."""
        source: Any = module.neuron if isinstance(module, Recurrent) else module
        shows = self._membranes > 0 and _fires(module) and not source.return_v_seq
        past: list[Tensor | None] = []

        def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            source.return_v_seq = True

        def remember(module: Recurrent | SparseRecurrent, inputs: tuple[Any, ...]) -> None:
            past[:] = [module.past if module.stateful else None]

        def after(module: Stateful, inputs: tuple[Any, ...], output: Any) -> Any:
            if shows:
                source.return_v_seq = False
            if output is None:  # the layer raised an error
                return None
            results = output if isinstance(output, tuple) else (output,)
            outputs = getattr(getattr(source, "neuron", None), "outputs", 1)
            y, v_seq = results[0], results[outputs] if len(results) > outputs else None
            result = (results[:outputs] if outputs > 1 else y) if shows else None
            if not self._running:
                return result
            self._read_batch_size(y)
            with torch.no_grad():
                if _fires(module):
                    several = getattr(source, "max_spikes", 1) != 1
                    self.add_spikes(name, type(module).__name__, y, several=several)
                elif "v" in module.states:  # a readout
                    v_seq = y
                if isinstance(module, RECURRENT):
                    self._add_recurrent(name, module, y, past.pop())
                self._keep_membranes(name, v_seq)
            return result

        if shows:
            self._before(module, before)
        if isinstance(module, RECURRENT):
            self._before(module, remember)
        self._after(module, after, always=shows)

    def _watch_replaced(self, name: str, module: Replaced) -> None:
        """Count spikes as :meth:`_watch_neurons`, for a layer with the call signature of another library."""
        shows = self._membranes > 0
        before: list[Any] = []

        def begin(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
            before[:] = [module.store_v_seq, module.v_seq]
            module.store_v_seq = True

        def end(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            v_seq = module.v_seq
            if shows:
                module.store_v_seq, v_seq_before = before
                module.v_seq = v_seq if module.store_v_seq else v_seq_before
            if output is None or not self._running:  # None: the layer raised an error
                return
            with torch.no_grad():
                first = module.time_first(output[0] if isinstance(output, tuple) else output)
                if module.fires:
                    several = module.most != 1
                    self.add_spikes(name, type(module).__name__, first, several=several)
                    x = module.time_first(inputs[0])
                    for inner, weight, factor in module.products(x, first):
                        self.add_linear(f"{name}.{inner}", "Linear", factor, weight)
                else:
                    v_seq = first
                # In step mode "s" SpikingJelly's membranes accumulate over calls.
                self._keep_membranes(name, None if v_seq is None else v_seq[-len(first) :])

        if shows:
            self._before(module, begin)  # type: ignore[arg-type]
        self._after(module, end, always=shows)  # type: ignore[arg-type]

    @torch.no_grad()
    def _add_product(self, name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if not self._running:
            return
        x, *_ = inputs  # a transposed convolution may also have its output size as an argument
        sample = x.shape[x.dim() - sample_dims(module) :]
        # Inside Time an input that is the same at every step runs once.
        steps, batch = self._inside[-1] if self._inside else (1, None)
        times = steps if batch is not None and len(x) == batch != steps * batch else 1
        presented = x.numel() // max(sample.numel(), 1) * times
        self.add_inputs(name, module, active_inputs(module, x) * times, presented, are_spikes(x))

    def _add_recurrent(
        self, name: str, module: Recurrent | SparseRecurrent, spikes: Tensor, past: Tensor | None
    ) -> None:
        if isinstance(module, SparseRecurrent):
            self._add(name, type(module).__name__, *sparse_operations(module, spikes, past))
            return
        arrived = arriving(spikes, module.delays, past)
        self.add_linear(name, type(module).__name__, arrived, module.connected(module.weight))

    @torch.no_grad()
    def _add_times(self, name: str, module: SpikeProp, inputs: tuple[Any, ...], output: Any) -> None:
        if not self._running:
            return
        times = output[0] if isinstance(output, tuple) else output
        fired = times.isfinite()
        kind = type(module).__name__
        part = self._neurons.setdefault(name, NeuronCounts(kind, steps=False))
        part.add(name, fired.sum(0), torch.zeros_like(fired[0]), len(fired))
        self._batch = len(fired)
        # Every spike of an input reaches every output by each terminal.
        w, _ = module.effective()
        paths = (w != 0).sum((0, *range(2, w.dim())))
        operations = inputs[0].isfinite().sum(0, dtype=torch.float64) * paths
        dense = operations.new_tensor(float(len(fired) * w.numel()))
        self._add(name, kind, operations, dense, torch.ones_like(fired[0, 0]))


RECURRENT = (Recurrent, SparseRecurrent)


class Announcing(nn.Module):
    """A network whose layers hooks cannot observe, and which reports their activity to its monitor after a call."""

    monitor: Monitor | None = None


class _Hook:
    """A hook that counts steps itself, so that :class:`snnfast.nn.Time` may run all steps at once."""

    counts_steps = True

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], *output: Any) -> Any:
        return self.call(module, (*inputs, *named.values()), *output)


def _named(name: str, call: Callable[..., None]) -> Callable[..., None]:
    return lambda *arguments: call(name, *arguments)


def _fires(module: nn.Module) -> bool:
    if isinstance(module, Replaced):
        return module.fires and isinstance(module, Stateful)
    return isinstance(module, Stateful) and module.surrogate is not None
