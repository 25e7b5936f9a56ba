"""Export of a network as C99: :func:`export_c`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

import torch
from torch import nn

from snnfast import check
from snnfast.files.atomic import replacing
from snnfast.files.table import markdown
from snnfast.nn import Delay, IntegerLIF, RatePool, Recurrent, SpikeLinear
from snnfast.nn.integer_ilif import IntegerILIF
from snnfast.nn.integer_recurrent import IntegerRecurrent
from snnfast.nn.scale import Scale
from snnfast.nn.state import Stateful
from snnfast.nn.sum_pool2d import SumPool2d
from snnfast.reference.neuron_arguments import NEURONS

from .exact import PRODUCTS, OrderedConv2d, QuantisedWeights, exact
from .neurons import integer_lif, neuron_code
from .plan import LayerNode, at_rest, input_dtype, input_shape_of
from .pooling import flatten, pool, rate_pool, reordered
from .products import conv2d, linear, sums
from .program import HEADER, MAIN, MAKEFILE, NETWORK, SATURATED
from .readout import READOUTS, readout
from .recurrent import delay, integer_recurrent, recurrent
from .source import KINDS, CLayer, CValue, Source, element

__all__ = ["CExport", "Loss", "export_c"]

WEIGHTS = ("float32", "int8")
POOLS = (nn.AvgPool2d, nn.MaxPool2d, SumPool2d)  # an AdaptiveAvgPool2d has become an AvgPool2d
PASSES = (nn.MaxPool2d, RatePool, nn.Flatten)
TIMELESS = (SpikeLinear, nn.Conv2d, OrderedConv2d, *POOLS, nn.Flatten, Scale)
SUM = """
static void $id(void) {
  for (int n = 0; n < $size; n++) ${y}[n] = ${a}[n] + ${b}[n];
}
"""
SCALE = """
static void $id(void) {
  for (int n = 0; n < $size; n++) ${y}[n] = ${x}[n] * $factor;
}
"""


class Loss(NamedTuple):
    """Rounding error of a layer's weights in 8 bits.

    Attributes:
        layer: name of the layer.
        largest: the largest change of a weight.
        relative: norm of the changes, divided by the norm of the weights.
    """

    layer: str
    largest: float
    relative: float


class CExport(NamedTuple):
    """Result of :func:`export_c`.

    Attributes:
        folder: folder of the files.
        network: the network in PyTorch whose results equal the program's bit for bit.
        layers: layers of the program, with their bytes.
        losses: rounding errors of weights in 8 bits; empty in float32.
    """

    folder: Path
    network: nn.Module
    layers: list[CLayer]
    losses: list[Loss]

    def __str__(self) -> str:
        """A table of the layers."""
        rows = [(n, k, "x".join(map(str, s)), str(w), str(m)) for n, k, s, w, m in self.layers]
        total = [str(sum(layer[i] for layer in self.layers)) for i in (3, 4)]  # type: ignore[misc]
        head = ("layer", "kind", "outputs", "weight bytes", "memory bytes")
        table = markdown(head, [*rows, ("all", "", "", *total)])
        if not self.losses:
            return table
        lost = [(n, f"{largest:.3g}", f"{relative:.3g}") for n, largest, relative in self.losses]
        return f"{table}\n\n{markdown(('layer', 'largest change', 'relative'), lost)}"


@check.keywords
def export_c(
    net: nn.Module, folder: str | Path, input_shape: Sequence[int] | None = None, *, weights: str = "float32"
) -> CExport:
    """Write ``net`` as C99 without dependencies: ``snn.h``, ``snn.c``, a ``main.c`` and a ``Makefile``.

    ``snn_reset()`` begins a sequence, ``snn_step(input, output)`` runs a step of one sample. All memory is static. A
    product adds one row of weights for each input that is not 0: few spikes cost little. The output of a readout at
    each step is that of a sequence which ends there.

    The program and the returned ``network`` have bit-identical spikes and membranes. ``network`` is ``net`` in
    evaluation with its sums in a fixed order: a product begins with the bias and adds its inputs one by one, those of
    an image row by row, column by column, channel by channel (the order of :class:`snnfast.nn.SpikeLinear` and
    :class:`snnfast.nn.SpikeConv2d` with ``method="events"``; a ``net`` of these layers has that order already).
    PyTorch's own products sum in another order: with them ``net`` differs by rounding, which can move a spike. Batch
    normalisation directly after a product is folded into it. ``Rate``, ``Count`` and ``FirstSpike`` of a membrane
    differ by rounding; of spikes they are equal.

    Args:
        net: layers of ``torch.nn`` (Linear, Conv2d, AvgPool2d, MaxPool2d, AdaptiveAvgPool2d, Flatten, BatchNorm,
            Dropout, Identity) in :class:`snnfast.nn.Time`, of :mod:`snnfast.nn` (IF, LIF, ParametricLIF, LI, CubaLIF,
            CubaLI, ALIF, AdLIF, Recurrent, RLIF, Delay, SpikeLinear, SpikeConv2d, readouts), and sums of their outputs;
            or a network of :func:`snnfast.export.integer`, whose program has no floating point.
        folder: folder to write to; it is created if missing. An existing ``main.c`` or ``Makefile`` is not changed.
        input_shape: shape of a sample, ``[features]`` or ``[C, H, W]``; may be None if the first layer is linear.
        weights: ``"float32"``, or ``"int8"``: the weights of each output as ``scale q`` with ``q`` from -127 to 127.
            The result's ``losses`` are the rounding errors, and its ``network`` has the rounded weights, for
            validation; biases and neurons stay in float32.

    Raises:
        TypeError, ValueError: for arguments of wrong type or range, and for a layer without an equivalent in C or with
            hooks, by name.
        OSError: the files cannot be written.

    Example:
        >>> print(snnfast.export_c(net, "firmware"))   # then: make -C firmware && firmware/snn < frames.txt
    """
    check.choice("export_c", "weights", weights, WEIGHTS)
    network = at_rest("export_c", net)
    shape = input_shape_of("export_c", network, input_shape)
    try:
        nodes, quantised = exact(network, shape, weights == "int8")
    except ValueError as error:
        raise ValueError(f"export_c: {error}") from None
    source, output = _program(nodes, shape, KINDS[input_dtype(network)], quantised)
    losses = [Loss(name, q.largest, q.relative) for name, q in quantised.items()]
    result = CExport(Path(folder), network, source.layers, losses)
    _write(result, source, output, (shape, nodes[-1].after), weights)
    return result


def _program(
    nodes: list[LayerNode], shape: tuple[int, ...], kind: str, quantised: dict[str, QuantisedWeights]
) -> tuple[Source, CValue]:
    """Return the source of all layers, and the output of the last one."""
    source = Source()
    source.counter("steps")
    frame = CValue(source.memory("input_frame", math.prod(shape), kind), shape, kind)
    if len(shape) == 3:
        image = source.memory("input_image", frame.size, kind)
        reordered(source, "input_reordered", frame, image, to_image=True)
        frame = frame._replace(array=image)
    source.layer("input", "", shape)
    values = {-1: frame}
    for index, node in enumerate(nodes):
        kind = "sum" if node.module is None else type(node.module).__name__
        inputs = [values[i] for i in node.inputs]
        id = f"{kind.lower()}_{index}"
        most = inputs[0].most if isinstance(node.module, nn.MaxPool2d) else None
        if _stays_image(nodes, index, inputs[0]):
            source.layer(node.name, kind, node.after)
            values[index] = inputs[0]._replace(shape=node.after, image=inputs[0].shape)
            continue
        if isinstance(node.module, PRODUCTS):
            ctype, most = sums(node.module, inputs[0])
        elif node.dtype == torch.int64 and inputs[0].kind in ("int32_t", "int64_t"):
            ctype = "int64_t"  # a sum of membranes; spikes are counted in 32 bits
        else:
            ctype = inputs[0].kind if isinstance(node.module, nn.MaxPool2d) else KINDS[node.dtype]
        array = source.memory(f"{id}_y", math.prod(node.after), ctype)
        y = CValue(array, node.after, ctype, _spikes(node, inputs[0]), most)
        if not isinstance(node.module, TIMELESS):
            source.waits()
        try:
            if len(node.after) not in (1, 3):
                raise ValueError(f"gives {list(node.after)} a sample, not [features] or [C, H, W]")
            _emit(source, id, node, inputs, y, quantised.get(node.name))
        except ValueError as error:
            raise ValueError(f"export_c: {node.name}, a {kind}, {error}") from None
        source.layer(node.name, kind, node.after)
        values[index] = y
    last = values[len(nodes) - 1]
    if len(last.shape) != 3:
        return source, last
    plain = source.memory("output_frame", last.size, last.kind)
    reordered(source, "output_reordered", last, plain, to_image=False)
    source.layer("output", "", last.shape)
    return source, last._replace(array=plain)


def _stays_image(nodes: list[LayerNode], index: int, x: CValue) -> bool:
    """Return whether only products of integers read a flattened image: they take it in the order of C."""
    readers = [node.module for node in nodes if index in node.inputs]
    return (
        isinstance(nodes[index].module, nn.Flatten)
        and (len(x.shape), len(nodes[index].after)) == (3, 1)
        and bool(readers)
        and all(isinstance(reader, nn.Linear) and reader.weight.dtype == torch.int8 for reader in readers)
    )


def _spikes(node: LayerNode, x: CValue) -> bool:
    """Return whether the output of a layer is spikes, 0 or 1, which need no multiplication."""
    layer: Any = node.module.neuron if isinstance(node.module, (Recurrent, IntegerRecurrent)) else node.module
    if isinstance(layer, IntegerLIF):
        several = isinstance(layer, IntegerILIF) and layer.steps == 1 and layer.most > 1
        return layer.v_threshold is not None and not several
    neuron = NEURONS.get(getattr(layer, "op", ""))
    if neuron is not None and neuron.fires:
        return bool(layer.max_spikes == 1)
    return x.ones and isinstance(layer, PASSES)


def _emit(
    source: Source, id: str, node: LayerNode, inputs: list[CValue], y: CValue, quantised: QuantisedWeights | None
) -> None:
    module, x = node.module, inputs[0]
    if module is None:
        source.function(SUM, id=id, size=x.size, a=x.array, b=inputs[1].array, y=y.array)
    elif isinstance(module, SpikeLinear):
        linear(source, id, module, x, y, quantised)
    elif isinstance(module, (nn.Conv2d, OrderedConv2d)):
        conv2d(source, id, module, x, y, quantised)
    elif isinstance(module, POOLS):
        pool(source, id, module, x, y)
    elif isinstance(module, RatePool):
        rate_pool(source, id, module, x, y)
    elif isinstance(module, Scale):
        factor = element(source, f"{id}_factor", module.scale, x.shape)
        source.function(SCALE, id=id, size=x.size, x=x.array, y=y.array, factor=factor)
    elif isinstance(module, nn.Flatten):
        flatten(source, id, module, x, y)
    elif isinstance(module, Recurrent):
        recurrent(source, id, module, x, y, quantised)
    elif isinstance(module, IntegerRecurrent):
        integer_recurrent(source, id, module, x, y)
    elif isinstance(module, Delay):
        delay(source, id, module, x, y)
    elif isinstance(module, IntegerLIF):
        integer_lif(source, id, module, x, y)
    elif isinstance(module, Stateful):
        neuron_code(source, id, module, x, y)
    elif type(module) in READOUTS:
        readout(source, id, module, x, y)
    else:
        raise ValueError("has no equal in C")


def _write(
    result: CExport, source: Source, output: CValue, shapes: tuple[tuple[int, ...], tuple[int, ...]], weights: str
) -> None:
    about = [f"{name}: {kind}, {list(s)}" for name, kind, s, _, _ in result.layers if kind]
    has_integers = any(isinstance(layer, (IntegerLIF, IntegerRecurrent)) for layer in result.network.modules())
    sizes = [f'"{n},{list(s)},{w},{m}\\n"' for n, _, s, w, m in result.layers]
    words = {
        "version": version("snnfast"),
        "about": "\n   ".join(["Whole numbers alone." if has_integers else f"Weights in {weights}.", *about]),
        "layers": " \\\n  ".join(size.replace(", ", "x") for size in sizes),
        "weight_bytes": str(sum(layer.weights for layer in result.layers)),
        "memory_bytes": str(sum(layer.memory for layer in result.layers)),
        "constants": "\n\n".join(source.constants),
        "variables": "\n".join(source.variables),
        "functions": "\n\n".join([*source.helpers, *source.functions]),
        "resets": "\n  ".join(source.resets),
        "once": "\n    ".join(source.once),
        "calls": "\n  ".join(source.calls),
        "output": output.array,
        "input_type": KINDS[input_dtype(result.network)],
        "saturated": SATURATED if has_integers else "",
        "math": "" if has_integers else "\n#include <math.h>\n",
        "output_type": output.kind,
    }
    for end, shape in zip(("input", "output"), shapes):
        words |= {f"{end}s": str(math.prod(shape)), f"{end}_shape": str(list(shape))}
    files = {"snn.h": HEADER, "snn.c": NETWORK}
    result.folder.mkdir(parents=True, exist_ok=True)
    for name, template in files.items():
        with replacing(result.folder / name) as new:
            new.write_text(Template(template.lstrip("\n")).substitute(words))
    for name, text in {"main.c": MAIN, "Makefile": MAKEFILE}.items():
        if not (result.folder / name).exists():  # an existing file may be the user's
            with replacing(result.folder / name) as new:
                new.write_text(text.lstrip("\n"))
