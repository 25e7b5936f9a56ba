"""Plasticity rules of users (:class:`snnfast.plasticity.OwnRule`) on the CPU: traced, and compiled on first use."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from snnfast import backend
from snnfast.compiler.build import CompileError, library
from snnfast.compiler.emit import rule_source
from snnfast.compiler.expression import StepGraph, TraceError
from snnfast.compiler.outside import Read, hold, observed
from snnfast.compiler.trace import trace
from snnfast.compiler.value import Value
from snnfast.reference.call import Op, flatten
from snnfast.reference.eager import KernelFunctions
from snnfast.reference.plasticity import SYNAPSE, Constants, OwnConstants, Synapses, is_presynaptic
from snnfast.reference.sparse_stdp import SparseStdpCall
from snnfast.reference.stdp import StdpCall, StdpState, normalize

from .autograd import traced
from .in_place import buffer, changed
from .own_kernels import load


def run(op: str, call: StdpCall | SparseStdpCall, rule: OwnConstants, reference: Op[..., Any]) -> StdpState:
    """Return the state after the last step, by a kernel where one can run, else by the reference with a warning."""
    if torch.compiler.is_compiling():  # graphs leave it out: the rule is compiled apart
        return torch.compiler.disable(run)(op, call, rule, reference)  # type: ignore[no-any-return]
    choice, why = backend.choose(op, call.w)
    if choice == "cpu" and not traced() and call.pre.numel() and call.post.numel():
        try:
            return _by_kernel(call, rule, library("own_rule", _source(rule, call.w.dtype)))
        except (CompileError, TraceError) as error:
            if backend.forced() == choice:
                raise backend.BackendError(f"{op}: backend 'cpu' was asked for, but {error}") from error
            why = str(error)
    elif choice != "cpu":
        why = why if choice == "reference" else "it has kernels for the CPU alone"
    if backend.forced() != "reference" and call.pre.numel() and call.post.numel() and not traced():
        backend._warn_once(f"{op}: a rule of your own runs in plain PyTorch, which is slow: {why}")
    with KernelFunctions(call.w.dtype):
        return reference.equation(call)  # type: ignore[no-any-return]


# C++ of rules by their functions, with the dtype, names of signals, and what they read from outside.
_SOURCES: WeakKeyDictionary[Any, list[tuple[tuple[torch.dtype, list[str]], str, tuple[Read, ...]]]] = (
    WeakKeyDictionary()
)


def _source(rule: OwnConstants, dtype: torch.dtype) -> str:
    """Return the C++ of a rule, traced again if what it reads from outside has changed."""
    try:
        known = _SOURCES.setdefault(rule.change, [])
    except TypeError:  # cannot be a key
        known = []
    variant = (dtype, list(rule.signals))
    for traced_variant, source, reads in known:
        if traced_variant == variant and hold(reads):
            return source
    source, reads = observed("change", lambda: _traced_source(rule, dtype), rule.change)
    known.append((variant, source, reads))
    return source


def _traced_source(rule: OwnConstants, dtype: torch.dtype) -> str:
    names, unread = (*SYNAPSE, *rule.signals), set(rule.signals)

    def step(_: Any, *values: Value) -> Value:
        found = rule.change(Synapses(dict(zip(names, values)), unread))
        if not isinstance(found, Value):
            raise TraceError("change must return a value of its synapses")
        return found

    step.__name__ = "change"
    if hasattr(rule.change, "__code__"):
        step.__wrapped__ = rule.change  # type: ignore[attr-defined]
    found = trace(step, graph=StepGraph(dtype), inputs=len(names), states=0)
    rule.all_read(unread)
    return rule_source(found, SYNAPSE, [is_presynaptic(name) for name in rule.signals])


@cache
def _loaded(path: Path) -> str:
    """Load a compiled rule, and return its name in the operator."""
    load("snnfast", path)
    return path.stem


def _by_kernel(call: StdpCall | SparseStdpCall, rule: OwnConstants, path: Path) -> StdpState:
    w, state = buffer(call.w), call.state
    steps, batch, _ = call.pre.shape
    pre = _traces(call.pre, state.trace_pre, state.trace_pre2, rule, rule.decay_pre, rule.decay_pre2, w)
    post = _traces(call.post, state.trace_post, state.trace_post2, rule, rule.decay_post, rule.decay_post2, w)
    reward = w.new_zeros(steps, batch) if call.reward is None else call.reward
    signals = [signal.contiguous() for signal in rule.signals.values()]
    settings = call.each_step, call.decay_eligibility, call.scale, rule.w_min, rule.w_max
    kernel = _loaded(path)
    rows: tuple[Any, ...] = None, None, None, 0, 0
    if isinstance(call, SparseStdpCall):
        rows = call.incoming_first, call.incoming, call.sources, call.begin, call.end
    torch.ops.snnfast.own_rule_(w, kernel, *pre[:3], *post[:3], reward, signals, state.eligibility, *settings, *rows)
    if isinstance(call, SparseStdpCall) and call.norm is not None:  # a call without steps only scales
        rest = call._replace(w=w, pre=call.pre[:0], post=call.post[:0], rule=Constants(*rule), reward=None)
        torch.ops.snnfast.sparse_stdp_(*flatten(rest._replace(state=state._replace(eligibility=None))))
    elif call.norm is not None:
        normalize(w, w.new_ones(len(w), dtype=torch.bool), call.norm, rule)
    changed((call.w, w))
    return StdpState._make((*pre[3:], *post[3:], state.eligibility))


def _traces(
    spikes: Tensor, x: Tensor, x2: Tensor, rule: OwnConstants, decay: float, decay2: float, w: Tensor
) -> tuple[Tensor, ...]:
    """Return spikes, traces and second traces of every step, as a rule reads them, and both traces after the last."""
    fired = spikes.detach() != 0
    first, second = [], []
    for current in fired:
        x, before = rule.trace(x * decay, current), x2 * decay2
        x2 = rule.trace(before, current)
        first.append(x)
        second.append(before)
    return fired.to(w.dtype).contiguous(), torch.stack(first), torch.stack(second), x, x2


def register(namespace: str) -> None:
    """Make the operator traceable without data."""
    if namespace != "snnfast":
        return  # only the CPU has it

    @torch.library.register_fake(f"{namespace}::own_rule_")
    def _(*arguments: Any) -> None:
        return None
