"""Neurons and their replacements side by side: for the tests of snnfast.nn.replace."""

from types import SimpleNamespace

import torch
from torch import nn

from snnfast import nn as sn

# Where another library casts to float32 inside, sums differ by so much of the largest.
ROUNDING = 1e-5


def same(ours, theirs, exact=False, rounding=ROUNDING):
    """Equal shapes and dtypes; equal values, or but for rounding."""
    assert ours.dtype == theirs.dtype
    scale = 0 if exact else rounding * max(1.0, float(theirs.detach().abs().max()))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=scale)


def loss_of(outputs):
    """A loss that looks at all that ``outputs`` hold."""
    return sum((o * torch.arange(o.numel(), dtype=o.dtype).sin().view(o.shape)).sum() for o in outputs)


def agrees(neuron, run, x, *, fires=True, rate=(0.02, 0.99), rounding=ROUNDING):
    """``run(neuron, x)`` and the same of its replacement: outputs, gradients, keys; the original's file loads.

    Returns:
        the replacement.
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
    (theirs, wanted), (own, found) = results
    assert len(own) == len(theirs)
    same(own[0], theirs[0], exact=fires)
    if fires:
        fired = float((theirs[0].detach() != 0).double().mean())
        assert rate[0] < fired < rate[1], fired
    for a, b in zip(own[1:], theirs[1:]):
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
    """A layer whose outputs make neurons fire."""
    with torch.no_grad():
        linear.weight.abs_().mul_(factor)
    return linear


def network(*layers):
    torch.manual_seed(0)
    return nn.Sequential(*layers)


# ---- stand-ins for neurons, without their libraries


def stand_in(library, name, parameters=None, buffers=None, **settings):
    """A module with the name, parameters, buffers and settings of another library's."""
    module = type(name, (nn.Module,), {"__module__": library})()
    for key, value in (parameters or {}).items():
        module.register_parameter(key, nn.Parameter(torch.tensor(value, dtype=torch.float64)))
    for key, value in (buffers or {}).items():
        module.register_buffer(key, torch.tensor(value, dtype=torch.float64))
    for key, value in settings.items():
        setattr(module, key, value)
    return module


def surrogate(alpha):
    """``atan(alpha)`` of snnTorch: a function in a function."""

    def atan(alpha):
        def inner(x):
            raise AssertionError(alpha)

        return inner

    made = atan(alpha)
    made.__qualname__, made.__module__ = "atan.<locals>.inner", "snntorch.surrogate"
    return made


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
    """Norse's function of this name."""


def norse(name, library):
    def make(settings):
        own = {k: torch.tensor(v, dtype=torch.float64) for k, v in settings.items() if k != "dt"}
        own |= {"method": "super", "alpha": 100.0, "reset_method": reset_value}
        return stand_in(library, name, p=SimpleNamespace(**own), dt=settings["dt"])

    return make
