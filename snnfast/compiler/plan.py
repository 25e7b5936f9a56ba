"""Plan of a kernel: coefficients, the step, the tape that it saves for the backward pass, and the gradients."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from .derivative import computed, gradients
from .expression import NEURON, NUMBER, STEP, Node, plain
from .trace import TracedStep

__all__ = ["KernelPlan", "make_plan"]

# Functions that the backward pass does not recompute; nor does it recompute the membrane for a surrogate's slope.
EXPENSIVE = {"div", "sqrt", "exponential", "exp_nonpositive", "exp_quotient", "mantissa", "exponent"}
LARGE = 1 << 20


class KernelPlan(NamedTuple):
    """The parts of a kernel.

    Attributes:
        step: the traced step.
        margin: argument of the surrogate's slope, if the slope is an argument of the backward pass.
        numbers: coefficients that all neurons share, computed from parameters that are numbers.
        neuron: coefficients of each neuron, computed from parameters that are tensors.
        tape: values of a step that the backward pass reads.
        grad_outputs, grad_after: leaves that stand for the gradients of outputs and of the states after the step.
        grad_inputs, grad_states, grad_tensors: gradients of inputs, of the states before the step, and of the
            parameters that are tensors.
    """

    step: TracedStep
    margin: Node | None
    numbers: list[Node]
    neuron: list[Node]
    tape: list[Node]
    grad_outputs: list[Node]
    grad_after: list[Node]
    grad_inputs: list[Node]
    grad_states: list[Node]
    grad_tensors: list[Node]


def make_plan(step: TracedStep, margin: Node | None = None) -> KernelPlan:
    """Differentiate a step, and decide what it saves for its backward pass.

    Args:
        step: a traced step.
        margin: argument of the surrogate's slope, if the slope is an argument of the backward pass (leaf ``given``).
    """
    graph = step.graph
    grad_outputs = [graph.leaf("grad_output", k) for k in range(len(step.outputs))]
    grad_after = [graph.leaf("grad_state", k) for k in range(len(step.after))]
    leaves = [*step.inputs, *step.states, *step.tensors.values()]
    pairs = [*zip(step.outputs, grad_outputs), *zip(step.after, grad_after)]
    found = gradients(pairs, graph, leaves, step.names)
    bounds = len(step.inputs), len(step.inputs) + len(step.states)
    margins = [] if margin is None else [margin]
    tape = _tape([*step.outputs, *step.after], found, margins)
    rest = [p["v_rest"] for p in (step.numbers, step.tensors) if "v_rest" in p]  # where the first state starts
    shared = _coefficients([*step.outputs, *step.after, *found, *tape, *rest, *margins])
    return KernelPlan(
        step,
        margin,
        [c for c in shared if c.level == NUMBER],
        [c for c in shared if c.level == NEURON],
        tape,
        grad_outputs,
        grad_after,
        found[: bounds[0]],
        found[bounds[0] : bounds[1]],
        found[bounds[1] :],
    )


def _coefficients(roots: list[Node]) -> list[Node]:
    """Return the largest expressions without values of a step, except constants, which are part of the code."""
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
    """Return the fewest values of a step for gradients and margins, so that nothing expensive is computed twice.

    They are a minimum cut between inputs and states on one side, and on the other side all values of the step that
    expressions with gradients read.
    """
    nodes = computed(backward)
    with_grad: set[int] = set()
    read: dict[int, Node] = {}
    for node in nodes:
        operands = list(map(plain, node.args))
        is_gradient = node.op == "given" or node.op.startswith("grad_")
        if is_gradient or any(a.id in with_grad for a in operands):
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
    """Return the fewest nodes that cut all paths from sources to sinks, close to the sinks; conditions are not cut."""
    flow: dict[tuple[int, int], int] = {}  # residual capacities between halves of nodes: 2 id enters, 2 id + 1 leaves
    neighbours: dict[int, set[int]] = {}

    def edge(a: int, b: int, capacity: int) -> None:
        flow[a, b] = flow.get((a, b), 0) + capacity
        flow.setdefault((b, a), 0)
        neighbours.setdefault(a, set()).add(b)
        neighbours.setdefault(b, set()).add(a)

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
    if start not in neighbours or end not in neighbours:
        return []
    while path := _path(start, end, flow, neighbours):
        for a, b in path:
            flow[a, b] -= 1
            flow[b, a] += 1
    reaching = _reaching(end, flow, neighbours)
    return [n for n in nodes if 2 * n.id + 1 in reaching and 2 * n.id not in reaching]


def _path(
    start: int, end: int, flow: dict[tuple[int, int], int], neighbours: dict[int, set[int]]
) -> list[tuple[int, int]]:
    before = {start: start}
    queue = deque([start])
    while queue and end not in before:
        current = queue.popleft()
        for vertex in sorted(neighbours[current]):
            if vertex not in before and flow[current, vertex] > 0:
                before[vertex] = current
                queue.append(vertex)
    path = []
    vertex = end
    while vertex in before and vertex != start:
        path.append((before[vertex], vertex))
        vertex = before[vertex]
    return path


def _reaching(end: int, flow: dict[tuple[int, int], int], neighbours: dict[int, set[int]]) -> set[int]:
    """Return all vertices from which a path with residual capacity leads to ``end``."""
    found = {end}
    queue = deque([end])
    while queue:
        current = queue.popleft()
        for vertex in neighbours[current]:
            if vertex not in found and flow[vertex, current] > 0:
                found.add(vertex)
                queue.append(vertex)
    return found
