"""User-defined neurons: :func:`neuron` makes op, reference and layer from a step function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, overload

from torch import Tensor, nn

from snnfast.check import refuse_unknown
from snnfast.ops.neuron import runner
from snnfast.ops.own_neuron import CompiledKernels
from snnfast.reference.call import reference_op
from snnfast.reference.neuron import scan
from snnfast.reference.neuron_arguments import Neuron, result_of, type_name
from snnfast.reference.recurrent import recurrent_call, scan_recurrent
from snnfast.reference.sparse_recurrent import recorded, sparse_call

from .from_op import FromOp

if TYPE_CHECKING:  # numpy, which it needs, is missing where the package is built
    from snnfast.connect import Connectivity

__all__ = ["OwnLayer", "OwnNeuron", "neuron"]


class OwnLayer(FromOp):
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

    @property
    def function(self) -> Callable[..., Any]:
        """The op."""
        return self.neuron

    @property
    def recurrent(self) -> Callable[..., Any]:
        """The op with recurrent connections."""
        return self.neuron.recurrent

    @property
    def sparse_recurrent(self) -> Callable[..., Any]:
        """The op with sparse recurrent connections."""
        return self.neuron.sparse_recurrent

    @property
    def num_inputs(self) -> int:  # type: ignore[override]
        """The number of inputs of a neuron."""
        return len(self.neuron.inputs)

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


class OwnNeuron(Neuron):
    """Result of :func:`neuron`: an op with ``reference``, ``recurrent`` and ``layer``."""

    def __init__(self, step: Callable[..., Any], *, inputs: int, compile: bool) -> None:
        super().__init__(step, inputs=inputs)
        self.__doc__ = self.check.__doc__
        self.__signature__ = inspect.signature(self.check).replace(return_annotation=inspect.Signature.empty)
        self.kernels = CompiledKernels(self, compile)
        self.reference = reference_op(scan, result_of)(self.check)
        self._run = runner(scan, self.kernels.choose)
        self._run_recurrent = runner(scan_recurrent, self.kernels.choose)

    def __call__(self, *arguments: Any, **keywords: Any) -> tuple[Any, ...]:
        """Return outputs, states and, with ``return_v_seq``, the first state after every step."""
        try:
            call = self.check(*arguments, **keywords)
        except TypeError:
            refuse_unknown(self.name, self.check, keywords)
            raise
        return self._run(self.name, call)  # type: ignore[no-any-return]

    def recurrent(
        self, x: Tensor, weight: Tensor, past: Tensor | None = None, *, delay: Tensor | None = None, **arguments: Any
    ) -> tuple[Any, ...]:
        """Run the neurons with recurrent connections; :func:`snnfast.ops.recurrent` documents the arguments."""
        call = recurrent_call(self.name, self._check_one_input(x, arguments), weight, past, delay)
        return self._run_recurrent(self.name, call)  # type: ignore[no-any-return]

    def sparse_recurrent(
        self,
        x: Tensor | tuple[Tensor, ...] | None,
        weight: Tensor | float,
        connectivity: Connectivity,
        past: Tensor | None = None,
        **arguments: Any,
    ) -> tuple[Any, ...]:
        """Run the neurons with sparse recurrent connections, as :func:`snnfast.ops.sparse_recurrent`.

        Neurons with several inputs take a tuple of them, or None, and synapses from ``H`` to ``inputs * H`` neurons:
        those to ``r * H + i`` reach input ``r`` of neuron ``i``, its receptor.
        """
        self._check_one_output()
        call = sparse_call(self.name, self, x, weight, connectivity, past, **arguments)
        return recorded(call, functools.partial(self._run_recurrent, self.name))

    def _check_one_input(self, x: Tensor, arguments: dict[str, Any]) -> Any:
        """Check the arguments of neurons that spikes can be fed back to; return the call."""
        if len(self.inputs) > 1:
            raise ValueError(
                f"{self.name}: a matrix of recurrent weights needs neurons with one input, got {len(self.inputs)}; "
                "sparse_recurrent takes several"
            )
        self._check_one_output()
        return self.checked(self.name, x, **arguments)

    def _check_one_output(self) -> None:
        if self.outputs > 1 or not self.fires:
            raise ValueError(
                f"{self.name}: recurrent connections need neurons with one output, its spikes; these have "
                f"{self.outputs}{'' if self.fires else ' and do not fire'}"
            )

    def explain(self, x: Tensor, surrogate: Any = None) -> str:
        """Name the kernel for inputs like ``x``, with the reason, for :func:`snnfast.backend.explain`."""
        return self.kernels.explain(x, surrogate)

    def __repr__(self) -> str:
        bare = [p.replace(annotation=p.empty) for p in self.__signature__.parameters.values()]
        return f"<neuron {self.__module__}.{self.__qualname__}{inspect.Signature(bare)}>"

    def __reduce__(self) -> Any:
        return self.__qualname__  # pickled by import path; a copy is the neuron itself

    @functools.cached_property
    def layer(self) -> type[OwnLayer]:
        """The class of its layers."""
        for name in (*self.parameters, *self.states):
            if hasattr(nn.Module, name) or name in ("function", "op", "states", "constants"):
                raise TypeError(
                    f"neuron {self.name}: {name} is an attribute of every module; call this parameter or state "
                    "otherwise"
                )
        space = {
            "neuron": self,
            "__doc__": f"Layer of the neuron {self.name}.\n\n{self.__doc__ or ''}",
            "__module__": self.__module__,
            "__qualname__": f"{self.__qualname__}.layer",
        }
        return type(type_name(self.name), (OwnLayer,), space)


@overload
def neuron(step: Callable[..., Any], /) -> OwnNeuron: ...
@overload
def neuron(*, inputs: int = 1, compile: bool = True) -> Callable[[Callable[..., Any]], OwnNeuron]: ...
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
        return functools.partial(OwnNeuron, inputs=inputs, compile=compile)
    if not callable(step) or not hasattr(step, "__code__"):
        raise TypeError(f"neuron: step must be a function, got {type(step).__name__}")
    return OwnNeuron(step, inputs=inputs, compile=compile)
