"""Import with missing packages, and its cost, each in a separate interpreter."""

import os
import re
import shutil
import sys
from pathlib import Path

import interpreter
import pytest
from backends import PRESENT

ROOT = Path(__file__).parents[2]
WITHOUT_EXTENSION = "import sys; sys.modules['snnfast._C'] = None\n"


def python(code, **environment):
    none_of_ours = {name: None for name in os.environ if name.startswith("SNNFAST_")}
    return interpreter.python(code, check=False, **{**none_of_ours, **environment})


def test_without_extension_the_reference_serves_after_one_warning():
    code = WITHOUT_EXTENSION + (
        "import warnings, torch, snnfast\n"
        "x = torch.rand(5, 3) * 2\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    with snnfast.backend.use('reference'):\n"
        "        want = snnfast.ops.lif(x)\n"
        "    assert not caught\n"
        "    for _ in range(3):\n"
        "        got = snnfast.ops.lif(x)\n"
        "(warning,) = caught\n"
        "assert warning.category is snnfast.backend.BackendWarning\n"
        "assert all(torch.equal(a, b) for a, b in zip(got, want))\n"
        "warnings.simplefilter('ignore')\n"
        "assert snnfast.nn.LIF()(x).shape == x.shape\n"
        "print(warning.message)\n"
        "print(snnfast.backend.explain('lif', x))\n"
    )
    result = python(code)
    assert result.returncode == 0, result.stderr
    warning, explanation = result.stdout.splitlines()
    assert warning.startswith("lif runs in plain PyTorch, which is slow: the compiled extension")
    assert "pip install ." in warning
    assert "did not load" in warning
    assert explanation.startswith("lif: plain PyTorch reference: the compiled extension")


def test_losses_are_there_without_an_import_of_their_own():
    result = python("import snnfast\nprint(snnfast.nn.loss.ce_rate is snnfast.loss.ce_rate)\n")
    assert (result.stdout, result.returncode) == ("True\n", 0), result.stderr


@pytest.mark.parametrize("collects", [True, False])
def test_the_garbage_collector_is_left_as_it_was(collects):
    result = python(f"import gc\n{'' if collects else 'gc.disable()'}\nimport snnfast\nprint(gc.isenabled())\n")
    assert result.stdout == f"{collects}\n", result.stderr


@pytest.mark.parametrize("installed", [True, False])
def test_a_source_folder_without_a_build_says_so(tmp_path, installed):
    sources = Path(__file__).parents[2]
    shutil.copytree(sources / "snnfast", tmp_path / "snnfast", ignore=shutil.ignore_patterns("*.so"))
    (tmp_path / "csrc").mkdir()
    if installed:
        (tmp_path / "snnfast-1.dist-info").mkdir()
        (tmp_path / "snnfast-1.dist-info" / "METADATA").write_text("Name: snnfast\nVersion: 1\n")
    hidden = "import importlib.metadata as m; m.Distribution.discover = classmethod(lambda *a, **k: iter(()))\n"
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        # an editable installation adds it, and it would find the built snnfast._C
        "sys.meta_path = [f for f in sys.meta_path if '__editable__' not in getattr(f, '__module__', '')]\n"
        + ("" if installed else hidden)
    )
    result = python(code + "import snnfast; print(snnfast.build_info()['extension_problem'])")
    said = result.stdout if installed else result.stderr.splitlines()[-1]
    assert f"the source folder {tmp_path} is imported, in which nothing is built" in said, result
    assert installed or said.startswith("ImportError: snnfast is not installed: ")


def test_without_extension_a_forced_kernel_is_an_error():
    code = WITHOUT_EXTENSION + "import torch, snnfast\nsnnfast.ops.lif(torch.zeros(2, 2))"
    result = python(code, SNNFAST_BACKEND="cpu")
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert "BackendError: lif: backend 'cpu' was asked for, but the compiled extension" in last


@pytest.mark.skipif("cpu" not in PRESENT, reason="no CPU kernels")
def test_import_warns_of_nothing_and_loads_nothing_slow():
    code = (
        "import sys, time, torch, numpy, warnings\n"
        "warnings.filterwarnings('error', module='snnfast')\n"
        "before, start = set(sys.modules), time.process_time()\n"
        "import snnfast\n"
        "print(time.process_time() - start)\n"
        "loaded = set(sys.modules) - before\n"
        "print(*sorted({m.partition('.')[0] for m in loaded}), 'torch._dynamo' if 'torch._dynamo' in loaded else '')\n"
        "print(snnfast.backend.explain('lif', torch.zeros(2, 2)))\n"
    )
    result = python(code)
    assert result.returncode == 0, result.stderr
    seconds, modules, explanation = result.stdout.splitlines()
    assert float(seconds) < 1.0  # CPU time; usually 0.3
    # torch._dynamo takes a second, and does not load in the isolated environment of a build.
    assert not set(modules.split()) & {"matplotlib", "torchvision", "typer", "tqdm", "scipy", "torch._dynamo"}
    assert explanation.startswith("lif: CPU kernels (")


@pytest.mark.skipif("cpu" not in PRESENT, reason="no CPU kernels")
@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("SNNFAST_CPU_ISA", "SNNFAST_CPU_ISA must be base, avx2 or avx512, got 'neon'; "),
        ("SNNFAST_CPU_CACHE_MB", "SNNFAST_CPU_CACHE_MB must be a whole number of MiB, at least 0, got"),
    ],
)
def test_a_wrong_variable_of_the_environment_is_told(variable, message):
    result = python("import snnfast", **{variable: "neon"})
    assert result.returncode == 0, result.stderr
    assert f"BackendWarning: {message}" in result.stderr


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("SNNFAST_CPU_CACH_MB", "64", "SNNFAST_CPU_CACH_MB is not read; is SNNFAST_CPU_CACHE_MB meant?"),
        ("SNNFAST_BACKENDS", "cpu", "SNNFAST_BACKENDS is not read; is SNNFAST_BACKEND meant?"),
        ("SNNFAST_CPU_CACHE_MB", "999999999999", "SNNFAST_CPU_CACHE_MB must be at most the machine's memory of "),
        ("SNNFAST_CPU_CACHE_MB", "9" * 5000, "SNNFAST_CPU_CACHE_MB must be at most the machine's memory of "),
        ("SNNFAST_CPU_CACHE_MB", "\u0664", "SNNFAST_CPU_CACHE_MB must be a whole number of MiB, at least 0, got"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="the cache is for Linux")
def test_a_misspelt_or_huge_variable_is_told(variable, value, message):
    result = python("import snnfast", **{variable: value})
    assert result.returncode == 0, result.stderr
    assert f"BackendWarning: {message}" in result.stderr


def test_no_variable_of_the_documentation_is_taken_for_a_misspelt_one():
    names = set(re.findall("`(SNNFAST_[A-Z_]+)`", (ROOT / "docs" / "build.md").read_text()))
    assert len(names) > 15
    result = python("import snnfast", **dict.fromkeys(names - {"SNNFAST_BACKEND", "SNNFAST_CPU_ISA"}, "1"))
    assert result.returncode == 0, result.stderr
    assert "Warning" not in result.stderr, result.stderr
