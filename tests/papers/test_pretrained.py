"""Networks that come with the package: accuracies to the digit, checksums, and errors."""

import json
import runpy
import shutil
import socket
from pathlib import Path

import pytest
import torch

import snnfast
from snnfast_zoo.papers import pretrained
from snnfast_zoo.papers.pretrained import FOLDER, pretrained_folder, pretrained_runs
from snnfast_zoo.train.checkpoint import CheckpointError

RUNS = pretrained_runs()
SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "scripts/weights.py"), run_name="weights")


def offline(*arguments, **keywords):
    raise OSError("no network in this test")


@pytest.mark.parametrize("name", [name for name, run in RUNS.items() if "--data" not in run.command])
def test_accuracies_are_reproduced_offline(name, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", offline)
    assert SCRIPT["accuracy"](name) == RUNS[name].accuracy


@pytest.mark.parametrize("name", [name for name, run in RUNS.items() if "--data" in run.command])
def test_networks_of_other_data_answer(name):
    """Without the data: every network runs, and its weights are those that were stored."""
    net = snnfast.load(f"pretrained:{name}")
    torch.manual_seed(0)
    labels = net(torch.rand(3, *net.raw))
    assert labels.shape[0] == 3
    assert all(parameter.isfinite().all() for parameter in net.model.parameters())


def test_the_index_has_every_file_and_what_a_reader_needs():
    files = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.pt")}
    assert files == {f"{name}/{file}" for name, run in RUNS.items() for file in run.sha256}
    assert sum(path.stat().st_size for path in FOLDER.rglob("*.pt")) < 5e6
    for name, run in RUNS.items():
        assert run.command.startswith(f"snnfast train {name.rpartition('-')[0].split('-')[0]}"), name
        assert float(run.accuracy) > 80


def test_a_network_is_a_run_to_begin_from():
    net = snnfast.load("pretrained:bp-stdp-xor")
    assert net.folder == FOLDER / "bp-stdp-xor"
    assert net(torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])).tolist() == [0, 1, 1, 0]


def test_changed_missing_and_unknown_files_are_errors(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"no network 'stbp-digit' comes with the package.*'?stbp-digits'?.*known: "):
        snnfast.load("pretrained:stbp-digit")
    shutil.copytree(FOLDER, tmp_path / "weights")
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "weights")
    path = tmp_path / "weights/bp-stdp-xor/checkpoint.pt"
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    with pytest.raises(CheckpointError, match=r"checkpoint.pt is not the file of the package: SHA-256 \w+, got \w+;"):
        snnfast.load("pretrained:bp-stdp-xor")
    path.unlink()
    with pytest.raises(CheckpointError, match="got no file"):
        pretrained_folder("pretrained:bp-stdp-xor")


def test_the_script_stores_a_run_again_with_the_same_network(tmp_path):
    """The script leaves out what only training needs."""
    run = snnfast.procedure.bp_stdp("xor", epochs=3, out=tmp_path / "run", progress=False)
    found = SCRIPT["store"](tmp_path / "run", tmp_path / "stored")
    assert list(found) == ["checkpoint.pt"]
    nets = [snnfast.load(tmp_path / folder).model.state_dict() for folder in ("run", "stored")]
    assert list(nets[0]) == list(nets[1])
    for a, b in zip(*(net.values() for net in nets)):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert run.accuracy >= 0
    assert json.loads((FOLDER / "weights.json").read_text()).keys() == RUNS.keys()
