"""The procedure for sequences: data, predictions, learning, and the command."""

import json
import math
from dataclasses import replace
from functools import partial

import command
import pytest
import torch
from procedures import interrupted, quiet
from samples import assert_equal
from torch.nn import functional as F  # noqa: N812

import snnfast
from snnfast.nn import AdLIF
from snnfast.reference.surrogate import resolve
from snnfast_zoo.data.sequences import copy_memory
from snnfast_zoo.papers.procedures import sequence
from snnfast_zoo.papers.sequence import train as sequence_train
from snnfast_zoo.papers.sequence.answers import cross_entropy, predicted
from snnfast_zoo.papers.sequence.data import rows, with_other_leads
from snnfast_zoo.papers.sequence.events import EventNetwork

SMALL = {"progress": False, "echo": None, "num_steps": 12, "samples": 64, "hidden": (12,)}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("task", ["adding", "xor", "copy"])
def test_parts_share_no_seed(task):
    seen = {}
    for validate in (False, True):
        data = sequence.load(sequence.preset(task, num_steps=20, samples=50, validate=validate))
        assert data.train[0].dtype == torch.uint8
        assert data.train[0].shape[:2] == (50, 20)
        assert len(data.held_out[0]) == 2000
        seen |= {"train": data.train[0], data.split: data.held_out[0][:50]}
    assert seen.keys() == {"train", "validation", "test"}
    for one, other in (("train", "test"), ("train", "validation"), ("validation", "test")):
        assert not torch.equal(seen[one], seen[other])


def test_images_become_rows_or_pixels_in_one_order_for_all():
    x = torch.arange(2 * 784.0).view(2, 1, 28, 28)
    assert rows("smnist", x).shape == (2, 28, 28)
    torch.testing.assert_close(rows("smnist", x)[1, 3], x[1, 0, 3], rtol=0, atol=0)
    permuted = rows("psmnist", x)
    assert permuted.shape == (2, 784, 1)
    torch.testing.assert_close(permuted[1] - 784, permuted[0], rtol=0, atol=0)
    assert permuted[0].flatten().sort().values.tolist() == list(range(784))
    assert permuted[0, :, 0].tolist() != list(range(784))


def test_steepness_of_the_surrogate_gradient():
    data = sequence.load(sequence.preset("xor", num_steps=12, samples=8))
    for changes, alpha in (({}, 25.0), ({"alpha": 5}, 5.0), ({"surrogate": "atan"}, 2.0)):
        network = sequence.model(sequence.preset("xor", num_steps=12, samples=8, hidden=(4,), **changes), data)
        surrogates = [m.surrogate for m in network.modules() if isinstance(m, AdLIF)]
        assert [resolve(s).alpha for s in surrogates] == [alpha]


def test_answers_and_loss_of_one_and_of_several():
    logits = torch.tensor([[1.0, 3, 2], [0, -1, -2]])
    assert predicted(logits).tolist() == [1, 0]
    labels = torch.tensor([1, 2])
    torch.testing.assert_close(cross_entropy(logits, labels), F.cross_entropy(logits, labels))
    x, labels = copy_memory(6, 12)
    symbols = F.one_hot(x[:, :5, :8].argmax(2), 8).float()
    assert predicted(symbols).tolist() == labels.tolist()
    assert cross_entropy(40 * symbols, labels).item() < 1e-6
    wrong = symbols.roll(1, 1)
    assert cross_entropy(40 * wrong, labels).item() > 10


def test_recordings_with_a_label_at_every_step(tmp_path):
    io = pytest.importorskip("scipy.io")
    torch.manual_seed(0)
    for part, n in (("train", 48), ("test", 12)):  # the wave is the previous input
        waves = torch.randint(6, (n, 10)).repeat_interleave(4, 1)
        y = F.one_hot(waves, 6)
        y[:, 30:33] = 0
        x = F.one_hot(waves % 4, 4) * (1 - 2 * (waves // 4))[..., None]
        content = {"x": x.numpy(), "y": y.numpy()}
        io.savemat(tmp_path / f"QTDB_{part}.mat", content)
    where = {"root": tmp_path, "progress": False, "echo": None}
    more = {"hidden": (24,), "batch_size": 8, "lr": 0.02, "leads": 0.0}
    result = sequence("qtdb", out=tmp_path / "run", epochs=8, **more, **where)
    assert result.accuracy > 0.5  # chance is a sixth
    assert (tmp_path / "run" / "sample.png").is_file()
    trained = snnfast.load(tmp_path / "run")
    x, labels = snnfast.data.qtdb(tmp_path, train=False)
    found = trained(x)
    right = ((found == labels).sum(1) / (labels >= 0).sum(1)).mean().item()
    assert right == pytest.approx(result.accuracy)
    assert trained.names(found[0, :2]).split()[0] in snnfast.data.QTDB_CLASSES
    data = sequence.load(sequence.preset("qtdb", validate=True), tmp_path)
    whole, _ = snnfast.data.qtdb(tmp_path)
    assert_equal(data.held_out[0], whole[[0, 1, 23, 24, 46, 47]])
    assert len(data.train[0]) == 42
    with pytest.raises(ValueError, match="sequence: qtdb needs its folder"):
        sequence("qtdb")


def test_leads_are_exchanged_and_inverted():
    x = torch.tensor([1, 2, 3, 4]).expand(4000, 5, 4)
    torch.manual_seed(0)
    found, counts = with_other_leads(x, 0.5).unique(dim=0, return_counts=True)
    assert_equal(found, found[:, :1].expand_as(found))
    shares = dict(zip(map(tuple, found[:, 0].tolist()), (counts / 4000).tolist()))
    expected = {(1, 2, 3, 4): 9, (2, 1, 3, 4): 3, (1, 2, 4, 3): 3, (2, 1, 4, 3): 1}
    expected |= {(*leads[2:], *leads[:2]): weight for leads, weight in expected.items()}
    assert shares == {leads: pytest.approx(weight / 32, abs=0.03) for leads, weight in expected.items()}
    assert_equal(with_other_leads(x, 0.0), x)


def test_eprop_learns_and_goes_on_bit_for_bit(tmp_path, monkeypatch):
    changes = {**SMALL, "rule": "eprop", "samples": 600, "hidden": (16, 16), "gain": 60.0, "lr": 0.01}
    whole = sequence("xor", out=tmp_path / "whole", epochs=3, **changes)
    assert whole.run.history[-1]["loss"] < whole.run.history[0]["loss"]

    settings = replace(whole.settings, epochs=3)
    interrupted(sequence, settings, tmp_path / "parts")
    again = quiet(sequence, settings, tmp_path / "parts", resume=True)
    for a, b in zip(again.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)

    def infinite(settings, data):
        network = model(settings, data)
        with torch.no_grad():
            network.layers[0].layer.weight.fill_(math.inf)
        return network

    model = sequence.model
    monkeypatch.setattr(sequence_train, "model", infinite)
    with pytest.raises(ValueError, match="fit: the norm of the gradient is nan in 10 steps in a row"):
        quiet(sequence, settings)
    with pytest.raises(ValueError, match="sequence: max_delay is for bptt"):
        sequence.preset("xor", rule="eprop", max_delay=3.0)


def test_recordings_of_nmnist_in_folds(tmp_path):
    for number in range(1, 25):  # the digit is the row
        places = [(t, x) for t in range(0, 200_000, 10_000) for x in (number, *range(25, 34))]
        events = (bytes([x, number % 2, 128 | t >> 16, t >> 8 & 255, t & 255]) for t, x in places)
        (tmp_path / f"{number}.bs2").write_bytes(b"".join(events))
    for name, numbers in (("train20", range(1, 21)), ("test4", range(21, 25))):
        (tmp_path / f"{name}.txt").write_text("".join(f"{n} {n % 2}\n" for n in numbers))
    small = {"hidden": (8,), "batch_size": 8}
    whole = sequence.load(sequence.preset("nmnist", **small), tmp_path)
    assert [len(part[0]) for part in (whole.train, whole.held_out)] == [20, 4]
    assert whole.train[0].shape == (20, 30, 2 * 34 * 34)
    fold = sequence.load(sequence.preset("nmnist", folds=4, fold=1, validate=True), tmp_path)
    assert [len(part[0]) for part in (fold.train, fold.held_out)] == [14, 4]
    with pytest.raises(ValueError, match="sequence: folds is for nmnist"):
        sequence.preset("xor", folds=3)
    result = sequence("nmnist", root=tmp_path, neuron="events", epochs=4, lr=0.1, progress=False, echo=None, **small)
    assert isinstance(result.model, EventNetwork)
    assert result.run.history[-1]["loss"] < result.run.history[0]["loss"]
    assert result.measured["parameters"] == 8 * (2 * 34 * 34 + 10)
    assert 0 < result.measured["rates"][0] <= 8 / 30
    for changes, message in (
        ({"dataset": "qtdb"}, "neurons events are for frames of events, such as nmnist, not qtdb"),
        ({"dataset": "nmnist", "readout": "last"}, "neurons events take readout mean or max, got last"),
        ({"dataset": "nmnist", "rule": "eprop"}, "rule is for neurons that run in steps, .*, got events"),
    ):
        with pytest.raises(ValueError, match=f"sequence: {message}"):
            sequence.preset(**{"neuron": "events"} | changes)


def test_learns_delayed_xor_of_few_steps():
    changes = {"samples": 2000, "hidden": (32,), "gain": 60.0}
    result = sequence("xor", **{**SMALL, **changes}, epochs=3, batch_size=32, lr=0.01)
    assert result.accuracy > 0.95
    assert result.measured["parameters"] == sum(p.numel() for p in result.model.parameters())
    assert 0 < result.measured["rates"][0] < 0.9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recurrent": False, "max_delay": 3.0}, "max_delay is for recurrent layers, got recurr"),
        ({"neuron": "lif", "spikes_adapt": True}, "spikes_adapt is for adlif, got lif"),
        ({"tau": 5.0}, "tau is for lif, alif and events, got adlif"),
        ({"dataset": "copy", "readout": "mean"}, "readout is for tasks with one answer, got copy"),
        ({"dataset": "mine.npz", "num_steps": 50}, "num_steps is for generated sequences, adding"),
        ({"leads": 0.5}, "leads is for qtdb, got adding"),
        ({"dataset": "smnist", "samples": 9}, "samples is for generated sequences, .*, got smnist"),
    ],
)
def test_settings_without_effect_are_refused(changes, message):
    with pytest.raises(ValueError, match=f"^sequence: {message}"):
        sequence.preset(**changes)
    assert sequence.preset("copy", recurrent=False).max_delay == 0
    assert sequence.preset(neuron="lif", tau=5.0).tau == 5


def test_spikes_alone_drive_the_adaptation_if_asked_for_also_after_resuming(tmp_path):
    call = partial(command.call, "train", "sequence", "--task", "copy", "--max-delay", 0)
    common = ("--steps", 12, "--samples", 64, "--hidden", 8, "--epochs", 1, "--out", tmp_path)
    call("--spikes-adapt", *common)
    assert json.loads((tmp_path / "result.json").read_text())["settings"]["spikes_adapt"] is True
    call("--spikes-adapt", *common, "--resume")
    text = " ".join(call(*common, "--resume", code=2).split())
    assert "spikes_adapt: True there, False here" in text


def test_command(tmp_path):
    call = partial(command.call, "train", "sequence")
    common = ("--steps", 12, "--samples", 64, "--hidden", 8, "--epochs", 1, "--out", tmp_path)
    text = call("--task", "copy", "--neuron", "lif", *common)
    assert "test accuracy" in text
    assert "parameters, spikes a neuron and step" in text
    found = json.loads((tmp_path / "result.json").read_text())
    assert found["settings"]["dataset"] == "copy"
    assert found["settings"]["neuron"] == "lif"
    assert "one of adding, xor, copy, smnist, psmnist" in " ".join(call("--task", "sum", code=2).split())
    text = call("--task", "xor", *common[:-1], tmp_path / "two", "--seeds", 2)
    assert "mean over 2 seeds" in text
    assert "learned XOR" not in text
    assert "MNIST in torchvision's layout" in " ".join(call("--task", "psmnist", code=2).split())
