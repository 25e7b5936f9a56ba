"""Mistakes in the compiler of neurons: name, path, what becomes what, and tests if they are others."""

TESTS = ("tests/compiler/test_trace.py",)
KERNELS = (
    "tests/compiler/test_emit.py",
    "tests/ops/test_own_neuron.py",
    "-k",
    "random or reference or several",
)
DERIVATIVE, PLAN = "snnfast/compiler/derivative.py", "snnfast/compiler/plan.py"
EXPRESSION, EMIT = "snnfast/compiler/expression.py", "snnfast/compiler/emit.py"
MISTAKES = (
    (
        "product rule",
        DERIVATIVE,
        "[_product(g, n.args[1]), _product(g, n.args[0])]",
        "[_product(g, n.args[1])] * 2",
    ),
    ("quotient's sign", DERIVATIVE, "_negative(grad * (n / b))", "grad * (n / b)"),
    ("relu below 0", DERIVATIVE, "where(n.args[0] <= 0, 0.0, g)", "where(n.args[0] <= 0, g, g)"),
    ("abs", DERIVATIVE, "where(n.args[0] < 0, -g, 0.0)", "where(n.args[0] < 0, g, 0.0)"),
    ("sqrt", DERIVATIVE, "[g / (n + n)]", "[g / n]"),
    ("branches of where", DERIVATIVE, "where(n.args[0], g, 0.0),", "where(n.args[0], 0.0, g),"),
    (
        "minimum takes maximum's",
        DERIVATIVE,
        "g, n.args[0] > n.args[1], n.args[0] <",
        "g, n.args[0] < n.args[1], n.args[0] >",
    ),
    (
        "clamp's bound",
        DERIVATIVE,
        "if has_high else x < low, grad",
        "if has_high else x > low, grad",
    ),
    ("detach has a gradient", DERIVATIVE, '"constant", "detach", ', '"constant", '),
    ("a gradient replaces another", DERIVATIVE, "_sum(found.get(arg.id), grad)", "grad"),
    (
        "exponentials twice",
        PLAN,
        "if not n.args} | expensive,",
        "if not n.args},",
    ),
    ("the tape lacks what gradients read", PLAN, "sinks=set(read)", "sinks=set(list(read)[1:])"),
    ("order of a quotient", EXPRESSION, '"div", other, self', '"div", self, other'),
    (
        "spikes equal to 0",
        EXPRESSION,
        '(right.value == 1.0) == (op == "eq")',
        '(right.value == 1.0) != (op == "eq")',
    ),
    ("inner choice", EXPRESSION, "yes.args[1] if yes.op", "yes.args[2] if yes.op"),
    (
        "a state is read after it was written",
        EMIT,
        'in ("state", "grad_state")',
        "in ()",
        KERNELS,
    ),
    ("sums of parameters' gradients", EMIT, r'r"\1 +="', r'r"\1 ="', KERNELS),
    (
        "a bound is left out",
        EMIT,
        "        if has_high:",
        "        if has_high and not has_low:",
        KERNELS,
    ),
    (
        "row of an output",
        EMIT,
        "len(states) + len(more_inputs) - 1",
        "len(states) + len(more_inputs) - 2",
        KERNELS,
    ),
    (
        "v_rest's gradient",
        EMIT,
        "grad_params[kOfVRest] += grad",
        "grad_params[kOfVRest] -= grad",
        KERNELS,
    ),
)
