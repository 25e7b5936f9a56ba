"""Tests stand where one looks for them: ``tests/<room>/test_<module or op>.py``, or ``test_<module>_<topic>.py``."""

import ast
from pathlib import Path

import snnfast

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / "snnfast", ROOT / "snnfast_zoo"
# Folders for what is no room of a package.
SUBJECTS = {*("benchmarks", "docs", "emulation", "examples", "gpu", "manual", "packaging", "robustness", "scripts")}


def subjects(room: str) -> set[str]:
    """Return the names that a test of a room may begin with: of the room, its folders, its modules, and ops."""
    folders = [package / room for package in PACKAGES if (package / room).is_dir()]
    files = [path.relative_to(folder) for folder in folders for path in folder.rglob("*.py")]
    names = {room} | {part.removesuffix(".py") for path in files for part in path.parts}
    return names | {name.strip("_") for name in snnfast.ops.__all__} if room == "ops" else names


def test_every_test_is_named_after_its_module_or_op():
    lost = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        room = path.relative_to(ROOT / "tests").parts[0] if path.parent != ROOT / "tests" else ""
        stem = path.stem.removeprefix("test_")
        if room in SUBJECTS:
            continue
        if not room and (ROOT / "snnfast" / f"{stem}.py").exists():  # a room that is a single module
            continue
        if not any(stem == name or stem.startswith(f"{name}_") for name in subjects(room)):
            lost.append(str(path.relative_to(ROOT)))
    assert not lost


def test_no_test_file_is_empty():
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    assert len(files) > 150
    for path in files:
        if path.parent.name == "ops" and "from neurons import *" in path.read_text():
            continue
        names = [n.name for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef)]
        assert any(name.startswith("test_") for name in names), path
