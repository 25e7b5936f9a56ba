"""Cases of the fuzzer for the compiler: random step functions, traced, against a plain loop in PyTorch.

A step is drawn as source text, with numbers from outside, which change after the first comparison. A step that is
refused with a sentence passes; the suite bounds how many are.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

import snnfast
from snnfast.compiler.evaluate import evaluate
from snnfast.compiler.expression import TraceError
from snnfast.compiler.outside import Read, hold, observed
from snnfast.compiler.plan import KernelPlan
from snnfast.compiler.variant import ALPHA, plan_of, variant_of
from snnfast.reference.eager import KernelFunctions

from .draw import Draw, Finding

STEPS, NEURONS = 3, 24
UNARY = """
torch.neg({a}) | torch.abs({a}) | F.relu({a}) | torch.relu({a}) | torch.sigmoid({a}) | {a}.tanh() | torch.sin({a})
torch.cos({a}) | torch.sign({a}) | torch.floor({a}) | torch.ceil({a}) | {a}.round() | torch.trunc({a}) | -{a} | abs({a})
torch.square({a}) | torch.exp({a}.clamp(max=1.0)) | torch.log({a}.abs() + 0.5) | torch.sqrt({a} * {a} + 0.25) | +{a}
torch.rsqrt({a}.square() + 0.5) | torch.reciprocal({a}.abs() + 1) | {a} ** 2 | ({a} * 0.5) ** 3 | {a}.mul(p)
({a}.abs() + 0.5) ** 0.5 | {a}.detach() * 0.5 | {a} + (torch.round({a}) - {a}).detach() | {a}.clone() | {a}.to({b})
{a}.clamp(-0.5, 0.75) | {a}.clamp(0.75, -0.5) | torch.clamp({a}, min=0.25) | {a}.clamp_max(0.5) | p * {a} | p - {a}
torch.ones_like({a}) - {a} | torch.full_like({a}, 0.25) * {a} | nn.ReLU()({a}) | torch.zeros_like({a}) + {a}
torch.pow({a} * 0.5, 5) | F.relu({a} * 0.5, inplace=True) | torch.nn.functional.relu({a}).mul(0.5)
"""
BINARY = """
{a} + {b} | {a} - {b} | {a} * {b} | {a} / ({b} * {b} + 0.5) | torch.minimum({a}, {b}) | {a}.add({b}) | {a}.sub({b})
torch.maximum({a}, {b}) | torch.where({c}, {a}, {b}) | {a}.where({c}, {b}) | 1.5 - {a} * 0.25 + {b} | {c}.to({a})
torch.clamp({a}, min={b}) | torch.clamp({a}, {b}, {a} * 0.5) | torch.div({a}, {b}.abs() + 0.5) | {a} + {c} | {c} * {a}
torch.div({a}, {b}.abs() + 0.5, rounding_mode='trunc') | torch.where({c}, 0.5, {b}) | torch.where({c}, {a}, 0.25)
2 / ({b}.abs() + 1) + {a} | torch.rsub({a}, {b}) | {c}.float() * {a} | ({c} + {d}) * {a} | ({c} * {d}) * {a} + {b}
(1 - {c}.to({a}.dtype)) * {b} | ({c} ^ {d}) * {a} | torch.logical_xor({c}, {d}) * {b} | {a} * (2 * {c} - 1)
torch.where({c}, {a}, p) | {c}.long() + {a} | torch.add({a}, {b}) | {a}.mul({c}) | torch.maximum({a}, p)
{b}.true_divide(2)
"""
# Nearly always refused, or only in one dtype.
REFUSED = """
torch.div({a}, {b} + 2, rounding_mode='floor') | {a} % {b} | torch.lerp({a}, {b}, 0.3) | 2 ** {a} | {a}.long() * {b}
torch.round({a}, decimals=1) | {a} // 2 | {c}.double() * {a} | {c} * 0.1 * {a} | torch.add({a}, {b}, alpha=0.3)
{a}.half() | 0.1 * {c} + {a} | ({c} - {d}) * {a} | {a}.data * 2 | torch.rand(()).item() * {a} | torch.tensor(0.5) * {a}
{a} ** {b} | math.exp({a}) | {a}.double() | {a}.float() | {a}.mean() | {a}[..., 0] | torch.exp({c}) * {a}
{a} if {c} else {b}
"""
CONDITIONS = """
{a} > {b} | {a} <= 0.25 | ({a} >= 0) & ~({b} < 0.3) | ({a} == 0.5)|({b} != {a}) | {c}|{d} | {c} & {d}
~{c} | torch.isnan({a}) | torch.logical_not({c}) | {c} ^ {d} | {c} + {d} | {c} * {d}
{a}.lt({b}) | ({a} > 0).detach() | {a}.bool() | torch.logical_and({c}, {d}) | {c} == {d}
{c}.clone() | torch.logical_or({c}, {d})
"""
# Statements that change values in place; {new} is a value that the step has made.
IN_PLACE = """
{new} *= {a} | {new} += 0.5 * {a} | {new}.mul_(0.5) | {new}.clamp_(min=-1.0) | {new}.relu_() | {new} -= {b}
torch.sigmoid_({new}) | {new}.detach().mul_(0.5) | {new}.add_({c}) | {new} /= {b}.abs() + 1 | {new} *= {c}
"""
IN_PLACE_REFUSED = "{a} *= 0.5 | with torch.no_grad(): {new} += 1"
OUTSIDE = """
SCALE * {a} | config.k * {a} | config.inner.slope + {a} | table['k'] * {a} | levels[1] * {a} | helper({a})
{a} * around | scaled({a}) | module({a}) | getattr(config, 'k') * {a} | {a} * levels[-1] | partial({a})
method({a}) | shared({a}) | Settings.gain * {a} | {a} * sum(levels) | {a} * (table['k'] if flags[0] else 0.5)
"""
FUNCTIONS = """
Straight.apply({a}) | act({a}) | Context.apply({a}, config.k) | Marked.apply({a}) * {b} | Half.one({a})
Half.other({a}) | Two.apply({a}, {b}) | Nested.apply({a}) | Output.apply({a}) | Once.apply({a})
Needs.apply({a}.detach(), {b}) | acts[0]({a}) | Slope(config.k)({a}) | Same.apply({a}) * 0.5
"""
SURROGATES = "'atan' | act | Straight.apply | lambda u: Straight.apply(u) | anneal | plain_spike | Half.one"
# Kinds of statements, with their relative frequencies.
KINDS = {
    **{"unary": 25, "binary": 30, "condition": 12, "in place": 4, "alias": 4, "outside": 14, "function": 14},
    **{"no_grad": 4, "refused": 1},
}


def texts(table: str) -> list[str]:
    """Return the entries of a table above."""
    return [text.strip() for line in table.strip().splitlines() for text in line.split(" | ")]


PRELUDE = """
import functools, math, types
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

SCALE = 0.75
config = types.SimpleNamespace(k=0.5, inner=types.SimpleNamespace(slope=0.25))
table, levels, flags = {"k": 1.25, "other": 2.0}, [0.5, 0.75, 1.5], [True]


class Settings:
    gain = 1.25


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u >= 0).to(u)

    @staticmethod
    def backward(ctx, grad):
        (u,) = ctx.saved_tensors
        return grad * torch.exp(-(config.k * u).abs())


class Context(torch.autograd.Function):
    @staticmethod
    def forward(x, k):
        return torch.floor(x * k)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, ctx.k = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * ctx.k * (x > 0), None


class Marked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = x * 2
        ctx.mark_non_differentiable(y)
        return y

    @staticmethod
    def backward(ctx, grad):
        return grad * 100


def of_one_name(factor):
    class Twin(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return (x > 0).to(x)

        @staticmethod
        def backward(ctx, grad):
            return grad * factor

    return Twin


class Half:
    one, other = of_one_name(0.5).apply, of_one_name(0.25).apply


class Two(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a * b + 0.5

    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        return grad * torch.sigmoid(b), grad * a


class Nested(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.y = Straight.apply(x)
        return ctx.y * x

    @staticmethod
    def backward(ctx, grad):
        return grad * (ctx.y + 0.5)


class Output(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad):
        (y,) = ctx.saved_tensors
        return grad * (1 - y * y)


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.set_materialize_grads(True)
        return x.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        grad = grad.clone()
        grad *= SCALE
        return grad


class Needs(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        return a + b

    @staticmethod
    def backward(ctx, grad):
        return grad if ctx.needs_input_grad[0] else None, grad * 2 if ctx.needs_input_grad[1] else None


class Same(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return grad * 3


class Slope:
    def __init__(self, k):
        self.k = k

    def __call__(self, u):
        return Context.apply(u, self.k)


class Anneal(nn.Module):
    def __init__(self):
        super().__init__()
        self.alpha, self.function = 2.0, Straight.apply

    def forward(self, u):
        return Context.apply(u + 1, self.alpha) * 0 + self.function(u)

    def times(self, u):
        return u * self.alpha


class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("factor", torch.tensor(0.5))
        self.shift = 0.25

    def forward(self, u):
        return u * self.factor.item() + self.shift


def helper(u):
    return u * SCALE + config.inner.slope


def shared(u, by=config):
    return u * by.k


def make_scaled(k):
    return lambda u: u * k


def plain_spike(u):
    return (u >= 0).to(u)


anneal, module, act, acts, scaled = Anneal(), Module(), Straight.apply, [Output.apply], make_scaled(0.625)
partial, method = functools.partial(lambda u, of: u * of.k, of=config), anneal.times
"""


def change_outside(space: dict[str, Any], step: Any) -> None:
    """Change every number that a step may read."""
    space["SCALE"] = 0.375
    space["config"].k, space["config"].inner.slope = 0.875, -0.5
    space["table"]["k"], space["levels"][1], space["levels"][-1] = 0.5, 2.0, 0.25
    space["flags"][0], space["Settings"].gain = False, 0.5
    space["anneal"].alpha, space["module"].shift = 3.0, -0.125
    space["module"].factor.mul_(3)
    for function in (step, space["scaled"]):
        for cell in function.__closure__ or ():
            cell.cell_contents = 0.25


def source(d: Draw) -> str:
    """Return the source of a random step, inside a function whose argument it reads."""
    floats, conditions, made = ["x", "v", "q"], ["(x > v)", "(q <= 0.5)"], ["q"]
    lines = ["q = p + 0.0 * x"]  # not all functions take a number

    def filled(table: str) -> str:
        a, b, c, e = d.choice(floats), d.choice(floats), d.choice(conditions), d.choice(conditions)
        return d.choice(texts(table)).format(a=a, b=b, c=c, d=e, new=d.choice(made or floats))

    for k in range(d.randint(3, 9)):
        kind = d.choices(list(KINDS), list(KINDS.values()))[0]
        if kind == "condition":
            lines.append(f"c{k} = {filled(CONDITIONS)}")
            conditions.append(f"c{k}")
        elif kind == "in place":
            lines.append(filled(IN_PLACE if d.chance(0.95) else IN_PLACE_REFUSED))
        else:
            if kind == "alias":
                lines.append(f"a{k} = {filled('{new} | {new} | {new}.detach() | {new}.view_as(x)')}")
            elif kind == "no_grad":
                lines += ["with torch.no_grad():", f"    a{k} = {filled(d.choice((UNARY, BINARY)))}"]
            else:
                tables = {"unary": UNARY, "binary": BINARY, "refused": REFUSED, "outside": OUTSIDE}
                lines.append(f"a{k} = {filled(tables.get(kind, FUNCTIONS))}")
            floats.append(f"a{k}")
            made.append(f"a{k}")
    body = "\n        ".join(lines)
    output = d.choice(("s", "s, h", "s + 0.5 * after", f"s * {d.choice(floats)}"))
    return f"""
def make(around):
    def step(fire, x, v, *, p=0.5):
        {body}
        s, h, after = fire({floats[-1]}, {d.choice(("0.5", "p", "SCALE"))})
        return {output}, {d.choice(("after", "0.5 * h", floats[-1]))}
    return step


def surrogate():
    return {d.choice(texts(SURROGATES))}
"""


def loop(step: Callable[..., Any], surrogate: Any, x: Tensor, v: Tensor, p: Tensor) -> list[Tensor]:
    """Run the step in plain PyTorch; return all outputs, and the last state."""
    spike = snnfast.surrogate.atan() if surrogate == "atan" else surrogate

    def fire(h: Tensor, threshold: Any) -> tuple[Tensor, Tensor, Tensor]:
        s = spike(h - threshold)
        return s, h, (1 - s) * h

    found = []
    for row in x:
        *outputs, v = step(fire, row, v, p=p)
        found += outputs
    return [*found, v]


def by_plan(plan: KernelPlan, values: list[Tensor], grads: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Return what :func:`loop` returns, and the gradients of x, v and p, node by node."""
    x, v, p = values
    step, before, found = plan.step, [], []
    (state,), (p_leaf,) = step.states, step.tensors.values()
    of_atan = {ALPHA: 2.0, "v_reset": 0.0}
    constants = {leaf.id: torch.tensor(of_atan[n], dtype=torch.float64) for n, leaf in step.numbers.items()}
    constants[p_leaf.id] = p
    for row in x:
        before.append({step.inputs[0].id: row, state.id: v} | constants)
        found += [evaluate(node, before[-1]).expand_as(row).to(row) for node in step.outputs]
        v = evaluate(step.after[0], before[-1]).expand_as(row).to(row)
    count, grad_v, grad_p, grad_x = len(step.outputs), grads[-1], torch.zeros_like(p), []
    for t in reversed(range(len(x))):
        known = before[t] | {g.id: grads[t * count + k] for k, g in enumerate(plan.grad_outputs)}
        known |= {plan.grad_after[0].id: grad_v}
        grad_x.append(evaluate(plan.grad_inputs[0], known).expand_as(p))
        grad_p = grad_p + evaluate(plan.grad_tensors[0], known)
        grad_v = evaluate(plan.grad_states[0], known).expand_as(p)
    return [*found, v], [torch.stack(grad_x[::-1]), grad_v, grad_p]


def expected(
    step: Callable[..., Any], surrogate: Any, values: list[Tensor]
) -> tuple[list[Tensor], list[Tensor], list[Tensor]] | Exception:
    """Return results of the plain loop, their gradients, and the weights of the loss; or PyTorch's error."""
    leaves = [value.clone().requires_grad_() for value in values]
    # In float32 one bit moves a spike, so that functions must round as in a kernel.
    double = values[0].dtype == torch.float64
    try:
        with nullcontext() if double else KernelFunctions(torch.float32):
            found = loop(step, surrogate, leaves[0], leaves[1] * 1, leaves[2])
            weights = [torch.randn(row.shape).to(values[0].dtype) for row in found]
            loss = sum((row * weight).sum() for row, weight in zip(found, weights))
            loss = loss + sum(0 * leaf.sum() for leaf in leaves)
            grads = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)  # type: ignore
    except (RuntimeError, ValueError) as error:
        return error
    return found, list(grads), weights


def traced(step: Callable[..., Any], surrogate: Any, values: list[Tensor]) -> tuple[KernelPlan, tuple[Read, ...]]:
    """Return the plan of a kernel, and what it read from outside."""
    try:
        op = snnfast.neuron(step)
    except (RuntimeError, LookupError) as error:  # PyTorch's own, since a neuron is tried out with scalars
        raise TraceError(str(error)) from error
    variant = variant_of(op.check(values[0], p=values[2], surrogate=surrogate))
    return observed(op.name, lambda: plan_of(op, variant), step, surrogate)


def random_values(dtype: torch.dtype, coarse: bool) -> list[Tensor]:
    """Return x, v and p; coarse ones are multiples of 0.25, which meet bounds and each other."""
    values = [torch.randn(*shape, dtype=dtype) for shape in ((STEPS, NEURONS), (NEURONS,), (NEURONS,))]
    return [(4 * value).round() / 4 for value in values] if coarse else values


def compare(
    step: Callable[..., Any], surrogate: Any, values: list[Tensor], change: Callable[[], object] | None = None
) -> str:
    """Compare a step with a plain loop, also after ``change``; return why that was impossible, or an empty text.

    Raises:
        Finding: outputs or gradients differ.
        TraceError: the step is refused.
    """
    dtype = values[0].dtype
    tolerance = 1e-9 if dtype == torch.float64 else 2e-4
    plan, reads = traced(step, surrogate, values)
    for again in (False, True) if change else (False,):
        if again and change:
            change()
        if not hold(reads):
            plan, reads = traced(step, surrogate, values)
        want = expected(step, surrogate, values)
        if isinstance(want, Exception):
            if "inplace" in str(want):
                return str(want)
            raise Finding(f"PyTorch raises {want}, and the step was traced")
        outputs, grads, weights = want
        got, got_grads = by_plan(plan, values, weights)
        for kind, ours, theirs in (("output", got, outputs), ("gradient", got_grads, grads)):
            for k, (a, b) in enumerate(zip(ours, theirs)):
                scale = b.detach().abs().max().clamp(min=1.0)
                if not scale <= 1e6:
                    return "too large"
                if not torch.allclose(a / scale, b.to(a) / scale, rtol=tolerance, atol=tolerance):
                    after = ", after numbers outside have changed," * again
                    raise Finding(f"{kind} {k} in {dtype}{after} with surrogate {surrogate}: {a} is not {b}")
    return ""


def try_step(d: Draw) -> str:
    """Compare a random step with a plain loop; return why it was refused, or an empty text."""
    text, space = source(d), {}
    exec(PRELUDE, space)
    exec(compile(text, "<step>", "exec"), space)
    step, surrogate = space["make"](0.375), space["surrogate"]()
    values = random_values(d.choice((torch.float32, torch.float64)), d.chance(0.5))
    try:
        return compare(step, surrogate, values, lambda: change_outside(space, step))
    except TraceError as error:
        return str(error)
    except Finding as finding:
        raise Finding(f"{finding}\n{text}") from finding
