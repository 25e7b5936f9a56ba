"""The rules of the repository: one stem for an op, no files of unrelated helpers."""

import ast
import itertools
import re
import runpy
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
from cases import in_one_test

from snnfast.compiler import neurons

ROOT = Path(__file__).parents[2]
# csrc/ops/*.cpp that are not one op: neurons has those of all neurons, own_* those compiled at run time
BESIDE_OPS = {"check", "device", "exchange", "interrupt", "neuron", "neurons", "output_memory"}
BESIDE_OPS |= {"own_library", "own_neuron", "own_rule"}
NEURONS = sorted(name for name in neurons.STEMS if not name.startswith("refractory_"))
STEMS = sorted(NEURONS + [p.stem for p in (ROOT / "csrc/ops").glob("*.cpp") if p.stem not in BESIDE_OPS])


def tracked():
    result = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if result.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def house():
    """Return the names of scripts/house.py."""
    tracked()  # skips the test outside a git checkout
    return runpy.run_path(str(ROOT / "scripts/house.py"))


# Kernels that are not an op of their own.
OP_OF = {"diehl_cook_conductance": "diehl_cook"}


def test_there_are_ops():
    assert {"lif", "cuba", "alif"} <= set(NEURONS)
    assert {"stdp", "poisson"} <= set(STEMS)


def built(ops):
    """Return the stems in a list of CMakeLists.txt."""
    text = (ROOT / "CMakeLists.txt").read_text()
    return set(re.search(rf"^set\({ops} (.*)\)$", text, re.MULTILINE)[1].split())


@pytest.mark.parametrize(
    "place",
    [
        "csrc/core/{}.h|csrc/core/neuron.h",
        "csrc/ops/{}.cpp|csrc/ops/neurons.cpp",
        "csrc/cpu/{}.cpp|csrc/cpu/neuron.cpp.in",
        "csrc/cuda/{}.cu|csrc/cuda/neuron.cu.in",
        "snnfast/reference/{}.py",
        "tests/ops/test_{}.py",
        "docs/ops/{}.md",
        "benchmarks/{}.py|benchmarks/neuron.py",
    ],
)
@in_one_test("stem", STEMS)
def test_op_stands_under_its_stem(stem, place):
    if place.startswith("csrc/cuda") and stem in built("cpu_ops"):
        return
    if place.startswith("docs"):
        stem = OP_OF.get(stem, stem)
    of_op, _, of_neurons = place.partition("|")
    path = ROOT / (of_neurons if of_neurons and stem in NEURONS else of_op.format(stem))
    assert path.exists(), f"{stem} lacks {path.relative_to(ROOT)}"


@pytest.mark.parametrize("stem", STEMS)
def test_calls_reach_the_kernels_of_the_stem(stem):
    """A public op of ``snnfast/ops/<stem>.py``, or of the file of neurons, calls the kernels."""
    from snnfast.ops import neuron

    entered = {"recurrent" if kernel.connections else kernel.stem for kernel in neuron.BUILT_IN.values()}
    assert (stem in entered) != (ROOT / f"snnfast/ops/{OP_OF.get(stem, stem)}.py").exists()


def test_ops_are_those_that_are_built():
    """A neuron is built because its header says that it is one; any other op because CMake lists it."""
    assert built("ops") | built("cpu_ops") == set(STEMS) - set(NEURONS)


def test_every_neuron_is_tested_under_its_name():
    """``tests/ops/test_<stem>.py`` runs the shared tests over every op that the kernels of the stem have."""
    import samples

    from snnfast import ops
    from snnfast.reference import neuron_arguments

    tested = {op.name: op.kernel for op in samples.neurons()}
    assert set(tested.values()) == set(NEURONS)
    checks = {name: getattr(getattr(ops, name), "check", None) for name in ops.__all__}
    of_neurons = {
        name: check.__module__.rpartition(".")[2]
        for name, check in checks.items()
        if check and check.__module__.rpartition(".")[2] in NEURONS
    }
    assert tested == of_neurons
    assert set(tested) == set(neuron_arguments.NEURONS)


def test_no_test_compares_tensors_without_saying_where_they_differ(house):
    """``torch.testing.assert_close(a, b, rtol=0, atol=0)`` says where; ``assert torch.equal(a, b)`` does not."""
    bare = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(house["parsed"](path)):
            if isinstance(node, ast.Assert) and says_only_equal(node.test):
                bare.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not bare, "\n".join(bare)


def says_only_equal(node):
    """Detect ``torch.equal(...)``, ``all`` of them, ``(a == b).all()`` or ``a.eq(b).all()``."""
    if not isinstance(node, ast.Call):
        return False
    called, text = ast.unparse(node.func), ast.unparse(node)
    of_all = node.func.value if called.endswith(".all") else None
    compared = isinstance(of_all, ast.Compare) and isinstance(of_all.ops[0], ast.Eq)
    by_eq = isinstance(of_all, ast.Call) and ast.unparse(of_all.func).endswith(".eq")
    return called == "torch.equal" or (called == "all" and "torch.equal" in text) or compared or by_eq


@pytest.mark.parametrize(
    "bare", ["torch.equal(a, b)", "all(torch.equal(a, b) for a, b in x)", "(a == 1).all()", "a.sum(1).eq(1).all()"]
)
def test_a_bare_comparison_is_seen(bare):
    assert says_only_equal(ast.parse(bare, mode="eval").body)
    assert not says_only_equal(ast.parse("(a < b).all()", mode="eval").body)


def test_no_file_is_a_drawer_for_odds_and_ends():
    forbidden = {"utils", "util", "helpers", "helper", "common", "misc"}
    found = [p for p in tracked() if forbidden & {part.partition(".")[0] for part in p.parts}]
    assert not found


def test_no_source_file_is_too_long_to_read():
    sources = [p for p in (ROOT / "csrc").rglob("*") if p.is_file()]
    for folder in ("snnfast", "snnfast_zoo", "tests", "scripts", "benchmarks"):
        sources += (ROOT / folder).rglob("*.py")
    lines = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in sources}
    assert len(lines) > 200
    assert not {path: count for path, count in lines.items() if count > 700}


def test_core_knows_neither_pytorch_nor_cuda():
    for path in (ROOT / "csrc/core").iterdir():
        assert "#include <torch" not in path.read_text(), path
        assert "cuda_runtime" not in path.read_text(), path
    for folder in ("cpu", "cuda"):
        for path in (ROOT / "csrc" / folder).iterdir():
            assert "#include <torch" not in path.read_text(), path


def test_no_instruction_set_shares_a_vector():
    """The linker keeps one copy of std::vector<float>, perhaps that for AVX-512; own_rule.h is compiled for one set."""
    for path in (ROOT / "csrc/cpu").iterdir():
        if path.name not in ("own_rule.h", "dispatch.cpp", "dispatch.h"):
            assert not re.findall(r"std::(?:vector|string|map)\b(?!<T, LocalAllocator<T>>).*", path.read_text()), path


def test_type_marker_ships_with_the_package():
    import snnfast

    assert (Path(snnfast.__file__).parent / "py.typed").exists()


def test_version_stands_in_one_place():
    import snnfast

    assert f'version = "{snnfast.__version__}"' in (ROOT / "pyproject.toml").read_text()


def test_planted_mistakes_are_of_this_source(monkeypatch):
    """Each mutation of ``scripts/mutations.py`` changes an existing line, and names existing tests."""
    monkeypatch.syspath_prepend(ROOT / "scripts")
    mutations = runpy.run_path(str(ROOT / "scripts/mutations.py"))["MUTATIONS"]
    assert len({m.name for m in mutations}) == len(mutations)
    for m in mutations:
        assert m.old in (ROOT / m.path).read_text(), m.name
        assert m.old != m.new, m.name
        paths = itertools.takewhile(lambda argument: argument != "-k", m.tests)
        assert all((ROOT / path).exists() for path in paths), m.name


def test_no_docstring_begins_with_a_relative_clause(house):
    """Its first line is an imperative or a noun phrase, not "What ...", "That of ..." or "Those of ..."."""
    found = house["riddles"](house["files"]())
    assert not found, "\n".join(found)


def test_no_name_is_a_pronoun(house):
    """CONTRIBUTING.md has the list: a name says what the thing is."""
    found = house["pronouns"](house["files"]())
    assert not found, "\n".join(found)


def test_a_class_name_is_one_class(house):
    """Names of other libraries and of n3ml are theirs, wherever they stand."""
    theirs = ("snnfast/ports/", "snnfast_zoo/n3ml/", "benchmarks/baselines/", "tests/", "docs/", "examples/")
    places = defaultdict(list)
    for path in house["files"]():
        name = path.relative_to(ROOT).as_posix()
        if path.suffix == ".py" and not name.startswith(theirs):
            for node in house["parsed"](path).body:
                if isinstance(node, ast.ClassDef):
                    places[node.name].append(name)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_no_line_of_cpp_or_prose_is_longer_than_120_columns(house):
    """Ruff does the same for Python."""
    paths = house["files"]()
    found = house["long_lines"](paths, house["CPP"], 120) + house["long_prose"](paths)
    assert not found, "\n".join(found)


def test_cuda_sources_are_the_same_for_every_architecture():
    """CI therefore compiles them for one architecture, the oldest (8.0), which excludes features of newer ones."""
    sources = [p for p in (ROOT / "csrc").rglob("*") if p.suffix in (".h", ".cuh", ".cu", ".in")]
    assert len(sources) > 40
    assert not [p.name for p in sources if "__CUDA_ARCH" in p.read_text()]
    assert 'TORCH_CUDA_ARCH_LIST="8.0"' in (ROOT / ".ci/steps").read_text()


def test_no_hint_installs_from_an_index_that_lacks_the_package():
    for path in [*(ROOT / "snnfast").rglob("*.py"), *(ROOT / "snnfast_zoo").rglob("*.py"), *ROOT.glob("docs/**/*.md")]:
        assert not re.search(r"""pip install (-\S+ )*["']?snnfast\b""", path.read_text()), path
