"""One launch of every kernel on a stream of its own, on a second device, from a CUDA graph and from compiled code.

What comes out is compared with the CPU. Networks whose blocks meet run with clusters and without, again and again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .job import Job, PartError, Parts
from .timings import clusters

REPEATS = 20  # of networks whose blocks meet: the same bits each time
MODES = ("default", "reduce-overhead", "max-autotune")
ANOTHER = 1e-3  # share of elements that may differ: spikes at the very threshold


def parts(job: Job) -> Parts:
    from .ops import examples, meeting

    # cuDNN multiplies float32 with 10 bits of the mantissa, else: 40 % of a convolution would differ from the CPU's.
    torch.backends.cudnn.allow_tf32 = False
    device = job.device
    here, there = examples("cpu"), examples(device)
    found: dict[str, Callable[[], Any]] = {"import": information}
    for name, example in there.items():
        want = here[name].run
        found[f"launch {name}"] = partial(launch, example.run, want, job.rehearse)
    cpu = meeting("cpu", small=job.rehearse)
    for name, example in meeting(device, small=job.rehearse).items():
        for wanted in (True, False):
            found[f"{name}, {'clusters' if wanted else 'no clusters'}"] = partial(
                repeated, example.run, cpu[name].run, wanted, job.rehearse
            )
    if device == "cuda" and torch.cuda.device_count() > 1:
        for name, example in examples("cuda:1").items():
            found[f"second device {name}"] = partial(launch, example.run, here[name].run, False)
    for name, example in there.items():
        run = partial(captured, example.run) if device == "cuda" else example.run
        found[f"capture {name}"] = partial(launch, run, here[name].run, job.rehearse)
    found["replays draw anew"] = partial(drawn_anew, device)
    return found


def compile(job: Job) -> Parts:
    """Every op in every mode of torch.compile."""
    from .ops import examples

    torch.backends.cudnn.allow_tf32 = False
    here, there = examples("cpu"), examples(job.device)
    found: dict[str, Callable[[], Any]] = {}
    for mode in (None,) if job.rehearse else MODES:
        for name in ("lif",) if job.rehearse else there:
            run = partial(compiled, there[name], mode)
            found[f"compile {name} {mode or ''}".strip()] = partial(
                launch, run, here[name].run, False
            )
    return found


def information() -> dict[str, Any]:
    import snnfast

    return snnfast.build_info()


def launch(
    run: Callable[[], list[Tensor]], want: Callable[[], list[Tensor]], emulated: bool
) -> Any:
    """Runs on a stream of its own, or by emulation, and compares."""
    return compare(ran(run, emulated), want())


def ran(run: Callable[[], list[Tensor]], emulated: bool) -> list[Tensor]:
    from snnfast import backend, testing

    if torch.cuda.is_available() and not emulated:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), backend.use("cuda"):
            got = run()
        stream.synchronize()
        return got
    with backend.use("cuda_emulation") if testing.load_cuda_emulation() else nullcontext():
        return run()


def repeated(
    run: Callable[[], list[Tensor]],
    want: Callable[[], list[Tensor]],
    with_clusters: bool,
    emulated: bool,
) -> Any:
    """Runs again and again, with clusters or without, and compares the first with the CPU and the others with it.

    Raises:
        PartError: if a run differs from the first in a bit.
    """
    with clusters(with_clusters):
        first = ran(run, emulated)
        for k in range(1, 2 if emulated else REPEATS):
            for a, b in zip(first, ran(run, emulated)):
                if not torch.equal(a.nan_to_num(), b.nan_to_num()):
                    raise PartError(f"run {k + 1} differs from the first: blocks did not wait")
    return compare(first, want())


def graph_of(run: Callable[[], list[Tensor]]) -> tuple[torch.cuda.CUDAGraph, list[Tensor]]:
    """A CUDA graph, captured after a warm-up, and what a replay of it writes."""
    for _ in range(2):
        run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = run()
    return graph, got


def drawn_anew(device: str) -> dict[str, Any]:
    """Share of spikes, drawn without a seed, that another replay does not repeat.

    Raises:
        PartError: if it is not that of independent ones, a half.
    """
    from snnfast import ops

    p = torch.full((1 << 16,), 0.5, device=device)
    if device == "cuda":
        graph, (spikes,) = graph_of(lambda: [ops.poisson(p, 1)])
        runs = []
        for _ in range(2):
            graph.replay()
            runs.append(spikes.clone())
    else:
        runs = [ops.poisson(p, 1) for _ in range(2)]
    share = (runs[0] != runs[1]).double().mean().item()
    if not 0.45 < share < 0.55:
        raise PartError(
            f"{100 * share:.3g} % of the spikes differ between two replays, not 50", share
        )
    return {"differ": share}


def captured(run: Callable[[], list[Tensor]]) -> list[Tensor]:
    """Capture ``run`` in a CUDA graph, replay it and return the tensors that it wrote."""
    graph, got = graph_of(run)
    for tensor in got:
        tensor.zero_()
    graph.replay()
    torch.cuda.synchronize()
    return got


def compiled(example: Any, mode: str | None) -> list[Tensor]:
    torch.compiler.reset()
    settings = {"backend": "aot_eager"} if mode is None else {"mode": mode}
    function = torch.compile(example.function, fullgraph=True, **settings)
    for _ in range(2):
        example.run(function)
    return example.run(function)


def compare(got: list[Tensor], want: list[Tensor]) -> dict[str, Any]:
    """The largest share of elements of a tensor that differ.

    Raises:
        PartError: if more differ than spikes at the threshold can explain.
    """
    if len(got) != len(want):
        raise PartError(f"{len(got)} tensors instead of {len(want)}")
    share = 0.0
    for a, b in zip(got, want):
        a, b = a.detach().cpu().double(), b.detach().double()
        if a.shape != b.shape:
            raise PartError(f"a shape of {tuple(a.shape)} instead of {tuple(b.shape)}")
        if a.numel():
            other = ~torch.isclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)
            share = max(share, other.double().mean().item())
    if share > ANOTHER:
        raise PartError(f"{100 * share:.3g} % of the elements differ from the CPU's", share)
    return {"tensors": len(got), "differ": share}
