"""Contents of a wheel and a source archive, and symbols and libraries that the extension needs."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import snnfast
from snnfast import backend
from snnfast.compiler import build

ROOT = Path(__file__).parents[2]
pytest.importorskip("setuptools")


def setup_py(*arguments):
    env = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    result = subprocess.run(
        [sys.executable, "setup.py", "--quiet", *arguments], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def python_files(tmp_path_factory):
    """The files of a wheel but for the extension."""
    folder = tmp_path_factory.mktemp("wheel")
    info = tmp_path_factory.mktemp("info")
    setup_py("egg_info", "--egg-base", str(info), "build_py", "--build-lib", str(folder))
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def source_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdist")
    info = tmp_path_factory.mktemp("info")
    setup_py("egg_info", "--egg-base", str(info), "sdist", "--dist-dir", str(folder))
    (archive,) = folder.glob("snnfast-*.tar.gz")
    with tarfile.open(archive) as tar:
        return {name.partition("/")[2] for name in tar.getnames()}


def test_wheel_holds_the_package_and_nothing_else(python_files):
    assert {name.partition("/")[0] for name in python_files} == {"snnfast", "snnfast_zoo"}


def test_wheel_holds_types_and_data(python_files):
    expected = {f"snnfast/{name}" for name in ("py.typed", "_C.pyi")}
    expected |= {f"snnfast_zoo/{name}" for name in ("py.typed", "data/SOURCES.md")}
    expected |= {f"snnfast_zoo/data/{name}.npz" for name in ("digits", "iris", "cancer")}
    weights = ROOT / "snnfast_zoo/papers/weights"
    expected |= {str(path.relative_to(ROOT)) for path in (*weights.rglob("*.pt"), weights / "weights.json")}
    assert expected <= python_files


def test_wheel_holds_every_module(python_files):
    modules = {str(p.relative_to(ROOT)) for p in ROOT.glob("snnfast*/**/*.py")}
    assert modules <= python_files


def test_wheel_holds_the_headers_of_neurons_that_are_compiled_later(python_files):
    """And all that these include, so that a compiler needs nothing else of this package."""
    csrc = ROOT / "csrc"
    expected = {path for pattern in build.HEADERS for path in csrc.glob(pattern)}
    home = "snnfast/include/"
    held = {csrc / name.removeprefix(home) for name in python_files if name.startswith(home)}
    assert held == expected
    assert csrc / "cpu/rows.cpp" in held
    for path in held:
        for name in re.findall(r'#include "(.*)"', path.read_text()):
            emulated = (csrc / "cuda_emulation" / name).exists()  # which no installation needs
            assert emulated or {path.parent / name, csrc / name} & held, f"{path} includes {name}"


def test_source_archive_builds_from_what_it_holds(source_files):
    native = {
        str(p.relative_to(ROOT))
        for p in (ROOT / "csrc").rglob("*")
        if p.suffix in (".h", ".cpp", ".cu", ".cuh", ".in", ".md")
    }
    beside = {"CMakeLists.txt", "setup.py", "pyproject.toml", "LICENSE", "README.md"}
    assert native | beside <= source_files


def test_source_archive_holds_nothing_built_and_no_tests(source_files):
    assert not [name for name in source_files if name.endswith((".so", ".o", ".pyc"))]
    assert not [name for name in source_files if name.startswith("tests")]


def test_version_stands_in_one_place():
    (version,) = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert snnfast.__version__ == version == importlib.metadata.version("snnfast")
    for path in ROOT.glob("snnfast*/**/*.py"):
        literals = (n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant))
        assert version not in literals, path
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text()


def undefined_symbols(library):
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("needs nm")
    out = subprocess.run([nm, "-D", "--undefined-only", str(library)], capture_output=True, text=True)
    return [line.split()[-1].partition("@")[0] for line in out.stdout.splitlines()]


@pytest.mark.skipif(backend.extension is None, reason="the extension is not built")
def test_extension_uses_pytorchs_stable_abi_only():
    """A C++ symbol of PyTorch would tie the build to one version of it."""
    symbols = undefined_symbols(backend.extension.__file__)
    cpp = [s for s in symbols if s.startswith("_Z") and re.search(r"\d(at|c10|torch)\d", s)]
    assert not cpp
    assert any(s.startswith("aoti_torch_") for s in symbols)


@pytest.mark.skipif(backend.extension is None, reason="the extension is not built")
def test_extension_needs_no_cuda_library_at_import():
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("needs readelf")
    out = subprocess.run([readelf, "-d", backend.extension.__file__], capture_output=True, text=True)
    needed = set(re.findall(r"NEEDED.*\[(.*?)\]", out.stdout))
    assert not [name for name in needed if "cuda" in name or "nvidia" in name], needed
    assert "RPATH" not in out.stdout
    assert "RUNPATH" not in out.stdout
