"""Cases of the fuzzer against independent loops in float64: every neuron, delays and recurrent weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from snnfast import ops

from .draw import Draw, Finding

DOUBLE = torch.float64
NEURONS = ("lif", "iaf", "li", "cuba", "cubali", "alif", "adlif", "qif", "eif", "izhikevich")
# Ranges of the parameters by neuron, except those of the membrane; time constants are drawn from a list.
EXTRA_PARAMETERS: dict[str, dict[str, tuple[float, float]]] = {
    "cuba": {"tau_syn": (1, 1)},
    "cubali": {"tau_syn": (1, 1)},
    "alif": {"tau_adapt": (1, 1), "beta": (0.0, 0.6)},
    "adlif": {"tau_w": (1, 1), "a": (-0.3, 0.6), "b": (0.0, 1.0)},
    "qif": {"a0": (0.2, 1.0), "v_c": (0.3, 0.9)},
    "eif": {"delta_t": (0.3, 1.5), "theta_rh": (0.5, 1.2)},
    "izhikevich": {"tau_w": (1, 1), "a0": (0.2, 1.0), "v_c": (0.3, 0.9), "a": (-0.2, 0.3), "b": (0.0, 0.3)},
}
STATES = {"cuba": "i", "cubali": "i", "alif": "a", "adlif": "w", "izhikevich": "w"}
NEAR = 1e-4  # margins below which rounding may move a spike in float32; in float64 1e-10


class ATan(torch.autograd.Function):
    """Spike function with the gradient of ``arctan(pi u) / pi``."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        """Return a spike where ``u`` is at least 0."""
        ctx.save_for_backward(u)
        return (u >= 0).to(u)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """Return the gradient of the arctangent."""
        (u,) = ctx.saved_tensors
        return grad / (1 + (math.pi * u) ** 2)


def charge(name: str, p: dict[str, Any], x: Tensor, v: Tensor, state: Any) -> tuple[Tensor, Any]:
    """Return the membrane potential after the input, and the second state before the spike."""
    rate = 1 / p["tau"] if "tau" in p else 0.0
    gain = rate if p["decay_input"] else 1.0
    rest = p["v_rest"]
    if name in ("cuba", "cubali"):
        state = x = state - state / p["tau_syn"] + x
    if name in ("adlif", "izhikevich"):
        x = x - state
    if name in ("qif", "izhikevich"):
        return v + rate * p["a0"] * (v - rest) * (v - p["v_c"]) + gain * x, state
    if name == "eif":
        grown = p["delta_t"] * torch.exp((v - p["theta_rh"]) / p["delta_t"])
        return v + rate * (grown - (v - rest)) + gain * x, state
    return v - rate * (v - rest) + gain * x, state


def loop(name: str, p: dict[str, Any], x: Tensor, v: Tensor, state: Any, firing: bool) -> tuple[Any, float]:
    """Return spikes (or membranes of neurons that do not fire), final states, and the least margin to a threshold."""
    outputs, nearest = [], math.inf
    for x_t in x:
        h, state = charge(name, p, x_t, v, state)
        if not firing:
            v = h
            outputs.append(v)
            continue
        threshold = p["v_threshold"] + (p["beta"] * state if name == "alif" else 0.0)
        u = h - threshold
        nearest = min(nearest, float(u.detach().abs().min()))
        s = ATan.apply(u)  # type: ignore[no-untyped-call]
        v = h - s * p["v_threshold"] if p["v_reset"] is None else (1 - s) * h + s * p["v_reset"]
        if name == "alif":
            state = state - state / p["tau_adapt"] + s
        elif name == "adlif":  # Bittar and Garner
            state = state - state / p["tau_w"] + p["a"] * (h - p["v_rest"]) + p["b"] * s
        elif name == "izhikevich":
            state = state + (p["a"] * (h - p["v_rest"]) - state) / p["tau_w"] + p["b"] * s
        outputs.append(s)
    return (torch.stack(outputs), v, *([] if state is None else [state])), nearest


def drawn(d: Draw, name: str, shape: tuple[int, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return arguments of the op, and those of the loop, in float64."""
    firing = name not in ("li", "cubali")
    arguments: dict[str, Any] = {}

    def values(key: str, low: float, high: float) -> None:
        number = d.uniform(low, high)
        if "tau" in key:
            number = d.choice((1.0, 1.5, 2.0, 5.0, 30.0, 1e3, 1e4, 1e6))
        as_tensor = d.chance(0.5)
        size = shape[1:] if d.chance(0.5) else shape[-1:]
        spread = 1 + 0.2 * torch.rand(size, dtype=DOUBLE)
        arguments[key] = number * spread if as_tensor else number

    if name != "iaf":
        values("tau", 1, 1)
        arguments["decay_input"] = d.chance(0.6)
    for key, (low, high) in EXTRA_PARAMETERS.get(name, {}).items():
        values(key, low, high)
    if firing:
        values("v_threshold", 0.5, 1.2)
        if d.chance(0.4) and name not in ("qif", "eif", "izhikevich"):  # their membranes would diverge
            arguments["v_reset"] = None
        else:
            values("v_reset", -0.4, 0.1)
    if name != "iaf":
        values("v_rest", -0.2, 0.2)
    if name == "adlif":
        arguments["form"] = "bittar2022"
    reset = arguments.get("v_reset")
    usual = {"v_rest": 0.0 if reset is None else reset, "decay_input": False}
    return arguments, {**usual, **arguments}


def near(got: Tensor, want: Tensor, scale: float, label: str) -> None:
    """Raise a finding unless the values agree within ``scale`` times the largest."""
    bound = scale * max(1.0, float(want.detach().abs().max()) if want.numel() else 0.0)
    worst = float((got.double() - want).detach().abs().max()) if want.numel() else 0.0
    if not worst <= bound:
        raise Finding(f"{label} is {worst:.3g} off, allowed are {bound:.3g}")


def compare(d: Draw, label: str, outputs: Any, want: Any, leaves: Any, wanted: Any, dtype: torch.dtype) -> None:
    """Compare outputs, and gradients of a random weighting of them, with those of the loop."""
    close, steep = (1e-10, 1e-8) if dtype == DOUBLE else (2e-4, 1e-3)
    for k, (got, expected) in enumerate(zip(outputs, want)):
        near(got, expected, close, f"{label}: result {k}")
    weights = [torch.randn(expected.shape, dtype=DOUBLE) for expected in want]
    sums = [sum((o.double() * w).sum() for o, w in zip(values, weights)) for values in (outputs, want)]
    got, expected = (
        torch.autograd.grad(total, list(tensors.values()), allow_unused=True, materialize_grads=True)
        for total, tensors in zip(sums, (leaves, wanted))
    )
    for key, a, b in zip(leaves, got, expected):
        largest = max(1.0, float(b.abs().max())) if b.numel() else 1.0
        near(a / largest, b / largest, steep, f"{label}: gradient of {key}")


def try_neuron(d: Draw) -> None:
    """Compare a neuron in float32 or float64 with its equation."""
    name = d.choice(NEURONS)
    shape = (d.choice((1, 4, 20, 40)), d.choice((1, 3)), d.choice((1, 5, 17)))
    firing = name not in ("li", "cubali")
    arguments, p = drawn(d, name, shape)
    dtype = d.choice((torch.float32, DOUBLE))
    # Rounded to the dtype, so that both have the same parameters.
    rounded = {k: v.to(dtype) if isinstance(v, Tensor) else v for k, v in arguments.items()}
    x = (torch.rand(shape, dtype=DOUBLE) * d.choice((0.5, 2.0, 6.0)) - 0.2).to(dtype)
    tensors = {"x": x, **{k: v for k, v in rounded.items() if isinstance(v, Tensor)}}
    leaves = {k: v.clone().requires_grad_() for k, v in tensors.items()}
    wanted = {k: v.double().requires_grad_() for k, v in tensors.items()}
    p |= {k: v for k, v in wanted.items() if k != "x"}
    if "v_rest" not in arguments:
        p["v_rest"] = 0.0 if p.get("v_reset") is None else p["v_reset"]
    rest = torch.zeros(shape[1:], dtype=DOUBLE) + p["v_rest"]
    state = torch.zeros(shape[1:], dtype=DOUBLE) if name in STATES else None
    want, nearest = loop(name, p, wanted["x"], rest, state, firing)
    largest = max(float(t.detach().abs().max()) for t in want)
    if nearest < (1e-9 if dtype == DOUBLE else NEAR) * max(1.0, largest) or not largest < 1e3:
        return
    outputs = getattr(ops, name)(**{**rounded, **leaves})
    compare(d, f"{name} in {dtype}", outputs, want, leaves, wanted, dtype)


def try_delay(d: Draw) -> None:
    """Compare ``delay`` with linear interpolation, with gradients of x, d and past."""
    shape = (d.choice((1, 5, 33, 100)), d.choice((1, 3)), d.choice((1, 6, 17)))
    dtype = d.choice((torch.float32, DOUBLE))
    x = torch.randn(shape, dtype=DOUBLE).to(dtype)
    past = torch.randn(d.choice((0, 2, 9)), *shape[1:], dtype=DOUBLE).to(dtype)
    steps = (torch.rand(shape[1:] if d.chance(0.5) else shape[-1:], dtype=DOUBLE) * d.choice((1.0, 6.0, 40.0))).to(
        dtype
    )
    leaves = {k: v.clone().requires_grad_() for k, v in (("x", x), ("d", steps), ("past", past))}
    wanted = {k: v.double().requires_grad_() for k, v in (("x", x), ("d", steps), ("past", past))}
    whole = torch.cat([wanted["past"], wanted["x"]])
    late = wanted["d"].expand(shape[1:])
    rows = []
    for t in range(shape[0]):
        n = late.detach().floor().long()
        f = late - n
        at = torch.as_tensor(len(past) + t) - n

        def row(place: Tensor) -> Tensor:
            inside = (place >= 0) & (place < len(whole))
            return torch.where(inside, whole.gather(0, place.clamp(0, len(whole) - 1)[None])[0], 0.0)

        rows.append((1 - f) * row(at) + f * row(at - 1))
    want = torch.stack(rows)
    got = ops.delay(leaves["x"], leaves["d"], leaves["past"])
    compare(d, f"delay in {dtype}", (got,), (want,), leaves, wanted, dtype)


def try_recurrent(d: Draw) -> None:
    """Compare LIF with recurrent weights: spikes, and gradients of the input and the weights."""
    steps, batch, features = d.choice((1, 8, 30)), d.choice((1, 4)), d.choice((1, 5, 17))
    dtype = d.choice((torch.float32, DOUBLE))
    x = (torch.rand(steps, batch, features, dtype=DOUBLE) * 3).to(dtype)
    weight = (torch.randn(features, features, dtype=DOUBLE) * 0.3).to(dtype)
    p: dict[str, Any] = {"tau": d.choice((1.5, 4.0, 100.0)), "decay_input": d.chance(0.5), "v_threshold": 1.0}
    p |= {"v_reset": d.choice((0.0, None)), "v_rest": 0.0}
    leaves = {"x": x.clone().requires_grad_(), "weight": weight.clone().requires_grad_()}
    wanted = {"x": x.double().requires_grad_(), "weight": weight.double().requires_grad_()}
    v = torch.zeros(batch, features, dtype=DOUBLE)
    s, spikes, nearest = v, [], math.inf
    for x_t in wanted["x"]:
        ((s, v), margin) = loop("lif", p, (x_t + s @ wanted["weight"].T)[None], v, None, True)
        s = s[0]
        spikes.append(s)
        nearest = min(nearest, margin)
    if nearest < (1e-9 if dtype == DOUBLE else NEAR):
        return
    outputs = ops.recurrent(leaves["x"], leaves["weight"], neuron="lif", **p)
    compare(d, f"recurrent in {dtype}", outputs, (torch.stack(spikes), v), leaves, wanted, dtype)


def try_float64(d: Draw) -> None:
    """Try a neuron, a delay or recurrent weights."""
    d.choices((try_neuron, try_delay, try_recurrent), (6, 1, 1))[0](d)
