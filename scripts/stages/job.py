"""A stage at work: its parts one after the other, what they found kept after each, so that a run can go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 470.0  # seconds of a stage
LOST = 3  # exit code: the device no longer answers, another process may go on

RESULTS = "results.json"

Parts = Mapping[str, Callable[[], Any]]


class SkippedError(Exception):
    """A part that has nothing to do here: a library that is not installed, a case that is none."""


class OutOfTimeError(Exception):
    """A part that the end of its stage cut off. The next run begins it again."""


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
    """

    def __init__(self, stage: str, folder: Path, rehearse: bool, limit: float = LIMIT) -> None:
        self.stage, self.folder, self.rehearse = stage, folder, rehearse
        self.deadline = time.monotonic() + limit
        self.had = limit  # seconds that the part now at work had when it began
        self.parts: dict[str, Any] = results(folder).get(stage, {}).get("parts", {})

    @property
    def device(self) -> str:
        """What PyTorch calls the device that is tried."""
        return "cpu" if self.rehearse else "cuda"

    @property
    def tree(self) -> Path:
        """The sources that are tried: those that the stage ``build`` built, else this checkout."""
        built = self.folder / "tree"
        return built if any(built.glob("snnfast/_C*.so")) else ROOT

    @property
    def left(self) -> float:
        """Seconds until :attr:`deadline`."""
        return self.deadline - time.monotonic()

    @property
    def whole(self) -> bool:
        """Whether the part now at work had a whole stage for itself, and so will not do better in the next run."""
        return self.had >= 0.9 * LIMIT

    def keep(self) -> None:
        """Writes what was found so far."""
        found = results(self.folder)
        found[self.stage] = {"rehearsed": self.rehearse, "parts": self.parts}
        write(self.folder, found)

    def run(self, parts: Parts) -> int:
        """Runs what is not done yet. Returns 0 if all is done, or ``LOST``."""
        self.parts.pop("start", None)
        for name, work in parts.items():
            state = self.parts.get(name, {}).get("state")
            if state == "started":
                self.parts[name] |= {"state": "failed", "error": "the process ended"}
            if state in ("started", "done", "failed", "skipped"):
                continue
            if self.left <= 0:
                self.parts[name] = {"state": "out of time"}
                continue
            self.had = self.left
            self.parts[name] = {"state": "started", "whole": self.whole}
            self.keep()
            begin = time.monotonic()
            try:
                part = {"state": "done", "result": work()}
            except OutOfTimeError:
                part = {"state": "out of time"}
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

    def cut_off(self) -> None:
        """Notes that the end of the stage ended its process. A part that had a whole stage for itself has failed."""
        for name, part in self.parts.items():
            if part["state"] == "started":
                failed = {"state": "failed", "error": f"not finished in {LIMIT:.0f} s"}
                self.parts[name] = failed if part["whole"] else {"state": "out of time"}
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
            Its exit code, None if it took longer than ``seconds`` or than a whole stage, and its output.

        Raises:
            OutOfTimeError: if the end of the stage ended it, and the next run leaves it more time.
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
                if not self.whole and (seconds is None or seconds > left):
                    raise OutOfTimeError from None
                code = None
        return code, log.read_text(errors="replace")


def results(folder: Path) -> dict[str, Any]:
    """What the stages found so far."""
    file = folder / RESULTS
    return json.loads(file.read_text()) if file.exists() else {}


def write(folder: Path, found: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    half = folder / f"{RESULTS}.new"
    half.write_text(json.dumps(found, indent=1) + "\n")
    half.replace(folder / RESULTS)


def failure(error: Exception) -> dict[str, Any]:
    if isinstance(error, SkippedError):
        return {"state": "skipped", "error": str(error)}
    found: dict[str, Any] = {"state": "failed", "error": f"{type(error).__name__}: {error}"[:2000]}
    if isinstance(error, PartError):
        found |= {"error": str(error), "result": error.result}
    else:
        found["traceback"] = traceback.format_exc()[-4000:]
    return found
