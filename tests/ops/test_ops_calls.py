"""An op's arguments: the fields of its call are those of its C++ operator, and every signature is that of its check."""

import ast
import importlib
import inspect
import itertools
import pkgutil
import re
import typing
from pathlib import Path
from typing import NamedTuple, get_type_hints

import pytest
import torch
from backends import PRESENT

import snnfast.reference
from snnfast import ops, reference
from snnfast.ops import neuron
from snnfast.reference.call import Changed, Parameter, Parameters, flatten, positions, prepare, schema, unflatten
from snnfast.reference.neuron_arguments import NEURONS as OF_NEURONS
from snnfast.reference.surrogate import SurrogateLike, resolve

PACKAGE = Path(snnfast.__file__).parent
OPS = sorted(name for name in ops.__all__ if name.islower())
MODULES = {
    m.name: importlib.import_module(f"snnfast.reference.{m.name}")
    for m in pkgutil.iter_modules(snnfast.reference.__path__)
}
CALLS = {
    stem: call
    for stem, module in MODULES.items()
    for name, call in vars(module).items()
    if name.endswith("Call") and hasattr(call, "_fields") and call.__module__ == module.__name__
} | {entry.call.__module__.rpartition(".")[2]: entry.call for entry in OF_NEURONS.values()}
needs_kernels = pytest.mark.skipif("cpu" not in PRESENT, reason="no CPU kernels")


def kernels(stem):
    """Return the arguments of an op's kernels by the suffix of their names; "_" marks in-place kernels."""
    found = {}
    for end in ("", "_", "_forward", "_backward"):
        if hasattr(torch.ops.snnfast, stem + end):
            kernel = getattr(torch.ops.snnfast, stem + end).default
            found[end] = described(kernel._schema)
    return found


def described(parsed):
    """Return name, type and mutability of each argument."""
    return [(a.name, str(a.type), bool(a.alias_info and a.alias_info.is_write)) for a in parsed.arguments]


def of_call(call):
    letters = itertools.count()
    arguments = re.sub(r"\(!\)", lambda _: f"(a{next(letters)}!)", schema(call))
    return described(torch._C.parse_schema(f"op({arguments}) -> ()"))


def checks(call):
    """Return the functions that make this call, by public op."""
    if found := {name: entry.check for name, entry in OF_NEURONS.items() if entry.call is call}:
        return found
    found = {name: getattr(reference, name).check for name in OPS if hasattr(getattr(reference, name), "check")}
    return {name: check for name, check in found.items() if call in returned(check)}


def returned(check):
    """Return the call types that a check returns: one, or one for each kind of synapses."""
    hint = get_type_hints(check)["return"]
    return typing.get_args(hint) or (hint,)


@needs_kernels
@pytest.mark.parametrize("stem", CALLS)
def test_fields_of_a_call_are_the_arguments_of_its_kernels(stem):
    """Names, types and their order agree for every kernel of the op."""
    found, fields = kernels(stem), of_call(CALLS[stem])
    assert found, f"torch.ops.snnfast has no kernel {stem}"
    for end, arguments in found.items():
        assert arguments[: len(fields)] == fields, stem + end
        if end != "_backward":
            more = ["checkpoint_every"] if "fires" in CALLS[stem]._fields else []
            assert [name for name, *_ in arguments[len(fields) :]] == more, stem + end


@needs_kernels
@pytest.mark.parametrize("op", OPS)
def test_every_op_with_a_kernel_has_a_call(op):
    """Only ops that have a call may have a file in ``snnfast/reference``."""
    check = getattr(getattr(ops, op), "check", None)
    if check is None:
        assert op not in MODULES, f"snnfast.ops.{op} does not take its arguments from its call"
        assert kernels(op), f"{op} has neither call nor kernel"
    else:
        if op in ("recurrent", "sparse_recurrent"):  # a call for each neuron: tests/ops/test_recurrent_registration.py
            return
        for call in returned(check):
            assert call in CALLS.values()
            assert op in checks(call)


BACKWARD = {
    stem: call
    for stem in CALLS
    if (PACKAGE / f"ops/{stem}.py").exists()
    for name, call in vars(importlib.import_module(f"snnfast.ops.{stem}")).items()
    if name == f"Backward{CALLS[stem].__name__}"
}


@needs_kernels
def test_every_backward_kernel_has_a_call():
    stems = {stem for stem in CALLS if (PACKAGE / f"ops/{stem}.py").exists()}
    # The kernels of these two take results of the forward pass instead of a call.
    assert set(BACKWARD) == {k for k in stems if "_backward" in kernels(k)} - {"pool2d", "spike_conv2d"}


@needs_kernels
@pytest.mark.parametrize("stem", BACKWARD)
def test_fields_of_a_backward_call_are_all_arguments_of_its_kernel(stem):
    assert of_call(BACKWARD[stem]) == kernels(stem)["_backward"]


@needs_kernels
@pytest.mark.parametrize("built_in", neuron.BUILT_IN.values(), ids=lambda kernel: kernel.stem)
def test_positions_of_a_neuron_s_tensors_are_those_of_its_kernels(built_in):
    fields, found = of_call(built_in.call), kernels(built_in.stem)
    names = [name for name, *_ in found["_backward"]]
    for arguments in found.values():
        assert arguments[: len(fields)] == fields
    assert [name for name, *_ in found["_forward"][len(fields) :]] == ["checkpoint_every"]
    assert len(fields) == built_in.size
    saved = ["spikes" if built_in.connections else "x_repeats"]
    grads = ["grad_spikes", *(f"grad_{names[place]}" for place in built_in.states), "grad_v_seq"]
    assert names[built_in.size :] == [*saved, "checkpoints", "checkpoint_every", "state_needed", *grads]
    returned = getattr(torch.ops.snnfast, built_in.backward).default._schema.returns
    assert [names[place] for place in built_in.results[:1]] == ["x"]
    assert len(built_in.results) == len(returned)


def test_every_call_serves_an_op():
    assert {op for call in CALLS.values() for op in checks(call)} <= set(OPS)
    stems = [call.__module__ for call in CALLS.values()]
    assert len(set(stems)) == len(stems)


@pytest.mark.parametrize("op", OPS)
def test_reference_has_the_signature_of_the_op(op):
    public = getattr(ops, op)
    assert inspect.signature(getattr(reference, op)) == inspect.signature(public)
    assert inspect.getdoc(getattr(reference, op))
    if hasattr(public, "check"):
        assert getattr(reference, op).check is public.check
        signature = inspect.signature(public.check)
        assert inspect.signature(public) == signature.replace(return_annotation=signature.empty)


# ---- from a call to plain arguments and back

TENSORS = itertools.count(1)


def tensor():
    return torch.full((1,), float(next(TENSORS)))


def values(hint):
    """Return values that a field of a call may have."""
    if hasattr(hint, "_fields"):
        yield from sample_calls(hint)
    elif hint == Parameter:
        yield from (0.25, tensor())
    elif hint == SurrogateLike:
        yield from (resolve("atan"), resolve("sigmoid"))
    elif getattr(hint, "__metadata__", None):
        yield from values(hint.__origin__)
    else:
        yield from {
            torch.Tensor: lambda: [tensor()],
            torch.Tensor | None: lambda: [None, tensor()],
            list[torch.Tensor]: lambda: [[tensor(), tensor()], []],
            bool: lambda: [True, False],
            int: lambda: [3, 2**40],
            float: lambda: [0.5, -2.0],
            float | None: lambda: [None, 1.5],
            torch.dtype: lambda: [torch.float64, torch.uint8],
            list[float]: lambda: [[0.5, 2.0], []],
            Parameters: lambda: [[0.5, 2.0], tensor()],
        }[hint]()


def sample_calls(call):
    """Return calls in which every field takes each of its values, one field at a time."""
    hints = get_type_hints(call, include_extras=True)
    several = {name: list(values(hints[name])) for name in call._fields}
    for k in range(max(map(len, several.values()))):
        yield call(**{name: found[k % len(found)] for name, found in several.items()})


def same(first, other):
    if isinstance(first, (tuple, list)):
        return len(first) == len(other) and all(map(same, first, other))
    return first is other if isinstance(first, torch.Tensor) else first == other


@pytest.mark.parametrize("stem", CALLS)
def test_a_call_survives_its_way_through_plain_arguments(stem):
    call, arguments = prepare(CALLS[stem]), of_call(CALLS[stem])
    for whole in sample_calls(call):
        flat = flatten(whole)
        assert len(flat) == len(arguments)
        assert not any(isinstance(a, tuple) for a in flat)
        assert same(unflatten(call, flat), whole)
        assert same(unflatten(call, [*flat, "more", "behind"]), whole)
        for name, position in positions(call).items():
            assert arguments[position][0].startswith(name)


class Part(NamedTuple):
    rate: float
    seeds: torch.Tensor | None


class Whole(NamedTuple):
    w: Changed
    part: Part
    tau: Parameter


def test_schema_of_a_call_with_parts_is_that_by_hand():
    assert schema(Whole) == ("Tensor(!) w, float part_rate, Tensor? part_seeds, float tau, Tensor? tau_tensor")
    whole = Whole(tensor(), Part(0.5, None), 2.0)
    assert same(flatten(whole), [whole.w, 0.5, None, 2.0, None])
    assert positions(Whole) == {"w": 0, "part": 1, "tau": 3}


# ---- no argument list by position


def written_by_calls():
    return [PACKAGE / f"ops/{stem}.py" for stem in MODULES if (PACKAGE / f"ops/{stem}.py").exists()]


@pytest.mark.parametrize("path", written_by_calls(), ids=lambda path: path.stem)
def test_no_argument_is_found_by_a_number(path):
    assert not list(counted(path.read_text())), path


ARGUMENTS = re.compile(r"flat|args|inputs|given|call|saved|wanted|ctx\.(flat|plain|call|needs_input_grad)")


def counted(source):
    """Return the places that index arguments by number: ``flat[0]``, ``flat[-1]``, ``flat[2:]``, ``flat[-3 - n]``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Subscript) and ARGUMENTS.fullmatch(ast.unparse(node.value)):
            inner = [n.value for n in ast.walk(node.slice) if isinstance(n, ast.Constant)]
            if any(type(value) is int for value in inner):
                yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize(
    "read", ["flat[0]", "flat[-1]", "flat[2:]", "flat[-3 - n]", "call[3:]", "ctx.needs_input_grad[1]"]
)
def test_an_argument_found_by_a_number_is_seen(read):
    assert list(counted(f"a = {read}")) == [f"line 1: {read}"]
    assert not list(counted("a = flat[at['x']], flat[place], call.x.shape[0], outputs[-1]"))
