"""Builds snnfast._C by running CMake (CMakeLists.txt is the build definition).

SNNFAST_CUDA=auto|0|1      CUDA kernels: where nvcc and a use for them are found (default), never, or fail without nvcc
TORCH_CUDA_ARCH_LIST       e.g. "8.0;9.0+PTX"; default: the cards in this machine, or 8.0;9.0;10.0+PTX;12.0 if there are none
SNNFAST_EMULATION=0|1      also build the CUDA kernels for the CPU, for tests; default 1 for an editable install, else 0
SNNFAST_BEST_ISA=isa       the best instruction set to build CPU kernels for: base, avx2 or avx512; default: this processor's
SNNFAST_SANITIZE=list      sanitizers, e.g. address,undefined (tests)
SNNFAST_WERROR=1           warnings are errors
SNNFAST_QUICK=1            compile what is for tests alone in less time (CI): weaker instruction sets, CUDA kernels but lif's
MAX_JOBS=n                 parallel compilations
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent.resolve()
DEFAULT_ARCHS = "8.0;9.0;10.0+PTX;12.0"
OLDEST_ARCH = 80  # kernels copy by cp.async
OLDEST_TORCH = (2, 10)
HEADERS = ("core/*.h", "cpu/*.h", "cpu/rows.cpp", "cuda/launch.h", "cuda/*.cuh")  # as in snnfast/compiler/build.py


def compiler() -> str:
    tries = [os.environ.get("CXX"), "c++", "g++", "clang++"]
    found = next((t for t in tries if t and shutil.which(t.split()[0])), None)
    if found is None:
        sys.exit(
            "snnfast: building needs a C++17 compiler and none was found (tried $CXX, c++, g++, clang++).\n"
            "Install one, for example: apt-get install g++, or xcode-select --install"
        )
    return found


def nvcc() -> str | None:
    env = os.environ
    homes = (f"{env[k]}/bin/nvcc" for k in ("CUDA_HOME", "CUDA_PATH") if env.get(k))
    pip = map(str, Path(sysconfig.get_path("purelib")).glob("nvidia/cu*/bin/nvcc"))
    tries = [env.get("CUDACXX"), *homes, "nvcc", "/usr/local/cuda/bin/nvcc", *pip]
    return next(filter(None, (shutil.which(t) for t in tries if t)), None)


def cards() -> list[str]:
    """Return the architectures of the cards in this machine, as in TORCH_CUDA_ARCH_LIST; none without a driver."""
    smi = shutil.which("nvidia-smi")
    ask = [smi, "--query-gpu=compute_cap", "--format=csv,noheader"]
    found = subprocess.run(ask, capture_output=True, text=True).stdout if smi else ""
    return sorted(set(re.findall(r"^\d+\.\d+$", found, re.M)), key=float)


def torch_for_cuda() -> bool:
    """Return whether PyTorch of this environment is built for CUDA; if it has none, PyTorch of the build environment."""
    home = Path(sysconfig.get_path("purelib")) / "torch"
    if not home.exists():
        home = Path(find_spec("torch").origin).parent
    return re.search(r"^cuda\b.*= *['\"]", (home / "version.py").read_text(), re.M) is not None


def cuda_archs(text: str, compiler: str | None = None) -> str:
    """Convert PyTorch's notation ("8.0;9.0+PTX") to CMake's ("80-real;90"), for supported architectures.

    Architectures below 8.0 are dropped. For one that the compiler does not support, PTX of an older one is built, which
    the driver compiles for the card. Empty if none remains.
    """
    known = known_archs(compiler) if compiler else set()
    out: dict[str, None] = {}
    for arch in re.split(r"[;,\s]+", text.strip()):
        m = re.fullmatch(r"(\d+)\.(\d+)([af]?)(\+PTX)?", arch)
        if not m:
            sys.exit(f"snnfast: TORCH_CUDA_ARCH_LIST: expected entries like 9.0 or 9.0+PTX, got {arch!r}")
        number = int(m[1] + m[2])
        if number < OLDEST_ARCH:
            leave_out(arch, "the CUDA kernels need compute capability 8.0 or later")
        elif known and number not in known:
            leave_out(arch, f"{compiler} does not know it")
            if older := [other for other in known if OLDEST_ARCH <= other < number]:
                out[str(max(older))] = None
        else:
            out[f"{number}{m[3]}{'' if m[4] else '-real'}"] = None
    with_ptx = {arch for arch in out if not arch.endswith("-real")}
    return ";".join(arch for arch in out if arch in with_ptx or arch.removesuffix("-real") not in with_ptx)


def leave_out(arch: str, why: str) -> None:
    print(f"snnfast: no CUDA kernels are built for architecture {arch}: {why}", flush=True)


def known_archs(compiler: str) -> set[int]:
    """Return the architectures that an nvcc supports; none if it cannot list them."""
    asked = subprocess.run([compiler, "--list-gpu-arch"], capture_output=True, text=True)
    return {int(number) for number in re.findall(r"compute_(\d+)", asked.stdout)}


def choice(name: str, default: str, *others: str) -> str:
    value = os.environ.get(name) or default
    allowed = sorted((default, *others))
    if value not in allowed:
        expected = ", ".join(allowed[:-1]) + " or " + allowed[-1]
        sys.exit(f"snnfast: {name} must be {expected}, got {value!r}")
    return value


def best_isa(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return SNNFAST_BEST_ISA, which wheels for any processor set, or the best instruction set of this processor."""
    known = platform.machine() == "x86_64" and cpuinfo.exists()
    flags = set(re.findall(r"\w+", cpuinfo.read_text())) if known else {"avx512vl"}
    best = "avx512" if "avx512vl" in flags else "avx2" if "avx2" in flags else "base"
    return choice("SNNFAST_BEST_ISA", best, *({"base", "avx2", "avx512"} - {best}))


def switch(name: str, default: bool) -> bool:
    return choice(name, str(int(default)), str(int(not default))) == "1"


def tools() -> tuple[str, str]:
    """Return the paths of CMake and ninja; also check PyTorch and pybind11."""
    cmake, ninja = shutil.which("cmake"), shutil.which("ninja")
    if not cmake or not ninja:
        sys.exit("snnfast: building needs cmake and ninja (pip install cmake ninja)")
    # pip installs these, but not with --no-build-isolation.
    missing = [package for package in ("torch", "pybind11") if find_spec(package) is None]
    if missing:
        sys.exit(f"snnfast: building needs {' and '.join(missing)} (pip install {' '.join(missing)})")
    torch = metadata.version("torch")
    if tuple(map(int, torch.split(".")[:2])) < OLDEST_TORCH:
        sys.exit(f"snnfast: building needs PyTorch 2.10 or later, got {torch}")
    return cmake, ninja


def cuda_arguments() -> list[str]:
    """Return CMake arguments: whether to build the CUDA kernels, and for which cards."""
    cuda, found = choice("SNNFAST_CUDA", "auto", "0", "1"), nvcc()
    if cuda == "1" and found is None:
        sys.exit("snnfast: SNNFAST_CUDA=1, but no CUDA compiler (nvcc) was found; set CUDA_HOME")
    if cuda == "0" or found is None:
        return ["-DSNNFAST_CUDA=0"]
    local_cards = cards()
    if cuda == "auto" and not (local_cards or torch_for_cuda()):
        print(
            "snnfast: no CUDA kernels are built: there is neither an NVIDIA card nor a PyTorch for CUDA "
            "(SNNFAST_CUDA=1 builds them all the same)",
            flush=True,
        )
        return ["-DSNNFAST_CUDA=0"]
    asked = os.environ.get("TORCH_CUDA_ARCH_LIST")
    archs = cuda_archs(asked or ";".join(local_cards) + "+PTX" * bool(local_cards) or DEFAULT_ARCHS, found)
    if not archs:
        if cuda == "1":
            sys.exit(
                f"snnfast: SNNFAST_CUDA=1, but the CUDA kernels need compute capability 8.0 or later, and "
                f"{'TORCH_CUDA_ARCH_LIST has' if asked else 'the cards in this machine have'} none of that: "
                f'set TORCH_CUDA_ARCH_LIST, e.g. to "{DEFAULT_ARCHS}"'
            )
        return ["-DSNNFAST_CUDA=0"]
    return ["-DSNNFAST_CUDA=1", f"-DCMAKE_CUDA_COMPILER={found}", f"-DSNNFAST_CUDA_ARCHS={archs}"]


class CMakeBuild(build_ext):
    """Builds each Extension as a CMake target of the same name; setuptools determines the destination."""

    def finalize_options(self) -> None:
        # An in-place or editable build: the tests are available.
        self.in_source = bool(self.inplace or self.editable_mode)
        self.emulation = switch("SNNFAST_EMULATION", self.in_source)
        if self.emulation:
            self.distribution.ext_modules = [
                Extension("snnfast._C", sources=[]),
                Extension("snnfast._cuda_emulation", sources=[]),
            ]
        super().finalize_options()

    def build_extension(self, ext: Extension) -> None:
        stem = ext.name.rpartition(".")[2]
        out = Path(self.get_ext_fullpath(ext.name)).resolve()
        out.parent.mkdir(parents=True, exist_ok=True)
        built = self.tree() / (stem + sysconfig.get_config_var("EXT_SUFFIX"))
        if not built.exists():
            built = built.with_name(f"{stem}.so")  # independent of the Python version
        temporary = out.with_suffix(".new")
        shutil.copy2(built, temporary)
        temporary.replace(out)  # processes that mapped the old file are not affected

    def tree(self) -> Path:
        """Configure and build once; return the build tree, which stays for incremental builds."""
        if hasattr(self, "_tree"):
            return self._tree
        cmake, ninja = tools()
        cxx = compiler()
        sanitize = os.environ.get("SNNFAST_SANITIZE", "")
        name = f"torch{metadata.version('torch')}"  # shared by all versions of Python
        kind = ("-debug" if self.debug else "") + ("-sanitize" if sanitize else "")
        tree = ROOT / "build" / f"{name}{kind}"
        args = [
            "-G",
            "Ninja",
            f"-DCMAKE_MAKE_PROGRAM={ninja}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DSNNFAST_EMULATION={'ON' if self.emulation else 'OFF'}",
            f"-DSNNFAST_WERROR={'ON' if switch('SNNFAST_WERROR', False) else 'OFF'}",
            f"-DSNNFAST_QUICK={'ON' if switch('SNNFAST_QUICK', False) else 'OFF'}",
            f"-DSNNFAST_BEST_ISA={best_isa()}",
            # A build for this machine needs no weaker instruction sets; an editable install has them for tests.
            f"-DSNNFAST_ONE_ISA={'OFF' if self.in_source or os.environ.get('SNNFAST_BEST_ISA') else 'ON'}",
            f"-DSNNFAST_SANITIZE={sanitize}",
            f"-DCMAKE_BUILD_TYPE={'Debug' if self.debug else 'Release'}",
        ]
        args += cuda_arguments()
        # pip makes a new build environment for each build: then configure anew, but keep the object files (--fresh would
        # delete them), so that ninja compiles only changed files.
        where = [find_spec(package).origin for package in ("torch", "pybind11")]
        signature = "\n".join([cmake, cxx, *args, *where])
        stamp = tree / "configured-with.txt"
        if not (stamp.exists() and stamp.read_text() == signature):
            (tree / "CMakeCache.txt").unlink(missing_ok=True)
            for detected in (tree / "CMakeFiles").glob("[0-9]*.*"):
                shutil.rmtree(detected)
            # Delete old precompiled headers, because a compiler cache would use them as inputs.
            for precompiled in tree.glob("CMakeFiles/*/cmake_pch.hxx.gch"):
                precompiled.unlink()
        subprocess.run([cmake, "-S", str(ROOT), "-B", str(tree), *args], check=True)
        stamp.write_text(signature)
        jobs = os.environ.get("MAX_JOBS") or str(os.cpu_count() or 1)
        # With -v, pip shows the progress of the build: files compiled, files in all, and seconds.
        status = {"NINJA_STATUS": "[%f/%t, %e s] ", **os.environ}
        subprocess.run([cmake, "--build", str(tree), "-j", jobs], check=True, env=status)
        self._tree = tree
        return tree


class BuildPython(build_py):
    """Copies the modules, and the headers for neurons that are compiled at first use; a checkout has them in csrc."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for path in (path for pattern in HEADERS for path in (ROOT / "csrc").glob(pattern)):
            out = Path(self.build_lib, "snnfast/include", path.relative_to(ROOT / "csrc"))
            self.mkpath(str(out.parent))
            self.copy_file(str(path), str(out))


setup(ext_modules=[Extension("snnfast._C", sources=[])], cmdclass={"build_ext": CMakeBuild, "build_py": BuildPython})
