"""The command line: ``python -m benchmarks lif recurrent --threads 1``."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from typer.core import TyperGroup

from benchmarks import (
    accuracy,
    deploy,
    integers,
    machine,
    machine_code,
    methods,
    neurons,
    own_recordings,
    published,
    report,
    resources,
    startup,
    streams,
    zoo,
)
from benchmarks.timing import Task, measure, measure_isolated, require_kernels
from snnfast import check
from snnfast_zoo.cli.options import plain_errors


class Several(TyperGroup):
    """Commands that run one after the other, with the same options, if several are named."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        names = list(itertools.takewhile(self.commands.__contains__, args))
        options = args[len(names) :]
        if len(names) > 1 and any(option.startswith(("--json", "--plot")) for option in options):
            raise typer.BadParameter(f"--json and --plot write one benchmark, got {', '.join(names)}")
        for name in names[:-1]:
            typer.echo(f"{name}:")
            with self.commands[name].make_context(name, list(options), parent=ctx) as context:
                context.command.invoke(context)
        if len(names) > 1:
            typer.echo(f"{names[-1]}:")
        return super().resolve_command(ctx, [*names[-1:], *options])


app = typer.Typer(
    cls=Several, help="Benchmarks of snnfast against plain PyTorch and other libraries.", no_args_is_help=True
)

# Cases of ``deploy``: those in integers train the same networks.
DEPLOYED = (*deploy.CASES, "qtdb", *(f"integer-{case}" for case in deploy.CASES))

# Limits hold on the CPU in float32.
JUDGED = ("cpu", "float32")


def add_command(benchmark: str) -> None:
    module = neurons.module_of(benchmark)

    @app.command(benchmark, help=module.__doc__)
    def run(
        device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
        dtype: Annotated[str, typer.Option(help="float32, float64, bfloat16, float16.")] = "float32",
        threads: Annotated[str, typer.Option(help="CPU threads, one or several: 1,2.")] = "1",
        shapes: Annotated[str, typer.Option(help="Time first, one or several: 16x64x1024.")] = "",
        repeats: Annotated[int, typer.Option(help="Runs a process; fewer if they are slow.")] = 20,
        budget: Annotated[float, typer.Option(help="Seconds after which a slow pass is not repeated.")] = 2.0,
        rounds: Annotated[int, typer.Option(help="Processes an implementation, in turn.")] = 1,
        baselines: Annotated[str, typer.Option(help="Some of them only.")] = ",".join(module.BASELINES),
        compiled: Annotated[bool, typer.Option(help="Also torch.compile of the loop: slow.")] = False,
        json: Annotated[Path | None, typer.Option(help="Write the results to this file.")] = None,
        plot: Annotated[Path | None, typer.Option(help="Draw the results into this file.")] = None,
        cpu_time: Annotated[bool, typer.Option(help="CPU seconds, for a busy machine; one thread only.")] = False,
        in_process: Annotated[
            bool, typer.Option(help="All in this process: saves its starts, but a crash ends all.")
        ] = False,
        quick: Annotated[bool, typer.Option(help="Tiny, in one process: does it run?")] = False,
    ) -> None:
        if shapes:
            sizes = [tuple(map(int, shape.split("x"))) for shape in shapes.split(",")]
        else:
            sizes = module.QUICK_SHAPES if quick else module.SHAPES
        counts = sorted({int(count) for count in threads.split(",")})
        if cpu_time and (device != "cpu" or counts != [1]):
            raise typer.BadParameter("--cpu-time counts on the CPU with one thread only")
        clock = "cpu" if cpu_time else "wall"
        require_kernels(device)
        names = [module.FLOOR, neurons.OURS, *filter(None, baselines.split(","))]
        names += neurons.OPTIONAL_BASELINES if compiled else ()
        results: report.Results = {}

        def found() -> tuple[list[report.Row], list[dict[str, Any]]]:
            rows, judge = report.rows(results, module.FLOOR), getattr(module, "verdicts", None)
            return rows, judge(rows) if judge and not quick and (device, dtype) == JUDGED else []

        # Implementations are in the inner loop, so that measurements to compare are close in time.
        for count, size, _, name in itertools.product(counts, sizes, range(rounds), names):
            task = Task(
                benchmark,
                name,
                size,
                dtype,
                device,
                threads=count,
                repeats=3 if quick else repeats,
                budget=budget,
                clock=clock,
            )
            if in_process:
                torch.compiler.reset()
            measurement = (measure if quick or in_process else measure_isolated)(task)
            typer.echo(report.progress(task, measurement), err=True)
            if task in results:
                results[task].merge(measurement)
            else:
                results[task] = measurement
            if json is not None:  # a long run that is cut off keeps what it has
                report.write_json(json, device, results, *found())
        rows, verdicts = found()
        typer.echo(report.timing_table(rows, module.FLOOR))
        if verdicts:
            typer.echo(f"\n{report.verdict_table(verdicts)}")
        if plot is not None:
            getattr(module, "plot", report.plot)(
                plot, rows, f"{benchmark}, {dtype}, {clock} time, {machine.device_name(device)}"
            )


for name in (*neurons.stems(), *neurons.benchmarks()):
    add_command(name)


def shown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> list[Sequence[str]]:
    """Print each line when it is there, and a table of all at the end."""
    found = []
    for line in lines:
        typer.echo("  ".join(line), err=True)
        found.append(line)
    typer.echo(report.table(header, found))
    return found


@app.command("zoo", help=zoo.__doc__)
def print_zoo(
    libraries: Annotated[str, typer.Option(help="One or several.")] = ",".join(zoo.LIBRARIES),
    repeats: Annotated[int, typer.Option(help="Steps of a network.")] = 5,
    only: Annotated[str, typer.Option(help="Networks whose names hold this.")] = "",
    gain: Annotated[float, typer.Option(help="Weights of batch normalisation, times this.")] = 1.0,
    compiled: Annotated[bool, typer.Option(help="Also torch.compile of the library's network: slow.")] = False,
    cpu_time: Annotated[bool, typer.Option(help="CPU seconds, for a busy machine.")] = False,
) -> None:
    torch.set_num_threads(1)
    require_kernels("cpu")
    models = itertools.chain.from_iterable(zoo.models(library, gain, only) for library in libraries.split(","))
    clock = "cpu" if cpu_time else "wall"
    shown(zoo.HEADER, (zoo.line(name, model, repeats, clock, compiled) for name, model in models))


@app.command("published", help=published.__doc__)
def print_published(
    folder: Annotated[Path, typer.Argument(help="Copies of the repositories.")],
    repeats: Annotated[int, typer.Option(help="Training steps of a network.")] = 7,
    only: Annotated[str, typer.Option(help="Networks whose names hold this.")] = "",
    cpu_time: Annotated[bool, typer.Option(help="CPU seconds, for a busy machine.")] = False,
) -> None:
    torch.set_num_threads(1)
    require_kernels("cpu")
    networks = [name for name in published.NETWORKS if only in name]
    missing = {name: why for name in networks if (why := published.missing(folder, published.NETWORKS[name]))}
    for name, why in missing.items():
        typer.echo(f"skipped: {name}: {why}", err=True)
    clock = "cpu" if cpu_time else "wall"
    shown(published.HEADER, (published.line(n, folder, repeats, clock) for n in networks if n not in missing))


@app.command("accuracy", help=accuracy.__doc__)
def print_accuracy(page: Annotated[Path | None, typer.Option(help="Write the table into this page.")] = None) -> None:
    found = shown(accuracy.HEADER, accuracy.lines())
    if page is not None:
        accuracy.write(page, found)


@app.command("deploy", help=deploy.__doc__)
def print_deploy(
    folder: Annotated[Path, typer.Argument(help="Networks that are trained; those missing are trained into it.")],
    root: Annotated[Path | None, typer.Option(help="Folder of torchvision's MNIST, of qtdb and cifar10.")] = None,
    cases: Annotated[str, typer.Option(help=f"Of {', '.join(DEPLOYED)}.")] = ",".join(
        (*deploy.CASES, "qtdb", "integer-digits")
    ),
    rounds: Annotated[int, typer.Option(help="Of time, the minimum of which counts.")] = 15,
    epochs: Annotated[int | None, typer.Option(help="Of each training.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the results to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the results into this file.")] = None,
) -> None:
    torch.set_num_threads(1)
    require_kernels("cpu")
    names = cases.split(",")
    for name in names:
        if name not in DEPLOYED:
            raise typer.BadParameter(f"--cases: there is no case {name!r}{check.suggestion(name, DEPLOYED)}")
    found: list[deploy.DeployedRow] = []
    with plain_errors():
        for name in names:
            if name == "qtdb":
                found += streams.rows_of(folder, root or Path(), rounds, epochs)
            elif name.startswith("integer-"):
                found += integers.rows_of(name, folder, root, rounds, epochs)
            else:
                found += deploy.rows_of(name, folder, root, rounds, epochs)
    typer.echo(report.table(deploy.HEADER, [row.cells for row in found]))
    if json is not None:
        deploy.write_json(json, found)
    if plot is not None:
        deploy.plot(plot, found)


@app.command("methods", help=methods.__doc__)
def print_methods(
    hidden: Annotated[int, typer.Option(help="Neurons.")] = 300,
    epochs: Annotated[int, typer.Option(help="Of each method.")] = 60,
    seeds: Annotated[int, typer.Option(help="Networks of each method.")] = 1,
    validate: Annotated[bool, typer.Option(help="Score the validation part instead of the test part.")] = False,
) -> None:
    torch.set_num_threads(1)
    require_kernels("cpu")
    shown(methods.HEADER, methods.rows(hidden, epochs, seeds, validate))


@app.command("own-recordings", help=own_recordings.__doc__)
def print_own_recordings() -> None:
    typer.echo(report.table(own_recordings.HEADER, list(own_recordings.rows())))


@app.command("startup", help=startup.__doc__)
def print_startup(repeats: Annotated[int, typer.Option(help="Processes after the first.")] = 9) -> None:
    typer.echo(report.table(startup.HEADER, startup.rows(repeats)))


@app.command("machine_code", help=machine_code.__doc__)
def print_machine_code(
    check: Annotated[bool, typer.Option(help="Fail if a kernel got worse than is kept.")] = False,
    keep: Annotated[bool, typer.Option(help="Keep what there is now.")] = False,
) -> None:
    before = machine_code.stored()
    try:
        compiler = machine_code.release()
        if check and (before.nvcc, before.sources) == (compiler, machine_code.digest()):
            typer.echo("sources and compiler are those of the machine code that is kept")
            return
        found = machine_code.measure()
    except RuntimeError as error:
        typer.echo(error, err=True)
        raise typer.Exit(1) from None
    typer.echo(report.table(machine_code.Code._fields, [tuple(map(str, code)) for code in found]))
    if keep:
        machine_code.keep(compiler, found)
    if check:
        if before.nvcc != compiler:
            typer.echo(f"not judged: what is kept is of {before.nvcc}, this is {compiler}")
            return
        complaints = machine_code.worse(before.kernels, found)
        for complaint in complaints:
            typer.echo(f"WORSE: {complaint}")
        if complaints:
            raise typer.Exit(1)


@app.command("resources", help=resources.__doc__)
def print_resources(arch: Annotated[str, typer.Option(help="The GPU architecture to compile for.")] = "sm_90") -> None:
    compiler = resources.nvcc()
    if compiler is None:
        typer.echo("nvcc was not found: put it on PATH or set CUDA_HOME", err=True)
        raise typer.Exit(1)
    kernels: list[resources.ReportedKernel] = []
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for source in resources.sources(Path(folder)):
            try:
                kernels += resources.compile_kernels(compiler, arch, source)
            except RuntimeError as error:
                failures.append(str(error))
    header = ("source", "kernel", "registers", "shared B", "stack B", "spill B")
    typer.echo(report.table(header, [tuple(map(str, kernel)) for kernel in kernels]))
    for failure in failures:
        typer.echo(failure, err=True)
    if failures:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
