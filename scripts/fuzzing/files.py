"""Cases of the fuzzer for commands and checkpoints."""

from __future__ import annotations

import os
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from typer.testing import CliRunner

from snnfast import nir
from snnfast.nn import LIF, CubaLIF, Delay, Recurrent, Time
from snnfast_zoo import cli
from snnfast_zoo.train.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from snnfast_zoo.train.folder import locked

from .draw import Draw, Finding, copied, same

HOSTILE = ("-1", "0", "1", "nan", "inf", "1e400", "9" * 30, "a", "", "no such", "/dev/null/x", "digits", "mnist", "[]")
# Options with which each procedure trains within a second.
QUICK = {
    "spikeprop": ("--dataset", "xor", "--epochs", "1"),
    "bp-stdp": ("--dataset", "xor", "--epochs", "1"),
    "stbp": ("--hidden", "4", "--epochs", "1", "--steps", "1", "--batch-size", "500"),
    "stdp": ("--neurons", "4", "--epochs", "1", "--duration", "5"),
    "diehl2015": ("--network", "dense", "--epochs", "1", "--batch-size", "500"),
    "sequence": (
        *("--task", "copy", "--steps", "12", "--samples", "64", "--hidden", "4", "--epochs", "1"),
        *("--batch-size", "64"),
    ),
}
OPTIONS = (  # without --download, to need no network
    "--dataset",
    "--epochs",
    "--seed",
    "--seeds",
    "--data",
    "--device",
    "--out",
    "--weights",
    "--threads",
    "--lr",
    "--hidden",
    "--steps",
    "--batch-size",
    "--set",
    "--rule",
    "--preset",
    "--folds",
    "--images",
    "--neurons",
    "--method",
    "--percentile",
    "--tau",
    "--t-max",
    "--no such",
    "--resume",
    "--validate",
)
FLAGS = ("--resume", "--validate")


def try_command(d: Draw) -> None:
    """Check that a command with random options succeeds, or ends with code 2 and an error message."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        broken = root / "broken.pt"
        broken.write_bytes(d.randbytes(d.choice((0, 9, 300))))
        foreign = root / "foreign" / "checkpoint.pt"
        write_checkpoint(foreign, {"kind": "something else", "weights": [1, 2]})
        values = (*HOSTILE, folder, str(broken), str(foreign), str(foreign.parent))
        name = d.choice(sorted(QUICK))
        words = [
            "train",
            name,
            *(QUICK[name] if d.chance(0.9) else ("--epochs", "0")),
            "--device",
            "cpu",
            "--out",
            str(root / "out"),
        ]
        if d.chance(0.4):
            name = d.choice(("convert", "assign", "infer"))
            words = [name, *(["stdp", "--out"] if name != "convert" else []), d.choice(values)]
        for _ in range(d.randrange(1, 4)):
            option = d.choice(OPTIONS)
            words += [option] if option in FLAGS else [option, d.choice(values)]
        before = Path.cwd()
        os.chdir(folder)  # hostile values may name folders, which a command then writes
        try:
            result = CliRunner().invoke(cli.app, words)
        finally:
            os.chdir(before)
        shown = " ".join(words).replace(folder, "TMP")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise Finding(f"{shown}: {result.exception!r}") from result.exception
        if result.exit_code not in (0, 2):
            raise Finding(f"{shown}: exit code {result.exit_code}: {result.output}")
        messages = [line for line in result.output.splitlines() if line.startswith("snnfast: ")]
        in_one_line = len(messages) == 1 and result.output.rstrip().endswith(messages[0])
        if result.exit_code == 2 and "Usage:" not in result.output and not in_one_line:
            raise Finding(f"{shown}: not told in one line: {result.output}")


def try_run(d: Draw) -> None:
    """Resume a run, or start one in a folder in which another run trains."""
    name = d.choice(sorted(QUICK))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        words = ["train", name, *QUICK[name], "--device", "cpu", "--out", str(out), "--seed", str(d.randrange(9))]
        if d.chance(0.3):
            with locked(out):
                before = sorted(p.name for p in out.iterdir())
                result = CliRunner().invoke(cli.app, words + ["--resume"] * d.chance(0.5))
                if result.exit_code != 2 or "is in use by process" not in " ".join(result.output.split()):
                    raise Finding(f"{' '.join(words)} beside a run: exit code {result.exit_code}: {result.output}")
                if sorted(p.name for p in out.iterdir()) != before:
                    raise Finding(f"{' '.join(words)} beside a run wrote into its folder")
            return
        first = CliRunner().invoke(cli.app, words)
        if first.exit_code:
            raise Finding(f"{' '.join(words)}: exit code {first.exit_code}: {first.output}")
        read = {p.name: p.read_bytes() for p in out.glob("*.pt")}
        again = CliRunner().invoke(cli.app, [*words, "--resume"])
        if again.exit_code:
            raise Finding(f"{' '.join(words)} --resume: exit code {again.exit_code}: {again.output}")
        for path, whole in read.items():
            same(
                torch.load(out / path, weights_only=True).get("model"),
                read_checkpoint_bytes(Path(folder) / path, whole).get("model"),
                f"{' '.join(words)} --resume of a finished run: {path}",
            )


def read_checkpoint_bytes(path: Path, whole: bytes) -> dict[str, Any]:
    """Read a checkpoint from bytes."""
    path.write_bytes(whole)
    found: dict[str, Any] = torch.load(path, weights_only=True)
    return found


def nir_network(d: Draw) -> torch.nn.Module:
    """Return a random network that NIR can represent."""
    layers: list[torch.nn.Module] = [Time(torch.nn.Linear(3, 3)), LIF(d.choice((2.0, 7.0)))]
    for _ in range(d.randrange(3)):
        layers.append(
            d.choice(
                (
                    lambda: CubaLIF(tau=4.0, tau_syn=3.0),
                    lambda: Delay(3, 2.0),
                    lambda: Recurrent(LIF(), 3, delay=torch.randn(3)),
                    lambda: Recurrent(LIF(3.0), 3),
                    lambda: Time(torch.nn.Linear(3, 3, bias=False)),
                )
            )()
        )
    return torch.nn.Sequential(*layers)


def try_nir(d: Draw) -> None:
    """Check that a NIR file reads back the same network, and that a damaged one raises a ValueError or runs."""
    if find_spec("nir") is None:
        return
    import h5py

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.nir"
        net = nir_network(d)
        nir.write(path, net, (3,), dt=1.0, scheme="euler")
        x = torch.rand(7, 2, 3) * 2
        with torch.no_grad():
            same(nir.read(path)(x), net(x), "a network from its NIR file", 1e-6, 1e-6)
        if d.chance(0.5):
            data = bytearray(path.read_bytes())
            for _ in range(d.choice((1, 8, 100))):
                data[d.randrange(len(data))] ^= 1 << d.randrange(8)
            path.write_bytes(data[: d.choice((len(data), d.randrange(len(data))))])
        else:
            values = (np.zeros(0), np.array(b"text"), np.array(-1), np.ones((2, 2, 2)), np.ones(4), np.array(np.nan))
            values += (np.ones(3) * 1j, np.ones(3), -np.ones(3), np.array(b"LIF"), np.array([b"a", b"b", b"c"]))
            with h5py.File(path, "r+") as file:
                found: list[str] = []
                file.visit(found.append)
                key = d.choice(found)
                del file[key]
                if d.chance(0.7):
                    file[key] = d.choice(values)
        try:
            read = nir.read(path)
        except ValueError as error:
            if str(path) not in str(error):
                raise Finding(f"an error that does not name the file: {error}") from error
            return
        with torch.no_grad():
            if read(x).shape[:2] != x.shape[:2]:
                raise Finding("a damaged file gave a network of other steps or samples")


def value_of(d: Draw, depth: int = 0) -> Any:
    """Draw a random value that a checkpoint may hold."""
    kind = d.randrange(6 if depth < 3 else 4)
    if kind == 0:
        dtype = d.choice((torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool))
        return torch.randint(0, 2, [d.randrange(4) for _ in range(d.randrange(3))]).to(dtype)
    if kind in (1, 2, 3):
        return d.choice((None, True, d.getrandbits(40), d.random(), float("nan"), "", "words", -1))
    items = [value_of(d, depth + 1) for _ in range(d.randrange(4))]
    return items if kind == 4 else {f"name{k}": item for k, item in enumerate(items)}


def try_checkpoint(d: Draw) -> None:
    """Check that a written file is read back, and that a damaged one is refused or gives the same content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        content = {"kind": "fuzz", "model": value_of(d), "more": value_of(d)}
        before = copied(content)
        write_checkpoint(path, content)
        whole = read_checkpoint(path, "fuzz")
        whole.pop("format")
        same(whole, before, "what was read")
        if repr(whole) != repr(before):
            raise Finding(f"read {whole!r} for {before!r}")
        data = bytearray(path.read_bytes())
        damage = d.randrange(6)
        if damage == 0:
            for _ in range(d.randrange(1, 4)):
                data[d.randrange(len(data))] ^= 1 << d.randrange(8)
        elif damage == 1:
            del data[d.randrange(len(data)) :]
        elif damage == 2:
            start = d.randrange(len(data))
            data[start : start + 64] = d.randbytes(64)
        elif damage == 3:
            data = bytearray(d.randbytes(d.randrange(200)))
        elif damage == 4:
            torch.save(d.choice(([1, 2], {"format": 2}, torch.zeros(3), {**before, "format": 2, "checksum": ""})), path)
            data = bytearray(path.read_bytes())
        path.write_bytes(data)
        kind = "another" if damage == 5 else d.choice((None, "fuzz"))
        try:
            again = read_checkpoint(path, kind)
        except CheckpointError as error:
            if str(path) not in str(error) or "\n" in str(error):
                raise Finding(f"an error that does not name the file in one line: {error}") from error
            return
        again.pop("format")
        if damage == 5:
            raise Finding("a checkpoint of another kind was taken")
        same(again, before, "what was read of a damaged file")
        if repr(again) != repr(before):
            raise Finding(f"read {again!r} for {before!r} from a damaged file")
