"""Cases of the fuzzer for ops: public ops against the reference, and kernels with invalid arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from snnfast import connect, ops, plasticity, reference
from snnfast.check import state_dtype

from .draw import ERRORS, HALF, HUGE, Draw, Finding, copied, readable, same, tensors_in, too_large, tried


def shape_of_neurons(d: Draw) -> tuple[int, ...]:
    sizes = [d.choice((0, 1, 2, 5, 16, 33)) for _ in range(d.randrange(4))]
    return (d.choice((0, 1, 3, 16, 33, 70)), *sizes)


def neuron(d: Draw, name: str) -> dict[str, Any]:
    dtype = d.choice((torch.float32, torch.float32, torch.float64, *HALF))
    shape, state = shape_of_neurons(d), state_dtype(dtype)
    kwargs: dict[str, Any] = {"x": d.tensor(shape, dtype, -1.0, d.choice((1.0, 3.0)))}
    for key, parameter in inspect.signature(getattr(ops, name)).parameters.items():
        text = parameter.annotation  # a type for neurons, a string for other ops
        text = text if isinstance(text, str) else inspect.formatannotation(text)
        if key in ("x", "refractory", "r", "max_spikes") or d.chance(0.5):  # set by refractory_call()
            continue
        if text == "bool":
            kwargs[key] = d.chance(0.5)
        elif key == "surrogate":
            kwargs[key] = d.choice(("atan", "sigmoid", "fast_sigmoid", "rectangle", "triangle", "gaussian"))
        elif key == "count":
            kwargs[key] = d.guarded(torch.zeros(shape[1:], dtype=torch.int32))
        elif "float" not in text:
            kwargs[key] = d.tensor(shape[1:], state)
        else:
            group = key.replace("tau", "decay")
            if any(k.replace("tau", "decay") == group for k in kwargs):
                continue
            low, high = usual(key)
            few = tuple(s if d.chance(0.5) else 1 for s in shape[1:])
            as_tensor = "Tensor" in text and d.chance(0.4)
            kwargs[key] = d.tensor(few, state, low, high) if as_tensor else d.uniform(low, high)
    return kwargs


def usual(parameter: str) -> tuple[float, float]:
    """Return the usual range of a parameter of a neuron."""
    if "tau" in parameter:
        return 1.0, 5.0
    if "decay" in parameter:
        return 0.0, 1.0
    return (-0.5, 0.5) if parameter in ("v_reset", "v_rest") else (0.5, 1.5)


def refractory_call(d: Draw, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Add a refractory period, several spikes per step, or both."""
    x = kwargs["x"]
    if d.chance(0.7):
        kwargs["refractory"] = d.choice((0, 1, 2, 40))
        if d.chance(0.5):
            kwargs["r"] = d.tensor(tuple(x.shape[1:]), state_dtype(x.dtype), -1, 3)
    if d.chance(0.7):
        kwargs |= {"max_spikes": d.choice((None, 1, 2, 7)), "v_reset": None}
    return kwargs


def presented(d: Draw, inputs: int, rates: bool = True) -> Any:
    count, steps = d.choice((0, 1, 3)), d.choice((0, 1, 7, 40))
    form = d.randrange(3) if rates else d.choice((0, 2))
    if form == 0:
        return d.spikes(count, steps, inputs)
    if form == 1:
        events = ops.Events.from_dense(d.spikes(count, steps, inputs))
        inside = d.guarded(events.inputs), d.guarded(events.offsets)
        d.out_of_range = d.chance(0.2) and events.inputs.numel() > 0
        if d.out_of_range:
            inside[d.randrange(2)].view(-1)[0] = d.choice((-1, inputs, 2**31 - 1))
        return ops.Events(*inside)
    hz = d.guarded(torch.rand(count, inputs) * 900)
    return ops.Rates(hz, steps if d.chance(0.95) else d.choice(HUGE), d.guarded(torch.randint(0, 99, (count,))))


def rule_of(d: Draw) -> Any:
    make_rule = getattr(
        plasticity, d.choice(("pair", "triplet", "power_law", "exponential", "soft_bounds", "pre_post"))
    )
    return make_rule(trace=d.choice(("nearest", "all")))


def weights(d: Draw) -> Tensor:
    """Return weights of a layer that learns, ``[N, I]``."""
    dtype = d.choice((torch.float32, torch.float64))
    return d.plain(d.choice((1, 3, 8, 17)), d.choice((0, 1, 5, 17, 40)), dtype=dtype)


def layer_pair(d: Draw, name: str) -> dict[str, Any]:
    w = weights(d)
    n, i = w.shape
    t, b = d.choice((0, 1, 6, 30)), d.choice((0, 1, 4))
    kwargs = {"w": w, "pre": d.spikes(t, b, i)}
    if name == "bp_stdp_":
        kwargs["error"] = d.guarded(torch.randint(-1, 2, (t, b, n)).to(w.dtype))
        kwargs["epsilon"] = d.choice((1, 4, 9))
    else:
        kwargs |= {"post": d.spikes(t, b, n), "rule": rule_of(d)}
    return kwargs | {"reduction": d.choice(("sum", "mean")), "update": d.choice(("step", "sequence"))}


def bp_stdp_network(d: Draw) -> dict[str, Any]:
    w, out = weights(d), d.choice((1, 3, 9))
    n, i = w.shape
    last = d.guarded(torch.randn(out, n, dtype=torch.float64).to(w.dtype))
    x = presented(d, i, rates=False)
    count, steps = (len(x.hz), x.num_steps) if isinstance(x, ops.Rates) else x.shape[1::-1]
    every = (d.choice((0, 1, 3)),) if d.chance(0.25) else ()  # several networks at once
    w, last = (d.guarded(v.repeat(*every, 1, 1)) for v in (w, last))
    thresholds = [1e-46, 1e-46] if d.chance(0.25) else [0.5, 0.9]
    kwargs: dict[str, Any] = {"weights": [w, last], "x": x, "thresholds": thresholds}
    kwargs["return_hidden"] = d.chance(0.7)
    if d.chance(0.5):
        kwargs["labels"] = d.guarded(torch.randint(0, out, (*every, count)))
        if steps < 1000 and d.chance(0.9):
            kwargs["desired"] = d.guarded(torch.rand(*every, steps, count) < 0.3)
        kwargs["update"] = d.choice(("step", "sequence"))
    return kwargs | {"return_state": d.chance(0.5)}


def diehl_cook(d: Draw) -> dict[str, Any]:
    w = weights(d)
    n, i = w.shape
    synapses = d.choice(("current", "conductance"))
    thresholds = torch.zeros(n, dtype=torch.float64 if synapses == "conductance" else w.dtype)
    if d.chance(0.25):  # several networks at once
        networks = d.choice((0, 1, 3))
        w = d.plain(networks, n, i, dtype=w.dtype)
        thresholds = thresholds.repeat(networks, 1)
    return {
        **{"x": presented(d, i), "w": w, "theta": d.guarded(thresholds), "synapses": synapses},
        **{"rule": rule_of(d) if d.chance(0.7) else None, "norm": d.choice((None, 2.0))},
        **{key: d.chance(0.5) for key in ("return_spikes", "return_state")},
    }


def poisson(d: Draw) -> dict[str, Any]:
    return {
        "p": d.tensor(shape_of_neurons(d), d.choice((torch.float32, torch.float64, *HALF))),
        "num_steps": d.choice((0, 1, 9, 40)) if d.chance(0.9) else d.choice(HUGE),
        "seed": d.getrandbits(60),
        "dtype": d.choice((torch.float32, torch.bool)),
    }


def spikeprop(d: Draw) -> dict[str, Any]:
    dtype = d.choice((torch.float32, torch.float64))
    b, i, o, k = d.choice((0, 1, 3, 20)), d.choice((0, 1, 4)), d.choice((0, 1, 5)), d.choice((1, 4))
    return {
        "t_in": d.plain(b, i, dtype=dtype, high=8.0),
        "w": d.plain(o, i, k, dtype=dtype),
        "delays": d.guarded(torch.arange(1.0, k + 1, dtype=dtype)),
        "tau": 3.0,
        "t_max": 20.0,
        "return_u_max": d.chance(0.5),
        "return_slope": d.chance(0.5),
        "dt": d.choice((None, 0.5)),
    }


def eventprop(d: Draw) -> dict[str, Any]:
    dtype = d.choice((torch.float32, torch.float64))
    b, i, n, s = d.choice((0, 1, 3)), d.choice((0, 1, 4)), d.choice((0, 1, 5)), d.choice((0, 1, 3))
    kwargs: dict[str, Any] = {
        "t_in": d.plain(b, i, s, dtype=dtype, high=8.0),
        "w": d.plain(n, i, dtype=dtype, high=4.0),
        **{"tau_mem": 4.0, "tau_syn": d.choice((1.0, 4.0, 6.0)), "t_max": 20.0},
        **{"return_u_max": d.chance(0.5), "return_slope": d.chance(0.5)},
        **{"max_spikes": d.choice((1, 9)), "stops": d.chance(0.8)},
    }
    if d.chance(0.5):
        kwargs["delays"] = d.plain(*((i,) if d.chance(0.5) else (n, i)), dtype=dtype, high=5.0)
    if d.chance(0.5):
        kwargs["w_rec"] = -d.plain(n, n, dtype=dtype)
        if d.chance(0.5):
            kwargs["delays_rec"] = d.plain(n, n, dtype=dtype, high=5.0)
    return kwargs


def delayed(d: Draw) -> dict[str, Any]:
    dtype = d.choice((torch.float32, torch.float64, torch.bfloat16, torch.float16))
    shape = d.choice(((0, 3), (5,), (7, 2, 3), (30, 300), (4, 2, 3, 5)))
    state = state_dtype(dtype)
    few = tuple(s if d.chance(0.5) else 1 for s in shape[1:])
    kwargs: dict[str, Any] = {"x": d.tensor(shape, dtype, -2, 2), "sigma": d.choice((0.0, 0.5, 3.0))}
    kwargs["d"] = d.tensor(few, state, -1, 12) if d.chance(0.6) else d.uniform(0, 40)
    if d.chance(0.5):
        kwargs["past"] = d.tensor((d.choice((0, 1, 6)), *shape[1:]), dtype, -2, 2)
    return kwargs


def recurrent(d: Draw) -> dict[str, Any]:
    name = d.choice(SILENT)
    kwargs = neuron(d, name)
    if d.chance(0.2):
        kwargs = refractory_call(d, kwargs)
    x = kwargs["x"]
    if x.dim() < 2:
        return {"x": x, "weight": d.tensor((3, 3), torch.float32), "neuron": name}
    state = state_dtype(x.dtype)
    kwargs |= {"neuron": name, "weight": d.tensor((x.shape[-1], x.shape[-1]), state, -0.5, 0.5)}
    if d.chance(0.5):
        kwargs["past"] = d.spikes(d.choice((0, 1, 5)), *x.shape[1:]).to(x.dtype)
    if d.chance(0.5):
        kwargs["delay"] = d.tensor(x.shape[-1:], state, -1, 9)
    return kwargs


def sparse_recurrent(d: Draw) -> dict[str, Any]:
    kwargs = recurrent(d)
    kwargs.pop("delay", None)
    H, state = kwargs["x"].shape[-1], kwargs["weight"].dtype
    c = connect.fixed_total(H, total=H and d.choice((0, 1, 5, 40)), seed=d.randrange(99))
    if d.chance(0.5):
        c = c.with_delay(torch.tensor([d.choice((1, 2, 9)) for _ in range(len(c))], dtype=torch.int64))
    size = d.choice(((len(c),), (H,), ()))
    kwargs |= {"weight": d.tensor(size, state, -0.5, 0.5), "connectivity": c}
    if d.chance(0.5):
        rates = torch.tensor([d.choice((0.0, 0.5, 0.5, 30.0)) for _ in range(H)])
        noise = connect.PoissonNoise(d.choice((rates, 1.0)), d.uniform(-0.5, 0.5), seed=d.randrange(99))
        kwargs["noise"] = noise.after(d.choice((0, 2**32 - 2)))
    return kwargs


def linear(d: Draw, name: str) -> dict[str, Any]:
    """Return arguments of a product or a convolution of spikes or of any values."""
    dtype = d.choice((torch.float32, torch.float32, torch.float64, *HALF))
    inputs, outputs = d.choice((1, 5, 17, 40)), d.choice((1, 3, 16, 33))
    lead = tuple(d.choice((0, 1, 3, 20)) for _ in range(d.randrange(3)))
    shape, kernel = (*lead, inputs), ()
    if name == "spike_conv2d":
        kernel = d.choice(((1, 1), (3, 3), (2, 3)))
        shape = (d.choice((0, 1, 3)), inputs, d.choice((3, 7)), d.choice((3, 8)))
    x = d.tensor(shape, dtype, -2, 2) if d.chance(0.3) else d.spikes(*shape)
    booleans = name == "spike_linear" and x.dtype == torch.bool
    if d.chance(0.2):
        whole = {
            "x": x if booleans else (9 * x).to(torch.int8),
            "weight": d.tensor((outputs, inputs, *kernel), torch.int8, -128, 128),
        }
        return whole | ({"bias": d.tensor((outputs,), torch.int32, -9, 9)} if d.chance(0.5) else {})
    kwargs: dict[str, Any] = {
        "x": x if booleans else x.to(dtype),
        "weight": d.tensor((outputs, inputs, *kernel), dtype, -0.5, 0.5),
        "method": d.choice(("auto", "events", "dense")),
    }
    if d.chance(0.5):
        kwargs["bias"] = d.tensor((outputs,), dtype, -0.5, 0.5)
    if kernel and d.chance(0.5):
        kwargs["padding"] = d.choice((0, 1, (1, 0), [0, 2]))
    return kwargs


def sparse_linear(d: Draw) -> dict[str, Any]:
    inputs, outputs = d.choice((0, 1, 5, 40)), d.choice((0, 1, 16, 33))
    lead = tuple(d.choice((0, 1, 3, 20)) for _ in range(d.randrange(3)))
    dtype = d.choice((torch.float32, torch.float64, *HALF))
    c = connect.fixed_total(
        inputs, outputs, total=(inputs and outputs) and d.choice((0, 1, 5, 99)), seed=d.randrange(99)
    )
    size = d.choice(((len(c),), (inputs,), ()))
    x = d.tensor((*lead, inputs), dtype, -2, 2) if d.chance(0.3) else d.spikes(*lead, inputs).to(dtype)
    return {"x": x, "weight": d.tensor(size, state_dtype(dtype), -0.5, 0.5), "connectivity": c}


def sparse_stdp(d: Draw) -> dict[str, Any]:
    inputs, outputs, lead = (
        d.choice((0, 1, 5, 40)),
        d.choice((0, 1, 16, 33)),
        (d.choice((0, 1, 9)), d.choice((0, 1, 3))),
    )
    total = (inputs and outputs) and d.choice((0, 1, 5, 99))
    c = connect.fixed_total(inputs, outputs, total=total, seed=d.randrange(99))
    kwargs = {
        "w": d.plain(total, dtype=d.choice((torch.float32, torch.float64))).abs().clamp(max=1),
        "pre": d.spikes(*lead, inputs),
        "post": d.spikes(*lead, outputs),
        "connectivity": c,
        "rule": d.choice((plasticity.pair(0.1, 0.2), plasticity.triplet(0.1, 0.2, trace="all"))),
        "update": d.choice(("step", "sequence")),
    }
    return kwargs | ({"norm": d.uniform(0.1, 9)} if d.chance(0.3) else {})


def integer_lif(d: Draw) -> dict[str, Any]:
    """Return integers for neurons, small or close to the largest."""
    shape = d.choice(((3, 2, 4), (0, 1, 2), (5, 1, 3, 2, 2), (2, 0, 3)))
    size = d.choice((9, 2**20, 2**28))
    kwargs: dict[str, Any] = {
        "x": d.tensor(shape, torch.int32, -9, 9),
        "gain": d.tensor((shape[2],), torch.int32, 0, 9) * (size // 9),
    }
    kwargs["bias"] = d.tensor((shape[2],), torch.int32, -1, 2) * size
    if d.chance(0.5):
        kwargs["v"] = d.tensor(shape[1:], torch.int32, -4, 4) * size
    if d.chance(0.5):
        kwargs["decay"] = d.choice((0, 1, 20001, 32768))
    if d.chance(0.5):
        kwargs["v_threshold"] = d.choice((None, 1, 77, 2**30 - 1))
    return kwargs | ({"v_reset": d.choice((None, -5))} if d.chance(0.5) else {})


def images(d: Draw) -> Tensor:
    """Return images, channels-last or not."""
    sizes = d.choice((0, 1, 3)), d.choice((1, 3, 8)), d.choice((2, 5, 9)), d.choice((1, 2, 4, 19))
    x = d.tensor(sizes, d.choice((torch.float32, torch.float32, torch.float64, *HALF)), -2, 2)
    return x.permute(0, 3, 1, 2) if d.chance(0.7) else x


def pooled(d: Draw) -> dict[str, Any]:
    """Return images, which may have ties, and windows, which may not divide their size."""
    x, window = images(d), d.choice((1, 2, 3, (2, 1), [1, 2]))
    x, method = x.round() if d.chance(0.3) else x, d.choice(("max", "average"))
    return {"x": x, "kernel": window, "method": method}


def normalised(d: Draw) -> dict[str, Any]:
    """Return images with or without parameters, and with statistics, at least if a channel has few values."""
    x = images(d)
    with_statistics = x.numel() < 9 * x.shape[1] or d.chance(0.4)
    names = [*(("weight", "bias") * d.chance(0.7)), *(("mean", "var") * with_statistics)]
    return {"x": x, **{name: d.plain(x.shape[1], dtype=x.dtype) for name in names}}


NEURONS = (*("lif", "iaf", "li", "cuba", "alif", "adlif", "cubali", "qif", "eif", "izhikevich"), "spike_count")
LINEAR = ("spike_linear", "spike_conv2d")
TIMES = ("spikeprop", "eventprop")
SILENT = ("lif", "iaf", "cuba", "alif", "adlif")
DIFFERENTIABLE = (*NEURONS[:-1], *LINEAR, "batch_norm", "delay", "pool2d", "recurrent", "sparse_linear", *TIMES)
LEARNING = ("sparse_stdp_", "stdp_", "bp_stdp_", "bp_stdp_network_", "diehl_cook_")
ARGUMENTS: dict[str, Callable[[Draw], dict[str, Any]]] = {
    **{name: partial(neuron, name=name) for name in NEURONS},
    **{name: partial(linear, name=name) for name in LINEAR},
    **{name: partial(layer_pair, name=name) for name in ("stdp_", "bp_stdp_")},
    "bp_stdp_network_": bp_stdp_network,
    "diehl_cook_": diehl_cook,
    "delay": delayed,
    "recurrent": recurrent,
    "sparse_linear": sparse_linear,
    "sparse_recurrent": sparse_recurrent,
    "sparse_stdp_": sparse_stdp,
    "batch_norm": normalised,
    "integer_lif": integer_lif,
    "pool2d": pooled,
    "poisson": poisson,
    "spikeprop": spikeprop,
    "eventprop": eventprop,
}


def arguments_of(d: Draw) -> tuple[str, dict[str, Any]]:
    """Return a random op and its arguments."""
    name = d.choice(tuple(ARGUMENTS))
    kwargs = ARGUMENTS[name](d)
    return name, refractory_call(d, kwargs) if name in SILENT and d.chance(0.3) else kwargs


def try_op(d: Draw) -> None:
    """Compare a public op with the reference."""
    name, kwargs = arguments_of(d)
    named = (name.rstrip("_"), *kwargs)
    hostile = d.chance(0.4)
    if hostile:
        parameters = inspect.signature(getattr(ops, name)).parameters
        key = d.choice([k for k, p in parameters.items() if p.kind is not p.VAR_KEYWORD])
        kwargs[key] = d.hostile(kwargs.get(key))
        named = (*named, key)
    if d.chance(0.1):
        kwargs["validate"] = False
        if "validate" not in inspect.signature(getattr(ops, name)).parameters:
            del kwargs["validate"]
    if name == "spike_count" and any(t.numel() > 2**34 for t in tensors_in(kwargs)):
        return  # 2^45 expanded steps take too long
    wants = [
        t
        for k, t in kwargs.items()
        if isinstance(t, Tensor)
        and t.is_floating_point()
        and t.layout == torch.strided
        and k not in ("theta", "p", "pre", "post", "error", "count", "mean", "var")
    ]
    if name in DIFFERENTIABLE and d.chance(0.5):
        for t in wants:
            t.requires_grad_()
    mine, before, versions = kwargs, copied(kwargs), [t._version for t in tensors_in(kwargs)]
    torch.manual_seed(0)  # for ops that draw a seed
    got, problem = tried(lambda: getattr(ops, name)(**mine), name, named)
    if problem:
        same(mine, before, f"{name}: an argument after an error ({problem})")
    for t, old, version in zip(tensors_in(mine), tensors_in(before), versions):
        changed = (
            readable(t) and t.numel() and not torch.equal(torch.nan_to_num(t.detach()), torch.nan_to_num(old.detach()))
        )
        if changed and t._version == version:
            raise Finding(
                f"{name}: a tensor {list(t.shape)} changed without its version: a backward pass would be wrong"
            )
    if too_large(mine) or (kwargs.get("validate") is False and (hostile or d.out_of_range)):
        return
    expected_kwargs = before
    torch.manual_seed(0)
    want, expected_problem = tried(lambda: getattr(reference, name)(**expected_kwargs), name, named)
    if bool(problem) != bool(expected_problem):
        raise Finding(f"{name}: {problem or 'a result'}, but the reference: {expected_problem or 'a result'}")
    if problem:
        return
    threshold = kwargs.get("v_threshold")
    endless = isinstance(threshold, Tensor) and not threshold.isfinite().all()
    if endless and kwargs.get("v_reset") is None:
        return  # docs/testing.md: the reference's membrane is NaN
    if name in LINEAR and (d.special or hostile):  # the events method skips 0 times infinity
        return
    rtol = tolerance(name, kwargs)
    same(got, want, f"{name}: the result", rtol, rtol)
    rtol = tolerance_in_place(name, kwargs)
    same(mine, expected_kwargs, f"{name}: an argument", rtol, rtol)
    if any(t.requires_grad for t in wants) and not d.special and not hostile:
        gradients(name, got, want, mine, expected_kwargs)


def tolerance(name: str, kwargs: dict[str, Any]) -> float:
    """Return the tolerance of a result against the reference."""
    # the order of summation differs
    if name in (*LINEAR, "batch_norm") or kwargs.get("method") == "average":
        tensor = kwargs["weight" if name in LINEAR else "x"]
        return {torch.float64: 1e-12, torch.float32: 1e-4}.get(tensor.dtype, 2.0**-6)
    if name in TIMES:  # docs/ops/spikeprop.md
        return 1e-4 if kwargs["t_in"].dtype == torch.float32 else 1e-11
    return 0.0


def tolerance_in_place(name: str, kwargs: dict[str, Any]) -> float:
    """Return the tolerance of an argument that an op changes in place.

    It is 0 except in float32 for conductances, and for rules with a power or exponential of the weight.
    """
    w, kind = kwargs.get("w"), getattr(kwargs.get("rule"), "kind", "")
    rounds = kwargs.get("synapses") == "conductance" or kind in ("power", "exponential")
    return 1e-5 if rounds and isinstance(w, Tensor) and w.dtype == torch.float32 else 0.0


def gradients(name: str, got: Any, want: Any, mine: Any, expected_arguments: Any) -> None:
    """Compare the gradients of a kernel with those of the reference."""
    found = []
    for outputs, arguments in ((got, mine), (want, expected_arguments)):
        leaves = [t for t in tensors_in(arguments) if t.requires_grad]
        loss = [
            (o * torch.linspace(0.5, 1.5, o.numel()).view(o.shape).to(o)).double().nan_to_num(posinf=0.0).sum()
            for o in tensors_in(outputs)
            if o.requires_grad
        ]
        if not loss:
            return
        # A missing gradient counts as zero.
        found.append(torch.autograd.grad(sum(loss), leaves, allow_unused=True, materialize_grads=True))
    for a, b in zip(*found):
        if not b.numel() or not bool(b.isfinite().all()):
            continue
        rough = 1e-3 if name in TIMES else 1e-4
        share = {torch.float64: 1e-12, torch.float32: rough}.get(a.dtype, 2.0**-6)
        same(a, b, f"{name}: a gradient", atol=share * max(float(b.abs().max()), 1e-3))


class Recorder(TorchDispatchMode):
    """Records the calls of kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "snnfast":
            self.calls.append((func, copied(args)))
        return func(*args, **(kwargs or {}))


def try_raw(d: Draw) -> None:
    """Call the kernels of a public op with invalid arguments."""
    name, kwargs = arguments_of(d)
    if name in DIFFERENTIABLE:
        for t in tensors_in(kwargs):
            t.requires_grad_(t.is_floating_point())
    recorder = Recorder()
    with recorder:
        try:
            result = getattr(ops, name)(**kwargs)
            losses = [o.double().nan_to_num(posinf=0.0).sum() for o in tensors_in(result) if o.requires_grad]
            if losses:
                sum(losses).backward()
        except ERRORS:
            pass
    for func, args in recorder.calls:
        flat = [d.guarded(a) if isinstance(a, Tensor) else a for a in copied(args)]
        for index in d.sample(range(len(flat)), min(d.randrange(1, 3), len(flat))):
            flat[index] = d.hostile(flat[index])
        if any(isinstance(a, Tensor) and a.numel() > 2**34 for a in flat):
            continue  # a loop over expanded elements takes too long
        before = copied(flat)
        with torch.no_grad():
            _, problem = tried(lambda call=func, a=flat: call(*a), str(func), (), plain=False)
        if problem:
            same(flat, before, f"{func}: an argument after an error ({problem})")
