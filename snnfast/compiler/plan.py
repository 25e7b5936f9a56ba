"""Plan of a kernel: coefficients, the step, the tape that it saves for the backward pass, and the gradients."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from .derivative import computed, gradients
from .expression import NEURON, NUMBER, STEP, Node, plain
from .trace import Step

__all__ = ["Plan", "make_plan"]

# Functions that the backward pass does not compute again, nor the membrane at which a surrogate's slope is taken.
EXPENSIVE = {"div", "sqrt", "exp_nonpositive", "exp_quotient", "mantissa", "exponent"}
LARGE = 1 << 20


class Plan(NamedTuple):
    """The parts of a kernel.

    Attributes:
        step: the traced step.
        margin: where the surrogate's slope is taken, if that is given to the backward pass.
        numbers: coefficients that all neurons share, computed from parameters that are numbers.
        neuron: coefficients of each neuron, computed from parameters that are tensors.
        tape: values of a step that the backward pass reads.
        grad_outputs, grad_after: leaves that stand for the gradients of outputs and of the states after the step.
        grad_inputs, grad_states, grad_tensors: gradients of inputs, of the states before the step, and of the
            parameters that are tensors.
    """

    step: Step
    margin: Node | None
    numbers: list[Node]
    neuron: list[Node]
    tape: list[Node]
    grad_outputs: list[Node]
    grad_after: list[Node]
    grad_inputs: list[Node]
    grad_states: list[Node]
    grad_tensors: list[Node]


def make_plan(step: Step, margin: Node | None = None) -> Plan:
    """Differentiates a step and decides what it saves for its backward pass.

    Args:
        step: a traced step.
        margin: where its surrogate's slope is taken, if that is given to its backward pass (leaf ``given``).
    """
    graph = step.graph
    grad_outputs = [graph.leaf("grad_output", k) for k in range(len(step.outputs))]
    grad_after = [graph.leaf("grad_state", k) for k in range(len(step.after))]
    leaves = [*step.inputs, *step.states, *step.tensors.values()]
    given = [*zip(step.outputs, grad_outputs), *zip(step.after, grad_after)]
    found = gradients(given, graph, leaves, step.names)
    at = len(step.inputs), len(step.inputs) + len(step.states)
    margins = [] if margin is None else [margin]
    tape = _tape([*step.outputs, *step.after], found, margins)
    rest = [p["v_rest"] for p in (step.numbers, step.tensors) if "v_rest" in p]  # where the first state starts
    shared = _coefficients([*step.outputs, *step.after, *found, *tape, *rest, *margins])
    return Plan(
        step,
        margin,
        [c for c in shared if c.level == NUMBER],
        [c for c in shared if c.level == NEURON],
        tape,
        grad_outputs,
        grad_after,
        found[: at[0]],
        found[at[0] : at[1]],
        found[at[1] :],
    )


def _coefficients(roots: list[Node]) -> list[Node]:
    """The largest expressions without values of a step; constants stand in the code."""
    found: dict[int, Node] = {}
    seen: set[int] = set()
    stack = [plain(root) for root in roots]
    while stack:
        node = stack.pop()
        if node.id in seen:
            continue
        seen.add(node.id)
        if node.level == STEP or node.is_condition:
            stack += map(plain, node.args)
        elif node.op != "constant":
            found[node.id] = node
    return [found[key] for key in sorted(found)]


def _tape(forward: list[Node], backward: list[Node], margins: list[Node]) -> list[Node]:
    """The fewest values of a step from which gradients and margins follow, nothing expensive being computed twice.

    A minimum cut between inputs and states on one side, and on the other side all values of the step that expressions
    with gradients read.
    """
    nodes = computed(backward)
    with_grad: set[int] = set()
    read: dict[int, Node] = {}
    for node in nodes:
        operands = list(map(plain, node.args))
        given = node.op == "given" or node.op.startswith("grad_")
        if given or any(a.id in with_grad for a in operands):
            with_grad.add(node.id)
            read |= {a.id: a for a in operands if a.level == STEP and a.id not in with_grad}
    read |= {r.id: r for r in map(plain, backward) if r.level == STEP and r.id not in with_grad}
    read |= {m.id: m for m in map(plain, margins)}
    membranes = {plain(m.args[0]).id for m in margins}
    in_forward = {node.id for node in computed(forward)}
    nodes = [node for node in computed(read.values()) if node.level == STEP]
    expensive = {n.id for n in nodes if n.op in EXPENSIVE and n.id in in_forward}
    return minimum_cut(nodes, sources={n.id for n in nodes if not n.args} | expensive | membranes, sinks=set(read))


def minimum_cut(nodes: list[Node], sources: set[int], sinks: set[int]) -> list[Node]:
    """The fewest nodes on all paths from sources to sinks, as near to the sinks as possible; conditions are not cut."""
    flow: dict[tuple[int, int], int] = {}  # residual capacities between halves of nodes: 2 id enters, 2 id + 1 leaves
    beside: dict[int, set[int]] = {}

    def edge(a: int, b: int, capacity: int) -> None:
        flow[a, b] = flow.get((a, b), 0) + capacity
        flow.setdefault((b, a), 0)
        beside.setdefault(a, set()).add(b)
        beside.setdefault(b, set()).add(a)

    start, end = -1, -2
    known = {node.id for node in nodes}
    for node in nodes:
        edge(2 * node.id, 2 * node.id + 1, LARGE if node.is_condition else 1)
        if node.id in sources:
            edge(start, 2 * node.id, LARGE)
        else:
            for arg in map(plain, node.args):
                if arg.id in known:
                    edge(2 * arg.id + 1, 2 * node.id, LARGE)
        if node.id in sinks:
            edge(2 * node.id + 1, end, LARGE)
    if start not in beside or end not in beside:
        return []
    while path := _path(start, end, flow, beside):
        for a, b in path:
            flow[a, b] -= 1
            flow[b, a] += 1
    reaching = _reaching(end, flow, beside)
    return [n for n in nodes if 2 * n.id + 1 in reaching and 2 * n.id not in reaching]


def _path(start: int, end: int, flow: dict[tuple[int, int], int], beside: dict[int, set[int]]) -> list[tuple[int, int]]:
    before = {start: start}
    queue = deque([start])
    while queue and end not in before:
        here = queue.popleft()
        for there in sorted(beside[here]):
            if there not in before and flow[here, there] > 0:
                before[there] = here
                queue.append(there)
    path = []
    there = end
    while there in before and there != start:
        path.append((before[there], there))
        there = before[there]
    return path


def _reaching(end: int, flow: dict[tuple[int, int], int], beside: dict[int, set[int]]) -> set[int]:
    """All from which there is a way with capacity left to ``end``."""
    found = {end}
    queue = deque([end])
    while queue:
        here = queue.popleft()
        for there in beside[here]:
            if there not in found and flow[there, here] > 0:
                found.add(there)
                queue.append(there)
    return found
