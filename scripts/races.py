"""Find races in the CUDA kernels without a GPU: each thread of the emulated kernels is a fiber of ThreadSanitizer.

    python scripts/races.py                 build, run every kernel with barriers, then without each barrier
    python scripts/races.py --folder DIR    keep the build in DIR, for the next time
    python scripts/races.py --only NAME     remove barriers only in files with NAME in their names

Only barriers and __syncwarp order two threads (csrc/cuda_emulation/cuda_runtime.h). Blocks are small, because
ThreadSanitizer stores few accesses per word. Kernels that choose the place of their memory run with much, little and no
shared memory (:data:`DEVICES`). First the kernels run unchanged: a report is a race. Then the barriers are disabled one
at a time, which must be reported, except for those in :data:`SPARE`. Exit code 1 if a race is found or a missing
barrier is not.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import torch

from snnfast import backend, connect, ops, plasticity
from snnfast.compiler.neurons import write

ROOT = Path(__file__).resolve().parents[1]
FOUND = 66  # exit code of ThreadSanitizer
# Kernels with barriers, and the operators around them; one of the scans of neurons.
KERNELS = ("stdp", "bp_stdp_network", "spikeprop", "eventprop", "diehl_cook", "recurrent", "sparse_linear")
DIFFERENTIABLE = ("spikeprop", "eventprop", "sparse_linear")  # whose gradients are registered
SOURCES = (
    *(f"ops/{name}.cpp" for name in (*KERNELS, "check", "device", "interrupt", "neuron", "neurons", "output_memory")),
    *(f"cuda/{name}.cu" for name in (*KERNELS, "error", "presentations")),
)
TEMPLATES = {"cuda/neuron.cu.in": "cuda/lif.cu", "cuda/recurrent_neuron.cu.in": "cuda/recurrent_lif.cu"}
# Reduced numbers of threads and neurons per block.
SMALL = {
    "cuda/stdp.cu": {"kRows": 16},
    "cuda/bp_stdp_network_memory.cuh": {"kMostThreads": 64, "kChanges": 16},
    "cuda/diehl_cook.cu": {"kMostThreads": 64},
    "cuda/network_launch.cuh": {"kLeastThreads": 64},
    "cuda/spikeprop_events.cuh": {"kThreads": 64, "kSortThreads": 64},
    "cuda/spikeprop.cu": {"kTile": 8},
    "cuda/eventprop.cu": {"kThreads": 64},
    "cuda/recurrent.cu": {"kSide": 8},
    "cuda/sparse_rows.cuh": {"kSparseThreads": 64},
    "core/recurrent.h": {"kRecurrentThreads": 64},
}
# Barriers that may be missing without a report, by file and index in the file, and the reason.
VOTE = "it counts votes, and no thread reads there what another wrote"
SPARE: dict[tuple[str, int], str] = {
    ("cuda/bp_stdp_network.cu", 2): VOTE,
    ("cuda/diehl_cook.cu", 10): "no step reads what is set to 0; the next barrier orders the rest",
    ("cuda/recurrent_kernel.cuh", 1): "the list of the first step meets before a weight is read",
    ("cuda/spikeprop.cu", 5): "the threads have met to know that all are done",
    **{("cuda/spikeprop.cu", k): VOTE for k in (6, 7, 8, 9)},
    **{("cuda/spikeprop_events.cuh", k): "two votes in turn: one is enough" for k in (8, 9)},
}
MEETS = re.compile(r"\b__(?:syncthreads|syncwarp)(?:_or|_and|_count)?\(")
DEVICES = ("232448", "13000", "0")  # bytes of shared memory per block


# ---- the build


def shrunk(file: str) -> str:
    """Return the text of a source with the constants of :data:`SMALL`."""
    text = (ROOT / "csrc" / file).read_text()
    for name, value in SMALL[file].items():
        text, count = re.subn(rf"(constexpr \w+ {name} =)\s+\d+;", rf"\g<1> {value};", text)
        assert count == 1, f"{file}: no {name}"
    return text


def build(folder: Path) -> Path:
    """Build the operators on emulated CUDA with instrumentation."""
    pytorch = Path(torch.__file__).parent
    sources = folder / "csrc"
    shutil.copytree(ROOT / "csrc", sources, dirs_exist_ok=True)
    write(str(sources / "core"), ["lif"])
    for file in SMALL:
        (sources / file).write_text(shrunk(file))
    # GCC instruments accesses to a static variable only if its address may escape, as for templates outside of
    # anonymous namespaces.
    for file in sources.glob("c*/*"):
        file.write_text(file.read_text().replace("\nnamespace {\n", "\ninline namespace SOURCE {\n"))
    for template, target in TEMPLATES.items():
        text = (sources / template).read_text().replace("@stem@", "lif").replace("@Neuron@", "Lif")
        (sources / target).write_text(text)
    flags = ["-std=c++17", "-O1", "-g1", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off"]
    flags += ["-fsanitize=thread", "-Wno-unknown-pragmas"]
    flags += ["-DSNNFAST_CUDA_EMULATION", "-DTORCH_TARGET_VERSION=0x020a000000000000"]
    flags += [f"-I{sources}/cuda_emulation", f"-I{sources}", "-isystem", f"{pytorch}/include"]
    compiler = os.environ.get("CXX", "g++")
    launcher = os.environ.get("CMAKE_CXX_COMPILER_LAUNCHER", "").split()

    def compile_(source: str) -> Path:
        target = folder / (source.replace("/", "_") + ".o")
        command = [*launcher, compiler, *flags, f"-DSOURCE=of_{Path(source).stem}"]
        command += ["-x", "c++", "-c", str(sources / source)]
        subprocess.run([*command, "-o", str(target)], check=True)
        return target

    with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", os.cpu_count() or 1))) as pool:
        objects = list(pool.map(compile_, (*SOURCES, *TEMPLATES.values())))
    library = folder / "races.so"
    links = ["-shared", "-fsanitize=thread", f"-L{pytorch}/lib", "-ltorch", "-ltorch_cpu"]
    subprocess.run([compiler, *map(str, objects), *links, "-o", str(library)], check=True)
    return library


def meetings(sources: Path) -> Iterator[tuple[str, int, int]]:
    """Yield file, index in the file from 1, and line of each barrier of the kernels."""
    for file in sorted([*sources.glob("cuda/*.cu"), *sources.glob("cuda/*.cuh")]):
        name, lines = f"cuda/{file.name}", enumerate(file.read_text().splitlines(), 1)
        found = [number for number, line in lines if MEETS.search(line.partition("//")[0])]
        if calls_of(name):
            yield from ((name, k, number) for k, number in enumerate(found, 1))


def planted(sources: Path, only: str = "") -> list[tuple[str, int, int]]:
    """Return the :func:`meetings` to disable."""
    return [meeting for meeting in meetings(sources) if only in meeting[0]]


# ---- the calls, in a process with ThreadSanitizer loaded


def on_each_device(call: Callable[[], None]) -> Callable[[], None]:
    @functools.wraps(call)
    def calls() -> None:
        for shared in DEVICES:
            os.environ["SNNFAST_EMULATION_SHARED"] = shared
            call()

    return calls


def stdp() -> None:
    torch.manual_seed(0)
    pre, post = torch.rand(4, 2, 40) < 0.3, torch.rand(4, 2, 36) < 0.3
    for rule, reward in ((plasticity.triplet(), None), (plasticity.pair(), 0.5)):
        if reward is not None:
            rule = plasticity.reward_modulated(rule)
        ops.stdp_(torch.rand(36, 40), pre, post, rule=rule, reward=reward, norm=5.0)


@on_each_device
def bp_stdp_network() -> None:
    torch.manual_seed(0)
    for networks, samples in ((1, 1), (1, 3), (9, 1)):
        weights = [torch.randn(networks, o, i) for i, o in ((20, 40), (40, 36), (36, 3))]
        desired = torch.rand(8, samples) < 0.5
        rates = ops.Rates(600 * torch.rand(samples, 20), 8, torch.arange(samples))
        for x in (rates, torch.rand(8, samples, 20) < 0.3):
            for update, batch in (("step", 1), ("sequence", 2)):
                how = dict(thresholds=[0.9] * 3, update=update, batch=batch, return_state=True)
                ops.bp_stdp_network_(weights, x, torch.arange(samples) % 3, desired, **how)


def spikeprop() -> None:
    # With weak weights no neuron fires before the last event; a block holds a part of the events at a time.
    for outputs, strength in ((5, 0.1), (70, 0.1), (70, 1e-3)):
        t_in, w = 8 * torch.rand(2, 40), strength * torch.rand(outputs, 40, 3)
        delays, tau = torch.rand(40, 3), torch.tensor(7.0)
        inputs = [x.requires_grad_() for x in (t_in, w, delays, tau)]
        options = dict(t_max=40.0, return_u_max=True)
        t, u = ops.spikeprop(t_in, w, delays, tau=tau, **options)
        torch.autograd.grad(t.nan_to_num(posinf=0.0).sum() + u.sum(), inputs)


def eventprop() -> None:
    for neurons in (5, 70):
        t_in, w = 8 * torch.rand(2, 10, 2), 4 * torch.rand(neurons, 10)
        w_rec, delays_rec = 0.1 - 0.2 * torch.rand(neurons, neurons), torch.rand(neurons, neurons)
        for delays in (None, delays_rec):
            inputs = [x.requires_grad_() for x in (t_in, w, w_rec)]
            options = dict(tau_mem=7.0, tau_syn=3.0, t_max=12.0, max_spikes=3, stops=True)
            t, u = ops.eventprop(*inputs, delays_rec=delays, return_u_max=True, **options)
            torch.autograd.grad(t.nan_to_num(posinf=0.0).sum() + u.sum(), inputs)


def presented() -> list[object]:
    """Return two presentations of 8 steps and 20 inputs in all three forms."""
    torch.manual_seed(0)
    spikes = torch.rand(2, 8, 20) < 0.3
    rates = ops.Rates(600 * torch.rand(2, 20), 8, torch.tensor([3, 4]))
    return [spikes, ops.Events.from_dense(spikes), rates]


@on_each_device
def diehl_cook() -> None:
    rule = plasticity.triplet(1e-2, 1e-1)
    for x in presented():
        for neurons in (40, 130):
            for winner, delay in ((True, 0), (False, 0), (False, 1), (False, 2)):
                w, theta = torch.rand(neurons, 20), torch.zeros(neurons)
                how = dict(one_winner=winner, inhibition_delay=delay, v_threshold=0.5)
                learns = dict(rule=rule, theta_plus=0.1, return_state=True, **how)
                state = ops.diehl_cook_(x, w, theta, **learns).state
                ops.diehl_cook_(x, w, theta, state=state, norm=5.0, **learns)
                ops.diehl_cook_(x, w, theta, rule=None, theta_plus=0.0, tau_theta=None, **how)
        # More networks than concurrent blocks.
        w, theta = torch.rand(9, 40, 20), torch.zeros(9, 40)
        how = dict(norm=5.0, v_threshold=0.5, return_state=True)
        ops.diehl_cook_(x, w, theta, rule=rule, **how)


def lif() -> None:
    """Run one thread per neuron or per pair; none ends before the others begin, which would reuse its stack."""
    for dtype, per_thread in ((torch.float32, 1), (torch.bfloat16, 2)):
        x, v = 2 * torch.rand(150, 64 * per_thread, dtype=dtype), torch.rand(65 * per_thread)[per_thread:]
        inputs = [value.requires_grad_() for value in (x, v)]
        torch.autograd.grad(ops.lif(x, v)[0].sum(), inputs)


def recurrent() -> None:
    for neurons in (40, 100):
        x, w = 2 * torch.rand(9, 3, neurons), 0.2 * torch.rand(neurons, neurons)
        for delay in (None, 2 * torch.rand(neurons)):
            inputs = [x, w] if delay is None else [x, w, delay]
            for value in inputs:
                value.requires_grad_()
            torch.autograd.grad(ops.recurrent(x, w, delay=delay)[0].sum(), inputs)


def sparse() -> None:
    for neurons in (40, 100):
        c = connect.fixed_outdegree(neurons, outdegree=70, delay=torch.arange(neurons) % 3 + 1, seed=1)
        x, w, past = 2 * torch.rand(9, 2, neurons), 0.2 * torch.rand(len(c)), torch.ones(2, 2, neurons)
        for value in (x, w, past):
            value.requires_grad_()
        torch.autograd.grad(ops.sparse_recurrent(x, w, c, past)[0].sum(), (x, w, past))
        torch.autograd.grad(ops.sparse_linear(x, w, c.with_delay(1)).sum(), (x, w))


CALLS: dict[str, tuple[Callable[[], None], ...]] = {
    "cuda/stdp.cu": (stdp,),
    "cuda/bp_stdp_network": (bp_stdp_network,),
    "cuda/spikeprop": (spikeprop,),
    "cuda/eventprop": (eventprop,),
    "cuda/diehl_cook.cu": (diehl_cook,),
    "cuda/presentations.cuh": (diehl_cook,),
    "cuda/recurrent": (recurrent,),
    "cuda/sparse": (sparse,),
    "cuda/rows.cuh": (lif,),
    "cuda/neuron_kernel.cuh": (lif,),
}


def calls_of(file: str) -> tuple[Callable[[], None], ...]:
    return next((calls for start, calls in CALLS.items() if file.startswith(start)), ())


def inside(library: Path, only: str) -> int:
    """Run all kernels unchanged, then without each barrier; each in a process that ends at its first report."""
    torch.set_num_threads(1)
    torch.ops.load_library(library)
    for name in DIFFERENTIABLE:
        import_module(f"snnfast.ops.{name}").register("snnfast_emulated")
    drop = ctypes.CDLL(str(library)).emulation_drop

    def reported(calls: tuple[Callable[[], None], ...], file: bytes, line: int, tell: bool) -> bool:
        child = os.fork()
        if child == 0:
            if not tell:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            drop(file, line)
            with backend.use("cuda_emulation"):
                for call in calls:
                    call()
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code not in (0, FOUND):
            raise SystemExit(f"a process ended with exit code {code}")
        return code == FOUND

    failures = 0
    for call in dict.fromkeys(call for calls in CALLS.values() for call in calls):
        found = reported((call,), b"", 0, True)
        failures += found
        print(f"{call.__name__}: {'A RACE' if found else 'clean'}", flush=True)
    if failures:
        return 1
    for file, k, line in planted(library.parent / "csrc", only):
        found = reported(calls_of(file), file.encode(), line, False)
        spare = SPARE.get((file, k))
        bad = found == (spare is not None)
        failures += bad
        words = "reported" if found else f"not reported: {spare or 'IT MUST BE'}"
        print(f"without {file} {k} (line {line}): {words}{' BUT IS SPARE' * (found and bad)}")
    return min(failures, 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, help="of the build; one that is removed if left out")
    parser.add_argument("--only", default="", help="plants in files with this in their names")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.inside:
        return inside(chosen.inside, chosen.only)
    with tempfile.TemporaryDirectory() as removed:
        folder = (chosen.folder or Path(removed)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        library = build(folder)
        compiler = os.environ.get("CXX", "g++")
        preload = subprocess.check_output([compiler, "-print-file-name=libtsan.so"], text=True)
        options = f"halt_on_error=1:exitcode={FOUND}:die_after_fork=0:report_thread_leaks=0"
        environment = {
            **os.environ,
            "LD_PRELOAD": preload.strip(),
            "TSAN_OPTIONS": f"{options}:ignore_noninstrumented_modules=1",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        }
        words = [sys.executable, __file__, "--inside", str(library), "--only", chosen.only]
        return subprocess.run(words, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
