"""Replacement of the neurons in a network of another library by those of this package: :func:`replace`."""

from __future__ import annotations

import copy
import warnings

from torch import nn

from snnfast import check
from snnfast.nn.accelerate import accelerate
from snnfast.nn.hooks import hooked, refuse_own_forward, take_hooks
from snnfast.nn.library import library_of
from snnfast.nn.replaced import Replaced
from snnfast.nn.state import Stateful, without_graphs
from snnfast.nn.steps_seen import watch_steps
from snnfast.nn.verify import Verify, agree, calls_of

from .instances import instance_of
from .libraries import LIBRARIES, Library
from .loops import without_loop
from .port import refuse
from .sequences import over_time
from .vendored import refuse_changed

__all__ = ["replace"]

_SLOW = (
    "So the copy runs step by step, which is hardly faster than its library; the page about the library says which "
    "loops are taken apart, and sequences=False keeps one without this warning"
)


def replace(net: nn.Module, *, sequences: bool | None = None, verify: Verify = None) -> nn.Module:
    """Copy a network of SpikingJelly, snnTorch, Norse or Sinabs, with neurons that run on the kernels of this package.

    Call the copy as you call ``net``: its neurons take a step or a sequence, and take and return states, like those of
    the library. Results are equal up to rounding, and returned membranes are defined as in the library. Parameters,
    buffers and the keys of the state dict are those of ``net``, so its files load, too. All other layers are copied
    unchanged (:func:`snnfast.nn.accelerate` speeds them up), with their hooks. The copy has the states of ``net``,
    without their graph, and keeps the same states between calls as the library's neurons; :func:`snnfast.nn.reset` and
    :func:`snnfast.nn.detach` work on all. Neurons are recognised by the names of their classes: no library is imported.

    If the ``forward`` of a network of snnTorch, with cells of Norse, or with neurons of SpikingJelly in step mode
    ``"s"`` runs the steps in a loop, :mod:`torch.fx` takes the loop apart: each layer takes all steps in one call, and
    :func:`snnfast.nn.accelerate` is applied. The copy has ``forward`` and the attributes of ``net``, but not its other
    methods. A loop that cannot be taken apart remains, with a warning that names the line and the reason.

    ============ ===================================================================================================
    SpikingJelly ``IFNode``, ``LIFNode``, ``ParametricLIFNode``, ``CUBALIFNode``, ``QIFNode``, ``EIFNode``,
                 ``IzhikevichNode``, ``KLIFNode``, ``ComplementaryLIFNode``, ``ILIFNode``, ``RAFNode``,
                 ``GatedLIFNode``, ``TernaryIFNode``, ``TernaryLIFNode``, ``SimpleIFNode``, ``SimpleLIFNode``,
                 ``HalfThresholdIFNode``, in step modes ``"s"`` and ``"m"``, with ``store_v_seq``;
                 ``NonSpikingIFNode``, ``NonSpikingLIFNode``; those of ``clock_driven``, also ``MultiStepLIFNode``
                 and its like; containers and ``layer.*`` stay
    snnTorch     ``Leaky``, ``Lapicque``, ``Synaptic``, ``RLeaky``, ``RSynaptic``, ``Alpha``
    Norse        ``LIFBoxCell``, ``LIBoxCell``, ``LILinearCell``, and ``LIF``, ``LI``, ``IAF``, ``LSNN``, ``LIFEx``,
                 ``LIFAdEx``, ``LIFRefrac``, ``LIFAdExRefrac``, ``Izhikevich`` with their cells, also the recurrent
                 ones; ``Lift`` without its loop
    Sinabs       ``LIF``, ``IAF``, ``ExpLeak``, ``ALIF``, ``LIFRecurrent``, ``IAFRecurrent``, squeezed or not
    ============ ===================================================================================================

    Neurons without a kernel run step by step in plain PyTorch, with a warning that says why; the page about each
    library lists them. Surrogate gradients of :mod:`snnfast.surrogate` run in the kernels. Any other function is kept;
    with it, the neurons run on the reference backend while gradients are recorded.

    Args:
        net: the network; it is not changed.
        sequences: None: a loop in ``forward`` is taken apart if possible. True: a loop that cannot be taken apart is an
            error; and an ``nn.Sequential`` that takes one step per call, with ``init_hidden=True`` in neurons of
            snnTorch, becomes one that takes ``[T, B, ...]``; ``verify`` is then a sequence, of which ``net`` takes one
            step per call. False: loops remain.
        verify: an input of ``net``, or a list of inputs of consecutive calls (``list(x)`` for a network that takes one
            step per call); a tuple in the list holds the arguments of one call, ``[(x, y)]``. Runs copies of both
            networks from rest, forward and backward, and compares every neuron's spikes, which must be equal, its
            membranes, the results of the networks, and the gradients of inputs and of every parameter. If they differ,
            both run in float64, too, which decides: where rounding alone moved a spike, a warning says so. Nothing
            changes ``net``, or the random numbers that are drawn next. Under ``torch.no_grad()`` no gradients are
            compared.

    Raises:
        TypeError: if ``net`` is not a module, or ``verify`` is neither a tensor nor a sequence of tensors and tuples.
        ValueError: for a neuron or a setting that cannot be mapped exactly, with its name and the reason; for a layer
            whose ``forward`` was set on the instance; for a network without neurons; and with ``verify`` if the
            networks differ, with the first layer.
    """
    check.module("replace", "net", net)
    refuse_own_forward("replace", net)
    inputs = calls_of("replace", verify)
    if sequences is not None:
        check.flag("replace", "sequences", sequences)
    # deepcopy puts a value of the memo in place of its original everywhere.
    memo = without_graphs(net)
    replaced: list[str] = []
    for name, module in net.named_modules():
        if any(name.startswith(f"{outer}.") or not outer for outer in replaced):
            continue
        library = _library(name, module)
        if library is None:
            continue
        kind = type(module).__name__
        where = f"{name or 'net'}, a {kind} of {library.name},"
        neuron = library.neurons[kind](where, module, memo)
        if type(module).__module__.partition(".")[0] != library.name:
            refuse_changed(where, module, neuron)
        neuron.__class__ = instance_of(type(neuron), type(module))  # type: ignore[arg-type]
        memo[id(module)] = take_hooks(neuron, module, memo)
        replaced.append(name)
    if not replaced and not _takes_steps(net):
        if any(isinstance(module, Replaced) for module in net.modules()):
            raise ValueError("replace: the neurons of net are replaced already; give the library's network")
        raise ValueError(f"replace: net has no neurons of {', '.join(LIBRARIES)}")
    _warn_of_resets(net)
    result: nn.Module = copy.deepcopy(net, memo)
    outside = isinstance(result, (nn.Sequential, Stateful))  # the loop, if any, is outside of the network
    if sequences and outside and len(inputs) > 1:
        raise ValueError(
            f"replace: with sequences=True verify must be one sequence, got {len(inputs)}; of a network of several "
            "inputs give [(x, y)]"
        )
    if sequences or (sequences is None and not outside and _takes_steps(result)):
        try:
            _refuse_hooks(net)
            result = over_time("", result) if outside else accelerate(without_loop(result, inputs))
            sequences = True
        except ValueError as error:
            if sequences:
                raise
            warnings.warn(f"{error}. {_SLOW}", stacklevel=2)
    watch_steps(result)
    if inputs:
        agree("replace", net, result, inputs, neurons=replaced, by_steps=bool(sequences) and outside)
    return result


def _takes_steps(net: nn.Module) -> bool:
    """Return whether ``net`` has a ``forward`` and its neurons take one step per call."""
    called = type(net).forward is not nn.Module.forward
    return called and any(isinstance(m, Replaced) and m.time_dim is None for m in net.modules())


def _refuse_hooks(net: nn.Module) -> None:
    """Refuse hooks, which would receive all steps at once."""
    for name, module in net.named_modules():
        if hooked(module):
            raise ValueError(
                f"replace: {name or 'net'} has hooks, which would see all steps at once; register them on the copy"
            )


def _warn_of_resets(net: nn.Module) -> None:
    """Warn if states of neurons of snnTorch rely on ``snntorch.utils.reset``, which ignores the neurons of the copy."""
    theirs, ours = [], False
    for module in net.modules():
        forward = getattr(type(module), "forward", None)  # TorchScript's classes have none
        names = getattr(getattr(forward, "__code__", None), "co_names", ())
        known = getattr(forward, "__globals__", {})
        places = [getattr(v, "__module__", getattr(v, "__name__", "")) for v in map(known.get, names)]
        of_utils = "snntorch.utils" in places or ("snntorch" in places and "utils" in names)
        if "reset" in names and of_utils:
            theirs.append(type(module).__name__)
        ours = ours or "reset" in names or any(name.startswith(("reset_mem", "init_")) for name in names)
    hidden = any(getattr(module, "init_hidden", None) is True for module in net.modules())
    if theirs:
        warnings.warn(
            f"replace: the forward of {', '.join(dict.fromkeys(theirs))} calls snntorch.utils.reset, which does not "
            "reset the neurons of the copy: call snnfast.nn.reset there, too",
            stacklevel=3,
        )
    elif hidden and not ours:
        warnings.warn(
            "replace: neurons with init_hidden=True keep their states between calls, and snntorch.utils.reset does not "
            "reset those of the copy: call snnfast.nn.reset on the copy between batches",
            stacklevel=3,
        )


def _library(name: str, module: nn.Module) -> Library | None:
    """Return the library of a neuron; None if ``module`` is not one.

    Raises:
        ValueError: for a neuron without a replacement.
    """
    module_type = type(module)
    if isinstance(module, Replaced):
        return None
    for kind in module_type.__mro__:
        library = LIBRARIES.get(library_of(kind))
        if library is None or not library.is_neuron(kind):
            continue
        if kind is module_type and kind.__name__ in library.neurons:
            return library
        reason = library.refused.get(kind.__name__)
        if reason is None and kind.__name__ in library.neurons:
            reason = f"it inherits from {kind.__name__} and may do something else"
        if reason is None:
            reason = f"there are equals for {', '.join(library.neurons)}"
        refuse(f"{name or 'net'}, a {module_type.__name__} of {library.name},", reason)
    return None
