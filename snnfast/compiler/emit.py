"""The C++ of a plan: the struct of ``csrc/core/neuron.h``, and the source of a shared library around it."""

from __future__ import annotations

import math
import re
import struct as struct_module
from collections.abc import Callable, Iterable

from .expression import COMPARISONS, NUMBER, STEP, Node, plain
from .plan import Plan

__all__ = ["c99_step", "library_source", "struct"]

INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "and": "&", "or": "|", **COMPARISONS}
CALLS = {
    **{"abs": "absolute", "sqrt": "square_root", "floor": "floor_of", "ceil": "ceil_of"},
    **{"round": "nearest_even", "trunc": "truncated", "sign": "sign_of", "maximum": "larger"},
    **{"minimum": "smaller", "exp_nonpositive": "exp_nonpositive", "mantissa": "mantissa_of"},
    **{"exponent": "exponent_of"},
}
# Words that a variable of the source may not take: C++'s, and the names that the code around it has.
_WORDS = """
auto bool case char const default do double enum float goto int long new short signed sizeof static struct switch this
true false union unsigned void template typename using namespace operator private public protected volatile throw catch
inline delete typedef register extern explicit virtual friend export mutable concept requires and or not xor asm wchar_t
min max absolute sign_of larger smaller truncated x c C state tape grad grad_params grad_output params n
"""
RESERVED = {*_WORDS.split(), *CALLS.values()}
# Names in a struct besides those of its coefficients; variables that look like these get other names.
MEMBERS = {
    *(
        "kStates",
        "kParams",
        "kSettings",
        "kStrict",
        "kCoefficients",
        "kTape",
        "kLeft",
        "kSpare",
        "kEach",
        "kMore",
    ),
    *("kEachCoefficients", "kWhole", "kMoves", "kSeldom"),
}


def camel(name: str) -> str:
    """``v_threshold`` as ``VThreshold``."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def struct(name: str, plan: Plan, states: list[str]) -> str:
    """The struct of a neuron for one reset, one surrogate, and parameters that are known to be numbers or tensors.

    Args:
        name: of the struct.
        plan: what it computes.
        states: names of the states, the first of which starts at the parameter ``v_rest``, if there is one.
    """
    return _Struct(name, plan, states).text()


def library_source(
    name: str, plan: Plan, states: list[str], *, double: bool, recurrent: bool
) -> str:
    """The source of the shared library with a neuron's kernels for the CPU, for spikes that come back to it or not."""
    return f"""#include "core/functions.h"
#include "core/neuron.h"

namespace snnfast {{

{struct(name, plan, states)}
}}  // namespace snnfast

#include "cpu/own_{"recurrent" if recurrent else "neuron"}.h"

SNNFAST_OWN_{"RECURRENT" if recurrent else "NEURON"}({name}, {"double" if double else "float"})
"""


def c99_step(
    plan: Plan, states: list[str], coefficients: dict[int, str], places: dict[str, str]
) -> list[str]:
    """Statements of C99 that take one neuron through one step.

    Args:
        plan: what it computes; one input and one output.
        states: names of the states.
        coefficients: the text of each coefficient by the id of its node.
        places: what the input ``x``, the output ``y`` and each state are called.
    """
    printer = _C99("", plan, states)
    printer.texts = coefficients
    known = {plan.step.inputs[0].id: places["x"]}
    known |= {node.id: places[name] for name, node in zip(states, plan.step.states)}
    outputs = {places[name]: node for name, node in zip(states, plan.step.after)}
    return printer.function(known, outputs | {places["y"]: plan.step.outputs[0]})


class _Struct:
    kinds = ("C", "bool")  # of numbers, and of conditions

    @staticmethod
    def constant(value: float) -> str:
        """A number that stands in the step."""
        return f"C({literal(value)})"

    def __init__(self, name: str, plan: Plan, states: list[str]) -> None:
        self.name, self.plan = name, plan
        step = plan.step
        more_inputs = [f"input_{k}" for k in range(1, len(step.inputs))]
        more_outputs = [f"output_{k}" for k in range(1, len(step.outputs))]
        self.rows = [*states, *more_inputs, *more_outputs]
        self.first_input = len(states) - 1  # the row of input k is k further
        self.first_output = len(states) + len(more_inputs) - 1
        self.numbers, self.tensors = list(step.numbers), list(step.tensors)
        self.coefficients: dict[int, str] = {}
        # Variables of the source, and what is read before it is overwritten.
        self.names = {
            plain(node).id: step.names[node.id]
            for node in step.graph.nodes
            if node.id in step.names
        }
        self.names |= {node.id: f"{states[k]}_before" for k, node in enumerate(step.states)}
        self.names |= {node.id: f"grad_{states[k]}" for k, node in enumerate(plan.grad_after)}
        taken = MEMBERS | {f"k{camel(row)}Row" for row in self.rows}
        taken |= {f"kOf{camel(p)}" for p in (*self.numbers, *self.tensors)}
        for node in (*plan.numbers, *plan.neuron):
            named = node.op in ("number", "tensor")
            wanted = "k" + (
                camel(node.value) if named else camel(self.names.get(node.id, "")) or "Derived"
            )
            label, again = wanted, 1
            while label in taken or (label == "kDerived"):
                label, again = f"{wanted}{again}", again + 1
            taken.add(label)
            self.coefficients[node.id] = label

    # ---- expressions

    def number(self, node: Node) -> str:
        """An expression in numbers, in double, as Python rounds it."""
        node = plain(node)
        if node.op == "number":
            return f"a.param[kOf{camel(node.value)}].value"
        return formula(node, [self.number(a) for a in node.args], literal)

    def neuron(self, node: Node) -> str:
        """An expression in parameters of a neuron, in C, as PyTorch rounds it."""
        node = plain(node)
        if node.op == "constant":
            return self.constant(node.value)
        if node.level == NUMBER:
            text = self.number(node)
            return text if node.is_condition else f"static_cast<C>({strip(text)})"
        if node.op == "tensor":
            return f"params[kOf{camel(node.value)}]"
        return formula(node, [self.neuron(a) for a in node.args], self.constant)

    def function(self, known: dict[int, str], outputs: dict[str, Node]) -> list[str]:
        """Statements that compute ``outputs``, by where they are written, from nodes whose text is ``known``.

        All inputs are read before anything is written.
        """
        order = self.needed(known, outputs.values())
        uses: dict[int, int] = {}
        for node in order:
            for arg in map(plain, node.args):
                uses[arg.id] = uses.get(arg.id, 0) + (
                    2 if node.op in ("relu", "power", "clamp") else 1
                )
        for node in map(plain, outputs.values()):
            uses[node.id] = uses.get(node.id, 0) + 1
        lines: list[str] = []
        texts: dict[int, str] = {}
        taken = set(RESERVED)

        def name_of(node: Node) -> str:
            wanted = self.names.get(node.id, "")
            free = wanted.isidentifier() and wanted.isascii() and wanted not in taken
            if not free or re.match("k[A-Z]|_", wanted):
                wanted = f"t{node.id}"
            taken.add(wanted)
            return wanted

        for node in order:
            text = self.known(node, known)
            is_read = node.op in ("state", "grad_state") and text in outputs  # before it is written
            if not text:
                text = formula(node, [texts[plain(a).id] for a in node.args], self.constant)
            if is_read or (
                node.id not in known
                and self.is_computed(node)
                and (uses[node.id] > 1 or node.id in self.names)
            ):
                name = name_of(node)
                lines.append(f"const {self.kinds[node.is_condition]} {name} = {strip(text)};")
                text = name
            texts[node.id] = text
        texts |= {node.id: texts[plain(node).id] for node in outputs.values()}
        writes = {place: strip(texts[node.id]) for place, node in outputs.items()}
        returned = writes.pop("return", None)
        # A right side may be what an earlier line overwrites only if it was read into a variable, which it was.
        lines += [f"{place} = {text};" for place, text in writes.items() if place != text]
        return [*lines, f"return {returned};"] if returned is not None else lines

    def needed(self, known: dict[int, str], outputs: Iterable[Node]) -> list[Node]:
        """All nodes to compute, operands first; operands of known nodes and of coefficients are left out."""
        found: dict[int, Node] = {}
        stack = [plain(node) for node in outputs]
        while stack:
            node = stack.pop()
            if node.id not in found:
                found[node.id] = node
                if not self.known(node, known):
                    stack += map(plain, node.args)
        return [found[key] for key in sorted(found)]

    def known(self, node: Node, known: dict[int, str]) -> str:
        """The text of a node that is not computed here: a leaf, or a coefficient."""
        if node.id in known:
            return known[node.id]
        return self.coefficient(node) if self.is_coefficient(node) else ""

    def coefficient(self, node: Node) -> str:
        """The text of a coefficient."""
        return f"c[{self.coefficients[node.id]}]"

    @staticmethod
    def is_coefficient(node: Node) -> bool:
        return node.level < STEP and not node.is_condition and node.op != "constant"

    def is_computed(self, node: Node) -> bool:
        return node.op != "constant" and not self.is_coefficient(node)

    # ---- the struct

    def text(self) -> str:
        plan, step = self.plan, self.plan.step
        states = [f"k{camel(row)}Row" for row in self.rows]
        params = [f"kOf{camel(p)}" for p in (*self.numbers, *self.tensors)]
        coefficients = [self.coefficients[n.id] for n in (*plan.numbers, *plan.neuron)]
        setup = [
            f"c[{self.coefficients[n.id]}] = static_cast<C>({strip(self.number(n))});"
            for n in plan.numbers
        ]
        setup += [f"c[{self.coefficients[n.id]}] = {strip(self.neuron(n))};" for n in plan.neuron]
        inputs = {step.inputs[0].id: "x"} | {
            step.inputs[k].id: f"state[{states[self.first_input + k]}]"
            for k in range(1, len(step.inputs))
        }
        before = {node.id: f"state[{states[k]}]" for k, node in enumerate(step.states)}
        outputs = {
            f"state[{states[self.first_output + k]}]": step.outputs[k]
            for k in range(1, len(step.outputs))
        }
        after = {f"state[{states[k]}]": node for k, node in enumerate(step.after)}
        tape = {f"tape[{k}]": node for k, node in enumerate(plan.tape)}
        forward = self.function(
            inputs | before, tape | after | outputs | {"return": step.outputs[0]}
        )
        known = {node.id: f"tape[{k}]" for k, node in enumerate(plan.tape)}
        known |= {plan.grad_outputs[0].id: "grad_output"}
        known |= {
            plan.grad_outputs[k].id: f"grad[{states[self.first_output + k]}]"
            for k in range(1, len(step.outputs))
        }
        known |= {node.id: f"grad[{states[k]}]" for k, node in enumerate(plan.grad_after)}
        grads = {f"grad[{states[k]}]": node for k, node in enumerate(plan.grad_states)}
        grads |= {
            f"grad[{states[self.first_input + k]}]": plan.grad_inputs[k]
            for k in range(1, len(step.inputs))
        }
        zero = step.graph.constant(0)
        grads |= {
            f"grad[{states[self.first_output + k]}]": zero for k in range(1, len(step.outputs))
        }
        of_params = {
            f"grad_params[kOf{camel(p)}]": g for p, g in zip(self.tensors, plan.grad_tensors)
        }
        # Sums are written as the old value plus what the step adds.
        backward = self.function(known, of_params | grads | {"return": plan.grad_inputs[0]})
        backward = [re.sub(r"^(grad_params\[\w+\]) =", r"\1 +=", line) for line in backward]
        rest = "v_rest" in (*self.numbers, *self.tensors)
        rest_value = "C(0)"
        if rest:
            at = "c[kVRest]" if "kVRest" in coefficients else None
            rest_value = f"state == 0 ? {at} : C(0)" if at else rest_value
        return f"""struct {self.name} {{
  enum {{ {", ".join([*states, "kStates"])} }};
  enum {{ {", ".join([*params, "kParams"])} }};
  enum {{ kStrict, kSettings }};
  enum {{ {", ".join([*coefficients, "kCoefficients"])} }};
  static constexpr int kTape = {max(len(plan.tape), 1)}, kLeft = 0, kSpare = 0, kEach = {len(self.tensors)};
  static constexpr int kEachCoefficients = {len(plan.neuron)};
  static constexpr bool kWhole = true, kMore = {str(len(step.inputs) + len(step.outputs) > 2).lower()};
  static constexpr bool kMoves = true, kSeldom = false;

  template <class C, class Scan>
  static SNNFAST_HD void coefficients(const C* params, const Scan& a, C* c) {{
{indent(setup)}
  }}
  template <class C>
  static SNNFAST_HD C rest(int state, const C* c) {{
    return {rest_value};
  }}
  template <class C>
  static SNNFAST_HD void rest_backward(int state, C grad, C* grad_params) {{
    {"if (state == 0) grad_params[kOfVRest] += grad;" if "v_rest" in self.tensors else ""}
  }}

  template <class C>
  static SNNFAST_HD C step(C x, const C* c, C* state, C* tape) {{
{indent(forward)}
  }}
  template <class C>
  static SNNFAST_HD C step_backward(const C* tape, const C* c, C grad_output, C* grad, C* grad_params) {{
{indent(backward)}
  }}
}};
"""


class _C99(_Struct):
    kinds = ("float", "int")
    texts: dict[int, str]

    @staticmethod
    def constant(value: float) -> str:
        if not math.isfinite(value):
            return "(0.0f / 0.0f)" if math.isnan(value) else f"({math.copysign(1, value)}f / 0.0f)"
        single = struct_module.unpack("f", struct_module.pack("f", value))[0]
        text = f"{single:.9g}"
        text = f"{text if set(text) & set('.e') else f'{text}.0'}f"
        return text if single >= 0 else f"({text})"

    def coefficient(self, node: Node) -> str:
        return self.texts[node.id]


def formula(node: Node, args: list[str], constant: Callable[[float], str]) -> str:
    """One operation in C++ or C, from its operands' text."""
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
    """Statements of a function of a struct."""
    return "\n".join(f"    {line}" for line in lines)


def literal(value: float) -> str:
    """A number in C++."""
    if math.isnan(value):
        return '__builtin_nan("")'
    if math.isinf(value):
        return "__builtin_inf()" if value > 0 else "(-__builtin_inf())"
    return repr(value) if value >= 0 and math.copysign(1, value) > 0 else f"({value!r})"


def strip(text: str) -> str:
    """A text without brackets around all of it."""
    depth = 0
    for k, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0 and k < len(text) - 1:
            return text
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text
