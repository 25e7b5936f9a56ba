"""Neurons that are compiled at first use have the flags of the CPU kernels of the build."""

import platform
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from snnfast import backend
from snnfast.compiler import build

ROOT = Path(__file__).parents[2]
CMAKE = (ROOT / "CMakeLists.txt").read_text()
GNU = "c++ 12.4.0\nCopyright (C) 2022 Free Software Foundation, Inc."


def listed(name):
    """Return the words of the last ``set(name ...)`` in the file, indented or not."""
    return re.findall(rf"^ *set\({name} (.*?)\)", CMAKE, re.MULTILINE)[-1].split()


def test_flags_are_those_of_the_build():
    (optimized,) = re.findall(r"list\(PREPEND kernel_flags (\S+)\)", CMAKE)
    (rounded,) = set(re.findall(r"-ffp-contract=\w+", CMAKE))
    visibility, standard = listed("CMAKE_CXX_VISIBILITY_PRESET"), listed("CMAKE_CXX_STANDARD")
    assert listed("CMAKE_POSITION_INDEPENDENT_CODE") == ["ON"]
    common = {f"-std=c++{standard[0]}", f"-fvisibility={visibility[0]}", "-fPIC", "-shared"}
    assert set(build.FLAGS) == common | {optimized, rounded, *listed("kernel_flags")}


def test_flags_of_gcc_are_those_of_the_build():
    assert list(build.NO_REP) == listed("no_rep")
    assert "list(APPEND kernel_flags ${no_rep})" in CMAKE


def test_flags_of_nvcc_are_those_of_the_build():
    (flags,) = re.findall(r"target_compile_options\(cuda_kernels PRIVATE (.*?)\)", CMAKE)
    assert "--fmad=false" in flags.split()
    assert build.CUDA_FLAGS[-1] == "--fmad=false"
    assert f"-std=c++{listed('CMAKE_CUDA_STANDARD')[0]}" in build.CUDA_FLAGS


@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_flags_of_an_instruction_set_are_those_of_the_build(isa):
    assert list(build.ISA_FLAGS[isa]) == listed(f"flags_{isa}")


def test_compilers_are_those_of_the_build():
    tries = r'tries = \[os.environ.get\("CXX"\), (.*)\]'
    (of_setup,) = re.findall(tries, (ROOT / "setup.py").read_text())
    (ours,) = re.findall(tries, Path(build.__file__).read_text())
    assert ours == of_setup
    nvcc = re.compile(r'homes = .*\n +pip = .*\n +tries = \[env.get\("CUDACXX"\), .*\]')
    (of_setup,) = nvcc.findall((ROOT / "setup.py").read_text())
    (ours,) = nvcc.findall(Path(build.__file__).read_text())
    assert ours.split() == of_setup.split()


@pytest.mark.parametrize(
    ("machine", "compiler", "expected"),
    [("x86_64", GNU, True), ("aarch64", GNU, False), ("x86_64", "clang version 19.1.0", False)],
)
def test_options_of_gcc_for_x86_go_to_no_other(monkeypatch, machine, compiler, expected):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(build, "_compiler", lambda cuda=False: (["/usr/bin/c++"], compiler))
    monkeypatch.setattr(backend, "extension", SimpleNamespace(cpu_isa=lambda: "base"))
    words = build.command(Path("out.so"))
    assert (build.NO_REP[0] in words) == expected
    assert "-DSNNFAST_ISA=base" in words
    assert not [word for word in words if word.startswith("-march")]
