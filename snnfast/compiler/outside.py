"""Values that a step reads from outside: a kernel is compiled for them, and they are compared before it runs."""

from __future__ import annotations

import contextvars
import dis
import functools
import gc
import inspect
import math
import operator
import os
import random
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from .expression import TraceError
from .value import Value

__all__ = ["Read", "hold", "names_of_numbers", "observed"]

T = TypeVar("T")
MOST = 256  # entries of a container that a step reads

_PACKAGE = Path(__file__).parents[1]
# Code that reads nothing of the user's: what it gets from a step is part of the call.
_OURS = (
    *(str(_PACKAGE / name) for name in ("compiler", "reference", "ops", "backend", "check.py")),
    str(Path(torch.__file__).parent),
)
_PYTHONS = (str(Path(os.__file__).parent), "<frozen")
_INSTALLED = ("site-packages", "dist-packages")
_RANDOM = ("rand", "bernoulli", "normal", "multinomial", "poisson")
_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype)


class Read(NamedTuple):
    """One value from outside: ``read(key)`` was ``expected`` when the step was traced; ``name`` is for errors."""

    read: Callable[[Any], Any]
    key: Any
    expected: Any
    name: str


def hold(reads: Sequence[Read]) -> bool:
    """Return whether all values are those of the trace."""
    return _changed(reads) is None


def names_of_numbers(reads: Sequence[Read]) -> list[str]:
    """Return the names of numbers, and of what holds numbers; not of functions and classes."""
    return list(dict.fromkeys(entry.name for entry in reads if _has_number(entry.expected)))


def _has_number(value: Any) -> bool:
    return any(map(_has_number, value)) if isinstance(value, (tuple, list)) else isinstance(value, (int, float))


def _changed(reads: Sequence[Read]) -> Read | None:
    for entry in reads:
        try:
            found = entry[0](entry[1])
        except (AttributeError, LookupError, RuntimeError, ValueError):
            return entry
        if found is not entry[2] and not _same(found, entry[2]):
            return entry
    return None


def _same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (a == b and math.copysign(1, a) == math.copysign(1, b)) or (a != a and b != b)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(x is y or _same(x, y) for x, y in zip(a, b))
    return isinstance(a, (*_PLAIN, frozenset, MethodType)) and a == b


def observed(name: str, run: Callable[[], T], *roots: Any) -> tuple[T, tuple[Read, ...]]:
    """Return ``run()`` and what it read from outside.

    It runs in a thread of its own, where no mode of PyTorch (``no_grad``, ``vmap``, a device) is that of the caller.

    Args:
        name: the step, for errors.
        run: traces a step.
        roots: the functions that it traces.

    Raises:
        TraceError: it read what cannot be compared, or changed what it read.
    """
    watch = _Watch(name, roots)
    found: list[T] = []
    errors: list[BaseException] = []

    def target() -> None:
        sys.setprofile(watch.profile)
        try:
            found.append(run())
        except BaseException as error:
            errors.append(error)
        finally:
            sys.setprofile(None)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(target,))
    collects = gc.isenabled()
    gc.disable()  # its callbacks and finalizers would run in the trace
    try:
        thread.start()
        thread.join()
    finally:
        if collects:
            gc.enable()
    if errors:
        raise errors[0]
    if watch.refused:
        raise TraceError(watch.refused)
    reads = tuple(watch.reads.values())
    changed = _changed(reads)
    if changed is not None:
        raise TraceError(
            f"{name}: the step changes {changed.name}, which it reads: a kernel runs its code once, not at every step. "
            "Make it a state, or give compile=False, which runs plain PyTorch"
        )
    return found[0], reads


class _Names(NamedTuple):
    """Names in the code of a function: of globals, of modules that it imports, and of attributes."""

    of_globals: tuple[str, ...]
    modules: tuple[str, ...]
    attributes: frozenset[str]


@functools.lru_cache(1024)
def _names(code: CodeType) -> _Names:
    found = list(dis.get_instructions(code))
    by_global = {i.argval for i in found if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    modules = {i.argval for i in found if i.opname == "IMPORT_NAME"}
    texts = {c for c in code.co_consts if isinstance(c, str) and c.isidentifier()}  # of getattr
    return _Names(tuple(by_global), tuple(modules), frozenset(code.co_names) | texts)


class _Watch:
    """Profile function that collects what the code of a user reads from outside."""

    def __init__(self, step: str, roots: Sequence[Any]) -> None:
        self.step = step
        self.reads: dict[Any, Read] = {}
        self.refused = ""
        self._walked: set[Any] = set()
        self._functions: dict[CodeType, list[FunctionType]] = {}
        self._known: dict[int, Any] = {}  # objects from outside by id; others are made by the step
        for root in roots:
            self._walk(root, frozenset())

    def profile(self, frame: FrameType, event: str, argument: Any) -> None:
        path = frame.f_code.co_filename
        if _is_ours(path):
            return
        if event == "c_call":
            self._called(argument)
        elif event == "call" and _is_users(path):
            self._entered(frame)
        elif (
            event == "return"
            and id(argument) in self._known
            and frame.f_back
            and _is_users(frame.f_back.f_code.co_filename)
        ):
            self._walk(argument, _names(frame.f_back.f_code).attributes)

    def _called(self, function: Any) -> None:
        owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
        is_torch = isinstance(owner, Tensor) or function is getattr(torch, name, None)
        is_numpy = str(type(owner).__module__).startswith("numpy.random")
        if isinstance(owner, random.Random) or is_numpy or (is_torch and name.startswith(_RANDOM)):
            self.refused = self.refused or (
                f"{self.step}: {name} draws a random number in the step, which a kernel would draw once; make it an "
                "input of the step (inputs=2), or give compile=False, which runs plain PyTorch"
            )

    def _entered(self, frame: FrameType) -> None:
        code, space = frame.f_code, frame.f_globals
        if str(space.get("__name__")).startswith("namedtuple_"):  # of a NamedTuple, which any code may make
            return
        names = _names(code)
        for name in names.of_globals:
            if name in space and not isinstance(space[name], ModuleType):
                self._read(space.get, name, space[name], f"the global {name}", (id(space), name))
            self._walk(space.get(name), names.attributes)
        for name in names.modules:
            self._walk(sys.modules.get(name), names.attributes)
        for cell in self._cells(frame):
            value = cell.cell_contents
            self._read(_CONTENTS, cell, value, f"a variable of the function around {code.co_name}", id(cell))
            self._walk(value, names.attributes)
        by_user = frame.f_back is not None and _is_users(frame.f_back.f_code.co_filename)
        count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4) + bool(code.co_flags & 8)
        for name in code.co_varnames[:count]:
            value = frame.f_locals.get(name)
            if isinstance(value, (*_PLAIN, Value)):
                continue
            if not by_user or id(value) in self._known or self._is_default(code, value):
                self._walk(value, names.attributes)

    def _is_default(self, code: CodeType, value: Any) -> bool:
        defaults = ((*(f.__defaults__ or ()), *(f.__kwdefaults__ or {}).values()) for f in self._functions_of(code))
        return any(value is default for those in defaults for default in those)

    def _cells(self, frame: FrameType) -> list[Any]:
        """Return the cells that the frame reads, and those of functions with the same code and values.

        The variables of functions that are running, which called it, are no cells from outside.
        """
        code, above = frame.f_code, frame.f_back
        free = {name for name in code.co_freevars if name != "__class__" and name in frame.f_locals}
        while above is not None and free:
            free -= {name for name in above.f_code.co_cellvars if name in free and name in above.f_locals}
            above = above.f_back
        found = []
        for function in self._functions_of(code) if free else ():
            cells = dict(zip(code.co_freevars, function.__closure__ or ()))
            if all(_holds(cells[name], frame.f_locals[name]) for name in free):
                found += [cells[name] for name in free]
        return found

    def _functions_of(self, code: CodeType) -> list[FunctionType]:
        if code not in self._functions:  # slow, for functions that were not met on the way
            every = gc.get_referrers(code)
            self._functions[code] = [f for f in every if isinstance(f, FunctionType) and f.__code__ is code]
        return self._functions[code]

    def _read(self, read: Callable[[Any], Any], key: Any, expected: Any, name: str, place: Any) -> None:
        self.reads.setdefault(place, Read(read, key, expected, name))

    def _walk(self, value: Any, names: frozenset[str]) -> None:
        """Read the entries of a container, and the attributes of an object that stand in ``names``."""
        kind = type(value)
        for raw in vars(value).values() if isinstance(value, type) else (value,):
            function = getattr(raw, "__func__", raw)  # of a method or a staticmethod
            if isinstance(function, FunctionType):
                self._functions.setdefault(function.__code__, []).append(function)
        if isinstance(value, (*_PLAIN, FunctionType, Value)) or (id(value), names) in self._walked:
            return
        self._walked.add((id(value), names))
        self._known[id(value)] = value
        if isinstance(value, MethodType):
            self._walk(value.__self__, names)
        elif isinstance(value, functools.partial):
            self._walk((value.func, *value.args, *value.keywords.values()), names)
        elif isinstance(value, (Tensor, *_arrays())):
            self._read(_of_tensor, value, _of_tensor(value), f"a {kind.__name__}", id(value))
        elif isinstance(value, (tuple, list, deque, set, frozenset, dict)):
            self._entries(value, names)
        elif isinstance(value, ModuleType):
            if getattr(value, "__file__", None) and _is_users(value.__file__ or ""):
                self._attributes(value, names)
        elif not (value if isinstance(value, type) else kind).__module__.startswith(("torch.", "snnfast.compiler")):
            self._attributes(value, names)

    def _entries(self, value: Any, names: frozenset[str]) -> None:
        snapshot = _SNAPSHOTS.get(type(value), tuple)
        entries = snapshot(value)
        inside = [e for pair in entries for e in pair] if isinstance(value, dict) else list(entries)
        if len(inside) > 2 * MOST and any(isinstance(e, _PLAIN) for e in inside):
            self.refused = self.refused or (
                f"{self.step}: the step reads from a {type(value).__name__} of {len(value)} entries outside, and a "
                f"kernel is compiled for at most {MOST}; take out what it needs, or make it a "
                "parameter of the step, by keyword"
            )
            return
        if not isinstance(value, (tuple, frozenset)):
            self._read(snapshot, value, entries, f"a {type(value).__name__}", id(value))
        for entry in inside:
            self._walk(entry, names)

    def _attributes(self, value: Any, names: frozenset[str]) -> None:
        fields = getattr(value, "__dict__", {})
        learned: set[str] = set()
        if isinstance(value, nn.Module):
            learned = {*value._parameters, *value._buffers, *value._modules}
        for name in names:
            raw = inspect.getattr_static(value, name, _MISSING)
            if name not in learned and (raw is _MISSING or (name not in fields and _computes(raw))):
                continue
            found = getattr(value, name, _MISSING)
            if found is _MISSING:
                continue
            self._read(operator.attrgetter(name), value, found, f"the attribute {name}", (id(value), name))
            self._walk(found, names)


_MISSING = object()
_CONTENTS = operator.attrgetter("cell_contents")


def _items(value: dict[Any, Any]) -> tuple[Any, ...]:
    return tuple(value.items())


_SNAPSHOTS: dict[type, Callable[[Any], Any]] = {dict: _items, set: frozenset}


def _computes(raw: Any) -> bool:
    """Return whether an attribute of a class is a method or a property, whose code is watched when it runs."""
    return hasattr(type(raw), "__get__") and not inspect.ismemberdescriptor(raw)


def _arrays() -> tuple[type, ...]:
    numpy = sys.modules.get("numpy")
    return () if numpy is None else (numpy.ndarray,)


def _of_tensor(value: Any) -> Any:
    """Return the numbers of a small tensor or array, and the number of changes of a large one."""
    if math.prod(value.shape) <= MOST and (type(value) in (Tensor, nn.Parameter) or not isinstance(value, Tensor)):
        return value.tolist()
    return value._version if isinstance(value, Tensor) else value.tobytes()


@functools.lru_cache(4096)
def _is_ours(path: str) -> bool:
    return path.startswith(_OURS)


@functools.lru_cache(4096)
def _is_users(path: str) -> bool:
    installed = any(name in path for name in _INSTALLED)
    return not _is_ours(path) and (installed or not path.startswith(_PYTHONS))


def _holds(cell: Any, value: Any) -> bool:
    try:
        return cell.cell_contents is value
    except ValueError:  # not yet assigned
        return False
