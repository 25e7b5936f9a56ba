"""Errors of conversion: they name the operation that cannot be converted and its place, before anything runs."""

import pytest
import torch
from networks import Functional, images, make
from torch import nn
from torch.nn import functional as F  # noqa: N812

import snnfast
from snnfast.conversion import QCFS, SpikingNetwork, fine_tune, quantise
from snnfast.nn import LIF
from snnfast.papers import ResNet20


def wrap(*layers):
    return nn.Sequential(nn.Flatten(), nn.Linear(128, 4), *layers, nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.LeakyReLU(), "negative"),
        (nn.PReLU(), "negative"),
        (nn.ELU(), "negative"),
        (nn.GELU(), "negative"),
        (nn.SiLU(), "negative"),
        (nn.ReLU6(), "clips from above"),
        (nn.Hardtanh(), "clips from above"),
        (nn.Sigmoid(), "no rate follows its curve"),
        (nn.Tanh(), "no rate follows its curve"),
        (nn.LayerNorm(4), "statistic of every sample"),
        (nn.BatchNorm1d(4, track_running_stats=False), "no running statistics"),
        (nn.Bilinear(4, 4, 4), "no spiking form"),
        (LIF(), "no spiking form"),
    ],
    ids=lambda a: type(a).__name__ if isinstance(a, nn.Module) else "",
)
def test_a_module_is_refused_with_place_and_reason(layer, reason):
    if isinstance(layer, nn.Bilinear):

        class Twice(nn.Module):
            def __init__(self):
                super().__init__()
                self.bilinear = layer

            def forward(self, x):
                return self.bilinear(x, x)

        with pytest.raises(ValueError, match=rf"3.bilinear \(Bilinear\): .*{reason}"):
            SpikingNetwork(wrap(nn.ReLU(), Twice()))
        return
    with pytest.raises(ValueError, match=rf"3 \({type(layer).__name__}\): .*{reason}"):
        SpikingNetwork(wrap(nn.ReLU(), layer))


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (F.leaky_relu, r"leaky_relu in 2: it passes or makes negative"),
        (F.relu6, r"relu6 in 2: it clips from above"),
        (lambda x: x.clamp(0, 1), r"clamp in 2: it clips from above"),
        (lambda x: x.clamp(min=0), r"clamp in 2: it clips from below; .* write torch.relu"),
        (lambda x: torch.clamp_min(x, 0), r"clamp_min in 2: it clips from below"),
        (lambda x: torch.clamp(x, 0, 1), r"clamp in 2: it clips from above"),
        (lambda x: x.softmax(1), r"softmax in 2: no rate follows"),
        (F.gelu, r"gelu in 2: it passes or makes negative"),
        (lambda x: x * x, r"mul in 2: it multiplies two signals"),
        (lambda x: 1 / x, r"truediv in 2: it multiplies two signals"),
        (torch.exp, r"exp in 2: it has no spiking form"),
        (lambda x: x.abs(), r"abs in 2: it has no spiking form"),
        (lambda x: F.max_pool1d(x, 2, return_indices=True)[0], r"returns indices|no spiking form"),
    ],
)
def test_a_function_is_refused_with_place_and_reason(function, message):
    with pytest.raises(ValueError, match=message):
        SpikingNetwork(wrap(Function(function), nn.ReLU()))


def test_all_that_is_wrong_is_named_at_once():
    with pytest.raises(ValueError, match="cannot be converted") as error:
        SpikingNetwork(wrap(nn.LeakyReLU(), nn.ReLU6(), nn.ReLU(), nn.Tanh()))
    assert all(name in str(error.value) for name in ("2 (LeakyReLU)", "3 (ReLU6)", "5 (Tanh)"))
    assert "4 (ReLU)" not in str(error.value)


def test_max_pooling_can_be_refused():
    model = make(Functional)
    with pytest.raises(ValueError, match=r"max_pool2d in .*max_pool='refuse' was given"):
        snnfast.convert(model, [images()], max_pool="refuse")


def test_what_cannot_be_traced_is_told():
    class Branch(nn.Module):
        def forward(self, x):
            return F.relu(x) if x.sum() > 0 else x

    with pytest.raises(ValueError, match=r"convert: Branch cannot be traced by torch.fx"):
        SpikingNetwork(Branch())


def writes(x):
    x[:, 0] = 0
    return F.relu(x)


@pytest.mark.parametrize(
    ("function", "cause"),
    [
        (lambda x: F.relu(x) if x.dim() == 2 else x, "branches on values or on the shape"),
        (writes, "writes into a part of a tensor"),
        (lambda x: F.relu(x)[: len(x)], r"write x.shape\[0\]"),
        (lambda x: torch.stack([F.relu(row) for row in x]), "goes through the rows"),
        (lambda x: F.relu(x).nothing, "nothing|no spiking form"),
    ],
)
def test_why_a_model_cannot_be_traced(function, cause):
    with pytest.raises(ValueError, match=cause) as error:
        SpikingNetwork(Function(function))
    assert ("branch" in str(error.value)) is ("branch" in cause)


def test_what_cannot_be_copied_is_told():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    model.log = (line for line in ())
    with pytest.raises(ValueError, match=r"convert: Sequential cannot be copied \(cannot pickle"):
        SpikingNetwork(model)


class Two(nn.Module):
    def forward(self, x, y):
        return F.relu(x + y)


class Pair(nn.Module):
    def forward(self, x):
        return F.relu(x), x


class Mixes(nn.Module):
    def forward(self, x):
        return F.relu(x.flatten(1)).reshape(1, -1)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Two(), "must take one tensor, got 2"),
        (Pair(), "must return one tensor"),
        (nn.Linear(3, 2), "has no ReLU"),
        (nn.ModuleDict(), "cannot be traced"),
    ],
    ids=lambda a: type(a).__name__ if isinstance(a, nn.Module) else "",
)
def test_models_of_another_form(model, message):
    with pytest.raises(ValueError, match=message):
        SpikingNetwork(model)


def test_a_model_that_mixes_images_is_refused():
    with pytest.raises(ValueError, match=r"reshape in forward mixes the images of a batch"):
        snnfast.convert(Mixes(), [images()])


class Centred(nn.Module):
    """Network whose mean is taken over the images if there are no rows."""

    def forward(self, x):
        y = F.relu(x.flatten(1))
        return y - y.mean(-2, keepdim=True)


class Chooses(nn.Module):
    def forward(self, x):
        return F.relu(x.flatten(1))[..., :2, :]


@pytest.mark.parametrize("model", [Mixes(), Centred(), Chooses()], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("batch", [1, 2])
def test_a_model_that_mixes_images_is_refused_for_any_batch(model, batch):
    with pytest.raises(ValueError, match="in forward mixes the images of a batch"):
        snnfast.convert(model, [X[:batch]])
    network = SpikingNetwork(model)
    network.update_threshold([1.0])
    with pytest.raises(ValueError, match="in forward mixes the images of a batch"):
        network(X[:batch], 3)


@pytest.mark.parametrize("shape", [6, (8, 8, 2), "abc"], ids=str)
def test_an_input_shape_that_a_model_has_of_its_own_is_left_alone(shape):
    model = make(Functional)
    model.input_shape = shape
    assert snnfast.convert(model, [X]).input_shape == (2, 8, 8)


def test_a_model_that_is_no_module():
    with pytest.raises(TypeError, match=r"convert: model must be a module, got function"):
        SpikingNetwork(F.relu)


X, Y = images(), torch.arange(4)
WRONG = (
    ({"method": "balance"}, ValueError, "method must be one of max, percentile, spikenorm, qcfs"),
    ({"percentile": -1.0}, ValueError, r"percentile must lie in \(0, 100\], got -1"),
    ({"percentile": 101}, ValueError, r"percentile must lie in \(0, 100\], got 101"),
    ({"percentile": "all"}, TypeError, "percentile must be a number, got str"),
    ({"reset": "none"}, ValueError, "reset must be one of soft, hard"),
    ({"max_pool": "drop"}, ValueError, "max_pool must be one of rate, refuse"),
    ({"encoding": "rate"}, ValueError, "encoding must be one of constant, poisson, saturating"),
    ({"initial_membrane": 1.0}, ValueError, r"initial_membrane must lie in \[0, 1\), got 1"),
    ({"method": "spikenorm", "num_steps": 0}, ValueError, "num_steps must be at least 1, got 0"),
    ({"method": "spikenorm", "num_steps": 2.5}, TypeError, "num_steps must be an integer"),
    ({"method": "spikenorm", "scaling_factor": 0}, ValueError, "scaling_factor must be positive"),
    ({"method": "spikenorm", "percentile": 0}, ValueError, r"percentile must lie in \(0, 100\], got 0"),
    ({"method": "max", "percentile": 99.9}, ValueError,
     "percentile is for percentile and spikenorm, not for max"),
    ({"method": "qcfs", "per_channel": True}, ValueError,
     "per_channel is for max, percentile and spikenorm, not for qcfs"),
    ({"method": "qcfs", "levels": 0}, ValueError, "levels must be at least 1, got 0"),
    ({"method": "qcfs", "lr": -1.0}, ValueError, "lr must be positive, got -1"),
    ({"method": "qcfs", "epochs": -1}, ValueError, "epochs must be at least 0, got -1"),
    ({"method": "qcfs"}, TypeError, "the loader must give images and labels"),
    ({"method": "qcfs", "reset": "hard"}, ValueError, "qcfs needs reset='soft' .* got 'hard'"),
    ({"method": "qcfs", "initial_membrane": 0.0}, ValueError,
     "qcfs needs .* initial_membrane=0.5, got 'soft' and 0.0"),
    ({"method": "max", "levels": -3, "lr": None}, ValueError, "levels is for qcfs, not for max"),
    ({"epochs": 0}, ValueError, "epochs is for qcfs, not for percentile"),
    ({"method": "spikenorm", "lr": 1e-3}, ValueError, "lr is for qcfs, not for spikenorm"),
    ({"num_steps": 9}, ValueError, "num_steps is for spikenorm, not for percentile"),
    ({"method": "qcfs", "scaling_factor": 1.0}, ValueError,
     "scaling_factor is for spikenorm, not for qcfs"),
    ({"method": "qcfs", "levels": 4, "model": nn.Sequential(nn.Flatten(), QCFS())}, ValueError,
     "levels is for a model without QCFS"),
    ({"method": "qcfs", "calibration_loader": [(X, torch.arange(4) * 2)]}, ValueError,
     r"fine_tune: labels must lie in \[0, 4\], got values from 0 to 6"),
    ({"calibration_loader": []}, ValueError, "the loader holds no images"),
    ({"calibration_loader": [X[:0]]}, ValueError, "the loader holds no images"),
    ({"calibration_loader": 3}, TypeError, "the loader must give batches of images, got int"),
    ({"calibration_loader": torch.ones(4, 1, 8, 8)}, TypeError, r"got a tensor \[4, 1, 8, 8\]; pass \[images\]"),
    ({"calibration_loader": [[1.0]]}, TypeError, "images must be a tensor, got float"),
    ({"calibration_loader": [X.int()]}, TypeError, "images must be floating point, got torch.int32"),
    ({"calibration_loader": [X, X[:, :1]]}, ValueError, r"images must have shape \[B, 2, 8, 8\]"),
    ({"calibration_loader": [X * torch.nan]}, ValueError, "images must be finite"),
    ({"calibration_loader": [X * 3], "encoding": "poisson", "method": "spikenorm"}, ValueError,
     r"images must lie in \[-1, 1\]"),
)  # fmt: skip


@pytest.mark.parametrize(("arguments", "error", "message"), WRONG, ids=[w[2] for w in WRONG])
def test_wrong_arguments_of_convert(arguments, error, message):
    arguments = {"model": make(Functional), "calibration_loader": [X], "progress": False} | arguments
    with pytest.raises(error, match=message):
        snnfast.convert(**arguments)


@pytest.fixture(scope="module")
def network():
    return snnfast.convert(make(Functional), [X], method="max", encoding="poisson")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda n: n(X[:, :1], 5), ValueError, r"images must have shape \[B, 2, 8, 8\], got \[4, 1"),
        (lambda n: n(X[0], 5), ValueError, r"images must have shape"),
        (lambda n: n(X.long(), 5), TypeError, "images must be floating point"),
        (lambda n: n(X.numpy(), 5), TypeError, "images must be a tensor, got ndarray"),
        (lambda n: n(X * 255, 5), ValueError, r"images must lie in \[-1, 1\], got values from"),
        (lambda n: n(X / 0, 5), ValueError, "images must be finite"),
        (lambda n: n(X, 0), ValueError, "num_steps must be at least 1, got 0"),
        (lambda n: n(X, 1.5), TypeError, "num_steps must be an integer, got float"),
        (lambda n: n(X, 5, chunk=0), ValueError, "chunk must be at least 1, got 0"),
        (lambda n: n(X, 5, confidence=0.0), ValueError, r"confidence must lie in \(0, 1\]"),
        (lambda n: n(X, 5, confidence="high"), TypeError, "confidence must be a number"),
        (lambda n: n.over_time(X, [5, 3]), ValueError, "steps must be increasing numbers"),
        (lambda n: n.over_time(X, []), ValueError, "steps must be increasing numbers"),
        (lambda n: n.over_time(X, 5), TypeError, "steps must be a sequence of integers, got int"),
        (lambda n: n.stream(X).output(), RuntimeError, "no output before the first step"),
        (
            lambda n: n.stream(X, warm_up=3).advance(3).output(),
            RuntimeError,
            "no output before the first step after a warm-up of 3",
        ),
        (lambda n: n.stream(X, warm_up=-1), ValueError, "warm_up must be at least 0, got -1"),
        (lambda n: n(X, 5, warm_up=1.0), TypeError, "warm_up must be an integer, got float"),
        (lambda n: n(X, 5, warm_up=5), ValueError, "num_steps must be more than warm_up, got 5 and 5"),
        (lambda n: n.over_time(X, [3, 9], warm_up=4), ValueError, "steps must be more than warm_up, got 3 and 4"),
        (
            lambda n: n.classify(X, 2, confidence=0.9, warm_up=2),
            ValueError,
            "num_steps must be more than warm_up, got 2 and 2",
        ),
        (lambda n: n.update_threshold([1.0]), ValueError, "each of the 3 layers of neurons, got 1"),
        (lambda n: n.update_threshold([1.0, 0.0, 1.0]), ValueError, r"threshold\[1\] must be positive"),
        (lambda n: n.update_threshold([1.0, 2.0, float("nan")]), ValueError, r"threshold\[2\] must be"),
        (lambda n: n.update_threshold(1.0), TypeError, "threshold must be a list, got float"),
        (lambda n: snnfast.conversion_report(make(Functional), n, []), ValueError, "no images"),
        (lambda n: snnfast.conversion_report(n, make(Functional), [X]), TypeError, "snn must be a"),
        (
            lambda n: snnfast.conversion_report(make(Functional), n, [X], steps=[3, 1]),
            ValueError,
            "steps must be increasing",
        ),
        (
            lambda n: snnfast.conversion_report(make(Functional), n, [X], steps=[3], warm_up=3),
            ValueError,
            "steps must be more than warm_up, got 3 and 3",
        ),
        (lambda n: QCFS(0.0), ValueError, "QCFS: threshold must be positive"),
        (lambda n: QCFS(1.0, 0), ValueError, "QCFS: levels must be at least 1"),
        (lambda n: quantise(make(Functional), []), ValueError, "quantise: the loader holds no"),
        (lambda n: fine_tune(make(Functional), [X]), TypeError, "must give images and labels"),
        (lambda n: fine_tune(make(Functional), 3), TypeError, "fine_tune: the loader must give"),
        (lambda n: fine_tune(make(Functional), [([1], Y)]), TypeError, "images must be a tensor"),
        (lambda n: fine_tune(3, [(X, Y)]), TypeError, "model must be a module, got int"),
        (lambda n: fine_tune(nn.ReLU(), [(X, Y)]), ValueError, "model must have parameters"),
        (
            lambda n: fine_tune(nn.Conv2d(2, 3, 1), [(X, Y)]),
            ValueError,
            r"the scores of model must have shape \[4, classes\], got \[4, 3, 8, 8\]",
        ),
        (
            lambda n: snnfast.conversion_report(make(Functional), n, None),
            TypeError,
            "conversion_report: the loader must give batches of images, got NoneType",
        ),
        (
            lambda n: snnfast.conversion_report(make(Functional), n, [X.numpy()]),
            TypeError,
            "images must be a tensor, got ndarray",
        ),
        (lambda n: snnfast.conversion_report(3, n, [X]), TypeError, "ann must be a mod"),
    ],
)
def test_wrong_calls_change_nothing(network, call, error, message):
    before = [t.clone() for t in network.thresholds]
    with pytest.raises(error, match=message):
        call(network)
    for a, b in zip(before, network.thresholds):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (Y[:, None], ValueError, r"labels must have shape \[4\], got \[4, 1\]"),
        (Y[:1], ValueError, r"labels must have shape \[4\], got \[1\]"),
        (F.one_hot(Y), ValueError, r"labels must have shape \[4\], got \[4, 4\]"),
        (Y.float(), TypeError, r"labels must be .* integers, got \[4\] of torch.float32"),
        (Y.tolist(), TypeError, "labels must be a tensor, got list"),
        (Y - 1, ValueError, r"labels must lie in \[0, 4\], got values from -1 to 2"),
    ],
)
def test_labels_are_a_class_an_image(network, labels, error, message):
    model, loader = make(Functional), [(X, labels)]
    with pytest.raises(error, match=f"conversion_report: {message}"):
        snnfast.conversion_report(model, network, loader)
    with pytest.raises(error, match=f"fine_tune: {message}"):
        fine_tune(model, loader)


def test_without_thresholds_nothing_runs():
    network = SpikingNetwork(make(Functional))
    with pytest.raises(RuntimeError, match=r"there are no thresholds yet at relu in forward"):
        network(X, 5)


def test_an_encoder_must_keep_the_shape():
    network = snnfast.convert(make(Functional), [X], method="max", encoding=lambda images: images[:, :1])
    with pytest.raises(ValueError, match=r"the encoder must keep the shape \[4, 2, 8, 8\]"):
        network(X, 2)


def test_spikenorm_that_finds_no_current_leaves_the_thresholds():
    model = make(Functional)
    with torch.no_grad():
        model.conv1.weight.zero_()
        model.conv1.bias.fill_(-1.0)
    network = SpikingNetwork(model)
    network.update_threshold([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"no current into relu in forward is above 0 within 3"):
        snnfast.threshold.spikenorm([X], None, network, 3)
    assert [t.item() for t in network.thresholds] == [1.0, 2.0, 3.0]


def test_a_module_named_spiking_is_refused():
    class Clash(nn.Module):
        def __init__(self):
            super().__init__()
            self.spiking = nn.Linear(2, 2)

        def forward(self, x):
            return F.relu(self.spiking(x))

    with pytest.raises(ValueError, match="has a module named spiking; rename it"):
        SpikingNetwork(Clash())


@pytest.mark.parametrize("method", ["max", "spikenorm"])
@pytest.mark.parametrize("shape", [(4, 0), (4, 2, 8, 3), ()])
def test_images_that_the_model_does_not_take_are_told(method, shape):
    model = nn.Sequential(nn.Flatten(), nn.Linear(128, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="images"):
        snnfast.convert(model, [torch.rand(shape)], method=method)


def test_sparse_images_are_refused():
    model = nn.Sequential(nn.Flatten(), nn.Linear(128, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(TypeError, match="images must be dense"):
        snnfast.convert(model, [torch.rand(4, 128).to_sparse()], method="max")


def test_blocks_without_end_are_refused():
    """The error comes before anything runs."""
    with pytest.raises(ValueError, match=r"^ResNet20: blocks must be at most 10000, got 351"):
        ResNet20(blocks=2**45)
