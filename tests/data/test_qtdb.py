"""Heartbeats of the QT Database, in files that the tests write."""

import numpy as np
import pytest
import torch

from snnfast import data

io = pytest.importorskip("scipy.io")


def write(folder, part, n, num_steps=5, **changes):
    rng = np.random.default_rng(n)
    x = rng.integers(-1, 2, (n, num_steps, 4)).astype("<i2")
    y = np.eye(6, dtype=np.uint8)[rng.integers(0, 6, (n, num_steps))]
    y[:, -1] = 0
    content = {"x": x, "y": y, "max_i": np.full((n, 1), num_steps), **changes}
    io.savemat(folder / f"QTDB_{part}.mat", content)
    return content


def test_events_and_the_wave_at_every_step(tmp_path):
    parts = {part: write(tmp_path, part, n) for part, n in (("train", 3), ("test", 2))}
    for part, content in parts.items():
        x, labels = data.qtdb(tmp_path, train=part == "train")
        assert x.dtype == torch.int8
        assert x.tolist() == content["x"].tolist()
        assert labels[:, -1].unique().tolist() == [-100]
        assert labels[:, :-1].tolist() == content["y"][:, :-1].argmax(2).tolist()
    assert len(data.QTDB_CLASSES) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.zeros((3, 5, 2))}, r"must hold x \[N, T, 4\] and y .* got x \[3, 5, 2\]"),
        ({"y": np.zeros((3, 4, 6))}, r"y \[3, 4, 6\]"),
        ({"x": np.full((3, 5, 4), 2)}, "x of -1, 0 and 1"),
        ({"y": np.ones((3, 5, 6))}, "one class a step or none"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path, changes, message):
    write(tmp_path, "train", 3, **changes)
    with pytest.raises(ValueError, match=f"^qtdb: .*{message}"):
        data.qtdb(tmp_path)


def test_no_file_and_no_mat_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"qtdb: there is no file .*QTDB_train\.mat"):
        data.qtdb(tmp_path)
    (tmp_path / "QTDB_test.mat").write_bytes(b"nothing of MATLAB" * 20)
    with pytest.raises(ValueError, match=r"qtdb: .* is no file of MATLAB"):
        data.qtdb(tmp_path, train=False)
