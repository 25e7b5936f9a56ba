"""The benchmarks run and report; no time is asserted."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

ROOT = Path(__file__).parents[2]


@pytest.fixture
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.__main__ import app

    def run(*arguments):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        return result.output

    return run


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_quick_run_writes_json(benchmarks, dtype, tmp_path):
    file = tmp_path / "out" / "result.json"
    benchmarks("lif", "--quick", "--dtype", dtype, "--baselines", "reference_loop", "--json", str(file))
    document = json.loads(file.read_text())
    assert document["machine"]["cpu"]
    measured = {row["implementation"] for row in document["rows"]}
    assert {"snnfast", "reference_loop"} < measured
    assert all(row["minimum_seconds"] > 0 for row in document["rows"])
    facts = [row["facts"] for row in document["rows"] if "facts" in row]
    if dtype != "bfloat16":  # there the loop rounds its membrane and snnfast does not
        assert all(fact == pytest.approx(facts[0]) for fact in facts)


@pytest.mark.parametrize(
    ("name", "implementations"),
    [
        ("cuba", ("clone", "snnfast", "reference")),
        ("refractory", ("clone", "snnfast", "soft_reset", "several")),
        ("poisson", ("zeros", "snnfast", "rand", "bernoulli")),
        ("spike_conv2d", ("conv2d", "snnfast", "events", "of the weights, 5 %", "of images")),
        ("pool2d", ("clone", "snnfast", "pytorch", "average gradient")),
        ("integer_lif", ("copy", "snnfast", "lif", "reference")),
        ("batch_norm", ("clone", "snnfast", "pytorch", "contiguous", "evaluation gradient")),
        ("spike_count", ("sum", "snnfast", "iaf_and_sum", "reference")),
        ("delay", ("copy", "snnfast", "reference", "forward+backward")),
        ("spike_linear", ("products", "snnfast", "linear", "5 %, input fixed")),
        ("network", ("relu", "relu_once", "snnfast", "spikes a step")),
    ],
)
def test_quick_run_has_every_implementation(benchmarks, name, implementations):
    output = benchmarks(name, "--quick")
    assert all(implementation in output for implementation in implementations)


def test_several_at_once(benchmarks):
    text = benchmarks("lif", "alif", "--quick", "--baselines", "")
    assert text.index("lif:") < text.index("clone") < text.index("alif:") < text.rindex("clone")
    from benchmarks.__main__ import app

    result = CliRunner().invoke(app, ("lif", "alif", "--quick", "--json", "found.json"))
    assert result.exit_code == 2
    assert "write one benchmark, got lif, alif" in " ".join(result.output.split())


@pytest.mark.parametrize("command", [("lif", "--quick"), ("lif", "--quick", "--device", "cuda"), ("zoo",)])
def test_what_would_time_the_reference_ends_with_the_reason(monkeypatch, command):
    """Cases are a failed build, a source folder without a build, and an old driver."""
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.__main__ import app
    from snnfast import backend

    problem = "the source folder /there is imported, in which nothing is built for this Python"
    if "cuda" in command:
        monkeypatch.setattr(backend, "why_not", lambda kernel: f"driver for {kernel} too old")
        problem = "driver for cuda too old"
    else:
        monkeypatch.setattr(backend, "extension", None)
        monkeypatch.setattr(backend, "load_problem", problem)
    result = CliRunner().invoke(app, command)
    device = "cuda" if "cuda" in command else "cpu"
    assert result.exit_code == 1
    assert f"benchmarks: the {device} kernels of snnfast cannot run: {problem}" in result.output


def test_a_forced_reference_is_not_timed(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.__main__ import app
    from snnfast import backend

    with backend.use("reference"):
        result = CliRunner().invoke(app, ("cuba", "--quick"))
    assert result.exit_code == 1
    assert "cannot run: SNNFAST_BACKEND asks for reference" in result.output


def test_an_op_that_falls_back_is_not_timed(monkeypatch):
    """A fallback of a single op, such as a surrogate without a kernel, is skipped with the reason."""
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import lif
    from benchmarks.timing import Prepared, Task, measure
    from snnfast import backend, ops

    def prepare(task):
        x = torch.rand(3, 4)
        return Prepared({"forward": lambda: ops.lif(x, surrogate=lambda u: (u >= 0).float())}, {})

    monkeypatch.setattr(lif, "prepare", prepare)
    monkeypatch.setattr(backend, "_warned", set())
    with pytest.raises(
        SystemExit, match="benchmarks: lif runs in plain PyTorch, which is slow: a surrogate of your own"
    ):
        measure(Task("lif", "snnfast", (3, 4)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_quick_readouts_run(benchmarks, dtype):
    output = benchmarks("readout", "--quick", "--dtype", dtype)
    assert all(name in output for name in ("clone", "snnfast", "cubali", "reference", "scan", "lif"))
    assert "skipped" not in output


def test_quick_loops_run(benchmarks):
    pytest.importorskip("snntorch")
    output = benchmarks("loops", "--quick")
    assert all(name in output for name in ("snntorch", "snnfast", "steps", "spikes a step"))


def test_zoo_runs(benchmarks):
    pytest.importorskip("norse")
    output = benchmarks("zoo", "--libraries", "norse", "--repeats", "1")
    assert all(name in output for name in ("16C5-MP2-32C5-MP2-10", "recurrent", "as it is"))


def test_published_networks_that_are_missing_are_named(benchmarks, tmp_path):
    (tmp_path / "temporal_efficient_training/models").mkdir(parents=True)
    (tmp_path / "temporal_efficient_training/models/VGG_models.py").write_text("class VGGSNN: ...\n")
    output = benchmarks("published", str(tmp_path))
    assert "skipped: TET VGGSNN: " in output
    assert "is not that of commit f9bde41" in output
    assert "skipped: SEW-ResNet18: " in output
    assert "git clone https://github.com/ZK-Zhou/spikformer at 6212689" in output


def test_a_published_network_is_measured(benchmarks, tmp_path, monkeypatch):
    from benchmarks import published

    path = tmp_path / "small/models/net.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "import torch\nfrom torch import nn\n"
        "class LIFSpike(nn.Module):\n"
        "    def forward(self, x):\n        return (x > 1).float()\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.conv, self.act = nn.Conv2d(2, 3, 3), LIFSpike()\n"
        "    def forward(self, x):\n"
        "        y = self.conv(x.flatten(0, 1)).view(1, 3, 3, 6, 6)\n        return self.act(y) + y.mean()\n"
    )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    small = published.PublishedNetwork("somebody/small", "1234567", "models/net.py", digest, "Net", {}, (1, 3, 2, 8, 8))
    monkeypatch.setattr(published, "NETWORKS", {"small": small})
    output = benchmarks("published", str(tmp_path), "--repeats", "1")
    assert all(word in output for word in ("small", "batch 1, 8x8", "theirs / accelerate(net, x)"))


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc)")
def test_quick_export_c_runs(benchmarks):
    output = benchmarks("export_c", "--quick", "--baselines", "")
    assert all(name in output for name in ("pytorch", "snnfast", "spikes out"))


def test_quick_conversion_runs(benchmarks):
    output = benchmarks("conversion", "--quick", "--baselines", "")
    assert all(name in output for name in ("ann", "snnfast", "chunk 64", "dense", "agreement"))


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc)")
def test_networks_are_trained_and_shipped(benchmarks, tmp_path, monkeypatch):
    from benchmarks import deploy

    output = benchmarks("deploy", str(tmp_path), "--cases", "digits", "--epochs", "1", "--rounds", "1")
    ways = ("ReLU, PyTorch", "spiking, PyTorch int8", "spiking, C float32", "spiking, C int8", "spiking, C int4")
    assert all(way in output for way in ways)
    file, picture = (tmp_path / name for name in ("rows.json", "rows.png"))
    files = "--json", str(file), "--plot", str(picture)
    monkeypatch.setattr(deploy, "find_spec", lambda name: None)  # one export to ONNX is enough
    again = benchmarks("deploy", str(tmp_path), "--cases", "digits", "--epochs", "1", "--rounds", "1", *files)
    assert "epoch" not in again
    assert picture.stat().st_size > 0
    assert {row["way"] for row in json.loads(file.read_text())["rows"]} >= set(ways)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc)")
def test_integer_spikes_are_trained_and_run_as_binary_ones(benchmarks, tmp_path, monkeypatch):
    from benchmarks import integers

    monkeypatch.setattr(integers, "find_spec", lambda name: None)  # another test exports to ONNX
    file = tmp_path / "rows.json"
    arguments = "--cases", "integer-digits", "--epochs", "1", "--rounds", "1", "--json", str(file)
    output = benchmarks("deploy", str(tmp_path), *arguments)
    found = {row["way"]: row for row in json.loads(file.read_text())["rows"]}
    assert "ReLU, PyTorch" in found
    for bits in ("float32", "int8"):
        ways = [found[f"{form} spikes, {how} {bits}"] for form in ("integer", "binary") for how in ("PyTorch", "C")]
        accuracies = {way["accuracy"] for way in ways}
        assert len(accuracies) == 1
        assert accuracies.pop() > 30
        spikes = re.findall(rf"(?:integer|binary) spikes, {bits}: (\d+) spikes", output)
        assert len(spikes) == 2
        assert spikes[0] == spikes[1]


def test_deploy_names_wrong_cases_and_missing_data(benchmarks, tmp_path):
    from benchmarks.__main__ import app

    for cases, text in {
        "cifar": "there is no case 'cifar'; did you mean 'cifar10'?",
        "cifar10": "there is no folder",
    }.items():
        result = CliRunner().invoke(app, ["deploy", str(tmp_path), "--root", str(tmp_path), "--cases", cases])
        assert result.exit_code == 2
        assert text in " ".join(result.output.replace("│", " ").split())


def test_images_of_a_folder_are_shuffled_with_their_labels_and_moved(benchmarks, tmp_path):
    pytest.importorskip("torchvision")
    from PIL import Image

    from benchmarks import deploy

    for part in ("train", "test"):
        for label in range(10):
            (tmp_path / "cifar10" / part / str(label)).mkdir(parents=True)
            for k in range(6):
                image = Image.new("RGB", (32, 32), (20 * label, 0, 0))
                image.putpixel((4, 15), (0, 255, 0))
                image.save(tmp_path / "cifar10" / part / str(label) / f"{k}.png")
    case = deploy.CASES["cifar10"]
    images, labels = deploy.load(case, "test", tmp_path)
    torch.testing.assert_close((images[:, 0, 0, 0] * 255 / 20).round().long(), labels)
    assert labels.tolist() != sorted(labels.tolist())
    torch.manual_seed(0)
    green = case.augment(images)[:, 1]
    row, column = green.flatten(1).argmax(1).div(32, rounding_mode="floor"), green.flatten(1).argmax(1) % 32
    torch.testing.assert_close(green.sum((1, 2)), torch.ones(60), rtol=0, atol=0)
    assert set(row.tolist()) == set(range(12, 19))  # 15, and up to 3 pixels up or down
    assert set(column.tolist()) <= {*range(1, 8), *range(24, 31)}  # 4, or 27 if flipped
    assert min(column) < 8 < max(column)


def test_the_spiking_network_has_the_parameters_of_the_relu_network(benchmarks):
    from benchmarks import deploy

    for case in deploy.CASES.values():
        relu, spiking = deploy.relu_network(case), deploy.spiking_network(case)
        assert [p.shape for p in relu.parameters()] == [p.shape for p in spiking.parameters()]
        x = torch.rand(2, *case.shape)
        assert relu(x).shape == spiking(x.expand(case.steps, *x.shape)).shape == (2, 10)
        for width in case.narrow:
            assert deploy.relu_network(case, width=width)(x).shape == (2, 10)


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc)")
def test_streams_are_learned_and_shipped(benchmarks, tmp_path):
    io = pytest.importorskip("scipy.io")
    (tmp_path / "qtdb").mkdir()
    for part, n in (("train", 12), ("test", 64)):
        x, y = torch.randint(-1, 2, (n, 15, 4)), torch.eye(6)[torch.randint(6, (n, 15))]
        io.savemat(tmp_path / "qtdb" / f"QTDB_{part}.mat", {"x": x.numpy(), "y": y.numpy()})
    where = str(tmp_path / "nets"), "--root", str(tmp_path)
    found = benchmarks("deploy", *where, "--cases", "qtdb", "--epochs", "1", "--rounds", "1")
    ways = (
        "GRU of 32, PyTorch",
        "GRU of 16, PyTorch",
        "spiking, PyTorch float32",
        "spiking, C float32",
        "spiking, C int8",
        "spiking, C int4",
    )
    assert all(way in found for way in ways)


def test_quick_recurrent_runs_with_the_spikes_of_the_loops(benchmarks, tmp_path):
    file = tmp_path / "result.json"
    output = benchmarks("recurrent", "--quick", "--dtype", "float64", "--json", str(file))
    assert all(name in output for name in ("clone", "snnfast", "adlif", "delays"))
    rows = json.loads(file.read_text())["rows"]
    rates = {r["implementation"]: r.get("facts", {}).get("rate") for r in rows}
    assert rates["plain_loop"] == rates["tuned_loop"] == rates["snnfast"]


def test_quick_sparse_runs_with_the_spikes_of_dense_connections(benchmarks, tmp_path):
    file = tmp_path / "result.json"
    output = benchmarks("sparse", "--quick", "--json", str(file))
    assert all(name in output for name in ("clone", "snnfast", "dense", "csr"))
    facts = {r["implementation"]: r.get("facts") for r in json.loads(file.read_text())["rows"]}
    assert facts["dense"] == facts["snnfast"]
    assert facts["snnfast"]["spikes, 10%"] > 0


def test_quick_own_neuron_runs_with_the_spikes_of_the_loops(benchmarks, tmp_path):
    file = tmp_path / "result.json"
    output = benchmarks("own_neuron", "--quick", "--baselines", "lif,plain_loop,tuned_loop", "--json", str(file))
    assert all(name in output for name in ("klif", "two_compartments", "resonator", "lif"))
    rows = json.loads(file.read_text())["rows"]
    rates = {r["implementation"]: r.get("facts", {}).get("spikes a step, klif") for r in rows}
    assert rates["plain_loop"] == rates["tuned_loop"] == rates["snnfast"]


@pytest.mark.parametrize(
    ("family", "model", "core"),
    [(26, 2, "Zen 5"), (25, 17, "Zen 4"), (25, 160, "Zen 4"), (25, 1, "Zen 3"), (6, 143, "")],
)
def test_the_core_of_an_amd_processor(monkeypatch, family, model, core):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.machine import amd_core

    assert amd_core(family, model) == core


def test_quick_stdp_runs(benchmarks, tmp_path):
    file = tmp_path / "result.json"
    benchmarks("stdp", "--quick", "--dtype", "float64", "--json", str(file))
    rows = json.loads(file.read_text())["rows"]
    assert {"clamp", "snnfast", "outer_products", "matrix_products"} <= {r["implementation"] for r in rows}
    same = [
        r["facts"]["mean weight"]
        for r in rows
        if r["implementation"] in ("snnfast", "outer_products", "matrix_products")
    ]
    assert same == pytest.approx([same[0]] * len(same))


@pytest.mark.parametrize("rule", ["eprop", "ottt"])
def test_quick_online_rules_have_the_gradient_of_plain_pytorch(benchmarks, tmp_path, rule):
    file = tmp_path / "rule.json"
    benchmarks(rule, "--quick", "--json", str(file))
    found = [row["facts"] for row in json.loads(file.read_text())["rows"] if row.get("facts")]
    assert len(found) == 3
    assert {round(facts["gradient"], 4) for facts in found} == {round(found[0]["gradient"], 4)}
    assert found[0]["gradient"] > 0


def test_methods_train_and_report(benchmarks):
    output = benchmarks("methods", "--hidden", "3", "--epochs", "1", "--validate")
    table = output[output.index("method ") :].splitlines()
    for name, line in zip(("steps of 1 ms", "e-prop", "exact events", "steps of 0.1 ms"), table[1:5], strict=True):
        assert name in line
        assert "%" in line


def test_quick_spikeprop_runs(benchmarks, tmp_path):
    file = tmp_path / "result.json"
    output = benchmarks("spikeprop", "--quick", "--dtype", "float64", "--json", str(file))
    assert "python_loop is for the manual's calls" in output
    rows = json.loads(file.read_text())["rows"]
    found = {(r["implementation"], len(r["shape"]), r["name"]): r.get("facts") for r in rows}
    for name in ("matrix_products", "reference_loop"):
        assert found[name, 4, "forward"]["ms"] == pytest.approx(found["snnfast", 4, "forward"]["ms"] + 0.05, abs=0.01)
        assert {(name, 4, "forward+backward"), (name, 5, "training")} <= set(found)
    loop, ours = (found[name, 5, "Bohte.step"] for name in ("python_loop", "snnfast"))
    assert loop["weights"] == pytest.approx(ours["weights"], rel=1e-5)


def test_quick_memory_runs_with_the_loss_of_plain_layers(benchmarks, tmp_path):
    file, picture = tmp_path / "memory.json", tmp_path / "memory.png"
    benchmarks("memory", "--quick", "--json", str(file), "--plot", str(picture))
    rows = json.loads(file.read_text())["rows"]
    assert {"snnfast", "recomputed"} <= {row["implementation"] for row in rows}
    losses = [row["facts"]["first loss"] for row in rows]
    assert losses == pytest.approx([losses[0]] * len(losses))
    assert all(row["facts"]["peak MB"] >= 0 for row in rows)
    assert picture.stat().st_size > 0


def test_promises_of_networks_are_judged(benchmarks):
    from benchmarks import network, report
    from benchmarks.timing import Measurement, Task

    first, second = network.SHAPES[:2]
    results = {
        Task("network", "relu", first): Measurement({network.STEP: [1.0]}),
        Task("network", "snnfast", first): Measurement({network.STEP: [1.2, 9.0]}),
        Task("network", "spikingjelly", first): Measurement({network.STEP: [3.6]}),
        Task("network", "snnfast", second): Measurement({network.STEP: [1.0]}),
        Task("network", "snntorch", second): Measurement({network.STEP: [1.4]}),
    }
    verdicts = network.verdicts(report.rows(results, "relu"))
    assert [(v["value"], v["kept"]) for v in verdicts] == [
        (pytest.approx(3.0), True),
        (pytest.approx(1.2), False),
        (pytest.approx(1.4), False),
        (None, None),
    ]


def test_promises_of_bp_stdp_are_judged(benchmarks):
    from benchmarks import bp_stdp_network as benchmark
    from benchmarks import report
    from benchmarks.timing import Measurement, Task

    batches, single = benchmark.SHAPES[:2]
    results = {
        Task("bp_stdp_network", "snnfast", batches): Measurement({"fit": [0.002, 9.0]}),
        Task("bp_stdp_network", "snnfast", single): Measurement({"fit": [1e-5]}),
        Task("bp_stdp_network", "manual_loop", single): Measurement({"fit": [0.99e-3]}),
    }
    verdicts = benchmark.verdicts(report.rows(results, "products"))
    assert [(v["value"], v["kept"]) for v in verdicts] == [(120.0, True), (pytest.approx(99.0), False)]


def test_promises_of_spikeprop_are_judged(benchmarks):
    from benchmarks import report, spikeprop
    from benchmarks.timing import Measurement, Task

    results = {}
    for must in spikeprop.MUSTS:
        task = Task("spikeprop", "snnfast", must.shape)
        results[task] = Measurement({must.name: [must.limit / must.scale, 9e9]})
    loop = Task("spikeprop", "python_loop", spikeprop.SHAPES[3])
    results[loop] = Measurement({spikeprop.MANUAL: [1e-6]})
    verdicts = spikeprop.verdicts(report.rows(results, "product"))
    assert [v["kept"] for v in verdicts] == [True] * 4 + [False]


def test_missing_library_is_skipped_with_reason(benchmarks, tmp_path):
    file = tmp_path / "result.json"
    output = benchmarks("lif", "--quick", "--baselines", "no_such_library", "--json", str(file))
    assert "no_such_library 3x2x5, 1 threads: skipped, ModuleNotFoundError" in output
    (skipped,) = json.loads(file.read_text())["skipped"]
    assert skipped["implementation"] == "no_such_library"


def test_a_backend_has_the_version_of_its_library(benchmarks):
    from benchmarks import neurons

    assert neurons.described("tuned_loop:any") == (torch.__version__, "")
    assert neurons.described("clone") == ("", "")


def test_a_pass_may_return_the_seconds_of_another_program(benchmarks):
    from benchmarks.timing import Seconds, Task, once

    task = Task("diehl_cook", "brian2", (250, 784, 100))
    assert once(lambda: Seconds(60.0), task)() == 60
    assert once(lambda: 60.0, task)() < 60


def test_cpu_time_is_counted_with_one_thread_only(benchmarks):
    assert "snnfast" in benchmarks("lif", "--quick", "--cpu-time", "--baselines", "")
    from benchmarks.__main__ import app

    result = CliRunner().invoke(app, ["lif", "--quick", "--cpu-time", "--threads", "1,2"])
    assert result.exit_code == 2


def test_plot_is_drawn(benchmarks, tmp_path):
    file = tmp_path / "plot.png"
    benchmarks("lif", "--quick", "--baselines", "", "--plot", str(file))
    assert file.read_bytes().startswith(b"\x89PNG")


def test_own_process_measures_the_build_that_is_imported(benchmarks, tmp_path, monkeypatch):
    """Run ``snnfast bench`` of an installed wheel in a source folder without a build: the facts are the same."""
    from benchmarks import timing

    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks")
    (tmp_path / "snnfast").mkdir()
    (tmp_path / "snnfast" / "__init__.py").write_text("raise ImportError('not built')")
    monkeypatch.setattr(timing, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    task = timing.Task("lif", "snnfast", (3, 2, 5), repeats=1)
    measured = timing.measure_isolated(task)
    assert measured.skipped == ""
    assert measured.seconds["forward"]
    assert set(measured.seconds) == {"forward", "forward+backward"}
    assert measured.facts == timing.measure(task).facts


def test_own_process_takes_the_seconds_of_another_program(benchmarks, tmp_path, monkeypatch):
    from benchmarks import timing

    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks")
    code = "from benchmarks.timing import Prepared, Seconds\n\n\n"
    code += "def prepare(task):\n    return Prepared({'pass': lambda: Seconds(60.0)}, {})\n"
    (tmp_path / "benchmarks" / "minute.py").write_text(code)
    monkeypatch.setattr(timing, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert set(timing.measure_isolated(timing.Task("minute", "snnfast", (1,))).seconds["pass"]) == {60.0}


def test_limits_are_judged(benchmarks):
    from benchmarks import lif, report
    from benchmarks.timing import Measurement, Task

    limit = lif.LIMITS[0]
    results = {
        Task("lif", "clone", limit.shape): Measurement({"clone": [1.0], "copy": [1.0]}),
        Task("lif", "snnfast", limit.shape): Measurement({limit.name: [limit.clones, 9e9]}),
        Task("lif", "snnfast", limit.shape, threads=2): Measurement({limit.name: [9e9]}),
        Task("lif", "tuned_loop", limit.shape): Measurement({limit.name: [limit.clones]}),
    }
    verdicts = lif.verdicts(report.rows(results, "clone"))
    assert [v["kept"] for v in verdicts] == [True, None, False, False]
    assert "FAIL" in report.verdict_table(verdicts)


def test_compiler_report_is_read(benchmarks):
    from benchmarks import resources

    (kernel,) = resources.parse(
        "lif.cu",
        """ptxas info    : Compiling entry function '_Z10lif_kernelILi2EEvPf' for 'sm_90'
ptxas info    : Function properties for _Z10lif_kernelILi2EEvPf
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 33 registers, used 1 barriers, 8 bytes cumulative stack size, 128 bytes smem
""",
    )
    assert kernel[2:] == (33, 128, 8, 16)
    assert "lif_kernel" in kernel.name


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("void snnfast::cuda::k<(int)2, snnfast::Lif>(float*, long)", "k<2, Lif>"),
        ("(anonymous namespace)::k(float*)", "k"),
    ],
)
def test_kernel_names_are_short(benchmarks, name, short):
    from benchmarks import resources

    assert resources.shorten(name) == short


@pytest.mark.parametrize("name", ["diehl_cook", "diehl_cook_conductance"])
def test_quick_diehl_cook_runs(benchmarks, name):
    output = benchmarks(name, "--quick", "--baselines", "reference_loop")
    assert all(name in output for name in ("weights", "alone", "with encoding", "reference_loop"))
    assert ("networks at once" in output) == (name == "diehl_cook")


def test_quick_bp_stdp_runs(benchmarks, tmp_path):
    file = tmp_path / "result.json"
    benchmarks("bp_stdp", "--quick", "--dtype", "float64", "--json", str(file))
    rows = json.loads(file.read_text())["rows"]
    same = [row["facts"]["mean weight"] for row in rows if row["implementation"] in ("snnfast", "matrix_products")]
    assert len(same) > 2
    assert same == pytest.approx([same[0]] * len(same))


def test_quick_bp_stdp_network_runs(benchmarks):
    output = benchmarks("bp_stdp_network", "--quick")
    assert all(name in output for name in ("products", "op", "fit"))
    output = benchmarks("bp_stdp_network", "--quick", "--shapes", "5x1x64x7x3")
    assert "manual_loop" in output
