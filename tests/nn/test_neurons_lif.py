import copy
import functools

import pytest
import torch
from torch import nn

import snnfast
from snnfast import nn as sn
from snnfast import ops

PER_NEURON = torch.tensor([0.2, 0.5, 0.8])  # one value for each neuron
LAYERS = {
    "if": (sn.IF, {}),
    "if_soft": (sn.IF, {"v_reset": None, "v_threshold": 2}),
    "lif": (sn.LIF, {}),
    "lif_options": (sn.LIF, {"tau": 3, "decay_input": False, "v_reset": -0.5, "v_rest": -0.2, "surrogate": "sigmoid"}),
    "lif_decay": (sn.LIF, {"decay": 0.9, "v_reset": None, "v_threshold": 0.2, "detach_reset": True}),
    "plif": (sn.ParametricLIF, {}),
    "cuba": (sn.CubaLIF, {}),
    "cuba_options": (sn.CubaLIF, {"tau": 3.0, "decay_syn": 0.7, "decay_input": False}),
    "alif": (sn.ALIF, {}),
    "alif_options": (sn.ALIF, {"decay": 0.8, "beta": 0.6, "tau_adapt": 5.0, "decay_input": False, "v_reset": None}),
    "if_tensors": (sn.IF, {"v_threshold": PER_NEURON + 0.5, "v_reset": PER_NEURON - 0.6}),
    "lif_tensors": (sn.LIF, {"tau": PER_NEURON + 1.5, "v_reset": PER_NEURON - 0.6, "v_rest": PER_NEURON - 0.5}),
    "cuba_tensors": (sn.CubaLIF, {"decay_syn": PER_NEURON, "v_reset": PER_NEURON - 0.6, "v_rest": PER_NEURON - 0.5}),
    "alif_tensors": (
        sn.ALIF,
        {
            "decay": PER_NEURON,
            "beta": PER_NEURON - 0.1,
            "decay_adapt": PER_NEURON + 0.1,
            "v_threshold": PER_NEURON + 0.3,
            "v_reset": PER_NEURON - 0.6,
            "v_rest": PER_NEURON - 0.5,
        },
    ),
}
LAYERS |= {
    "qif": (sn.QIF, {}),
    "qif_options": (sn.QIF, {"tau": 3.0, "a0": 0.5, "v_c": PER_NEURON, "v_reset": -0.1, "v_rest": 0.0}),
    "eif": (sn.EIF, {}),
    "eif_options": (sn.EIF, {"decay": 0.7, "delta_t": 0.5, "theta_rh": PER_NEURON + 0.5, "v_rest": -0.1}),
    "izhikevich": (sn.Izhikevich, {}),
    "izhikevich_options": (
        sn.Izhikevich,
        {"tau": 3.0, "a0": 0.5, "v_c": PER_NEURON, "decay_w": 0.6, "a": PER_NEURON, "b": 0.4, "decay_input": False},
    ),
}
OPS = {"qif": ops.qif, "eif": ops.eif, "izhikevich": ops.izhikevich}
OPS |= {"if": ops.iaf, "lif": ops.lif, "plif": ops.lif, "cuba": ops.cuba, "alif": ops.alif}
KINDS = [sn.IF, sn.LIF, sn.ParametricLIF, sn.CubaLIF, sn.ALIF, sn.LI, sn.CubaLI]
KINDS += [sn.QIF, sn.EIF, sn.Izhikevich]


def sequence(*shape, dtype=torch.float32, seed=0, scale=3.0):
    x = torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * scale
    return x.to(dtype).requires_grad_()


@pytest.mark.parametrize("name", LAYERS)
def test_layer_is_its_op(name):
    layer_class, arguments = LAYERS[name]
    op = OPS[name.split("_")[0]]
    x = sequence(6, 2, 3)
    spikes = layer_class(**arguments)(x)
    expected = op(x, **arguments)[0]
    torch.testing.assert_close(spikes, expected, rtol=0, atol=0)
    assert 0 < spikes.mean() < 1
    grads = [torch.autograd.grad(s.sum(), x)[0] for s in (spikes, expected)]
    torch.testing.assert_close(*grads, rtol=0, atol=0)


@pytest.mark.parametrize("name", LAYERS)
def test_membrane_sequence_on_request(name):
    layer_class, arguments = LAYERS[name]
    op = OPS[name.split("_")[0]]
    x = sequence(6, 2, 3)
    spikes, v_seq = layer_class(**arguments, return_v_seq=True)(x)
    expected = op(x, **arguments, return_v_seq=True)
    torch.testing.assert_close(spikes, expected[0], rtol=0, atol=0)
    torch.testing.assert_close(v_seq, expected[-1], rtol=0, atol=0)


@pytest.mark.parametrize("layer", KINDS)
@pytest.mark.parametrize("shape", [(0, 2, 3), (4, 0, 3), (4,), (1, 2), (4, 2, 3, 2, 2)])
def test_any_number_of_dimensions_and_empty_sequences(layer, shape):
    assert layer()(sequence(*shape)).shape == shape


def test_li_returns_the_membrane_and_is_its_op():
    x = sequence(5, 2, 3)
    for arguments in ({}, {"decay": 0.8, "decay_input": False, "v_rest": 0.5}):
        v_seq = sn.LI(**arguments)(x)
        torch.testing.assert_close(v_seq, ops.li(x, **arguments)[0], rtol=0, atol=0)
    assert sn.LI()(x.bfloat16()).dtype == torch.float32
    assert "tau=2.0" in repr(sn.LI())


@pytest.mark.parametrize("backend", ["reference", None])
@pytest.mark.parametrize("layer", KINDS)
def test_layers_run_on_every_backend(layer, backend):
    x = sequence(5, 2, 3)
    with snnfast.backend.use(backend):
        y = layer(stateful=True)(x)
    torch.testing.assert_close(y, layer()(x))


def test_a_stateless_layer_writes_spikes_only(monkeypatch):
    seen, ops_lif = {}, ops.lif

    @functools.wraps(ops_lif)
    def lif(x, v, **arguments):
        seen.update(arguments)
        return ops_lif(x, v, **arguments)

    monkeypatch.setattr(ops, "lif", lif)
    sn.LIF()(sequence(2, 2, 2))
    assert seen["return_state"] is False
    assert seen["return_v_seq"] is False
    sn.LIF(stateful=True)(sequence(2, 2, 2))
    assert seen["return_state"] is True


def test_constants_of_each_channel_are_buffers():
    tau = torch.tensor([1.5, 2.0, 4.0]).view(3, 1, 1)
    v_threshold = torch.tensor([0.5, 1.0, 1.5]).view(3, 1, 1)
    layer = sn.LIF(tau, v_threshold=v_threshold)
    assert set(layer.state_dict()) == {"tau", "v_threshold"}
    assert not list(layer.parameters())
    x = sequence(5, 2, 3, 4, 4)
    for c in range(3):
        single = sn.LIF(tau[c].item(), v_threshold=v_threshold[c].item())
        torch.testing.assert_close(layer(x)[:, :, c], single(x[:, :, c]), rtol=0, atol=0)
    assert "tau=[3, 1, 1]" in repr(layer)
    assert set(sn.CubaLIF(decay_syn=torch.tensor(0.5)).state_dict()) == {"decay_syn"}
    tau.zero_()
    assert layer.tau.min() == 1.5


LEARNED = {
    sn.IF: ("v_threshold", "v_reset"),
    sn.LIF: ("tau", "v_threshold", "v_reset", "v_rest"),
    sn.CubaLIF: ("decay", "tau_syn", "v_threshold", "v_reset", "v_rest"),
    sn.ALIF: ("decay", "beta", "decay_adapt", "v_threshold", "v_reset", "v_rest"),
    sn.LI: ("tau", "v_rest"),
}
START = {"tau": 2.0, "decay": 0.5, "v_threshold": 0.8, "v_reset": 0.1, "v_rest": 0.2, "beta": 0.3}


@pytest.mark.parametrize("layer", LEARNED)
@pytest.mark.parametrize("shape", [(), (3,)])
def test_every_parameter_is_learned(layer, shape):
    """All together: each is a parameter of the module, with the gradient of the op."""
    start = {n: torch.full(shape, START[n.partition("_")[0] if n not in START else n]) for n in LEARNED[layer]}
    learner = layer(**{name: nn.Parameter(value.clone()) for name, value in start.items()})
    assert set(learner.state_dict()) == {name for name, _ in learner.named_parameters()} == set(start)
    x = sequence(9, 2, 3)
    out = learner(x)
    out.square().sum().backward()
    values = {name: value.requires_grad_() for name, value in start.items()}
    want = getattr(ops, layer.op)(x.detach(), **values)[0]
    torch.testing.assert_close(out, want, rtol=0, atol=0)
    grads = torch.autograd.grad(want.square().sum(), list(values.values()))
    for name, grad in zip(values, grads, strict=True):
        assert (getattr(learner, name).grad != 0).all(), name
        torch.testing.assert_close(getattr(learner, name).grad, grad, msg=name)


def test_a_time_constant_without_dimension_loads_as_spikingjelly_saves_it():
    layer = sn.ParametricLIF()
    layer.load_state_dict({"w": torch.tensor(0.5)})
    assert layer.w.tolist() == [0.5]


@pytest.mark.parametrize("name", ["v_reset", "v_rest", "v_threshold", "beta"])
def test_tensors_of_a_parameter_are_kept_and_shown(name):
    values = torch.tensor([0.1, 0.2, 0.3])
    layer = sn.ALIF(**{name: values})
    assert set(layer.state_dict()) == {name}
    assert f"{name}=[3]" in repr(layer)
    values.zero_()
    assert getattr(layer, name).min() > 0
    x = sequence(6, 2, 3)
    for c in range(3):
        single = sn.ALIF(**{name: getattr(layer, name)[c].item()})
        torch.testing.assert_close(layer(x)[:, :, c], single(x[:, :, c]), rtol=0, atol=0)
    with pytest.raises(ValueError, match=f"alif: {name} must be a number or broadcast to x.shape"):
        layer(sequence(6, 2, 4))


@pytest.mark.parametrize("shape", [(5, 2, 3), (5, 2, 3, 2, 2)])
@pytest.mark.parametrize("channels", [None, 3])
def test_parametric_lif_learns_tau_and_threshold(shape, channels):
    layer = sn.ParametricLIF(3.0, channels=channels, learnable_threshold=True)
    assert layer.w.shape == layer.v_threshold.shape == (1 if channels is None else 3,)
    torch.testing.assert_close(layer.tau, torch.full_like(layer.w, 3.0))
    x = sequence(*shape)
    torch.testing.assert_close(layer(x), sn.LIF(3.0)(x))
    layer(x).sum().backward()
    assert (layer.w.grad != 0).all()
    assert (layer.v_threshold.grad != 0).all()


def test_one_learned_constant_serves_a_single_neuron():
    torch.testing.assert_close(
        sn.ParametricLIF(learnable_threshold=True)(sequence(9)), sn.LIF()(sequence(9)), rtol=0, atol=0
    )


def test_parametric_lif_gradient_is_that_of_the_formula():
    layer = sn.ParametricLIF(2.5, channels=2).double()
    x = sequence(6, 3, 2, dtype=torch.float64)
    layer(x).sum().backward()
    w = layer.w.detach().clone().requires_grad_()
    with snnfast.backend.use("reference"):
        ops.lif(x.detach(), decay=1 - torch.sigmoid(w))[0].sum().backward()
    torch.testing.assert_close(layer.w.grad, w.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("channels", [None, 3])
def test_cuba_learns_both_time_constants(channels):
    layer = sn.CubaLIF(3.0, 4.0, learnable=True, channels=channels)
    x = sequence(6, 2, 3, 2, 2)
    torch.testing.assert_close(layer(x), sn.CubaLIF(3.0, 4.0)(x))
    layer(x).sum().backward()
    assert (layer.w.grad != 0).all()
    assert (layer.w_syn.grad != 0).all()
    assert set(layer.state_dict()) == {"w", "w_syn"}
    assert "w_syn" in repr(layer)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    "layer",
    [
        lambda: sn.LIF(torch.tensor([1.5, 2.0, 1000.0]), stateful=True),
        lambda: sn.ParametricLIF(channels=3, stateful=True),
        lambda: sn.CubaLIF(learnable=True, stateful=True),
        lambda: sn.ALIF(beta=nn.Parameter(torch.ones(3)), v_reset=torch.zeros(3), stateful=True),
        lambda: sn.LI(decay=torch.tensor(0.999), stateful=True),
    ],
)
def test_dtype_of_the_layer_follows_to(layer, dtype):
    layer = layer()
    layer(sequence(3, 2, 3))
    layer.to(dtype)
    state_dtype = torch.float64 if dtype == torch.float64 else torch.float32
    assert layer.v.dtype == state_dtype
    assert all(b.dtype == state_dtype for b in layer.buffers())
    assert all(p.dtype == dtype for p in layer.parameters())
    y = layer(sequence(3, 2, 3, dtype=dtype))
    assert y.dtype == (state_dtype if isinstance(layer, sn.LI) else dtype)
    assert layer.v.dtype == state_dtype


def test_half_keeps_slow_decays():
    layer = sn.LIF(decay=torch.tensor(0.999)).bfloat16()
    assert layer.decay == torch.tensor(0.999)


def test_constants_move_to_another_device():
    layer = sn.LIF(torch.tensor([2.0, 3.0]), stateful=True)
    layer(sequence(3, 2, 2))
    layer.to("meta")
    assert layer.tau.device.type == layer.v.device.type == "meta"
    with snnfast.backend.use("reference"):
        assert layer(torch.rand(3, 2, 2, device="meta")).device.type == "meta"
    assert layer.to_empty(device="cpu").v.device.type == "cpu"


def test_explain_names_the_kernels_of_each_layer():
    custom = sn.IF(surrogate=lambda u: (u >= 0).to(u))
    net = nn.Sequential(sn.LIF(), sn.CubaLIF(), sn.LI(), sn.ALIF(), custom)
    lines = snnfast.backend.explain(net, torch.rand(2, 2)).splitlines()
    assert [line.split(":")[1].strip() for line in lines] == ["lif", "cuba", "li", "alif", "iaf"]
    assert "reference" in lines[-1]


STRICT = {
    sn.IF: {},
    sn.LIF: {"decay_input": False},
    sn.ParametricLIF: {"decay_input": False},
    sn.CubaLIF: {"decay_input": False},
    sn.ALIF: {"decay_input": False},
    sn.QIF: {"decay_input": False},
    sn.Izhikevich: {"decay_input": False},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layer", STRICT)
def test_a_strict_layer_fires_above_its_threshold_and_not_at_it(layer, dtype):
    at = torch.tensor([[0.7]], dtype=dtype)
    above = torch.nextafter(at, torch.ones_like(at))
    for strict in (False, True):
        net = layer(v_threshold=0.7, strict=strict, **STRICT[layer])
        assert net(at).item() == (not strict)
        assert net(above).item() == 1
    assert "strict=True" in repr(net)


def test_a_readout_with_a_current_is_its_op():
    x = sequence(5, 2, 3)
    options = {"tau": 3.0, "decay_syn": 0.7, "decay_input": False, "v_rest": 0.5}
    for arguments in ({}, options):
        torch.testing.assert_close(sn.CubaLI(**arguments)(x), ops.cubali(x, **arguments)[0], rtol=0, atol=0)
    whole, parts = sn.CubaLI(**options), sn.CubaLI(**options, stateful=True)
    torch.testing.assert_close(torch.cat([parts(x[:2]), parts(x[2:])]), whole(x), rtol=0, atol=0)
    assert parts.i.shape == (2, 3)
    assert sn.CubaLI()(x.bfloat16()).dtype == torch.float32
    assert repr(sn.CubaLI()) == "CubaLI(tau=2.0, tau_syn=2.0, decay_input=True, v_rest=0.0)"
    with pytest.raises(TypeError, match="CubaLI: v_rest must be a number"):
        sn.CubaLI(v_rest=None)


def test_layers_do_not_share_mutable_parts():
    a, b = sn.LIF(), sn.LIF()
    a.v_threshold = 2.0
    a.surrogate = snnfast.surrogate.sigmoid()
    assert b.v_threshold == 1.0
    assert b.surrogate == snnfast.surrogate.atan()


def test_repr_shows_the_constants():
    assert "tau=2.0, decay_input=True, v_threshold=1.0, v_reset=0.0" in repr(sn.LIF())
    assert "decay=0.5" in repr(sn.LIF(decay=0.5, v_rest=0.1))
    assert "v_rest=0.1" in repr(sn.LIF(decay=0.5, v_rest=0.1))
    assert "detach_reset=True, stateful=True" in repr(sn.IF(detach_reset=True, stateful=True))
    assert "strict=True" in repr(sn.LIF(strict=True))
    assert repr(sn.ParametricLIF(2.0)).startswith("ParametricLIF(w=0,")
    assert "stateful=True" in repr(sn.LI(stateful=True))
    assert repr(sn.ALIF()).startswith(
        "ALIF(tau=2.0, beta=0.2, tau_adapt=100.0, decay_input=True, v_threshold=1.0, v_reset=0.0"
    )


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: sn.LIF(0.5), ValueError, "LIF: tau must be at least 1"),
        (lambda: sn.LIF(2.0, decay=0.5), ValueError, "LIF: give tau or decay, not both"),
        (lambda: sn.LIF(torch.ones(2), decay=0.5), ValueError, "give tau or decay, not both"),
        (lambda: sn.LIF(decay=1.5), ValueError, r"decay must lie in \[0, 1\]"),
        (lambda: sn.LIF(v_threshold="1"), TypeError, "v_threshold must be a number"),
        (lambda: sn.LIF(v_threshold="1", strict=True), TypeError, "v_threshold must be a number"),
        (lambda: sn.LIF(v_reset=float("nan")), ValueError, "v_reset must be finite"),
        (lambda: sn.LIF(v_rest="0"), TypeError, "v_rest must be a number"),
        (lambda: sn.LIF(surrogate="relu"), ValueError, "surrogate: name must be one of"),
        (lambda: sn.IF(v_threshold=float("inf")), ValueError, "IF: v_threshold must be finite"),
        (lambda: sn.LI(v_rest=None), TypeError, "LI: v_rest must be a number"),
        (lambda: sn.CubaLIF(tau_syn=0), ValueError, "CubaLIF: tau_syn must be at least 1"),
        (lambda: sn.CubaLIF(tau_syn=2, decay_syn=0.5), ValueError, "give tau_syn or decay_syn"),
        (lambda: sn.CubaLIF(channels=3), ValueError, "channels needs learnable=True"),
        (lambda: sn.ParametricLIF(channels=0), ValueError, "ParametricLIF: channels must be at least 1, got 0"),
        (lambda: sn.CubaLIF(learnable=True, decay=0.5), ValueError, "starts from tau and tau_syn"),
        (lambda: sn.CubaLIF(1.0, learnable=True), ValueError, "tau must be above 1"),
        (lambda: sn.ALIF(0.5), ValueError, "ALIF: tau must be at least 1"),
        (lambda: sn.EIF(delta_t=0.0), ValueError, "EIF: delta_t must not be 0, got 0"),
        (lambda: sn.QIF(a0=-1.0), ValueError, "QIF: a0 must be at least 0, got -1"),
        (lambda: sn.Izhikevich(a0=-1.0), ValueError, "Izhikevich: a0 must be at least 0, got -1"),
        (lambda: sn.ALIF(tau_adapt=0), ValueError, "ALIF: tau_adapt must be at least 1"),
        (lambda: sn.ALIF(decay_adapt=1.5), ValueError, r"decay_adapt must lie in \[0, 1\]"),
        (lambda: sn.ALIF(tau_adapt=2, decay_adapt=0.5), ValueError, "give tau_adapt or decay_adapt"),
        (lambda: sn.ALIF(beta="1"), TypeError, "ALIF: beta must be a number"),
        (lambda: sn.ALIF(beta=float("nan")), ValueError, "ALIF: beta must be finite"),
        (lambda: sn.ParametricLIF(1.0), ValueError, "init_tau must be above 1"),
        (lambda: sn.ParametricLIF(torch.ones(2)), TypeError, "init_tau must be a number"),
        (lambda: sn.ParametricLIF(v_threshold="1"), TypeError, "v_threshold must be a number"),
        (
            lambda: sn.ParametricLIF(v_threshold=torch.ones(2), learnable_threshold=True),
            TypeError,
            "v_threshold must be a number",
        ),
    ],
)
def test_wrong_arguments_raise_when_the_layer_is_made(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("layer", "x", "error", "message"),
    [
        (sn.LIF(), [1.0], TypeError, "LIF: x must be a tensor"),
        (sn.LIF(), torch.ones(3, 2, dtype=torch.int64), TypeError, "LIF: x must have one of"),
        (sn.LIF(), torch.tensor(1.0), ValueError, r"LIF: x must have shape \[T, \.\.\.\]"),
        (sn.LIF(torch.full((4,), 2.0)), torch.ones(3, 2, 3), ValueError, "tau must be a number or"),
        (sn.ParametricLIF(channels=4), torch.ones(3, 2, 3), ValueError, r"\[T, B, 4, \.\.\.\]"),
        (sn.ParametricLIF(channels=4), torch.ones(3, 2), ValueError, "w has 4 channels"),
    ],
)
def test_wrong_input_raises(layer, x, error, message):
    with pytest.raises(error, match=message):
        layer(x)


@pytest.mark.parametrize("layer", [sn.LIF, sn.LI, sn.ALIF, sn.CubaLIF, sn.QIF, sn.EIF, sn.Izhikevich])
def test_a_decay_is_a_number_when_the_time_constant_was_one(layer):
    by_tau = layer(tau=4.0)
    assert (by_tau.decay, by_tau.tau) == (0.75, 4.0)
    assert layer().decay == 0.5
    by_decay = layer(decay=0.75)
    assert (by_decay.decay, by_decay.tau) == (0.75, None)
    assert "tau=4.0" in repr(by_tau)
    assert "decay=0.75" in repr(by_decay)
    assert layer(tau=torch.tensor(4.0)).decay is None  # the tensor may be learned, or moved


@pytest.mark.parametrize("layer", [sn.LIF, sn.IF, sn.ALIF, sn.QIF])
def test_arguments_of_other_libraries_are_named(layer):
    message = f"^{layer.__name__}: there is no argument 'threshold'; snnfast.nn.like takes other"
    with pytest.raises(TypeError, match=message):
        layer(threshold=1.0)


SLOW = {
    "lif": lambda tau: sn.LIF(torch.full((3,), tau), return_v_seq=True),
    "lif learned": lambda tau: sn.LIF(nn.Parameter(torch.full((3,), tau)), return_v_seq=True),
    "plif": lambda tau: sn.ParametricLIF(tau, return_v_seq=True),
    "cuba": lambda tau: sn.CubaLIF(tau, learnable=True, return_v_seq=True),
    "qif": lambda tau: sn.QIF(torch.full((3,), tau), return_v_seq=True),
    "li": lambda tau: sn.LI(torch.full((3,), tau)),
}


@pytest.mark.parametrize("tau", [1e4, 1e6])
@pytest.mark.parametrize("name", SLOW)
def test_slow_neurons_take_in_their_input_with_all_its_digits(name, tau):
    """Membranes and gradients are those of float64, also with a learned time constant."""
    layer = SLOW[name](tau)
    wide = copy.deepcopy(layer).double()
    x = torch.linspace(0.5, 1.0, 18).view(6, 1, 3)

    def found(layer, x):
        v = layer(x.requires_grad_())
        v = v[-1] if isinstance(v, tuple) else v
        grads = torch.autograd.grad(v.sum(), [x, *layer.parameters()])
        return [v.detach(), *grads]

    for got, want in zip(found(layer, x), found(wide, x.double().detach()), strict=True):
        assert ((got.double() - want) / want).abs().max() < 1e-6
