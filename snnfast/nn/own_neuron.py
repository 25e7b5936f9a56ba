"""User-defined neurons: :func:`neuron` makes op, reference and layer from a step function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, overload

from torch import Tensor, nn

from snnfast.ops.own_neuron import OwnNeuron

from .spiking import Spiking

__all__ = ["Neuron", "OwnLayer", "neuron"]


class OwnLayer(Spiking):
    """A layer of neurons that :func:`neuron` made; ``its_neuron.layer`` is its class.

    Args:
        firing: the parameters of the step: numbers, tensors that broadcast to ``x.shape[1:]`` (buffers) or
            ``nn.Parameter`` (learned); and those of every :class:`Spiking <snnfast.nn.spiking.Spiking>`: ``v_reset``,
            ``strict``, ``refractory``, ``max_spikes``, ``surrogate``, ``detach_reset``, ``stateful``, ``return_v_seq``.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """

    op = "own_neuron"
    neuron: OwnNeuron

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        parameters = {
            name: inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value)
            for name, value in cls.neuron.parameters.items()
        }
        shared = {k: v for k, v in cls.__signature__.parameters.items() if k != "v_threshold"}  # type: ignore[attr-defined]
        cls.__signature__ = inspect.Signature([*(shared | parameters).values()])  # type: ignore[attr-defined]

    def __init__(self, **firing: Any) -> None:
        parameters, arguments = self.neuron.parameters, firing
        if "v_threshold" in arguments and "v_threshold" not in parameters:
            raise TypeError(f"{type(self).__name__}: there is no argument 'v_threshold'")
        values = parameters | arguments
        firing = {k: v for k, v in values.items() if k not in parameters or k in ("v_threshold", "v_reset")}
        super().__init__(**firing)
        for name in parameters:
            if name not in firing:
                self._add_parameter(name, values[name])

    @property
    def function(self) -> Callable[..., Any]:
        """The op."""
        return self.neuron

    @property
    def recurrent(self) -> Callable[..., Any]:
        """The op with recurrent connections."""
        return self.neuron.recurrent

    def forward(self, *inputs: Tensor) -> Any:
        """Inputs ``[T, B, ...]`` of one shape -> outputs of the same shape and dtype, a tuple if there are several.

        With ``return_v_seq`` the first state after every step comes last, float64 for float64 input, else float32.
        """
        results = self.neuron(*inputs, **self._op_arguments(inputs[0]))
        split = self.neuron.outputs
        states = results[split : split + len(self.states)]
        self._store_states(*states)
        if self.neuron.fires:
            self._watch(results[0])
        found = (*results[:split], *results[split + len(self.states) :])
        return found if len(found) > 1 else found[0]

    def _shown(self) -> dict[str, Any]:
        shown = super()._shown()
        if "v_threshold" not in self.neuron.parameters:
            del shown["v_threshold"]
        return {name: getattr(self, name) for name in self.neuron.parameters} | shown


class Neuron(OwnNeuron):
    """Result of :func:`neuron`: an op with ``reference`` and ``layer``."""

    @functools.cached_property
    def layer(self) -> type[OwnLayer]:
        """The class of its layers."""
        for name in (*self.parameters, *self.states):
            if hasattr(nn.Module, name) or name in ("neuron", "function", "op", "states", "constants"):
                raise TypeError(
                    f"neuron {self.name}: {name} is an attribute of every module; call this parameter or state "
                    "otherwise"
                )
        firing = [name for name in Spiking.constants if name not in ("v_threshold", *self.parameters)]
        name = "".join(part[:1].upper() + part[1:] for part in self.name.split("_"))
        space = {
            "neuron": self,
            "states": self.states,
            "constants": (*self.parameters, *firing),
            "__doc__": f"Layer of the neuron {self.name}.\n\n{self.__doc__ or ''}",
            "__module__": self.__module__,
            "__qualname__": f"{self.__qualname__}.layer",
        }
        return type(name, (OwnLayer,), space)


@overload
def neuron(step: Callable[..., Any], /) -> Neuron: ...
@overload
def neuron(*, inputs: int = 1, compile: bool = True) -> Callable[[Callable[..., Any]], Neuron]: ...
def neuron(step: Callable[..., Any] | None = None, /, *, inputs: int = 1, compile: bool = True) -> Any:
    """Make an op, its reference in plain PyTorch, and a layer from the equation of one time step.

    On the CPU the step is traced, differentiated and compiled when it is first called for a dtype, a reset, a surrogate
    and a choice of parameters that are tensors; the kernels are cached in ``~/.cache/snnfast``. Without a compiler, and
    on other devices, it runs in plain PyTorch, with one warning that says why.

    Args:
        step: ``step(fire, x, v, *, parameter=default) -> (s, v)``. By position ``fire``, inputs and states, by keyword
            parameters with numbers as defaults; returns its outputs, then its states. All values are tensors of one
            element a neuron. It may use PyTorch's elementwise functions; see the page "Your own neuron".
            ``fire(h, threshold)`` returns spikes ``s``, ``h`` (for refractory neurons the membrane before), and the
            membrane after the reset: ``v_reset``, or ``h - s * threshold`` with ``v_reset=None``;
            ``fire(h, threshold, subtract)`` subtracts another value. States start at 0, the first one at the parameter
            ``v_rest``, if the step has one.
        inputs: how many inputs the step has; the other arguments by position are states.
        compile: False runs plain PyTorch always, whatever the step does.

    Returns:
        The op: ``op(x, v=None, *, parameter=..., v_reset=0.0, strict=False, refractory=0, r=None, max_spikes=1,
        surrogate="atan", detach_reset=False, return_state=True, return_v_seq=False)`` with inputs ``[T, ...]``, whose
        arguments and results are those of :func:`snnfast.ops.lif`. ``op.reference`` is the same in plain PyTorch,
        ``op.layer`` the class of its layers.

    Raises:
        TypeError, ValueError: for a step that is not such a function.
        TypeError: a ``TraceError`` at the first call, with the line of the step that cannot be compiled.

    Example:
        >>> @snnfast.neuron
        ... def klif(fire, x, v, *, decay=0.5, k=1.0, v_threshold=1.0):
        ...     h = torch.relu(k * (decay * v + x))
        ...     s, h, v = fire(h, v_threshold)
        ...     return s, v
        >>> spikes, v = klif(torch.rand(8, 4, 16))
        >>> layer = klif.layer(k=nn.Parameter(torch.ones(16)))
    """
    if step is None:
        return functools.partial(Neuron, inputs=inputs, compile=compile)
    if not callable(step) or not hasattr(step, "__code__"):
        raise TypeError(f"neuron: step must be a function, got {type(step).__name__}")
    return Neuron(step, inputs=inputs, compile=compile)
