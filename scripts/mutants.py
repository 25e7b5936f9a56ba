"""Mutants by operators: every single change of an operator, a comparison or a number in a source file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# Operators that take each other's place; clang-format and ruff put spaces around them, and around no other use.
SWAPPED = {
    **{"+": "-", "-": "+", "*": "/", "/": "*"},
    **{"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="},
    **{"&&": "||", "||": "&&", "and": "or", "or": "and", "is": "is not", "is not": "is"},
}
_OPERATOR = re.compile(rf" (is not|{'|'.join(re.escape(o) for o in sorted(SWAPPED, key=len, reverse=True))}) ")
_NUMBER = re.compile(r"(?<![\w.])\d+(\.\d+)?(?![\w.])")
_C_SKIPPED = re.compile(
    r"//[^\n]*|/\*.*?\*/|\"[^\"\n]*\"|^ *#[^\n]*|static_assert\([^;]*;|template *<[^{;]*?>\n", re.M | re.S
)


class Mutant(NamedTuple):
    """A change of a file: ``old`` at position ``at`` becomes ``new``."""

    name: str
    offset: int
    old: str
    new: str


def mutants(path: str, text: str) -> list[Mutant]:
    """Return all mutants of a file in Python or C++."""
    skipped = _skipped_in_python(text) if path.endswith(".py") else [m.span() for m in _C_SKIPPED.finditer(text)]
    code = list(text)
    for begin, end in skipped:
        code[begin:end] = "~" * (end - begin)
    blank = "".join(code)
    found = [(match.start(1), match[1], SWAPPED[match[1]]) for match in _OPERATOR.finditer(blank)]
    found += [(m.start(), m[0], f"({m[0]} + 1)" if float(m[0]) else "1") for m in _NUMBER.finditer(blank)]
    return [Mutant(_name(path, text, offset, f"{old} => {new}"), offset, old, new) for offset, old, new in found]


def _name(path: str, text: str, offset: int, change: str) -> str:
    line = text.count("\n", 0, offset)
    return f"{path}:{line + 1}: {change} in {text.splitlines()[line].strip()}"


def _skipped_in_python(text: str) -> Iterator[tuple[int, int]]:
    """Yield the places of comments, strings, decorators, annotations and imports."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def place(node: ast.AST) -> tuple[int, int]:
        begin = starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
        return begin, starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]

    skipped_nodes = ast.Import | ast.ImportFrom | ast.Raise | ast.Assert | ast.JoinedStr
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, skipped_nodes) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)):
            yield place(node)
        elif isinstance(node, ast.FunctionDef):
            yield from map(place, node.decorator_list)
            yield from (place(node.returns),) if node.returns else ()
        elif isinstance(node, ast.arg | ast.AnnAssign) and node.annotation:
            yield place(node.annotation)
    yield from (match.span() for match in re.finditer(r"(?m)^ *#[^\n]*|  # [^\n]*", text))


# Tests of files that have none of their name, or whose tests stand elsewhere, too, by names of test files.
ELSEWHERE = {
    **{"arena": ("spikeprop", "stdp"), "autocast": ("spike_linear", "spike_conv2d")},
    **{"call": ("ops_calls",), "diehl_cook_arguments": ("diehl_cook",), "eager": ("own_neuron",)},
    **{"exp": ("lif", "eif"), "functions": ("own_neuron",), "networks": ("diehl_cook_networks", "bp_stdp_networks")},
    **{"noise": ("sparse_recurrent_noise",), "philox": ("poisson",), "plasticity": ("stdp",)},
    **{"pow": ("stdp",), "presentations": ("diehl_cook", "bp_stdp_network"), "recurrent": ("sparse_recurrent",)},
    **{"spike_events": ("sparse_recurrent_events",), "surrogate": ("lif", "eif")},
}
NEURONS = ("lif", "cuba", "adlif", "recurrent", "stdp")  # tests of what all share


def tests_of(path: str, root: Path) -> tuple[str, ...]:
    """Return the test files for a file of ``core``, ``reference`` or ``compiler``, by its name."""
    stem = Path(path).stem
    found = [file for name in (stem, *ELSEWHERE.get(stem, ())) for file in _tests_named(name, root)]
    if "compiler" in path:
        found += [
            *sorted((root / "tests" / "compiler").glob("test_*.py")),
            *(root / "tests" / "ops").glob("test_own_*.py"),
        ]
    if not found:
        found = [root / "tests" / "ops" / f"test_{op}.py" for op in NEURONS]
    names = dict.fromkeys(str(file.relative_to(root)) for file in found)
    return tuple(name for name in names if "build_flags" not in name)  # needs a whole build


def _tests_named(name: str, root: Path) -> list[Path]:
    """Return ``test_NAME.py``, ``test_NAME_TOPIC.py`` and those of the plural."""
    return sorted(
        file for file in (root / "tests").rglob(f"test_{name}*.py") if re.match(rf"test_{name}s?[._]", file.name)
    )
