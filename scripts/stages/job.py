"""A stage at work: its parts one after the other, what they found kept after each, so that a run can go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LOST = 3  # exit code: the device no longer answers, another process may go on
TRIES = 2  # of a part that the end of a call cuts off

RESULTS = "results.json"

Parts = Mapping[str, Callable[[], Any]]


class SkippedError(Exception):
    """A part that has nothing to do here: a library that is not installed, a case that is none."""


class OutOfTimeError(Exception):
    """A part that the end of its call cut off. The next call begins it again."""


class PartError(Exception):
    """A part that ran to its end and found that something is wrong."""

    def __init__(self, words: str, result: Any = None) -> None:
        super().__init__(words)
        self.result = result


class Job:
    """One stage, and the folder that its results go to.

    Attributes:
        folder: of all results: ``results.json``, and ``logs``.
        rehearse: on the CPU, at toy size.
        deadline: seconds of the monotonic clock, after which no part begins.
        archive: the file that results and logs are packed into after every part.
        backend: what the kernels that are tried run on, once :meth:`demand_kernels` has seen it.
    """

    def __init__(
        self,
        stage: str,
        folder: Path,
        rehearse: bool,
        limit: float = 60.0,
        archive: Path | None = None,
    ) -> None:
        self.stage, self.folder, self.rehearse = stage, folder, rehearse
        self.deadline = time.monotonic() + limit
        self.archive = archive or folder / "results.tar.gz"
        self.backend = ""
        self.parts: dict[str, Any] = results(folder).get(stage, {}).get("parts", {})

    @property
    def device(self) -> str:
        """PyTorch's name for the device under test: ``cpu`` in a rehearsal, else ``cuda``."""
        return "cpu" if self.rehearse else "cuda"

    @property
    def tree(self) -> Path:
        """The sources that are tried: those that the stage ``build`` built, in a rehearsal without it this checkout."""
        return self.folder / "tree" if self.built else ROOT

    @property
    def built(self) -> bool:
        """Whether the stage ``build`` left its library here."""
        return any((self.folder / "tree").glob("snnfast/_C*.so"))

    @property
    def left(self) -> float:
        """Seconds until :attr:`deadline`."""
        return self.deadline - time.monotonic()

    def demand_kernels(self) -> None:
        """Makes sure that kernels run, and not the reference in their place.

        Raises:
            PartError: if there is no build, or its kernels do not run on this GPU.
        """
        if not self.rehearse and not self.built:
            raise PartError("nothing is built in this folder: run the stage build first")
        import torch

        from snnfast import backend

        warnings.simplefilter("error", backend.BackendWarning)
        x = torch.zeros(1, device=self.device)
        self.backend, why = backend.choose("lif", x)
        if self.backend != self.device:
            raise PartError(f"the kernels do not run, so there is nothing to measure: {why}")

    def keep(self) -> None:
        """Writes what was found so far."""
        found = results(self.folder)
        found[self.stage] = {
            "rehearsed": self.rehearse,
            "backend": self.backend,
            "parts": self.parts,
        }
        write(self.folder, found)
        pack(self.folder, self.archive)

    def run(self, parts: Parts) -> int:
        """Runs what is not done yet. Returns 0 if all is done, or ``LOST``."""
        self.parts.pop("start", None)
        for name, work in parts.items():
            part = self.parts.get(name, {})
            if part.get("state") == "started":
                self.parts[name] |= {"state": "failed", "error": "the process ended"}
            if part.get("state") in ("started", "done", "failed", "skipped"):
                continue
            tries = part.get("tries", 0)
            if self.left <= 0:
                self.parts[name] = {"state": "out of time", "tries": tries}
                continue
            self.parts[name] = {"state": "started", "tries": tries + 1}
            self.keep()
            if backend := sys.modules.get("snnfast.backend"):
                backend._warned.clear()  # an op that falls back is an error in every part, not only in the first
            begin = time.monotonic()
            try:
                part = {"state": "done", "result": work()}
            except OutOfTimeError:
                part = self.late(tries + 1)
            except Exception as error:
                part = failure(error)
                print(f"{self.stage}, {name}: {part['error']}", flush=True)
            part["seconds"] = round(time.monotonic() - begin, 3)
            self.parts[name] = part
            self.keep()
            if part["state"] == "failed" and not self.answers():
                return LOST
        self.keep()
        return 0

    @staticmethod
    def late(tries: int) -> dict[str, Any]:
        """A part that the end of a call cut off; that of several calls has failed."""
        if tries < TRIES:
            return {"state": "out of time", "tries": tries}
        return {"state": "failed", "error": f"cut off by the end of {tries} calls"}

    def cut_off(self) -> None:
        """Notes that the end of the call ended the stage's process."""
        for name, part in self.parts.items():
            if part["state"] == "started":
                self.parts[name] = self.late(part["tries"])
        self.keep()

    def answers(self) -> bool:
        """Whether the GPU still does what it is asked; an illegal address ends all work of a process."""
        torch = sys.modules.get("torch")
        if self.rehearse or torch is None or not torch.cuda.is_initialized():
            return True
        try:
            torch.cuda.synchronize()
            torch.zeros(1, device="cuda").item()
        except Exception:
            return False
        return True

    def command(
        self,
        name: str,
        words: list[str],
        seconds: float | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> tuple[int | None, str]:
        """Runs a command in :attr:`tree`.

        Returns:
            Its exit code, None if it took longer than ``seconds``, and its output.

        Raises:
            OutOfTimeError: if the end of the call ended it.
        """
        log = self.folder / "logs" / f"{self.stage}-{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        paths = (str(self.tree), str(self.tree / "scripts"))
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(environment or {})}
        with log.open("w") as out:
            out.write(" ".join(words) + "\n")
            out.flush()
            process = subprocess.Popen(
                words,
                cwd=self.tree,
                env=variables,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            left = max(self.left, 1)
            try:
                code: int | None = process.wait(min(seconds or left, left))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()
                if seconds is None or seconds > left:
                    raise OutOfTimeError from None
                code = None
        return code, log.read_text(errors="replace")


def results(folder: Path) -> dict[str, Any]:
    """Return the results of the stages so far."""
    file = folder / RESULTS
    return json.loads(file.read_text()) if file.exists() else {}


def write(folder: Path, found: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    half = folder / f"{RESULTS}.new"
    half.write_text(json.dumps(found, indent=1) + "\n")
    half.replace(folder / RESULTS)


def pack(folder: Path, archive: Path) -> None:
    """Results, logs and the page in one file: a machine may be taken away, and give back few files."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    half = archive.with_name(archive.name + ".new")
    with tarfile.open(half, "w:gz", compresslevel=3) as packed:
        for name in (RESULTS, "logs", "page.md"):
            if (folder / name).exists():
                packed.add(folder / name, f"gpu-results/{name}")
    half.replace(archive)


def failure(error: Exception) -> dict[str, Any]:
    if isinstance(error, SkippedError):
        return {"state": "skipped", "error": str(error)}
    found: dict[str, Any] = {"state": "failed", "error": f"{type(error).__name__}: {error}"[:2000]}
    if isinstance(error, PartError):
        found |= {"error": str(error), "result": error.result}
    else:
        found["traceback"] = traceback.format_exc()[-4000:]
    return found
