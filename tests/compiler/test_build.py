"""Shared libraries from C++ text: compiled once, cached safely, and every failure is one clear sentence."""

import ctypes
import errno
import os
import shutil
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import interpreter
import pytest

from snnfast import backend
from snnfast.compiler import build

ANSWER = 'extern "C" __attribute__((visibility("default"))) int answer() { return 42; }'
# A fake compiler that copies the source.
COPY = 'for out; do :; done; cat > "$out"'
NEEDS_COMPILER = pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="no C++ compiler")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch, as_shipped):
    """Return an empty cache, in a process that has compiled nothing."""
    monkeypatch.setenv("SNNFAST_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "_failed", {})
    monkeypatch.setattr(build, "_announced", False)
    use_isa(monkeypatch, "base")
    build._compiler.cache_clear()
    yield tmp_path / "cache"
    build._compiler.cache_clear()


def use_isa(monkeypatch, isa, driver=0):
    found = SimpleNamespace(cpu_isa=lambda: isa, cuda_versions=lambda: (driver, 13000))
    monkeypatch.setattr(backend, "extension", found)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Make $CXX a shell script that records its arguments; return its calls, without version queries."""

    def make(body=COPY, version="fake 1.0", name="compiler", variable="CXX"):
        script, calls = tmp_path / name, tmp_path / "calls"
        script.write_text(
            f'#!/bin/sh\ncase "$*" in *--version) echo "{version}"; exit;; esac\necho "$@" >> {calls}\n{body}\n'
        )
        script.chmod(0o755)
        monkeypatch.setenv(variable, str(script))
        build._compiler.cache_clear()
        return lambda: calls.read_text().splitlines() if calls.exists() else []

    return make


def fails(match, source="source", kind=build.CompileError):
    with pytest.raises(kind, match=match) as caught:
        build.library("klif", source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@NEEDS_COMPILER
def test_a_library_is_compiled_once_and_runs(cache, monkeypatch, capfd):
    path = build.library("klif", ANSWER)
    assert ctypes.CDLL(str(path)).answer() == 42
    assert list(cache.iterdir()) == [path]
    assert path.name.startswith("klif-")
    monkeypatch.setattr(build, "_run", lambda *_: pytest.fail("compiled again"))
    assert build.library("klif", ANSWER) == path
    said = capfd.readouterr().err
    expected = "snnfast: compiling klif for this processor (about 3 s; kept in "
    assert said == f"{expected}{cache})\n"


@NEEDS_COMPILER
def test_the_loop_over_time_compiles_without_pytorch(as_shipped):
    source = '#include "cpu/neuron_loop.h"\n#include "cpu/rows.cpp"\n' + ANSWER
    assert ctypes.CDLL(str(build.library("headers", source))).answer() == 42


def test_the_first_compilation_is_announced_once(fake, capfd):
    fake()
    for source in ("a", "b", "a"):
        build.library("klif", source)
    assert capfd.readouterr().err.count("snnfast: compiling klif") == 1


def test_names_that_are_no_file_names(cache, fake):
    fake()
    assert build.library("../ü/x" + "y" * 300, "source").parent == cache


def test_a_missing_compiler_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    fails("no C\\+\\+ compiler was found .* apt-get install g\\+\\+$")


def test_a_missing_extension_is_told(fake, monkeypatch):
    fake()
    monkeypatch.setattr(backend, "extension", None)
    monkeypatch.setattr(backend, "load_problem", "it was not built")
    fails("it was not built")


def test_missing_headers_are_told(fake, monkeypatch, tmp_path):
    fake()
    monkeypatch.setattr(build, "__file__", str(tmp_path / "snnfast/compiler/build.py"))
    build._headers.cache_clear()
    fails(f"{tmp_path}/snnfast/include has no C\\+\\+ headers; install snnfast again")
    (tmp_path / "snnfast/include/core").mkdir(parents=True)
    (tmp_path / "snnfast/include/core/neuron.h").write_text("")
    assert build._headers()[0] == tmp_path / "snnfast/include"
    build._headers.cache_clear()


def test_arguments_of_cxx_are_passed_on(fake, monkeypatch):
    calls = fake()
    monkeypatch.setenv("CXX", os.environ["CXX"] + " -m64")
    build.library("klif", "source")
    assert calls()[0].startswith("-m64 -std=c++17 ")


NVCC = {"version": "Cuda compilation tools, release 13.0", "variable": "CUDACXX", "name": "nvcc"}


def test_nvcc_compiles_for_each_architecture(fake, monkeypatch, capfd):
    calls = fake(**NVCC)
    use_isa(monkeypatch, "base", driver=13010)
    paths = {build.library("klif", "source", f"sm_{arch}") for arch in (80, 90, 80)}
    assert len(paths) == 2
    assert [call.split()[-5:-1] for call in calls()] == [["-x", "cu", "-", "-o"]] * 2
    assert ["-arch=sm_80" in call for call in calls()] == [True, False]
    assert "-fPIC,-fvisibility=hidden,-ffp-contract=off --fmad=false" in calls()[0]
    assert "compiling klif for this GPU (about 5 s; kept in " in capfd.readouterr().err


def test_a_driver_of_an_older_cuda_is_told(fake, monkeypatch):
    fake(**NVCC)
    use_isa(monkeypatch, "base", driver=12080)
    with pytest.raises(build.CompileError, match=r"nvcc is of CUDA 13, and the NVIDIA driver is for CUDA 12; update"):
        build.library("klif", "source", "sm_90")


def test_without_nvcc_a_gpu_has_no_kernel(tmp_path, monkeypatch):
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    with pytest.raises(
        build.CompileError,
        match=r"no CUDA compiler was found \(tried \$CUDACXX.*set CUDACXX.*pip install nvidia-cuda-nvcc",
    ):
        build.library("klif", "source", "sm_90")


def test_an_nvcc_that_pip_installed_is_found(fake, tmp_path, monkeypatch):
    calls = fake(**NVCC)
    use_isa(monkeypatch, "base", driver=13010)
    nvcc = tmp_path / "nvidia/cu13/bin/nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.symlink_to(shutil.which(os.environ["CUDACXX"]))
    monkeypatch.setenv("CUDACXX", "")
    monkeypatch.setattr(build.sysconfig, "get_path", lambda name: str(tmp_path))
    found = shutil.which
    monkeypatch.setattr(build.shutil, "which", lambda name: found(name) if name == str(nvcc) else None)
    build.library("klif", "source", "sm_90")
    assert len(calls()) == 1


def test_an_error_of_nvcc_says_which_variable_names_another(fake):
    fake("echo 'nvcc fatal error: no sm_999' >&2; exit 1", **NVCC)
    with pytest.raises(build.CompileError, match=r"nvcc failed: .*no sm_999; set CUDACXX to an nvcc that works"):
        build.library("klif", "source", "sm_999")


ERROR = "echo 'In file included:' >&2; echo '<stdin>:1: error: no such thing' >&2; echo more >&2; exit 1"


@pytest.mark.parametrize(
    ("body", "match"),
    [
        (f"echo half > $out; {ERROR}", "compiler failed: <stdin>:1: error: no such thing; set CXX"),
        ("exit 3", "compiler failed: exit status 3; set CXX to a C"),
        ("kill -9 $$", "compiler failed: exit status -9; set CXX"),
        ("exit 0", "compiler wrote no library; set CXX"),
        ("for out; do :; done; : > $out", "compiler wrote no library; set CXX"),
    ],
)
def test_a_compiler_that_fails_is_told_and_not_started_again(cache, fake, body, match):
    calls = fake(f"for out; do :; done; {body}")
    assert fails(match) == fails(match)
    assert len(calls()) == 1
    fails(match, "another source")
    assert len(calls()) == 2
    assert list(cache.iterdir()) == []


def test_a_compiler_that_does_not_start(tmp_path, monkeypatch):
    (tmp_path / "broken").write_bytes(b"\x7fELF")
    (tmp_path / "broken").chmod(0o755)
    monkeypatch.setenv("CXX", str(tmp_path / "broken"))
    fails("broken did not start: Exec format error; set CXX")


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_compiler_that_hangs_ends_with_its_children(cache, fake, monkeypatch, tmp_path):
    monkeypatch.setattr(build, "TIMEOUT", 0.5)
    fake(f"sleep 600 & echo $! > {tmp_path}/child; wait")
    fails("compiler took more than 0.5 s; set CXX")
    deadline = time.monotonic() + 30
    while running((tmp_path / "child").read_text().strip()):
        assert time.monotonic() < deadline
    assert list(cache.iterdir()) == []


WAIT = "touch {0}/started; while ! [ -e {0}/go ]; do sleep 0.02; done; " + COPY


def wait_for(path):
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_while_another_process_compiles(as_shipped, cache, fake, tmp_path):
    calls = fake(WAIT.format(tmp_path))
    code = (
        "import types; from snnfast import backend; from snnfast.compiler import build\n"
        "backend.extension = types.SimpleNamespace(cpu_isa=lambda: 'base')\n"
        "print(build.library('klif', 'source'))\n"
    )
    other = interpreter.Interpreter(code)
    try:
        wait_for(tmp_path / "started")
        for _ in range(2):
            fails("^another process is compiling it$", kind=build.BeingCompiledError)
        assert not list(cache.glob("*.so"))
    finally:
        (tmp_path / "go").touch()
        done = other.wait()
    path = build.library("klif", "source")
    assert done.stdout == f"{path}\n"
    assert len(calls()) == 1
    assert list(cache.iterdir()) == [path]


def test_a_library_that_another_process_has_just_finished(fake, monkeypatch):
    calls = fake()
    path = build.library("klif", "source")
    content, lock = path.read_bytes(), build.holding
    path.unlink()

    @contextmanager
    def just_free(name):
        with lock(name):
            path.write_bytes(content)
            yield

    monkeypatch.setattr(build, "holding", just_free)
    assert build.library("klif", "source") == path
    assert len(calls()) == 1


def test_a_second_thread_waits(fake, tmp_path):
    calls, found = fake(WAIT.format(tmp_path)), []
    threads = [threading.Thread(target=lambda: found.append(build.library("klif", "source"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_for(tmp_path / "started")
    time.sleep(0.1)  # a second thread that did not wait would have raised its error
    (tmp_path / "go").touch()
    for thread in threads:
        thread.join(60)
    assert len(found) == 2
    assert found[0] == found[1]
    assert len(calls()) == 1


def test_a_fork_does_not_wait_for_threads_that_it_lacks(monkeypatch):
    build._locks["source"] = threading.Lock()
    pid = os.fork()
    if not pid:
        os._exit(len(build._locks))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    del build._locks["source"]


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[:-1], lambda b: b"X" + b[1:]])
def test_a_damaged_library_is_compiled_again(fake, damage):
    calls = fake()
    path = build.library("klif", "source")
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert build.library("klif", "source") == path
    assert path.read_bytes() == whole
    assert len(calls()) == 2


def test_what_the_library_depends_on_is_in_its_key(fake, monkeypatch, tmp_path):
    fake()
    paths = [build.library("klif", "source"), build.library("klif", "another")]

    def again():
        paths.append(build.library("klif", "source"))

    for isa in ("avx2", "avx512"):
        use_isa(monkeypatch, isa)
        again()
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-g"))
    again()
    fake(version="fake 1.1")
    again()
    fake(name="other", version="fake 1.1")
    again()
    monkeypatch.setattr(build, "version", lambda name: "1000.0")
    again()
    monkeypatch.setattr(build, "_headers", lambda: (tmp_path, "other contents"))
    again()
    assert len(set(paths)) == len(paths) == 9


def test_the_contents_of_headers_count(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "__file__", str(tmp_path / "snnfast/compiler/build.py"))
    found = []
    for name, text in (("core/neuron.h", "a"), ("core/neuron.h", "b"), ("cpu/rows.cpp", "b")):
        (tmp_path / "csrc" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "csrc" / name).write_text(text)
        build._headers.cache_clear()
        found.append(build._headers()[1])
    build._headers.cache_clear()
    assert len(set(found)) == 3


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_can_write_is_refused(cache, fake, mode):
    calls = fake()
    build.library("klif", "source")
    cache.chmod(mode)
    fails(f"^others can write {cache}; run chmod 700 {cache}, or set SNNFAST_CACHE_DIR")
    assert len(calls()) == 1


def test_a_folder_of_another_user_is_refused(cache, fake, monkeypatch):
    fake()
    build.library("klif", "source")
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    fails(f"^{cache} belongs to another user; set SNNFAST_CACHE_DIR")


def test_a_new_folder_is_for_its_user_alone(cache, fake):
    fake()
    before = os.umask(0)
    try:
        build.library("klif", "source")
    finally:
        os.umask(before)
    assert cache.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made(tmp_path, fake, monkeypatch):
    fake()
    (tmp_path / "file").touch()
    monkeypatch.setenv("SNNFAST_CACHE_DIR", str(tmp_path / "file/cache"))
    fails(f"^{tmp_path}/file/cache: Not a directory; set SNNFAST_CACHE_DIR to a folder of your own")


def test_a_full_disk(cache, fake, monkeypatch):
    @contextmanager
    def full(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield

    calls = fake()
    monkeypatch.setattr(build, "replacing", full)
    fails(f"^{cache}: No space left on device; set SNNFAST_CACHE_DIR")
    assert not calls()
    assert list(cache.iterdir()) == []


def test_where_the_cache_is(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert build.folder() == Path(os.environ["SNNFAST_CACHE_DIR"])
    monkeypatch.setenv("SNNFAST_CACHE_DIR", "~/kept")
    assert build.folder() == Path("/home/ada/kept")
    monkeypatch.delenv("SNNFAST_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert build.folder() == Path("/home/ada/.cache/snnfast")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert build.folder() == Path("/caches/snnfast")


def test_a_relative_folder_is_refused(fake, monkeypatch):
    fake()
    monkeypatch.setenv("SNNFAST_CACHE_DIR", "kept")
    fails("the cache must be an absolute path, got kept; set SNNFAST_CACHE_DIR")


def used(path, at):
    os.utime(path, (at, at))
    return path


def test_the_least_recently_used_libraries_go(cache, fake, monkeypatch):
    fake()
    monkeypatch.setattr(build, "MOST_FILES", 3)
    first, _, third = (used(build.library("klif", source), at) for at, source in enumerate("abc", start=1))
    (cache / "of the user.so").touch()
    used(cache / "of the user.so", 0)
    build.library("klif", "a")
    fourth = build.library("klif", "d")
    remaining = {first, third, fourth, cache / "of the user.so"}
    assert set(cache.iterdir()) == remaining
    monkeypatch.setattr(build, "MOST_BYTES", 1)
    last = build.library("klif", "e")
    assert set(cache.iterdir()) == {last, cache / "of the user.so"}


def test_what_a_killed_process_left_is_forgotten(cache, fake, monkeypatch):
    """Its lock blocks no other process, and its partial library is removed like an old one."""
    fake()
    monkeypatch.setattr(build, "MOST_FILES", 1)
    path = build.library("klif", "source")
    path.unlink()
    path.with_suffix(".lock").write_text("process 1")
    (cache / f".{path.name}.1.new").touch()
    assert build.library("klif", "source") == path
    assert list(cache.iterdir()) == [path]


def test_an_emptied_cache(cache, fake):
    assert build.clear() == build.cached() == (0, 0)
    calls = fake()
    paths = [build.library("klif", source) for source in "ab"]
    size = sum(path.stat().st_size for path in paths)
    (cache / "of the user.so").touch()
    (cache / f".{paths[0].name}.1.new").touch()
    assert build.cached() == (2, size)
    assert build.clear() == (2, size)
    assert [path.name for path in cache.iterdir()] == ["of the user.so"]
    build.library("klif", "a")
    assert len(calls()) == 3
