"""STDP's procedure: training that goes on bit for bit wherever it stopped, labels, scores."""

import json
import math

import pytest
import torch

from snnfast import data
from snnfast.learning import assign_labels, predict
from snnfast.procedure import stdp, stdp_readout
from snnfast.train import CheckpointError, read_checkpoint

QUICK = {"time_interval": 50.0, "theta_plus": 0.1}


def settings(**changes):
    return stdp.Settings(**{"neurons": 12, "epochs": 1, "seed": 3, "changes": QUICK, **changes})


def train(out, chosen=None, **options):
    return stdp.train(chosen or settings(), out, progress=False, echo=None, **options)


def assert_same_run(a, b):
    """Whatever a checkpoint holds but the seconds."""
    a, b = (read_checkpoint(path / stdp.CHECKPOINT) for path in (a, b))
    assert a.keys() == b.keys()
    for name in ("epoch", "images", "history", "settings"):
        assert a[name] == b[name]
    torch.testing.assert_close(a["sums"], b["sums"], rtol=0, atol=0)
    torch.testing.assert_close(a["seen"], b["seen"], rtol=0, atol=0)
    assert_same_weights(a["model"], b["model"])


def assert_same_weights(a, b):
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=0, msg=lambda m, n=name: f"{n}: {m}")


class PowerCutError(Exception):
    pass


@pytest.fixture
def few_images(monkeypatch):
    """130 images, and no figures."""
    whole = stdp.load(settings())
    part = stdp.Data(*((images[:130], labels[:130]) for images, labels in (whole.train,) * 2))
    monkeypatch.setattr(stdp, "load", lambda *arguments, **options: part)
    monkeypatch.setattr(stdp.Figures, "draw", lambda figures, run: None)


@pytest.mark.parametrize("save_every", [0.0, math.inf])
@pytest.mark.parametrize("call", [1, 3, 4, 6])
def test_an_interrupted_run_goes_on_bit_for_bit(
    tmp_path, monkeypatch, few_images, call, save_every
):
    """Between saves too: what was learned since the last one is learned again."""
    chosen = settings(epochs=2, images_per_call=50, changes=QUICK | {"lr_final": 0.1})
    monkeypatch.setattr(stdp, "SAVE_EVERY", save_every)
    train(tmp_path / "whole", chosen)
    assert len(read_checkpoint(tmp_path / "whole" / stdp.CHECKPOINT)["history"]) == 6
    learn, calls = stdp.Run.learn, []

    def cut(run, *arguments):
        learn(run, *arguments)  # the weights have changed, the position has not
        calls.append(1)
        if len(calls) == call:
            raise PowerCutError

    with monkeypatch.context() as patched:
        patched.setattr(stdp.Run, "learn", cut)
        with pytest.raises(PowerCutError):
            train(tmp_path / "parts", chosen)
    saved = read_checkpoint(tmp_path / "parts" / stdp.CHECKPOINT)
    assert (saved["epoch"], saved["images"]) == (
        (call - 1) // 3,
        (call - 1) % 3 * 50 if save_every == 0 else 0,
    )
    train(tmp_path / "parts", chosen, resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_seed_gives_the_same_run_and_another_seed_another(tmp_path, few_images):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        train(tmp_path / name, settings(seed=seed))
    assert_same_run(tmp_path / "a", tmp_path / "b")
    one, two = (read_checkpoint(tmp_path / n / stdp.CHECKPOINT)["model"] for n in "ac")
    assert not torch.equal(one["xe.w"], two["xe.w"])


def test_every_image_is_presented_once_an_epoch_in_another_order(monkeypatch):
    run = stdp.prepare(settings(epochs=2), 37)
    shown = []
    monkeypatch.setattr(stdp.Run, "learn", lambda run, x, y, seeds: record(run, x, seeds))

    def record(run, images, seeds):
        shown.append((images[:, 0, 0, 0], seeds))
        run.history.append({"spikes": 0.0, "silent": 0.0})

    pixels = torch.arange(37.0)[:, None, None, None].expand(37, 1, 8, 8) / 37
    stdp.fit(run, (pixels, torch.zeros(37, dtype=torch.int64)), progress=False, echo=None)
    first, second = (part[0] / run.model.settings.intensity * 37 for part in shown)
    for order in (first, second):
        assert sorted(order.round().tolist()) == list(range(37))
    assert not torch.equal(first, second)
    assert len(torch.cat([part[1] for part in shown]).unique()) == 74


def test_learning_rates_fall_between_calls(monkeypatch):
    run = stdp.prepare(settings(epochs=2, images_per_call=10, changes={"lr_final": 0.01}), 20)
    rates = []

    def record(run, *arguments):
        rates.append(run.model.rule.lr_post_triplet)
        run.history.append({"spikes": 0.0, "silent": 0.0})

    monkeypatch.setattr(stdp.Run, "learn", record)
    images = torch.zeros(20, 1, 8, 8), torch.zeros(20, dtype=torch.int64)
    stdp.fit(run, images, progress=False, echo=None)
    assert rates == pytest.approx([rates[0] * 0.01 ** (k / 4) for k in range(4)])


def test_running_accuracy_is_of_labels_from_earlier_images():
    run = stdp.prepare(settings(), 200)
    images, labels = data.as_tensors(data.digits("train"))
    seeds = torch.arange(200)
    model = stdp.prepare(settings(), 200).model
    counts = torch.cat(
        [
            model.present(part * 300, seeds=s).counts
            for part, s in zip(images[:200].split(100), seeds.split(100))
        ]
    )
    for part in (slice(100), slice(100, 200)):
        run.learn(images[part] * 300, labels[part], seeds[part])
    assert "accuracy" not in run.history[0]
    predicted = predict(counts[100:], assign_labels(counts[:100], labels[:100], 10))
    expected = (predicted == labels[100:200]).double().mean()
    assert run.history[1]["accuracy"] == pytest.approx(float(expected))
    assert run.history[1]["spikes"] == pytest.approx(counts[100:].sum().item() / 100)


def test_splits_share_no_image():
    chosen = settings(validate=True)
    parts = stdp.load(chosen)
    assert (len(parts.train[0]), len(parts.held_out[0])) == (1151, 287)
    whole = stdp.load(settings())
    assert (len(whole.train[0]), len(whole.held_out[0])) == (1438, 359)
    seen = {tuple(x.flatten().tolist()) for x in parts.train[0]}
    shared = sum(tuple(x.flatten().tolist()) in seen for x in parts.held_out[0])
    assert shared == 0


def test_mnist_validates_on_the_last_training_images(monkeypatch):
    images = torch.arange(12_000.0)[:, None, None, None]
    monkeypatch.setattr(data, "load", lambda name, root, split, download: split)
    monkeypatch.setattr(data, "as_tensors", lambda part: (images, images.flatten().long()))
    parts = stdp.load(settings(dataset="mnist", validate=True))
    assert parts.train[1].tolist() == list(range(2000))
    assert parts.held_out[1].tolist() == list(range(2000, 12_000))


def test_labels_and_scores_follow_from_the_checkpoint(tmp_path):
    train(tmp_path, settings(epochs=2, validate=True))
    of = stdp_readout.trained(tmp_path)
    weights = of.run.model.xe.w.clone()
    assigned = stdp_readout.assign(of, tmp_path, progress=False)
    result = stdp_readout.infer(stdp_readout.trained(tmp_path), tmp_path, progress=False)
    torch.testing.assert_close(of.run.model.xe.w, weights, rtol=0, atol=0)
    assert result.split == "validation"
    assert result.confusion.sum() == 287
    assert result.confusion.trace().item() / 287 == pytest.approx(result.accuracy["mean"])
    assert result.accuracy["mean"] > 0.3
    stored = json.loads((tmp_path / stdp_readout.RESULT).read_text())
    assert stored["accuracy"] == result.accuracy
    assert stored["settings"]["seed"] == 3
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        *("checkpoint.pt", "labels.pt", "result.json", "confusion.png"),
        *("curves.png", "receptive_fields.png"),
    }
    # The same labels from the responses to the last training images.
    pixels, labels = of.images.train
    counts = stdp_readout.responses(of.run, pixels[-500:], stream=1, title="", progress=False)
    again = assign_labels(counts, labels[-500:], 10)
    fewer = stdp_readout.assign(of, tmp_path, images=500, progress=False)
    torch.testing.assert_close(fewer.rates, again.rates, rtol=0, atol=0)
    assert not torch.equal(fewer.rates, assigned.rates)


@pytest.mark.parametrize(("least", "images"), [(100, 200), (300, 300)])
def test_more_neurons_are_labelled_by_more_images(tmp_path, monkeypatch, least, images):
    monkeypatch.setattr(stdp_readout, "ASSIGNMENT_IMAGES", least)
    train(tmp_path, settings(neurons=20, epochs=0))
    of = stdp_readout.trained(tmp_path)
    stdp_readout.assign(of, tmp_path, progress=False)
    assert stdp_readout.infer(of, tmp_path, progress=False).accuracy.keys() == {
        "mean",
        "proportion",
    }
    assert json.loads((tmp_path / stdp_readout.RESULT).read_text())["assignment_images"] == images


def test_labels_of_another_state_are_refused(tmp_path):
    train(tmp_path, settings(epochs=0))
    of = stdp_readout.trained(tmp_path)
    with pytest.raises(FileNotFoundError, match="assign them first"):
        stdp_readout.infer(of, tmp_path, progress=False)
    stdp_readout.assign(of, tmp_path, images=100, progress=False)
    stdp_readout.infer(of, tmp_path, progress=False)
    of.run.images = 100
    with pytest.raises(CheckpointError, match="of an earlier state of the network; assign again"):
        stdp_readout.infer(of, tmp_path, progress=False)
    with pytest.raises(ValueError, match="images must be at least 1, got 0"):
        stdp_readout.assign(of, tmp_path, images=0)


def test_a_run_is_neither_overwritten_nor_resumed_with_other_settings(tmp_path):
    train(tmp_path, settings(epochs=0))
    before = (tmp_path / stdp.CHECKPOINT).read_bytes()
    with pytest.raises(FileExistsError, match="resume it"):
        train(tmp_path, settings(epochs=0))
    with pytest.raises(CheckpointError, match="neurons: 12 there, 13 here"):
        train(tmp_path, settings(epochs=0, neurons=13), resume=True)
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        train(tmp_path / "elsewhere", settings(epochs=0), resume=True)
    assert (tmp_path / stdp.CHECKPOINT).read_bytes() == before
    (tmp_path / stdp.CHECKPOINT).write_bytes(b"precious")
    with pytest.raises(CheckpointError, match="no readable checkpoint"):
        stdp_readout.trained(tmp_path)
    torch.save({"format": 1, "settings": {"hidden": 3}}, tmp_path / stdp.CHECKPOINT)
    with pytest.raises(CheckpointError, match="is not of an STDP run"):
        stdp_readout.trained(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "cifar"}, "dataset must be one of digits, mnist, got 'cifar'"),
        ({"neurons": 0}, "neurons must be at least 1, got 0"),
        ({"preset": "best"}, "preset must be one of manual, n3ml, paper, tuned, got 'best'"),
        ({"epochs": -1}, "epochs must not be negative, got -1"),
        ({"images_per_call": 0}, "images_per_call must be at least 1, got 0"),
        ({"seed": -1}, r"seed must lie in \[0, 2\*\*32\), got -1"),
        ({"changes": {"rule": "hebb"}}, "rule must be one of pair, .*, got 'hebb'"),
        ({"changes": {"speed": 3}}, "there is no setting 'speed'"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=f"stdp: {message}"):
        settings(**changes)


@pytest.mark.parametrize("dataset", stdp.DATASETS)
def test_every_preset_fits_every_data_set(dataset):
    for preset in ("manual", "n3ml", "paper"):
        assert stdp.Settings(dataset=dataset, preset=preset).network(100)
    chosen = stdp.Settings(dataset=dataset, preset="tuned", changes={"inhibition": 70.0})
    assert chosen.network(100).neurons.inhibition == 70
    tuned = stdp.Settings(dataset=dataset, preset="tuned").network(100)
    assert tuned.neurons.inhibition == {"digits": 120, "mnist": 160}[dataset]


def test_figures_take_a_twentieth_of_the_time(tmp_path, monkeypatch):
    run = stdp.prepare(settings(), 100)
    figures = stdp.Figures(tmp_path, every=0.0)
    now, drawn = [0.0], []
    monkeypatch.setattr(stdp.time, "monotonic", lambda: now[0])

    def draw(run):
        drawn.append(now[0])
        now[0] += 1.0  # a second to draw
        return stdp.visual.receptive_fields(torch.zeros(1, 4))

    monkeypatch.setattr(stdp, "receptive_fields", draw)
    while now[0] < 45:
        figures.update(run)
        now[0] += 0.5
    assert drawn == [0.0, 21.0, 42.0]
