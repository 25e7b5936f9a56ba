"""The procedure STDP: training that resumes bit for bit at any point, labels, scores."""

import json

import pytest
import torch
from procedures import PowerCutError, quiet

from snnfast.learning import assign_labels, predict
from snnfast.ops import DiehlCookResult
from snnfast.papers import DiehlAndCook2015
from snnfast_zoo import data
from snnfast_zoo.papers.diehl_cook2015 import readout
from snnfast_zoo.papers.diehl_cook2015 import train as diehl_cook2015
from snnfast_zoo.papers.procedures import stdp
from snnfast_zoo.train import figures
from snnfast_zoo.train.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from snnfast_zoo.train.figures import Figures
from snnfast_zoo.train.place import CHECKPOINT, RESULT, Data

QUICK = {"duration": 50.0, "theta_plus": 0.1}


def settings(**changes):
    return stdp.Settings(**{"neurons": 12, "epochs": 1, "seed": 3, "changes": QUICK, **changes})


def train(out, chosen=None, **options):
    return quiet(stdp, chosen or settings(), out, **options)


def assert_same_run(a, b):
    """Compare the contents of two runs' checkpoints, except the seconds."""
    a, b = (read_checkpoint(path / CHECKPOINT) for path in (a, b))
    for content in (a, b):
        content["history"] = [
            {name: value for name, value in row.items() if name != "seconds"} for row in content["history"]
        ]
    for name in ("kind", "epoch", "history", "settings"):
        assert a[name] == b[name]
    for name in ("model", "score"):
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=0)


@pytest.fixture
def few_images(monkeypatch):
    """Use 130 images, and no figures."""
    part = tuple(values[:130] for values in stdp.load(settings()).train)
    monkeypatch.setattr(diehl_cook2015, "load", lambda *arguments, **options: Data(part, part))
    monkeypatch.setattr(Figures, "draw", lambda figures, run: None)


@pytest.mark.parametrize("call", [1, 3, 4, 6])
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, monkeypatch, few_images, call):
    """The calls since the last epoch are repeated."""
    chosen = settings(epochs=2, images_per_call=50, changes=QUICK | {"lr_final": 0.1})
    train(tmp_path / "whole", chosen)
    assert len(read_checkpoint(tmp_path / "whole" / CHECKPOINT)["score"]["calls"]) == 6
    add, calls = diehl_cook2015.Responses.add, []

    def cut(score, *arguments):
        add(score, *arguments)  # the weights have changed, but not the position
        calls.append(1)
        if len(calls) == call:
            raise PowerCutError

    with monkeypatch.context() as patched:
        patched.setattr(diehl_cook2015.Responses, "add", cut)
        with pytest.raises(PowerCutError):
            train(tmp_path / "parts", chosen)
    assert read_checkpoint(tmp_path / "parts" / CHECKPOINT)["epoch"] == (call - 1) // 3
    train(tmp_path / "parts", chosen, resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_seed_gives_the_same_run_and_another_seed_another(tmp_path, few_images):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        train(tmp_path / name, settings(seed=seed))
    assert_same_run(tmp_path / "a", tmp_path / "b")
    one, two = (read_checkpoint(tmp_path / n / CHECKPOINT)["model"] for n in "ac")
    assert not torch.equal(one["xe.w"], two["xe.w"])


@pytest.fixture
def presented(monkeypatch):
    """Return a function that trains on images and returns rates, seeds and learning rate of every call.

    The network does not run.
    """
    calls = []

    def record(model, rates, *, seeds):
        calls.append((rates, seeds, model.rule.lr_post_triplet, model.settings.intensity))
        return DiehlCookResult(torch.ones(len(rates), model.neurons, dtype=torch.int32), None, None)

    def fit(chosen, images):
        monkeypatch.setattr(diehl_cook2015, "load", lambda *arguments, **options: Data(images, images))
        monkeypatch.setattr(readout, "assign", trained)
        with pytest.raises(PowerCutError):
            train(None, chosen)
        return calls

    def trained(*arguments, **options):
        raise PowerCutError

    monkeypatch.setattr(DiehlAndCook2015, "present", record)
    return fit


def test_every_image_is_presented_once_an_epoch_in_another_order(presented):
    pixels = torch.arange(37.0)[:, None, None, None].expand(37, 1, 8, 8) / 37
    calls = presented(settings(epochs=2), (pixels, torch.zeros(37, dtype=torch.int64)))
    first, second = (rates[:, 0, 0, 0] / white * 37 for rates, _, _, white in calls)
    for order in (first, second):
        assert sorted(order.round().tolist()) == list(range(37))
    assert not torch.equal(first, second)
    assert len(torch.cat([seeds for _, seeds, _, _ in calls]).unique()) == 74


def test_learning_rates_fall_between_calls(presented):
    images = torch.zeros(20, 1, 8, 8), torch.zeros(20, dtype=torch.int64)
    calls = presented(settings(epochs=2, images_per_call=10, lr_final=0.01), images)
    rates = [rate for _, _, rate, _ in calls]
    assert rates == pytest.approx([rates[0] * 0.01 ** (k / 4) for k in range(4)])


def test_running_accuracy_is_of_labels_from_earlier_images():
    part = tuple(values[:200] for values in stdp.load(settings()).train)
    parts, score = Data(part, part), diehl_cook2015.Responses(12, 10, torch.device("cpu"))
    torch.manual_seed(3)
    model = stdp.model(settings(), parts)
    counts = model.present(part[0] * 300, seeds=torch.arange(200)).counts
    score.start()
    for k in (slice(100), slice(100, 200)):
        score.add(counts[k], part[1][k], None)
    assert "accuracy" not in score.calls[0]
    predicted = predict(counts[100:], assign_labels(counts[:100], part[1][:100], 10))
    expected = float((predicted == part[1][100:]).double().mean())
    assert score.calls[1]["accuracy"] == pytest.approx(expected)
    assert score.calls[1]["spikes"] == pytest.approx(counts[100:].sum().item() / 100)
    assert score.row() == pytest.approx(
        {
            "accuracy": expected,
            "spikes": counts.sum().item() / 200,
            "silent": (counts.sum(1) == 0).double().mean().item(),
        }
    )


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
    pixels = torch.arange(12_000.0)[:, None, None, None].expand(-1, 1, 28, 28)
    labels = torch.arange(12_000) % 10
    monkeypatch.setattr(data, "load", lambda name, root, split, download: split)
    monkeypatch.setattr(data, "as_tensors", lambda part, dtype: (pixels, labels))
    parts = stdp.load(settings(dataset="mnist", validate=True))
    assert parts.train[0][:, 0, 0, 0].tolist() == list(range(2000))
    assert parts.held_out[0][:, 0, 0, 0].tolist() == list(range(2000, 12_000))


def test_labels_and_scores_follow_from_the_checkpoint(tmp_path):
    chosen = settings(epochs=2, validate=True)
    trained = train(tmp_path, chosen)
    stored, run, parts = stdp.reopen(tmp_path)
    assert stored == chosen
    weights = run.model.xe.w.clone()
    assigned = readout.assign(stored, run, parts, progress=False)
    torch.testing.assert_close(
        readout.stored(stored, run, parts, tmp_path)._asdict(), assigned._asdict(), rtol=0, atol=0
    )
    result = readout.infer(stored, run, parts, assigned, progress=False)
    torch.testing.assert_close(run.model.xe.w, weights, rtol=0, atol=0)
    assert (result.accuracy, result.measured) == (trained.accuracy, trained.measured)
    assert result.split == "validation"
    confusion = torch.tensor(result.measured["confusion"])
    assert confusion.sum() == 287
    assert confusion.trace().item() / 287 == pytest.approx(result.accuracy)
    assert result.accuracy == result.measured["votes"]["mean"] > 0.3
    content = json.loads((tmp_path / RESULT).read_text())
    assert content["accuracy"] == result.accuracy
    assert content["settings"]["seed"] == 3
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        *("checkpoint.pt", "labels.pt", "result.json", "confusion.png"),
        *("curves.png", "receptive_fields.png"),
    }
    # The labels equal those from the responses to the last training images.
    pixels, labels = parts.train
    counts = readout.responses(run.model, pixels[-500:], stored.seed, "assign", progress=False)
    again = assign_labels(counts, labels[-500:], 10)
    fewer = readout.assign(stored, run, parts, images=500, progress=False).assigned
    torch.testing.assert_close(fewer.rates, again.rates, rtol=0, atol=0)
    assert not torch.equal(fewer.rates, assigned.assigned.rates)


def test_silence_is_warned_of(tmp_path, few_images):
    chosen = settings(changes={**QUICK, "v_threshold": 1000.0})
    with (
        pytest.warns(UserWarning, match="stdp: assign: 100 % of the images .* raise --intensity"),
        pytest.raises(ValueError, match="no neuron has a class"),
    ):
        train(tmp_path, chosen)


@pytest.mark.parametrize(("least", "images"), [(100, 200), (300, 300)])
def test_more_neurons_are_labelled_by_more_images(tmp_path, monkeypatch, least, images):
    monkeypatch.setattr(readout, "ASSIGNMENT_IMAGES", least)
    result = train(tmp_path, settings(neurons=20, epochs=0))
    assert result.measured["votes"].keys() == {"mean", "proportion"}
    assert json.loads((tmp_path / RESULT).read_text())["assignment_images"] == images


def test_labels_of_another_state_are_refused(tmp_path):
    train(tmp_path, settings(epochs=0))
    reopened = stdp.reopen(tmp_path)
    readout.stored(*reopened, tmp_path)
    reopened[1].epoch = 1
    with pytest.raises(CheckpointError, match="of an earlier state of the network; assign again"):
        readout.stored(*reopened, tmp_path)
    (tmp_path / readout.LABELS).unlink()
    with pytest.raises(FileNotFoundError, match="assign them first"):
        readout.stored(*reopened, tmp_path)
    with pytest.raises(ValueError, match="images must be at least 1, got 0"):
        readout.assign(*reopened, tmp_path, images=0)


def test_a_run_is_neither_overwritten_nor_resumed_with_other_settings(tmp_path):
    train(tmp_path, settings(epochs=0))
    before = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(FileExistsError, match="resume it"):
        train(tmp_path, settings(epochs=0))
    with pytest.raises(CheckpointError, match="neurons: 12 there, 13 here"):
        train(tmp_path, settings(epochs=0, neurons=13), resume=True)
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        train(tmp_path / "elsewhere", settings(epochs=0), resume=True)
    assert (tmp_path / CHECKPOINT).read_bytes() == before
    (tmp_path / CHECKPOINT).write_bytes(b"precious")
    with pytest.raises(CheckpointError, match="no readable checkpoint"):
        stdp.reopen(tmp_path)
    write_checkpoint(tmp_path / CHECKPOINT, {"kind": "stdp", "settings": {"hidden": 3}})
    with pytest.raises(CheckpointError, match="is not of a run of stdp"):
        stdp.reopen(tmp_path)
    write_checkpoint(tmp_path / CHECKPOINT, {"kind": "stbp", "settings": {}})
    with pytest.raises(CheckpointError, match="must be of kind 'stdp', got one of kind 'stbp'"):
        stdp.reopen(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "cifar"}, "dataset must be one of digits, mnist, or your own: .*, got 'cifar'"),
        ({"neurons": 0}, "neurons must be at least 1, got 0"),
        ({"preset": "best"}, "preset must be one of manual, n3ml, paper, tuned, got 'best'"),
        ({"epochs": -1}, "epochs must be at least 0, got -1"),
        ({"images_per_call": 0}, "images_per_call must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"changes": {"rule": "hebb"}}, "rule must be one of pair, .*, got 'hebb'"),
        ({"changes": {"speed": 3}}, "there is no setting 'speed'"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=f"stdp: {message}"):
        settings(**changes)


@pytest.mark.parametrize("dataset", ["digits", "mnist"])
def test_every_preset_fits_every_data_set(dataset):
    for preset in ("manual", "n3ml", "paper"):
        assert stdp.Settings(dataset=dataset, preset=preset).network(100)
    chosen = stdp.Settings(dataset=dataset, preset="tuned", changes={"inhibition": 70.0})
    assert chosen.network(100).neurons.inhibition == 70
    tuned = stdp.Settings(dataset=dataset, preset="tuned").network(100)
    assert tuned.neurons.inhibition == {"digits": 120, "mnist": 160}[dataset]


def test_figures_take_a_twentieth_of_the_time(tmp_path, monkeypatch):
    clock, drawn = [0.0], []

    def draw(run):
        drawn.append(clock[0])
        clock[0] += 1.0  # a second to draw

    drawing = Figures(tmp_path, {"fields": draw}, every=0.0)
    monkeypatch.setattr(figures.time, "monotonic", lambda: clock[0])
    while clock[0] < 45:
        drawing.update(None)
        clock[0] += 0.5
    assert drawn == [0.0, 21.0, 42.0]
