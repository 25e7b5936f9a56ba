"""Cases of the fuzzer for transforms of networks (``fuse``, ``accelerate``) and padded sequences."""

from __future__ import annotations

import copy
import types
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from snnfast import nn
from snnfast.nn import Time, loss
from snnfast.nn.state import without_graphs

from .draw import Draw, Finding, same


class Tied(torch.nn.Module):
    """An encoder and a decoder; they may share weights, and ``forward`` may read the weight of the encoder."""

    def __init__(self, d: Draw, channels: int) -> None:
        super().__init__()
        self.encoder = torch.nn.Linear(channels, 4, bias=d.chance(0.5))
        self.norm = torch.nn.BatchNorm1d(4)
        self.decoder = torch.nn.Linear(4, channels, bias=False)
        self.way = d.choice(("own", "read", "shared", "both"))
        if self.way in ("shared", "both"):
            self.decoder.weight = torch.nn.Parameter(self.encoder.weight.detach().T.contiguous())
        if self.way == "both":  # one parameter in two layers
            self.decoder = torch.nn.Linear(4, 4, bias=False)
            self.encoder = torch.nn.Linear(channels, 4)
            self.last = torch.nn.Linear(channels, 4, bias=False)
            self.last.weight = self.encoder.weight

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C]`` to ``[N, C or 4]``."""
        h = torch.relu(self.norm(self.encoder(x)))
        if self.way == "read":
            return functional.linear(h, self.encoder.weight.T)
        if self.way == "both":
            return self.decoder(h) + self.last(x)
        return self.decoder(h)  # type: ignore[no-any-return]


def body(d: Draw) -> torch.nn.Module:
    """Return layers without time for ``[N, 3, 6, 6]``."""
    layers: list[torch.nn.Module] = []
    for _ in range(d.randrange(1, 3)):
        layers += [torch.nn.Conv2d(3, 3, 3, padding=1, bias=d.chance(0.6))]
        layers += [torch.nn.BatchNorm2d(3, affine=d.chance(0.7))] if d.chance(0.7) else []
        layers += [torch.nn.ReLU(inplace=True)] if d.chance(0.3) else []
    layers += [d.choice((torch.nn.MaxPool2d(2), torch.nn.AvgPool2d(2)))] if d.chance(0.5) else []
    return torch.nn.Sequential(*layers)


def spiking(d: Draw) -> tuple[torch.nn.Module, Tensor]:
    """Return a network for ``[T, B, 3, 6, 6]``, possibly with tied weights, and its input."""
    if d.chance(0.3):  # torch.fx traces forward to the weight
        tied = torch.nn.Sequential(Tied(d, 5), torch.nn.ReLU())
        return with_statistics(d, tied), torch.rand(7, 5).double()
    neuron = d.choice((nn.LIF, nn.IF, nn.ParametricLIF))
    first = body(d)
    size = first(torch.zeros(1, 3, 6, 6)).flatten(1).shape[1]
    layers: list[torch.nn.Module] = [Time(*first) if d.chance(0.5) else Time(first), neuron()]
    if d.chance(0.5):
        layers += [Time(torch.nn.Conv2d(3, 3, 1)), neuron()]
        layers += [Time(torch.nn.MaxPool2d(1))] if d.chance(0.4) else []
    layers += [torch.nn.Flatten(2), Time(Tied(d, size)), neuron(), nn.Rate()]
    x = torch.rand(d.choice((1, 5)), 2, 3, 6, 6).double() * 2
    return with_statistics(d, torch.nn.Sequential(*layers)), x


def with_statistics(d: Draw, net: torch.nn.Module) -> torch.nn.Module:
    """Return ``net`` in float64 with random running statistics."""
    torch.manual_seed(d.getrandbits(30))
    for module in net.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.normal_(module.running_mean, 0, 0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return net.double()


def attach(d: Draw, net: torch.nn.Module) -> str:
    """Attach a hook or a forward method to a layer; return its kind."""
    modules = [m for m in net.modules() if m is not net]
    module = d.choice(modules)
    kind = d.choice(("hook", "pre hook", "forward", "script", "none", "none", "none"))
    if kind == "hook":
        module.register_forward_hook(lambda m, args, out: out * 1.25 if isinstance(out, Tensor) else None)
    elif kind == "pre hook":
        module.register_forward_pre_hook(lambda m, args: tuple(g * 0.75 for g in args))
    elif kind == "forward":
        whole = module.forward
        module.forward = (  # type: ignore[method-assign]
            types.MethodType(lambda m, *args: whole(*args) * 1.25, module)
            if d.chance(0.5)
            else lambda *args: whole(*args) * 1.25
        )
    elif kind == "script":
        linear_children = [(m, n) for m in net.modules() for n, c in m.named_children() if type(c) is torch.nn.Linear]
        parent, name = d.choice(linear_children)
        setattr(parent, name, torch.jit.script(getattr(parent, name)))
    return kind


def call(net: torch.nn.Module, x: Tensor) -> Any:
    nn.reset(net)
    return net(x)


def try_transform(d: Draw) -> None:
    """Check ``fuse`` and ``accelerate``: equal results and gradients, and an unchanged network."""
    net, x = spiking(d)
    kind = attach(d, net)
    function = d.choice((nn.fuse, nn.accelerate))
    label = f"{function.__name__} with {kind}"
    training = function is nn.accelerate and d.chance(0.5)
    net.train(training)
    source = {k: v.clone() for k, v in net.state_dict().items()}
    # deepcopy of TorchScript modules passes gradients on to the original.
    twin = net if kind == "forward" else copy.deepcopy(net, without_graphs(net))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            transformed = function(net)
    except ValueError as error:
        if kind == "forward" and "has a forward of its own" in str(error):
            return
        if function is nn.fuse and "has no batch normalisation" in str(error):
            return
        raise Finding(f"{label}: {error}") from error
    if kind == "forward":
        raise Finding(f"{label}: a forward of its own was taken")
    if list(transformed.state_dict()) != list(source) and function is nn.accelerate:
        raise Finding(f"{label}: other keys")
    found = [call(m, x) for m in (transformed, twin)]
    same(found[0], found[1], label, 1e-9, 1e-9)
    if training:
        for out in found:
            out.square().sum().backward()
        for (name, a), (_, b) in zip(transformed.named_parameters(), twin.named_parameters(), strict=True):
            same(a.grad, b.grad, f"{label}: gradient of {name}", 1e-7, 1e-9)
        if any(p.grad is not None for p in net.parameters()):
            raise Finding(f"{label}: gradients in the source network")
    else:
        same(dict(net.state_dict()), source, f"{label}: the source network")


def try_lengths(d: Draw) -> None:
    """Check that NaN padding changes no result of readouts, ``Time`` and losses with lengths, and gets no gradient."""
    steps, batch, features = d.choice((1, 4, 12)), d.choice((1, 3)), 5
    lengths = torch.tensor([d.randint(1, steps) for _ in range(batch)])
    inside = torch.arange(steps)[:, None] < lengths
    x = torch.rand(steps, batch, features, dtype=torch.float64)
    clean = torch.where(inside[..., None], x, 0.0)
    dirty = torch.where(inside[..., None], x, d.choice((float("nan"), float("inf"), 1e300)))
    linear = torch.nn.Linear(features, features).double()
    labels = torch.randint(0, features, (batch,))
    layers: dict[str, Any] = {
        **{n: getattr(nn, n)() for n in ("Rate", "Count", "Last", "Max", "FirstSpike")},
        "Time": Time(linear),
        "Time with a norm": Time(linear, torch.nn.BatchNorm1d(features).double()),
    }
    name = d.choice(sorted(layers))
    layer = layers[name]
    if "norm" in name and int(lengths.sum()) < 2:
        return
    found = []
    for inputs in (clean, dirty):
        leaf = inputs.clone().requires_grad_()
        again = copy.deepcopy(layer)
        out = again(leaf, lengths)
        out.square().sum().backward()
        found.append((out.detach(), leaf.grad, *(p.grad for p in again.parameters()), *again.buffers()))
    same(found[1], found[0], f"{name} with padding")
    for b in range(batch):  # compare with each sample alone
        if "norm" in name:
            break
        n = int(lengths[b])
        alone = layer(x[:n, b : b + 1])
        got = found[0][0][:n, b : b + 1] if name == "Time" else found[0][0][b : b + 1]
        same(got, alone.detach(), f"{name} with lengths, against a sample alone", 1e-12, 1e-12)
    for kind in ("ce_rate", "ce_count", "ce_membrane", "ce_time"):
        values = [getattr(loss, kind)(inputs, labels, lengths) for inputs in (clean, dirty)]
        same(values[1], values[0], f"{kind} with padding")
