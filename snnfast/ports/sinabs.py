"""Sinabs' neurons on the ops of this package, with Sinabs' call signatures: ``[B, T, ...]``, stateful."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from snnfast import check, ops
from snnfast.backend import BackendWarning
from snnfast.reference import surrogate

from .port import Library, Memo, Port, as_number, refuse
from .sinabs_functions import Functions

__all__ = ["SINABS"]

OF_THE_NEXT = "record_states=True records states of the step after, before their reset"


class _Neuron(Functions, Port, ABC):
    """A neuron that takes ``[B, T, ...]``, or with ``batch_size`` or ``num_timesteps`` ``[B T, ...]``."""

    time_dim: int | None = 1
    states: tuple[str, ...] = ()  # they are buffers, as in Sinabs
    names: tuple[str, ...] = ()
    state_buffers: tuple[str, ...] = ("v_mem",)
    batch_size: int
    num_timesteps: int
    norm_input: bool
    train_alphas: bool
    record_states: bool
    spike_threshold: Any
    min_v_mem: Any

    def __init__(self, where: str, original: Any, memo: Memo) -> None:
        squeezed = ("batch_size", "num_timesteps") if hasattr(original, "squeeze_init") else ()
        super().__init__(original, memo, (*self.names, *squeezed))
        self.check_functions(where)
        self.squeezed = bool(squeezed)
        if self.squeezed:
            self.time_dim = None
        self.recordings: dict[str, Tensor] = {}

    def reset(self) -> None:
        """Discard the states: the next call starts at rest, with any batch size."""
        self._change_states(lambda state: state.new_zeros(0))

    def reset_states(self, randomize: bool = False) -> None:
        """Sinabs' name for :meth:`reset`."""
        if randomize:
            raise ValueError(f"{type(self).__name__}: reset_states has no randomize=True here")
        self.reset()

    def detach(self) -> None:
        """Keep the values of the states and drop their graph."""
        self._change_states(Tensor.detach)

    def _change_states(self, change: Callable[[Tensor], Tensor]) -> None:
        for name in self.state_buffers:
            state = self._buffers.get(name)
            if state is not None:
                self._buffers[name] = change(state)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear gradients and drop the graph of the states, as in Sinabs."""
        super().zero_grad(set_to_none)
        self.detach()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        # States in a file have the batch size of the last call before saving.
        for name in self.state_buffers:
            saved, buffer = state_dict.get(prefix + name), self._buffers.get(name)
            if saved is not None and buffer is not None and saved.shape != buffer.shape:
                self._buffers[name] = buffer.new_zeros(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def forward(self, input_data: Tensor) -> Tensor:
        """Input ``[B, T, ...]`` -> spikes, or a membrane, of the same shape."""
        x = input_data
        if self.squeezed:
            x = x.reshape(self.batch_size, self.num_timesteps, *x.shape[1:])
        out = self.scan(x.transpose(0, 1)).transpose(0, 1)
        return out.flatten(0, 1) if self.squeezed else out

    def time_first(self, t: Tensor) -> Tensor:
        """Return ``t``, an input or output of a call, as ``[T, B, ...]``."""
        if self.squeezed:
            unflattened: Tensor = t.unflatten(0, (self.batch_size, self.num_timesteps))
            return unflattened.transpose(0, 1)
        return super().time_first(t)

    @abstractmethod
    def scan(self, x: Tensor) -> Tensor:
        """Run all steps of ``x`` ``[T, B, ...]``."""

    def _state(self, name: str, x: Tensor) -> Tensor | None:
        value = self._buffers[name]
        same_shape = value is not None and value.shape == x.shape[1:]
        # Sinabs' from_model leaves zeros of another shape.
        if value is None or not (same_shape or value.any()) or self._runs_again():
            return None
        if not same_shape:
            raise ValueError(
                f"{type(self).__name__}: the state {name} has shape {list(value.shape)}, but a step has "
                f"{list(x.shape[1:])}; call reset_states() before a batch of another shape (Sinabs draws states)"
            )
        return self._carried(name, value).to(x.device, check.state_dtype(x.dtype))

    def _keep(self, **states: Tensor) -> None:
        if self._runs_again():
            return
        for name, value in states.items():
            self._buffers[name] = value

    def _record(self, **states: Tensor) -> None:
        self.v_seq = states["v_mem"] if self.store_v_seq else None
        if self.record_states:
            self.recordings = {n: v.transpose(0, 1) for n, v in states.items()}

    def _alpha(self, name: str, x: Tensor) -> Any:
        """Return ``exp(-1 / tau)``; the parameter is either this value or tau."""
        value = getattr(self, f"alpha_{name}" if self.train_alphas else f"tau_{name}")
        alpha = value if self.train_alphas else torch.exp(-1.0 / value)
        return as_number(alpha, x)

    def _firing(self, threshold: Any) -> dict[str, Any]:
        """Arguments for threshold, reset and surrogate; any surrogate will do where no gradient is recorded."""
        gradient = self.gradient or surrogate.atan()
        return {"v_threshold": threshold, "surrogate": gradient} | (self.reset_to or {})

    def _needs_functions(self) -> bool:
        """Return whether Sinabs' own functions run, because no op does the same."""
        value, learns = self.reset_to, torch.is_grad_enabled()
        if self.min_v_mem is not None or value is None:
            return True
        if self.most != 1 and (learns or value["v_reset"] is not None):
            return True
        threshold = self.spike_threshold  # a state in adaptive neurons
        learned = isinstance(threshold, nn.Parameter) and threshold.requires_grad
        return learns and (learned or self.gradient is None)

    def _run_functions(self, x: Tensor, current: bool, adapts: bool, **arguments: Any) -> Any:
        """Return spikes, states and membranes of all steps, computed by Sinabs' own functions."""
        bounded = self.min_v_mem is not None
        neuron = self.neuron(bounded=bounded, current=current, adapts=adapts)
        if not neuron.kernels.enabled:
            self._warn("its surrogate gradient is none of Sinabs'")
        if bounded:
            arguments["low"] = as_number(self.min_v_mem, x)
        return neuron(x, **arguments, return_v_seq=True)

    def _fire(self, h: Tensor, threshold: Any) -> tuple[Tensor, Tensor]:
        """Return spikes and membranes of one step, computed by Sinabs' own functions."""
        spikes: Tensor = self.spike_fn.apply(h, threshold, self.surrogate_grad_fn)
        v: Tensor = self.reset_fn(spikes, {"v_mem": h}, threshold)["v_mem"]
        if self.min_v_mem is not None:
            v = functional.relu(v - self.min_v_mem) + self.min_v_mem
        return spikes, v

    def _warn(self, why: str) -> None:
        warnings.warn(
            f"{type(self).__name__} runs in plain PyTorch, which is slow: {why}", BackendWarning, stacklevel=3
        )


class LIF(_Neuron):
    """Sinabs' ``LIF``, ``IAF`` (which has no leak) and ``ExpLeak`` (which never fires), with or without a current.

    Several spikes a step (``MultiSpike``, ``MaxSpike``) are one call of an op while no gradients are recorded.
    With gradients, Sinabs' own functions are compiled, as those of a :func:`snnfast.neuron`: their surrogate gradient
    takes the whole membrane, that of the ops the distance to the nearest multiple of the threshold. The same holds for
    features that no op has: other surrogates, ``min_v_mem``, and resets by another value than the threshold. With
    recurrent connections these run step by step.
    """

    state_buffers = ("v_mem", "i_syn")

    def __init__(self, where: str, original: Any, memo: Memo) -> None:
        self.leaks = original.train_alphas or original.tau_mem is not None
        time = ("alpha_mem", "alpha_syn") if original.train_alphas else ("tau_mem", "tau_syn")
        states = [n for n in self.state_buffers if n in original._buffers]
        settings = ("spike_threshold", "min_v_mem", "norm_input", "train_alphas", "record_states")
        functions = ("spike_fn", "reset_fn", "surrogate_grad_fn")
        self.names = (*time, *states, *settings, *functions, *self.names)
        super().__init__(where, original, memo)
        self.fires = original.spike_fn is not None
        if not self.fires and self.min_v_mem is not None:
            refuse(where, "min_v_mem bounds its membrane from below after every step")

    def _leak(self, x: Tensor) -> dict[str, Any]:
        decay = self._alpha("mem", x) if self.leaks else 1.0
        return {"decay": decay, "decay_input": self.norm_input, "v_rest": 0.0}

    def scan(self, x: Tensor) -> Tensor:
        leak, v = self._leak(x), self._state("v_mem", x)
        current = {}
        if self._buffers.get("i_syn") is not None:
            # Sinabs decays the input of a step, too.
            alpha = self._alpha("syn", x)
            x, current = alpha * x, {"i": self._state("i_syn", x), "decay_syn": alpha}
        if not self.fires:
            out, *states = (ops.cubali if current else ops.li)(x, v, **leak, **current)
            v_seq = out
        elif self._needs_functions():
            out, *states, v_seq = self._by_functions(x, v, leak, current)
        else:
            firing = self._firing(as_number(self.spike_threshold, x))
            if self.most != 1:
                firing["max_spikes"] = None if self.most == math.inf else int(self.most)
            out, *states, v_seq = self._run(x, v, {**leak, **firing, **current, "return_v_seq": True})
        self._keep(**dict(zip(self.state_buffers, states)))
        recorded = {"v_mem": v_seq}
        if current and self.record_states:
            recorded["i_syn"] = ops.li(x, current["i"], decay=current["decay_syn"], decay_input=False)[0]
        self._record(**recorded)
        return out

    def _by_functions(self, x: Tensor, v: Tensor | None, leak: dict[str, Any], current: dict[str, Any]) -> list[Tensor]:
        """Return spikes, the last states and membranes, computed by Sinabs' own functions."""
        decay = leak["decay"]
        arguments = {"decay": decay, "gain": 1 - decay if leak["decay_input"] else 1.0, **current}
        threshold = as_number(self.spike_threshold, x)
        return self._run_functions(x, bool(current), False, v=v, v_threshold=threshold, **arguments)  # type: ignore[no-any-return]

    def _run(self, x: Tensor, v: Tensor | None, arguments: dict[str, Any]) -> Any:
        return (ops.cuba if "i" in arguments else ops.lif)(x, v, **arguments)


class LIFRecurrent(LIF):
    """Sinabs' ``LIFRecurrent`` and ``IAFRecurrent``: recurrent within a call, by a linear layer."""

    names = ("rec_connect",)
    rec_connect: nn.Module

    def __init__(self, where: str, original: Any, memo: Memo) -> None:
        if original.record_states:
            refuse(where, OF_THE_NEXT)
        super().__init__(where, original, memo)
        self._linear(where)

    def _linear(self, where: str = "") -> nn.Linear:
        layers = [
            layer
            for layer in self.rec_connect.modules()
            if not isinstance(layer, (nn.Sequential, nn.Flatten, nn.Unflatten, nn.Identity))
        ]
        if len(layers) != 1 or type(layers[0]) is not nn.Linear:
            kinds = ", ".join(type(layer).__name__ for layer in layers)
            refuse(where, f"recurrent connections here are a matrix, and its are {kinds}")
        return layers[0]

    def products(self, x: Tensor, spikes: Tensor) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Yield the product of the recurrent weights; spikes arrive within the same call only."""
        yield "rec_connect", self._linear().weight, spikes[:-1].flatten(2)

    def _by_functions(self, x: Tensor, v: Tensor | None, leak: dict[str, Any], current: dict[str, Any]) -> list[Tensor]:
        self._warn("recurrent connections have kernels for some of its functions alone")
        decay, decay_syn = leak["decay"], current.get("decay_syn", 0.0)
        gain = 1 - decay if leak["decay_input"] else 1.0
        rest = x.new_zeros(x.shape[1:], dtype=check.state_dtype(x.dtype))
        v, i = (rest if state is None else state for state in (v, current.get("i")))
        back: Any = 0.0
        all_spikes, v_seq = [], []
        for x_t in x:
            i = decay_syn * i + (x_t + back)
            spikes, v = self._fire(decay * v + gain * i, self.spike_threshold)
            back = self._back(spikes, decay_syn if current else 1.0)
            all_spikes.append(spikes)
            v_seq.append(v)
        last = [v, i] if current else [v]
        return [torch.stack(all_spikes), *last, torch.stack(v_seq)]

    def _back(self, spikes: Tensor, scale: Any) -> Tensor:
        """Return the recurrent input of the next step, times ``scale``."""
        linear = self._linear()
        back = functional.linear(spikes.flatten(1), linear.weight, linear.bias).view(spikes.shape)
        scaled: Tensor = scale * back
        return scaled

    def _run(self, x: Tensor, v: Tensor | None, arguments: dict[str, Any]) -> Any:
        linear, shape = self._linear(), x.shape
        weight = linear.weight.to(check.state_dtype(x.dtype))
        back: Tensor | None = linear.bias
        neuron = "lif"
        if "i" in arguments:
            # Sinabs decays an input in the step in which it arrives.
            scale = torch.as_tensor(arguments["decay_syn"], dtype=weight.dtype, device=x.device)
            scale = scale.expand(shape[2:]).flatten()
            weight, neuron = scale[:, None] * weight, "cuba"
            back = None if back is None else scale * back
        flat = {
            name: value.expand(shape[2:]).flatten()
            if isinstance(value, Tensor) and value.dim() and name != "i"
            else value
            for name, value in arguments.items()
        }
        if flat.get("i") is not None:
            flat["i"] = flat["i"].flatten(1)
        x, v = x.flatten(2), None if v is None else v.flatten(1)
        if back is not None:
            # The first step has no recurrent input, not even the bias.
            x = torch.cat([x[:1], x[1:] + back])
        results = ops.recurrent(x, weight, neuron=neuron, v=v, **flat)
        return [r.view(shape if r.dim() == x.dim() else shape[1:]) if isinstance(r, Tensor) else r for r in results]


class ALIF(_Neuron):
    """Sinabs' ``ALIF`` and ``ALIFRecurrent``: the threshold is ``b0 + adapt_scale b``, and ``b`` grows by spikes.

    In Sinabs the comparison with the membrane gives the threshold no gradient, and a reset subtracts the adapted
    threshold. No op does that, so Sinabs' own functions are compiled, as those of a :func:`snnfast.neuron`. With
    recurrent connections they run step by step.
    """

    names: tuple[str, ...] = (
        *("v_mem", "b", "spike_threshold", "b0", "adapt_scale", "min_v_mem"),
        *("norm_input", "train_alphas", "record_states"),
        *("spike_fn", "reset_fn", "surrogate_grad_fn"),
    )
    state_buffers: tuple[str, ...] = ("v_mem", "b", "spike_threshold")
    at_rest = "b0"
    adapt_scale: Any
    b0: Any
    rec_connect: Any

    def __init__(self, where: str, original: Any, memo: Memo) -> None:
        if original.record_states:
            refuse(where, OF_THE_NEXT)
        kind = "alpha" if original.train_alphas else "tau"
        recurrent = ("rec_connect",) if hasattr(original, "rec_connect") else ()
        self.names = (*self.names, f"{kind}_mem", f"{kind}_adapt", *recurrent)
        self.has_current = "i_syn" in original._buffers
        if self.has_current:
            self.names += (f"{kind}_syn", "i_syn")
            self.state_buffers += ("i_syn",)
        super().__init__(where, original, memo)
        self.recurrent = bool(recurrent)

    def scan(self, x: Tensor) -> Tensor:
        rho = self._alpha("adapt", x)
        if self.has_current and self._state("i_syn", x) is None:
            self._keep(i_syn=x.new_zeros(x.shape[1:], dtype=check.state_dtype(x.dtype)))
        scale, b0 = as_number(self.adapt_scale, x), as_number(self.b0, x)
        v, b = self._state("v_mem", x), self._state("b", x)
        decay = self._alpha("mem", x)
        arguments = {"decay": decay, "gain": 1 - decay if self.norm_input else 1.0}
        arguments |= {"rho": rho, "scale": scale, "v_threshold": b0}
        if self.has_current:  # Sinabs does not store it at the end of a call
            arguments |= {"decay_syn": self._alpha("syn", x), "i": self._state("i_syn", x)}
        run = self._each_step if self.recurrent else self._all_steps
        spikes, v_seq, b = run(x, v, b, **arguments)
        self._record(v_mem=v_seq)
        self._keep(v_mem=v_seq[-1], b=b, spike_threshold=b0 + scale * b)
        return spikes

    def _all_steps(self, x: Tensor, v: Any, b: Any, **arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        spikes, _, b, *_, v_seq = self._run_functions(x, self.has_current, True, v=v, b=b, **arguments)
        return spikes, v_seq, b

    def _each_step(self, x: Tensor, v: Any, b: Any, **arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        self._warn("recurrent connections have kernels for neurons without adaptation alone")
        decay, gain, rho = arguments["decay"], arguments["gain"], arguments["rho"]
        rest = x.new_zeros(x.shape[1:], dtype=check.state_dtype(x.dtype))
        v, b = (rest if state is None else state for state in (v, b))
        i, back = arguments.get("i"), rest
        all_spikes, v_seq = [], []
        for x_t in x:
            x_t = x_t + back
            if self.has_current:
                x_t = i = gain * (arguments["decay_syn"] * (i + x_t))
            h = decay * v + (x_t if self.has_current else gain * x_t)
            s, v = self._fire(h, arguments["v_threshold"] + arguments["scale"] * b)
            b = rho * b + (1 - rho) * s
            back = self.rec_connect(s).reshape(x_t.shape)
            all_spikes.append(s)
            v_seq.append(v)
        return torch.stack(all_spikes), torch.stack(v_seq), b


SINABS = Library(
    name="sinabs",
    neurons={
        **dict.fromkeys(("LIF", "LIFSqueeze", "IAF", "IAFSqueeze", "ExpLeak", "ExpLeakSqueeze"), LIF),
        **dict.fromkeys(("LIFRecurrent", "IAFRecurrent"), LIFRecurrent),
        **dict.fromkeys(("ALIF", "ALIFSqueeze", "ALIFRecurrent"), ALIF),
    },
    refused={},
    bases=frozenset({"StatefulLayer"}),
)
