"""A user's data reach 95 % with default settings; a run reports its settings and silent layers."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from procedures import quiet

from benchmarks.own_recordings import LIMIT, bumps, patterns, tones, write
from snnfast import data
from snnfast.monitoring import Activity, NeuronActivity
from snnfast_zoo.papers import procedures as procedure
from snnfast_zoo.papers.wu2018 import train as wu2018

pytestmark = pytest.mark.usefixtures("one_thread")
PAGE = Path(__file__).parents[2] / "docs/spikeprop.md"
QUIET = {"progress": False, "echo": None}


@pytest.fixture
def bars(tmp_path):
    """Write 120 images of a horizontal or vertical bar."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    images = rng.random((120, 1, 16, 16), dtype=np.float32) * 0.4
    images[labels == 0, :, 4:8] += 0.5
    images[labels == 1, :, :, 4:8] += 0.5
    np.savez(tmp_path / "bars.npz", images=images, labels=labels)
    return str(tmp_path / "bars.npz")


@pytest.mark.parametrize("seed", range(2))
def test_own_images(bars, seed):
    result = procedure.stbp(bars, seed=seed, epochs=4, **QUIET)
    assert result.accuracy >= 0.95
    assert result.settings.batch_norm
    assert result.settings.shift == 0
    assert not any("Nothing fires" in line for line in result.remarks)


def test_own_images_without_batch_norm(bars):
    said = []
    result = procedure.stbp(bars, epochs=4, batch_norm=False, progress=False, echo=said.append)
    assert result.accuracy >= 0.95
    assert any("weights scaled to a rate of 0.1" in line for line in said)


@pytest.mark.parametrize(
    ("kind", "n", "neuron"), [(tones, 60, "lif"), (tones, 90, "adlif"), (bumps, 200, "lif"), (patterns, 60, "lif")]
)
def test_own_sequences(kind, n, neuron, tmp_path):
    result = procedure.sequence(write(tmp_path / "mine.npz", kind, n), neuron=neuron, **QUIET)
    assert result.accuracy > LIMIT
    assert 0.03 < result.measured["rates"][0] < 0.3
    assert not result.advice


def test_few_sequences_get_more_epochs_unless_they_are_given(tmp_path):
    x, labels = patterns(24, np.random.default_rng(0))
    np.savez(tmp_path / "mine.npz", images=x.astype(np.float32), labels=labels)
    path, small = str(tmp_path / "mine.npz"), {"hidden": (4,), **QUIET}
    assert procedure.sequence(path, updates=50, **small).run.epoch == 25  # two batches an epoch: 20 samples
    said = []
    result = procedure.sequence(path, **small | {"epochs": 1, "echo": said.append})
    assert result.run.epoch == 1
    assert "updates" not in said[0]


def test_a_run_that_did_not_learn_says_so_in_its_last_line(bars, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "noise.npz", images=rng.random((90, 8, 4)), labels=np.arange(90) % 3)
    noise = procedure.sequence(str(tmp_path / "noise.npz"), epochs=1, batch_size=32, out=tmp_path / "run", **QUIET)
    assert re.fullmatch(
        r"not learned: \d\d\.\d % of the training samples are right after 1 epoch, 33\.3 % are of one class; try "
        r"--epochs 4, --lr 0\.03, --batch-size 8",
        noise.summary().splitlines()[-1],
    )
    learned = procedure.stbp(bars, epochs=4, out=tmp_path / "learned", **QUIET)
    assert learned.summary().splitlines()[-1].startswith("use it: ")


def test_own_data_of_spikeprop_have_no_noise_of_the_digits(bars):
    result = procedure.spikeprop(bars, epochs=4, **QUIET)
    assert result.accuracy >= 0.95
    assert result.settings.jitter == 0
    assert result.settings.shift == 0
    assert procedure.spikeprop.preset("digits").jitter == 2.0


def test_the_example_of_the_page_of_spikeprop_learns_yin_yang():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text().partition("## The paper")[0], re.S)
    for old, new in (
        ("torch.rand(60, 2)", "train[0]"),
        ("(values.sum(1) > 1).long()", "train[1]"),
        ("SpikeProp(16, 10, ", "SpikeProp(16, 60, "),
        ("SpikeProp(10, 2, ", "SpikeProp(60, 3, "),
        ("range(5)", "range(80)"),
    ):
        assert old in code
        code = code.replace(old, new)
    torch.manual_seed(0)
    x, labels = data.yin_yang("train").tensors
    names = {"train": (x[:1500, :2], labels[:1500])}
    exec(code, names)
    x, labels = data.yin_yang("test").tensors
    with torch.no_grad():
        times = names["output"](names["hidden"](names["code"](x[:, :2]).flatten(1)))
    assert (names["loss"].first_spike(times, t_max=40.0) == labels).float().mean() >= 0.95


def test_a_run_says_which_settings_it_took(bars):
    said = []
    procedure.stbp(bars, epochs=0, progress=False, echo=said.append)
    assert said[0].startswith("stbp: neutral settings for data of your own: num_steps 8, encoding direct")
    said.clear()
    procedure.sequence("xor", num_steps=12, samples=8, epochs=0, progress=False, echo=said.append)
    assert said == ["sequence: preset of xor: samples 8, hidden 64, epochs 0, gain 60.0"]


def test_images_in_the_layout_of_mnist_that_are_others_are_told(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, n in (("train", 60), ("t10k", 30)):
        images, labels = (rng.integers(0, 256, (n, 28, 28), np.uint8), (np.arange(n) % 10).astype(np.uint8))
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + b"".join(s.to_bytes(4, "big") for s in array.shape)
            (raw / f"{part}-{name}-ubyte").write_bytes(head + array.tobytes())
    pytest.importorskip("torchvision")
    said = []
    procedure.stbp("mnist", root=tmp_path, epochs=0, progress=False, echo=said.append)
    assert said[0].startswith("stbp: preset of mnist: ")
    assert "shift 1.0" in said[0]
    assert "these images are not those of MNIST" in said[1]


def test_a_run_that_ends_with_a_silent_layer_names_it(bars, tmp_path, monkeypatch):
    settings = procedure.stbp.preset(bars, epochs=0, batch_norm=False)

    def dead(settings, data):
        network = model(settings, data)
        with torch.no_grad():
            network.layers[2].layer[-1].bias.fill_(-1e3)
        return network

    model = procedure.stbp.model
    monkeypatch.setattr(wu2018, "model", dead)
    result = quiet(procedure.stbp, settings, tmp_path / "out")
    (line,) = [line for line in result.remarks if "layers.3" in line]
    assert line.startswith("layers.3.0 (LIF, ") or line.startswith("layers.3 (LIF, ")
    assert "is silent: 100 % of its neurons never fired for 20 samples; try --batch-norm" in line
    assert line in result.summary()
    assert json.loads((tmp_path / "out" / "result.json").read_text())["accuracy"] == 0.5


def test_silent_and_saturated_layers():
    def layer(rate, silent):
        return NeuronActivity("1", "LIF", 10, 0.0, rate, silent, 0.0)

    def lines(*layers):
        return Activity(layers, (), 7, 0.0, 0.0).troubles()

    assert lines(layer(0.2, 0.1), layer(0.01, 0.9), layer(float("nan"), 0.5)) == []
    assert lines(layer(0.0, 1.0)) == ["1 (LIF, 10 neurons) is silent: 100 % of its neurons never fired for 7 samples"]
    assert "fired at every step, 50 % of them never, for 7 samples" in lines(layer(0.5, 0.5))[0]
