"""Stages of ``scripts/gpu.py``, as far as they can be tested without a GPU."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from samples import DTYPES, neurons_that_fill

ROOT = Path(__file__).parents[2]


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
