"""The folder of a run: one run at a time, also after one that crashed."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from snnfast_zoo.train.folder import LOCK, FolderInUseError, locked, write_json

HOLD = """
import sys, time
from pathlib import Path
from snnfast_zoo.train.folder import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_run_is_told_who_holds_the_folder(tmp_path):
    with locked(tmp_path / "a" / "run"):
        with (
            pytest.raises(FolderInUseError, match=rf"is in use by process {os.getpid()} on \S+, since"),
            locked(tmp_path / "a" / "run"),
        ):
            pass
        with locked(tmp_path / "other"):
            pass
    with locked(tmp_path / "a" / "run"):
        pass


def test_nothing_is_left_of_a_folder_into_which_nothing_was_written(tmp_path):
    with locked(tmp_path / "a" / "run"):
        assert (tmp_path / "a" / "run" / LOCK).exists()
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "a" / "run"):
        write_json(tmp_path / "a" / "run" / "x.json", [1])
    assert [p.name for p in (tmp_path / "a" / "run").iterdir()] == ["x.json"]


def test_json_has_null_for_what_is_not_finite(tmp_path):
    write_json(tmp_path / "x.json", {"a": [float("nan"), 1.5], "b": {"c": float("inf")}})
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text) == {"a": [None, 1.5], "b": {"c": None}}
    assert "NaN" not in text


def test_a_killed_process_holds_nothing(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(FolderInUseError, match=f"process {process.pid} "), locked(tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
        assert (tmp_path / LOCK).exists()
        deadline = time.monotonic() + 60
        while True:
            try:
                with locked(tmp_path):
                    break
            except FolderInUseError:
                assert time.monotonic() < deadline
    finally:
        process.kill()
        process.wait()
    assert list(tmp_path.iterdir()) == []
