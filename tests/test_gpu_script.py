"""``scripts/gpu.py``: what can be known of it without a GPU. CI rehearses all of its stages (``.ci/run``)."""

import importlib
import json
import math
import os
import re
import subprocess
import sys
import tarfile
import time
import warnings
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from samples import DTYPES, neurons_that_fill

ROOT = Path(__file__).parents[1]


@pytest.fixture
def stages(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    monkeypatch.syspath_prepend(ROOT)
    import stages

    return stages


@pytest.fixture
def job(stages, tmp_path):
    from stages.job import Job

    return lambda limit=60.0: Job("smoke", tmp_path, True, limit)


def test_every_op_has_an_example(stages):
    from stages.ops import examples

    from snnfast import ops

    assert set(examples("cpu")) == {name for name in ops.__all__ if name.islower()}


def test_examples_do_something_and_change_none_of_their_inputs(stages):
    from stages.ops import examples

    for name, example in examples("cpu").items():
        first, second = example.run(), example.run()
        assert any(tensor.double().abs().sum() > 0 for tensor in first[len(example.inputs) :]), name
        for a, b in zip(first, second):
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True, msg=name)


@pytest.mark.parametrize("place", ["results", "results/of/a/card"])
def test_results_are_not_copied_into_themselves(stages, tmp_path, monkeypatch, place):
    from stages import build

    (tmp_path / "snnfast").mkdir()
    (tmp_path / "setup.py").touch()
    (tmp_path / place).mkdir(parents=True)
    monkeypatch.setattr(build, "ROOT", tmp_path)
    job = SimpleNamespace(
        folder=tmp_path / place,
        rehearse=True,
        parts={"environment": {}},
        command=lambda *_, **__: (0, "{}"),
    )
    tree = Path(build.build(job)["tree"])
    assert (tree / "setup.py").exists()
    assert not (tree / place).exists()


def test_examples_that_fill_a_gpu_run_in_few_launches(stages):
    """The profiler looks at 200 launches in all; and as many recurrent neurons would have billions of weights."""
    from stages.ops import LARGE, examples

    from snnfast import backend, testing

    large = examples("cpu", **{**LARGE, "steps": 1})["lif"].inputs[0]
    assert all(large[0].numel() >= neurons_that_fill(dtype) for dtype in DTYPES)
    large = examples("cpu", steps=20, neurons=8192)
    _, passed = large["bp_stdp_"].run()
    assert len(passed) == 12
    if testing.load_cuda_emulation():
        with backend.use("cuda_emulation"):
            large["recurrent"].run()


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


def test_a_build_that_is_not_here_is_made_again(stages, job):
    from stages import build

    work = job()
    work.parts |= {name: {"state": "done"} for name in ("environment", "build")}
    build.parts(work)
    assert list(work.parts) == ["environment"]


def test_a_build_keeps_its_object_files(stages, tmp_path, monkeypatch):
    from stages import build

    root, folder = tmp_path / "source", tmp_path / "results"
    (root / "snnfast").mkdir(parents=True)
    (root / "setup.py").touch()
    (folder / "tree/build").mkdir(parents=True)
    (folder / "tree/build/lif.o").touch()
    (folder / "tree/gone.py").touch()
    monkeypatch.setattr(build, "ROOT", root)
    job = SimpleNamespace(
        folder=folder, rehearse=True, parts={"environment": {}}, command=lambda *_, **__: (0, "{}")
    )
    tree = Path(build.build(job)["tree"])
    assert (tree / "build/lif.o").exists()
    assert (tree / "setup.py").exists()
    assert not (tree / "gone.py").exists()


def test_gradients_are_those_of_a_weighted_sum(stages):
    """A plain sum's gradient is one value, which no kernel of training sees."""
    from stages.ops import Example, examples, meeting

    for summed in (False, True):
        x, seen = torch.ones(3, 5), []

        def function(x, seen=seen):
            y = 1 * x
            y.register_hook(seen.append)
            return y

        Example(function, (x,), True, summed).run()
        assert (len(seen[0].unique()) > 1) != summed
        assert (seen[0].stride() == (0, 0)) == summed
    assert not any(example.summed for example in examples("cpu").values())
    assert meeting("cpu", small=True)["lif, gradient of the sum"].summed


def test_networks_whose_blocks_meet_learn_and_are_repeated(stages, monkeypatch):
    from stages import smoke
    from stages.job import PartError
    from stages.ops import meeting

    cases = meeting("cpu", small=True)
    for name, example in cases.items():
        before, after = example.inputs[0], example.run()[0]
        assert example.smooth or not torch.equal(before, after), name
    seen = []

    def run():
        seen.append(os.environ["SNNFAST_CLUSTERS"])
        return [torch.tensor([len(seen) // 2])]

    monkeypatch.setattr(smoke, "ran", lambda run, emulated: run())
    with pytest.raises(PartError, match="run 2 differs from the first"):
        smoke.repeated(run, run, False, True)
    assert seen == ["0", "0"]
    assert smoke.repeated(lambda: [torch.ones(1)], lambda: [torch.ones(1)], True, False)


def test_commands_end_at_their_limit_and_leave_a_log(job, tmp_path):
    words = [sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(60)"]
    code, text = job().command("wait", words, 2.0)
    assert code is None
    assert text.endswith("begun\n")
    assert (tmp_path / "logs/smoke-wait.log").read_text() == text


def test_what_differs_from_the_cpu_is_a_failure(stages):
    from stages.job import PartError
    from stages.smoke import compare

    want = [torch.zeros(10_000)]
    one = torch.zeros(10_000)
    one[3] = 1
    assert compare([one], want) == {"tensors": 1, "differ": pytest.approx(1e-4)}
    with pytest.raises(PartError, match="100 % of the elements"):
        compare([torch.ones(10_000)], want)
    with pytest.raises(PartError, match="0 tensors instead of 1"):
        compare([], want)


def test_convolutions_are_compared_in_float32(stages, job, monkeypatch):
    from stages import smoke

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    smoke.parts(job())
    assert not torch.backends.cudnn.allow_tf32


def test_clusters_are_compared_with_none(stages, job, monkeypatch):
    from stages import timings

    from benchmarks import timing

    seen = []

    def measure(task):
        seen.append((task.device, os.environ["SNNFAST_CLUSTERS"]))
        return timing.Measurement()

    monkeypatch.setattr(timing, "measure", measure)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 0)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(type(job()), "device", "cuda")
    parts = timings.plasticity(SimpleNamespace(rehearse=False, device="cuda"))
    work = job()
    for device in ("cuda, no clusters", "cuda", "cpu"):
        (name,) = timings.part(work, "diehl_cook", "snnfast", (250, 784, 400), "float32", device)
        assert name in parts
        assert (
            timings.timed(work, "diehl_cook", "snnfast", (1,), "float32", device)["device"]
            == device
        )
    assert seen == [("cuda", "0"), ("cuda", "1"), ("cpu", "1")]
    assert "SNNFAST_CLUSTERS" not in os.environ


def test_what_takes_longest_to_learn_comes_last(stages):
    from stages import timings

    names = list(timings.plasticity(SimpleNamespace(rehearse=False, device="cuda")))
    assert names.index("diehl_cook snnfast float32 250x784x400 cuda") < names.index(
        "diehl_cook snnfast float32 250x784x6400 cpu"
    )


def test_spikes_that_repeat_themselves_are_a_failure(stages, monkeypatch):
    from stages.job import PartError
    from stages.smoke import drawn_anew

    from snnfast import ops

    assert 0.45 < drawn_anew("cpu")["differ"] < 0.55
    monkeypatch.setattr(ops, "poisson", lambda p, T: torch.ones(T, *p.shape))
    with pytest.raises(PartError, match="0 % of the spikes differ"):
        drawn_anew("cpu")


def test_failures_of_the_suite_are_listed_by_file(stages, tmp_path):
    from stages.tests import summary

    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('v', ['a b', 'c'])\n"
        "def test_a(v): pass\n"
        "def test_b(): assert 1 == 2\n"
    )
    words = [sys.executable, "-P", "-m", "pytest", "-vv", "-n", "1", "-p", "no:cacheprovider"]
    words += [f"--rootdir={tmp_path}", str(tmp_path)]
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert summary(ended.stdout) == {
        "passed": 2,
        "skipped": 0,
        "failed": {"test_it.py": {"test_b": "assert 1 == 2"}},
    }
    # One that was cut off has no summary.
    cut = ended.stdout.partition("short test summary")[0]
    assert summary(cut)["failed"] == {"test_it.py": {"test_b": ""}}


def test_the_suite_runs_what_is_on_a_gpu(stages, monkeypatch):
    from stages import tests

    seen = []
    work = SimpleNamespace(
        rehearse=False,
        command=lambda name, words, **more: seen.append((words, more)) or (5, ""),
    )
    assert tests.suite(work, "ops", ["tests/ops"])["passed"] == 0  # no test of this group is one
    ((words, more),) = seen
    assert words[words.index("-k") + 1] == "cuda and not emulation"
    assert more["environment"]["SNNFAST_FAIL_WITHOUT_CUDA"] == "1"


def test_every_file_of_tests_is_in_one_group(stages):
    from stages.tests import grouped

    found = grouped(ROOT)
    files = [file for group in found.values() for file in group]
    assert sorted(files) == sorted(
        f.relative_to(ROOT).as_posix() for f in ROOT.glob("tests/**/test_*.py")
    )
    assert len(files) == len(set(files))
    assert min(map(len, found.values())) > 5


def test_a_suite_that_left_nothing_has_passed_nothing(stages):
    from stages.tests import summary

    assert summary("") == {"passed": 0, "skipped": 0, "failed": {}}


def test_sanitizers_errors_are_counted(stages):
    from stages.sanitizer import errors

    assert errors("========= ERROR SUMMARY: 0 errors") == 0
    memory = "========= ERROR SUMMARY: 3 errors\n"
    races = "========= RACECHECK SUMMARY: 2 hazards displayed (1 error, 1 warning)\n"
    assert errors(memory + races) == 5


def test_a_rehearsal_says_that_it_has_no_sanitizer(stages):
    from stages import sanitizer
    from stages.job import SkippedError

    ran = []
    job = SimpleNamespace(
        rehearse=True, command=lambda name, words, *_: ran.append(words) or (0, "")
    )
    for name in sanitizer.LISTS:
        for tool in sanitizer.TOOLS[1:]:
            with pytest.raises(SkippedError, match="without a tool"):
                sanitizer.check(job, tool, name)
        sanitizer.check(job, sanitizer.TOOLS[0], name)
    assert len(ran) == len(sanitizer.LISTS)


def test_what_pytorch_asks_the_driver_in_vain_is_no_error(stages, monkeypatch):
    from stages import sanitizer

    seen = []
    job = SimpleNamespace(
        rehearse=False, command=lambda _, words, *__: seen.append(words) or (0, "")
    )
    monkeypatch.setattr(sanitizer.shutil, "which", lambda program: program)
    for tool in sanitizer.TOOLS:
        sanitizer.check(job, tool, "ops")
    assert len(seen) == 4
    for words in seen:
        at = words.index("--report-api-errors")
        assert words[at + 1] == "no"
        assert at < words.index(sys.executable)


def test_nsight_computes_table_is_read(stages):
    from stages.profile import METRICS, hottest, read

    names = ["ID", "Kernel Name", *METRICS.values()]

    def line(*values):
        return ",".join(f'"{value}"' for value in values)

    def launch(kernel, ns):
        return line(
            0,
            f"void snnfast::<unnamed>::{kernel}<float>(int)",
            ns,
            *["1,234.5"] * (len(METRICS) - 1),
        )

    text = "\n".join(
        [
            "==PROF== Connected",
            line(*names),
            line(*[""] * len(names)),
            launch("k", 10),
            launch("k", 30),
            launch("m", 20),
        ]
    )
    rows = hottest(read(text))
    assert [(row["kernel"], row["ns"]) for row in rows] == [("k<float>", 30), ("m<float>", 20)]
    assert rows[0]["bandwidth_percent"] == 1234.5


@pytest.mark.parametrize("unnamed", ["<unnamed>", "(anonymous namespace)"])
def test_kernels_keep_their_template_arguments(stages, unnamed):
    from stages.profile import short

    arguments = "snnfast::Lif, float, snnfast::BFloat16, (snnfast::Reset)0, (int)4, (bool)1"
    name = f"void snnfast::{unnamed}::kernel<{arguments}>(snnfast::NeuronForward<T1>)"
    assert short(name) == "kernel<Lif, float, BFloat16, 0, 4, 1>"


def measured(implementation, **seconds):
    row = {"benchmark": "lif", "implementation": implementation, "shape": [10, 1000]}
    row |= {"dtype": "float32", "device": "cuda", "seconds": seconds}
    return {"state": "done", "seconds": 1.0, "result": row}


@pytest.fixture
def results():
    failed = {
        "state": "failed",
        "error": "not finished",
        "result": {"failed": {"f.py": {"t": "e"}}},
    }
    return {
        "build": {
            "rehearsed": False,
            "parts": {"environment": {"state": "done", "result": {"gpu": "A card"}}},
        },
        "tests": {"rehearsed": False, "parts": {"ops": failed}},
        "neurons": {
            "rehearsed": False,
            "parts": {
                "copy": measured("clone", copy=1e-3),
                "lif": measured("snnfast", forward=2e-3, backward=2e-3),
            },
        },
    }


def test_the_page_says_what_was_reached_and_what_failed(stages, results, tmp_path):
    from stages import page

    (tmp_path / "results.json").write_text(json.dumps(results))
    docs = tmp_path / "gpu.md"
    docs.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n")
    made = page.write(tmp_path, docs)
    assert "| lif | forward | [10, 1000] | float32 | 2 | 0 | 50 % | - |" in made
    assert "| lif | backward | [10, 1000] | float32 | 2 | 0 | 75 % | - |" in made
    assert "| tests | f.py | 1 tests, t |" in made
    assert "**A card**" in made
    assert docs.read_text() == f"before\n{page.BEGIN}\n{made}{page.END}\nafter\n"


def test_predictions_are_those_of_shape_dtype_pass_and_card(stages):
    from stages import page

    from benchmarks import budget

    def predicted(gpu="NVIDIA H100 80GB HBM3", multiprocessors=132, **changed):
        row = {"benchmark": "lif", "shape": [100, 1 << 17], "dtype": "bfloat16", "pass": "backward"}
        row |= changed
        moved = page.MOVED[row["pass"]] * page.ITEM[row["dtype"]] * math.prod(row["shape"])
        here = {"gpu": gpu, "multiprocessors": multiprocessors}
        build = {"parts": {"environment": {"state": "done", "result": here}}}
        return page.predicted({"build": build}, {**row, "seconds": 0.5, "rate": moved / 0.5})

    card = budget.CARDS["H100"]
    code = budget.taken(budget.kept(), "lif", "backward", "bfloat16", 1 << 17)
    assert predicted() == pytest.approx(budget.share(code, 100, 1 << 17, card))
    changes = [
        {},
        {"shape": [500, 1 << 13]},
        {"dtype": "float32"},
        {"pass": "forward", "shape": [500, 1 << 13]},
        {"benchmark": "alif"},
        {"gpu": "NVIDIA B200", "multiprocessors": 148},
    ]
    assert len({predicted(**change) for change in changes}) == len(changes)
    both = predicted(**{"pass": "forward+backward"})
    assert predicted() < both < predicted(**{"pass": "forward"})
    # No kernel, no card, and one that only has a name in common.
    assert predicted(dtype="float16") is predicted(gpu="A card") is None
    assert predicted(multiprocessors=114) is None


def test_the_page_says_where_auto_takes_the_slower_device(stages, results):
    from stages import page

    def row(benchmark, device, seconds):
        row = measured("snnfast", step=seconds)
        row["result"] |= {"benchmark": benchmark, "device": device}
        return row

    assert page.against_auto(results) == ""
    slower = {"a": row("stdp", "cpu", 1e-3), "b": row("stdp", "cuda", 2e-3)}
    results["plasticity"] = {"rehearsed": False, "parts": slower}
    assert "The GPU was faster: in none of them." in page.against_auto(results)
    slower |= {"c": row("bp_stdp", "cpu", 4e-3), "d": row("bp_stdp", "cuda", 2e-3)}
    slower["e"] = row("bp_stdp", "cuda, no clusters", 1e-3)
    assert "faster: bp_stdp [10, 1000] step (2 times)." in page.against_auto(results)
    assert page.against_auto(results) in page.text(results)


def test_a_rehearsal_is_not_documented(stages, results, tmp_path):
    from stages import page

    results["neurons"]["rehearsed"] = True
    (tmp_path / "results.json").write_text(json.dumps(results))
    docs = tmp_path / "gpu.md"
    docs.write_text(f"{page.BEGIN}{page.END}")
    with pytest.raises(ValueError, match="this was a rehearsal"):
        page.write(tmp_path, docs)
    assert docs.read_text() == f"{page.BEGIN}{page.END}"


def test_the_documentation_has_a_place_for_the_page(stages):
    from stages import page

    text = (ROOT / "docs/gpu.md").read_text()
    assert text.count(page.BEGIN) == text.count(page.END) == 1


def test_the_table_of_modes_lists_every_op(stages):
    from stages.ops import examples

    _, _, table = (ROOT / "docs/gpu.md").read_text().partition("| op | graph |")
    first = [line.split("|")[1] for line in table.partition("\n\n")[0].split("\n")[2:]]
    named = [name for cell in first for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted(examples("cpu"))


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
