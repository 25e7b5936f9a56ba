"""Plain data of a traced network, and a module that runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.fx.node import map_aggregate

Run = Callable[[Callable[[str], Any]], Any]


@dataclass(frozen=True)
class Placeholder:
    """Placeholder in the arguments of a node for the value of the node ``name``."""

    name: str


@dataclass(frozen=True)
class AnalogNode:
    """A node of a traced network. It holds no module, so that it can be copied and saved.

    Attributes:
        name: name of the node.
        kind: "input"; "static", computed from parameters only; "size", numbers of a shape; "linear"; "affine", linear
            plus a constant; "spiking"; or "max_pool".
        place: position in the model, for messages.
        op, target, args, kwargs: as in ``torch.fx``; ``args`` and ``kwargs`` have :class:`Placeholder` for nodes.
        is_product: the node is a Linear or a convolution.
        is_homogeneous: a factor on an input channel is a factor on the output channel.
        is_flatten: all dimensions but the batch become one.
        dims: required number of dimensions of the input, with the batch; with fewer, a pool would take the input for
            an image without channels.
    """

    name: str
    kind: str
    place: str
    op: str
    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    is_product: bool = False
    is_homogeneous: bool = False
    is_flatten: bool = False
    dims: int | None = None

    @property
    def reads(self) -> list[str]:
        """Names of the nodes that it reads."""
        found: dict[str, None] = {}
        _map((self.args, self.kwargs), lambda name: found.setdefault(name))
        return list(found)

    @property
    def source(self) -> str:
        """Name of the first node that it reads."""
        name: str = self.args[0].name
        return name


class Analog(nn.Module):
    """Module that holds parts of a model under their original names, even if these are names of its attributes."""

    def take(self, parts: Mapping[str, nn.Module | Tensor]) -> None:
        """Register ``parts``; afterwards attributes of the same names cannot be set."""
        for path, part in parts.items():
            *parents, name = path.split(".")
            owner: nn.Module = self
            for parent in parents:
                child = owner._modules.get(parent)
                owner._modules[parent] = owner = nn.Module() if child is None else child
            if isinstance(part, nn.Module):
                owner._modules[name] = part
            elif isinstance(part, nn.Parameter):
                owner._parameters[name] = part
            else:
                owner._buffers[name] = part

    def get_submodule(self, target: str) -> nn.Module:
        """Return the module of that name, even if the class has another attribute of the name."""
        name, _, rest = target.partition(".")
        child = self._modules.get(name)
        return super().get_submodule(target) if child is None else child.get_submodule(rest)

    def run(self, nodes: Iterable[AnalogNode], images: Tensor) -> dict[str, Any]:
        """Return the values of all nodes, by name; spiking nodes compute the ReLU."""
        values: dict[str, Any] = {}
        for node in nodes:
            if node.kind == "input":
                value: Any = images
            elif node.kind == "spiking":
                value = values[node.source].clamp(min=0)
            else:
                value = self.call(node)(values.__getitem__)
            is_signal = isinstance(value, Tensor) and node.kind != "static"
            if is_signal and (value.dim() == 0 or value.shape[0] != images.shape[0]):
                raise ValueError(
                    f"convert: {node.place} mixes the images of a batch: from {images.shape[0]} images it makes shape "
                    f"{list(value.shape)}"
                )
            values[node.name] = value
        return values

    def call(self, node: AnalogNode) -> Run:
        """Return a function that computes ``node``; its argument looks values up by name."""
        if node.op == "get_attr":
            parent, _, name = node.target.rpartition(".")
            owner = self.get_submodule(parent)
            value = {**owner._parameters, **owner._buffers}[name]
            return lambda look: value
        if node.op == "call_module":
            return reading(self.get_submodule(node.target), node)
        if node.op == "call_function":
            return reading(node.target, node)
        method = node.target
        return reading(lambda tensor, *args, **kwargs: getattr(tensor, method)(*args, **kwargs), node)


def reading(run: Callable[..., Any], node: AnalogNode) -> Run:
    """Return a function that calls ``run`` with the arguments of ``node``, which it looks up by name."""
    if len(node.args) > 1 or node.kwargs or not isinstance(node.args[0], Placeholder):

        def general(look: Callable[[str], Any]) -> Any:
            args, kwargs = _map((node.args, node.kwargs), look)
            return run(*args, **kwargs)

        found: Run = general
    else:
        name = node.source
        found = lambda look: run(look(name))  # noqa: E731
    if node.dims is None or node.is_homogeneous:
        return found
    first, dims = node.source, node.dims

    def checked(look: Callable[[str], Any]) -> Any:
        x = look(first)
        if isinstance(x, Tensor) and x.dim() != dims:
            raise ValueError(
                f"convert: {node.place} needs an input of {dims} dimensions, the batch first, got {list(x.shape)}"
            )
        return found(look)

    return checked


def _map(arguments: Any, change: Callable[[str], Any]) -> Any:
    return map_aggregate(arguments, lambda a: change(a.name) if isinstance(a, Placeholder) else a)
