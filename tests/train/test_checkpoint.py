"""Checkpoints: checksum over the content, kind, and errors of the system."""

import errno
from pathlib import Path

import numpy as np
import pytest
import torch

from snnfast_zoo.train import checkpoint
from snnfast_zoo.train.checkpoint import CheckpointError, load_weights, read_checkpoint, write_checkpoint

CONTENT = {
    "kind": "test",
    "settings": {"hidden": [3, 4], "lr": 1e-3, "name": "a", "none": None},
    "model": {"w": torch.arange(600.0).view(20, 30).T, "n": torch.tensor(3)},
    "half": torch.ones(3, dtype=torch.bfloat16),
    "empty": torch.zeros(0, 2),
}


def test_what_is_written_is_read(tmp_path):
    write_checkpoint(tmp_path / "deep" / "c.pt", CONTENT)
    read = read_checkpoint(tmp_path / "deep" / "c.pt", "test")
    assert read["settings"] == CONTENT["settings"]
    for name in ("model", "half", "empty"):
        torch.testing.assert_close(read[name], CONTENT[name], rtol=0, atol=0)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["c.pt"]


def test_numbers_of_numpy_can_be_read_and_what_could_not_is_not_written(tmp_path):
    write_checkpoint(tmp_path / "c.pt", {"lr": [np.float64(0.1)], "of": {"n": (np.int64(3),)}})
    read = read_checkpoint(tmp_path / "c.pt")
    assert (read["lr"], read["of"]) == ([0.1], {"n": (3,)})
    for value in (np.zeros(3), Path("a"), {1, 2}, abs):
        with pytest.raises(TypeError, match=r"checkpoint\['of'\]\[1\] must be a plain value or"):
            write_checkpoint(tmp_path / "c.pt", {"of": [0, value]})
    assert read_checkpoint(tmp_path / "c.pt")["lr"] == [0.1]


def test_a_flipped_bit_is_never_taken_for_data(tmp_path):
    """A flipped bit anywhere in the file raises an error, or the content is read unchanged."""
    path = tmp_path / "c.pt"
    write_checkpoint(path, CONTENT)
    whole, errors = path.read_bytes(), 0
    first = whole.index(torch.arange(600.0)[1:].numpy().tobytes()[:40])
    for at in (*range(0, len(whole), 97), *range(first, first + 2000, 131)):
        broken = bytearray(whole)
        broken[at] ^= 1 << at % 8
        path.write_bytes(broken)
        try:
            read = read_checkpoint(path)
        except CheckpointError:
            errors += 1
            continue
        assert read["settings"] == CONTENT["settings"]
        for name in ("model", "half", "empty"):
            torch.testing.assert_close(read[name], CONTENT[name], rtol=0, atol=0)
    assert errors > 30


def test_weights_that_changed_are_told(tmp_path):
    path = tmp_path / "c.pt"
    write_checkpoint(path, CONTENT)
    content = torch.load(path, weights_only=True)
    content["model"]["w"][3, 2] += 1
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"c\.pt is damaged: its checksum is not"):
        read_checkpoint(path)


def test_checksums_tell_values_apart():
    values = [
        {"a": 1}, {"a": 1.0}, {"b": 1}, {"a": "1"}, {"a": [1]}, {"a": [[1]]}, {"a": None}, {}, {"a": {"a": 1}},
        {"a": torch.zeros(2)}, {"a": torch.zeros(1, 2)}, {"a": torch.zeros(2).double()},
        {"a": torch.tensor([0.0, 1.0])},
    ]  # fmt: skip
    assert len({checkpoint.checksum(value) for value in values}) == len(values)
    w = torch.rand(3, 4)
    assert checkpoint.checksum(w.T.contiguous()) == checkpoint.checksum(w.T)


def test_another_kind_is_told(tmp_path):
    write_checkpoint(tmp_path / "c.pt", {"kind": "conversion", "thresholds": []})
    with pytest.raises(CheckpointError, match="of kind 'stbp', got one of kind 'conversion'"):
        read_checkpoint(tmp_path / "c.pt", "stbp")
    with pytest.raises(CheckpointError, match="holds no network to start from"):
        load_weights(torch.nn.Linear(2, 2), tmp_path / "c.pt")


def test_a_full_disk_is_told_and_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "c.pt"
    write_checkpoint(path, CONTENT)

    def full(content, stream):
        stream.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"c\.pt cannot be written: .*No space left"):
        write_checkpoint(path, {"kind": "new"})
    assert read_checkpoint(path)["kind"] == "test"
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]


@pytest.mark.parametrize("wrong", ["more", "shape"])
def test_weights_of_another_network_change_nothing(tmp_path, wrong):
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    before = {name: w.clone() for name, w in model.state_dict().items()}
    weights = {name: w + 1 for name, w in before.items()}
    weights["2.weight" if wrong == "more" else "1.weight"] = torch.zeros(7)
    write_checkpoint(tmp_path / "c.pt", {"kind": "network", "model": weights})
    with pytest.raises(CheckpointError, match="does not fit this network"):
        load_weights(model, tmp_path / "c.pt")
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
