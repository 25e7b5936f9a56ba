"""The wall between the kernel library and the zoo, the floors of the library, and imports that go one way."""

import runpy
from pathlib import Path

import pytest

HOUSE = runpy.run_path(str(Path(__file__).parents[2] / "scripts/house.py"))
# The kernel library. Above it stand rooms that read or rewrite a network. docs/architecture.md draws both.
KERNELS = {
    *("check", "files", "connect", "backend", "reference", "compiler", "ops"),
    *("nn", "learning", "encoder", "testing"),
}  # fmt: skip
NETWORKS = {"ports", "conversion", "export", "nir", "monitoring"}
ZOO = {f"zoo.{room}" for room in ("papers", "train", "data", "visual", "cli", "n3ml")}


@pytest.fixture(scope="module")
def graph():
    """Return the imports of every module, including those for types and in functions."""
    known = HOUSE["modules"]()
    return {name: set(HOUSE["imported"](name, path, known)) for name, path in known.items()}


@pytest.fixture(scope="module")
def rooms(graph):
    return HOUSE["rooms"](graph)


def test_every_room_has_a_floor(rooms):
    assert set(rooms) == KERNELS | NETWORKS | ZOO


def test_the_kernels_import_nothing_from_above(rooms):
    assert not {room: above for room in KERNELS if (above := sorted(rooms[room] - KERNELS))}


def test_the_library_imports_nothing_of_the_zoo(graph):
    forwarders = {f"snnfast.{name}" for name in HOUSE["re_exports"]()}
    public_paths = {name for name in forwarders if any(other.startswith("snnfast_zoo") for other in graph[name])}
    library = {name: imports for name, imports in graph.items() if not name.startswith("snnfast_zoo")}
    assert not [n for n in library.keys() - forwarders if any(other.startswith("snnfast_zoo") for other in library[n])]
    # Methods that draw, which import matplotlib anyway.
    drawing = {key: {"snnfast.visual"} for key in ("snnfast.monitoring.tally", "snnfast.conversion.report")}
    assert {n: found for n in library if n != "snnfast" and (found := library[n] & public_paths)} == drawing


def test_no_module_and_no_room_imports_itself_over_others(graph, rooms):
    assert not HOUSE["circles"](graph)
    assert not HOUSE["circles"](rooms)
    assert sum(map(len, HOUSE["levels"](rooms))) == len(rooms)


def test_a_file_at_the_top_of_the_library_is_a_room_or_re_exports_one(rooms):
    loose = {path.stem for path in HOUSE["LIBRARY"].glob("*.py")} - {"__init__", "__main__"}
    modules = loose & set(rooms)
    assert len(modules) <= 8
    for name in loose - modules:
        assert (HOUSE["LIBRARY"] / f"{name}.py").read_text().count("\n") <= 5, name


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from snnfast import nn\nfrom ..ops import lif", ["snnfast.nn", "snnfast.ops"]),
        (
            "import snnfast_zoo.papers.wu2018\nfrom . import alif",
            ["snnfast_zoo.papers.wu2018", "snnfast.reference.alif"],
        ),
        ("if TYPE_CHECKING:\n    from snnfast_zoo.train.score import Score", ["snnfast_zoo.train.score"]),
        ("def f():\n    from snnfast.nn.time import Time", ["snnfast.nn.time"]),
    ],
)
def test_an_import_is_seen_wherever_it_stands(source, found, tmp_path):
    path = tmp_path / "lif.py"
    path.write_text(source)
    assert list(HOUSE["imported"]("snnfast.reference.lif", path, HOUSE["modules"]())) == found


def test_a_circle_is_found():
    assert HOUSE["circles"]({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
