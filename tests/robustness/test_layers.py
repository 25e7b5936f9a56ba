"""The package has two floors, the kernels and the tools on top of them, and calls go one way."""

import runpy
from pathlib import Path

import pytest

HOUSE = runpy.run_path(str(Path(__file__).parents[2] / "scripts/house.py"))
# The kernel library. Every other room is on the floor above. docs/architecture.md draws both.
BELOW = {
    *("check", "files", "processes", "backend", "reference", "compiler", "ops"),
    *("nn", "learning", "encoder", "testing"),
}  # fmt: skip


@pytest.fixture(scope="module")
def graph():
    """Return the imports of every module, including those for types and in functions."""
    known = HOUSE["modules"]()
    return {name: set(HOUSE["imported"](name, path, known)) for name, path in known.items()}


@pytest.fixture(scope="module")
def rooms(graph):
    return HOUSE["rooms"](graph)


def test_the_kernel_library_imports_nothing_of_the_floor_above(rooms):
    assert set(rooms) >= BELOW
    above = {room: sorted(rooms[room] - BELOW) for room in BELOW if rooms[room] - BELOW}
    assert not above


def test_no_module_and_no_room_imports_itself_over_others(graph, rooms):
    assert not HOUSE["circles"](graph)
    assert not HOUSE["circles"](rooms)
    assert sum(map(len, HOUSE["levels"](rooms))) == len(rooms)


def test_a_file_at_the_top_of_the_package_is_a_room_or_re_exports_one(rooms):
    loose = {path.stem for path in HOUSE["PACKAGE"].glob("*.py")} - {"__init__", "__main__"}
    modules = loose & set(rooms)
    assert len(modules) <= 8
    for name in loose - modules:
        assert (HOUSE["PACKAGE"] / f"{name}.py").read_text().count("\n") <= 5, name


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from snnfast import nn\nfrom ..ops import lif", ["snnfast.nn", "snnfast.ops"]),
        ("import snnfast.papers.wu2018\nfrom . import alif", ["snnfast.papers.wu2018", "snnfast.reference.alif"]),
        ("if TYPE_CHECKING:\n    from snnfast.train.score import Score", ["snnfast.train.score"]),
        ("def f():\n    from snnfast.nn.time import Time", ["snnfast.nn.time"]),
    ],
)
def test_an_import_is_seen_wherever_it_stands(source, found, tmp_path):
    path = tmp_path / "lif.py"
    path.write_text(source)
    assert list(HOUSE["imported"]("snnfast.reference.lif", path, HOUSE["modules"]())) == found


def test_a_circle_is_found():
    assert HOUSE["circles"]({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
