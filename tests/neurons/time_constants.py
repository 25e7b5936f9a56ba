"""Time constants of many steps: the gain of the input is exactly ``1/tau``."""

import pytest
import torch
from samples import gradients, leaky, over_neurons

from snnfast.check import state_dtype

TAUS = (1e4, 1e6)
LIMIT = 8 * torch.finfo(torch.float32).eps  # a few roundings per step


def far(got, want, name):
    """Return the largest error of ``got``, relative to ``want``, which is float64."""
    error = ((got.detach().double() - want) / want).abs()
    assert want.abs().min() > 0, name
    return error.max().item()


def slow(op, dtype, device, tau_of):
    """Return arguments for six steps without spikes, with time constants ``tau_of(name)``."""
    x = torch.linspace(0.5, 1.0, 6 * 3, dtype=torch.float64).view(6, 3).to(dtype).to(device)
    arguments = {"x": x} | {name.replace("decay", "tau"): tau_of(name) for name in op.decays}
    if op.accepts("v_rest"):
        arguments["v_rest"] = 0.0
    return arguments


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("way", ["number", "tensor"])
@over_neurons("op", leaky)
def test_membranes_of_a_large_time_constant_are_those_of_float64(kernels, op, way, tau):
    def arguments(dtype):
        tensor = torch.full((3,), tau, dtype=state_dtype(dtype), device=kernels.device)
        keywords = slow(op, dtype, kernels.device, lambda _: tau if way == "number" else tensor)
        return keywords | ({"return_v_seq": True} if op.fires else {})

    got, want = op(**arguments(torch.float32)), op.reference(**arguments(torch.float64))
    if op.fires:
        assert want[0].sum() == 0
        got, want = got[1:], want[1:]
    errors = {k: far(g, w, k) for k, (g, w) in enumerate(zip(got, want, strict=True)) if w.any()}
    assert max(errors.values()) < LIMIT, errors


@pytest.mark.parametrize("tau", TAUS)
@over_neurons("op", leaky)
def test_gradients_of_a_large_time_constant_are_those_of_float64(kernels, op, tau):
    """Compare gradients of the membrane after the last step, which is charged only by the input."""

    def found(function, dtype):
        def last(**arguments):
            return (function(**arguments)[1],)

        tensor = torch.full((3,), tau, dtype=state_dtype(dtype), device=kernels.device)
        return gradients(last, slow(op, dtype, kernels.device, lambda _: tensor.clone()))

    got, want = found(op, torch.float32), found(op.reference, torch.float64)
    for name in ("x", "tau"):
        assert far(got[name], want[name], name) < LIMIT, name


@over_neurons("op", leaky)
def test_gain_is_exact_where_a_difference_rounds(kernels, op):
    """With ``tau = 3 * 2**20``, an input of ``tau`` charges a membrane at rest by 1, as a number and as a tensor."""
    if op.name not in ("lif", "li", "alif", "cuba", "cubali"):
        return
    tau = 3.0 * 2**20
    for value in (tau, torch.tensor(tau, device=kernels.device)):
        x = torch.full((1, 2), tau, device=kernels.device)
        quiet = {"v_threshold": 2.0} if op.fires else {}
        assert op(x=x, tau=value, **quiet)[1].tolist() == [1.0, 1.0]
