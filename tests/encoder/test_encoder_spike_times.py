"""Encoders to spike times: PopulationEncoder and LatencyEncoder."""

import math

import pytest
import torch

from snnfast.encoder import LatencyEncoder, Population, PopulationEncoder

INF = math.inf


def two_features(encoder=PopulationEncoder, **changes):
    arguments = {"neurons": 6, "minimum": [0.0, -2.0], "maximum": [4.0, 2.0]}
    return encoder(**(arguments | {"t_max": 10, "silent_from": 10} | changes))


def test_population_has_the_fields_of_the_paper():
    encoder = two_features()
    assert encoder.center[0].tolist() == [-0.5, 0.5, 1.5, 2.5, 3.5, 4.5]
    assert encoder.center[1].tolist() == [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]
    torch.testing.assert_close(encoder.sigma, torch.full((2,), 1 / 1.5, dtype=torch.float64))


def test_population_times_worked_by_hand():
    # A value on a centre fires that neuron at 0; its neighbours, 1.5 sigma away, at 10 (1 - exp(-9/8)) = 6.75, and
    # those 3 sigma away at 9.89, which rounds to the silent 10.
    times = two_features()(torch.tensor([1.5, 0.5]))
    assert times.tolist() == [[INF, 7, 0, 7, INF, INF], [INF, INF, 7, 0, 7, INF]]
    exact = two_features(dt=None, silent_from=9.0)(torch.tensor([1.5, 0.5]))
    near = 10 * (1 - math.exp(-9 / 8))
    torch.testing.assert_close(exact[0], torch.tensor([INF, near, 0, near, INF, INF]))


def test_population_n3ml_centers_are_one_spacing_lower():
    paper, n3ml = two_features(), two_features(centers="n3ml")
    torch.testing.assert_close(n3ml.center[:, 1:], paper.center[:, :-1])
    x = torch.tensor([1.5, 0.5])
    torch.testing.assert_close(n3ml(x)[:, 1:], paper(x)[:, :-1], rtol=0, atol=0)


def test_population_grid_of_half_milliseconds():
    times = two_features(dt=0.5)(torch.tensor([1.4, 0.0]))
    fired = times[times.isfinite()]
    torch.testing.assert_close((fired * 2).round(), fired * 2, rtol=0, atol=0)
    assert not torch.equal(fired.round(), fired)


def test_population_batches_and_keeps_float64():
    encoder, x = two_features(), torch.rand(3, 5, 2)
    times = encoder(x)
    assert times.shape == (3, 5, 2, 6)
    assert times.dtype == torch.float32
    torch.testing.assert_close(times[1, 2], encoder(x[1, 2]), rtol=0, atol=0)
    assert encoder(x.double()).dtype == torch.float64


def test_population_run_is_n3mls_call():
    encoder = Population(6, [0.0, -2.0], [4.0, 2.0], max_firing_time=10, not_to_fire=10)
    x = torch.tensor([1.5, 0.5], dtype=torch.float64)
    run = encoder.run(x)
    assert run.tolist() == [[-1, 7, 0, 7, -1, -1], [-1, -1, 7, 0, 7, -1]]
    torch.testing.assert_close(run.masked_fill(run == -1, INF), encoder(x), rtol=0, atol=0)


def test_population_far_outside_the_range_is_silent():
    assert two_features()(torch.tensor([1e6, -1e6])).isinf().all()


def test_population_takes_tensors_and_moves_with_the_module():
    encoder = two_features(minimum=torch.tensor([0.0, -2.0]), maximum=torch.tensor([4.0, 2.0]))
    torch.testing.assert_close(encoder.center, two_features().center, rtol=0, atol=0)
    assert set(dict(encoder.named_buffers())) == {"center", "sigma"}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"neurons": 2}, ValueError, "neurons must be at least 3, got 2"),
        ({"neurons": 6.0}, TypeError, "neurons must be an integer, got float"),
        ({"minimum": "a"}, TypeError, "minimum must be a tensor, got str"),
        ({"maximum": [4.0]}, ValueError, "must have one shape [F], got [2] and [1]"),
        ({"maximum": [4.0, -2.0]}, ValueError, "maximum must be above minimum, got -2 and -2 for feature 1"),
        ({"minimum": [0.0, math.nan]}, ValueError, "minimum must be finite, got nan"),
        ({"centers": "none"}, ValueError, "centers must be one of paper, n3ml, got 'none'"),
        ({"t_max": 0}, ValueError, "t_max must be positive, got 0"),
        ({"silent_from": -1.0}, ValueError, "silent_from must be positive, got -1"),
        ({"dt": 0.0}, ValueError, "dt must be positive, got 0"),
        ({"beta": math.inf}, ValueError, "beta must be finite, got inf"),
    ],
)
def test_errors_of_population(changes, error, message):
    with pytest.raises(error) as caught:
        two_features(**changes)
    assert message in str(caught.value)
    assert str(caught.value).startswith("PopulationEncoder: ")


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.rand(3), ValueError, "x must have shape [..., 2], got [3]"),
        (torch.tensor([0.0, INF]), ValueError, "x must be finite, got inf"),
        (torch.rand(2) + 1j, TypeError, "x must be real numbers, got torch.complex64"),
        (None, TypeError, "x must be a tensor, got NoneType"),
    ],
)
def test_errors_of_population_values(x, error, message):
    with pytest.raises(error) as caught:
        two_features()(x)
    assert str(caught.value) == f"PopulationEncoder: {message}"


def test_latency_worked_by_hand():
    x = torch.tensor([[1.0, 0.75], [0.25, 0.0]])
    assert LatencyEncoder(8.0)(x).tolist() == [[0, 2], [6, INF]]
    assert LatencyEncoder(8.0, threshold=None)(x).tolist() == [[0, 2], [6, 8]]
    assert LatencyEncoder(8.0, threshold=0.25)(x).tolist() == [[0, 2], [INF, INF]]
    assert LatencyEncoder(8.0, dt=4.0)(x).tolist() == [[0, 0], [8, INF]]  # 2 / 4 and 6 / 4 go to even
    assert LatencyEncoder(8.0)(x.double()).dtype == torch.float64


def test_no_time_on_the_grid_is_after_the_last_one():
    x = torch.tensor([0.01, 0.3, 1.0])
    assert LatencyEncoder(8.0, dt=3.0)(x).tolist() == [6, 6, 0]  # 7.92 would be 9
    assert LatencyEncoder(0.3, dt=0.1)(x).max().item() == pytest.approx(0.3)
    encoder = PopulationEncoder(5, [0.0], [1.0], 8.0, 20.0, dt=3.0)
    assert encoder(torch.tensor([0.0])).max() == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"t_max": 0}, "t_max must be positive, got 0"),
        ({"t_max": 1, "dt": -1.0}, "dt must be positive, got -1"),
        ({"t_max": 1, "threshold": math.nan}, "threshold must be finite, got nan"),
    ],
)
def test_errors_of_latency(arguments, message):
    with pytest.raises(ValueError, match=f"LatencyEncoder: {message}"):
        LatencyEncoder(**arguments)


@pytest.mark.parametrize("x", [1.5, -0.1])
def test_latency_refuses_what_is_no_intensity(x):
    with pytest.raises(ValueError, match=r"LatencyEncoder: x must lie in \[0, 1\], got"):
        LatencyEncoder(1.0)(torch.tensor([0.5, x]))
    with pytest.raises(ValueError, match="LatencyEncoder: x must be finite, got nan"):
        LatencyEncoder(1.0)(torch.tensor([math.nan]))
