"""Fixtures for backends, and parametrisation of the shared tests of neurons (``tests/neurons``)."""

import functools
import gc
import hashlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from matplotlib.figure import Figure
from matplotlib.image import imsave

# For `import benchmarks`, and for `import samples` and `import backends`.
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import fake_cuda
from backends import PRESENT, force
from cases import case_name

from snnfast.backend import BY_REFERENCE, memory
from snnfast.compiler import build
from snnfast.compiler.build import BeingCompiledError, library
from snnfast.files.atomic import replacing
from snnfast.ops import own_neuron, own_rule, spike_costs

SHIPPED, SAVEFIG = build._flags, Figure.savefig
# The headers of users' neurons that tests compile, by target.
HEADERS = {
    "cpu": ("core/functions.h", "cpu/own_neuron.h"),
    "cuda_emulation": ("core/functions.h", "cuda/own_neuron.cuh"),
}

settings.register_profile("repeatable", derandomize=True, deadline=None, database=None, max_examples=20)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("SNNFAST_HYPOTHESIS", "repeatable"))

# Shared tests of the scan over time: memory, strides, sizes, threads, ways to call it.
OF_THE_SCAN = {f"neurons.{name}" for name in ("compiled", "determinism", "layouts", "memory", "sizes", "ways")}


@pytest.fixture(params=[*PRESENT, "reference"])
def backend(request):
    """Force every backend in turn."""
    with force(request.param) as chosen:
        yield chosen


@pytest.fixture(params=PRESENT)
def kernels(request):
    """Force every backend except the reference in turn."""
    with force(request.param) as chosen:
        yield chosen


def pytest_runtest_setup():
    """Seed each test: random weights do not depend on the tests before it in its process."""
    torch.manual_seed(0)


@pytest.fixture
def one_thread():
    """Use one thread, because small networks of tests only wait for threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@functools.cache
def precompiled(target, *flags):
    """Return the path of a header that includes those of compiled neurons, beside its precompiled form."""
    csrc, digest = build._headers()
    key = hashlib.sha256("\0".join([digest, *flags]).encode()).hexdigest()
    text = "".join([f"// {key}\n", *(f'#include "{name}"\n' for name in HEADERS[target])])
    header = Path(__file__).parents[1] / "build" / "headers" / f"{target}.h"
    if not header.exists() or header.read_text() != text:
        with replacing(header) as new, replacing(header.with_suffix(".h.gch")) as compiled:
            new.write_text(text)
            words = [*build._compiler()[0], *flags, f"-I{csrc}", "-x", "c++-header", new, "-o", compiled]
            subprocess.run(words, check=True)
    return str(header)


@pytest.fixture(autouse=True, scope="session")
def wait_for_kernels():
    """Wait while another worker compiles the same kernel, where users get plain PyTorch for that call.

    ``-O0`` with precompiled headers takes an eighth of the time and gives the same bits; :func:`as_shipped` keeps
    the flags of users.
    """

    def quick(target="cpu"):
        level = "-O0" if target in HEADERS else "-O1"
        flags = [level if flag in ("-O3", "-O1") else flag for flag in SHIPPED(target)]
        return [*flags, "-include", precompiled(target, *flags)] if target in HEADERS else flags

    def patient(name, source, target="cpu"):
        while True:
            try:
                return library(name, source, target)
            except BeingCompiledError:
                time.sleep(0.1)

    own_neuron.library = own_rule.library = patient
    build._flags = quick
    yield
    own_neuron.library = own_rule.library = library
    build._flags = SHIPPED


@pytest.fixture(autouse=True, scope="session")
def built_in_costs():
    """Choose products by the built-in costs; measured ones differ between machines, and between orders of tests."""
    spike_costs._fitted = True


@pytest.fixture(autouse=True, scope="session")
def sketches():
    """Write one pixel per figure, because drawing takes longer than training; :func:`drawn` restores drawing."""

    def sketch(figure, path, **_):
        imsave(path, [[0.0]], format="png")

    Figure.savefig = sketch
    yield
    Figure.savefig = SAVEFIG


@pytest.fixture
def drawn(monkeypatch):
    """Draw figures."""
    monkeypatch.setattr(Figure, "savefig", SAVEFIG)


@pytest.fixture
def as_shipped(monkeypatch):
    """Compile kernels with the flags of users."""
    monkeypatch.setattr(build, "_flags", SHIPPED)


def pytest_configure(config):
    # Kernels that tests compile belong to this checkout, not to the user's cache.
    os.environ.setdefault("SNNFAST_CACHE_DIR", str(Path(__file__).parents[1] / "build" / "kernels"))
    if workers := getattr(config.option, "numprocesses", None):
        # Workers of pytest-xdist share the cores: waiting threads would use more time than they save.
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, os.cpu_count() // workers)))
    pytest.register_assert_rewrite("neurons", "samples")
    config.addinivalue_line("markers", "over_neurons(names, cases): over ``cases(op)`` of every neuron")


def pytest_collection_modifyitems(config, items):
    items[:] = [item for item in items if "NOTSET" not in item.name]  # no neuron
    # Emulated ops are registered by the same code as those of the CPU: opcheck only runs over those of lif.
    checked = re.compile(r"opcheck.*cuda_emulation(?!-lif)")
    items[:] = [item for item in items if not checked.search(item.nodeid)]
    items[:] = [item for item in items if not _has_no_kernel(item)]
    for item in items if fake_cuda.WANTED else ():
        of_cuda = re.search(r"[\[-]cuda[]-]|TestCuda", item.nodeid)
        if of_cuda and any(name in item.nodeid for name in fake_cuda.UNABLE):
            item.add_marker(pytest.mark.skip("fake_cuda.UNABLE: needs what the fake GPU has not"))


def _has_no_kernel(item):
    """Return whether a test is for CUDA and for an op with kernels for the CPU alone."""
    values = item.callspec.params.values() if hasattr(item, "callspec") else ()
    names = {value if isinstance(value, str) else getattr(value, "__name__", "") for value in values}
    return bool(names & set(BY_REFERENCE)) and bool(names & {"cuda", "cuda_emulation"})


def pytest_generate_tests(metafunc):
    """Parametrise ``op`` with the ``NEURONS`` of the module, or with the cases of :func:`samples.over_neurons`."""
    from samples import SCANNED  # imported late, so that pytest rewrites its asserts

    neurons = getattr(metafunc.module, "NEURONS", ())
    if metafunc.function.__module__ in OF_THE_SCAN:
        neurons = [op for op in neurons if op.name in SCANNED]
    marks = [mark.args for mark in metafunc.definition.iter_markers("over_neurons")]
    if (
        hasattr(metafunc.module, "NEURONS")
        and "op" in metafunc.fixturenames
        and not any("op" in m[0].split() for m in marks)
    ):
        marks.append(("op", lambda op: [op]))
    for names, cases in marks:
        values = [case for op in neurons for case in cases(op)]
        metafunc.parametrize(names.replace(" ", ","), values, ids=case_name)


@pytest.fixture
def fresh_compiler():
    torch.compiler.reset()


@pytest.fixture
def nan_memory():
    """Fill every uninitialised tensor of PyTorch, in Python and in C++, with NaN."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def fresh_cache():
    """Start with an empty cache of output memory, of at most 256 MiB."""
    before = memory.statistics().limit
    memory.set_limit(2**28)
    memory.release()
    yield
    memory.set_limit(before)


@pytest.fixture
def threads():
    """Return a function that sets the number of PyTorch's threads."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def pytest_runtest_logreport(report):
    """End this process if a GPU no longer responds, so that pytest-xdist starts another one."""
    if report.failed and "PYTEST_XDIST_WORKER" in os.environ and torch.cuda.is_initialized():
        try:
            torch.cuda.synchronize()
        except RuntimeError:
            os._exit(3)


def pytest_collection_finish():
    """Freeze the collected tests, because every full garbage collection would traverse thousands of them."""
    gc.freeze()
