"""Shared libraries from C++ source, compiled once and then taken from a cache.

The cache is a folder of files ``<name>-<key>.so``. The key is a hash of everything that the result of the compiler
depends on. A file ends with the SHA-256 of the bytes before it, which loaders ignore, so that damage is noticed.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from snnfast import backend
from snnfast.files.atomic import replacing
from snnfast.files.lock_file import HeldError, holding

__all__ = ["BeingCompiledError", "CompileError", "cached", "clear", "command", "folder", "library"]

# The flags of kernels in CMakeLists.txt; tests/compiler/test_build_flags.py compares them.
LIBRARY = ("-std=c++17", "-O3", "-shared")
OBJECT = ("-fPIC", "-fvisibility=hidden", "-ffp-contract=off")
FLAGS = (*LIBRARY, *OBJECT, "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math")
CUDA_FLAGS = (*LIBRARY, "-Xcompiler", ",".join(OBJECT), "--fmad=false")
# For CUDA sources on the CPU, in tests.
EMULATED_FLAGS = (
    *("-std=c++17", "-O1", "-shared", *OBJECT, "-Wno-unknown-pragmas", "-DSNNFAST_CUDA_EMULATION"),
    *("-fsanitize=alignment", "-fsanitize-undefined-trap-on-error"),
)
NO_REP = ("-mmemset-strategy=libcall:-1:noalign", "-mmemcpy-strategy=libcall:-1:noalign")
ISA_FLAGS: dict[str, tuple[str, ...]] = {
    "base": (),
    "avx2": ("-march=x86-64-v3",),
    "avx512": ("-march=x86-64-v4", "-mprefer-vector-width=512"),
}
# In csrc; an installation has them in snnfast/include (setup.py).
HEADERS = ("core/*.h", "cpu/*.h", "cpu/rows.cpp", "cuda/launch.h", "cuda/*.cuh")
MOST_FILES = 200
MOST_BYTES = 256 * 2**20
TIMEOUT = 120.0  # seconds
OURS = re.compile(r"\.?\w+-[0-9a-f]{64}\.(so|lock|so\.\d+\.new)|conv-costs-[0-9a-f]{16}\.json", re.ASCII)
DIGEST = hashlib.sha256().digest_size
OTHER_COMPILER = "set CXX to a C++17 compiler that works"
OTHER_NVCC = "set CUDACXX to an nvcc that works"
OTHER_FOLDER = "set SNNFAST_CACHE_DIR to a folder of your own"

_announced = False
# By source and target:
_failed: dict[tuple[str, str], str] = {}  # messages: a training loop starts a broken compiler once
_locks: dict[tuple[str, str], threading.Lock] = {}  # a second thread waits for the first one
os.register_at_fork(after_in_child=_locks.clear)  # the thread that holds one is not in the child


class CompileError(RuntimeError):
    """A library cannot be compiled, for the reason in the message. The error is final in this process."""


class BeingCompiledError(CompileError):
    """Another process is compiling the same library, which a later call will find."""


def library(name: str, source: str, target: str = "cpu") -> Path:
    """Return the shared library of ``source``: from the cache, or compiled now.

    Args:
        name: part of the file name; stderr shows it when the first compilation of this process starts.
        source: C++17, which may include the headers of ``csrc/core`` and ``csrc/cpu`` and ``cpu/rows.cpp``, or CUDA,
            which may include those of ``csrc/core`` and ``csrc/cuda``.
        target: ``cpu`` for this processor, the architecture of a GPU (``sm_90``), or ``cuda_emulation`` for CUDA on
            this processor.

    Raises:
        BeingCompiledError: another process is compiling it.
        CompileError: no compiler, an error of it, no headers, or no safe or writable folder for the result. The same
            source raises the same error again, without another try.
    """
    key = source, target
    with _locks.setdefault(key, threading.Lock()):
        if key in _failed:
            raise CompileError(_failed[key])
        try:
            return _library(name, source, target)
        except BeingCompiledError:
            raise
        except CompileError as error:
            _failed[key] = str(error)
            raise


def command(output: Path, target: str = "cpu") -> list[str]:
    """Return the command that compiles its standard input for ``target`` to the library ``output``.

    Raises:
        CompileError: no compiler, no headers, no compiled extension, which has the instruction set, or a compiler for a
            later CUDA than the driver's.
    """
    language = "cu" if _is_gpu(target) else "c++"
    words = [*_compiler(_is_gpu(target))[0], *_flags(target), f"-I{_headers()[0]}"]
    return [*words, "-x", language, "-", "-o", str(output)]


def folder() -> Path:
    """Return the folder of the cache: ``$SNNFAST_CACHE_DIR``, ``$XDG_CACHE_HOME/snnfast`` or ``~/.cache/snnfast``."""
    configured, caches = (os.environ.get(name) for name in ("SNNFAST_CACHE_DIR", "XDG_CACHE_HOME"))
    # Not Path.expanduser, which raises an error where a user has no home.
    return Path(os.path.expanduser(configured or f"{caches or '~/.cache'}/snnfast"))  # noqa: PTH111


def cached() -> tuple[int, int]:
    """Return number and bytes of the libraries in the cache."""
    sizes = [size for _, size, path in _files(folder()) if path.suffix == ".so"]
    return len(sizes), sum(sizes)


def clear() -> tuple[int, int]:
    """Empty the cache, and return number and bytes of the libraries that were in it.

    Raises:
        OSError: a file cannot be deleted.
    """
    found = cached()
    for _, _, path in _files(folder()):
        path.unlink(missing_ok=True)
    return found


def _is_gpu(target: str) -> bool:
    return target.startswith("sm_")


def _library(name: str, source: str, target: str) -> Path:
    stem = re.sub(r"\W", "_", name, flags=re.ASCII)[:60]
    path = _safe_folder() / f"{stem}-{_key(source, target)}.so"
    if _is_whole(path):
        return path
    try:
        with holding(path.with_suffix(".lock")):
            if not _is_whole(path):  # another process may just have finished it
                _announce(name, target, path.parent)
                _compile(source, target, path)
    except HeldError:
        raise BeingCompiledError("another process is compiling it") from None
    except OSError as error:
        raise CompileError(f"{path.parent}: {error.strerror}; {OTHER_FOLDER}") from error
    _evict(path)
    return path


def _compile(source: str, target: str, path: Path) -> None:
    with replacing(path) as new:
        words, advice = command(new, target), OTHER_NVCC if _is_gpu(target) else OTHER_COMPILER
        _run(words, advice, source.encode())
        if not (new.is_file() and new.stat().st_size):
            raise CompileError(f"{words[0]} wrote no library; {advice}")
        digest = hashlib.sha256(new.read_bytes()).digest()
        with new.open("ab") as stream:
            stream.write(digest)


def _run(words: list[str], advice: str, text: bytes = b"") -> str:
    """Run a compiler, and return what it prints. ``advice``: the way out, if it fails."""
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,
        )
    except OSError as error:
        raise CompileError(f"{words[0]} did not start: {error.strerror}; {advice}") from error
    with process:
        try:
            printed, complaint = process.communicate(text, TIMEOUT)
        except subprocess.TimeoutExpired:
            raise CompileError(f"{words[0]} took more than {TIMEOUT:g} s; {advice}") from None
        finally:
            if process.returncode is None:  # also after Ctrl-C
                os.killpg(process.pid, signal.SIGKILL)  # with the processes that it started
    if process.returncode:
        lines = [*filter(None, complaint.decode(errors="replace").splitlines())]
        lines.append(f"exit status {process.returncode}")
        first = next((line for line in lines if "error" in line.lower()), lines[0])
        raise CompileError(f"{words[0]} failed: {first[:300]}; {advice}")
    return printed.decode(errors="replace")


def _announce(name: str, target: str, where: Path) -> None:
    global _announced
    if not _announced:
        _announced = True
        device = "GPU (about 5 s" if _is_gpu(target) else "processor (about 3 s"
        text = f"compiling {name} for this {device}; kept in {where})"
        print(f"snnfast: {text}", file=sys.stderr, flush=True)


@functools.cache
def _compiler(cuda: bool = False) -> tuple[list[str], str]:
    """Return the command of the compiler, found as in setup.py, and the text of its version."""
    env = os.environ
    if cuda:
        homes = (f"{env[k]}/bin/nvcc" for k in ("CUDA_HOME", "CUDA_PATH") if env.get(k))
        pip = map(str, Path(sysconfig.get_path("purelib")).glob("nvidia/cu*/bin/nvcc"))
        tries = [env.get("CUDACXX"), *homes, "nvcc", "/usr/local/cuda/bin/nvcc", *pip]
    else:
        tries = [os.environ.get("CXX"), "c++", "g++", "clang++"]
    found = next((t.split() for t in tries if t and shutil.which(t.split()[0])), None)
    if found is None:
        raise CompileError(
            "no CUDA compiler was found (tried $CUDACXX, $CUDA_HOME, $CUDA_PATH, nvcc, /usr/local/cuda, packages of "
            "pip); set CUDACXX to an nvcc, or run: pip install nvidia-cuda-nvcc nvidia-cuda-cccl"
            if cuda
            else "no C++ compiler was found (tried $CXX, c++, g++, clang++); install one, for example: "
            "apt-get install g++"
        )
    words = [str(shutil.which(found[0])), *found[1:]]
    return words, _run([*words, "--version"], OTHER_NVCC if cuda else OTHER_COMPILER)


def _flags(target: str = "cpu") -> list[str]:
    if target == "cuda_emulation":
        return [*EMULATED_FLAGS, f"-I{_headers()[0] / 'cuda_emulation'}"]
    if backend.extension is None:
        raise CompileError(backend.load_problem)
    if _is_gpu(target):
        (nvcc, *_), text = _compiler(cuda=True)
        release, driver = re.search(r"release (\d+)", text), backend.extension.cuda_versions()[0]
        if release and driver and int(release[1]) > driver // 1000:
            raise CompileError(
                f"{nvcc} is of CUDA {release[1]}, and the NVIDIA driver is for CUDA {driver // 1000}; update the "
                "driver, or set CUDACXX to an older nvcc"
            )
        return [*CUDA_FLAGS, f"-arch={target}"]
    isa = backend.extension.cpu_isa()
    # The version text names GCC, whose options for memset and memcpy exist for x86 alone.
    gcc = "Free Software Foundation" in _compiler()[1]
    no_rep = NO_REP if gcc and platform.machine() in ("x86_64", "AMD64") else ()
    return [*FLAGS, *no_rep, *ISA_FLAGS[isa], f"-DSNNFAST_ISA={isa}"]


@functools.cache
def _headers() -> tuple[Path, str]:
    """Return the folder of the headers, and a hash of their contents."""
    package = Path(__file__).parents[1]
    for home in (package.parent / "csrc", package / "include"):  # of a checkout, of an installation
        if (home / "core/neuron.h").exists():
            digest = hashlib.sha256()
            patterns = (*HEADERS, "cuda_emulation/*.h")  # the last ones only in a checkout
            for path in sorted(path for pattern in patterns for path in home.glob(pattern)):
                digest.update(f"{path.relative_to(home)}\n".encode() + path.read_bytes())
            return home, digest.hexdigest()
    raise CompileError(f"{package / 'include'} has no C++ headers; install snnfast again")


def _key(source: str, target: str) -> str:
    words, compiler = _compiler(_is_gpu(target))
    parts = [source, _headers()[1], version("snnfast"), *words, compiler, *_flags(target)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _safe_folder() -> Path:
    """Return the folder of the cache; only this user may write it, since libraries from it run as this user."""
    where = folder()
    if not where.is_absolute():
        raise CompileError(f"the cache must be an absolute path, got {where}; {OTHER_FOLDER}")
    try:
        where.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = where.stat()
    except OSError as error:
        raise CompileError(f"{where}: {error.strerror}; {OTHER_FOLDER}") from error
    if status.st_uid != os.getuid():
        raise CompileError(f"{where} belongs to another user; {OTHER_FOLDER}")
    if status.st_mode & 0o022:
        raise CompileError(f"others can write {where}; run chmod 700 {where}, or {OTHER_FOLDER}")
    return where


def _is_whole(path: Path) -> bool:
    """Return whether a library exists and is undamaged; if so, update the time of its last use."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    intact = hashlib.sha256(content[:-DIGEST]).digest() == content[-DIGEST:]
    if intact:
        with suppress(OSError):  # on a read-only file system
            os.utime(path)
    return intact


def _files(where: Path) -> list[tuple[int, int, Path]]:
    """Return time of the last use, bytes and path of each file of the cache, the last used first."""
    found = []
    for path in where.iterdir() if where.is_dir() else ():
        if OURS.fullmatch(path.name):
            with suppress(FileNotFoundError):  # another process deleted it
                status = path.lstat()
                found.append((status.st_mtime_ns, status.st_size, path))
    return sorted(found, reverse=True)


def _evict(newest: Path) -> None:
    """Delete the least recently used files beyond the bounds."""
    total = 0
    for number, (_, size, path) in enumerate(_files(newest.parent)):
        total += size
        if path != newest and (number >= MOST_FILES or total > MOST_BYTES):
            with suppress(OSError):
                path.unlink()
