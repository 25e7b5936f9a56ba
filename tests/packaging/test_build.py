"""A build that cannot work says so in one line; an editable build brings the emulated CUDA, a plain one does not."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from interpreter import python

ROOT = Path(__file__).parents[2]
pytest.importorskip("setuptools")
tomllib = pytest.importorskip("tomllib")  # Python 3.10 has none

# setup.py without its last statement, and without changing anything: asks it about one environment.
ASK = """
import json, os, sys, types
from pathlib import Path
source = Path("setup.py").read_text()
module = types.ModuleType("build_script")
module.__dict__["__file__"] = os.path.abspath("setup.py")
exec(compile(source[: source.rindex("setup(")], "setup.py", "exec"), module.__dict__)
"""


def ask(question, **environment):
    """Runs ``question`` after setup.py's functions are defined; variables set to None are taken away."""
    ours = dict.fromkeys(("SNNFAST_CUDA", "SNNFAST_EMULATION", "SNNFAST_WERROR"))
    return python(ASK + question, check=False, cwd=ROOT, **ours | environment)


BUILD = """
from setuptools import Distribution, Extension
command = module.CMakeBuild(Distribution({"ext_modules": [Extension("snnfast._C", sources=[])]}))
command.%s
command.ensure_finalized()
"""


def build_environment(tmp_path, tools):
    """A PATH with nothing but ``tools``, as programs that do nothing."""
    for tool in tools:
        program = tmp_path / tool
        program.write_text("#!/bin/sh\nexit 1\n")
        program.chmod(0o755)
    return {"PATH": str(tmp_path), "CXX": None, "CUDACXX": None, "CUDA_HOME": None, "CUDA_PATH": None}


def test_missing_compiler_is_one_clear_message(tmp_path):
    env = build_environment(tmp_path, ("cmake", "ninja"))
    result = ask(BUILD % "inplace = True" + "command.tree()", **env)
    assert result.returncode == 1
    assert result.stderr.startswith("snnfast: building needs a C++17 compiler and none was found")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("missing", ["cmake", "ninja"])
def test_missing_cmake_or_ninja_is_one_clear_message(tmp_path, missing):
    env = build_environment(tmp_path, {"cmake", "ninja", "g++"} - {missing})
    result = ask(BUILD % "inplace = True" + "command.tree()", **env)
    assert result.returncode == 1
    assert result.stderr.strip() == ("snnfast: building needs cmake and ninja (pip install cmake ninja)")


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        ("find_spec = lambda name: None", "torch and pybind11 (pip install torch pybind11)"),
        ("metadata.version = lambda name: '2.9.1+cpu'", "PyTorch 2.10 or later, got 2.9.1+cpu"),
    ],
)
def test_missing_or_old_packages_are_one_clear_message(tmp_path, prepare, message):
    env = build_environment(tmp_path, ("cmake", "ninja", "g++"))
    result = ask(BUILD % "inplace = True" + f"module.{prepare}\ncommand.tree()", **env)
    assert result.returncode == 1
    assert result.stderr.strip() == f"snnfast: building needs {message}"


def test_cuda_1_without_nvcc_is_an_error(tmp_path):
    env = build_environment(tmp_path, ("cmake", "ninja", "g++"))
    question = BUILD % "inplace = True" + "module.nvcc = lambda: None\ncommand.tree()"
    result = ask(question, SNNFAST_CUDA="1", **env)
    assert result.returncode == 1
    assert result.stderr.strip() == ("snnfast: SNNFAST_CUDA=1, but no CUDA compiler (nvcc) was found; set CUDA_HOME")


def configured(tmp_path, prepare, **environment):
    """Return the lines that a build prints, with the arguments for CMake, which is not run."""
    env = {**build_environment(tmp_path, ("cmake", "ninja", "g++")), "CUDACXX": str(tmp_path / "nvcc")}
    (tmp_path / "nvcc").write_text("#!/bin/sh\n")
    (tmp_path / "nvcc").chmod(0o755)
    question = (
        BUILD % "inplace = True"
        + f"""
module.ROOT = Path({str(tmp_path)!r})
real = module.subprocess.run
def run(words, **options):
    if Path(words[0]).name != "cmake":
        return real(words, **options)
    if "-B" in words:
        Path(words[words.index("-B") + 1]).mkdir(parents=True, exist_ok=True)
        print(*words, sep="\\n")
module.subprocess.run = run
{prepare}
command.tree()
"""
    )
    result = ask(question, TORCH_CUDA_ARCH_LIST=None, **env | environment)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


NO_CARD = "module.cards = lambda: []\n"
WITHOUT = "module.torch_for_cuda = lambda: False\n"


@pytest.mark.parametrize("asked", [None, "1"])
def test_cuda_kernels_are_left_out_where_nothing_could_run_them(tmp_path, asked):
    words = configured(tmp_path, NO_CARD + WITHOUT, SNNFAST_CUDA=asked)
    said = [line for line in words if line.startswith("snnfast: no CUDA kernels are built")]
    assert len(said) == (asked is None)
    assert f"-DSNNFAST_CUDA={int(asked is not None)}" in words


@pytest.mark.parametrize(
    ("cards", "archs"),
    [("8.6\n9.0\n9.0", "86-real;90"), ("7.5\n8.6", "86"), ("NVIDIA-SMI has failed", "80-real;90-real;100;120-real")],
)
def test_architectures_are_those_of_the_cards(tmp_path, cards, archs):
    smi = tmp_path / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\necho '{cards}'\n")
    smi.chmod(0o755)
    words = configured(tmp_path, "module.torch_for_cuda = lambda: True\n")
    assert f"-DSNNFAST_CUDA_ARCHS={archs}" in words


def test_a_card_that_is_too_old_leaves_the_cpu(tmp_path):
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 7.5\n")
    smi.chmod(0o755)
    words = configured(tmp_path, "")
    assert "-DSNNFAST_CUDA=0" in words
    (said,) = [line for line in words if line.startswith("snnfast: no CUDA kernels are built")]
    assert said.endswith("architecture 7.5+PTX: the CUDA kernels need compute capability 8.0 or later")
    env = build_environment(tmp_path, ("cmake", "ninja", "g++"))
    question = BUILD % "inplace = True" + "module.nvcc = lambda: 'nvcc'\ncommand.tree()"
    smi.write_text("#!/bin/sh\necho 7.5\n")
    refused = ask(question, SNNFAST_CUDA="1", TORCH_CUDA_ARCH_LIST="7.0 7.5", **env)
    assert refused.returncode == 1
    assert "need compute capability 8.0 or later, and TORCH_CUDA_ARCH_LIST has none" in refused.stderr


@pytest.mark.parametrize(
    ("asked", "archs"),
    [
        ("7.0 7.5 8.0 8.6 9.0+PTX", "80-real;86-real;90"),
        ("8.0;10.0+PTX;12.0", "80-real;90"),  # PTX of the newest, once
        ("8.8", "86"),
    ],
)
def test_architectures_that_the_compiler_does_not_know_get_ptx_of_an_older_one(tmp_path, asked, archs):
    compiler = tmp_path / "nvcc"
    compiler.write_text("#!/bin/sh\nprintf 'compute_75\\ncompute_80\\ncompute_86\\ncompute_90\\n'\n")
    compiler.chmod(0o755)
    result = ask(f"print(module.cuda_archs({asked!r}, {str(compiler)!r}))")
    *said, found = result.stdout.splitlines()
    assert found == archs
    assert len(said) == 2 or asked == "8.8"


@pytest.mark.parametrize(("line", "cuda"), [("cuda: str | None = '13.0'", True), ("cuda = None", False)])
def test_what_a_pytorch_is_built_for_is_read_from_its_version(tmp_path, line, cuda):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "version.py").write_text(f"debug = False\n{line}\n")
    prepare = f"module.sysconfig.get_path = lambda name: {str(tmp_path)!r}\n"
    words = configured(tmp_path, NO_CARD + prepare)
    assert f"-DSNNFAST_CUDA={int(cuda)}" in words


@pytest.mark.parametrize(
    "name", ["SNNFAST_CUDA", "SNNFAST_EMULATION", "SNNFAST_WERROR", "SNNFAST_QUICK", "SNNFAST_BEST_ISA"]
)
def test_a_switch_with_another_value_is_an_error(tmp_path, name):
    env = build_environment(tmp_path, ("cmake", "ninja", "g++"))
    result = ask(BUILD % "inplace = True" + "command.tree()", **env, **{name: "yes"})
    assert result.returncode == 1
    assert re.fullmatch(rf"snnfast: {name} must be .*, got 'yes'\n", result.stderr)


@pytest.mark.parametrize(
    ("flags", "chosen", "best"),
    [
        ("fpu sse2", "", "base"),
        ("fpu sse2 avx avx2 fma", "", "avx2"),
        ("fpu avx2 avx512f avx512vl", "", "avx512"),
        ("fpu sse2 avx avx2 fma", "avx512", "avx512"),
    ],
)
def test_kernels_are_built_for_this_processor(tmp_path, flags, chosen, best):
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : {flags}\n")
    path = f"module.Path({str(tmp_path / 'cpuinfo')!r})"
    code = f"module.platform.machine = lambda: 'x86_64'\nprint(module.best_isa({path}))"
    assert ask(code, SNNFAST_BEST_ISA=chosen).stdout.strip() == best


@pytest.mark.parametrize(
    ("here", "chosen", "one"), [(False, "", "ON"), (True, "", "OFF"), (False, "avx2", "OFF"), (True, "avx2", "OFF")]
)
def test_weaker_sets_are_built_for_tests_and_for_other_processors(tmp_path, here, chosen, one):
    words = configured(tmp_path, f"command.in_source = {here}", SNNFAST_BEST_ISA=chosen)
    assert f"-DSNNFAST_ONE_ISA={one}" in words


@pytest.mark.parametrize("archs", ["90", "9.0+PTX2", "sm_90", "8.0;all"])
def test_bad_arch_list_is_an_error(archs):
    result = ask(f"module.cuda_archs({archs!r})")
    assert result.returncode == 1
    assert "TORCH_CUDA_ARCH_LIST: expected entries like 9.0 or 9.0+PTX, got" in result.stderr


def test_arch_list_is_pytorchs_notation():
    result = ask('print(module.cuda_archs("8.0 9.0a,10.0+PTX"))')
    assert result.stdout.strip() == "80-real;90a-real;100"


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("editable_mode = True", None, True),
        ("inplace = True", None, True),
        ("inplace = False", None, False),
        ("editable_mode = True", "0", False),
        ("inplace = False", "1", True),
    ],
)
def test_emulated_cuda_comes_with_editable_installs(mode, value, expected):
    question = BUILD % mode + "print([e.name for e in command.extensions])"
    result = ask(question, SNNFAST_EMULATION=value)
    assert ("snnfast._cuda_emulation" in result.stdout) == expected, result.stderr
    assert "snnfast._C" in result.stdout


def test_wheels_with_cuda_have_a_version_of_their_own(tmp_path):
    """By their names alone files with and without CUDA kernels would be the same."""
    settings = tomllib.loads((ROOT / "packaging/cuda.toml").read_text())["tool"]["cibuildwheel"]
    env = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"} | settings["environment"]
    command = [sys.executable, "setup.py", "-q", "egg_info", "-e", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True)
    (information,) = tmp_path.glob("*/PKG-INFO")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"\nVersion: {project['version']}+cu128\n" in information.read_text()
    assert "-12.8" in settings["environment"]["CUDA_HOME"]
