"""The command ``snnfast``. Each procedure adds one command to ``snnfast train``, some to ``assign`` and ``infer``."""

from __future__ import annotations

import ast
import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import torch
import typer

from snnfast import backend, memory
from snnfast.info import build_info
from snnfast.train import CheckpointError

app = typer.Typer(
    name="snnfast",
    help="Spiking neural networks with fused kernels: train a procedure, see what runs, measure.",
    no_args_is_help=True,
    add_completion=False,
)
train = typer.Typer(help="Train one of the procedures.", no_args_is_help=True)
app.add_typer(train, name="train")
assign = typer.Typer(help="Label neurons that learned without labels.", no_args_is_help=True)
app.add_typer(assign, name="assign")
infer = typer.Typer(help="Score a trained network on held-out images.", no_args_is_help=True)
app.add_typer(infer, name="infer")

Device = Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu, cuda or cuda:N.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="CPU threads; PyTorch's choice if left out.")
]


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Wrong input is told in a line, without a traceback."""
    try:
        yield
    except (
        ValueError,
        TypeError,
        FileNotFoundError,
        FileExistsError,
        ImportError,
        CheckpointError,
        backend.BackendError,
    ) as error:
        typer.secho(f"snnfast: {error}", err=True, fg="red")
        raise typer.Exit(2) from error


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"--device must be auto, cpu, cuda or cuda:N, got {name!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"--device must be auto, cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(
                f"--device {name} was asked for, but {build_info()['cuda_backend_why']}; use --device cpu"
            )
        if (device.index or 0) >= torch.cuda.device_count():
            raise ValueError(f"--device {name}: there are {torch.cuda.device_count()} GPUs")
    return device


@train.command("stbp")
def train_stbp(
    dataset: Annotated[str, typer.Option(help="digits (in the package) or mnist.")] = "digits",
    data: Annotated[
        Path | None, typer.Option(help="Folder of MNIST in torchvision's layout.")
    ] = None,
    download: Annotated[bool, typer.Option(help="Download MNIST into --data.")] = False,
    hidden: Annotated[
        int | None, typer.Option(help="Fully connected network with so many hidden neurons.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Time steps per image.")] = None,
    encoding: Annotated[str | None, typer.Option(help="bernoulli or direct.")] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs; also the length of the schedule.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Adam's first learning rate.")] = None,
    shift: Annotated[float | None, typer.Option(help="Augmentation: pixels.")] = None,
    rotate: Annotated[float | None, typer.Option(help="Augmentation: degrees.")] = None,
    scale: Annotated[float | None, typer.Option(help="Augmentation: fraction.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32, or bfloat16 for products and convolutions.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    validate: Annotated[
        bool, typer.Option(help="Train without the validation split and watch that, not the test.")
    ] = False,
    device: Device = "auto",
    threads: Threads = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of results; runs/stbp-<dataset> if left out.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoint in --out.")] = False,
    weights: Annotated[
        Path | None, typer.Option(help="Start from the weights of this checkpoint.")
    ] = None,
) -> None:
    """Spatio-temporal backpropagation (Wu et al. 2018). Options left out take the dataset's preset."""
    from snnfast.procedure import stbp

    with _plain_errors():
        if threads is not None:
            torch.set_num_threads(threads)
        given = {
            "time_interval": steps,
            "encoding": encoding,
            "epochs": epochs,
            "batch_size": batch_size,
            "lr": lr,
            "shift": shift,
            "rotate": rotate,
            "scale": scale,
            "precision": precision,
        }
        settings = stbp.preset(
            dataset.lower(),
            None if hidden is None else (hidden,),
            seed=seed,
            validate=validate,
            **{name: value for name, value in given.items() if value is not None},
        )
        _needs_root(settings.dataset, data)
        folder = out or Path("runs") / f"stbp-{settings.dataset}{'-fc' if hidden else ''}"
        try:
            result = stbp.train(
                settings,
                folder,
                root=data,
                download=download,
                device=_device(device),
                resume=resume,
                weights=weights,
            )
        except KeyboardInterrupt:
            _tell_interruption((folder / stbp.CHECKPOINT).exists())
        typer.echo(result.summary())


Dataset = Annotated[str, typer.Option(help="digits (in the package) or mnist.")]
Root = Annotated[Path | None, typer.Option(help="Folder of MNIST in torchvision's layout.")]
Download = Annotated[bool, typer.Option(help="Download MNIST into --data.")]
Neurons = Annotated[int, typer.Option(help="Excitatory neurons.")]
StdpFolder = Annotated[
    Path | None, typer.Option(help="Folder of the run; runs/stdp-<dataset>-<neurons> if left out.")
]


@train.command("stdp")
def train_stdp(
    dataset: Dataset = "digits",
    data: Root = None,
    download: Download = False,
    neurons: Neurons = 100,
    preset: Annotated[str, typer.Option(help="tuned, manual, n3ml or paper.")] = "tuned",
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 2,
    rule: Annotated[
        str | None, typer.Option(help="Another rule of snnfast.plasticity, with its defaults.")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Rate of potentiation.")] = None,
    lr_final: Annotated[
        float | None, typer.Option(help="Learning rates at the end, as a part of those before.")
    ] = None,
    theta_plus: Annotated[
        float | None, typer.Option(help="Growth of a threshold per spike, mV.")
    ] = None,
    norm: Annotated[float | None, typer.Option(help="Sum of weights per input.")] = None,
    intensity: Annotated[float | None, typer.Option(help="Rate of a white pixel, Hz.")] = None,
    time_interval: Annotated[float | None, typer.Option(help="A presentation, ms.")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE: any other setting of network or rule; repeatable."),
    ] = None,
    images_per_call: Annotated[
        int | None, typer.Option(help="Images after which learning rates are set anew.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    validate: Annotated[
        bool, typer.Option(help="Train without the validation split and score that, not the test.")
    ] = False,
    device: Device = "auto",
    threads: Threads = None,
    out: StdpFolder = None,
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoint in --out.")] = False,
) -> None:
    """Spike-timing-dependent plasticity (Diehl and Cook 2015): trains, labels the neurons, scores."""
    from snnfast.procedure import stdp, stdp_readout

    with _plain_errors():
        if threads is not None:
            torch.set_num_threads(threads)
        given = {
            "rule": rule,
            "lr": lr,
            "lr_final": lr_final,
            "theta_plus": theta_plus,
            "norm": norm,
            "intensity": intensity,
            "time_interval": time_interval,
        }
        changes = {name: value for name, value in given.items() if value is not None}
        settings = stdp.Settings(
            dataset=dataset.lower(),
            neurons=neurons,
            preset=preset,
            epochs=epochs,
            images_per_call=images_per_call,
            seed=seed,
            validate=validate,
            changes=changes | dict(map(_name_and_value, setting or [])),
        )
        _needs_root(settings.dataset, data)
        folder = out or _stdp_folder(dataset, neurons)
        chosen = _device(device)
        try:
            stdp.train(settings, folder, root=data, download=download, device=chosen, resume=resume)
            trained = stdp_readout.trained(folder, root=data, device=chosen)
            typer.echo(stdp_readout.describe_assignment(stdp_readout.assign(trained, folder)))
            typer.echo(stdp_readout.infer(trained, folder).summary())
        except KeyboardInterrupt:
            _tell_interruption((folder / stdp.CHECKPOINT).exists())
        typer.echo(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")


@assign.command("stdp")
def assign_stdp(
    dataset: Dataset = "digits",
    data: Root = None,
    neurons: Neurons = 100,
    images: Annotated[
        int | None,
        typer.Option(
            help="How many training images decide, the last ones; if left out ten a neuron, at least 10,000."
        ),
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    out: StdpFolder = None,
) -> None:
    """Labels the neurons of a run by their responses to training images."""
    from snnfast.procedure import stdp_readout

    with _plain_errors():
        if threads is not None:
            torch.set_num_threads(threads)
        folder = out or _stdp_folder(dataset, neurons)
        trained = stdp_readout.trained(folder, root=data, device=_device(device))
        assigned = stdp_readout.assign(trained, folder, images=images)
        typer.echo(stdp_readout.describe_assignment(assigned))


@infer.command("stdp")
def infer_stdp(
    dataset: Dataset = "digits",
    data: Root = None,
    neurons: Neurons = 100,
    device: Device = "auto",
    threads: Threads = None,
    out: StdpFolder = None,
) -> None:
    """Scores a run whose neurons have labels on the test images, or the validation split of its settings."""
    from snnfast.procedure import stdp_readout

    with _plain_errors():
        if threads is not None:
            torch.set_num_threads(threads)
        folder = out or _stdp_folder(dataset, neurons)
        trained = stdp_readout.trained(folder, root=data, device=_device(device))
        typer.echo(stdp_readout.infer(trained, folder).summary())


@train.command("spikeprop")
def train_spikeprop(
    dataset: Annotated[
        str, typer.Option(help="iris, cancer, digits, xor (all in the package) or mnist.")
    ] = "iris",
    code: Annotated[str | None, typer.Option(help="population or latency.")] = None,
    data: Root = None,
    download: Download = False,
    hidden: Annotated[
        list[int] | None, typer.Option(help="Hidden neurons; give it again for another layer.")
    ] = None,
    terminals: Annotated[int | None, typer.Option(help="Synapses of a connection.")] = None,
    tau: Annotated[float | None, typer.Option(help="Time constant in ms.")] = None,
    loss: Annotated[str | None, typer.Option(help="cross-entropy or squared-error.")] = None,
    jitter: Annotated[float | None, typer.Option(help="Noise on input times in ms.")] = None,
    shift: Annotated[int | None, typer.Option(help="Moves images by up to so many pixels.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Samples a step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Adam's first learning rate.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random, the first of --seeds.")] = 0,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Train anew for so many seeds, show the mean.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Cross-validate, every seed on its own folds.")
    ] = None,
    validate: Annotated[
        bool, typer.Option(help="Hold out a part of the training data, not the test part.")
    ] = False,
    device: Device = "auto",
    threads: Threads = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of results; runs/spikeprop-<dataset> if left out.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on from what is in --out.")] = False,
) -> None:
    """SpikeProp (Bohte et al. 2002): exact spike times. Options left out take the dataset's preset."""
    from snnfast.procedure import spikeprop, spikeprop_repeats

    with _plain_errors():
        if threads is not None:
            torch.set_num_threads(threads)
        given = {
            "hidden": tuple(hidden) if hidden else None,
            "terminals": terminals,
            "tau": tau,
            "loss": loss,
            "jitter": jitter,
            "shift": shift,
            "epochs": epochs,
            "batch_size": batch_size,
            "lr": lr,
        }
        settings = spikeprop.preset(
            dataset.lower(),
            code,
            seed=seed,
            folds=folds,
            validate=validate,
            **{name: value for name, value in given.items() if value is not None},
        )
        _needs_root(settings.dataset, data)
        many = folds is not None or seeds is not None
        folder = out or Path("runs") / f"spikeprop-{settings.dataset}{'-repeats' if many else ''}"
        run = (
            partial(spikeprop_repeats.repeat, settings, range(seed, seed + (seeds or 1)))
            if many
            else partial(spikeprop.train, settings)
        )
        chosen = _device(device)
        try:
            result = run(folder, root=data, download=download, device=chosen, resume=resume)
        except KeyboardInterrupt:
            kept = spikeprop_repeats.RESULTS if many else spikeprop.CHECKPOINT
            _tell_interruption((folder / kept).exists())
        typer.echo(result.summary())


def _stdp_folder(dataset: str, neurons: int) -> Path:
    return Path("runs") / f"stdp-{dataset.lower()}-{neurons}"


def _name_and_value(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set must be NAME=VALUE, got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def _needs_root(dataset: str, root: Path | None) -> None:
    if dataset == "mnist" and root is None:
        raise ValueError(
            "--dataset mnist needs --data, the folder of MNIST in torchvision's layout; "
            "with --download it is fetched there"
        )


def _tell_interruption(kept: bool) -> NoReturn:
    tip = "repeat the command with --resume to go on" if kept else "nothing was saved yet"
    typer.secho(f"\nsnnfast: interrupted; {tip}", err=True, fg="yellow")
    raise typer.Exit(130) from None


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for figures and table.")] = Path("snnfast-demo"),
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Train on the digits in the package and measure the speed: under a minute on 2 cores."""
    from snnfast.procedure.demo import run

    with _plain_errors():
        if threads is not None:
            torch.set_num_threads(threads)
        run(out, seed=seed, device=_device(device), echo=typer.echo)


@app.command()
def info(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show versions, instruction set, CUDA architectures, and what runs here and why."""
    values = build_info()
    if as_json:
        typer.echo(json.dumps(values, indent=2))
        return
    width = max(map(len, values))
    for name, value in values.items():
        shown = "-" if value in (None, "") else value
        typer.echo(f"{name:{width}}  {shown}")


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def bench(context: typer.Context) -> None:
    """Run the benchmarks; needs the folder benchmarks/ of the source in the current directory."""
    sys.path.insert(0, str(Path.cwd()))
    try:
        benchmarks = importlib.import_module("benchmarks.__main__")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "benchmarks":
            raise
        typer.secho(
            "snnfast: the benchmarks are not part of the installed package. Run this in a checkout of the source, "
            "the folder that holds benchmarks/, setup.py and csrc/.",
            err=True,
            fg="red",
        )
        raise typer.Exit(2) from None
    benchmarks.app(context.args or ["--help"], prog_name="snnfast bench")


def main() -> None:
    """Entry point of the command ``snnfast``."""
    # Here and not in the commands: it holds for the whole process, which is ours only here.
    memory.keep_freed_memory()
    app()
