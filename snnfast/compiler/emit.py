"""C++ of a plan: the struct of ``csrc/core/neuron.h``, and the source of a shared library around it."""

from __future__ import annotations

import functools
import math
import re
import struct as struct_module
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch

from .derivative import computed
from .evaluate import constant_value
from .expression import COMPARISONS, NUMBER, STEP, Node, plain
from .plan import KernelPlan
from .trace import TracedStep

__all__ = ["Layout", "ResetPlan", "c99_step", "library_source", "rule_source", "struct"]

# Numbers that all neurons share, and parameters: each a known number or tensor for user-defined neurons, but unknown
# for the package's neurons.
LEAVES = ("setting", "number", "tensor", "parameter")

INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "and": "&", "or": "|", **COMPARISONS}
CALLS = {
    **{"abs": "absolute", "sqrt": "square_root", "floor": "floor_of", "ceil": "ceil_of"},
    **{"round": "nearest_even", "trunc": "truncated", "sign": "sign_of", "maximum": "larger"},
    **{"minimum": "smaller", "exp_nonpositive": "exp_nonpositive", "mantissa": "mantissa_of"},
    **{"exponent": "exponent_of", "exp_quotient": "exp_quotient", "exponential": "exponential"},
}
# Names that variables of the source must not have: words of C++, and names in the code around them.
_WORDS = """
auto bool case char const default do double enum float goto int long new short signed sizeof static struct switch this
true false union unsigned void template typename using namespace operator private public protected volatile throw catch
inline delete typedef register extern explicit virtual friend export mutable concept requires and or not xor asm wchar_t
min max absolute sign_of larger smaller truncated x c C state tape grad grad_params grad_output params n slope
attached R Uniform
"""
RESERVED = {*_WORDS.split(), *CALLS.values()}
# Names in a struct besides those of its coefficients, which must differ from these.
_MEMBERS = """
kStates kParams kSettings kLeast kCoefficients kTape kEach kEachCoefficients kFirstInput kFirstOutput kMoves
kGeneric kReads kPrefetch kTakesSlope
"""
MEMBERS = {*_MEMBERS.split()}


def camel(name: str) -> str:
    """Convert ``v_threshold`` to ``VThreshold``."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


class ResetPlan(NamedTuple):
    """A plan, and the condition under which a struct's functions follow it.

    Attributes:
        plan: the computation of the functions.
        reset: a value of ``Reset``, or "" if there is one plan for all.
        uniform: whether all parameters are numbers, except the last ``Layout.per_neuron`` ones.
    """

    plan: KernelPlan
    reset: str = ""
    uniform: bool = True

    @property
    def condition(self) -> str:
        """The condition in C++, on the template arguments ``R`` and ``Uniform``."""
        return f"R == Reset::{self.reset} && {'' if self.uniform else '!'}Uniform"


class Layout(NamedTuple):
    """Members of a struct, in order.

    Attributes:
        states: names of the states, the first of which starts at the parameter ``v_rest``, if there is one.
        params: names of the parameters.
        per_neuron: number of parameters, the last ones, that may be tensors where the others are numbers.
        settings: names of the arguments that are the same for all neurons and have no gradient.
        flags: constants of the struct by name.
    """

    states: list[str]
    params: list[str]
    per_neuron: int
    settings: list[str]
    flags: dict[str, bool]


def struct(name: str, variants: list[ResetPlan], layout: Layout) -> str:
    """Return the struct of a neuron, as ``csrc/core/neuron.h`` describes it."""
    return _Struct(name, variants, layout, variants[0].plan.step).text()


def own_struct(name: str, plan: KernelPlan, states: list[str]) -> str:
    """Return the struct of a neuron with one plan, whose parameters are known to be numbers or tensors."""
    step = plan.step
    flags = {"kMoves": True, "kGeneric": False, "kReads": False, "kPrefetch": False}
    flags["kTakesSlope"] = False
    params = [*step.numbers, *step.tensors]
    layout = Layout(states, params, len(step.tensors), ["strict"], flags)
    return struct(name, [ResetPlan(plan)], layout)


def library_source(
    name: str, plan: KernelPlan, states: list[str], *, dtype: torch.dtype, recurrent: bool, cuda: bool
) -> str:
    """Return the source of the shared library with a neuron's kernels.

    Args:
        name: of the neuron's struct.
        plan: its computation.
        states: names of its states.
        dtype: of its inputs; kernels for the CPU take those of 16 bits as float32.
        recurrent: whether it has recurrent connections.
        cuda: whether the kernels are for CUDA.
    """
    types = [f"own::{name}", "double" if dtype == torch.float64 else "float"]
    kernel = "own_recurrent" if recurrent else "own_neuron"
    if cuda:
        header, room = "cuda/own_neuron.cuh", ""
        types.append({torch.bfloat16: "BFloat16", torch.float16: "Half"}.get(dtype, types[1]))
    else:
        header, room = f"cpu/{kernel}.h", "cpu::"
    return f"""#include "core/functions.h"
#include "{header}"

namespace snnfast {{
namespace own {{

{own_struct(name, plan, states)}
}}  // namespace own

SNNFAST_OWN_KERNEL({room}{kernel}<{", ".join(types)}>())

}}  // namespace snnfast
"""


def c99_step(
    step: TracedStep,
    states: list[str],
    coefficient: Callable[[Node], str],
    places: dict[str, str],
    strict: bool = False,
) -> list[str]:
    """Return statements of C99 that compute one step of one neuron.

    Args:
        step: the traced step, with one input and one output.
        states: names of the states.
        coefficient: returns the text of a coefficient.
        places: text of the input ``x``, the output ``y`` and each state.
        strict: whether it fires above its threshold alone.
    """
    printer = _C99("", [], Layout(states, [], 0, [], {}), step)
    printer.of_node, printer.strict = functools.cache(coefficient), strict
    known = {step.inputs[0].id: places["x"]}
    known |= {node.id: places[name] for name, node in zip(states, step.states)}
    outputs = {places[name]: node for name, node in zip(states, step.after)}
    return printer.function(known, outputs | {places["y"]: step.outputs[0]})


class _Struct:
    kinds = ("C", "bool")  # of numbers, and of conditions

    @staticmethod
    def constant(value: float) -> str:
        """Return the text of a constant of the step."""
        return f"C({literal(value)})"

    def __init__(self, name: str, variants: list[ResetPlan], layout: Layout, step: TracedStep) -> None:
        self.name, self.variants, self.layout = name, variants, layout
        more_inputs = [f"input_{k}" for k in range(1, len(step.inputs))]
        more_outputs = [f"output_{k}" for k in range(1, len(step.outputs))]
        self.rows = [*layout.states, *more_inputs, *more_outputs]
        self.first_input = len(layout.states) - 1  # the row of input k is k further
        self.first_output = len(layout.states) + len(more_inputs) - 1
        # Variables of the source, and states that are read before they are overwritten.
        self.names: dict[int, str] = {}
        found: dict[int, Node] = {}
        for traced in [v.plan.step for v in variants] or [step]:
            variables = {plain(n).id: traced.names[n.id] for n in traced.graph.nodes if n.id in traced.names}
            self.names = variables | self.names
            self.names |= {n.id: f"{layout.states[k]}_before" for k, n in enumerate(traced.states)}
        for plan in [v.plan for v in variants]:
            self.names |= {n.id: f"grad_{s}" for n, s in zip(plan.grad_after, layout.states)}
            found |= {node.id: node for node in (*plan.numbers, *plan.neuron)}
        last = set(layout.params[len(layout.params) - layout.per_neuron :])
        by_neuron = {key for key, node in found.items() if last & set(_parameters(node))}
        self.per_neuron = len(by_neuron)
        self.order = [found[k] for k in sorted(found, key=lambda k: (k in by_neuron, k))]
        taken = MEMBERS | {f"k{camel(row)}Row" for row in self.rows}
        taken |= {f"kOf{camel(p)}" for p in (*layout.params, *layout.settings)}
        self.coefficients: dict[int, str] = {}
        for node in self.order:
            named = node.op in LEAVES
            wanted = "k" + (camel(node.value) if named else camel(self.names.get(node.id, "")) or "Derived")
            label, again = wanted, 1
            while label in taken or (label == "kDerived"):
                label, again = f"{wanted}{again}", again + 1
            taken.add(label)
            self.coefficients[node.id] = label

    # ---- expressions

    def number(self, node: Node) -> str:
        """Return an expression of numbers in double, with the rounding of Python."""
        node = plain(node)
        if node.op == "setting":
            return f"a.settings[kOf{camel(node.value)}]"
        if node.op in LEAVES:
            return f"a.param[kOf{camel(node.value)}].value"
        return formula(node, [self.number(a) for a in node.args], literal)

    def neuron(self, node: Node) -> str:
        """Return an expression of a neuron's parameters in the type C, with the rounding of PyTorch."""
        node = plain(node)
        if node.op == "constant":
            return self.constant(node.value)
        if node.level == NUMBER:
            text = self.number(node)
            return text if node.is_condition else f"static_cast<C>({strip(text)})"
        if node.op in LEAVES:
            return f"params[kOf{camel(node.value)}]"
        text = formula(node, [self.neuron(a) for a in node.args], self.constant)
        leaves = [n for n in _leaves(node) if n.op != "setting"]
        if node.op == "where" or any(n.op != "parameter" for n in leaves):
            return text
        # An expression of numbers alone is computed in double.
        known = " || ".join(f"a.param[kOf{camel(n.value)}].data" for n in leaves)
        return f"({known} ? {text} : static_cast<C>({strip(self.number(node))}))"

    def function(self, known: dict[int, str], outputs: dict[str, Node]) -> list[str]:
        """Return statements that compute ``outputs`` from nodes whose text is ``known``.

        The keys of ``outputs`` are the text of the variables to write. All inputs are read before anything is written.
        """
        order = self.needed(known, outputs.values())
        uses: dict[int, int] = {}
        for node in order:
            for arg in self.operands(node):
                uses[arg.id] = uses.get(arg.id, 0) + (2 if node.op in ("relu", "power", "clamp") else 1)
        for node in map(plain, outputs.values()):
            uses[node.id] = uses.get(node.id, 0) + 1
        lines: list[str] = []
        texts: dict[int, str] = {}
        taken = RESERVED | set(known.values())

        def name_of(node: Node) -> str:
            wanted = "fires" if node.op == "fires" else self.names.get(node.id, "")
            free = wanted.isidentifier() and wanted.isascii() and wanted not in taken
            if not free or re.match("k[A-Z]|_", wanted):
                wanted = f"t{node.id}"
            taken.add(wanted)
            return wanted

        for node in order:
            text = self.known(node, known)
            is_read = node.op in ("state", "grad_state") and text in outputs  # before it is written
            if not text:
                args = [texts[a.id] for a in self.operands(node)]
                text = self.fires(*args) if node.op == "fires" else self.formula(node, args)
            if is_read or (
                node.id not in known and self.is_computed(node) and (uses[node.id] > 1 or node.id in self.names)
            ):
                name = name_of(node)
                lines.append(f"const {self.kinds[node.is_condition]} {name} = {strip(text)};")
                text = name
            texts[node.id] = text
        texts |= {node.id: texts[plain(node).id] for node in outputs.values()}
        writes = {place: strip(texts[node.id]) for place, node in outputs.items()}
        returned = writes.pop("return", None)
        # Whatever an earlier line overwrites was read into a variable before.
        lines += [f"{place} = {text};" for place, text in writes.items() if place != text]
        return [*lines, f"return {returned};"] if returned is not None else lines

    def needed(self, known: dict[int, str], outputs: Iterable[Node]) -> list[Node]:
        """Return all nodes to compute, operands first, without operands of known nodes and of coefficients."""
        found: dict[int, Node] = {}
        stack = [plain(node) for node in outputs]
        while stack:
            node = stack.pop()
            if node.id not in found:
                found[node.id] = node
                if not self.known(node, known):
                    stack += self.operands(node)
        return [found[key] for key in sorted(found)]

    def known(self, node: Node, known: dict[int, str]) -> str:
        """Return the text of a leaf or a coefficient; empty for nodes that are to be computed."""
        if node.id in known:
            return known[node.id]
        return self.coefficient(node) if self.is_coefficient(node) else ""

    def coefficient(self, node: Node) -> str:
        """Return the text of a coefficient."""
        return f"c[{self.coefficients[node.id]}]"

    @staticmethod
    def operands(node: Node) -> list[Node]:
        """Return the nodes that a node is computed from."""
        return list(map(plain, node.args))

    @staticmethod
    def is_coefficient(node: Node) -> bool:
        return node.level < STEP and not node.is_condition and node.op != "constant"

    def is_computed(self, node: Node) -> bool:
        return node.op != "constant" and not self.is_coefficient(node)

    def formula(self, node: Node, args: list[str]) -> str:
        """One operation, from its operands' text."""
        return formula(node, args, self.constant)

    def fires(self, h: str, threshold: str) -> str:
        """Return the comparison with the threshold; if that is constant, with the least membrane that fires."""
        return f"((kByMembrane<{self.name}> ? {h} : {h} - {threshold}) >= c[kLeast])"

    # ---- the struct

    def rows_of(self, array: str, nodes: Iterable[Node], first: int = 0) -> dict[str, Node]:
        """Return nodes by the text of their rows, from row ``first`` on."""
        names = self.rows[first:]
        return {f"{array}[k{camel(name)}Row]": node for name, node in zip(names, nodes)}

    def forward(self, plan: KernelPlan) -> list[str]:
        step = plan.step
        rows = self.rows_of("state", step.states)
        rows |= self.rows_of("state", step.inputs[1:], self.first_input + 1)
        known = {step.inputs[0].id: "x"} | {node.id: place for place, node in rows.items()}
        outputs = {f"tape[{k}]": node for k, node in enumerate(plan.tape)}
        outputs |= self.rows_of("state", step.after)
        outputs |= self.rows_of("state", step.outputs[1:], self.first_output + 1)
        return self.function(known, outputs | {"return": step.outputs[0]})

    def of_tape(self, plan: KernelPlan) -> dict[int, str]:
        return {node.id: f"tape[{k}]" for k, node in enumerate(plan.tape)}

    def backward(self, plan: KernelPlan) -> list[str]:
        step = plan.step
        rows = self.rows_of("grad", plan.grad_after)
        rows |= self.rows_of("grad", plan.grad_outputs[1:], self.first_output + 1)
        known = self.of_tape(plan) | {plan.grad_outputs[0].id: "grad_output"}
        known |= {node.id: place for place, node in rows.items()}
        known |= {n.id: n.value for n in step.graph.nodes if n.op == "given"}
        grads = self.rows_of("grad", plan.grad_states)
        grads |= self.rows_of("grad", plan.grad_inputs[1:], self.first_input + 1)
        zeros = [step.graph.constant(0)] * (len(step.outputs) - 1)
        grads |= self.rows_of("grad", zeros, self.first_output + 1)
        param_grads = {
            f"grad_params[kOf{camel(p)}]": g
            for p, g in zip(step.tensors, plan.grad_tensors)
            if not (g.op == "constant" and g.value == 0)
        }
        lines = self.function(known, param_grads | grads | {"return": plan.grad_inputs[0]})
        # Gradients of parameters are sums over the steps.
        return [re.sub(r"^(grad_params\[\w+\]) =", r"\1 +=", line) for line in lines]

    def margin(self, plan: KernelPlan) -> list[str]:
        if plan.margin is None:
            return ["return C(0);"]
        return self.function(self.of_tape(plan), {"return": plan.margin})

    def body(self, lines: Callable[[KernelPlan], list[str]]) -> str:
        """Return a function's statements, those of each variant under its condition."""
        if len(self.variants) == 1:
            return indent(lines(self.variants[0].plan))
        conditions_of: dict[str, list[str]] = {}
        for variant in self.variants:
            conditions_of.setdefault(indent(lines(variant.plan)), []).append(variant.condition)
        branches = [
            f"if constexpr ({' || '.join(f'({c})' for c in conditions) if conditions[1:] else conditions[0]}) "
            f"{{\n{textwrap.indent(text, '  ')}\n    }}"
            for text, conditions in conditions_of.items()
        ]
        return "    " + " else ".join(branches)

    def tape_rows(self, uniform: bool) -> int:
        plans = [v.plan for v in self.variants if v.uniform == uniform] or [self.variants[0].plan]
        return max(1, *(len(plan.tape) for plan in plans))

    def text(self) -> str:
        layout, flags = self.layout, self.layout.flags
        takes_slope, margin = flags["kTakesSlope"], self.variants[0].plan.margin
        states = [f"k{camel(row)}Row" for row in self.rows]
        # CUDA has no arrays of size 0.
        params = [f"kOf{camel(p)}" for p in layout.params] or ["kNoParameter"]
        settings = [f"kOf{camel(s)}" for s in layout.settings]
        coefficients = [self.coefficients[node.id] for node in self.order] or ["kNoCoefficient"]
        setup = [f"c[{self.coefficients[n.id]}] = {strip(self.neuron(n))};" for n in self.order]
        at_rest = "kVRest" in coefficients
        rest_value = "state == 0 ? c[kVRest] : C(0)" if at_rest else "C(0)"
        learned = {p for v in self.variants for p in v.plan.step.tensors}
        rest_gradient = "if (state == 0) grad_params[kOfVRest] += grad;" if "v_rest" in learned else ""
        constants = "\n".join(
            f"  static constexpr bool {name} = {str(value).lower()};" for name, value in flags.items()
        )
        threshold = (
            f"""
  template <class C>
  static SNNFAST_HD C threshold(const C* c) {{
    return {self.coefficient(plain(margin.args[1]))};
  }}"""
            if margin is not None and not flags["kMoves"]
            else ""
        )
        scan = " a" if any("a." in line for line in setup) else ""
        every = "template <Reset R, bool Uniform, class C>"
        return f"""struct {self.name} {{
  enum {{ {", ".join([*states, "kStates"])} }};
  enum {{ {", ".join([*params, "kParams"])} }};
  enum {{ {", ".join([*settings, "kSettings"])} }};
  enum {{ {", ".join([*["kLeast"] * takes_slope, *coefficients, "kCoefficients"])} }};
  static constexpr int kEach = {layout.per_neuron}, kEachCoefficients = {self.per_neuron};
  static constexpr int kFirstInput = {self.first_input + 1}, kFirstOutput = {self.first_output + 1};
  template <bool Uniform>
  static constexpr int kTape = Uniform ? {self.tape_rows(True)} : {self.tape_rows(False)};
{constants}

  template <class C, class Scan>
  static SNNFAST_HD void coefficients(const C* params, const Scan&{scan}, C* c) {{
{indent(setup)}
  }}
  template <class C>
  static SNNFAST_HD C rest(int state, const C* c) {{
    return {rest_value};
  }}
  template <class C>
  static SNNFAST_HD void rest_backward(int state, C grad, C* grad_params) {{
    {rest_gradient}
  }}{threshold}

  {every}
  static SNNFAST_HD C step(C x, const C* c, C* state, C* tape) {{
{self.body(self.forward)}
  }}
  {every}
  static SNNFAST_HD C margin(const C* tape, const C* c) {{
{self.body(self.margin)}
  }}
  {every}
  static SNNFAST_HD C step_backward(const C* tape, const C* c, C grad_output,
                                    C slope, C attached, C* grad, C* grad_params) {{
{self.body(self.backward)}
  }}
}};
"""


def _leaves(node: Node) -> list[Node]:
    """Return the leaves of an expression without values of a step, except constants."""
    return [n for n in computed([node]) if n.op in LEAVES]


def _parameters(node: Node) -> list[str]:
    return [n.value for n in _leaves(node) if n.op != "setting"]


def rule_source(step: TracedStep, arguments: Sequence[str], signals: Sequence[bool]) -> str:
    """Return the source of the shared library with the kernels of a plasticity rule.

    Args:
        step: the traced rule.
        arguments: names of its first inputs.
        signals: of every further input, a signal of neurons, whether these are the presynaptic ones.
    """
    arguments = [*arguments, *(f"signal_{k}" for k in range(len(signals)))]
    sides = ", ".join(str(presynaptic).lower() for presynaptic in signals)
    known = {node.id: name for node, name in zip(step.inputs, arguments)}
    body = _Rule("", [], Layout([], [], 0, [], {}), step).function(known, {"return": step.outputs[0]})
    params = ", ".join(f"[[maybe_unused]] C {name}" for name in arguments)
    silent = {node.id: 0.0 for node, name in zip(step.inputs, arguments) if name in ("s_pre", "s_post")}
    needs_spikes = constant_value(step.outputs[0], silent) == 0
    return f"""#include "core/functions.h"
#include "cpu/own_rule.h"

namespace {{
struct Rule {{
  static constexpr bool needs_spikes = {str(needs_spikes).lower()};
  static constexpr std::array<bool, {len(signals)}> presynaptic{{{sides}}};
  template <class C>
  static C change({params}) {{
    using namespace snnfast;
{indent(body)}
  }}
}};
}}  // namespace

SNNFAST_OWN_RULE(Rule)
"""


class _Rule(_Struct):
    @staticmethod
    def is_coefficient(node: Node) -> bool:
        return False


class _C99(_Struct):
    kinds = ("float", "int")
    of_node: Callable[[Node], str]
    strict: bool

    def fires(self, h: str, threshold: str) -> str:
        return f"({h} - {threshold} >= 1.17549435e-38f)" if self.strict else f"({h} >= {threshold})"

    def formula(self, node: Node, args: list[str]) -> str:
        if node.op == "where":  # compilers make branches of some choices, and take one neuron after the other
            then, other = map(plain, node.args[1:])
            if args[1:] == ["1.0f", "0.0f"]:
                return f"(float){args[0]}"
            if node.args[0].op == "fires" and then.op == "sub" and plain(then.args[0]) is other:
                less = plain(then.args[1])
                if self.is_coefficient(less):  # finite, so that 0 times it is 0
                    return f"({args[2]} - (float){args[0]} * {self.coefficient(less)})"
        return super().formula(node, args)

    @staticmethod
    def constant(value: float) -> str:
        if not math.isfinite(value):
            return "(0.0f / 0.0f)" if math.isnan(value) else f"({math.copysign(1, value)}f / 0.0f)"
        single = struct_module.unpack("f", struct_module.pack("f", value))[0]
        text = f"{single:.9g}"
        text = f"{text if set(text) & set('.e') else f'{text}.0'}f"
        return text if single >= 0 else f"({text})"

    def coefficient(self, node: Node) -> str:
        return self.of_node(node)

    @staticmethod
    def operands(node: Node) -> list[Node]:
        return list(map(plain, node.args[: 2 if node.op == "exp_quotient" else None]))


def formula(node: Node, args: list[str], constant: Callable[[float], str]) -> str:
    """Return one operation in C++ or C, from the text of its operands."""
    op = node.op
    if op == "constant":
        return constant(node.value)
    if op in INFIX:
        return f"({args[0]} {INFIX[op]} {args[1]})"
    if op == "neg":
        return f"(-{args[0]})"
    if op == "not":
        return f"(!{args[0]})"
    if op == "where":
        return f"({args[0]} ? {args[1]} : {args[2]})"
    if op == "relu":
        return f"({args[0]} <= {constant(0)} ? {constant(0)} : {args[0]})"
    if op == "power":
        return "(" + " * ".join([args[0]] * node.value) + ")"
    if op == "clamp":
        text, bounds = args[0], args[1:]
        has_low, has_high = node.value
        if has_low:
            text = f"({text} < {bounds[0]} ? {bounds[0]} : {text})"
        if has_high:
            text = f"({text} > {bounds[-1]} ? {bounds[-1]} : {text})"
        return text
    return f"{CALLS[op]}({', '.join(args)})"


def indent(lines: list[str]) -> str:
    """Indent statements of a function of a struct."""
    return "\n".join(f"    {line}" for line in lines)


def literal(value: float) -> str:
    """Return a number in C++."""
    if math.isnan(value):
        return '__builtin_nan("")'
    if math.isinf(value):
        return "__builtin_inf()" if value > 0 else "(-__builtin_inf())"
    return repr(value) if value >= 0 and math.copysign(1, value) > 0 else f"({value!r})"


def strip(text: str) -> str:
    """Remove brackets around the whole text."""
    depth = 0
    for k, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0 and k < len(text) - 1:
            return text
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text
