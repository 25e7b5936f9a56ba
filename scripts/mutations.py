r"""Plant known mistakes in a copy of the sources, one at a time, and check that the tests detect each.

    python scripts/mutations.py            all mistakes (some 15 minutes: most need the kernels compiled)
    python scripts/mutations.py --python   only mistakes in Python (2 minutes)
    python scripts/mutations.py decay      mistakes whose name contains "decay"
    python scripts/mutations.py --drawn 100 --seed 7     as many by operators, over core, reference and compiler

A mistake that survives means that a test is missing; of drawn ones some change nothing, or only speed. This checkout is
not changed.

Mistakes of scripts/mistakes/STEM.txt take a line each:

    tests tests/ops/test_lif.py -k "by_hand"     arguments of pytest: one of these tests must fail
    in snnfast/reference/lif.py                  the file, for the lines below
    decay dropped :: decay * (v => (v            name, old text (\n ends a line), new text
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from mutants import mutants, tests_of

ROOT = Path(__file__).parents[1]


ROOMS = ("csrc/core", "snnfast/reference", "snnfast/compiler")  # of mistakes by operators


@dataclass(frozen=True)
class Mutation:
    """A mistake: ``old`` becomes ``new`` in ``path`` (everywhere, or at a place); ``tests`` must fail."""

    name: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]
    offset: int | None = None

    def applied(self, text: str) -> str:
        """Return the text of the file with the mistake."""
        if self.offset is None:
            return text.replace(self.old, self.new)
        return text[: self.offset] + self.new + text[self.offset + len(self.old) :]


def planted() -> tuple[Mutation, ...]:
    """Read the mistakes in scripts/mistakes."""
    found = []
    for file in sorted((ROOT / "scripts" / "mistakes").glob("*.txt")):
        path, tests = "", ()
        for line in file.read_text().splitlines():
            word, _, rest = line.partition(" ")
            if " :: " in line:
                name, change = line.split(" :: ")
                old, new = (part.replace("\\n", "\n") for part in f"{change} ".split(" => "))
                found.append(Mutation(f"{file.stem}: {name}", path, old, new[:-1], tests))
            elif word == "in":
                path = rest
            elif word == "tests":
                tests = tuple(shlex.split(rest))
            else:
                raise ValueError(f"{file}: tests, in, or NAME :: OLD => NEW, but got {line!r}")
    return tuple(found)


MUTATIONS = planted()


def drawn(count: int, seed: int, words: list[str]) -> list[Mutation]:
    """Draw mistakes by operators; ``words``: only of files whose path contains one of them."""
    found = []
    for path in sorted(path for room in ROOMS for path in (ROOT / room).glob("*.*")):
        name, text = str(path.relative_to(ROOT)), path.read_text()
        tests = tests_of(name, ROOT)
        if not words or any(word in name for word in words):
            found += [Mutation(m.name, name, m.old, m.new, tests, m.offset) for m in mutants(name, text)]
    return random.Random(seed).sample(found, min(count, len(found)))


def run(command: list[str], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True)


def lighten(copy: Path) -> None:
    """Optimise less: with only the base instruction set, kernels then compile in a fifth of the time."""
    path, old, new = copy / "CMakeLists.txt", "PREPEND kernel_flags -O3", "PREPEND kernel_flags -O1"
    text = path.read_text()
    if old not in text:
        sys.exit(f"{path.name} no longer contains {old!r}")
    path.write_text(text.replace(old, new))


def build(copy: Path) -> str:
    """Build the kernels of the copy in place, with emulated CUDA; return the output of the compiler if it fails."""
    tree = copy / "build"
    commands = [["cmake", "--build", str(tree)]]
    if not (tree / "build.ninja").exists():
        configure = (
            f"-DPython_EXECUTABLE={sys.executable} "
            "-DSNNFAST_BEST_ISA=base -DCMAKE_CXX_FLAGS=-DSNNFAST_COMPACT "
            "-DSNNFAST_CUDA=0 -DSNNFAST_EMULATION=ON"
        )
        commands.insert(0, ["cmake", "-S", str(copy), "-B", str(tree), "-G", "Ninja", *configure.split()])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command in commands:
        result = run(command, copy, PATH=path)
        if result.returncode:
            return result.stdout[-2000:] + result.stderr[-2000:]
    for library in tree.glob("*.so"):
        shutil.copy2(library, copy / "snnfast" / library.name)
    return ""


def noticed(copy: Path, tests: tuple[str, ...]) -> tuple[bool, str]:
    """Return whether a test fails in the copy, and the last line of pytest."""
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *tests]
    result = run(command, copy, PYTHONPATH=str(copy), PYTHONDONTWRITEBYTECODE="1")
    lines = result.stdout.strip().splitlines() or result.stderr.strip().splitlines() or [""]
    # Code 1: tests failed. Negative codes are crashes, others are errors of pytest.
    if result.returncode not in (0, 1):
        return result.returncode < 0, f"exit {result.returncode}: {lines[-1]}"
    failed = [line for line in lines if line.startswith("FAILED")]
    return result.returncode == 1, (failed or lines)[-1]


def together(chosen: list[Mutation]) -> list[tuple[str, ...]]:
    """Return the tests of all mistakes, each file once: those with ``-k`` as they are, whole files in one run."""
    every = {m.tests for m in chosen}
    chosen_by_name = {tests for tests in every if "-k" in tests}
    files = sorted({file for tests in every - chosen_by_name for file in tests})
    return [*sorted(chosen_by_name), *([tuple(files)] if files else [])]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("words", nargs="*", help="only mutations whose name contains one of these")
    parser.add_argument("--python", action="store_true", help="only mutations of Python sources")
    parser.add_argument("--drawn", type=int, help="as many mistakes by operators in place of planted ones")
    parser.add_argument("--seed", type=int, default=0, help="which of them")
    parser.add_argument("--copy", type=Path, help="keep the copy here, built, for the next time")
    arguments = parser.parse_args()
    chosen = [m for m in MUTATIONS if not arguments.words or any(w in m.name for w in arguments.words)]
    if arguments.drawn:
        chosen = drawn(arguments.drawn, arguments.seed, arguments.words)
    chosen = [m for m in chosen if not arguments.python or m.path.endswith(".py")]
    # Mistakes in Python first, before kernels are built.
    chosen.sort(key=lambda m: not m.path.endswith(".py"))
    copy = arguments.copy or Path(tempfile.mkdtemp(prefix="snnfast-mutations-"))
    ignore = shutil.ignore_patterns("build", ".git", "__pycache__", "*.egg-info", "runs")
    # copy, not copy2: with old modification times, objects of an earlier run would count as newer than their sources.
    shutil.copytree(ROOT, copy, ignore=ignore, dirs_exist_ok=True, copy_function=shutil.copy)
    lighten(copy)
    if any(not m.path.endswith(".py") for m in chosen) and (problem := build(copy)):
        sys.exit(f"the unchanged sources do not build:\n{problem}")
    where = run([sys.executable, "-c", "import snnfast; print(snnfast.__file__)"], copy, PYTHONPATH=str(copy))
    if not where.stdout.startswith(str(copy)):
        sys.exit(f"the tests would not run on the copy but on {where.stdout or where.stderr}")
    for tests in together(chosen):
        failed, line = noticed(copy, tests)
        if failed:
            sys.exit(f"tests fail without a mutation: {line}")
    survived = []
    for m in chosen:
        start = time.monotonic()
        path = copy / m.path
        original = path.read_text()
        if m.old not in original:
            sys.exit(f"{m.name}: {m.path} no longer contains {m.old!r}")
        path.write_text(m.applied(original))
        problem = "" if m.path.endswith(".py") else build(copy)
        caught, line = noticed(copy, m.tests) if not problem else (False, f"does not compile: {problem}")
        path.write_text(original)
        survived += [] if caught else [m.name]
        verdict = "caught  " if caught else "SURVIVED"
        print(f"{verdict} {m.name}: {line} [{time.monotonic() - start:.0f} s]", flush=True)
    print(f"{len(chosen) - len(survived)} of {len(chosen)} caught")
    if not arguments.copy:
        shutil.rmtree(copy)
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
