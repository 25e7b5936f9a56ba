"""From a call to the plain arguments of its kernel and back; from a check and an implementation to a public op."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, NamedTuple, ParamSpec, Protocol, TypeVar, cast, get_type_hints

import torch
from torch import Tensor

from snnfast.reference.surrogate import Surrogate, SurrogateLike, numbered

Parameter = float | Tensor
Parameters = list[float] | Tensor  # some numbers, or as many for each of several networks
Changed = Annotated[Tensor, "changed"]
OptionalChanged = Annotated[Tensor | None, "changed"]
ChangedList = Annotated[list[Tensor], "changed"]

P = ParamSpec("P")
C = TypeVar("C")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class FieldType(NamedTuple):
    """How a field of a call is handed to a kernel: as one plain argument or several.

    Attributes:
        schema: the argument in PyTorch's notation, with ``{}`` for the field's name.
        size: how many plain arguments.
        flat: a value of the field as plain arguments.
        value: the value of plain arguments.
    """

    schema: str
    size: int
    flat: Callable[[Any], Sequence[Any]]
    value: Callable[..., Any]


def _one(value: Any) -> tuple[Any]:
    return (value,)


def _same(value: Any) -> Any:
    return value


def _parameter(value: Parameter) -> tuple[float, Tensor | None]:
    return (value, None) if type(value) is float or not isinstance(value, Tensor) else (0.0, value)


def _parameters(value: Parameters) -> tuple[list[float], Tensor | None]:
    return ([], value) if isinstance(value, Tensor) else (value, None)


def _surrogate(value: Surrogate) -> tuple[int, float]:
    return value.number, value.alpha


_KINDS: dict[Any, FieldType] = {
    **{
        hint: FieldType(f"{schema} {{}}", 1, _one, _same)
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
    """Looks up once, as attributes of the class ``call``, how its fields are handed to a kernel; returns the class."""
    if "kinds" not in vars(call):
        hints = get_type_hints(call, include_extras=True)
        nested = {name for name in call._fields if hasattr(hints[name], "_fields")}
        call.kinds = tuple(
            _nested(prepare(hints[name])) if name in nested else _KINDS[hints[name]] for name in call._fields
        )
        several = [(place, kind.flat) for place, kind in enumerate(call.kinds) if kind.size != 1]
        call.several = tuple(reversed(several))  # from the last on, so that places stay
    return call


def extended(call: Any, name: str, fields: dict[str, Any]) -> Any:
    """The type ``name`` of a call that has the fields of ``call``, then ``fields``, a type for each name."""
    hints = get_type_hints(call, include_extras=True)
    every = {field: hints[field] for field in call._fields} | fields
    longer = NamedTuple(name, list(every.items()))  # type: ignore[misc]
    longer.__module__ = call.__module__
    return prepare(longer)


def schema(call: Any) -> str:
    """The arguments of a call's kernel in PyTorch's notation."""
    kinds = prepare(call).kinds
    return ", ".join(kind.schema.format(name) for name, kind in zip(call._fields, kinds))


def flatten(call: Any) -> list[Any]:
    """The plain arguments of a call's kernel, in order."""
    flat = list(call)
    for place, as_several in call.several:
        value = flat[place]
        if type(value) is float:  # a parameter, as most are: no call
            flat.insert(place + 1, None)
        else:
            flat[place : place + 1] = as_several(value)
    return flat


def unflatten(call: type[C], flat: Iterable[Any]) -> C:
    """The call of plain arguments; what comes after them is left alone."""
    plain = iter(flat)
    return call(*(kind.value(*(next(plain) for _ in range(kind.size))) for kind in call.kinds))  # type: ignore[attr-defined]


def fields_of_kind(call: Any, hint: Any) -> tuple[str, ...]:
    """The names of the fields whose type is ``hint``."""
    kinds = prepare(call).kinds
    return tuple(name for name, kind in zip(call._fields, kinds) if kind is _KINDS[hint])


def positions(call: Any) -> dict[str, int]:
    """Where a field's first plain argument stands."""
    starts, position = {}, 0
    for name, kind in zip(call._fields, prepare(call).kinds):
        starts[name] = position
        position += kind.size
    return starts


class Op(Protocol[P, R_co]):
    """A public op: a function with the signature and the documentation of its check.

    Attributes:
        check: checks the arguments and returns the call.
        equation: the op in plain PyTorch, a function of the call; of ops in ``snnfast.reference``.
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
    if hasattr(call, "_fields"):  # else one of several calls
        prepare(call)

    @functools.wraps(check)
    def op(*args: P.args, **kwargs: P.kwargs) -> R:
        return run(name, check(*args, **kwargs))

    signature = inspect.signature(check)
    op.__dict__.pop("__wrapped__")
    op.__dict__["__signature__"] = signature.replace(return_annotation=signature.empty)
    op.__dict__["check"] = check
    op.__module__ = module
    return cast("Op[P, R]", op)


def public_op(reference: Op[P, Any]) -> Callable[[Callable[[str, Any], R]], Op[P, R]]:
    """Makes a function of an op's name and call the public op beside ``reference``, with its arguments."""
    return lambda run: public(reference.check, run, "snnfast.ops")


def reference_op(
    equation: Callable[[Any], Any], result_of: Callable[[Any, Any], Any] = lambda call, outputs: outputs
) -> Callable[[Callable[P, Any]], Op[P, Any]]:
    """Makes a check, which returns a call, the public op of ``snnfast.reference`` by ``equation``, in plain PyTorch.

    The op keeps the equation as an attribute. ``result_of`` makes what the op returns of what the equation gives.
    """

    def publish(check: Callable[P, Any]) -> Op[P, Any]:
        op = public(check, lambda name, call: result_of(call, equation(call)), "snnfast.reference")
        op.equation = equation
        return op

    return publish
