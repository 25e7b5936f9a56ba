"""Statistics of the repository: size, imports, prose, and durations of .ci/run.

python scripts/house.py            a table
python scripts/house.py --list     and the places behind each number that must be 0
"""

from __future__ import annotations

import argparse
import ast
import functools
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIBRARY, ZOO = ROOT / "snnfast", ROOT / "snnfast_zoo"
SECONDS = ROOT / "build/ci-seconds.txt"  # .ci/run leaves it
CPP = {".h", ".cpp", ".cu", ".cuh", ".in"}
BINARY = {".json", ".npz", ".pt", ".png", ".svg", ".ico"}
PRONOUNS = {"of", "own", "each", "given", "kept", "now"}
# In tests they may stand: `whole` and `parts` are two runs of the same.
VAGUE = {"at", "by", "whole", "near", "beside", "fits", "looks", "silence"}


def files() -> list[Path]:
    """Return all tracked files, and untracked files that git does not ignore."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in names.splitlines() if (path := ROOT / name).is_file()]


@functools.cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a Python file, read once."""
    return ast.parse(path.read_text())


def lines_by_room(paths: list[Path]) -> Counter[str]:
    """Count the lines of each folder, and of each folder of the package; without JSON, pictures and weights."""
    rooms: Counter[str] = Counter()
    for path in paths:
        if path.suffix not in BINARY:
            first, *rest = path.relative_to(ROOT).parts
            inside = first in (LIBRARY.name, ZOO.name) and len(rest) > 1
            room = f"{first}/{rest[0]}" if inside else first if rest else "top level"
            rooms[room] += len(path.read_text(errors="replace").splitlines())
    return rooms


def modules() -> dict[str, Path]:
    """Return every module of both packages by name."""
    found = {}
    for path in (*LIBRARY.rglob("*.py"), *ZOO.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(name: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Yield the modules that ``name`` imports: at its top, for types, and in functions."""
    own_parts = name.split(".")
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            keep = len(own_parts) + (path.name == "__init__.py") - node.level
            base = own_parts[:keep] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            targets = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            parts = target.split(".")
            ends = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
            yield from [n for n in ends if n in known and n not in (name, LIBRARY.name, ZOO.name)][:1]


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return groups of modules that import one another, directly or indirectly."""
    reached = {}
    for start in graph:
        seen: set[str] = set()
        todo = [start]
        while todo:
            new = graph[todo.pop()] - seen
            seen |= new
            todo += new
        reached[start] = seen
    found = {frozenset(b for b in reached[a] if a in reached[b]) for a in graph if a in reached[a]}
    return sorted(sorted(circle) for circle in found)


def rooms(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the imports between rooms: folders and loose modules of the packages, except those that only re-export."""
    found: dict[str, set[str]] = {}
    no_rooms = {"", *re_exports()}
    for name, imports in graph.items():
        room = room_of(name)
        if room not in no_rooms:
            found.setdefault(room, set()).update(room_of(other) for other in imports)
    return {room: others - {room, *no_rooms} for room, others in found.items()}


def room_of(name: str) -> str:
    """Return ``nn`` for ``snnfast.nn.lif``, ``zoo.papers`` for ``snnfast_zoo.papers.wu2018``."""
    package, _, rest = name.partition(".")
    room = rest.split(".")[0]
    return f"zoo.{room}" if room and package == ZOO.name else room


def re_exports() -> set[str]:
    """Return loose modules that only import: older paths, and those of n3ml's manual."""
    found = {"__main__"}
    for path in LIBRARY.glob("*.py"):
        body = parsed(path).body[1:]
        if body and all(isinstance(node, ast.ImportFrom) for node in body):
            found.add(path.stem)
    return found


def levels(graph: dict[str, set[str]]) -> list[list[str]]:
    """Sort rooms into levels, lowest first; a room imports only rooms of lower levels."""
    found: list[list[str]] = []
    done: set[str] = set()
    while level := sorted(r for r, others in graph.items() if r not in done and others <= done):
        found.append(level)
        done.update(level)
    return found


def riddles(paths: list[Path]) -> list[str]:
    """Return docstrings, and comments in C++ and in the package, that begin with a relative clause."""
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in paths
        if path.suffix in CPP or ({LIBRARY, ZOO} & set(path.parents) and path.suffix == ".py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.match(r"\s*(//|#) (What|That of|Those of)\b", line)
    ]
    for path in (path for path in paths if path.suffix == ".py"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                text = ast.get_docstring(node) or ""
                if re.match(r"(What|That of|Those of)\b", text):
                    found.append(f"{path.relative_to(ROOT)}: {text.splitlines()[0]}")
    return found


def pronouns(paths: list[Path]) -> list[str]:
    """Variables, arguments, attributes, functions and classes of Python that have a pronoun or the like as a name."""
    found = []
    for path in (path for path in paths if path.suffix == ".py"):
        refused = PRONOUNS if path.is_relative_to(ROOT / "tests") else PRONOUNS | VAGUE
        for node in ast.walk(parsed(path)):
            match node:
                case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                    pass
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                    pass
                case _:
                    continue
            if name.strip("_").lower() in refused:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {name}")
    return found


def long_lines(paths: list[Path], suffixes: set[str], limit: int) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}"
        for path in paths
        if path.suffix in suffixes
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > limit
    ]


def long_prose(paths: list[Path]) -> list[str]:
    """Return Markdown lines over 120 columns, except tables, headings, links and code, which cannot be wrapped."""
    found = []
    for path in (p for p in paths if p.suffix == ".md"):
        fence = ""
        for number, line in enumerate(path.read_text().splitlines(), 1):
            mark = re.match(r" *(`{3,}|~{3,}|[$]{2})", line)
            if mark and not fence:
                fence = mark[1] if line.count(mark[1]) == 1 else ""
            elif fence:
                fence = "" if line.strip() == fence else fence
            elif len(line) > 120 and not re.match(r" *([|#<]|\[.*\]: |:\w+:|!?\[.*\)$)", line):
                found.append(f"{path.relative_to(ROOT)}:{number}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--list", action="store_true", help="the places, too")
    places = parser.parse_args().list
    paths = files()
    sizes = lines_by_room(paths)
    for room, lines in sorted(sizes.items()):
        print(f"{lines:8,}  {room}")
    for package in (LIBRARY.name, ZOO.name):
        lines = sum(lines for room, lines in sizes.items() if room.split("/")[0] == package)
        print(f"{lines:8,}  lines of {package}")
    print(f"{sizes.total():8,}  lines in all, without JSON\n")

    known = modules()
    graph = {name: set(imported(name, path, known)) for name, path in known.items()}
    of_rooms = rooms(graph)
    loose = [room for room in of_rooms if (LIBRARY / f"{room}.py").exists()]
    floors = levels(of_rooms)
    print(f"{len(of_rooms):8,}  rooms on {len(floors)} levels, {len(loose)} of them loose modules")
    for level in floors if places else ():
        print(f"{'':10}{' '.join(level)}")
    found = {
        "circles of imports, those for types counted": [", ".join(c) for c in circles(graph)],
        'docstrings and comments that begin with "What", "That of" or "Those of"': riddles(paths),
        f"names that say nothing: {', '.join(sorted(PRONOUNS | VAGUE))}": pronouns(paths),
        "C++ lines over 120 columns": long_lines(paths, CPP, 120),
        "Markdown lines over 120 columns, tables and code apart": long_prose(paths),
    }
    for name, where in found.items():
        print(f"{len(where):8,}  {name}")
        for place in where if places else ():
            print(f"{'':10}{place}")
    if SECONDS.exists():
        print(f"\n{SECONDS.read_text().rstrip()}")


if __name__ == "__main__":
    main()
