"""Derivatives of traced steps, evaluated node by node, against autograd; errors of untraceable steps."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_steps import BINARY, UNARY, run

from snnfast.compiler.evaluate import evaluate
from snnfast.compiler.expression import NEURON, NUMBER, StepGraph, TraceError, plain
from snnfast.compiler.plan import make_plan, minimum_cut
from snnfast.compiler.trace import trace
from snnfast.reference.eager import KernelFunctions


def traced(step, *, inputs=1, states=1, numbers=(), tensors=("p",)):
    graph = StepGraph(torch.float64)

    def run_step(parameters, *values):
        return step(None, *values, **parameters)

    run_step.__name__, run_step.__wrapped__ = step.__name__, step
    return trace(
        run_step,
        graph=graph,
        inputs=inputs,
        states=states,
        numbers={name: graph.leaf("number", name, NUMBER) for name in numbers},
        tensors={name: graph.leaf("tensor", name, NEURON) for name in tensors},
    )


@st.composite
def programs(draw):
    """Draw instructions of a step; each appends a value to the list that starts with x, v and p."""
    instructions = []
    for k in range(draw(st.integers(2, 9))):
        if draw(st.booleans()):
            instructions.append((draw(st.sampled_from(UNARY)), [draw(st.integers(0, k + 2))]))
        else:
            operands = [draw(st.integers(0, k + 2)), draw(st.integers(0, k + 2))]
            instructions.append((draw(st.sampled_from(BINARY)), operands))
    return instructions


@given(programs(), st.integers(0, 2**16))
def test_gradients_of_random_steps_are_those_of_autograd(instructions, seed):
    def step(fire, x, v, *, p):
        return run(instructions, (x, v, p))

    plan = make_plan(traced(step))
    generator = torch.Generator().manual_seed(seed)
    x, v, p, g, g_v = (torch.randn(20, generator=generator, dtype=torch.float64) for _ in range(5))
    real = [t.clone().requires_grad_() for t in (x, v, p)]
    s, v_after = run(instructions, real)
    expected = torch.autograd.grad([s, v_after], real, [g, g_v], allow_unused=True, materialize_grads=True)
    found = plan.step
    leaves = {found.inputs[0].id: x, found.states[0].id: v, found.tensors["p"].id: p}
    torch.testing.assert_close(evaluate(found.outputs[0], leaves), s.detach(), rtol=1e-12, atol=1e-12)
    # The backward pass only has the tape, coefficients and gradients.
    tape = {node.id: evaluate(node, leaves) for node in plan.tape}
    known = {found.tensors["p"].id: p, plan.grad_outputs[0].id: g, plan.grad_after[0].id: g_v} | tape
    for node, right in zip((*plan.grad_inputs, *plan.grad_states, *plan.grad_tensors), expected):
        got = evaluate(node, known).expand(20)
        torch.testing.assert_close(got, right, rtol=1e-11, atol=1e-11, equal_nan=True)


SPECIAL = [0.0, -0.0, 1.0, -2.0, 1e-320, 1e-200, 1e200, -1e308, torch.inf, -torch.inf, torch.nan]


@given(programs(), st.integers(0, 2**16))
def test_no_gradient_is_nan_that_autograd_has_not(instructions, seed):
    def step(fire, x, v, *, p):
        return run(instructions, (x, v, p))

    plan = make_plan(traced(step))
    generator = torch.Generator().manual_seed(seed)
    picks = torch.randint(len(SPECIAL), (3, 60), generator=generator)
    values = list(torch.tensor(SPECIAL, dtype=torch.float64)[picks])
    grads = list(torch.randn(2, 60, generator=generator, dtype=torch.float64))
    real = [t.clone().requires_grad_() for t in values]
    with KernelFunctions(torch.float64):
        results = run(instructions, real)
    expected = torch.autograd.grad(results, real, grads, allow_unused=True, materialize_grads=True)
    found = plan.step
    leaves = {found.inputs[0].id: values[0], found.states[0].id: values[1], found.tensors["p"].id: values[2]}
    leaves |= {plan.grad_outputs[0].id: grads[0], plan.grad_after[0].id: grads[1]}
    for node, right in zip((*plan.grad_inputs, *plan.grad_states, *plan.grad_tensors), expected):
        got = evaluate(node, leaves).expand(60)
        assert not (got.isnan() & ~right.isnan()).any()


def below(roots, known):
    found, stack = {}, [plain(root) for root in roots]
    while stack:
        node = stack.pop()
        if node.id not in found and node.id not in known:
            found[node.id] = node
            stack += map(plain, node.args)
    return found.values()


def test_the_backward_pass_computes_no_exponential_again():
    def step(fire, x, v, *, p):
        h = torch.tanh(p * v + x)
        return torch.sigmoid(h) * h, h

    plan = make_plan(traced(step))
    computed = below((*plan.grad_inputs, *plan.grad_states, *plan.grad_tensors), {n.id for n in plan.tape})
    assert "exp_nonpositive" in {n.op for n in below(plan.step.outputs, ())}
    assert not {"exp_nonpositive", "input", "state"} & {n.op for n in computed}
    assert len(plan.tape) == 3  # v, for the gradient of p, and both functions


def test_minimum_cut_of_a_diamond():
    def step(fire, x, v, *, p):
        middle = x * v + p  # both outputs depend only on this
        return torch.sin(middle) + torch.cos(middle), middle

    plan = make_plan(traced(step))
    # d/dx needs v, d/dv needs x, and both the middle: x and v give all
    assert len(plan.tape) == 2
    assert minimum_cut([], set(), set()) == []


def test_names_of_the_source_are_kept():
    def step(fire, x, v, *, p):
        leaky = p * v + x
        spiking = leaky * 2
        return spiking, leaky

    assert {"leaky", "spiking"} <= set(traced(step).names.values())


def branches(fire, x, v, *, p):
    if v > 1:
        v = v * 0
    return x, v


def loops_until_it_converges(fire, x, v, *, p):
    while (v - x).abs() > 0.1:
        v = 0.5 * v
    return x, v


def takes_the_mean(fire, x, v, *, p):
    return x - torch.mean(x), v


def takes_it_out(fire, x, v, *, p):
    return x * math.exp(v), v


def indexes(fire, x, v, *, p):
    return x[0], v


def reads_a_tensor(fire, x, v, *, p):
    return x * torch.ones(3), v


def reshapes(fire, x, v, *, p):
    return x.view(-1), v


def returns_text(fire, x, v, *, p):
    return "s", v


def power(fire, x, v, *, p):
    return x**p, v


@pytest.mark.parametrize(
    ("step", "line", "way_out"),
    [
        (branches, "if v > 1:", "torch.where"),
        (loops_until_it_converges, "while (v - x).abs() > 0.1:", "torch.where"),
        (takes_the_mean, "return x - torch.mean(x), v", "torch.mean cannot be compiled"),
        (takes_it_out, "math.exp(v)", "torch functions"),
        (indexes, "return x[0], v", "elements"),
        (reads_a_tensor, "torch.ones(3)", "make it a parameter"),
        (reshapes, "x.view(-1)", ".view cannot be compiled"),
        (returns_text, "", "must be a value of the step, got str"),
        (power, "x**p", "exponents"),
    ],
)
def test_what_cannot_be_traced_is_refused_with_its_line(step, line, way_out):
    with pytest.raises(TraceError) as error:
        traced(step)
    assert line in str(error.value)
    assert way_out in str(error.value)


def test_a_surrogate_of_ones_own_is_traced_with_its_gradient():
    class Half(torch.autograd.Function):
        @staticmethod
        def forward(ctx, u):
            ctx.save_for_backward(u)
            return (u >= 0).to(u)

        @staticmethod
        def backward(ctx, grad):
            (u,) = ctx.saved_tensors
            return grad * (u.abs() < 0.5)

    def step(fire, x, v, *, p):
        return Half.apply(x - p), v

    plan = make_plan(traced(step))
    x = torch.tensor([-1.0, -0.2, 0.3, 2.0], dtype=torch.float64)
    leaves = {plan.step.inputs[0].id: x, plan.step.tensors["p"].id: torch.zeros(4)}
    assert evaluate(plan.step.outputs[0], leaves).tolist() == [0, 0, 1, 1]
    leaves |= {plan.grad_outputs[0].id: torch.full((4,), 3.0, dtype=torch.float64)}
    assert evaluate(plan.grad_inputs[0], leaves).tolist() == [0, 3, 3, 0]
    assert Half.apply(torch.ones(1)).item() == 1  # untouched outside
