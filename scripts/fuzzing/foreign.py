"""Cases of the fuzzer for networks of SpikingJelly, snnTorch, Norse and Sinabs, those that are installed."""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from snnfast import nn

from .draw import Draw, Finding

LIBRARIES = [name for name in ("spikingjelly", "snntorch", "norse", "sinabs") if find_spec(name)]
# How far apart values may be, relative to the largest. Sinabs' spikes are float32; others keep constants in float32.
CLOSE = {"spikingjelly": 1e-9, "snntorch": 1e-5, "norse": 1e-5, "sinabs": 1e-3}
STEPS = 4  # of loops over a constant number of steps


class Mine(torch.autograd.Function):
    """A user's surrogate."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        """Return a spike where ``u`` is at least 0."""
        ctx.save_for_backward(u)
        return (u >= 0).to(u)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """Return the gradient of a fast sigmoid."""
        (u,) = ctx.saved_tensors
        return grad / (1 + 3 * u.abs()) ** 2


class Module(torch.nn.Module):
    """A user's surrogate as a module."""

    def forward(self, u: Tensor) -> Tensor:
        """Return a spike where ``u`` is at least 0."""
        return Mine.apply(u)  # type: ignore[no-untyped-call,no-any-return]


def scaled(u: Tensor, scale: float = 1.0) -> Tensor:
    return Mine.apply(scale * u)  # type: ignore[no-untyped-call,no-any-return]


def own_surrogate(d: Draw) -> Any:
    """Return a surrogate of a user, in one of the ways to write it."""
    return d.choice((Mine.apply, lambda u: Mine.apply(u), scaled, functools.partial(scaled, scale=2.0), Module()))


class ResidualBlock(torch.nn.Module):
    """Layers with a branch around them; ``inplace`` adds in place."""

    def __init__(self, layers: torch.nn.Module, inplace: bool) -> None:
        super().__init__()
        self.body, self.inplace = layers, inplace

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of both branches."""
        y: Tensor = self.body(x)
        if self.inplace:
            y += x
            return y
        return x + y


class Listed(torch.nn.Module):
    """Layers that a forward calls one after the other."""

    def __init__(self, layers: list[torch.nn.Module], also_plain: bool) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(layers)
        if also_plain:
            self.plain = list(layers)

    def forward(self, x: Tensor) -> Tensor:
        """Run all layers."""
        for layer in self.layers:
            x = layer(x)
        return x


class Asked(Listed):
    """Layers whose forward asks which of them are neurons of SpikingJelly."""

    def forward(self, x: Tensor) -> Tensor:
        """Run neurons on the sequence, and other layers on all steps as one batch."""
        kind = import_module("spikingjelly.activation_based.neuron").BaseNode
        functional = import_module("spikingjelly.activation_based.functional")
        for layer in self.layers:
            x = layer(x) if isinstance(layer, kind) else functional.seq_to_ann_forward(x, layer)
        return x


class StepByStep(torch.nn.Module):
    """A network that takes one step a call, over a sequence."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Stack what all steps return."""
        return torch.stack([self.net(x_t) for x_t in x])

    def state_dict(self, *arguments: Any, **named: Any) -> Any:
        """Return that of the network."""
        return self.net.state_dict(*arguments, **named)


class Loop(torch.nn.Module):
    """A loop over the steps.

    Args:
        layers: layers of one step.
        states: for each neuron among them a function that returns its first states, or None for a hidden state.
        steps: how the loop runs: "range", "shape", "iterate" or "constant".
        returns: "stack", "sum", "mean", "last" or "both".
        before: a function called first, such as a reset.
    """

    def __init__(
        self, layers: list[torch.nn.Module], states: dict[int, Any], steps: str, returns: str, before: Any
    ) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(layers)
        self.states, self.steps, self.returns, self.before = states, steps, returns, before

    def step(self, h: Any, states: dict[int, Any]) -> Any:
        """Run one step; return the last value, and the last state."""
        last = h
        for k, layer in enumerate(self.layers):
            if k not in states:
                h = last = layer(h)
                continue
            state = states[k]
            if not isinstance(state, tuple) or hasattr(state, "_fields"):  # Norse
                h, states[k] = layer(h, state)
                last = h
                continue
            if type(layer).__name__.startswith("R"):
                h, last = layer(h, *state)
                states[k] = h, last
            elif len(state) == 1:
                h, last = layer(h, *state)
                states[k] = (last,)
            elif len(state) == 2:
                h, syn, last = layer(h, *state)
                states[k] = syn, last
            else:
                h, excited, inhibited, last = layer(h, *state)
                states[k] = excited, inhibited, last
        return h, last

    def forward(self, x: Tensor) -> Any:
        """Run the loop over ``[T, B, ...]``."""
        if self.before is not None:
            self.before(self)
        states = {k: begin(self.layers[k]) for k, begin in self.states.items()}
        if self.steps == "iterate":
            every = [self.step(x_t, states) for x_t in x]
        elif self.steps == "shape":
            every = [self.step(x[t], states) for t in range(x.shape[0])]
        elif self.steps == "range":
            every = [self.step(x[t], states) for t in range(x.size(0))]
        else:
            every = [self.step(x[0], states) for _ in range(STEPS)]
        if self.returns == "sum":
            total: Any = 0
            for h, _ in every:
                total = total + h
            return total
        if self.returns == "mean":
            return torch.stack([h for h, _ in every]).mean(0)
        if self.returns == "last":
            return every[-1][1]
        if self.returns == "both":
            return torch.stack([h for h, _ in every]), torch.stack([m for _, m in every])
        return torch.stack([h for h, _ in every])


Case = tuple[torch.nn.Module, Tensor, Callable[[Any], Any] | None]


def images_or_rows(d: Draw) -> tuple[int, ...]:
    """Return the shape of a sample: an image or a row."""
    return (d.choice((1, 2, 3)), d.choice((1, 4)) * 2, 4) if d.chance(0.6) else (d.choice((1, 5)),)


def stateless(d: Draw, shape: tuple[int, ...], layer: Any, last: bool) -> tuple[list[torch.nn.Module], tuple[int, ...]]:
    """Return layers before a neuron, of ``layer`` (torch.nn or one of its like), and the shape after them."""
    found: list[torch.nn.Module] = []
    if len(shape) == 3:
        if last or d.chance(0.3):
            return [layer.Flatten(), layer.Linear(shape[0] * shape[1] * shape[2], 4)], (4,)
        channels = d.choice((1, 2, shape[0]))
        found.append(layer.Conv2d(shape[0], channels, 3, padding=1, bias=d.chance(0.5)))
        found += [layer.BatchNorm2d(channels)] if d.chance(0.5) else []
        if d.chance(0.3):
            inner = layer.Conv2d(channels, channels, 1)
            found.append(ResidualBlock(inner, d.chance(0.3)))
        return found, (channels, *shape[1:])
    out = d.choice((1, 4))
    return [layer.Linear(shape[0], out, bias=d.chance(0.7))], (out,)


def pooling(d: Draw, shape: tuple[int, ...], layer: Any) -> tuple[list[torch.nn.Module], tuple[int, ...]]:
    """Return a pooling behind a neuron, in some cases, and the shape after it."""
    if len(shape) == 3 and shape[1] >= 2 and shape[2] >= 2 and d.chance(0.5):
        pool = d.choice((layer.MaxPool2d, layer.AvgPool2d))(2)
        return [pool], (shape[0], shape[1] // 2, shape[2] // 2)
    return [], shape


def network(d: Draw, layer: Any, neuron: Callable[[], torch.nn.Module]) -> tuple[list[Any], tuple[int, ...]]:
    """Return the layers of a step, and the shape of a sample."""
    start = shape = images_or_rows(d)
    layers: list[Any] = []
    depth = d.choice((1, 2, 3))
    for k in range(depth):
        if k and len(shape) == 1 and shape == (4,) and d.chance(0.2):  # a layer that runs twice
            shared = next((m for m in layers if isinstance(m, torch.nn.Linear) and m.weight.shape == (4, 4)), None)
            layers += [shared if shared is not None else layer.Linear(4, 4), neuron()]
            continue
        before, shape = stateless(d, shape, layer, k == depth - 1)
        after, pooled = pooling(d, shape, layer)
        layers += [*before, neuron(), *after]
        shape = pooled
    return layers, start


# ---- SpikingJelly


def jelly_neuron(d: Draw, mode: str) -> torch.nn.Module:
    """Return a neuron of SpikingJelly."""
    neuron, surrogate = (import_module(f"spikingjelly.activation_based.{n}") for n in ("neuron", "surrogate"))
    kinds = ["IFNode", "LIFNode", "ParametricLIFNode", "KLIFNode", "QIFNode", "EIFNode", "IzhikevichNode"]
    kind = d.choices(kinds, (4, 8, 4, 2, 1, 1, 1))[0]
    settings: dict[str, Any] = {"v_threshold": d.uniform(0.2, 1.0), "detach_reset": d.chance(0.5), "step_mode": mode}
    if kind in kinds[:4]:
        settings["v_reset"] = d.choice((0.0, None, -0.2))
    if kind in ("LIFNode", "ParametricLIFNode", "KLIFNode"):
        settings |= {"init_tau" if kind == "ParametricLIFNode" else "tau": d.choice((1.1, 2.0, 20.0))}
        settings |= {"decay_input": d.chance(0.5)}
    if kind in kinds[:2] and d.chance(0.2):
        settings["store_v_seq"] = True
    if d.chance(0.7):
        ways = [surrogate.Sigmoid(), surrogate.ATan(alpha=3.0), surrogate.Erf(), surrogate.PiecewiseQuadratic()]
        ways += [surrogate.Sigmoid(alpha=d.uniform(1, 6)), surrogate.ATan(), own_surrogate(d)]
        settings["surrogate_function"] = d.choice(ways)
    return getattr(neuron, kind)(**settings)  # type: ignore[no-any-return]


def jelly(d: Draw) -> Case:
    """Return a network of SpikingJelly, as a container in step mode "m" or as a loop in a forward."""
    functional, layer = (import_module(f"spikingjelly.activation_based.{n}") for n in ("functional", "layer"))
    steps, batch = d.choice((1, 2, STEPS, 7)), d.choice((1, 1, 3))
    if d.chance(0.35):
        layers, shape = network(d, d.choice((layer, torch.nn)), lambda: jelly_neuron(d, "s"))
        if d.chance(0.5):
            layers = [torch.nn.Sequential(*layers)]
        before = functional.reset_net if d.chance(0.6) else None
        loop = d.choice(("range", "shape", "iterate", "constant"))
        net: torch.nn.Module = Loop(layers, {}, loop, d.choice(("stack", "sum", "mean", "last")), before)
    else:
        layers, shape = network(d, layer, lambda: jelly_neuron(d, "m"))
        way = d.choice(("sequential", "nested", "listed", "asked"))
        layers = contained(d, layers, layer) if way != "asked" else plain(layers)
        if way == "asked":
            net = Asked(layers, d.chance(0.3))
        elif way == "listed":
            net = Listed(layers, d.chance(0.3))
        else:
            if way == "nested" and len(layers) > 2:
                layers = [torch.nn.Sequential(*layers[:2]), *layers[2:]]
            net = torch.nn.Sequential(*layers)
        functional.set_step_mode(net, "m")
    return net, torch.rand(steps, batch, *shape), functional.reset_net


def plain(layers: list[Any]) -> list[Any]:
    """Turn SpikingJelly's layers without time into those of torch.nn."""
    for module in (m for layer in layers for m in layer.modules()):
        kind = next((k for k in type(module).__mro__ if k.__module__.startswith("torch.nn")), torch.nn.Module)
        if kind is not torch.nn.Module and "spikingjelly" in type(module).__module__:
            module.__class__ = kind
    return layers


def contained(d: Draw, layers: list[Any], layer: Any) -> list[Any]:
    """Put some layers without time into ``SeqToANNContainer``, as layers of torch.nn."""
    found: list[Any] = []
    waiting: list[Any] = []
    container = d.chance(0.5)
    for module in layers:
        kind = next((k for k in type(module).__mro__ if k.__module__.startswith("torch.nn")), None)
        if not container or kind is torch.nn.Module or layers.count(module) > 1 or d.chance(0.2):
            found += [layer.SeqToANNContainer(*waiting)] if waiting else []
            waiting = []
            found.append(module)
            continue
        waiting += plain([copy.deepcopy(module)])
        if d.chance(0.4):
            found.append(layer.SeqToANNContainer(*waiting))
            waiting = []
    return found + ([layer.SeqToANNContainer(*waiting)] if waiting else [])


# ---- snnTorch


def snntorch(d: Draw) -> Case:
    """Return a network of snnTorch: a loop with states, a loop with hidden states, or a container of a step."""
    snn, surrogate = import_module("snntorch"), import_module("snntorch.surrogate")
    hidden = d.chance(0.4)
    ways = [surrogate.atan(), surrogate.atan(alpha=3.0), surrogate.fast_sigmoid(slope=10), surrogate.sigmoid(slope=5)]
    ways += [None, own_surrogate(d)]

    def neuron() -> torch.nn.Module:
        kind = d.choices(("Leaky", "Synaptic", "Lapicque", "Alpha", "RLeaky", "RSynaptic"), (6, 3, 1, 1, 1, 1))[0]
        settings: dict[str, Any] = {"threshold": d.uniform(0.2, 1.0), "spike_grad": d.choice(ways)}
        settings |= {"init_hidden": hidden, "reset_mechanism": d.choice(("subtract", "zero", "none"))}
        settings |= {"learn_threshold": d.chance(0.2)}
        if kind in ("Leaky", "Synaptic"):
            settings["reset_delay"] = d.chance(0.6)
        if kind == "Alpha":
            settings |= {"alpha": 0.9, "beta": d.uniform(0.3, 0.8)}
        elif kind in ("Synaptic", "RSynaptic"):
            settings |= {"alpha": d.uniform(0.2, 0.95), "beta": d.uniform(0.2, 0.95), "learn_alpha": d.chance(0.3)}
        elif kind == "Lapicque":
            settings |= {"beta": d.uniform(0.2, 0.95)}
        if kind in ("RLeaky", "RSynaptic"):
            settings |= {"all_to_all": False, "V": d.uniform(-0.5, 0.5), "beta": d.uniform(0.2, 0.95)}
        if kind == "Leaky":
            beta = d.uniform(0.2, 0.95)
            settings |= {"beta": d.choice((beta, torch.tensor(beta))), "learn_beta": d.chance(0.4)}
        return getattr(snn, kind)(**settings)  # type: ignore[no-any-return]

    layers, shape = network(d, torch.nn, neuron)
    steps, batch = d.choice((1, 2, STEPS, 7)), d.choice((1, 1, 3))
    x = torch.rand(steps, batch, *shape)
    kinds = ("Leaky", "Lapicque", "Synaptic", "Alpha", "RLeaky", "RSynaptic")
    neurons = [k for k, module in enumerate(layers) if type(module).__name__ in kinds]

    def begin(module: Any) -> tuple[Tensor, ...]:
        found = getattr(module, f"init_{type(module).__name__.lower()}")()
        return found if isinstance(found, tuple) else (found,)

    def reset(net: Any) -> None:
        for module in net.modules():
            if hasattr(module, "reset_mem"):
                module.reset_mem()

    if hidden and d.chance(0.3) and not any(isinstance(m, torch.nn.BatchNorm2d) for m in layers):
        return StepByStep(torch.nn.Sequential(*layers)), x, reset
    loop = d.choice(("range", "shape", "iterate", "constant"))
    returns = d.choice(("stack", "sum", "mean") if hidden else ("stack", "sum", "mean", "both", "last"))
    states = {} if hidden else dict.fromkeys(neurons, begin)
    return Loop(layers, states, loop, returns, reset if hidden else None), x, reset if hidden else None


# ---- Norse


def norse(d: Draw) -> Case:
    """Return a network of Norse: ``SequentialState`` of layers over time, or a loop with cells."""
    module = import_module("norse.torch")
    loop = d.chance(0.5)

    def neuron() -> torch.nn.Module:
        method = d.choice(("super", "tanh", "triangle"))
        p = module.LIFParameters(
            v_th=torch.tensor(d.uniform(0.05, 0.4)),
            method=method,
            alpha=torch.tensor(d.choice((1.0, 20.0, 100.0))),
            tau_mem_inv=torch.tensor(d.choice((100.0, 300.0))),
        )
        kind = d.choice(("LIFCell", "LIFBoxCell", "LICell") if loop else ("LIF", "LI", "LIF"))
        if kind == "LIFBoxCell":
            p = module.LIFBoxParameters(v_th=p.v_th, method=method, alpha=100.0)
        return getattr(module, kind)() if kind in ("LI", "LICell") else getattr(module, kind)(p=p)  # type: ignore[no-any-return]

    steps, batch = d.choice((1, 2, STEPS, 7)), d.choice((1, 1, 3))
    layers, shape = network(d, torch.nn, neuron)
    x = 2 * torch.rand(steps, batch, *shape)
    if loop:
        states = {k: (lambda m: None) for k, m in enumerate(layers) if type(m).__name__.endswith("Cell")}
        net: torch.nn.Module = Loop(layers, states, d.choice(("range", "shape", "iterate")), "stack", None)
    else:
        layers = [m if type(m).__module__.startswith("norse") else module.Lift(m) for m in layers]
        net = module.SequentialState(*layers)
    return net, x, None


# ---- Sinabs


def sinabs(d: Draw) -> Case:
    """Return a network of Sinabs, whose neurons take batch times time, or batch and time."""
    layers_, activation = import_module("sinabs.layers"), import_module("sinabs.activation")
    steps, batch = d.choice((1, 2, STEPS, 7)), d.choice((1, 1, 3))

    def neuron() -> torch.nn.Module:
        kind = d.choices(("LIFSqueeze", "IAFSqueeze", "ExpLeakSqueeze"), (4, 4, 1))[0]
        settings: dict[str, Any] = {"batch_size": batch} if d.chance(0.5) else {"num_timesteps": steps}
        if kind != "IAFSqueeze":
            settings |= {"tau_mem": d.choice((2.0, 20.0)), "norm_input": d.chance(0.5)}
        if kind != "ExpLeakSqueeze":
            settings |= {"spike_threshold": torch.tensor(d.uniform(0.2, 1.0)), "min_v_mem": d.choice((None, -0.5))}
            grads = (activation.SingleExponential(), activation.MultiGaussian(), activation.Heaviside())
            settings |= {"surrogate_grad_fn": d.choice((*grads, activation.SingleExponential(0.5, 2.0)))}
            settings |= {"spike_fn": d.choice((activation.SingleSpike, activation.MultiSpike))}
        return getattr(layers_, kind)(**settings)  # type: ignore[no-any-return]

    layers, shape = network(d, torch.nn, neuron)
    net = Listed(layers, d.chance(0.3)) if d.chance(0.3) else torch.nn.Sequential(*layers)

    def reset(found: Any) -> None:
        for m in found.modules():
            if hasattr(m, "reset_states"):
                m.reset_states()

    return net, torch.rand(batch * steps, *shape) * 2, reset


# ---- comparison


def tensors_of(value: Any) -> list[Tensor]:
    """Return all tensors that a network returned, without the states of Norse's layers."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (tuple, list)) and not hasattr(value, "_fields"):
        return [t for part in value for t in tensors_of(part)]
    return []


def trained(net: torch.nn.Module, calls: list[Tensor], reset: Any, change: Any, learned_x: bool) -> dict[str, Tensor]:
    """Return the outputs of all calls, and the gradients of inputs and parameters."""
    random = torch.Generator().manual_seed(0)
    leaves = [x.detach().requires_grad_(learned_x) for x in calls]
    found: dict[str, Tensor] = {}
    loss: Any = 0.0
    for k, x in enumerate(leaves):
        if reset is not None:
            reset(net)
        if k == len(leaves) - 1:
            change(net)
        for place, out in enumerate(tensors_of(net(x))):
            found[f"output {place} of call {k}"] = out.detach().clone()
            loss = loss + (out * torch.randn(out.shape, generator=random, dtype=torch.float64).to(out.dtype)).sum()
    if isinstance(loss, Tensor) and loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]
        learned = {k: v for k, v in net.state_dict(keep_vars=True).items() if isinstance(v, torch.nn.Parameter)}
        inputs = {f"x of call {k}": x for k, x in enumerate(leaves) if learned_x}
        for name, t in (inputs | learned).items():
            found[f"gradient of {name}"] = torch.zeros_like(t) if t.grad is None else t.grad
        for name, buffer in net.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                found[name.replace(".layer.", ".")] = buffer.clone()
    return found


def changed(d: Draw, net: torch.nn.Module) -> tuple[str, Callable[[torch.nn.Module], None]]:
    """Return a change after ``replace``, to the network and to its copy, and its name."""
    kinds = ("IFNode", "LIFNode", "Leaky", "Synaptic")
    learned = {"threshold", "v_threshold"}
    names = [n for n, m in net.named_modules() if type(m).__name__ in kinds and not learned & m._parameters.keys()]
    if d.chance(0.7) or not names:
        return "", lambda m: None
    name = d.choice(names)
    neuron: Any = net.get_submodule(name)
    attribute = "v_threshold" if hasattr(neuron, "v_threshold") else "threshold"

    def change(m: torch.nn.Module) -> None:
        found: Any = m.get_submodule(name)
        setattr(found, attribute, 0.5 * getattr(found, attribute))  # another tensor: backward passes need the old one

    return f", then {name}.{attribute} halved", change


TRANSFORMS: dict[str, tuple[Callable[[torch.nn.Module], torch.nn.Module], ...]] = {
    "replace": (nn.replace,),
    "accelerate": (nn.replace, nn.accelerate),
    "accelerate alone": (nn.accelerate,),
    "fuse": (nn.replace, nn.fuse),
    "fuse of accelerate": (nn.replace, nn.accelerate, nn.fuse),
    "accelerate of fuse": (nn.replace, nn.fuse, nn.accelerate),
}


@contextmanager
def in_float64() -> Iterator[None]:
    """Let spikes of the libraries, which are ``(u > 0).float()``, be float64 like all else."""
    single = Tensor.float
    Tensor.float = Tensor.double  # type: ignore[method-assign]
    try:
        yield
    finally:
        Tensor.float = single  # type: ignore[method-assign]


def difference(want: dict[str, Tensor], got: dict[str, Tensor], close: float, folded: bool) -> str:
    """Return the first value that differs; ``folded``: weights are others."""
    largest = max((float(t.abs().max()) for t in want.values() if t.numel()), default=1.0)
    for key, a in want.items():
        if folded and not key.startswith(("output", "gradient of x")):
            continue
        b = got.get(key)
        if b is None or a.shape != b.shape:
            return f"{key}: {'none' if b is None else list(b.shape)}, expected {list(a.shape)}"
        tolerance = close * max(float(a.abs().max()) if a.numel() else 0.0, 1e-3 * largest)
        if not torch.allclose(a.double(), b.double(), rtol=0.0, atol=tolerance, equal_nan=True):
            return f"{key} is {float((a - b).abs().max()):.3g} off, the largest is {float(a.abs().max()):.3g}"
    return ""


def try_network(d: Draw) -> None:
    """Compare a network of an installed library with its rewritten copy: results and gradients, in float64."""
    if not LIBRARIES:
        return
    library = d.choice(LIBRARIES)
    net, x, reset = {"spikingjelly": jelly, "snntorch": snntorch, "norse": norse, "sinabs": sinabs}[library](d)
    x, learned_x = x * d.choice((1.0, 3.0)), d.chance(0.6)
    if d.chance(0.3):  # the same at every step
        x = x[:1].expand(x.shape)
        x = x.contiguous() if d.chance(0.5) else x
    for module in net.modules():
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d)):
            torch.nn.init.normal_(module.weight, 0.2, 1.0 / module.weight[0].numel() ** 0.5)
        elif isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.running_mean, 0, 0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    if library != "sinabs":
        net, x = net.double(), x.double()
    has_norm = any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in net.modules())
    names = [name for name in TRANSFORMS if has_norm or "fuse" not in name]
    name = "replace" if isinstance(net, StepByStep) else d.choice(names)
    training = d.chance(0.5) and "fuse" not in name
    net.train(training)
    for module in net.modules():
        if type(module).__name__.endswith("Node"):
            module.training = True  # SpikingJelly's have no gradient in evaluation
    calls = [x] + ([x.flip(0) * 0.7] if d.chance(0.5) else [])
    between = reset if d.chance(0.4) else None
    words, change = changed(d, net) if not isinstance(net, StepByStep) else ("", lambda m: None)
    label = f"{library}: {name}, {'train' if training else 'eval'}, {len(calls)} calls of {list(x.shape)}{words}\n{net}"
    original = copy.deepcopy(net)
    with warnings.catch_warnings(), nullcontext() if library == "sinabs" else in_float64():
        warnings.simplefilter("ignore")
        fast = net.net if isinstance(net, StepByStep) else net
        for function in TRANSFORMS[name]:
            by_steps = function is nn.replace and isinstance(net, StepByStep)
            try:
                fast = nn.replace(fast, sequences=True) if by_steps else function(fast)
            except ValueError as error:
                raise Finding(f"{label}: {error}") from error
        if "fuse" not in name and list(fast.state_dict()) != list(original.state_dict()):
            raise Finding(f"{label}: other keys")
        found = ""
        for scale in (1.0, 0.999, 1.001):  # in case a membrane is within rounding of its threshold
            inputs = calls if scale == 1.0 else [scale * call for call in calls]
            a, b = (copy.deepcopy(m) for m in (original, fast))
            try:
                want = trained(a, inputs, between, change, learned_x)
            except (RuntimeError, ValueError, IndexError, TypeError):  # a network that its library does not run
                return
            found = difference(want, trained(b, inputs, between, change, learned_x), CLOSE[library], "fuse" in name)
            if not found:
                return
        raise Finding(f"{label}: {found}")
