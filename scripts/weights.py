"""Train the networks that come with the package, and store their weights with checksums and accuracies.

``python scripts/weights.py RUNS --data DIR`` runs the command of each entry of
``snnfast_zoo/papers/weights/weights.json``, or of those named, into the folder RUNS; runs that are there are not
trained again. Without optimizer and history a run becomes a folder of ``snnfast_zoo/papers/weights``.
``python scripts/weights.py --check --data DIR`` scores the stored networks.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import subprocess
import sys
from pathlib import Path

import torch

import snnfast
from snnfast_zoo.papers.diehl_cook2015.readout import LABELS
from snnfast_zoo.papers.pretrained import FOLDER, INDEX, pretrained_runs
from snnfast_zoo.train.checkpoint import read_checkpoint, write_checkpoint
from snnfast_zoo.train.place import CHECKPOINT
from snnfast_zoo.train.result import RESULT
from snnfast_zoo.train.score import EVALUATED

NEEDED = ("kind", "settings", "data", "epoch", "model", "rng")


def store(run: Path, folder: Path) -> dict[str, str]:
    """Store what inference needs of ``run`` in ``folder``; return the checksums of its files."""
    content = read_checkpoint(run / CHECKPOINT)
    write_checkpoint(folder / CHECKPOINT, {name: content[name] for name in NEEDED} | {"history": []})
    files = [CHECKPOINT]
    if (run / LABELS).is_file():
        (folder / LABELS).write_bytes((run / LABELS).read_bytes())
        files.append(LABELS)
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files}


def accuracy(name: str, root: str | None = None) -> str:
    """Return the accuracy in % of the network that comes with the package, on its test data in ``root``."""
    net = snnfast.load(f"pretrained:{name}")
    x, labels = net.procedure.load(net.settings, root).held_out
    with torch.no_grad(), torch.random.fork_rng([]):
        # Spikes of encoders are those that the run drew for its score; stdp draws by its seed, for all images at once.
        torch.set_rng_state(read_checkpoint(net.folder / CHECKPOINT)["rng"])
        parts = [x] if net.procedure.name == "stdp" else x.split(EVALUATED)
        found = torch.cat([net.procedure.answers(net.settings, net.model, part, net.folder) for part in parts])
    return f"{100 * float((found == labels).double().mean()):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="?", default=Path("runs"), help="folder of the trained runs")
    parser.add_argument("names", nargs="*", help="networks; all if none is named")
    parser.add_argument("--data", help="folder of MNIST")
    parser.add_argument("--check", action="store_true", help="score the stored networks")
    options = parser.parse_args()
    entries = pretrained_runs()
    for name in options.names or list(entries):
        if options.check:
            root = options.data if "DIR" in entries[name].command else None
            print(f"{name}: {accuracy(name, root)} %, stored {entries[name].accuracy} %")
            continue
        run, command = options.runs / name, entries[name].command
        if not (run / RESULT).is_file():
            words = [str(options.data) if word == "DIR" else word for word in shlex.split(command)]
            subprocess.run([sys.executable, "-m", *words, "--out", str(run)], check=True)
        score = 100 * json.loads((run / RESULT).read_text())["accuracy"]
        entries[name] = entries[name]._replace(accuracy=f"{score:.2f}", sha256=store(run, FOLDER / name))
        print(f"{name}: {entries[name].accuracy} %")
        text = json.dumps({name: entry._asdict() for name, entry in entries.items()}, indent=1)
        (FOLDER / INDEX).write_text(text + "\n")


if __name__ == "__main__":
    main()
