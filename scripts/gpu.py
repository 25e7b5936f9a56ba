"""Build, test and measure on a machine with a GPU, in calls of at most 9 minutes.

    python scripts/gpu.py                          run parts for 9 minutes, results in ./gpu-results; again: continue
    python scripts/gpu.py build smoke              the first minute on a card: the build, and every op once
    python scripts/gpu.py --minutes 20             a longer call
    python scripts/gpu.py --archive FILE           pack results, logs and page after every part
    python scripts/gpu.py --again tests            repeat a stage
    python scripts/gpu.py --rehearse               test the script on the CPU, at toy size
    python scripts/gpu.py --docs                   run nothing; write the page from the results into docs/gpu.md

Each part is a command with its own log. Parts are ordered by importance. A failed part is a result, too. The next call
begins with the part that was cut off or not begun. A part that does not run the kernels of this build fails and says
why. Exit code 1 if a part failed or was not run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
RESULTS = "results.json"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
TRIES = 2  # attempts at a part that the end of a call cuts off
MEMORY = 3 << 30  # bytes of GPU memory per process of the tests
NONE_CHOSEN = 5  # exit code of pytest if no test was selected
SHAPES = ((16, 1 << 22), (100, 1 << 17), (500, 1 << 13), (32, 1 << 15))
DTYPES = ("float32", "bfloat16", "float16")
LOOPS = "reference_loop,tuned_loop,compiled_loop"
JELLY = "spikingjelly,spikingjelly:torch,spikingjelly:triton,spikingjelly:cupy"
LEARNING = ("diehl_cook", "bp_stdp_network", "stdp", "bp_stdp", "spikeprop")
TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
# Ops with CUDA kernels. The others use PyTorch, whose libraries read uninitialised workspaces.
OURS = [
    *("lif", "alif", "delay", "spike_count", "poisson", "stdp_", "bp_stdp_", "spikeprop", "eventprop", "recurrent"),
    *("sparse_linear", "sparse_stdp_", "sparse_recurrent"),
]
PROFILED = ["lif", "cuba", "eif", "delay", "recurrent", "spike_count", "poisson", "stdp_", "diehl_cook_", "spikeprop"]
METRICS = (
    "gpu__time_duration.sum,gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed,launch__registers_per_thread,"
    "sm__inst_issued.avg.pct_of_peak_sustained_active,sm__warps_active.avg.pct_of_peak_sustained_active,"
    + ",".join(
        f"smsp__average_warps_issue_stalled_{reason}_per_issue_active.ratio"
        for reason in ("long_scoreboard", "short_scoreboard", "math_pipe_throttle", "barrier", "wait")
    )
)
# A test file belongs to the first group whose pattern matches; a group must end within a call.
GROUPS = {
    "neurons": r"tests/ops/test_(adlif|alif|cuba|eif|izhikevich|lif|qif|neurons)",
    "plasticity": r"tests/(ops/test_(stdp|bp_stdp|diehl_cook)|reference/test_presentations)",
    "ops": r"tests/(ops|reference)/",
    "modules": r"tests/(nn|ports|conversion|nir|export|encoder|learning)/",
    "models": r"tests/(papers|train|cli|manual|examples|data|monitoring)/",
    "rest": r"tests/(?!gpu/)",
}
BUILD = """
import os, runpy, sys, torch
if not torch.cuda.is_available():
    sys.exit("PyTorch sees no GPU")
os.environ |= {"SNNFAST_CUDA": "1", "SNNFAST_EMULATION": "0"}
sys.argv = ["setup.py", "-q", "egg_info", "build_ext", "--inplace"]
runpy.run_path("setup.py", run_name="__main__")
"""
INFORM = """
import os, snnfast, torch
print(os.cpu_count(), "cores; PyTorch", torch.__version__, torch.version.cuda, snnfast.build_info())
if torch.cuda.is_available():
    print(torch.cuda.get_device_properties(0))
"""


class Command(NamedTuple):
    """A command: words, time limit in seconds, environment variables, and exit codes of success."""

    words: list[str]
    seconds: float = 240
    environment: dict[str, str] = {}  # noqa: RUF012
    good: tuple[int, ...] = (0,)


def python(*words: str) -> list[str]:
    return [sys.executable, "-P", *words]


def tests(*words: str, **environment: str) -> Command:
    count = os.cpu_count() or 1
    if found := shutil.which("nvidia-smi"):
        asked = [found, "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
        free = subprocess.run(asked, capture_output=True, text=True).stdout.split()
        count = max(1, min(count, (int(free[0]) << 20) // MEMORY)) if free else count
    pytest = python("-m", "pytest", "-vv", "--tb=short", "-n", str(count))
    return Command([*pytest, *words], 500, environment, (0, NONE_CHOSEN))


def program(name: str) -> str:
    return shutil.which(name) or f"/usr/local/cuda/bin/{name}"


def benchmark(name: str, shapes: Any = SHAPES, dtype: str = "float32", baselines: str = "") -> Command:
    """Return a benchmark in one process: medians next to its lower bound, for neurons the time of a copy."""
    sizes = ",".join("x".join(map(str, shape)) for shape in shapes)
    words = ["--device", "cuda", "--dtype", dtype, "--shapes", sizes, "--baselines", baselines]
    return Command(python("-m", "benchmarks", name, *words, "--in-process", "--budget", "1"))


def parts() -> dict[str, Command]:
    """Return all parts by stage and name."""
    sys.path.append(str(ROOT))
    from benchmarks import delay, network, neurons, recurrent

    found = {"build": Command(python("-c", f"{BUILD}\n{INFORM}"), 600)}
    environment = {"SNNFAST_FAIL_WITHOUT_CUDA": "1"}
    found["smoke"] = tests("tests/gpu", "-k", "not compile", **environment)._replace(good=(0,))
    for dtype in DTYPES:
        found[f"neurons: lif {dtype}"] = benchmark("lif", dtype=dtype)
    found["neurons: delay"] = benchmark("delay", (*delay.SHAPES, *SHAPES[1:3]))
    found["neurons: recurrent"] = benchmark("recurrent", recurrent.SHAPES)
    cases = [(name, shape) for name in LEARNING for shape in neurons.module_of(name).SHAPES]
    for name, shape in sorted(cases, key=lambda case: math.prod(case[1])):
        part, where = benchmark(name, [shape]), f"plasticity: {name} {'x'.join(map(str, shape))}"
        found[f"{where} cuda"] = part
        words = ["cpu" if word == "cuda" else word for word in part.words]
        found[f"{where} cpu"] = part._replace(words=words)
    # Check only snnfast's kernels, except in initcheck, which must see writes of PyTorch's. Each tensor is a separate
    # allocation, so that an overrun does not hit a neighbour. API errors are ignored: PyTorch queries missing features.
    for tool in TOOLS:
        words = [program("compute-sanitizer"), "--tool", tool, "--target-processes", "all", "--error-exitcode", "9"]
        words += ["--print-limit", "20", "--report-api-errors", "no"]
        words += [] if tool == "initcheck" else ["--kernel-name", "kernel_substring=snnfast"]
        words += python("tests/every_op.py", "cuda", "--only")
        alone = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
        found[f"sanitizer: {tool} ops"] = Command([*words, *OURS, "--launches"], 220, alone)
        many = [*words, "lif", "cuba", "adlif", "delay", "--large"]
        found[f"sanitizer: {tool} many"] = Command(many, 220, alone)
    for name, files in grouped().items():
        found[f"tests: {name}"] = tests(*files, "-k", "cuda and not emulation", **environment)
    others = f"{network.PRODUCTS},spikingjelly"
    for shape in network.LARGE:
        name = f"network: {'x'.join(map(str, shape))}"
        found[name] = benchmark("network", [shape], "bfloat16", others)
    words = [program("ncu"), "--csv", "--page", "raw", "--print-units", "base", "--clock-control", "none"]
    words += ["--kernel-name-base", "demangled", "--kernel-name", "regex:snnfast"]
    words += ["--metrics", METRICS, "--launch-count", "200"]
    words += python("tests/every_op.py", "cuda", "--large", "--only", *PROFILED)
    found["profile"] = Command(words)
    for stem in (stem for stem in neurons.stems() if stem != "lif"):
        for dtype in DTYPES:
            found[f"others: {stem} {dtype}"] = benchmark(stem, dtype=dtype)
    found["others: lif elsewhere"] = benchmark("lif", baselines=f"{LOOPS},{JELLY}")
    found["compile"] = tests("tests/gpu", "-k", "compile", **environment)._replace(good=(0,))
    return found


def rehearsal() -> dict[str, Command]:
    """Return similar parts on the CPU, with emulated kernels and without sanitizers."""
    quick = python("-m", "benchmarks", "lif", "--quick", "--baselines", "", "--in-process")
    return {
        "build": Command(python("-c", INFORM)),
        "smoke": tests("tests/gpu", SNNFAST_REHEARSE="1")._replace(good=(0,)),
        "neurons: lif": Command(quick),
        "sanitizer: ops": Command(python("tests/every_op.py", "cpu", "--launches", "--only", *OURS)),
    }


def grouped() -> dict[str, list[str]]:
    """Return the test files of each group."""
    found: dict[str, list[str]] = {name: [] for name in GROUPS}
    for file in sorted(ROOT.glob("tests/**/test_*.py")):
        path = file.relative_to(ROOT).as_posix()
        for name in [name for name, pattern in GROUPS.items() if re.match(pattern, path)][:1]:
            found[name].append(path)
    return found


def log_of(folder: Path, name: str) -> Path:
    return folder / "logs" / f"{re.sub(r'[^a-z0-9_]+', '-', name.lower())}.log"


def run(name: str, part: Command, folder: Path, remaining: float) -> dict[str, Any]:
    """Run a part and return its state: ``done``, ``failed``, or ``cut off`` by the end of the call."""
    log, begin = log_of(folder, name), time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    limit, code, why = min(part.seconds, remaining), None, ""
    try:
        with log.open("w") as out:
            process = subprocess.Popen(
                part.words,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **part.environment},
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = process.wait(limit)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    except OSError as error:  # there is no such program
        code, why = 127, str(error)
    text = log.read_text(errors="replace")
    if code is None:
        state, why = ("cut off" if limit == remaining else "failed"), f"not finished in {limit:.0f} s"
    elif code not in part.good or re.search(r"SUMMARY: [1-9]", text):  # summary of a sanitizer
        state, why = "failed", why or f"exit code {code}: {reason(text)}"
    else:
        state = "done"
    why = why or (text.strip().splitlines() or [""])[-1][:160]
    return {"state": state, "why": why, "seconds": round(time.monotonic() - begin, 1)}


def reason(text: str) -> str:
    """Return the line of a log that says why a part failed: of pytest, a sanitizer or Python, or else the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["the log is empty"]
    for pattern in (r"(FAILED|ERROR) ", r"E  ", r"=+ (?!COMPUTE-SANITIZER).*[Ee]rror", r"\w*(Error|Exception)\b.*:"):
        if found := next((line for line in lines if re.match(pattern, line)), ""):
            return found[:160]
    return lines[-1][:160]


def results(folder: Path) -> dict[str, Any]:
    """Return the stored states of the parts."""
    file = folder / RESULTS
    return json.loads(file.read_text()) if file.exists() else {}


def keep(folder: Path, archive: Path, found: dict[str, Any]) -> None:
    """Write results and page, and pack them with the logs, because a machine may disappear at any time."""
    folder.mkdir(parents=True, exist_ok=True)
    archive.parent.mkdir(parents=True, exist_ok=True)
    for file, text in ((RESULTS, json.dumps(found, indent=1)), ("page.md", page(folder, found))):
        half = folder / f"{file}.new"
        half.write_text(text + "\n")
        half.replace(folder / file)
    half = archive.with_name(archive.name + ".new")
    with tarfile.open(half, "w:gz", compresslevel=3) as packed:
        for name in (RESULTS, "page.md", "logs"):
            if (folder / name).exists():
                packed.add(folder / name, f"gpu-results/{name}")
    half.replace(archive)


def page(folder: Path, found: dict[str, Any]) -> str:
    """Return states of the parts, tables of benchmarks, and the last lines of failed parts, as Markdown."""
    lines = ["A rehearsal on the CPU: no figure is one of a GPU.", ""] if "rehearsed" in found else []
    ran = {name: part for name, part in found.items() if name != "rehearsed"}
    lines += ["| part | state | seconds | last line |", "| --- | --- | --- | --- |"]
    for name, part in ran.items():
        why = part["why"].replace("|", "/")
        lines.append(f"| {name} | {part['state']} | {part['seconds']:.0f} | {why} |")
    for name, part in ran.items():
        log = log_of(folder, name)
        text = log.read_text(errors="replace") if log.exists() else ""
        table = re.search(r"^shape +threads.*", text, re.M | re.S)
        if part["state"] == "failed":
            failures = re.findall(r"^(?:FAILED|ERROR) .*", text, re.M)
            shown = "\n".join(failures or text.splitlines()[-20:])
        elif table:
            shown = table[0]
        else:
            continue
        lines += ["", f"### {name}", "", "```text", shown.strip(), "```"]
    return "\n".join(lines)


def write_docs(folder: Path, docs: Path) -> None:
    """Write the page into the measured part of ``docs``.

    Raises:
        ValueError: for a rehearsal.
    """
    found = results(folder)
    if "rehearsed" in found:
        raise ValueError(f"{docs.name} is made from measurements on a GPU, and this was a rehearsal")
    before, _, rest = docs.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    docs.write_text(f"{before}{BEGIN}\n{page(folder, found)}\n{END}{after}")


def call(wanted: dict[str, Command], folder: Path, archive: Path, deadline: float, rehearse: bool) -> int:
    """Run the parts that are not done, one after the other; return the number of parts that remain."""
    found = results(folder) | ({"rehearsed": True} if rehearse else {})
    if not any(ROOT.glob("snnfast/_C*.so")):
        found.pop("build", None)  # the results come from another machine
    for name, part in wanted.items():
        before = found.get(name, {})
        if before.get("state") in ("done", "failed"):
            continue
        if name != "build" and found.get("build", {}).get("state") != "done":
            print(f"{name}: not begun, since nothing is built: the part build comes first", flush=True)
            break
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            print(f"{name}: not begun; the next call goes on here", flush=True)
            break
        ended = run(name, part, folder, remaining)
        if ended["state"] == "cut off":
            ended["tries"] = before.get("tries", 0) + 1
            if ended["tries"] == TRIES:
                ended |= {"state": "failed", "why": f"cut off by the end of {TRIES} calls"}
        found[name] = ended
        print(f"{name}: {ended['state']}, {ended['seconds']:.0f} s, {ended['why']}", flush=True)
        keep(folder, archive, found)
    states = Counter(found.get(name, {}).get("state", "not run") for name in wanted)
    print(", ".join(f"{count} {state}" for state, count in states.items()))
    return len(wanted) - states["done"]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="STAGE")
    parser.add_argument("--folder", type=Path, default=Path("gpu-results"))
    parser.add_argument("--minutes", type=float, default=9.0, help="of this call")
    parser.add_argument("--archive", type=Path, help="default: results.tar.gz in the folder")
    parser.add_argument("--again", action="store_true", help="what is done is done anew")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, at toy size")
    parser.add_argument("--docs", action="store_true", help="write the page into docs/gpu.md")
    chosen = parser.parse_args(arguments)
    deadline = time.monotonic() + 60 * chosen.minutes - 10  # to end the last part
    folder = chosen.folder.resolve()
    archive = chosen.archive.resolve() if chosen.archive else folder / "results.tar.gz"
    if chosen.docs:
        write_docs(folder, ROOT / "docs/gpu.md")
        return 0
    known = rehearsal() if chosen.rehearse else parts()
    stages = dict.fromkeys(name.partition(":")[0] for name in known)
    if unknown := set(chosen.stages) - set(stages):
        parser.error(f"no such stage: {', '.join(sorted(unknown))}; there are {', '.join(stages)}")
    wanted = {
        name: part for name, part in known.items() if not chosen.stages or name.partition(":")[0] in chosen.stages
    }
    if chosen.again:
        keep(folder, archive, {n: p for n, p in results(folder).items() if n not in wanted})
    return min(call(wanted, folder, archive, deadline, chosen.rehearse), 1)


if __name__ == "__main__":
    sys.exit(main())
