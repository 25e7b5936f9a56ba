"""Values that a step reads from outside: a change makes another kernel; what cannot be compared is refused."""

import functools
import gc
import random
import types

import pytest
import torch
from torch import nn

from snnfast.compiler.expression import StepGraph, TraceError
from snnfast.compiler.outside import hold, observed
from snnfast.compiler.value import Value, traced_functions

SCALE = 0.5
TABLE = {"k": 0.5, "other": [1.0]}
CONFIG = types.SimpleNamespace(k=0.5, inner=types.SimpleNamespace(k=0.5), unused=1.0)


class Settings:
    gain = 0.5


class Slope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u):
        return (u >= 0).to(u)

    @staticmethod
    def backward(ctx, grad):
        return grad * CONFIG.k


class Annealed(nn.Module):
    def __init__(self):
        super().__init__()
        self.alpha = 0.5
        self.register_buffer("width", torch.tensor(0.5))
        self.learned = nn.Parameter(torch.tensor(0.5))

    @property
    def inverse(self):
        return 1 / self.alpha

    def forward(self, u):
        return u * self.alpha * self.width.item()

    def by_property(self, u):
        return u * self.inverse

    def of_parameter(self, u):
        return u * float(self.learned.detach())


def by_global(u):
    return u * SCALE


def by_helper(u):
    return by_global(u) + 1


def by_default(u, config=CONFIG):
    return config.k * u


def by_closure(k):
    return lambda u: u * k


def set_global(value):
    globals()["SCALE"] = value


ANNEALED, CLOSURE = Annealed(), by_closure(0.5)


def write(cell, value):
    cell.cell_contents = value


# A function of u, and what changes a number that it reads; all numbers are 0.5 before.
READS = {
    "global": (by_global, set_global),
    "helper": (by_helper, set_global),
    "attribute": (lambda u: CONFIG.k * u, lambda value: setattr(CONFIG, "k", value)),
    "attribute of an attribute": (lambda u: CONFIG.inner.k * u, lambda value: setattr(CONFIG.inner, "k", value)),
    "getattr": (lambda u: getattr(CONFIG, "k") * u, lambda value: setattr(CONFIG, "k", value)),  # noqa: B009
    "dict": (lambda u: TABLE["k"] * u, lambda value: TABLE.update(k=value)),
    "list in a dict": (lambda u: TABLE["other"][0] * u, lambda value: TABLE["other"].__setitem__(0, value)),
    "class": (lambda u: Settings.gain * u, lambda value: setattr(Settings, "gain", value)),
    "default": (by_default, lambda value: setattr(CONFIG, "k", value)),
    "partial": (functools.partial(by_default, config=CONFIG), lambda value: setattr(CONFIG, "k", value)),
    "closure": (lambda u: CLOSURE(u), lambda value: write(CLOSURE.__closure__[0], value)),
    "module": (ANNEALED, lambda value: setattr(ANNEALED, "alpha", value)),
    "buffer": (ANNEALED, lambda value: ANNEALED.width.fill_(value)),
    "parameter": (ANNEALED.of_parameter, lambda value: ANNEALED.learned.data.fill_(value)),
    "property": (ANNEALED.by_property, lambda value: setattr(ANNEALED, "alpha", value)),
    "gradient": (Slope.apply, lambda value: setattr(CONFIG, "k", value)),
}


def traced(function):
    """Return what ``function`` read, in its forward and backward pass."""

    def run():
        graph = StepGraph(torch.float32)
        with traced_functions():
            node = function(Value.from_node(graph.leaf("input", 0))).node
        if node.op == "custom":
            node.value.backward(graph.leaf("grad_output", 0))
        return node

    return observed("step", run, function)


@pytest.mark.parametrize(("function", "change"), READS.values(), ids=READS)
def test_a_number_that_changes_is_noticed(function, change):
    before = TABLE["other"][0]
    change(0.5)
    node, reads = traced(function)
    assert hold(reads)
    CONFIG.unused += 1
    assert hold(reads)
    change(0.25)
    try:
        assert not hold(reads)
        other, again = traced(function)
        assert hold(again)
        assert repr(other) != repr(node) or node.op == "custom"
    finally:
        change(0.5)
    assert hold(reads)
    TABLE["other"][0] = before


def test_equal_numbers_are_the_same_but_for_their_sign():
    numbers = {"k": 0.0}
    _, reads = traced(lambda u: u * numbers["k"])
    numbers["k"] = float("0")
    assert hold(reads)
    numbers["k"] = -0.0
    assert not hold(reads)
    numbers["k"] = 0
    assert not hold(reads)
    del numbers["k"]
    assert not hold(reads)


def test_containers_of_the_step_itself_may_change():
    def gathers(values, u):
        values.append(u * 2)
        return sum(values)

    def step(u):
        values = [u, 1.0]
        return gathers(values, u) + len(values)

    node, reads = traced(step)
    assert hold(reads)
    assert "constant(3.0)" in repr(node)


def counts(u):
    CONFIG.k += 1
    return u * CONFIG.k


def remembers(u):
    TABLE["other"].append(CONFIG.k)
    return u * len(TABLE["other"])


LARGE = list(range(1000))


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (counts, "the step changes the attribute k, which it reads"),
        (remembers, "the step changes a list, which it reads"),
        (lambda u: u * LARGE[3], "reads from a list of 1000 entries outside"),
        (lambda u: u * random.random(), "random draws a random number in the step"),
        (lambda u: u + random.uniform(0, 1), "random draws a random number in the step"),
        (lambda u: u + torch.rand(()).item(), "rand draws a random number in the step"),
    ],
)
def test_what_cannot_be_compared_is_refused(function, sentence):
    k, other = CONFIG.k, [*TABLE["other"]]
    try:
        with pytest.raises(TraceError, match=sentence):
            traced(function)
    finally:
        CONFIG.k, TABLE["other"] = k, other


def test_code_that_the_garbage_collector_runs_is_not_of_the_step():
    def finalizer(phase, info):
        TABLE["collected"] = TABLE.get("collected", 0) + 1

    def step(u):
        return u * len([[k] for k in range(3000)])

    gc.callbacks.append(finalizer)
    try:
        assert hold(traced(step)[1])
        assert gc.isenabled()
    finally:
        gc.callbacks.remove(finalizer)
        TABLE.pop("collected", None)


def test_errors_of_the_step_come_through():
    with pytest.raises(ZeroDivisionError):
        traced(lambda u: u * (1 // 0))
