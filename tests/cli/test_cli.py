"""The command ``snnfast``."""

import errno
import gzip
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from command import call
from mnist import lay_mnist
from procedures import SMALL
from typer.testing import CliRunner

import snnfast
from snnfast import backend
from snnfast_zoo import cli, data
from snnfast_zoo.cli import demonstration as demo
from snnfast_zoo.cli.options import plain_errors
from snnfast_zoo.papers import procedures as procedure
from snnfast_zoo.papers.wu2018 import train as wu2018
from snnfast_zoo.train.checkpoint import read_checkpoint, write_checkpoint
from snnfast_zoo.train.figures import Figures
from snnfast_zoo.train.folder import locked

QUICK = ["--steps", "2", "--batch-size", "200", "--device", "cpu"]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "No such command 'trian'. Did you mean 'train'?"),
        (["train", "stpb"], "'stbp'"),
        (["train", "stbp", "--epocs", "3"], "--epochs"),
        (["simulate", "brunell"], "Did you mean 'brunel'?"),
        (["demo", "--ouy", "x"], "--out"),
    ],
)
def test_a_wrong_command_or_option_suggests_the_nearest(words, message):
    assert message in call(*words, code=2)


@pytest.mark.parametrize(("command", "keeps"), [("simulate", False), ("train", True), ("infer", True)])
def test_only_a_simulation_gives_freed_memory_back(command, keeps, monkeypatch):
    calls = []
    monkeypatch.setattr(cli.memory, "keep_freed_memory", lambda: calls.append("keep"))
    monkeypatch.setattr(cli, "app", lambda: calls.append("run"))
    monkeypatch.setattr(sys, "argv", ["snnfast", command])
    cli.main()
    assert calls == ["keep"] * keeps + ["run"]


def test_help_names_every_command():
    text = call("--help")
    assert all(name in text for name in ("train", "convert", "assign", "infer", "demo"))
    assert all(name in text for name in ("info", "bench", "cache"))
    assert all(name in call("train", "--help") for name in ("stbp", "diehl2015", "vgg16"))


@pytest.mark.parametrize("command", ["train sequence", "convert", "infer"])
def test_help_cuts_no_option_at_80_columns(command, monkeypatch):
    for name in ("COLUMNS", "TERMINAL_WIDTH"):
        monkeypatch.setenv(name, "80")
    text = call(*command.split(), "--help")
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert command != "train sequence" or "--no-spikes-adapt" in text


def test_info_shows_versions_and_what_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("SNNFAST_CACHE_DIR", str(tmp_path))  # so that no other test fills it
    text = call("info")
    for name in ("snnfast", "torch", "cpu_isa", "cuda_archs", "cpu_backend_why"):
        assert name in text
    assert json.loads(call("info", "--json")) == snnfast.build_info()


def test_cache_shows_compiled_neurons_and_deletes_them(tmp_path, monkeypatch):
    monkeypatch.setenv("SNNFAST_CACHE_DIR", str(tmp_path))
    library = tmp_path / f"klif-{'0' * 64}.so"
    library.write_bytes(bytes(1500))
    assert call("cache") == f"1 libraries (1,500 bytes) in {tmp_path}\n"
    info = snnfast.build_info()
    assert (info["cache"], info["cache_libraries"], info["cache_bytes"]) == (str(tmp_path), 1, 1500)
    assert call("cache", "--clear") == f"1 libraries (1,500 bytes) deleted from {tmp_path}\n"
    assert not library.exists()
    assert call("cache") == f"0 libraries (0 bytes) in {tmp_path}\n"


def test_version():
    assert call("--version") == f"snnfast {snnfast.__version__}\n"


def test_a_folder_without_a_name_is_refused():
    """An empty name would be the current folder."""
    for command in ("train", "stbp"), ("demo",):
        text = call(*command, "--out", "", code=2)
        assert "Invalid value for '--out'" in text


def test_a_folder_at_home(tmp_path, monkeypatch):
    """A shell does not expand ``--out=~/run``."""
    monkeypatch.setenv("HOME", str(tmp_path))
    call("train", "stbp", *QUICK, "--hidden", 3, "--epochs", 0, "--out=~/run")
    assert (tmp_path / "run" / "checkpoint.pt").is_file()
    procedure.stbp(hidden=(3,), epochs=0, weights="~/run/checkpoint.pt", progress=False)


def test_only_a_lack_of_memory_is_told_without_a_traceback():
    with pytest.raises(typer.Exit), plain_errors():
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
    with pytest.raises(RuntimeError, match="something else"), plain_errors():
        raise RuntimeError("something else")


def test_ctrl_c_in_the_demo(tmp_path, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "shown", interrupt)
    assert "snnfast: interrupted" in call("demo", "--out", tmp_path, code=130)


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
    assert {p.name for p in tmp_path.iterdir()} == {*("checkpoint.pt", "curves.png", "raster.png", "result.json")}
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_resume_equals_the_uninterrupted_run(tmp_path, monkeypatch):
    common = ("train", "stbp", *QUICK, "--epochs", 3, "--seed", 4)
    call(*common, "--out", tmp_path / "whole")

    class PowerCutError(Exception):
        pass

    def cut(*arguments):
        raise PowerCutError

    with monkeypatch.context() as patched:
        patched.setattr(Figures, "update", cut)
        result = CliRunner().invoke(cli.app, [*map(str, common), "--out", str(tmp_path / "parts")])
        assert isinstance(result.exception, PowerCutError)
    assert read_checkpoint(tmp_path / "parts" / "checkpoint.pt")["epoch"] == 1
    call(*common, "--out", tmp_path / "parts", "--resume")
    one, two = (read_checkpoint(tmp_path / name / "checkpoint.pt") for name in ("whole", "parts"))
    assert one["epoch"] == two["epoch"] == 3
    for k in one["model"]:
        torch.testing.assert_close(one["model"][k], two["model"][k], rtol=0, atol=0)
    torch.testing.assert_close(one["rng"], two["rng"], rtol=0, atol=0)


def test_finished_run_resumes_to_its_result(tmp_path):
    common = ("train", "stbp", *QUICK, "--epochs", 1, "--out", tmp_path)
    text = call(*common)
    assert "after 1 epoch, " in text
    assert call(*common, "--resume").splitlines()[-2:] == text.splitlines()[-2:]


def test_weights_of_an_earlier_run(tmp_path):
    call("train", "stbp", *QUICK, "--epochs", 1, "--out", tmp_path / "a")
    file = tmp_path / "a" / "checkpoint.pt"
    call("train", "stbp", *QUICK, "--epochs", 0, "--out", tmp_path / "b", "--weights", file)
    text = call("train", "stbp", *QUICK, "--out", tmp_path / "c", "--weights", "no.pt", code=2)
    assert "there is no checkpoint no.pt" in text
    text = call("train", "stbp", *QUICK, "--seeds", 2, "--weights", file, code=2)
    assert "--weights is for one run; leave --seeds and --folds out" in " ".join(text.split())


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
        (["--seed", 10**20], "stbp: seed must lie in [-2**63, 2**63), got 1000"),
        (["--hidden", 10**18], "there is not enough memory; a smaller network, batch"),
        (["--threads", 10**6], "Invalid value for '--threads'"),
        (["--seeds", 10**30], "Invalid value for '--seeds'"),
        (["--data", ""], "Invalid value for '--data': must be a path, got ''"),
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


def test_a_folder_that_cannot_be_written_is_told_before_the_first_epoch(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    text = call("train", "stbp", *QUICK, "--out", tmp_path / "file", code=2)
    assert text.strip().splitlines() == [f"snnfast: {tmp_path / 'file'}: File exists"]

    def full(content, stream):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    monkeypatch.setattr(wu2018, "fit", None)  # never reached
    text = " ".join(call("train", "stbp", *QUICK, "--out", tmp_path / "a", code=2).split())
    assert "checkpoint.pt cannot be written: [Errno 28] No space left on device" in text
    assert not (tmp_path / "a").exists()


def test_a_second_run_in_a_folder_is_told_who_holds_it(tmp_path):
    with locked(tmp_path):
        for command in ("train", "stbp", *QUICK), ("train", "spikeprop", "--seeds", 2):
            text = " ".join(call(*command, "--out", tmp_path, code=2).split())
            assert f"is in use by process {os.getpid()} on" in text


def test_a_checkpoint_of_another_kind_is_told(tmp_path):
    call("train", "stbp", *QUICK, "--epochs", 0, "--out", tmp_path)
    text = " ".join(call("train", "spikeprop", "--out", tmp_path, "--resume", code=2).split())
    assert "must be of kind 'spikeprop', got one of kind 'stbp'" in text
    text = " ".join(call("convert", tmp_path, code=2).split())
    assert "must be of kind 'ann', got one of kind 'stbp'" in text
    write_checkpoint(tmp_path / "snn.pt", {"kind": "conversion"})
    arguments = ("train", "stbp", *QUICK, "--weights", tmp_path / "snn.pt", "--out", tmp_path / "b")
    assert "holds no network to start from" in " ".join(call(*arguments, code=2).split())


@pytest.mark.parametrize(
    "command",
    [
        ("stbp", *QUICK),
        ("stdp", "--neurons", 5, "--duration", 20),
        ("spikeprop", "--terminals", 2, "--folds", 2),
        ("bp-stdp", "--dataset", "iris"),
        ("diehl2015", "--batch-size", 500),
    ],
)
def test_whoever_validates_never_sees_the_test_part(tmp_path, monkeypatch, command):
    """The test part is not read; with folds the test fold is not among the data."""
    splits, real = [], data.load
    monkeypatch.setattr(data, "load", lambda *a, split, **k: splits.append(split) or real(*a, split=split, **k))
    text = call("train", *command, "--epochs", 1, "--validate", "--out", tmp_path)
    assert "validation accuracy" in text
    assert "test accuracy" not in text
    assert set(splits) <= ({"all"} if "--folds" in command else {"train", "val"})
    if "--folds" not in command:
        assert json.loads((tmp_path / "result.json").read_text())["split"] == "validation"


def write_mnist(root, images=60, labels=60, largest=9, part="train"):
    black = np.zeros((images, 28, 28), dtype=np.uint8)
    classes = np.arange(labels, dtype=np.uint8) % (largest + 1)
    return lay_mnist(root, **{part: (black, classes)})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"images": 50}, "must hold equally many images and labels, got 50 and 60"),
        ({"largest": 11}, "train-labels-idx1-ubyte must hold labels from 0 to 9, got 11"),
        ("empty", "train-images-idx3-ubyte is empty"),
        ("cut", "train-images-idx3-ubyte must have 47056 bytes for 60x28x28, got 40000"),
        ("short", "train-images-idx3-ubyte must begin with 16 bytes of sizes, got 13"),
        ("gz", "must begin with 0x803, got 0x1f8b0800, which is a compressed file: unpack it"),
        ("packed", "train-images-idx3-ubyte must be unpacked, got train-images-idx3-ubyte.gz"),
        ("labels", "train-images-idx3-ubyte must begin with 0x803, got 0x801"),
    ],
)
@pytest.mark.parametrize("command", ["stbp", "stdp", "spikeprop", "bp-stdp", "diehl2015"])
def test_damaged_mnist_is_told_in_a_line(tmp_path, damage, message, command):
    write_mnist(tmp_path, part="t10k")
    raw = write_mnist(tmp_path, **(damage if isinstance(damage, dict) else {}))
    images = raw / "train-images-idx3-ubyte"
    whole = images.read_bytes()
    if damage == "empty":
        images.write_bytes(b"")
    elif damage == "cut":
        images.write_bytes(whole[:40_000])
    elif damage == "short":
        images.write_bytes(whole[:13])
    elif damage == "gz":
        images.write_bytes(gzip.compress(whole, mtime=0))
    elif damage == "packed":
        images.rename(images.with_name(images.name + ".gz"))
    elif damage == "labels":
        images.write_bytes((raw / "train-labels-idx1-ubyte").read_bytes())
    arguments = ("--dataset", "mnist", "--data", tmp_path, "--out", tmp_path / "out")
    text = " ".join(call("train", command, *arguments, code=2).split())
    assert message in text
    assert "Traceback" not in text
    assert not (tmp_path / "out").exists()


def test_demo_writes_its_files(tmp_path, monkeypatch):
    """Run the demo with one epoch; .ci/run trains it fully, and checks its accuracies."""
    real = demo.trained
    monkeypatch.setattr(
        demo, "trained", lambda p, *where, **how: real(p, *where, epochs=1, **SMALL.get(p.name, {}), **how)
    )
    text = call("demo", "--out", tmp_path, "--device", "cpu")
    assert (tmp_path / "stbp" / "raster.png").exists()
    assert (tmp_path / "spikeprop" / "spikes.png").exists()
    rows = ("STBP (Wu 2018)", "SpikeProp (Bohte 2002)", "BP-STDP (Tavanaei & Maida 2019)")
    for row in (*rows, "STDP (Diehl & Cook 2015)", "Conversion (Diehl 2015)"):
        assert row in (tmp_path / "summary.md").read_text()
        assert 0 < float(text.split(row)[1].split(" %")[0].split("|")[-1]) <= 100
    assert "x faster here" in text
    assert (tmp_path / "stdp" / "receptive_fields.png").exists()
    assert (tmp_path / "conversion.png").exists()


def test_demo_has_a_row_a_procedure(tmp_path, monkeypatch):
    row = demo.DemoRow("a", "b", "c", 0.5, 1.0)
    for name in ("shown", "converted"):
        monkeypatch.setattr(demo, name, lambda *arguments, **options: row)
    assert demo.run(tmp_path, echo=lambda line: None) == [row] * 5
    assert (tmp_path / "summary.md").read_text().count("50.00 %") == 5


def test_demo_has_no_option_without_effect():
    assert "--threads" not in call("demo", "--help")  # it runs on one


def test_demo_without_kernels_says_so(monkeypatch):
    with backend.use("reference"):
        assert demo.speed().startswith("No fused layer runs here")


def without_benchmarks(monkeypatch):
    """Imitate an installed package: no source folder on the path, no benchmarks imported."""
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
    before = dict(sys.modules)
    assert "n = 3" in call("bench", "--n", 3)
    for name in set(sys.modules) - set(before):  # hide them from other tests
        if name.partition(".")[0] == "benchmarks":
            del sys.modules[name]
