"""Encoders: rates and intensities to spikes."""

import copy
import math

import pytest
import torch

import snnfast
from snnfast import ops, reference
from snnfast.encoder import BernoulliEncoder, PoissonEncoder, RegularEncoder


def test_rate_in_hz_is_spikes_a_second(backend):
    rates = torch.tensor([0.0, 5.0, 40.0, 128.0, 1000.0], device=backend.device)
    spikes = PoissonEncoder(20_000, generator=torch.Generator().manual_seed(1))(rates)
    assert spikes.shape == (20_000, 5)
    measured = spikes.double().sum(0).cpu() / 20.0
    p = rates.cpu().double() / 1000
    assert ((measured - rates.cpu()).abs() <= 5 * (p * (1 - p) / 20_000).sqrt() * 1000).all()
    assert not spikes[:, 0].any()
    assert spikes[:, 4].all()


@pytest.mark.parametrize("dt", [0.1, 0.25, 0.3, 0.5, 2.0, 10.0])
def test_step_length_keeps_the_rate(dt):
    rates = torch.full((400,), 20.0)
    encoder = PoissonEncoder(300, dt, generator=torch.Generator().manual_seed(2))
    spikes = encoder(rates)
    assert spikes.shape == (round(300 / dt), 400)
    per_second = spikes.double().sum().item() / 400 / 0.3
    assert abs(per_second - 20) < 5 * math.sqrt(20 / (400 * 0.3))


@pytest.mark.parametrize("dt", [0.1, 0.3, 1.0, 1.7, 7.0])
def test_highest_rate_fires_every_step(dt):
    assert PoissonEncoder(51 * dt, dt)(torch.tensor([1000 / dt])).all()


def test_is_the_op_with_p_rate_dt(backend):
    rates = torch.rand(3, 4, generator=torch.Generator().manual_seed(0)) * 500
    torch.manual_seed(5)
    spikes = PoissonEncoder(20, 2.0)(rates.to(backend.device))
    torch.manual_seed(5)
    torch.testing.assert_close(spikes.cpu(), reference.poisson(rates * 0.002, 10), rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(), (5,), (1, 28, 28), (2, 3, 4, 5), (0, 3)])
def test_any_shape(shape):
    assert PoissonEncoder(7)(torch.zeros(shape)).shape == (7, *shape)
    assert BernoulliEncoder(7)(torch.zeros(shape)).shape == (7, *shape)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32, torch.bfloat16])
def test_dtype_of_spikes(dtype):
    assert PoissonEncoder(4, dtype=dtype)(torch.ones(2)).dtype == dtype
    assert BernoulliEncoder(4, dtype=dtype)(torch.ones(2)).dtype == dtype


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.float64])
def test_input_of_any_real_dtype(dtype):
    x = torch.tensor([0, 1, 1]).to(dtype)
    assert not PoissonEncoder(5)(x)[:, 0].any()
    assert BernoulliEncoder(5, scale=1.0)(x)[:, 1:].all()


@pytest.mark.parametrize(
    ("rates", "got"), [([-1.0, 5.0], "-1 to 5"), ([math.nan, 5.0], "nan to nan"), ([5.0, 1001.0], "5 to 1001")]
)
def test_impossible_rates_raise(backend, rates, got):
    rates = torch.tensor(rates, device=backend.device)
    with pytest.raises(ValueError, match="PoissonEncoder") as caught:
        PoissonEncoder(10)(rates)
    expected = f"PoissonEncoder: rates must lie in [0, 1000] Hz, got values from {got}"
    assert str(caught.value) == expected
    PoissonEncoder(10, validate=False)(rates)


def test_longer_steps_allow_lower_rates():
    with pytest.raises(ValueError, match=r"rates must lie in \[0, 100\] Hz"):
        PoissonEncoder(100, 10.0)(torch.tensor([101.0]))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((10, 0.0), ValueError, "dt must be positive, got 0"),
        ((10, -1.0), ValueError, "dt must be positive, got -1"),
        ((10, math.nan), ValueError, "dt must be finite, got nan"),
        ((-1,), ValueError, "duration must be a multiple of dt = 1 ms, got -1 ms"),
        ((10.5,), ValueError, "duration must be a multiple of dt = 1 ms, got 10.5 ms"),
        (("10",), TypeError, "duration must be a number, got str"),
    ],
)
def test_errors_of_poisson_encoder(arguments, error, message):
    with pytest.raises(error) as caught:
        PoissonEncoder(*arguments)
    assert str(caught.value) == f"PoissonEncoder: {message}"


@pytest.mark.parametrize("encoder", [PoissonEncoder(3), BernoulliEncoder(3)])
def test_input_that_is_no_real_tensor_raises(encoder):
    name = type(encoder).__name__
    with pytest.raises(TypeError, match=f"^{name}: .* must be a tensor, got list"):
        encoder([1.0])
    with pytest.raises(TypeError, match=f"^{name}: .* must be real numbers, got torch.complex64"):
        encoder(torch.ones(2, dtype=torch.complex64))


def test_simple_fires_with_x_over_scale(backend):
    x = torch.tensor([0.0, 0.25, 1.0, 4.0, 5.0, 7.0, math.inf], device=backend.device)
    spikes = BernoulliEncoder(20_000, generator=torch.Generator().manual_seed(3))(x)
    p = (x.cpu().double() / 5).clamp(max=1)
    measured = spikes.double().mean(0).cpu()
    assert ((measured - p).abs() <= 5 * (p * (1 - p) / 20_000).sqrt()).all()


def test_simple_is_the_op_with_p_x_over_scale(backend):
    x = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(5)
    spikes = BernoulliEncoder(20, 2.0)(x.to(backend.device))
    torch.manual_seed(5)
    torch.testing.assert_close(spikes.cpu(), reference.poisson(x / 2.0, 20), rtol=0, atol=0)


def test_simple_rates_are_its_spikes_not_drawn_yet():
    encoder, x = BernoulliEncoder(20, 2.0), 3 * torch.rand(5, 3, 4)
    torch.manual_seed(5)
    expected = torch.stack([encoder(sample) for sample in x], 1).flatten(2)
    torch.manual_seed(5)
    rates = encoder.rates(x)
    assert (rates.num_steps, rates.hz.shape, rates.seeds.shape) == (20, (5, 12), (5,))
    drawn = [reference.poisson(p, 20, seed=s) for p, s in zip(rates.hz, rates.seeds)]
    torch.testing.assert_close(torch.stack(drawn, 1), expected, rtol=0, atol=0)
    seeds = encoder.seeds(5)
    torch.testing.assert_close(encoder.rates(x, seeds).seeds, seeds, rtol=0, atol=0)
    with pytest.raises(ValueError, match="BernoulliEncoder: x must be at least 0"):
        encoder.rates(-x)


def test_simple_defaults_are_those_of_n3ml():
    encoder = BernoulliEncoder()
    assert (encoder.num_steps, encoder.scale) == (100, 5.0)
    assert BernoulliEncoder(num_steps=20)(torch.zeros(1, 28, 28)).shape == (20, 1, 28, 28)


@pytest.mark.parametrize(("x", "got"), [([-1.0, 5.0], "-1 to 5"), ([math.nan, 5.0], "nan to nan")])
def test_negative_or_nan_intensities_raise(backend, x, got):
    x = torch.tensor(x, device=backend.device)
    with pytest.raises(ValueError, match="BernoulliEncoder") as caught:
        BernoulliEncoder(10)(x)
    assert str(caught.value) == f"BernoulliEncoder: x must be at least 0 and not NaN, got values from {got}"
    BernoulliEncoder(10, validate=False)(x)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((-1,), ValueError, "num_steps must be a number of steps, got -1"),
        ((2.5,), ValueError, "num_steps must be a number of steps, got 2.5"),
        ((None,), TypeError, "num_steps must be a number, got NoneType"),
        ((10, 0.0), ValueError, "scale must be positive, got 0"),
        ((10, math.inf), ValueError, "scale must be finite, got inf"),
    ],
)
def test_errors_of_simple(arguments, error, message):
    with pytest.raises(error) as caught:
        BernoulliEncoder(*arguments)
    assert str(caught.value) == f"BernoulliEncoder: {message}"


@pytest.mark.parametrize("make", [lambda: PoissonEncoder(6), lambda: BernoulliEncoder(6)])
def test_calls_differ_and_manual_seed_repeats(make):
    encoder, x = make(), torch.full((500,), 2.0)
    x = x if isinstance(encoder, BernoulliEncoder) else x * 200
    torch.manual_seed(0)
    first, second = encoder(x), encoder(x)
    torch.manual_seed(0)
    torch.testing.assert_close(encoder(x), first, rtol=0, atol=0)
    assert not torch.equal(first, second)


def test_two_encoders_with_generators_of_one_seed_agree():
    x = torch.full((50,), 300.0)
    one, two = (PoissonEncoder(9, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    torch.testing.assert_close(one(x), two(x), rtol=0, atol=0)
    torch.testing.assert_close(one(x), two(x), rtol=0, atol=0)


def test_encoders_are_modules_without_parameters():
    net = torch.nn.Sequential(PoissonEncoder(10, 0.5, dtype=torch.uint8), torch.nn.Flatten(1))
    assert net(torch.ones(2, 3)).shape == (20, 6)
    assert not net.state_dict()
    assert repr(net[0]) == "PoissonEncoder(duration=10, dt=0.5, dtype=torch.uint8)"
    assert repr(BernoulliEncoder()) == "BernoulliEncoder(num_steps=100, scale=5, dtype=torch.float32)"
    assert copy.deepcopy(net)(torch.ones(2, 3)).shape == (20, 6)


def test_no_gradient():
    x = torch.ones(3, requires_grad=True)
    assert not PoissonEncoder(4)(x).requires_grad
    assert not BernoulliEncoder(4)(x).requires_grad


def test_compiles_to_one_graph(kernels):
    encoder = PoissonEncoder(10)
    compiled = torch.compile(encoder, fullgraph=True, backend="aot_eager")
    rates = torch.tensor([0.0, 1000.0], device=kernels.device)
    assert compiled(rates).tolist() == [[0.0, 1.0]] * 10


def test_snippets_of_the_manual():
    images = torch.rand(1, 1, 28, 28) * 128
    encoder = snnfast.encoder.PoissonEncoder(250)
    spiked_images = encoder(images.view(1, 28, 28)).view(250, -1)
    assert spiked_images[0].shape == (784,)

    encoder = snnfast.encoder.BernoulliEncoder(num_steps=20)
    spiked_image = encoder(torch.rand(1, 1, 28, 28).squeeze(dim=0))
    spiked_image = spiked_image.view(spiked_image.size(0), -1)
    assert spiked_image.shape == (20, 784)
    assert ops.lif(spiked_image)[0].shape == (20, 784)


@pytest.mark.parametrize("kind", [BernoulliEncoder, RegularEncoder])
def test_bytes_of_images_warn_once(kind, recwarn):
    encoder = kind(3)
    for x in (torch.rand(4), torch.tensor([5.0, 9.0])):
        encoder(x)
    assert not recwarn.list
    with pytest.warns(UserWarning, match=rf"{kind.__name__}: x goes up to 200, .* scale=5 on fire.* x / 255"):
        encoder(torch.tensor([0, 200], dtype=torch.uint8))
    recwarn.clear()
    encoder(torch.tensor([0, 200], dtype=torch.uint8))
    assert not recwarn.list
