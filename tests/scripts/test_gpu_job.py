"""Stages of ``scripts/gpu.py``: what runs, what goes on after an end, what is kept. CI rehearses all of them."""

import importlib
import re
import sys
import tarfile
import time
import warnings
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

ROOT = Path(__file__).parents[2]


def test_a_run_goes_on_where_it_ended(job):
    ran = []

    def part(name):
        return lambda: ran.append(name) or {"name": name}

    assert job().run({"a": part("a"), "b": lambda: 1 / 0}) == 0
    assert job(limit=-1).run({"a": part("a"), "b": part("b"), "c": part("c")}) == 0
    assert ran == ["a"]
    again = job()
    assert {name: part["state"] for name, part in again.parts.items()} == {
        "a": "done",
        "b": "failed",
        "c": "out of time",
    }
    assert "ZeroDivisionError" in again.parts["b"]["error"]
    again.run({"a": part("a"), "b": part("b"), "c": part("c")})
    assert ran == ["a", "c"]


def test_a_part_whose_process_ended_has_failed(job):
    first = job()
    first.parts["a"] = {"state": "started"}
    first.keep()
    second = job()
    second.run({"a": lambda: 1, "b": lambda: 2})
    assert second.parts["a"]["state"] == "failed"
    assert second.parts["b"]["result"] == 2


def test_what_the_end_of_a_call_cuts_off_is_begun_again_once(job):
    def wait(work):
        work.deadline = time.monotonic() + 0.2
        work.command("wait", [sys.executable, "-c", "import time; time.sleep(60)"])

    for state in ("out of time", "failed"):
        work = job()
        work.run({"a": partial(wait, work)})
        assert job().parts["a"]["state"] == state
    assert job().parts["a"]["error"] == "cut off by the end of 2 calls"


def test_what_is_cut_off_with_its_process_is_begun_again(job):
    work = job()
    work.parts |= {name: {"state": "started", "tries": k} for name, k in (("late", 1), ("all", 2))}
    work.parts["before"] = {"state": "done"}
    work.cut_off()
    states = {name: part["state"] for name, part in job().parts.items()}
    assert states == {"all": "failed", "late": "out of time", "before": "done"}


def test_results_are_packed_after_every_part(job, tmp_path):
    work = job()
    work.archive = tmp_path / "out/of/it.tar.gz"
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/smoke.log").write_text("a line")
    seen = []

    def look():
        with tarfile.open(work.archive) as packed:
            seen.append(packed.extractfile("gpu-results/results.json").read().decode())
            assert packed.extractfile("gpu-results/logs/smoke.log").read() == b"a line"

    work.run({"a": lambda: "of a", "b": look})
    assert "of a" in seen[0]


def on_a_gpu(job, tmp_path, monkeypatch, capability=(9, 0), built=True):
    """A stage that is no rehearsal, on a GPU that is not there."""
    from snnfast import backend

    if built:
        (tmp_path / "tree/snnfast").mkdir(parents=True)
        (tmp_path / "tree/snnfast/_C.so").touch()
    backend._card_problem.cache_clear()
    backend._driver_problem.cache_clear()
    extension = SimpleNamespace(
        with_cuda=True, cuda_driver_problem=lambda: "", cuda_archs="90-real"
    )
    monkeypatch.setattr(backend, "extension", extension)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A card")
    x = SimpleNamespace(device=torch.device("cuda", 0), is_cpu=False)
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: x)
    work = job()
    work.rehearse = False
    return work


def test_nothing_but_kernels_is_measured(stages, job, tmp_path, monkeypatch):
    """Neither the reference in place of a build that is not there, nor on a card that the build is not for."""
    from stages.job import PartError

    from snnfast import backend

    with warnings.catch_warnings():
        with pytest.raises(PartError, match="nothing is built in this folder"):
            on_a_gpu(job, tmp_path, monkeypatch, built=False).demand_kernels()
        work = on_a_gpu(job, tmp_path, monkeypatch, capability=(8, 0))
        with pytest.raises(PartError, match=r"the kernels do not run.*compute capability 8\.0"):
            work.demand_kernels()
        monkeypatch.setattr(backend, "_card_problem", lambda device: "")
        work.demand_kernels()
        assert work.backend == "cuda"
    backend._driver_problem.cache_clear()


def test_a_stage_without_kernels_runs_no_part(stages, job, tmp_path, monkeypatch):
    import gpu
    from stages import smoke

    monkeypatch.setattr(smoke, "parts", lambda work: pytest.fail("parts were made"))
    work = on_a_gpu(job, tmp_path, monkeypatch, built=False)
    assert gpu.inside(work) == 1
    assert "run the stage build first" in work.parts["start"]["error"]


def test_an_op_that_falls_back_is_an_error_in_every_part(stages, job):
    from snnfast import backend

    def fall_back():
        backend._warn_once("lif runs in plain PyTorch, which is slow")

    work = job()
    with warnings.catch_warnings():
        work.demand_kernels()
        work.run({"a": fall_back, "b": fall_back})
    assert [work.parts[name]["state"] for name in "ab"] == ["failed", "failed"]


def test_commands_end_at_their_limit_and_leave_a_log(job, tmp_path):
    words = [sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(60)"]
    code, text = job().command("wait", words, 2.0)
    assert code is None
    assert text.endswith("begun\n")
    assert (tmp_path / "logs/smoke-wait.log").read_text() == text


def test_unknown_stages_are_refused(stages, capsys):
    import gpu

    with pytest.raises(SystemExit):
        gpu.main(["smok"])
    assert "no such stage: smok" in capsys.readouterr().err


def test_a_stage_that_cannot_start_is_a_failure(stages, tmp_path, monkeypatch):
    import gpu
    from stages import job, timings

    monkeypatch.setattr(timings, "networks", lambda job: {}["nothing"])
    with warnings.catch_warnings():
        assert gpu.inside(job.Job("network", tmp_path, True)) == 1
    assert "KeyError" in job.results(tmp_path)["network"]["parts"]["start"]["error"]


def test_a_call_ends_in_time_and_says_where_the_next_goes_on(stages, tmp_path, monkeypatch, capsys):
    import gpu

    now = [0.0]
    monkeypatch.setattr(gpu.time, "monotonic", lambda: now[0])
    ran = []

    def outside(work, deadline):
        ran.append(work.stage)
        assert deadline == 9 * 60 - 10
        now[0] += 300
        work.parts["a"] = {"state": "done", "result": {}}
        work.keep()

    monkeypatch.setattr(gpu, "outside", outside)
    archive = tmp_path / "out/results.tar.gz"
    assert gpu.main(["--folder", str(tmp_path / "r"), "--archive", str(archive)]) == 1
    assert ran == ["build", "smoke"]
    assert "neurons: not begun; the next call goes on here" in capsys.readouterr().out
    assert archive.exists()


def test_every_stage_is_made_and_documented(stages):
    import gpu

    _, _, table = (ROOT / "docs/gpu.md").read_text().partition("| stage | what |")
    rows = re.findall(r"^\| `(\w+)` \|", table.partition("\n\n")[0], re.M)
    assert rows == list(gpu.STAGES)
    for where in gpu.STAGES.values():
        module, _, name = where.partition(":")
        assert callable(getattr(importlib.import_module(f"stages.{module}"), name))
