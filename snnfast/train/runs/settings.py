"""Settings of procedures: frozen dataclasses whose fields say what they are, check themselves and become options."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterable
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import Any, ClassVar, NamedTuple

from snnfast import check
from snnfast.data.own import is_own

from ..checkpoint import of_python

# How the help of an option names a user's own data.
SOURCES = "a file .npz or .pt, a folder with train/CLASS/* and test/CLASS/*, module:function, or a set of torchvision"


def option(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    flag: str | None = None,
    command: bool = True,
    own: bool = False,
) -> Any:
    """A field of settings.

    Args:
        default: the value of a run that does not name it; a dictionary is copied.
        help: what it is.
        choices: the only values allowed.
        least: the value is at least this, or every one of a tuple.
        most: at most this.
        above: larger than this.
        below: smaller than this.
        flag: name on the command line, where it is not the field's; several with spaces between them.
        command: whether the command line has it.
        own: besides ``choices`` it may name a user's own data; see :func:`snnfast.data.own.own_images`.
    """
    bounds = {"choices": choices, "least": least, "most": most, "above": above, "below": below}
    metadata = {"help": help, "flag": flag, "command": command, "own": own, **bounds}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Fields made by :func:`option`, checked when they are set; errors begin with ``name``.

    Raises:
        TypeError, ValueError: for a value of wrong type or range.
    """

    name: ClassVar[str]

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            kind = kind_of(type(self), one.name)
            if kind.several and isinstance(value, (list, tuple)):
                value = tuple(map(of_python, value))
            value = of_python(value)
            object.__setattr__(self, one.name, value)
            if value is None and kind.optional:
                continue
            if kind.several and not isinstance(value, tuple):
                raise TypeError(f"{self.name}: {one.name} must be a tuple, got {type(value).__name__}")
            if kind.length is not None and len(value) != kind.length:
                raise ValueError(f"{self.name}: {one.name} must be {kind.length} values, got {len(value)}: {value}")
            for item in value if kind.several else (value,):
                self._check(one, kind.item, item)

    def _check(self, one: Field[Any], kind: type, value: Any) -> None:
        limits, op, name = one.metadata, self.name, one.name
        self.check_choice(name, value)
        if kind is int:
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{op}: {name} must be an integer, got {type(value).__name__}")
            if not -(2**63) <= value < 2**63:
                raise ValueError(f"{op}: {name} must lie in [-2**63, 2**63), got {value}")
        elif kind is float:
            check.number(op, name, value)
        elif not isinstance(value, kind):
            raise TypeError(f"{op}: {name} must be a {kind.__name__}, got {type(value).__name__}")
        if kind not in (int, float):
            return
        if value <= limits["above"] or value < limits["least"]:
            least = f"more than {limits['above']:.15g}"
            if limits["least"] > -math.inf:
                least = f"at least {limits['least']:.15g}"
            raise ValueError(f"{op}: {name} must be {least}, got {value}")
        if value >= limits["below"] or value > limits["most"]:
            most = f"less than {limits['below']:.15g}"
            if limits["most"] < math.inf:
                most = f"at most {limits['most']:.15g}"
            raise ValueError(f"{op}: {name} must be {most}, got {value}")

    def _only(self, name: str, has_effect: bool, of: str, came: str) -> None:
        """Raises ValueError if a field that has no effect here is set."""
        if not has_effect and getattr(self, name) != self.default(name):
            raise ValueError(f"{self.name}: {name} is for {of}, got {came}")

    def plain(self) -> dict[str, Any]:
        """The values by name as a checkpoint keeps them: lists for tuples."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def check_names(cls, op: str, names: Iterable[str]) -> None:
        """Raises TypeError if one of ``names`` is not that of a field."""
        known = [one.name for one in fields(cls)]
        for name in names:
            if name not in known:
                raise TypeError(f"{op}: there is no setting {name!r}; known: {', '.join(known)}")

    @classmethod
    def check_choice(cls, name: str, value: Any) -> None:
        """Raises ValueError if a field has choices, and ``value`` is none of them."""
        metadata = cls.__dataclass_fields__[name].metadata
        choices = metadata["choices"]
        if not choices or value in choices or (metadata["own"] and is_own(value)):
            return
        own = ", or your own: a file .npz or .pt, a folder, module:function, a set of torchvision"
        raise ValueError(
            f"{cls.name}: {name} must be one of {', '.join(choices)}{own if metadata['own'] else ''}, got {value!r}"
        )

    @classmethod
    def default(cls, name: str) -> Any:
        """The value of a field that nobody sets."""
        one: Any = cls.__dataclass_fields__[name]
        return one.default_factory() if one.default is MISSING else one.default


class OptionType(NamedTuple):
    """Type of a field of settings.

    Attributes:
        item: the type of its value, or of those in its tuple.
        optional: whether it may be None.
        several: whether the field is a tuple.
        length: how many values the tuple must have; None for any number, and for no tuple.
    """

    item: type
    optional: bool
    several: bool
    length: int | None


def kind_of(settings: type[Options], name: str) -> OptionType:
    """Return the kind of a field, from its annotation."""
    annotation = typing.get_type_hints(settings)[name]
    optional = isinstance(annotation, types.UnionType)
    if optional:
        annotation = next(a for a in typing.get_args(annotation) if a is not type(None))
    several = typing.get_origin(annotation) is tuple
    items = typing.get_args(annotation) if several else (annotation,)
    length = len(items) if several and Ellipsis not in items else None
    return OptionType(typing.get_origin(items[0]) or items[0], optional, several, length)


@dataclass(frozen=True, kw_only=True)
class Settings(Options):
    """Settings that all procedures share. They determine the course of a run, and its result."""

    dataset: str = option("digits", "Data set.")
    epochs: int = option(20, "Passes over the training data.", least=0)
    seed: int = option(0, "Seed of all random numbers; the first one with --seeds.")
    validate: bool = option(False, "Hold out the validation part and score it instead of the test part.")

    @property
    def held_out(self) -> str:
        """The part that is scored: "validation" or "test"."""
        return "validation" if self.validate else "test"

    @property
    def splits(self) -> tuple[str, str]:
        """The splits of :func:`snnfast.data.load` to train on and to score."""
        return ("train", "val") if self.validate else ("train+val", "test")

    @property
    def learns_xor(self) -> bool:
        """Whether its runs learn the four patterns of XOR, and count the cycles until they know them."""
        return False


@dataclass(frozen=True, kw_only=True)
class FoldedSettings(Settings):
    """Settings of procedures for data sets so small that they are cross-validated."""

    folds: int | None = option(None, "Cross-validate on this many folds, cut anew for each seed.", least=2)
    fold: int = option(0, "The fold that is held out.", least=0, command=False)
    split_seed: int = option(0, "Seed of the folds.", command=False)

    @property
    def learns_xor(self) -> bool:
        """Whether its runs learn the four patterns of XOR, and count the cycles until they know them."""
        return self.dataset == "xor"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.folds is not None and self.fold >= self.folds:
            raise ValueError(f"{self.name}: fold must lie in [0, {self.folds}), got {self.fold}")
        if self.dataset == "mnist" and self.folds:
            raise ValueError(f"{self.name}: folds are for the data sets in the package, not for mnist")
