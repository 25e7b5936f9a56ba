"""Conversion of calls to plain kernel arguments and back, and construction of public ops."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, NamedTuple, ParamSpec, Protocol, TypeVar, cast, get_type_hints

import torch
from torch import Tensor

from snnfast.check import refuse_unknown
from snnfast.reference.surrogate import Surrogate, SurrogateLike, numbered

Parameter = float | Tensor
Parameters = list[float] | Tensor  # numbers, or a tensor with a row of them for each network
Changed = Annotated[Tensor, "changed"]
OptionalChanged = Annotated[Tensor | None, "changed"]
ChangedList = Annotated[list[Tensor], "changed"]

P = ParamSpec("P")
C = TypeVar("C")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class FieldType(NamedTuple):
    """Conversion of a field of a call to plain kernel arguments, one or several.

    Attributes:
        schema: the argument in PyTorch's notation, with ``{}`` for the field's name.
        size: number of plain arguments.
        flat: converts a value of the field to plain arguments.
        value: converts plain arguments to a value.
    """

    schema: str
    size: int
    flat: Callable[[Any], Sequence[Any]]
    value: Callable[..., Any]


def _single(value: Any) -> tuple[Any]:
    return (value,)


def _unchanged(value: Any) -> Any:
    return value


def _parameter(value: Parameter) -> tuple[float, Tensor | None]:
    return (value, None) if type(value) is float or not isinstance(value, Tensor) else (0.0, value)


def _parameters(value: Parameters) -> tuple[list[float], Tensor | None]:
    return ([], value) if isinstance(value, Tensor) else (value, None)


def _surrogate(value: Surrogate) -> tuple[int, float]:
    return value.number, value.alpha


_KINDS: dict[Any, FieldType] = {
    **{
        hint: FieldType(f"{schema} {{}}", 1, _single, _unchanged)
        for hint, schema in {
            Tensor: "Tensor",
            Tensor | None: "Tensor?",
            list[Tensor]: "Tensor[]",
            Changed: "Tensor(!)",
            OptionalChanged: "Tensor(!)?",
            ChangedList: "Tensor(!)[]",
            torch.dtype: "ScalarType",
            bool: "bool",
            int: "int",
            float: "float",
            float | None: "float?",
            list[float]: "float[]",
        }.items()
    },
    Parameter: FieldType(
        "float {0}, Tensor? {0}_tensor", 2, _parameter, lambda number, tensor: number if tensor is None else tensor
    ),
    Parameters: FieldType(
        "float[] {0}, Tensor? {0}_tensor", 2, _parameters, lambda numbers, tensor: numbers if tensor is None else tensor
    ),
    SurrogateLike: FieldType("int {}, float alpha", 2, _surrogate, numbered),
}


def _nested(call: Any) -> FieldType:
    return FieldType(
        ", ".join(k.schema.format(f"{{0}}_{name}") for name, k in zip(call._fields, call.kinds)),
        sum(kind.size for kind in call.kinds),
        flatten,
        lambda *flat: unflatten(call, flat),
    )


def prepare(call: Any) -> Any:
    """Store the conversions of its fields as attributes of the class ``call``, once; return the class."""
    if "kinds" not in vars(call):
        hints = get_type_hints(call, include_extras=True)
        nested = {name for name in call._fields if hasattr(hints[name], "_fields")}
        call.kinds = tuple(
            _nested(prepare(hints[name])) if name in nested else _KINDS[hints[name]] for name in call._fields
        )
        several = [(position, kind.flat) for position, kind in enumerate(call.kinds) if kind.size != 1]
        call.several = tuple(reversed(several))  # from the last on, so that earlier positions stay valid
    return call


def extended(call: Any, name: str, fields: dict[str, Any]) -> Any:
    """Return a call type ``name`` with the fields of ``call``, then ``fields``, a type for each name."""
    hints = get_type_hints(call, include_extras=True)
    every = {field: hints[field] for field in call._fields} | fields
    longer = NamedTuple(name, list(every.items()))  # type: ignore[misc]
    longer.__module__ = call.__module__
    return prepare(longer)


def schema(call: Any) -> str:
    """Return the kernel arguments of a call in PyTorch's schema notation."""
    kinds = prepare(call).kinds
    return ", ".join(kind.schema.format(name) for name, kind in zip(call._fields, kinds))


def flatten(call: Any) -> list[Any]:
    """Return the plain kernel arguments of a call, in order."""
    flat = list(call)
    for position, as_several in call.several:
        value = flat[position]
        if type(value) is float:  # most parameters: saves a function call
            flat.insert(position + 1, None)
        else:
            flat[position : position + 1] = as_several(value)
    return flat


def unflatten(call: type[C], flat: Iterable[Any]) -> C:
    """Return the call of plain arguments; further arguments are ignored."""
    plain = iter(flat)
    return call(*(kind.value(*(next(plain) for _ in range(kind.size))) for kind in call.kinds))  # type: ignore[attr-defined]


def fields_of_kind(call: Any, hint: Any) -> tuple[str, ...]:
    """Return the names of the fields whose type is ``hint``."""
    kinds = prepare(call).kinds
    return tuple(name for name, kind in zip(call._fields, kinds) if kind is _KINDS[hint])


def positions(call: Any) -> dict[str, int]:
    """Return the position of the first plain argument of every field."""
    starts, position = {}, 0
    for name, kind in zip(call._fields, prepare(call).kinds):
        starts[name] = position
        position += kind.size
    return starts


class Op(Protocol[P, R_co]):
    """A public op: a function with the signature and the documentation of its check.

    Attributes:
        check: checks the arguments and returns the call.
        equation: the op in plain PyTorch, a function of the call; only of ops in ``snnfast.reference``.
    """

    __name__: str
    check: Callable[P, Any]
    equation: Callable[[Any], Any]

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Check the arguments and run the call."""


def public(check: Callable[P, C], run: Callable[[str, C], R], module: str) -> Op[P, R]:
    """Return the op of ``module`` that checks its arguments by ``check`` and returns ``run(name, call)``."""
    name = check.__name__
    call = get_type_hints(check)["return"]
    if hasattr(call, "_fields"):  # else the check returns one of several call types
        prepare(call)

    @functools.wraps(check)
    def op(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            checked = check(*args, **kwargs)
        except TypeError:
            refuse_unknown(name, check, kwargs)
            raise
        return run(name, checked)

    signature = inspect.signature(check)
    op.__dict__.pop("__wrapped__")
    op.__dict__["__signature__"] = signature.replace(return_annotation=signature.empty)
    op.__dict__["check"] = check
    op.__module__ = module
    return cast("Op[P, R]", op)


def public_op(reference: Op[P, Any]) -> Callable[[Callable[[str, Any], R]], Op[P, R]]:
    """Decorate a function of an op's name and call: make it the public op with the arguments of ``reference``."""
    return lambda run: public(reference.check, run, "snnfast.ops")


def reference_op(
    equation: Callable[[Any], Any], result_of: Callable[[Any, Any], Any] = lambda call, outputs: outputs
) -> Callable[[Callable[P, Any]], Op[P, Any]]:
    """Decorate a check, which returns a call: make it the op of ``snnfast.reference`` with ``equation``.

    The equation, in plain PyTorch, becomes an attribute of the op. ``result_of`` converts its outputs to the result.
    """

    def publish(check: Callable[P, Any]) -> Op[P, Any]:
        op = public(check, lambda name, call: result_of(call, equation(call)), "snnfast.reference")
        op.equation = equation
        return op

    return publish
