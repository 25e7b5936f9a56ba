"""Run the network of Diehl and Cook in Brian2 and record reference values of ``ops.diehl_cook_conductance_``.

Brian2 is no dependency of snnfast; it needs its own environment (``pip install brian2 "numpy<2"``):

    python scripts/compare_brian2.py --out tests/model/traces

It writes two files, both from the equations of the paper and the same input spikes, with learning on:

``brian2_diehl_cook.json``
    The full record, with the scheme of the op: Brian2's ``exponential_euler`` with the mean conductance of each step.
``brian2_diehl_cook_fine.json``
    Only spike times, by ``rk4`` with a tenth of the step, to show that the scheme converges to the equations. (With the
    usual step of the op the two diverge, because competition amplifies any difference.)

Comments mark the differences between Brian2 and the op.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import brian2 as b
import numpy as np

INPUTS, NEURONS = 20, 5
DT = 0.5  # ms
IMAGE_STEPS, REST_STEPS, PRESENTATIONS = 300, 60, 3
LONGEST_DELAY = 20  # steps
# With strong synapses and a moving threshold, few inputs suffice for learning.
CONSTANTS = {
    "tau": 100.0,
    "v_rest": -65.0,
    "v_reset": -65.0,
    "v_threshold": -72.0,
    "refractory": 5.0,
    "tau_inh": 10.0,
    "v_rest_inh": -60.0,
    "v_reset_inh": -45.0,
    "v_threshold_inh": -40.0,
    "refractory_inh": 2.0,
    "tau_g_exc": 1.0,
    "tau_g_inh": 2.0,
    "e_exc": 0.0,
    "e_inh": -100.0,
    "w_exc_inh": 10.4,
    "w_inh_exc": 17.0,
    "theta_plus": 0.5,
    "tau_theta": 1e4,
}
RULE = {
    "lr_pre": 1e-3,
    "lr_post": 5e-2,
    "tau_pre": 20.0,
    "tau_post": 20.0,
    "tau_post2": 40.0,
    "w_min": 0.0,
    "w_max": 1.0,
}


def stimulus() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw spikes ``[P, T, I]``, initial weights ``[N, I]``, and delays ``[N, I]`` in steps."""
    random = np.random.default_rng(5)
    patterns = random.random((PRESENTATIONS, 1, INPUTS)) < 0.6
    spikes = random.random((PRESENTATIONS, IMAGE_STEPS, INPUTS)) < 0.08 * patterns
    weights = np.round(0.15 + 0.5 * random.random((NEURONS, INPUTS)), 6)
    delays = random.integers(0, LONGEST_DELAY + 1, (NEURONS, INPUTS))
    return spikes, weights, delays


def run(spikes: np.ndarray, weights: np.ndarray, delays: np.ndarray, method: str, finer: int) -> tuple[Any, Any]:
    """Run all presentations; return the monitors and the synapses of the inputs."""
    b.start_scope()
    b.defaultclock.dt = DT / finer * b.ms
    c = {name: value * b.ms for name, value in CONSTANTS.items() if name.startswith("tau")}
    c |= {name: value * b.mV for name, value in CONSTANTS.items() if name[:2] in ("v_", "e_", "th")}
    rule = {k: v * b.ms if k.startswith("tau") else v for k, v in RULE.items()}
    scheme = method == "exponential_euler"
    means = {
        f"mean_{kind}": -np.expm1(-DT / tau) * tau / DT if scheme else 1.0
        for kind, tau in (("exc", CONSTANTS["tau_g_exc"]), ("inh", CONSTANTS["tau_g_inh"]))
    }
    namespace = {**c, **rule, **means}
    # Brian2 includes the step of the spike in the refractory period, the op (like Brian 1) does not.
    refractory = {name: (CONSTANTS[name] + DT / finer) * b.ms for name in ("refractory", "refractory_inh")}

    exc = b.NeuronGroup(
        NEURONS,
        """
        dv/dt = ((v_rest - v) + G_exc * (e_exc - v) + G_inh * (e_inh - v)) / tau : volt (unless refractory)
        G_exc = mean_exc * g_exc : 1
        G_inh = mean_inh * g_inh : 1
        dg_exc/dt = -g_exc / tau_g_exc : 1
        dg_inh/dt = -g_inh / tau_g_inh : 1
        dtheta/dt = -theta / tau_theta : volt
        """,
        threshold="v >= v_threshold + theta",
        reset="v = v_reset; theta += theta_plus",
        refractory=refractory["refractory"],
        method=method,
        namespace=namespace,
    )
    inh = b.NeuronGroup(
        NEURONS,
        """
        dv/dt = ((v_rest_inh - v) + mean_exc * g_exc * (e_exc - v)) / tau_inh : volt (unless refractory)
        dg_exc/dt = -g_exc / tau_g_exc : 1
        """,
        threshold="v >= v_threshold_inh",
        reset="v = v_reset_inh",
        refractory=refractory["refractory_inh"],
        method=method,
        namespace=namespace,
    )
    exc.v, inh.v = CONSTANTS["v_rest"] * b.mV, CONSTANTS["v_rest_inh"] * b.mV
    exc.theta = 20 * b.mV

    period = IMAGE_STEPS + REST_STEPS
    presentation, step, source = spikes.nonzero()
    inputs = b.SpikeGeneratorGroup(INPUTS, source, (presentation * period + step) * DT * b.ms)
    to_exc = b.Synapses(
        inputs,
        exc,
        """
        w : 1
        seen : 1
        dpre1/dt = -pre1 / tau_pre : 1 (clock-driven)
        dpost1/dt = -post1 / tau_post : 1 (clock-driven)
        dpost2/dt = -post2 / tau_post2 : 1 (clock-driven)
        """,
        # The order of snnfast.plasticity within a step: the weight drives before it learns, and two spikes of the same
        # step are a pair in both directions.
        on_pre={"drive": "g_exc_post += w", "arrive": "pre1 = 1; w = clip(w - lr_pre * post1, w_min, w_max)"},
        on_post={
            "mark": "seen = post2; post1 = 1; post2 = 1",
            "grow": "w = clip(w + lr_post * pre1 * seen, w_min, w_max)",
        },
        method="exact",
        namespace=namespace,
    )
    to_exc.connect()
    for order, pathway in enumerate(("drive", "mark", "arrive", "grow")):
        getattr(to_exc, pathway).order = order
    to_exc.w = weights[to_exc.j, to_exc.i]
    for pathway in (to_exc.drive, to_exc.arrive):
        pathway.delay = delays[to_exc.j, to_exc.i] * DT * b.ms
    exc_inh = b.Synapses(exc, inh, on_pre="g_exc_post += w_exc_inh", namespace={"w_exc_inh": CONSTANTS["w_exc_inh"]})
    exc_inh.connect(j="i")
    inh_exc = b.Synapses(inh, exc, on_pre="g_inh_post += w_inh_exc", namespace={"w_inh_exc": CONSTANTS["w_inh_exc"]})
    inh_exc.connect(condition="i != j")

    # `when="end"`: values after the step, as in the state of the op.
    monitors = {
        "exc": b.StateMonitor(exc, ["v", "g_exc", "g_inh", "theta"], record=True, when="end"),
        "inh": b.StateMonitor(inh, ["v"], record=True, when="end"),
        "spikes": b.SpikeMonitor(exc),
        "spikes_inh": b.SpikeMonitor(inh),
    }
    network = b.Network(b.collect(), *monitors.values())
    network.run(PRESENTATIONS * period * DT * b.ms)
    return monitors, to_exc


def times(monitor: Any, finer: int) -> list[list[int]]:
    """Return ``[step, neuron]`` of every spike."""
    steps = np.round(np.asarray(monitor.t / b.ms) / (DT / finer)).astype(int)
    return sorted([int(t), int(i)] for t, i in zip(steps, monitor.i, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description="Records the network of Diehl and Cook in Brian2.")
    parser.add_argument("--out", type=Path, default=Path("tests/model/traces"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    b.prefs.codegen.target = "numpy"
    spikes, weights, delays = stimulus()
    monitors, synapses = run(spikes, weights, delays, "exponential_euler", 1)
    matrix = np.zeros((NEURONS, INPUTS))
    matrix[synapses.j, synapses.i] = synapses.w
    every = 10  # steps between two recorded samples; spikes are recorded at every step

    def samples(values: Any) -> list[list[float]]:
        return np.asarray(values)[:, ::every].T.round(9).tolist()

    common = {
        "library": "brian2",
        "version": b.__version__,
        "dt": DT,
        "rest": REST_STEPS * DT,
        "constants": CONSTANTS,
        "rule": RULE,
    }
    mv = b.mV
    record = {
        **common,
        "method": "exponential_euler",
        "image_steps": IMAGE_STEPS,
        "inputs": [[int(v) for v in row] for row in np.argwhere(spikes)],
        "weights": weights.tolist(),
        "delays": delays.tolist(),
        "theta": 20.0,
        "spikes": times(monitors["spikes"], 1),
        "spikes_inh": times(monitors["spikes_inh"], 1),
        "every": every,
        "v": samples(monitors["exc"].v / mv),
        "g_exc": samples(monitors["exc"].g_exc),
        "g_inh": samples(monitors["exc"].g_inh),
        "v_inh": samples(monitors["inh"].v / mv),
        "theta_trace": samples(monitors["exc"].theta / mv),
        "final_theta": np.asarray(monitors["exc"].theta[:, -1] / mv).tolist(),
        "final_weights": matrix.tolist(),
    }
    (out / "brian2_diehl_cook.json").write_text(json.dumps(record, separators=(",", ":")) + "\n")

    finer = 10
    monitors, _ = run(spikes, weights, delays, "rk4", finer)
    fine = {
        "library": "brian2",
        "version": b.__version__,
        "method": "rk4",
        "dt": DT / finer,
        "spikes": times(monitors["spikes"], finer),
    }
    (out / "brian2_diehl_cook_fine.json").write_text(json.dumps(fine, separators=(",", ":")) + "\n")
    counts = [len(spikes) for spikes in (record["spikes"], record["spikes_inh"], fine["spikes"])]
    print("{} spikes; {} inhibitory; {} at the finer step".format(*counts))


if __name__ == "__main__":
    main()
