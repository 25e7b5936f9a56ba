"""Costs of convolutions by events: measured once, kept, and of use to ``"auto"``."""

import json

import pytest
import torch
from samples import assert_equal
from spike_conv2d_cases import needs_kernels
from torch.utils.flop_counter import FlopCounterMode

from snnfast import backend, ops
from snnfast.compiler import build
from snnfast.ops import spike_costs
from snnfast.ops.spike_costs import LEAST, MOST, Costs

pytestmark = needs_kernels
BUILT_IN = Costs(2.0, 2.0, 78.0, 1 / 3, 2.1, 200.0, 0.4)  # of ConvCosts in csrc/core/spike_conv2d.h
FREE, DEAR = Costs(0.3, 0.3, 0.0, 1.0, 0.3, 0.0, 1.0), Costs(4.0, 4.0, 200.0, 0.0, 4.0, 400.0, 0.0)


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """Return an empty folder for costs, of a process that has none, and measurements that were counted."""
    monkeypatch.setenv("SNNFAST_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(spike_costs, "_fitted", False)
    monkeypatch.setattr(spike_costs, "LARGE", 1000)
    count = []
    monkeypatch.setattr(spike_costs, "measured", lambda: count.append(1) or FREE)
    yield tmp_path / "cache", count
    backend.extension.set_conv_costs(*BUILT_IN)


def convolution(share=0.5, method="auto", outputs=32):
    """Return a convolution of 0 and 1, whose sums differ between events and the dense product in the last bits."""
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(2, 32, 8, 8, generator=generator) < share).float()
    return ops.spike_conv2d(x, torch.randn(outputs, 32, 3, 3, generator=generator), padding=1, method=method)


EVENTS, DENSE = convolution(method="events"), convolution(method="dense")


def chosen():
    y = convolution()
    return "events" if y.equal(EVENTS) else "dense" if y.equal(DENSE) else "neither"


def test_events_and_the_dense_product_can_be_told_apart():
    assert not torch.equal(EVENTS, DENSE)


def test_costs_are_measured_once_and_kept(fresh, monkeypatch):
    where, count = fresh
    assert chosen() == "events"  # they are free
    (path,) = where.iterdir()
    assert Costs(**json.loads(path.read_text())) == FREE
    assert chosen() == "events"
    monkeypatch.setattr(spike_costs, "_fitted", False)  # another process
    backend.extension.set_conv_costs(*BUILT_IN)
    assert chosen() == "events"
    assert len(count) == 1
    assert build.clear() == (0, 0)
    assert not list(where.iterdir())


def test_the_built_in_costs_hold_before_and_where_nothing_can_be_kept(fresh, monkeypatch):
    where, count = fresh
    monkeypatch.setattr(spike_costs, "LARGE", 2**40)
    assert chosen() == "dense"
    assert not count
    monkeypatch.setattr(spike_costs, "LARGE", 1000)
    where.write_text("a file in the place of the folder")
    assert chosen() == "dense"
    assert chosen() == "dense"
    assert len(count) == 1


@pytest.mark.parametrize("text", ["", "{}", "[1, 2]", json.dumps(FREE._replace(small=99.0)._asdict()), "\x00\xff"])
def test_a_file_of_no_costs_is_measured_again(text, fresh):
    where, count = fresh
    convolution()
    (path,) = where.iterdir()
    path.write_text(text)
    assert spike_costs.read(path) is None
    assert spike_costs.of_machine() == FREE
    assert len(count) == 2
    assert spike_costs.read(path) == FREE


def test_costs_decide(fresh):
    for costs, want in ((FREE, "events"), (DEAR, "dense"), (BUILT_IN, "dense")):
        spike_costs._fitted = True
        backend.extension.set_conv_costs(*costs)
        assert chosen() == want
        y = convolution(share=0.05)
        assert_equal([y], [convolution(share=0.05, method="dense" if costs == DEAR else "events")])


def test_a_table_for_the_first_level_cache_has_its_price(fresh):
    spike_costs._fitted = True
    backend.extension.set_conv_costs(*FREE._replace(large=4.0))
    assert_equal([convolution(outputs=16)], [convolution(outputs=16, method="events")])
    assert_equal([convolution(outputs=64)], [convolution(outputs=64, method="dense")])


def test_the_gradient_of_the_weights_has_its_price(fresh):
    spike_costs._fitted = True
    x = (torch.rand(8, 32, 16, 16, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    weight = torch.randn(32, 32, 3, 3, generator=torch.Generator().manual_seed(1))
    found = {}
    for name, costs in (
        ("dear", DEAR),
        ("free gradient", DEAR._replace(weight_line=0.3, weight_pixel=0.0, weight_most=1.0)),
    ):
        backend.extension.set_conv_costs(*costs)
        w = weight.clone().requires_grad_()
        y = ops.spike_conv2d(x, w, padding=1)
        y.sin().sum().backward()
        found[name] = y.detach(), w.grad
    assert_equal([found["dear"][0]], [found["free gradient"][0]])
    assert not torch.equal(found["dear"][1], found["free gradient"][1])
    torch.testing.assert_close(found["dear"][1], found["free gradient"][1], rtol=1e-4, atol=1e-3)


def test_modes_that_watch_calls_see_no_measurement(fresh):
    _, count = fresh
    with FlopCounterMode(display=False):
        convolution()
    assert not count
    convolution()
    assert len(count) == 1


def test_a_measurement_is_seven_numbers_and_draws_none_of_the_users():
    before = torch.random.get_rng_state()
    costs = spike_costs.measured()
    assert len(costs) == len(LEAST) == len(MOST)
    assert all(isinstance(cost, float) for cost in costs)
    assert_equal([before], [torch.random.get_rng_state()])
    with torch.inference_mode(), torch.device("meta"), torch.autocast("cpu", torch.bfloat16):
        assert len(spike_costs.measured()) == len(costs)
