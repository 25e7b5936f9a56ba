"""Cases of the fuzzer for ops: calls of ``tests/every_op.py`` with other sizes, values, layouts, dtypes and options.

Public ops run against the reference, and kernels with invalid arguments. An op is drawn by its calls alone.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import every_op
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from snnfast import connect, ops, plasticity, reference
from snnfast.check import state_dtype
from snnfast.reference.neuron_arguments import NEURONS

from .draw import ERRORS, HALF, HUGE, Draw, Finding, copied, readable, same, tensors_in, too_large, tried

SIZES = (0, 1, 2, 5, 17, 33, 70)
# Values of options that are no tensors, by name; booleans and numbers with a point need none.
OPTIONS: dict[str, tuple[Any, ...]] = {
    **{"kernel": (1, 2, 3, (2, 1), [1, 2]), "padding": (0, 0, 1, (1, 0)), "stride": (1, 2, (2, 1))},
    **{"num_steps": (0, 1, 9, 40), "batch": (None, 1, 2, 3), "max_spikes": (1, 9), "epsilon": (1, 4, 9)},
    **{"norm": (None, 2.0), "dt": (0.5, 1.0), "sigma": (0.0, 0.5, 3.0), "dtype": (torch.float32, torch.bool)},
    **{"decay": (0, 1, 20001, 32768), "v_threshold": (None, 1, 77, 2**30 - 1), "v_reset": (None, -5)},
    **{"thresholds": ([0.5, 0.9], [0.9, 0.5], [1e-46, 1e-46]), "seed": (0, 7, 2**60)},
}
CHOICES = (
    *(("auto", "events", "dense"), ("max", "average"), ("step", "sequence"), ("sum", "mean")),
    *(("spikes", "events"), ("baronig2025", "bittar2022")),
)
SURROGATES = ("atan", "sigmoid", "fast_sigmoid", "rectangle", "triangle", "gaussian")
LINEAR = ("spike_linear", "spike_conv2d")
TIMES = ("spikeprop", "eventprop")
SPIKING = ("lif", "iaf", "cuba", "alif", "adlif")


@functools.cache
def calls() -> dict[str, list[tuple[dict[str, Any], bool]]]:
    """Return arguments of all calls of an op, and whether they are differentiable, by op."""
    found: dict[str, list[tuple[dict[str, Any], bool]]] = {}
    public = {name: getattr(ops, name) for name in ops.__all__ if hasattr(reference, name)}
    smooth = False

    def recorder(name: str) -> Any:
        @functools.wraps(public[name])
        def record(*args: Any, **kwargs: Any) -> Any:
            arguments = inspect.signature(public[name]).bind(*args, **kwargs)
            arguments.arguments |= arguments.arguments.pop("arguments", {})
            found.setdefault(name, []).append((copied(arguments.arguments), smooth))
            return public[name](*args, **kwargs)

        return record

    try:
        for name in public:
            setattr(ops, name, recorder(name))
        for example in every_op.calls("cpu", steps=12, neurons=24).values():
            smooth = example.smooth
            example.function(*copied(example.inputs))
    finally:
        for name, op in public.items():
            setattr(ops, name, op)
    return found


class Resized:
    """Tensors of a call in other sizes: equal sizes stay equal. Values are drawn from those of the tensor."""

    def __init__(self, d: Draw, name: str) -> None:
        self.d, self.name = d, name
        self.sizes: dict[Any, int] = {}
        self.exact = name in TIMES or name.endswith("_")  # finite values, contiguous, few: their references are slow
        self.dtype = d.choice((torch.float32, torch.float32, torch.float64, *(() if self.exact else HALF)))

    def value(self, key: str, value: Any) -> Any:
        """Return a tensor for a tensor, also in a list; other values as they are."""
        if isinstance(value, list) and all(isinstance(v, Tensor) for v in value):
            return [self.value(key, v) for v in value]
        if not isinstance(value, Tensor) or not value.numel():
            return value
        d, name = self.d, self.name
        shape = list(value.shape)
        sizes = SIZES[:5] if self.exact else SIZES
        for k, n in enumerate(shape):
            if k > 1 and len(shape) == 4:  # pixels; those of convolution kernels stay
                shape[k] = n if key == "weight" else self.sizes.setdefault((k, n), d.choice((n, 3, 4, 9, 19)))
            else:
                shape[k] = self.sizes.setdefault(n, n if n == 1 or d.chance(0.4) else d.choice(sizes))
        t = value.detach().flatten()[torch.randint(value.numel(), shape)]
        if t.dtype in (torch.bool, torch.uint8) and key in ("x", "pre", "post"):
            return d.guarded(t.to(d.choice((torch.bool, torch.uint8, torch.float32, torch.float64))))
        if t.dtype == torch.float32:
            like_x = key in ("x", "p", "past") or name in (*LINEAR, "batch_norm")
            t = t.to(self.dtype if like_x else state_dtype(self.dtype))
            if key == "x" and not self.exact:
                t = d.choice((t, t, 3 * t - 1, t.round()))
        if self.exact or (name == "batch_norm" and key != "x"):
            return d.guarded(t)
        if t.dim() == 4 and d.chance(0.7):  # channels-last
            return d.laid_out(t.permute(0, 2, 3, 1).contiguous()).permute(0, 3, 1, 2)
        return d.laid_out(t)


def parameters(d: Draw, name: str, x: Tensor) -> dict[str, Any]:
    """Return parameters and states of a neuron for an input."""
    kwargs: dict[str, Any] = {}
    shape, state = tuple(x.shape[1:]), state_dtype(x.dtype)
    for key, parameter in inspect.signature(getattr(ops, name)).parameters.items():
        text = inspect.formatannotation(parameter.annotation)
        if key in ("x", "refractory", "r", "max_spikes") or d.chance(0.5):
            continue
        if text == "bool":
            kwargs[key] = d.chance(0.5)
        elif key == "surrogate":
            kwargs[key] = d.choice(SURROGATES)
        elif isinstance(parameter.default, str):
            kwargs[key] = option(d, key, parameter.default)
        elif "float" not in text:
            kwargs[key] = d.tensor(shape, state)
        elif not any(k.replace("tau", "decay") == key.replace("tau", "decay") for k in kwargs):
            low, high = usual(key)
            few = tuple(s if d.chance(0.5) else 1 for s in shape)
            as_tensor = "Tensor" in text and d.chance(0.4)
            kwargs[key] = d.tensor(few, state, low, high) if as_tensor else d.uniform(low, high)
    if name in SPIKING and d.chance(0.3):
        kwargs |= {"refractory": d.choice((0, 1, 2, 40))} if d.chance(0.7) else {}
        kwargs |= {"r": d.tensor(shape, state, -1, 3)} if "refractory" in kwargs and d.chance(0.5) else {}
        kwargs |= {"max_spikes": d.choice((None, 1, 2, 7)), "v_reset": None} if d.chance(0.7) else {}
    return kwargs


def usual(parameter: str) -> tuple[float, float]:
    """Return the usual range of a parameter of a neuron."""
    if "tau" in parameter:
        return 1.0, 5.0
    if "decay" in parameter:
        return 0.0, 1.0
    return (-0.5, 0.5) if parameter in ("v_reset", "v_rest") else (0.5, 1.5)


def presented(d: Draw, spikes: Tensor, events: bool) -> Any:
    """Return presentations like spikes ``[P, T, I]``: as events, whose indices may be wrong, or as rates."""
    count, steps, inputs = spikes.shape
    if events:
        found = ops.Events.from_dense(spikes)
        inside = d.guarded(found.inputs), d.guarded(found.offsets)
        d.out_of_range = d.chance(0.2) and found.inputs.numel() > 0
        if d.out_of_range:
            inside[d.randrange(2)].view(-1)[0] = d.choice((-1, inputs, 2**31 - 1))
        return ops.Events(*inside)
    hz = d.guarded(torch.rand(count, inputs) * 900)
    return ops.Rates(hz, steps if d.chance(0.95) else d.choice(HUGE), d.guarded(torch.randint(0, 99, (count,))))


def option(d: Draw, key: str, value: Any) -> Any:
    """Return another value of an option, or the same."""
    if isinstance(value, bool):
        return d.chance(0.5)
    if isinstance(value, str):
        return d.choice(next((words for words in CHOICES if value in words), (value,)))
    if key in OPTIONS:
        return d.choice(OPTIONS[key])
    return value * d.uniform(0.5, 1.5) if isinstance(value, float) else value


def arguments_of(d: Draw) -> tuple[str, dict[str, Any], bool]:
    """Return a random op, its arguments, and whether they are differentiable."""
    name = d.choice(sorted(calls()))
    recorded, smooth = d.choice(calls()[name])
    resized = Resized(d, name)
    kwargs = {key: resized.value(key, value) for key, value in recorded.items()}
    x = kwargs.get("x")
    if name in NEURONS or name == "spike_count":
        shape = d.choice((x.shape, x.shape, x.shape[:1], x.shape[:2], (*x.shape, 2)))
        kwargs = {"x": d.laid_out(x.flatten()[torch.randint(max(x.numel(), 1), shape)]) if x.numel() else x}
        return name, kwargs | parameters(d, name, kwargs["x"]), smooth
    known = inspect.signature(getattr(ops, name)).parameters
    if d.chance(0.15):  # without optional tensors
        kwargs = {key: value for key, value in kwargs.items() if known[key].default is not None}
    for key, parameter in known.items():
        if key != "validate" and d.chance(0.5) and parameter.kind is not parameter.VAR_KEYWORD:
            drawn = option(d, key, kwargs.get(key, parameter.default))
            kwargs |= {} if drawn is parameter.default else {key: drawn}
    if "rule" in kwargs:
        rules = ("pair", "triplet", "power_law", "exponential", "soft_bounds", "pre_post")
        kwargs["rule"] = getattr(plasticity, d.choice(rules))(trace=d.choice(("nearest", "all")))
    if name == "diehl_cook_" and d.chance(0.7):
        kwargs["x"] = presented(d, x, events=d.chance(0.5))
    elif name == "bp_stdp_network_":
        kwargs["x"] = presented(d, x.transpose(0, 1), events=False) if d.chance(0.4) else x
        classes = kwargs["weights"][-1].shape[-2]
        if "labels" in kwargs and classes:
            kwargs["labels"] = kwargs["labels"] % classes
        elif "labels" in kwargs:
            kwargs = {key: value for key, value in kwargs.items() if key not in ("labels", "desired")}
    elif name in ("recurrent", "sparse_recurrent") and x is not None:
        kwargs = {key: value for key, value in kwargs.items() if key not in ("num_steps", "batch")}
        kwargs["neuron"] = d.choice(SPIKING)
        kwargs |= parameters(d, kwargs["neuron"], x)
    elif name == "poisson" and d.chance(0.1):
        kwargs["num_steps"] = d.choice(HUGE)
    if name == "sparse_recurrent":
        kwargs |= connected(d, 24 if x is None else x.shape[-1], None, x)
        kwargs |= noise(d, kwargs["connectivity"].n_pre) if x is None or d.chance(0.5) else {}
    elif name == "sparse_linear":
        kwargs |= connected(d, x.shape[-1], d.choice(SIZES), x)
    elif name == "sparse_stdp_":
        found = connected(d, kwargs["pre"].shape[-1], kwargs["post"].shape[-1], None)
        w = torch.rand(len(found["connectivity"]), dtype=d.choice((torch.float32, torch.float64)))
        kwargs |= {"connectivity": found["connectivity"], "w": d.guarded(w)}
    return name, kwargs, smooth


def connected(d: Draw, n_pre: int, n_post: int | None, x: Tensor | None) -> dict[str, Any]:
    """Return random synapses, with delays where ``n_post`` is None, recurrent ones, and weights for them."""
    recurrent, n_post = n_post is None, n_pre if n_post is None else n_post
    total = d.choice((0, 1, 5, 40)) if n_pre and n_post else 0
    c = connect.fixed_total(n_pre, n_post, total=total, seed=d.randrange(99))
    if recurrent and d.chance(0.5):
        c = c.with_delay(torch.tensor([d.choice((1, 2, 9)) for _ in range(len(c))], dtype=torch.int64))
    state = torch.float32 if x is None else state_dtype(x.dtype)
    return {"connectivity": c, "weight": d.tensor(d.choice(((len(c),), (n_pre,), ())), state, -0.5, 0.5)}


def noise(d: Draw, neurons: int) -> dict[str, Any]:
    """Return noise for neurons."""
    rates = torch.tensor([d.choice((0.0, 0.5, 0.5, 30.0)) for _ in range(neurons)])
    drawn = connect.PoissonNoise(d.choice((rates, 1.0)), d.uniform(-0.5, 0.5), seed=d.randrange(99))
    return {"noise": drawn.after(d.choice((0, 2**32 - 2)))}


def try_op(d: Draw) -> None:
    """Compare a public op with the reference."""
    name, kwargs, smooth = arguments_of(d)
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
    floats = [(k, t) for k, t in kwargs.items() if isinstance(t, Tensor) and t.is_floating_point()]
    wants = [t for k, t in floats if t.layout == torch.strided and k not in ("mean", "var")]
    if smooth and d.chance(0.5):
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
    if name in (*LINEAR, "sparse_linear", "batch_norm") or kwargs.get("method") == "average":
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
        rough = 1e-3 if name in TIMES or "recurrent" in name else 1e-4
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
    name, kwargs, smooth = arguments_of(d)
    if smooth:
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
