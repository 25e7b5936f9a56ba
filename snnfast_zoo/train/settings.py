"""Settings of procedures: frozen dataclasses whose fields are documented, checked and turned into command options."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterable
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import Any, ClassVar, NamedTuple

from snnfast import check
from snnfast_zoo.data.own import is_own, label_of

from .checkpoint import of_python

# How the help of an option names a user's own data.
SOURCES = "a file .npz or .pt, a folder of classes (or of train/ and test/), module:function, or a set of torchvision"


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
    user_data: bool = False,
) -> Any:
    """A field of settings.

    Args:
        default: the default value; a dictionary is copied.
        help: documentation of the field.
        choices: the only values allowed.
        least: smallest value allowed, also for every item of a tuple.
        most: largest value allowed.
        above: the value must be larger.
        below: the value must be smaller.
        flag: name on the command line, where it differs from the field; several, separated by spaces.
        command: whether the field is an option of the command line.
        user_data: allow a user's data besides ``choices``; see :func:`snnfast_zoo.data.own.own_images`.
    """
    bounds = {"choices": choices, "least": least, "most": most, "above": above, "below": below}
    metadata = {"help": help, "flag": flag, "command": command, "user_data": user_data, **bounds}
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
        for setting in fields(self):
            value = getattr(self, setting.name)
            kind = kind_of(type(self), setting.name)
            if kind.several and isinstance(value, (list, tuple)):
                value = tuple(map(of_python, value))
            value = of_python(value)
            object.__setattr__(self, setting.name, value)
            if value is None and kind.optional:
                continue
            if kind.several and not isinstance(value, tuple):
                raise TypeError(f"{self.name}: {setting.name} must be a tuple, got {type(value).__name__}")
            if kind.length is not None and len(value) != kind.length:
                raise ValueError(f"{self.name}: {setting.name} must be {kind.length} values, got {len(value)}: {value}")
            for item in value if kind.several else (value,):
                self._check(setting, kind.item, item)

    def _check(self, setting: Field[Any], kind: type, value: Any) -> None:
        limits, op, name = setting.metadata, self.name, setting.name
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

    def _only(self, name: str, has_effect: bool, purpose: str, came: str) -> None:
        """Raise ValueError if a field is set that has no effect with these settings."""
        if not has_effect and getattr(self, name) != self.default(name):
            raise ValueError(f"{self.name}: {name} is for {purpose}, got {came}")

    def plain(self) -> dict[str, Any]:
        """Return the values by name as a checkpoint stores them: lists for tuples."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def check_names(cls, op: str, names: Iterable[str]) -> None:
        """Raise TypeError if one of ``names`` is not that of a field."""
        known = [setting.name for setting in fields(cls)]
        for name in names:
            if name not in known:
                hint = check.suggestion(name, known)
                raise TypeError(f"{op}: there is no setting {name!r}; known: {', '.join(known)}{hint}")

    @classmethod
    def check_choice(cls, name: str, value: Any) -> None:
        """Raise ValueError if a field has choices, and ``value`` is none of them."""
        metadata = cls.__dataclass_fields__[name].metadata
        choices = metadata["choices"]
        if choices and not isinstance(value, str):
            saved = "; save arrays in a file: np.savez('mine.npz', images=images, labels=labels)"
            raise TypeError(
                f"{cls.name}: {name} must be a name{saved if metadata['user_data'] else ''}, got {check.kind(value)}"
            )
        if not choices or value in choices or (metadata["user_data"] and is_own(value)):
            return
        hint = ""
        if metadata["user_data"]:
            hint = ", or your own: a file .npz or .pt, a folder, module:function, a set of torchvision"
        nearest = check.suggestion(value, choices)
        raise ValueError(f"{cls.name}: {name} must be one of {', '.join(choices)}{hint}, got {value!r}{nearest}")

    @classmethod
    def default(cls, name: str) -> Any:
        """Return the default value of a field."""
        setting: Any = cls.__dataclass_fields__[name]
        return setting.default_factory() if setting.default is MISSING else setting.default


class OptionType(NamedTuple):
    """Type of a field of settings.

    Attributes:
        item: type of the value, or of the items of a tuple.
        optional: whether it may be None.
        several: whether the field is a tuple.
        length: length of the tuple; None for any length, and for other fields.
    """

    item: type
    optional: bool
    several: bool
    length: int | None


def kind_of(settings: type[Options], name: str) -> OptionType:
    """Return the type of a field, from its annotation."""
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
    """Settings that all procedures share. They determine a run and its result."""

    dataset: str = option("digits", "Data set.")
    epochs: int = option(20, "Passes over the training data.", least=0)
    seed: int = option(0, "Seed of all random numbers; the first one with --seeds.")
    validate: bool = option(False, "Hold out the validation part and score it instead of the test part.")

    @property
    def held_out(self) -> str:
        """Name of the scored part: "validation" or "test"."""
        return "validation" if self.validate else "test"

    @property
    def splits(self) -> tuple[str, str]:
        """Names of the splits of :func:`snnfast.data.load` to train on and to score."""
        return ("train", "val") if self.validate else ("train+val", "test")

    @property
    def label(self) -> str:
        """Name of the data set in titles and folders."""
        return label_of(self.dataset)

    @property
    def is_own(self) -> bool:
        """Whether the data set is a user's, for which there is no published setting."""
        choices = type(self).__dataclass_fields__["dataset"].metadata["choices"]
        return bool(choices) and self.dataset not in choices

    @property
    def learns_xor(self) -> bool:
        """Whether a run learns the four patterns of XOR, and counts the cycles until all are correct."""
        return False


@dataclass(frozen=True, kw_only=True)
class FoldedSettings(Settings):
    """Settings of procedures for small data sets, which may be cross-validated."""

    folds: int | None = option(None, "Cross-validate on this many folds, cut anew for each seed.", least=2)
    fold: int = option(0, "The fold that is held out.", least=0, command=False)
    split_seed: int = option(0, "Seed of the folds.", command=False)

    @property
    def learns_xor(self) -> bool:
        """Whether a run learns the four patterns of XOR, and counts the cycles until all are correct."""
        return self.dataset == "xor"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.folds is not None and self.fold >= self.folds:
            raise ValueError(f"{self.name}: fold must lie in [0, {self.folds}), got {self.fold}")
        if self.dataset == "mnist" and self.folds:
            raise ValueError(f"{self.name}: folds are for the data sets in the package, not for mnist")
