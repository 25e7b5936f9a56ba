"""Cases of the fuzzer for layers, models and conversion."""

from __future__ import annotations

import copy
import inspect
import io
import itertools
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import snnfast
from snnfast import backend, learning, nn
from snnfast_zoo.train.checkpoint import load_weights, write_checkpoint

from .draw import Draw, Finding, copied, same, tensors_in, too_large, tried


def loaded_again(module: torch.nn.Module) -> torch.nn.Module:
    """Save and load the module."""
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    again: torch.nn.Module = torch.load(file, weights_only=False)
    return again


def try_layer(d: Draw) -> None:
    """Compare a layer with the reference, with single steps and with saved copies; check gradients before it."""
    name = d.choice(("IF", "LI", "LIF", "ParametricLIF", "CubaLIF", "ALIF", "AdLIF"))
    layer_class = getattr(nn, name)
    kwargs: dict[str, Any] = {}
    for key, parameter in inspect.signature(layer_class).parameters.items():
        if d.chance(0.3) and isinstance(parameter.default, (bool, float)):
            kwargs[key] = d.chance(0.5) if isinstance(parameter.default, bool) else d.uniform(1.1, 3.0)
    hostile = d.chance(0.3)
    key = d.choice(list(inspect.signature(layer_class).parameters))
    if hostile:
        kwargs[key] = d.hostile(inspect.signature(layer_class).parameters[key].default)
    batch, features = d.choice((1, 4)), d.choice((1, 5, 17))
    x = torch.rand(d.choice((1, 6, 40)), batch, features) * 3
    inputs = d.hostile(x) if d.chance(0.15) else x

    def run(net: Any, value: Any = inputs) -> Any:
        nn.reset(net)
        return net(value)

    layer, problem = tried(
        lambda: layer_class(**kwargs), name, (name, key, key.replace("tau", "decay"), "layer", "surrogate")
    )
    if problem or too_large(inputs):
        return
    words = (name, layer.op, key, "x", "surrogate", "spike")
    got, problem = tried(lambda: run(layer), name, words)
    if problem:
        return
    with backend.use("reference"):
        same(got, run(layer), f"{name}: unlike the reference")
    for other in (copy.deepcopy(layer), loaded_again(layer)):
        same(run(other), got, f"{name}: a copy")
    if layer.stateful and not len(inputs):
        return
    if layer.stateful:
        nn.reset(layer)
        parts = [layer.step(step) for step in inputs]
        first = torch.stack([p[0] if isinstance(p, tuple) else p for p in parts])
        same(first, got[0] if isinstance(got, tuple) else got, f"{name}: by step", 1e-5, 1e-5)
        return
    if not isinstance(inputs, Tensor) or inputs.dtype != torch.float32 or inputs.dim() != 3 or not inputs.numel():
        return
    before = torch.nn.Linear(inputs.shape[2], inputs.shape[2])
    found = []
    for mapped in (False, True):
        before.zero_grad()
        net = torch.nn.Sequential(before, layer)
        out = torch.vmap(net, in_dims=1, out_dims=1)(inputs[:, :, None]) if mapped else net(inputs[:, :, None])
        sum(o.sum() for o in tensors_in(out) if o.requires_grad).backward()
        found.append([before.weight.grad, before.bias.grad])
        if before.weight.grad is None:
            raise Finding(f"{name}: the layer before it got no gradient, vmap {mapped}")
    if not inputs.isnan().any():
        same(found[1], found[0], f"{name}: gradients under vmap", 1e-4, 1e-4 * float(found[0][0].abs().max()))


MODELS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "Wu2018": ({"hidden": [5], "input_shape": (1, 8, 8), "time_interval": 3}, (2, 1, 8, 8)),
    "Diehl2015": ({"hidden": [6], "input_shape": (1, 8, 8)}, (2, 1, 8, 8)),
    "Bohte2002": ({"in_features": 6, "hidden": 4, "out_features": 2, "delays": 3}, (2, 6)),
    "TavanaeiAndMaida2017": ({"in_features": 6, "hidden": 4, "out_features": 3}, (2, 6)),
    "DiehlAndCook2015": ({"neurons": 4, "input_shape": 9, "preset": "manual"}, (2, 9)),
    "ResNet20": ({"width": 2, "blocks": 1, "input_shape": (1, 8, 8), "num_classes": 3}, (2, 1, 8, 8)),
    "VGG16": ({"plan": (3, "P"), "hidden": (4,), "input_shape": (1, 8, 8), "num_classes": 3}, (2, 1, 8, 8)),
}


def try_model(d: Draw) -> None:
    """Check a model with hostile settings and inputs: weights after errors, and copies."""
    name = d.choice(sorted(n for n in MODELS if hasattr(snnfast.model, n)))
    kwargs, shape = dict(MODELS[name][0]), MODELS[name][1]
    model_class = getattr(snnfast.model, name)
    keys = [k for k, p in inspect.signature(model_class).parameters.items() if p.kind is not p.VAR_KEYWORD]
    key = d.choice(keys)
    if d.chance(0.5):
        kwargs[key] = d.hostile(kwargs.get(key, inspect.signature(model_class).parameters[key].default))
        if too_large(kwargs[key]) and not d.chance(0.3):
            kwargs[key] = -1
    model, problem = tried(
        lambda: model_class(**kwargs),
        name,
        (name, key, key.rstrip("s"), "Settings", "SpikeProp", "memory", "sizes", "spikeprop"),
    )
    if problem:
        return
    model.eval()
    x = torch.rand(shape) * (20 if name == "DiehlAndCook2015" else 1)
    ours = name not in ("Diehl2015", "ResNet20", "VGG16")  # made of PyTorch's layers
    inputs = d.hostile(x) if ours and d.chance(0.4) else x
    if too_large(inputs):
        return

    def run(net: Any) -> Any:
        return net.present(inputs) if name == "DiehlAndCook2015" else net(inputs)

    before, seed = copied(dict(model.state_dict())), d.getrandbits(60)
    twin = copy.deepcopy(model)
    torch.manual_seed(seed)
    got, problem = tried(
        lambda: run(model),
        name,
        (name, "spikeprop", "bp_stdp_network", "spike_linear", "diehl_cook", "images", "shape"),
        ours,
    )
    if problem:
        same(dict(model.state_dict()), before, f"{name}: weights after an error ({problem})")
        return
    torch.manual_seed(seed)
    same(run(twin), got, f"{name}: a copy")
    wrong = {**before, "no such": torch.zeros(1)}
    first = next(iter(wrong))
    saved = copied(dict(model.state_dict()))
    if d.chance(0.5):
        wrong = {k: v + 1 if v.is_floating_point() else v for k, v in before.items()}
        wrong[first] = torch.zeros(1, 2, 3, 4, 5, 6)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "wrong.pt"
        write_checkpoint(path, {"kind": "network", "model": wrong})
        _, problem = tried(lambda: load_weights(model, path), name, (str(path),))
    if not problem:
        raise Finding(f"{name}: took the weights of another network")
    same(dict(model.state_dict()), saved, f"{name}: weights after an error ({problem})")


def same_but_for_ties(network: Any, images: Tensor, got: Tensor) -> None:
    """Raise a finding unless scores of the kernels equal those of the reference.

    They add in another order. A threshold of Spike-Norm equals the largest current, which the other order may round to
    less, so that only one of the two fires. Then, for each image, a change of the thresholds by a few roundings must
    make the reference fire the same.
    """
    with backend.use("reference"):
        try:
            same(network(images, 7), got, "SpikingNetwork: unlike the reference", 1e-6, 1e-6)
        except Finding:
            eps, equal = torch.finfo(images.dtype).eps, torch.zeros(len(images), dtype=torch.bool)
            for roundings in itertools.product((-4, 0, 4), repeat=len(network.thresholds)):
                moved = copy.deepcopy(network)
                moved.update_threshold([(1 + r * eps) * th for r, th in zip(roundings, network.thresholds)])
                equal |= torch.isclose(moved(images, 7), got, 1e-5, 1e-5).flatten(1).all(1)
                if bool(equal.all()):
                    return
            raise


def try_convert(d: Draw) -> None:
    """Check a converted ReLU network: activations, saving and loading, and an unchanged model."""
    channels, layers, size, two = d.choice((1, 3)), [], 8, d.chance(0.7)
    n = channels
    for _ in range(d.randrange(1, 4) if two else 0):
        out = d.choice((2, 4))
        layers += [torch.nn.Conv2d(n, out, 3, padding=1, bias=d.chance(0.7))]
        layers += [torch.nn.BatchNorm2d(out)] if d.chance(0.4) else []
        layers += [d.choice((torch.nn.ReLU(), torch.nn.ReLU(inplace=True), torch.nn.Sequential(torch.nn.ReLU())))]
        if d.chance(0.4) and size > 2:
            layers += [d.choice((torch.nn.AvgPool2d(2), torch.nn.MaxPool2d(2)))]
            size //= 2
        n = out
    layers += [
        torch.nn.Flatten(),
        torch.nn.Dropout(0.3),
        torch.nn.Linear(n * size * size, 6),
        torch.nn.ReLU(),
        torch.nn.Linear(6, 3),
    ]
    if d.chance(0.2):
        wrong = (
            torch.nn.Sigmoid(),
            torch.nn.PReLU(),
            torch.nn.LayerNorm(6),
            nn.LIF(),
            torch.nn.Identity(),
            torch.nn.Softmax(1),
        )
        layers.insert(len(layers) - 2, d.choice(wrong))
    model = torch.nn.Sequential(*layers).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
    images = torch.rand(4, channels, 8, 8)
    method = d.choice(("max", "percentile", "spikenorm"))
    kwargs = {
        "method": method,
        **({"num_steps": 5} if method == "spikenorm" else {}),
        "progress": False,
        "reset": d.choice(("soft", "hard")),
        "initial_membrane": d.choice((0.0, 0.5)),
    }
    key = "images"
    if d.chance(0.4):
        key = d.choice([k for k in inspect.signature(snnfast.convert).parameters if k not in ("model", "progress")])
        value = {"calibration_loader": [images], "num_steps": 5}.get(
            key, inspect.signature(snnfast.convert).parameters[key].default
        )
        kwargs[key] = d.hostile(value)
        if too_large(kwargs[key]):
            kwargs[key] = -1
    loader = kwargs.pop("calibration_loader", [images if d.chance(0.8) else d.hostile(images)])
    if too_large(loader):
        return
    before = copied(dict(model.state_dict()))
    words = ("convert", key, "SpikingNetwork", "images", "loader", "Poisson", "poisson", "threshold")
    network, problem = tried(lambda: snnfast.convert(model, loader, **kwargs), "convert", words)
    same(dict(model.state_dict()), before, "convert: the model's weights")
    if problem:
        return
    with torch.no_grad():
        same(network.analog(images)[0], model(images), "convert: the ReLU network within", 1e-4, 1e-4)
    if kwargs.get("encoding") is not None and not isinstance(kwargs["encoding"], str):
        return
    got, problem = tried(lambda: network(images, 7), "SpikingNetwork", words)
    if problem:
        return
    same(network(images, 7, chunk=2), got, "SpikingNetwork: in chunks")
    same_but_for_ties(network, images, got)
    same(loaded_again(network)(images, 7), got, "SpikingNetwork: saved and loaded")


def try_learner(d: Draw) -> None:
    """Check e-prop and OTTT: gradients through time where they are exact, calls in parts, and checkpoints."""
    rule = d.choice(("EProp", "OTTT"))
    inputs, hidden, outputs = d.choice((1, 3, 7)), d.choice((1, 4, 9)), d.choice((1, 3))
    steps, batch, tau = d.choice((1, 2, 9)), d.choice((0, 1, 3)), d.uniform(1.1, 6.0)
    soft: dict[str, Any] = {"v_reset": None, "detach_reset": True}
    neurons = [nn.LIF(tau, **soft), nn.IF(**soft)]
    if rule == "EProp":
        neurons += [nn.LIF(tau), nn.LIF(tau, refractory=2), nn.ALIF(tau), nn.AdLIF(hidden), nn.CubaLIF(tau, 2.0)]
    cell: torch.nn.Module = d.choice(neurons)
    recurrent = rule == "EProp" and d.chance(0.4)
    if recurrent:
        cell = nn.Recurrent(cell, hidden)
    first, last = (torch.nn.Linear(*sizes, bias=d.chance(0.7)) for sizes in ((inputs, hidden), (hidden, outputs)))
    readout = [nn.LI(d.uniform(1.1, 6.0))] if d.chance(0.7) else []
    net = torch.nn.Sequential(first, cell, last, *readout).double()
    with torch.no_grad():
        first.weight.mul_(4)
    x = 2 * torch.rand(steps, batch, inputs, dtype=torch.float64)
    target = torch.rand(steps, batch, outputs, dtype=torch.float64)

    def squares(y: Tensor, wanted: Tensor) -> Tensor:
        return (y - wanted).square().sum()

    def learned(parts: int, saved: bool = False) -> list[Tensor]:
        """Return outputs and gradients with ``parts`` steps per call, with a restored learner per call if ``saved``."""
        twin = copy.deepcopy(net)
        learn, found = getattr(learning, rule)(twin, squares), []
        for part in zip(x.split(parts), target.split(parts)):
            found.append(learn.step(*part))
            if saved:
                state = copied(learn.state_dict())
                learn = getattr(learning, rule)(twin, squares)
                learn.load_state_dict(state)
        return [torch.cat(found), *(p.grad for p in twin.parameters())]

    whole, parts = learned(steps), d.randrange(1, steps + 1)
    same(learned(parts), whole, f"{rule}: in parts of {parts} of {steps} steps", 1e-9, 1e-10)
    same(learned(parts, saved=True), learned(parts), f"{rule}: from checkpoints on")
    if not recurrent and (rule == "EProp" or not readout):
        y = net(x)
        squares(y, target).backward()
        through_time = [y.detach(), *(p.grad for p in net.parameters())]
        same(whole, through_time, f"{rule}: unlike backpropagation through time", 1e-9, 1e-10)
    twin = copy.deepcopy(net)
    twin.zero_grad()
    learn, hostile = getattr(learning, rule)(twin, squares), d.hostile(x)
    if too_large(hostile):
        return
    words = (rule, "x", "size", "shape")
    _, problem = tried(lambda: learn.step(hostile, target), rule, words)
    if problem and any(p.grad is not None for p in twin.parameters()):
        raise Finding(f"{rule}: gradients after an error ({problem})")
