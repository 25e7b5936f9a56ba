"""The rules of the house: one stem an op, no drawer for odds and ends."""

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BESIDE_OPS = {"device", "output_memory"}  # csrc/ops/*.cpp that are no op
STEMS = sorted(p.stem for p in (ROOT / "csrc/ops").glob("*.cpp") if p.stem not in BESIDE_OPS)


def tracked():
    result = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if result.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in result.stdout.splitlines()]


def test_there_are_ops():
    assert {"lif", "cuba"} <= set(STEMS)


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize(
    "place",
    [
        "csrc/core/{}.h",
        "csrc/ops/{}.cpp",
        "csrc/cpu/{}.cpp",
        "csrc/cuda/{}.cu",
        "snnfast/ops/{}.py|snnfast/encoder/{}.py",
        "snnfast/reference/{}.py",
        "docs/ops/{}.md",
        "benchmarks/{}.py",
    ],
)
def test_op_stands_under_its_stem(stem, place):
    places = [ROOT / p.format(stem) for p in place.split("|")]
    assert any(p.exists() for p in places), f"{stem} lacks {place.format(stem)}"


@pytest.mark.parametrize("stem", STEMS)
def test_op_is_tested(stem):
    import samples

    generic = stem in {op.kernel for op in samples.OPS.values()}
    assert generic or (ROOT / f"tests/ops/test_{stem}.py").exists()


@pytest.mark.parametrize("stem", STEMS)
def test_op_is_built(stem):
    assert stem in (ROOT / "CMakeLists.txt").read_text()


def test_no_file_is_a_drawer_for_odds_and_ends():
    forbidden = {"utils", "util", "helpers", "helper", "common", "misc"}
    found = [p for p in tracked() if forbidden & {part.partition(".")[0] for part in p.parts}]
    assert not found


def test_core_knows_neither_pytorch_nor_cuda():
    for path in (ROOT / "csrc/core").iterdir():
        assert "#include <torch" not in path.read_text(), path
        assert "cuda_runtime" not in path.read_text(), path
    for folder in ("cpu", "cuda"):
        for path in (ROOT / "csrc" / folder).iterdir():
            assert "#include <torch" not in path.read_text(), path


LAYERS = {"nn": 3, "encoder": 3, "ops": 2, "reference": 1, "check": 0, "surrogate": 0}


def test_imports_go_down_never_up():
    """ops know no modules, the reference knows no ops."""
    for name, level in LAYERS.items():
        folder = ROOT / "snnfast" / name
        paths = folder.glob("*.py") if folder.is_dir() else [folder.with_suffix(".py")]
        for path in paths:
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.ImportFrom) or node.level:
                    continue
                parts = (node.module or "").split(".")
                names = parts[1:2] if len(parts) > 1 else [a.name for a in node.names]
                if parts[0] == "snnfast":
                    up = [n for n in names if LAYERS.get(n, 0) > level]
                    assert not up, f"{path} imports {up}"


def test_type_marker_ships_with_the_package():
    import snnfast

    assert (Path(snnfast.__file__).parent / "py.typed").exists()


def test_version_stands_in_one_place():
    import snnfast

    assert f'version = "{snnfast.__version__}"' in (ROOT / "pyproject.toml").read_text()
