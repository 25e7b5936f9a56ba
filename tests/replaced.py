"""Comparison of neurons with their replacements, for the tests of snnfast.nn.replace."""

from types import SimpleNamespace

import torch
from torch import nn

from snnfast import nn as sn

# Tolerance, relative to the largest value, for libraries that cast to float32 inside.
ROUNDING = 1e-5


def same(ours, theirs, exact=False, rounding=ROUNDING):
    """Check for equal shapes and dtypes, and for values that are equal or differ by rounding."""
    assert ours.dtype == theirs.dtype
    scale = 0 if exact else rounding * max(1.0, float(theirs.detach().abs().max()))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=scale)


def loss_of(outputs):
    """Return a loss that depends on all of ``outputs``."""
    return sum((o * torch.arange(o.numel(), dtype=o.dtype).sin().view(o.shape)).sum() for o in outputs)


def agrees(neuron, run, x, *, fires=True, rate=(0.02, 0.99), rounding=ROUNDING):
    """Compare ``run(neuron, x)`` with that of its replacement: outputs, gradients, keys, loading of saved weights.

    Returns:
        The replacement.
    """
    ours = sn.replace(neuron)
    assert list(ours.state_dict()) == list(neuron.state_dict())
    names = [name for name, _ in neuron.named_parameters()]
    assert [name for name, _ in ours.named_parameters()] == names
    ours.load_state_dict(neuron.state_dict())
    results = []
    for module in (neuron, ours):
        leaf = x.clone().requires_grad_()
        outputs = run(module, leaf)
        learned = [p for p in module.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss_of(outputs), [leaf, *learned], allow_unused=True)
        results.append((outputs, gradients))
    (theirs, wanted), (outputs_of_ours, found) = results
    assert len(outputs_of_ours) == len(theirs)
    same(outputs_of_ours[0], theirs[0], exact=fires)
    if fires:
        fired = float((theirs[0].detach() != 0).double().mean())
        assert rate[0] < fired < rate[1], fired
    for a, b in zip(outputs_of_ours[1:], theirs[1:]):
        same(a, b)
    for a, b in zip(found, wanted):
        zeros = a is None or b is None  # no gradient, or one of 0
        assert not zeros or all(g is None or not g.any() for g in (a, b))
        if not zeros:
            same(a, b, rounding=rounding)
    return ours


def inputs(steps, *shape, low=-0.3, high=1.2, seed=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(steps, *shape, generator=generator, dtype=dtype) * (high - low) + low


def loud(linear, factor=3.0):
    """Scale a layer so that neurons fire."""
    with torch.no_grad():
        linear.weight.abs_().mul_(factor)
    return linear


def network(*layers):
    torch.manual_seed(0)
    return nn.Sequential(*layers)


# ---- stand-ins for neurons, without their libraries


def stand_in(library, name, parameters=None, buffers=None, **settings):
    """Return a module with the name, parameters, buffers and settings of one of another library."""
    module = type(name, (nn.Module,), {"__module__": library})()
    for key, value in (parameters or {}).items():
        module.register_parameter(key, nn.Parameter(torch.tensor(value, dtype=torch.float64)))
    for key, value in (buffers or {}).items():
        module.register_buffer(key, torch.tensor(value, dtype=torch.float64))
    for key, value in settings.items():
        setattr(module, key, value)
    return module


def surrogate(alpha):
    """Return ``atan(alpha)`` like snnTorch: a nested function."""

    def atan(alpha):
        def inner(x):
            raise AssertionError(alpha)

        return inner

    function = atan(alpha)
    function.__qualname__, function.__module__ = "atan.<locals>.inner", "snntorch.surrogate"
    return function


def leaky(settings):
    constants = {n: settings[n] for n in ("beta", "threshold")}
    return stand_in(
        "snntorch._neurons.leaky",
        "Leaky",
        buffers=constants | {"graded_spikes_factor": 1.0, "reset_mechanism_val": 0.0, "mem": []},
        reset_mechanism=settings["reset_mechanism"],
        reset_delay=settings["reset_delay"],
        spike_grad=surrogate(2.0),
        **dict.fromkeys(("inhibition", "state_quant", "init_hidden", "output"), False),
    )


def reset_value():
    """Stand-in for Norse's function of this name."""


def norse(name, library):
    def make(settings):
        parameters = {k: torch.tensor(v, dtype=torch.float64) for k, v in settings.items() if k != "dt"}
        parameters |= {"method": "super", "alpha": 100.0, "reset_method": reset_value}
        return stand_in(library, name, p=SimpleNamespace(**parameters), dt=settings["dt"])

    return make
