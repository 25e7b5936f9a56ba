import math
import re
import sys

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from snnfast import visual

pytestmark = pytest.mark.usefixtures("drawn")


def pixels(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def spike_marks(figure):
    return [tuple(offset) for offset in figure.axes[0].collections[0].get_offsets()]


def image_of(figure):
    return figure.axes[0].images[0]


FIGURES = {
    "raster": lambda: visual.raster(torch.eye(4)),
    "potentials": lambda: visual.potentials(torch.rand(5, 2), 1.0, torch.ones(5, 2)),
    "receptive_fields": lambda: visual.receptive_fields(torch.rand(3, 4)),
    "curves": lambda: visual.curves({"accuracy": [0.5, 0.6], "loss": [1.0, 0.8]}),
    "confusion": lambda: visual.confusion(torch.eye(3)),
    "rasters": lambda: visual.rasters({"a": torch.eye(4), "b": torch.zeros(4, 2)}),
    "traces": lambda: visual.traces({"a": torch.rand(5, 3), "b": torch.rand(5, 1)}),
    "histograms": lambda: visual.histograms(
        {"a": torch.rand(50), "b": torch.ones(9), "c": torch.zeros(2), "d": torch.rand(3, 3)}, xlabel="Weight"
    ),
    "spike_times": lambda: visual.spike_times({"input": [0.0, 2.0], "output": [5.0, math.inf]}),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_function_returns_a_drawable_figure(name):
    figure = FIGURES[name]()
    assert isinstance(figure, Figure)
    assert len(np.unique(pixels(figure))) > 2


@pytest.mark.parametrize("name", FIGURES)
def test_figures_leave_pyplot_alone(name, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    visual.save(FIGURES[name](), tmp_path / "figure.png", dpi=40)


@pytest.mark.parametrize("make", [torch.tensor, np.array, list], ids=["tensor", "numpy", "nested list"])
def test_tensors_arrays_and_lists_are_drawn_alike(make):
    assert spike_marks(visual.raster(make([[0, 1], [1, 0]]))) == [(0, 1), (1, 0)]


def test_bfloat16_with_gradient_is_drawn():
    v = torch.ones(3, 1, dtype=torch.bfloat16, requires_grad=True)
    assert isinstance(visual.potentials(v), Figure)


# raster


def test_raster_marks_every_spike_at_its_time():
    spikes = torch.zeros(10, 3)
    spikes[2, 0] = spikes[7, 2] = 1
    figure = visual.raster(spikes, dt=0.5, unit="ms", title="A title")
    assert spike_marks(figure) == [(1.0, 0), (3.5, 2)]
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Time (ms)", "Neuron")
    assert axes.get_title(loc="left") == "A title"
    assert axes.get_xlim() == (-0.25, 4.75)


def test_raster_takes_one_sample_of_a_batch_and_flattens_its_neurons():
    spikes = torch.zeros(4, 3, 2, 2)
    spikes[1, 2, 1, 0] = 1
    assert spike_marks(visual.raster(spikes, sample=2)) == [(1, 2)]
    assert spike_marks(visual.raster(spikes)) == []


def test_raster_draws_into_given_axes():
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert visual.raster(torch.eye(3), ax=right) is figure
    assert len(right.collections) == 1
    assert not left.collections


# potentials


def test_potentials_have_a_row_a_neuron_with_threshold_and_spikes():
    v = torch.rand(6, 3)
    spikes = torch.zeros(6, 3)
    spikes[4, 1] = 1
    figure = visual.potentials(v, [1.0, 1.5, 2.0], spikes, dt=2.0, unit="ms")
    assert len(figure.axes) == 3
    for neuron, axes in enumerate(figure.axes):
        trace, line = axes.lines
        np.testing.assert_allclose(trace.get_ydata(), v[:, neuron])
        np.testing.assert_allclose(trace.get_xdata(), [0, 2, 4, 6, 8, 10])
        assert line.get_ydata()[0] == 1 + 0.5 * neuron
    assert [len(axes.collections[0].get_offsets()) for axes in figure.axes] == [0, 1, 0]
    assert figure.axes[1].collections[0].get_offsets()[0][0] == 8.0
    assert figure.axes[-1].get_xlabel() == "Time (ms)"


def test_potentials_of_a_silent_constant_membrane():
    pixels(visual.potentials(torch.zeros(3, 1), 0.0, torch.zeros(3, 1)))


# receptive_fields


@pytest.mark.parametrize(("n", "columns", "grid"), [(1, None, (1, 1)), (10, None, (3, 4)), (5, 2, (3, 2))])
def test_receptive_fields_tile_any_number_of_neurons(n, columns, grid):
    w = torch.rand(n, 6)
    shown = image_of(visual.receptive_fields(w, shape=(2, 3), columns=columns)).get_array()
    if columns is None and n > 1:
        assert shown.count() == n * 6
        return
    rows, used = grid
    assert shown.shape == (rows * 3 - 1, used * 4 - 1)
    last = n - 1
    top, left = last // used * 3, last % used * 4
    np.testing.assert_allclose(shown[top : top + 2, left : left + 3], w[last].reshape(2, 3))


def test_receptive_fields_are_square_by_default_and_may_be_images():
    flat, images = torch.rand(2, 16), torch.rand(2, 4, 5)
    assert image_of(visual.receptive_fields(flat, columns=2)).get_array().shape == (4, 9)
    assert image_of(visual.receptive_fields(images, columns=2)).get_array().shape == (4, 11)


def test_receptive_fields_of_both_signs_are_symmetric_about_zero():
    signed = image_of(visual.receptive_fields(torch.tensor([[-0.5, 0, 0, 2.0]])))
    assert signed.get_clim() == (-2, 2)
    positive = image_of(visual.receptive_fields(torch.tensor([[0.25, 0.5, 0.5, 1]])))
    assert positive.get_clim() == (0.25, 1)
    assert positive.get_cmap().name != signed.get_cmap().name
    limited = image_of(visual.receptive_fields(torch.rand(1, 4), limits=(0, 3)))
    assert limited.get_clim() == (0, 3)


def test_receptive_fields_of_equal_weights():
    pixels(visual.receptive_fields(torch.zeros(2, 4)))


# curves


def test_curves_draw_accuracy_in_per_cent_beside_loss():
    history = {"train_loss": [2.0, 1.0], "train_acc": [0.5, 0.75], "test_acc": [0.25, 0.5]}
    left, right = visual.curves(history).axes
    assert (left.get_ylabel(), right.get_ylabel()) == ("Accuracy (%)", "Loss")
    assert left.get_xlabel() == right.get_xlabel() == "Epoch"
    np.testing.assert_allclose(left.lines[0].get_ydata(), [50, 75])
    np.testing.assert_allclose(left.lines[0].get_xdata(), [1, 2])
    np.testing.assert_allclose(right.lines[0].get_ydata(), [2, 1])
    assert [t.get_text() for t in left.get_legend().get_texts()] == ["Train acc", "Test acc"]


def test_train_and_test_look_the_same_in_both_axes():
    history = {"test_loss": [1.0], "train_loss": [2.0], "train_acc": [0.5], "test_acc": [0.5]}
    left, right = visual.curves(history).axes
    style = {line.get_label().split()[0]: line.get_color() for line in left.lines}
    assert style == {line.get_label().split()[0]: line.get_color() for line in right.lines}
    assert style["Train"] != style["Test"]


def test_other_series_get_their_own_axes():
    figure = visual.curves({"firing_rate": [0.1, 0.2, 0.3], "loss": [1.0]}, title="Both")
    assert [axes.get_ylabel() for axes in figure.axes] == ["Loss", "Firing rate"]


# confusion


def test_confusion_shows_counts_and_accuracy():
    figure = visual.confusion(torch.tensor([[8, 2], [0, 10]]), labels=["no", "yes"])
    axes = figure.axes[0]
    assert axes.get_title(loc="left") == "Accuracy 90.0 % (18 of 20)"
    assert sorted(text.get_text() for text in axes.texts) == ["10", "2", "8"]
    np.testing.assert_allclose(image_of(figure).get_array(), [[80, 20], [0, 100]])
    assert [t.get_text() for t in axes.get_xticklabels()] == ["no", "yes"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Predicted class", "True class")


def test_confusion_of_an_absent_class_and_of_many_classes():
    figure = visual.confusion([[3, 0], [0, 0]])
    np.testing.assert_allclose(image_of(figure).get_array(), [[100, 0], [0, 0]])
    assert not visual.confusion(np.eye(30)).axes[0].texts


# bad input

NAN = float("nan")
BAD = [
    (visual.raster, (torch.zeros(5),), {}, "spikes must have shape [T, N] or [T, B, ...], got [5]"),
    (visual.raster, (torch.zeros(0, 3),), {}, "spikes must not be empty, got shape [0, 3]"),
    (visual.raster, ([[0.0, NAN]],), {}, "spikes must be finite, got nan at index [0, 1]"),
    (visual.raster, ([[0.0, -0.5]],), {}, "spikes must not be negative, got -0.5"),
    (visual.raster, ([[1], [1, 2]],), {}, "spikes must hold numbers in one shape, got list"),
    (visual.raster, (["a", "b"],), {}, "spikes must hold numbers in one shape, got list"),
    (visual.raster, (torch.zeros(2, 3, 4),), {"sample": 3}, "sample must lie in [0, 3), the batch"),
    (visual.raster, (torch.zeros(2, 3),), {"dt": 0}, "dt must be positive, got 0"),
    (visual.potentials, (torch.zeros(5),), {}, "v must have shape [T, N] or [T, B, ...], got [5]"),
    (visual.potentials, (torch.zeros(5, 0),), {}, "v must not be empty, got shape [5, 0]"),
    (visual.potentials, (torch.zeros(5, 17),), {}, "v must have at most 16 neurons, got 17"),
    (visual.potentials, ([[float("inf")]],), {}, "v must be finite, got inf at index [0, 0]"),
    (visual.potentials, ([[0.0]],), {"dt": NAN}, "dt must be finite, got nan"),
    (visual.potentials, ([[0.0]], NAN), {}, "threshold must be finite, got nan at index []"),
    (
        visual.potentials,
        (torch.zeros(5, 2), [1.0] * 3),
        {},
        "threshold must be a number or have shape [2], got shape [3]",
    ),
    (
        visual.potentials,
        (torch.zeros(5, 2), 1.0, torch.zeros(5, 1)),
        {},
        "spikes must have the shape of v, [5, 2], got [5, 1]",
    ),
    (visual.receptive_fields, ([1.0],), {}, "w must have shape [n, pixels] or [n, H, W], got [1]"),
    (visual.receptive_fields, (torch.zeros(0, 4),), {}, "w must not be empty, got shape [0, 4]"),
    (visual.receptive_fields, ([[NAN]],), {}, "w must be finite, got nan at index [0, 0]"),
    (visual.receptive_fields, (torch.zeros(2, 5),), {}, "w with 5 pixels a neuron is not square"),
    (
        visual.receptive_fields,
        (torch.zeros(2, 6),),
        {"shape": (2, 2)},
        "shape must be (H, W) with H * W = 6, got (2, 2)",
    ),
    (
        visual.receptive_fields,
        (torch.zeros(2, 3, 2),),
        {"shape": (2, 3)},
        "shape must be that of w, [3, 2], got [2, 3]",
    ),
    (visual.receptive_fields, ([[0.0]],), {"columns": 0}, "columns must be at least 1, got 0"),
    (visual.receptive_fields, ([[0.0]],), {"limits": (1, 1)}, "limits must rise, got (1, 1)"),
    (visual.curves, ([1.0],), {}, "history must map names to values, got list"),
    (visual.curves, ({},), {}, "history must have at least one series, got none"),
    (visual.curves, ({"loss": []},), {}, "history['loss'] must not be empty, got shape [0]"),
    (visual.curves, ({"loss": [1, NAN]},), {}, "history['loss'] must be finite, got nan at index"),
    (visual.curves, ({"loss": [[1.0]]},), {}, "history['loss'] must be a sequence of numbers"),
    (visual.curves, ({"acc": [93.5]},), {}, "history['acc'] must be fractions in [0, 1], got 93.5"),
    (visual.confusion, (torch.zeros(2, 3),), {}, "matrix must have shape [C, C], got [2, 3]"),
    (visual.confusion, (torch.zeros(0, 0),), {}, "matrix must not be empty, got shape [0, 0]"),
    (visual.confusion, ([[-1]],), {}, "matrix must not be negative, got -1"),
    (visual.confusion, ([[NAN]],), {}, "matrix must be finite, got nan at index [0, 0]"),
    (visual.confusion, ([[0]],), {}, "matrix must count at least one item, got only zeros"),
    (visual.confusion, ([[1]],), {"labels": ["a", "b"]}, "labels must have 1 names, got 2"),
]


@pytest.mark.parametrize(("function", "arguments", "options", "message"), BAD)
def test_bad_input_is_named(function, arguments, options, message):
    with pytest.raises(ValueError, match=re.escape(f"{function.__name__}: {message}")):
        function(*arguments, **options)


# save and Live


@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF")])
def test_save_writes_the_format_of_the_suffix(tmp_path, name, start):
    path = visual.save(visual.raster(torch.eye(2)), tmp_path / "new" / name)
    assert path == tmp_path / "new" / name
    assert path.read_bytes().startswith(start)
    assert [file.name for file in path.parent.iterdir()] == [name]


def test_save_defaults_to_png_and_replaces(tmp_path):
    figure = visual.raster(torch.eye(2))
    first = visual.save(figure, str(tmp_path / "figure"))
    assert first.name == "figure.png"
    size = first.stat().st_size
    assert visual.save(figure, first, dpi=40).stat().st_size < size


def test_save_names_bad_input(tmp_path):
    with pytest.raises(ValueError, match=r"save: path must end in one of .*png.*, got 'a\.xyz'"):
        visual.save(visual.raster(torch.eye(2)), tmp_path / "a.xyz")
    with pytest.raises(TypeError, match="save: figure must be a Figure, got str"):
        visual.save("figure", tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    figure = visual.raster(torch.eye(2))
    path = visual.save(figure, tmp_path / "a.png")
    before = path.read_bytes()

    def fail(file, **_):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        visual.save(figure, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_live_without_a_display_only_writes_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("matplotlib.get_backend", lambda: "agg")
    monkeypatch.setattr(visual.Live, "_show", None)
    live = visual.Live(tmp_path / "live")
    live.update(visual.curves({"loss": [1.0]}))
    before = live.path.read_bytes()
    live.update(visual.curves({"loss": [1.0, 0.5]}))
    assert live.path == tmp_path / "live.png"
    assert live.path.read_bytes() != before
    live.close()


def test_live_opens_a_window_where_matplotlib_has_one(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("matplotlib.get_backend", lambda: "QtAgg")
    monkeypatch.setattr(visual.Live, "_show", lambda self, figure: shown.append(figure))
    figure = visual.raster(torch.eye(2))
    visual.Live(tmp_path / "live.png").update(figure)
    assert shown == [figure]


def test_live_redraws_one_window_and_notices_that_it_was_closed(tmp_path, monkeypatch):
    from matplotlib import pyplot

    monkeypatch.setattr(Figure, "show", lambda self: None)
    pyplot.switch_backend("agg")
    live = visual.Live(tmp_path / "live.png", window=True)
    live.update(visual.raster(torch.eye(2)))
    live.update(visual.raster(torch.eye(3)))
    (number,) = pyplot.get_fignums()
    (axes,) = pyplot.figure(number).axes
    assert len(axes.images) == 1
    pyplot.close("all")
    live.update(visual.raster(torch.eye(4)))
    live.update(visual.raster(torch.eye(5)))
    assert not pyplot.get_fignums()
    assert live.path.exists()
    other = visual.Live(tmp_path / "other.png", window=True)
    other.update(visual.raster(torch.eye(2)))
    other.close()
    assert not pyplot.get_fignums()


# spike_times


def test_spike_times_are_drawn_by_population_before_and_after():
    before = {"input": torch.tensor([0.0, 4.0, math.inf]), "output": [9.0, 11.0]}
    after = {"input": torch.tensor([0.0, 4.0, math.inf]), "output": [12.0, 8.0]}
    figure = visual.spike_times(before, after, mark=1, title="A title")
    input_before, input_after, output_before, output_after = figure.axes
    assert [tuple(o) for o in input_before.collections[0].get_offsets()] == [(0, 0), (4, 1)]
    assert [tuple(o) for o in output_after.collections[0].get_offsets()] == [(12, 0), (8, 1)]
    assert input_after.get_title(loc="right") == "1 silent"
    assert output_after.get_title(loc="right") == ""
    assert input_before.get_title(loc="left") == "before training"
    assert output_before.get_xlabel() == "Time (ms)"
    plain, marked = output_after.collections[0].get_edgecolors()
    assert tuple(plain) != tuple(marked)


def test_spike_times_of_silent_populations():
    pixels(visual.spike_times({"input": [math.inf], "output": [math.inf] * 3}, mark=0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({},), "before must have at least one population"),
        (({"a": [1.0]}, {"b": [1.0]}), "after must have the populations of before, ['a'], got"),
        (({"a": [math.nan]},), "a must be finite, got nan"),
        (({"a": [-math.inf]},), "a must be finite, got -inf"),
        (({"a": [-1.0]},), "a must not be negative, got -1"),
        (({"a": [[1.0]]},), "a must have shape [N], got [1, 1]"),
        (({"a": []},), "a must not be empty"),
    ],
)
def test_spike_times_name_bad_input(arguments, message):
    with pytest.raises(ValueError, match=re.escape(f"spike_times: {message}")):
        visual.spike_times(*arguments)
    with pytest.raises(ValueError, match=re.escape("mark must lie in [0, 1), got 1")):
        visual.spike_times({"a": [1.0]}, mark=1)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: visual.rasters({}), "rasters: spikes must have at least one layer"),
        (lambda: visual.traces([1.0]), "traces: v must map names to values, got list"),
        (lambda: visual.traces({"a": [1.0]}), "traces: v['a'] must have shape [T, N] or [T, B, ...], got [1]"),
        (lambda: visual.histograms({"a": []}, xlabel="w"), "histograms: values['a'] must not be"),
        (lambda: visual.histograms({"a": [1.0]}, xlabel="w", bins=0), "histograms: bins must be"),
    ],
)
def test_figures_of_layers_name_what_is_wrong(call, error):
    with pytest.raises(ValueError, match="^" + re.escape(error)):
        call()


def test_activity_takes_batches_as_the_layers_return_them():
    spikes, v = (torch.rand(6, 2, 3, 2) < 0.5).float(), torch.rand(6, 2, 3, 2)
    figure = visual.potentials(v, 1.0, spikes, sample=1)
    drawn = [ax.lines[0].get_ydata() for ax in figure.axes]
    np.testing.assert_allclose(drawn, v[:, 1].flatten(1).T)
    figure = visual.traces({"1: LIF": v, "2": v[:, 0, 0]}, {"1: LIF": 0.5}, sample=1)
    np.testing.assert_allclose([line.get_ydata() for line in figure.axes[0].lines[:6]], v[:, 1].flatten(1).T)
    assert [len(ax.lines) for ax in figure.axes] == [7, 2]
    assert figure.axes[0].lines[-1].get_linestyle() == "--"
    assert len(visual.rasters({"a": spikes}, sample=1).axes[0].collections[0].get_offsets()) == spikes[:, 1].sum()
    for draw in (visual.raster, visual.potentials):
        with pytest.raises(ValueError, match=r"sample must lie in \[0, 2\), the batch, got 2"):
            draw(v, sample=2)
