"""Record short traces of neurons of other libraries, which the presets of ``snnfast.nn`` must match.

Needs spikingjelly, snntorch, norse and sinabs; missing libraries are skipped:

    python scripts/record_traces.py --out tests/ports/traces

Writes one file per neuron, ``<library>_<neuron>.json``. Shared by all its ``cases``: the input ``x``
[T, B, N], the membrane ``v0`` [B, N] before the first step, and the ``weights`` [T, B, N] of the
loss ``(weights * spikes).sum()``. Each case: the ``settings``, the ``spikes``, the membrane
``v_seq`` (``v_seq_is`` says whether before or after the reset), the gradients ``grad_x`` and
``grad_v0`` of the loss, and ``on_threshold``: the neurons [b, n] whose first step lands exactly on
the threshold. All in float64.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import math
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

T, B, N = 12, 2, 3
DTYPE = torch.float64
V_THRESHOLD = 1.0

Settings = dict[str, Any]


class RecordedNeuron(NamedTuple):
    """A neuron to record.

    ``run(settings, x, v0)`` returns spikes and membranes, ``charge(settings)`` returns ``decay, gain,
    rest`` of one step, ``h = rest + decay (v - rest) + gain x``.
    """

    settings: list[Settings]
    run: Callable[[Settings, Tensor, Tensor], tuple[Tensor, Tensor]]
    charge: Callable[[Settings], tuple[float, float, float]]
    x_max: float = 2.25


def product(**choices: tuple[Any, ...]) -> list[Settings]:
    return [dict(zip(choices, values)) for values in itertools.product(*choices.values())]


def inputs(seed: int, x_max: float) -> tuple[Tensor, Tensor, Tensor]:
    """Draw ``x``, ``v0`` and ``weights`` in sixteenths, so that dyadic decays stay exact."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-8, int(16 * x_max) + 1, (T, B, N), generator=generator).to(DTYPE) / 16
    v0 = torch.tensor([[0.0, 0.0, 0.0], [0.25, 0.5, -0.125]], dtype=DTYPE)
    # From a membrane of 0 these reach a threshold of 1 exactly: with gain 1, with gain 1/2, and
    # with gain 1/2 and rest at -1/4.
    x[0, 0] = torch.tensor([1.0, 2.0, 2.25]).clamp(max=x_max)
    weights = torch.randint(-16, 17, (T, B, N), generator=generator).to(DTYPE) / 16
    return x, v0, weights


def record(neuron: RecordedNeuron, settings: Settings, x: Tensor, v0: Tensor, weights: Tensor) -> dict[str, Any]:
    decay, gain, rest = neuron.charge(settings)
    h = rest + decay * (v0 - rest) + gain * x[0]
    x, v0 = x.clone().requires_grad_(), v0.clone().requires_grad_()
    spikes, v_seq = neuron.run(settings, x, v0)
    grad_x, grad_v0 = torch.autograd.grad((weights * spikes).sum(), (x, v0))
    return {
        "settings": settings,
        "on_threshold": (h == V_THRESHOLD).nonzero().tolist(),
        "spikes": spikes.to(torch.int64).tolist(),
        # Only snnTorch with its delayed reset returns a membrane that has not been reset.
        "v_seq_is": "before reset" if settings.get("reset_delay") else "after reset",
        "v_seq": v_seq.tolist(),
        "grad_x": grad_x.tolist(),
        "grad_v0": grad_v0.tolist(),
    }


def step_by_step(cell: Any, x: Tensor, state: Any) -> tuple[Tensor, Tensor]:
    spikes, v_seq = [], []
    for x_t in x:
        s, state = cell(x_t, state)
        spikes.append(s)
        v_seq.append(getattr(state, "v", state))
    return torch.stack(spikes), torch.stack(v_seq)


def run_spikingjelly(node: str, settings: Settings, x: Tensor, v0: Tensor) -> tuple[Tensor, Tensor]:
    from spikingjelly.activation_based import neuron, surrogate

    arguments = {**settings, "surrogate_function": getattr(surrogate, settings["surrogate_function"])()}
    neurons = getattr(neuron, node)(**arguments, step_mode="m", store_v_seq=True).to(DTYPE)
    neurons.v = v0
    return neurons(x), neurons.v_seq


def spikingjelly_lif(node: str, tau: str) -> RecordedNeuron:
    def charge(settings: Settings) -> tuple[float, float, float]:
        decay = 1 - 1 / settings[tau]
        return decay, 1 - decay if settings["decay_input"] else 1.0, settings["v_reset"] or 0.0

    settings = product(
        **{tau: (2.0,)},
        decay_input=(True, False),
        v_threshold=(V_THRESHOLD,),
        v_reset=(0.0, -0.25, None),
        surrogate_function=("ATan",),
        detach_reset=(False, True),
    )
    settings += [
        {**settings[0], "surrogate_function": "Sigmoid"},
        {**settings[-2], "surrogate_function": "Sigmoid", tau: 4.0},
        {**settings[0], tau: 1.5},
    ]
    return RecordedNeuron(settings, lambda *args: run_spikingjelly(node, *args), charge)


def spikingjelly_if() -> RecordedNeuron:
    settings = product(
        v_threshold=(V_THRESHOLD,), v_reset=(0.0, -0.25, None), surrogate_function=("ATan",), detach_reset=(False, True)
    )
    return RecordedNeuron(settings, lambda *args: run_spikingjelly("IFNode", *args), lambda _: (1.0, 1.0, 0.0))


def spikingjelly_nonlinear(node: str, **parameters: tuple[float, ...]) -> RecordedNeuron:
    settings = product(
        tau=(2.0, 5.0),
        **parameters,
        v_threshold=(V_THRESHOLD,),
        v_rest=(0.0,),
        v_reset=(-0.25, None),
        surrogate_function=("Sigmoid",),
        detach_reset=(False, True),
    )
    # Membranes are no multiples of a sixteenth, so that none equals the threshold.
    return RecordedNeuron(settings, lambda *args: run_spikingjelly(node, *args), lambda _: (0.0, 0.0, 0.0))


def spikingjelly_steps(node: str, settings: list[Settings]) -> RecordedNeuron:
    """Return a neuron that is run step by step, because not all of them store their membranes."""

    def run(settings: Settings, x: Tensor, v0: Tensor) -> tuple[Tensor, Tensor]:
        from spikingjelly.activation_based import neuron, surrogate

        arguments = dict(settings)
        k = arguments.pop("k", None)
        if "surrogate_function" in arguments:
            arguments["surrogate_function"] = getattr(surrogate, arguments["surrogate_function"])()
        if "max_spike_count" in arguments:
            count, window = arguments.pop("max_spike_count"), arguments.pop("grad_window")
            arguments["surrogate_function"] = surrogate.MultiLevelSpikeCount(count, grad_window=window)
        neurons = getattr(neuron, node)(**arguments).to(DTYPE)
        if k is not None:
            torch.nn.init.constant_(neurons.k, k)
        neurons.v = v0
        rows = [(neurons(x_t), neurons.v) for x_t in x]
        spikes, v_seq = (torch.stack(column) for column in zip(*rows))
        return spikes, v_seq

    return RecordedNeuron(settings, run, lambda _: (0.0, 0.0, 0.0))


def spikingjelly_gated() -> RecordedNeuron:
    """Return ``GatedLIFNode``, run with 1, 2, ... steps, because it only has the membrane after the last step."""
    gates = {"alpha": 0.3, "beta": -0.4, "gamma": 0.5, "tau": -1.0, "v_threshold": 0.2}
    gates |= {"linear_decay": -2.0, "v_subreset": 0.1}
    conduct = [0.1 * t - 0.5 for t in range(T)]

    def run(settings: Settings, x: Tensor, v0: Tensor) -> tuple[Tensor, Tensor]:
        from spikingjelly.activation_based import neuron

        v_seq = []
        for steps in range(1, T + 1):
            node = neuron.GatedLIFNode(T=steps).to(DTYPE)
            values = settings | {"conduct": settings["conduct"][:steps]}
            node.load_state_dict({n: torch.tensor(v, dtype=DTYPE) for n, v in values.items()})
            node.v = v0.view(B, N, 1, 1)
            spikes = node(x[:steps].view(steps, B, N, 1, 1))
            v_seq.append(node.v.view(B, N))
        return spikes.view(T, B, N), torch.stack(v_seq)

    return RecordedNeuron([{**gates, "conduct": conduct}], run, lambda _: (0.0, 0.0, 0.0))


def norse_cell(name: str, parameters: Callable[..., Any], settings: list[Settings]) -> RecordedNeuron:
    """Return a cell of Norse whose initial states are 0, except the membrane."""

    def at(state: Any, v0: Tensor) -> Any:
        values = {
            n: at(s, v0) if isinstance(s, tuple) else v0 if n == "v" else torch.zeros_like(v0)
            for n, s in state._asdict().items()
        }
        return type(state)(**values)

    def run(settings: Settings, x: Tensor, v0: Tensor) -> tuple[Tensor, Tensor]:
        import norse.torch as norse

        values = {n: torch.tensor(v, dtype=DTYPE) for n, v in settings.items()}
        cell = getattr(norse, name)(parameters(norse, **values))
        state, rows = at(cell(x[0])[1], v0), []
        for x_t in x:
            spikes, state = cell(x_t, state)
            inner = next((s for s in state if isinstance(s, tuple)), state)
            rows.append((spikes, inner.v))
        spikes, v_seq = (torch.stack(column) for column in zip(*rows))
        return spikes, v_seq

    return RecordedNeuron(settings, run, lambda _: (0.0, 0.0, 0.0), x_max=6.0)


def norse_refractory(name: str) -> Callable[..., Any]:
    def make(norse: Any, *, rho_reset: Tensor, **parameters: Tensor) -> Any:
        if name == "LIFRefrac":
            return norse.LIFRefracParameters(norse.LIFParameters(**parameters), rho_reset)
        return norse.LIFAdExRefracParameters(norse.LIFAdExParameters(**parameters), rho_reset)

    return make


def snntorch_leaky(strong: bool) -> RecordedNeuron:
    def run(settings: Settings, x: Tensor, v0: Tensor) -> tuple[Tensor, Tensor]:
        import snntorch

        # Python numbers would be rounded to float32.
        exact = {name: torch.tensor(settings[name], dtype=DTYPE) for name in ("beta", "threshold")}
        return step_by_step(snntorch.Leaky(**{**settings, **exact}), x, v0)

    settings = product(
        beta=(0.9, 0.5), threshold=(V_THRESHOLD,), reset_mechanism=("subtract", "zero"), reset_delay=(True, False)
    )
    # Without the delay, Leaky 1.0 compares with a wrong membrane after a reset that leaves it above
    # threshold, see docs/semantics.md. Weak input never does.
    if strong:
        settings = [s for s in settings if s["reset_delay"] or s["reset_mechanism"] == "zero"]
    return RecordedNeuron(settings, run, lambda s: (s["beta"], 1.0, 0.0), x_max=2.25 if strong else 1.0)


def norse_lif(synapse: bool) -> RecordedNeuron:
    def run(settings: Settings, x: Tensor, v0: Tensor) -> tuple[Tensor, Tensor]:
        import norse.torch as norse
        from norse.torch.functional.lif import LIFFeedForwardState
        from norse.torch.functional.lif_box import LIFBoxFeedForwardState

        dt = settings["dt"]
        p = {k: torch.tensor(a, dtype=DTYPE) for k, a in settings.items() if k != "dt"}
        if synapse:
            cell = norse.LIFCell(p=norse.LIFParameters(**p), dt=dt)
            return step_by_step(cell, x, LIFFeedForwardState(v=v0, i=torch.zeros_like(v0)))
        cell = norse.LIFBoxCell(p=norse.LIFBoxParameters(**p), dt=dt)
        return step_by_step(cell, x, LIFBoxFeedForwardState(v=v0))

    def charge(settings: Settings) -> tuple[float, float, float]:
        gain = settings["dt"] * settings["tau_mem_inv"]
        return 1 - gain, gain, settings["v_leak"]

    common = {"v_th": V_THRESHOLD, "dt": 0.001}
    settings: list[Settings] = [
        {"tau_mem_inv": 500.0, "v_leak": 0.0, "v_reset": 0.0, **common},
        {"tau_mem_inv": 500.0, "v_leak": -0.25, "v_reset": -0.5, **common},
        {"tau_mem_inv": 800.0, "v_leak": 0.25, "v_reset": 0.0, **common},
    ]
    if synapse:
        settings = [{**s, "tau_syn_inv": rate} for s in settings for rate in (200.0, 500.0)]
    return RecordedNeuron(settings, run, charge)


def sinabs_lif() -> RecordedNeuron:
    def run(settings: Settings, x: Tensor, v0: Tensor) -> tuple[Tensor, Tensor]:
        import sinabs.activation
        import sinabs.layers

        layer = sinabs.layers.LIF(
            # A Python number would be rounded to float32.
            tau_mem=torch.tensor(settings["tau_mem"], dtype=DTYPE),
            norm_input=settings["norm_input"],
            spike_fn=getattr(sinabs.activation, settings["spike_fn"]),
            reset_fn=getattr(sinabs.activation, settings["reset_fn"])(),
            record_states=True,
        ).to(DTYPE)
        layer.v_mem = v0
        spikes = layer(x.transpose(0, 1)).transpose(0, 1)
        return spikes, layer.recordings["v_mem"].transpose(0, 1)

    def charge(settings: Settings) -> tuple[float, float, float]:
        decay = math.exp(-1 / settings["tau_mem"])
        return decay, 1 - decay if settings["norm_input"] else 1.0, 0.0

    settings = product(
        tau_mem=(2.0,),
        norm_input=(True, False),
        spike_fn=("SingleSpike",),
        reset_fn=("MembraneSubtract", "MembraneReset"),
    )
    return RecordedNeuron(settings, run, charge)


# All rates are set, because the defaults of Norse are float32.
CURRENT = {"tau_mem_inv": 100.0, "tau_syn_inv": 200.0, "v_leak": 0.1, "v_th": 0.9, "v_reset": -0.2}
ADAPTIVE = {**{**CURRENT, "delta_T": 0.4}, **{"adaptation_spike": 0.3, "adaptation_current": 5.0, "tau_ada_inv": 30.0}}
NEURONS = {
    "spikingjelly_lif": spikingjelly_lif("LIFNode", "tau"),
    "spikingjelly_plif": spikingjelly_lif("ParametricLIFNode", "init_tau"),
    "spikingjelly_if": spikingjelly_if(),
    "snntorch_leaky": snntorch_leaky(strong=False),
    "snntorch_leaky_strong_input": snntorch_leaky(strong=True),
    "norse_lif_box": norse_lif(synapse=False),
    "norse_lif": norse_lif(synapse=True),
    "sinabs_lif": sinabs_lif(),
    "spikingjelly_qif": spikingjelly_nonlinear("QIFNode", v_c=(0.8,), a0=(1.0, 0.4)),
    "spikingjelly_eif": spikingjelly_nonlinear("EIFNode", delta_T=(1.0, 0.3), theta_rh=(0.8,)),
    "spikingjelly_izhikevich": spikingjelly_nonlinear("IzhikevichNode", tau_w=(2.0, 4.0), a=(0.5,), b=(0.25,)),
    "spikingjelly_klif": spikingjelly_steps(
        "KLIFNode",
        product(
            **{"tau": (3.0,), "k": (1.25,), "scale_reset": (False, True)},
            **{"decay_input": (True, False), "v_reset": (-0.25, None)},
            **{"surrogate_function": ("Sigmoid",), "detach_reset": (False, True)},
        ),
    ),
    "spikingjelly_clif": spikingjelly_steps(
        "ComplementaryLIFNode", product(tau=(2.0, 3.0), surrogate_function=("ATan",))
    ),
    "spikingjelly_ilif": spikingjelly_steps(
        "ILIFNode",
        product(
            **{"tau": (2.0,), "v_threshold": (0.7,), "detach_reset": (False, True)},
            **{"max_spike_count": (2,), "grad_window": ((-0.5, 2.5),)},
        ),
    ),
    "spikingjelly_raf": spikingjelly_steps(
        "RAFNode",
        product(
            **{"b": (-0.1,), "omega": (0.7,), "v_reset": (0.0, -0.25, None)},
            **{"surrogate_function": ("Sigmoid",), "detach_reset": (False, True)},
        ),
    ),
    "spikingjelly_ternary": spikingjelly_steps(
        "TernaryLIFNode",
        product(
            **{"tau": (3.0,), "decay_input": (False,), "v_threshold": (0.45,)},
            **{"v_reset": (-0.25, None)},
            **{"surrogate_function": ("Sigmoid",), "detach_reset": (False, True)},
        ),
    ),
    "spikingjelly_gated": spikingjelly_gated(),
    "norse_lif_ex": norse_cell(
        "LIFExCell", lambda norse, **parameters: norse.LIFExParameters(**parameters), [{**CURRENT, "delta_T": 0.4}]
    ),
    "norse_lif_adex": norse_cell("LIFAdExCell", lambda norse, **values: norse.LIFAdExParameters(**values), [ADAPTIVE]),
    "norse_lif_refrac": norse_cell("LIFRefracCell", norse_refractory("LIFRefrac"), [{**CURRENT, "rho_reset": 2.0}]),
    "norse_lif_adex_refrac": norse_cell(
        "LIFAdExRefracCell", norse_refractory("LIFAdExRefrac"), [{**ADAPTIVE, "rho_reset": 2.0}]
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Records traces of other libraries' neurons.")
    parser.add_argument("--out", type=Path, default=Path("tests/ports/traces"))
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for seed, (name, neuron) in enumerate(NEURONS.items()):
        library = name.partition("_")[0]
        try:
            importlib.import_module(library)
        except ImportError as error:
            print(f"{name}: skipped, {error}")
            continue
        x, v0, weights = inputs(seed, neuron.x_max)
        cases = [record(neuron, settings, x, v0, weights) for settings in neuron.settings]
        trace = {
            "library": library,
            "version": version(library),
            "torch": version("torch"),
            "shape": [T, B, N],
            "x": x.tolist(),
            "v0": v0.tolist(),
            "weights": weights.tolist(),
            "cases": cases,
        }
        path = out / f"{name}.json"
        path.write_text(json.dumps(trace, separators=(",", ":")) + "\n")
        rates = [torch.tensor(case["spikes"]).double().mean().item() for case in cases]
        print(f"{path}: {len(cases)} cases, {min(rates):.2f} to {max(rates):.2f} spikes a step")


if __name__ == "__main__":
    main()
