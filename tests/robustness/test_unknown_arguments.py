"""A keyword argument that a function or class does not have is an error with the nearest name."""

import inspect
import timeit

import numpy as np
import pytest
import torch
from torch import nn

import snnfast
from snnfast import check, connect, data, encoder, learning, ops, plasticity, train, visual
from snnfast.nn import LIF, RLIF, Delay, EventProp, Recurrent, SparseRecurrent, SpikeProp, calibrate_

x = torch.ones(5, 2, 4)
net = nn.Sequential(nn.Linear(4, 4), nn.ReLU())


@snnfast.neuron
def leaky(fire, x, v, *, keep=0.5):
    s, _, v = fire(keep * v + x, 1.0)
    return s, v


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.lif(x, tua=2.0), "lif: there is no argument 'tua'; did you mean 'tau'?"),
        (lambda: snnfast.reference.lif(x, tua=2.0), "lif: there is no argument 'tua'; did you mean 'tau'?"),
        (lambda: ops.spike_linear(x, wieght=x), "spike_linear: there is no argument 'wieght'; did you mean 'weight'?"),
        (lambda: ops.recurrent(x, x, tua=2.0), "recurrent: there is no argument 'tua'; did you mean 'tau'?"),
        (lambda: leaky(x, kep=0.1), "leaky: there is no argument 'kep'; did you mean 'keep'?"),
        (lambda: leaky(x, other=0.1), "leaky: there is no argument 'other'; its arguments are x, v, keep, v_reset, "),
        (lambda: leaky.layer(kep=0.1), "Leaky: there is no argument 'kep'"),
        (lambda: LIF(tua=2.0), "LIF: there is no argument 'tua'"),
        (lambda: Recurrent(LIF(), max_dely=3), "Recurrent: there is no argument 'max_dely'; did you mean 'max_delay'?"),
        (lambda: RLIF(4, max_dely=3), "RLIF: there is no argument 'max_dely'; did you mean 'max_delay'?"),
        (lambda: Delay(4, max_dely=3), "Delay: there is no argument 'max_dely'; did you mean 'max_delay'?"),
        (lambda: SpikeProp(4, 3, tua=1.0), "SpikeProp: there is no argument 'tua'; did you mean 'tau'?"),
        (lambda: EventProp(4, 3, tau_mm=1.0), "EventProp: there is no argument 'tau_mm'"),
        (lambda: SparseRecurrent(LIF(), None, wieght=1.0), "SparseRecurrent: there is no argument 'wieght'"),
        (lambda: calibrate_(net, x, rte=0.1), "calibrate_: there is no argument 'rte'; did you mean 'rate'?"),
        (lambda: learning.STDP(net[0], rul=None), "STDP: there is no argument 'rul'; did you mean 'rule'?"),
        (lambda: plasticity.pair(lr_pst=1.0), "pair: "),
        (
            lambda: encoder.PoissonEncoder(duraton=3),
            "PoissonEncoder: there is no argument 'duraton'; did you mean 'duration'?",
        ),
        (lambda: train.fit(None, None, None, epoch=3), "fit: there is no argument 'epoch'; did you mean 'epochs'?"),
        (lambda: train.Run(modle=net), "Run: there is no argument 'modle'; did you mean 'model'?"),
        (lambda: train.evaluate(net, imges=x), "evaluate: there is no argument 'imges'"),
        (lambda: snnfast.convert(net, [x], num_step=3), "convert: there is no argument 'num_step'"),
        (lambda: snnfast.conversion_report(net, lables=x), "conversion_report: there is no argument 'lables'"),
        (lambda: snnfast.export_c(net, weihts="a"), "export_c: there is no argument 'weihts'; did you mean 'weights'?"),
        (lambda: snnfast.monitor(net, layer=()), "monitor: there is no argument 'layer'"),
        (lambda: snnfast.load("run", devcie="cpu"), "load: there is no argument 'devcie'; did you mean 'device'?"),
        (lambda: data.frames(x, x, x, x, szie=(2, 2)), "frames: there is no argument 'szie'; did you mean 'size'?"),
        (lambda: visual.raster(x[:, 0], tilte="a"), "raster: there is no argument 'tilte'; did you mean 'title'?"),
        (lambda: connect.fixed_total(3, 3, 4, sed=1), "fixed_total: there is no argument 'sed'; did you mean 'seed'?"),
    ],
)
def test_an_unknown_argument_names_the_nearest(call, message):
    with pytest.raises(TypeError) as error:
        call()
    assert message in str(error.value)
    assert error.value.__cause__ is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: snnfast.nn.like(np.ones(3)), "like: neuron must be one of "),
        (lambda: ops.recurrent(x, x, neuron=np.ones(3)), "recurrent: neuron must be one of "),
        (lambda: ops.recurrent(x, x, neuron="liff"), "got 'liff'; did you mean 'lif'?"),
        (lambda: snnfast.procedure.stbp(np.ones(3)), "stbp: dataset must be a name; save arrays in a file"),
        (lambda: snnfast.procedure.stbp("digits", out=np.ones(3)), "stbp: out must be the path of a folder, got"),
        (lambda: snnfast.load(np.ones(3)), "load: folder must be the folder of a run, got ndarray"),
        (lambda: data.load(np.ones(3)), "load: name must be a string, got ndarray"),
        (lambda: visual.raster(x[:, 0], title=np.ones(3)), "title must be a string or None, got ndarray"),
        (lambda: snnfast.backend.use(np.ones(3)).__enter__(), "backend: expected one of cpu, cuda, reference"),
        (lambda: snnfast.backend.use("refernce").__enter__(), "did you mean 'reference'?"),
    ],
)
def test_an_array_in_place_of_a_name(call, message):
    with pytest.raises((TypeError, ValueError)) as error:
        call()
    assert message in str(error.value)


@pytest.mark.parametrize("wrong", [{"a": 1}, {"b": 1}])
def test_other_errors_pass(wrong):
    @check.keywords
    def function(a=None, b=None):
        return inner(c=1) if a else 1 + "b"  # errors inside, one of them about a keyword

    def inner():
        pass

    with pytest.raises(TypeError, match=r"inner.* unexpected keyword argument 'c'|unsupported operand"):
        function(**wrong)


def test_signatures_stay():
    assert "max_delay" in inspect.signature(Recurrent).parameters
    assert "num_steps" in inspect.signature(snnfast.convert).parameters
    assert "epochs" in inspect.signature(train.fit).parameters
    assert inspect.signature(ops.lif) == inspect.signature(ops.lif.check).replace(
        return_annotation=inspect.Signature.empty
    )


def test_a_wrong_argument_is_looked_up_only_after_an_error():
    def function(*, a):
        return a

    plain, named = (min(timeit.repeat(lambda f=f: f(a=1), number=2000, repeat=20)) for f in
                    (function, check.keywords(function)))  # fmt: skip
    assert (named - plain) / 2000 < 1e-6
