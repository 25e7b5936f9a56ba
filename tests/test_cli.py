"""The command ``snnfast``."""

import json
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import snnfast
from snnfast import backend, cli
from snnfast.checkpoint import read_checkpoint
from snnfast.procedure import Procedure, demo

QUICK = ["--steps", "2", "--batch-size", "200", "--device", "cpu"]


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small only wait for each other's threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def call(*arguments, code=0):
    result = CliRunner().invoke(cli.app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.output


def test_help_names_every_command():
    text = call("--help")
    assert all(name in text for name in ("train", "convert", "assign", "infer", "demo"))
    assert all(name in text for name in ("info", "bench"))
    assert all(name in call("train", "--help") for name in ("stbp", "diehl2015", "vgg16"))


def test_info_shows_versions_and_what_runs():
    text = call("info")
    for name in ("snnfast", "torch", "cpu_isa", "cuda_archs", "cpu_backend_why"):
        assert name in text
    assert json.loads(call("info", "--json")) == snnfast.build_info()


def test_build_info_without_extension(monkeypatch):
    monkeypatch.setattr(backend, "extension", None)
    monkeypatch.setattr(backend, "load_problem", "it was not built")
    info = snnfast.build_info()
    assert info["extension"] is None
    assert info["extension_problem"] == "it was not built"
    assert (info["cpu_backend"], info["cpu_backend_why"]) == ("reference", "it was not built")
    assert "it was not built" in call("info")


def test_build_info_follows_a_forced_backend():
    with backend.use("reference"):
        assert snnfast.build_info()["cpu_backend"] == "reference"


def test_train_writes_checkpoint_and_figures(tmp_path):
    text = call("train", "stbp", *QUICK, "--epochs", 2, "--out", tmp_path)
    assert "test accuracy" in text
    assert {p.name for p in tmp_path.iterdir()} == {
        *("checkpoint.pt", "curves.png", "raster.png", "result.json"),
    }
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_resume_equals_the_uninterrupted_run(tmp_path, monkeypatch):
    common = ("train", "stbp", *QUICK, "--epochs", 3, "--seed", 4)
    call(*common, "--out", tmp_path / "whole")

    class PowerCutError(Exception):
        pass

    def cut(*arguments):
        raise PowerCutError

    with monkeypatch.context() as patched:
        patched.setattr(Procedure, "curves", cut)
        result = CliRunner().invoke(cli.app, [*map(str, common), "--out", str(tmp_path / "parts")])
        assert isinstance(result.exception, PowerCutError)
    assert read_checkpoint(tmp_path / "parts" / "checkpoint.pt")["epoch"] == 1
    call(*common, "--out", tmp_path / "parts", "--resume")
    one, two = (read_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("whole", "parts"))
    assert one["epoch"] == two["epoch"] == 3
    assert all(torch.equal(one["model"][k], two["model"][k]) for k in one["model"])
    assert torch.equal(one["rng"], two["rng"])


def test_finished_run_resumes_to_its_result(tmp_path):
    common = ("train", "stbp", *QUICK, "--epochs", 1, "--out", tmp_path)
    text = call(*common)
    assert call(*common, "--resume").splitlines()[-2:] == text.splitlines()[-2:]


def test_weights_of_an_earlier_run(tmp_path):
    call("train", "stbp", *QUICK, "--epochs", 1, "--out", tmp_path / "a")
    file = tmp_path / "a" / "checkpoint.pt"
    call("train", "stbp", *QUICK, "--epochs", 0, "--out", tmp_path / "b", "--weights", file)
    text = call("train", "stbp", *QUICK, "--out", tmp_path / "c", "--weights", "no.pt", code=2)
    assert "there is no checkpoint no.pt" in text


def test_fully_connected_and_validation(tmp_path):
    call(
        *("train", "stbp", *QUICK, "--epochs", 1, "--hidden", 30, "--encoding", "direct"),
        *("--validate", "--precision", "bfloat16", "--out", tmp_path),
    )
    settings = read_checkpoint(tmp_path / "checkpoint.pt")["settings"]
    assert settings["hidden"] == [30]
    assert settings["validate"] is True
    assert settings["precision"] == "bfloat16"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "cifar"], "dataset must be one of digits, mnist"),
        (["--dataset", "mnist"], "mnist needs --data"),
        (["--dataset", "mnist", "--data", "nowhere"], "MNIST is not in"),
        (["--epochs", "-1"], "epochs must be at least 0"),
        (["--steps", "0"], "num_steps must be at least 1"),
        (["--hidden", "0"], "hidden must be at least 1"),
        (["--encoding", "morse"], "encoding must be one of"),
        (["--device", "tpu"], "--device must be auto, cpu, cuda or cuda:N"),
        (["--resume"], "there is no checkpoint"),
    ],
)
def test_wrong_input_is_told_in_a_line(tmp_path, arguments, message):
    text = call("train", "stbp", "--out", tmp_path / "out", *arguments, code=2)
    assert message in text
    assert "Traceback" not in text
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_cuda_without_a_gpu_is_told(tmp_path):
    text = call("train", "stbp", "--device", "cuda", "--out", tmp_path, code=2)
    assert "--device cuda was asked for, but PyTorch" in text
    assert "use --device cpu" in text


def test_a_run_is_not_overwritten(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"precious")
    assert "--resume" in call("train", "stbp", *QUICK, "--out", tmp_path, code=2)
    assert (tmp_path / "checkpoint.pt").read_bytes() == b"precious"
    text = call("train", "stbp", *QUICK, "--out", tmp_path, "--resume", code=2)
    assert "no readable checkpoint" in text


def test_resume_with_other_settings_is_refused(tmp_path):
    call("train", "stbp", *QUICK, "--epochs", 1, "--out", tmp_path)
    text = call("train", "stbp", *QUICK, "--epochs", 2, "--out", tmp_path, "--resume", code=2)
    assert "epochs: 1 there, 2 here" in text


def test_demo_reaches_its_accuracies_and_writes_its_files(tmp_path):
    text = call("demo", "--out", tmp_path, "--device", "cpu")
    assert (tmp_path / "stbp" / "raster.png").exists()
    assert (tmp_path / "spikeprop" / "spikes.png").exists()
    rows = {"STBP (Wu 2018)": 97, "SpikeProp (Bohte 2002)": 90, "STDP (Diehl & Cook 2015)": 88}
    rows["BP-STDP (Tavanaei & Maida 2019)"] = 95
    rows["Conversion (Diehl 2015)"] = 96
    for row, least in rows.items():
        assert row in (tmp_path / "summary.md").read_text()
        accuracy = float(text.split(row)[1].split(" %")[0].split("|")[-1])
        assert accuracy >= least
    assert "x faster here" in text
    assert (tmp_path / "stdp" / "receptive_fields.png").exists()
    assert (tmp_path / "conversion.png").exists()


def test_demo_has_a_row_a_procedure(tmp_path, monkeypatch):
    row = demo.Row("a", "b", "c", 0.5, 1.0)
    for name in ("shown", "converted"):
        monkeypatch.setattr(demo, name, lambda *arguments, **options: row)
    assert demo.run(tmp_path, echo=lambda line: None) == [row] * 5
    assert (tmp_path / "summary.md").read_text().count("50.00 %") == 5


def test_demo_without_kernels_says_so(monkeypatch):
    with backend.use("reference"):
        assert demo.speed().startswith("No fused layer runs here")


def without_benchmarks(monkeypatch):
    """As in an installed package: no source folder on the path, no benchmarks imported."""
    path = [p for p in sys.path if p and not (Path(p) / "benchmarks").is_dir()]
    monkeypatch.setattr(sys, "path", path)
    for name in [n for n in sys.modules if n.partition(".")[0] == "benchmarks"]:
        monkeypatch.delitem(sys.modules, name)


def test_bench_without_the_folder_says_where_to_get_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    without_benchmarks(monkeypatch)
    text = call("bench", code=2)
    assert "checkout of the source" in text


def test_bench_runs_the_benchmarks_of_the_current_directory(tmp_path, monkeypatch):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__init__.py").write_text("")
    (tmp_path / "benchmarks" / "__main__.py").write_text(
        "import typer\napp = typer.Typer()\n@app.command()\ndef lif(n: int = 1):\n    print('n =', n)\n"
    )
    monkeypatch.chdir(tmp_path)
    without_benchmarks(monkeypatch)
    assert "n = 3" in call("bench", "--n", 3)
