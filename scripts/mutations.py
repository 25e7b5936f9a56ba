"""Plants known mistakes in a copy of the sources, one at a time, and checks that the tests notice each.

    python scripts/mutations.py            all of them (some 15 minutes: most need the kernels compiled)
    python scripts/mutations.py --python   only those in Python (2 minutes)
    python scripts/mutations.py decay      those whose name contains "decay"

A mistake that survives means that a test is missing. Nothing in this checkout is changed.
"""

from __future__ import annotations

import argparse
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = (
    "tests/ops/test_lif.py",
    "tests/ops/test_cuba.py",
    "tests/ops/test_alif.py",
    "-k",
    "by_hand or outputs_equal_the_reference or test_gradients_equal_the_reference or distance_of",
)


@dataclass(frozen=True)
class Mutation:
    """One mistake: ``old`` becomes ``new`` in ``path``; ``tests``, arguments of pytest, must fail."""

    name: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...] = TESTS


LIF, CUBA, ALIF = "csrc/core/lif.h", "csrc/core/cuba.h", "csrc/core/alif.h"
STEP, CPU, CUDA = "csrc/core/neuron.h", "csrc/cpu/neuron_loop.h", "csrc/cuda/neuron_kernel.cuh"
NEURONS = TESTS[:3]
REFERENCE, REFERENCE_LOOP = "snnfast/reference/lif.py", "snnfast/reference/neuron.py"
SCAN, CALLS = "snnfast/ops/neuron.py", "snnfast/calls/call.py"
ALIF_TESTS = ("tests/ops/test_alif.py", *TESTS[3:])
VALUES = (*NEURONS, "-k", "16_bit or special_values or nan or infinit")
LAYOUTS = (*NEURONS, "-k", "layout or strides or expanded or window")
ERRORS = (*NEURONS, "-k", "mistake or device")
WAYS = (
    *NEURONS,
    "-k",
    "second_derivative or vmap or weightings or raw_call or traced or exported_program_are",
)
REFERENCE_TESTS = (*NEURONS, "-k", "by_hand or follows_the_equations or finite_differences")
CALL_TESTS = ("tests/ops/test_calls.py",)
DC, DCC = "csrc/cpu/diehl_cook.cpp", "csrc/cpu/diehl_cook_conductance.cpp"
DC_CUDA, DCC_CUDA = "csrc/cuda/diehl_cook.cu", "csrc/cuda/diehl_cook_conductance.cu"
DCC_CORE = "csrc/core/diehl_cook_conductance.h"
DC_TESTS = ("tests/ops/test_diehl_cook_winners.py", "tests/ops/test_diehl_cook.py")
DCC_TESTS = ("tests/ops/test_diehl_cook_conductance.py",)
DC_CALLS = ("tests/ops/test_diehl_cook_calls.py",)
POISSON, POISSON_TESTS = "csrc/core/poisson.h", ("tests/ops/test_poisson.py",)
SPIKEPROP_BACKWARD, SPIKEPROP_TESTS = (
    "csrc/cpu/spikeprop_backward.h",
    ("tests/ops/test_spikeprop.py",),
)
SPIKE_COUNT, SPIKE_COUNT_TESTS = "csrc/core/spike_count.h", ("tests/ops/test_spike_count.py",)
MUTATIONS = (
    # the maths of one step
    Mutation("decay dropped", LIF, "c[kLeak] * (state[kV] - c[kRest])", "(state[kV] - c[kRest])"),
    Mutation("rest dropped", LIF, "state[kV] = c[kRest] + ", "state[kV] = "),
    Mutation("gain dropped", LIF, "c[kGain] * x;", "x;"),
    Mutation("gain of a decay tensor", STEP, "C(1) - decay", "decay"),
    Mutation("gain of a decay number", STEP, "static_cast<C>(1. - p.value)", "decay"),
    Mutation("decay gradient without input", LIF, "? grad_h * x : C(0)", "? C(0) : C(0)"),
    Mutation(
        "decay gradient without rest",
        LIF,
        "grad_h * (before[kV] - c[kRest])",
        "grad_h * before[kV]",
    ),
    Mutation("rest gradient not decayed", LIF, "+= grad_h - grad_h * c[kLeak]", "+= grad_h"),
    Mutation("rest before the first step", LIF, "grad_params[kVRest] += grad;", ""),
    Mutation("gradient not decayed", LIF, "grad[kV] = grad_h * c[kLeak]", "grad[kV] = grad_h"),
    Mutation("soft reset to threshold", LIF, ": h - c[kThreshold]) : h", ": c[kThreshold]) : h"),
    Mutation(
        "reset terms swapped",
        LIF,
        "c[kResetTo] - charged[kV] : -c[kThreshold]",
        "-c[kThreshold] : c[kResetTo] - charged[kV]",
    ),
    Mutation(
        "detach_reset ignored", LIF, "attached != C(0) ? through_reset : C(0)", "through_reset"
    ),
    Mutation("reset keeps the gradient", LIF, "grad[kV] = fired ? C(0) : grad_v;", ""),
    Mutation(
        "reset gradient of every step",
        LIF,
        "[kVReset] += fired ? grad_v : C(0)",
        "[kVReset] += grad_v",
    ),
    Mutation(
        "threshold gradient of the reset",
        LIF,
        "grad_params[kVThreshold] -= fired ? grad_v : C(0);",
        "",
    ),
    Mutation(
        "threshold gradient's sign",
        LIF,
        "[kVThreshold] += grad_threshold",
        "[kVThreshold] -= grad_threshold",
    ),
    Mutation(
        "current gradient dropped",
        CUBA,
        "grad[kI] + Lif::charge_backward",
        "Lif::charge_backward",
    ),
    Mutation(
        "current decays by the membrane",
        CUBA,
        "grad_current * c[kLeakSyn]",
        "grad_current * c[kLeak]",
    ),
    Mutation("current without input", CUBA, "* state[kI] + x;", "* state[kI];"),
    # adaptation
    Mutation(
        "alif: threshold does not adapt",
        ALIF,
        "c[kThreshold] + c[kScale] * charged[kA]",
        "c[kThreshold]",
    ),
    Mutation("alif: adaptation without leak", ALIF, "c[kLeakAdapt] * state[kA] +", "state[kA] +"),
    Mutation("alif: silence adapts too", ALIF, "(fired ? C(1) : C(0))", "C(1)"),
    Mutation("alif: no gradient from spike to spike", ALIF, "return grad_a + Lif", "return Lif"),
    Mutation(
        "alif: adaptation's gradient of the threshold dropped",
        ALIF,
        "grad[kA] += grad_threshold * c[kScale];",
        "",
    ),
    Mutation("alif: gradient of the leak later", ALIF, "+= grad_a * charged[kA]", "+= grad_a"),
    Mutation("alif: gradient of beta's sign", ALIF, "[kBeta] += grad", "[kBeta] -= grad"),
    Mutation(
        "alif: gradient does not leak",
        ALIF,
        "grad[kA] = grad_a * c[kLeakAdapt]",
        "grad[kA] = grad_a",
    ),
    Mutation(
        "alif: detach_reset detaches the adaptation",
        ALIF,
        "return grad_a + ",
        "return (attached != C(0) ? grad_a : C(0)) + ",
    ),
    # the step
    Mutation(
        "step: > for >=", STEP, "state[0] >= Neuron::threshold", "state[0] > Neuron::threshold"
    ),
    Mutation(
        "step: > for >= backward",
        STEP,
        "charged[0] >= Neuron::threshold",
        "charged[0] > Neuron::threshold",
    ),
    Mutation(
        "step: margin without threshold",
        STEP,
        "charged[0] - Neuron::threshold(charged, c)",
        "charged[0]",
    ),
    Mutation("step: surrogate's slope dropped", STEP, "grad_params)) * slope;", "grad_params));"),
    Mutation("step: gradient of the spike dropped", STEP, "grad[0] += grad_margin;", ""),
    Mutation(
        "step: threshold's gradient with the spike's sign",
        STEP,
        "c, -grad_margin",
        "c, grad_margin",
    ),
    Mutation(
        "step: tape of the states after the spike",
        STEP,
        "charged[k] = state[k];",
        "charged[k] = C(0);",
    ),
    Mutation(
        "wrong slope of atan",
        "csrc/core/surrogate.h",
        "C(0.5) * alpha / (C(1) + q * q)",
        "alpha / (C(1) + q * q)",
    ),
    # the scan on the CPU
    Mutation("cpu: gradient of v_seq dropped", CPU, "g[0] += grad_v[i];", ""),
    Mutation("cpu: tape of x empty", CPU, "out[Rows::kX][i] = x[i];", "out[Rows::kX][i] = C(0);"),
    Mutation(
        "cpu: checkpoint one step late",
        CPU,
        "t > 0 && t % a.checkpoint_every == 0",
        "t > 0 && t % a.checkpoint_every == 1",
    ),
    Mutation(
        "cpu: last segment short",
        CPU,
        "a.T - t0 < K ? a.T - t0 : K",
        "a.T - t0 < K ? a.T - t0 : K - 1",
    ),
    Mutation(
        "cpu: stride of time",
        "csrc/cpu/rows.h",
        "+ t * rows.time_stride + n0;",
        "+ t * rows.time_stride;",
    ),
    # the scan on CUDA
    Mutation("cuda: gradient of v_seq dropped", CUDA, "g[0] += grad_v[i];", ""),
    Mutation("cuda: states of x alone", CUDA, "Neuron::charge(x[i], lanes.of(i), s);", ""),
    Mutation(
        "cuda: last step but one unread",
        CUDA,
        "if (j0 + u < steps) load_row",
        "if (j0 + u + 2 < steps) load_row",
    ),
    Mutation(
        "cuda: checkpoints off by one",
        CUDA,
        "until_checkpoint = a.checkpoint_every - 1;",
        "until_checkpoint = a.checkpoint_every;",
    ),
    Mutation("cuda: alignment not checked", CUDA, "rows_aligned<T, V>(a.x) &&", "", LAYOUTS),
    # poisson
    Mutation(
        "poisson: <= for <", POISSON, "return uniform < p;", "return uniform <= p;", POISSON_TESTS
    ),
    Mutation("poisson: 23 bits", POISSON, "word >> 8)", "word >> 9)", POISSON_TESTS),
    Mutation(
        "poisson: upper half of the counter dropped",
        POISSON,
        "static_cast<uint32_t>(c >> 32), 0, 0}",
        "0, 0, 0}",
        POISSON_TESTS,
    ),
    Mutation(
        "poisson: upper half of the seed dropped",
        POISSON,
        "static_cast<uint32_t>(key >> 32)",
        "0u",
        POISSON_TESTS,
    ),
    Mutation(
        "poisson: cpu: second row of a block reads the first",
        "csrc/cpu/poisson.cpp",
        "compare(split, count, a.p);",
        "compare(split, count, a.p + n);",
        POISSON_TESTS,
    ),
    Mutation(
        "poisson: 1 in float16 is that of bfloat16",
        "csrc/ops/poisson.cpp",
        "return 0x3c00;",
        "return 0x3f80;",
        POISSON_TESTS,
    ),
    Mutation(
        "poisson: number of elements unchecked",
        "csrc/ops/poisson.cpp",
        '  elements("poisson", shape);\n',
        "",
        POISSON_TESTS,
    ),
    # spikeprop
    Mutation(
        "spikeprop: second piece of the batch dropped",
        SPIKEPROP_BACKWARD,
        "piece = 1; piece < pieces;",
        "piece = 2; piece < pieces;",
        SPIKEPROP_TESTS,
    ),
    Mutation(
        "spikeprop: pieces overlap",
        SPIKEPROP_BACKWARD,
        "const int64_t first = piece * a.events.B / m.pieces,",
        "const int64_t first = piece * a.events.B / m.pieces - (piece > 0),",
        SPIKEPROP_TESTS,
    ),
    Mutation(
        "spikeprop: tape unchecked",
        SPIKEPROP_BACKWARD,
        "if (!fits(a, b)) return false;",
        "",
        SPIKEPROP_TESTS,
    ),
    Mutation(
        "spikeprop: slope not bounded",
        SPIKEPROP_BACKWARD,
        "(slope[l] > guard ? slope[l] : guard)",
        "slope[l]",
        SPIKEPROP_TESTS,
    ),
    Mutation(
        "spikeprop: events at t_max count",
        "csrc/cpu/spikeprop.cpp",
        "!(times[n - 1] < static_cast<C>(events.t_max))",
        "!(times[n - 1] <= static_cast<C>(events.t_max))",
        SPIKEPROP_TESTS,
    ),
    Mutation(
        "spikeprop: touch between two events missed",
        "csrc/cpu/spikeprop.cpp",
        "top, c.inverse_tau) >= c.threshold) fired |=",
        "top, c.inverse_tau) >= 2 * c.threshold) fired |=",
        SPIKEPROP_TESTS,
    ),
    Mutation(
        "spikeprop: cuda: a kink gives nothing",
        "csrc/cuda/spikeprop_backward.cuh",
        "m.kink[i] = before;",
        "m.kink[i] = -1;",
        SPIKEPROP_TESTS,
    ),
    Mutation(
        "spikeprop: wrong tensor wanted",
        "snnfast/ops/spikeprop.py",
        "wanted = [needed[k] for k in _TENSORS]",
        "wanted = [needed[k] for k in _TENSORS[::-1]]",
        SPIKEPROP_TESTS,
    ),
    # spike_count
    Mutation(
        "spike_count: > for >=",
        SPIKE_COUNT,
        "fired = h >= threshold",
        "fired = h > threshold",
        SPIKE_COUNT_TESTS,
    ),
    Mutation(
        "spike_count: soft reset to 0",
        SPIKE_COUNT,
        "v_reset : h - threshold)",
        "v_reset : C(0))",
        SPIKE_COUNT_TESTS,
    ),
    Mutation(
        "spike_count: starts at 0 under a hard reset",
        SPIKE_COUNT,
        "out[kVReset] = a.v_reset.value_or(0.);",
        "out[kVReset] = 0.;",
        SPIKE_COUNT_TESTS,
    ),
    Mutation(
        "spike_count: counts its silence",
        SPIKE_COUNT,
        "fired ? C(1) : C(0)",
        "fired ? C(0) : C(1)",
        SPIKE_COUNT_TESTS,
    ),
    Mutation(
        "spike_count: results swapped",
        "csrc/ops/spike_count.cpp",
        "return {count_out, v_out};",
        "return {v_out, count_out};",
        SPIKE_COUNT_TESTS,
    ),
    Mutation(
        "spike_count: reference: count forgets what was",
        "snnfast/reference/spike_count.py",
        "else call.count.clone()",
        "else torch.zeros_like(v)",
        SPIKE_COUNT_TESTS,
    ),
    # arguments, memory and threads
    Mutation(
        "hostile: numbers too large for a float",
        "snnfast/check.py",
        "except OverflowError:",
        "except KeyError:",
        ("tests/robustness/test_hostile_arguments.py",),
    ),
    Mutation(
        "threads: memory in use is counted under the lock only",
        "csrc/ops/output_memory.cpp",
        "  c.in_use -= bytes;\n  if (const Try lock(c.mutex, std::try_to_lock); lock) {\n",
        "  if (const Try lock(c.mutex, std::try_to_lock); lock) {\n    c.in_use -= bytes;\n",
        ("tests/robustness/test_output_memory.py",),
    ),
    Mutation(
        "threads: use ends in what was forced before",
        "snnfast/backend.py",
        "_forces.set(tuple(force for force in _forces.get() if force is not mine))",
        "_forces.set(_forces.get()[:-1])",
        ("tests/robustness/test_backend_choice.py",),
    ),
    # 16 bits
    Mutation(
        "rounding by cutting off",
        "csrc/core/half.h",
        "(u + 0x7fffu + ((u >> 16) & 1u)) >> 16",
        "u >> 16",
        VALUES,
    ),
    Mutation(
        "half: infinity read as a number",
        "csrc/core/half.h",
        "magnitude >= 0x0f800000u ? 0x7f800000u : 0u",
        "0u",
        VALUES,
    ),
    # networks of Diehl and Cook
    Mutation(
        "diehl_cook: bounds not raised by learning",
        DC,
        "bounds[i * w_.padded_groups] = o_.kept[i];",
        "(void)bounds;",
        DC_TESTS,
    ),
    Mutation(
        "diehl_cook: ties go to who comes first",
        DC,
        " || (margin == best && n < o_.winners[0])",
        "",
        DC_TESTS,
    ),
    Mutation(
        "diehl_cook: own spike inhibits",
        DC,
        "(C(arriving) - C(o_.own[k * delay + t % delay]))",
        "C(arriving)",
        DC_TESTS,
    ),
    Mutation(
        "diehl_cook: group not bounded anew",
        DC,
        "if (first) groups_.bound_margin(id / kGroup);",
        "",
        DC_TESTS,
    ),
    Mutation(
        "diehl_cook: bounds without inhibition's end",
        "csrc/cpu/diehl_cook_groups.h",
        "membrane = (membrane - after) * decay",
        "membrane = membrane * decay",
        DC_TESTS,
    ),
    Mutation(
        "diehl_cook cuda: own spike inhibits",
        DC_CUDA,
        "(C(shared_.arriving) - C(m_.history[slot_ * a_.N + n]))",
        "C(shared_.arriving)",
        DC_TESTS,
    ),
    Mutation(
        "diehl_cook cuda: ties go to the last",
        DC_CUDA,
        "margin == than.margin && neuron < than.neuron",
        "margin == than.margin && neuron > than.neuron",
        DC_TESTS,
    ),
    Mutation(
        "diehl_cook: not plastic by a spike",
        "snnfast/reference/diehl_cook.py",
        "plastic |= spikes[p, t]",
        "pass",
        DC_TESTS,
    ),
    Mutation(
        "diehl_cook: versions not raised",
        "snnfast/ops/diehl_cook.py",
        "raise_versions(*call.changed)",
        "pass",
        DC_CALLS,
    ),
    Mutation(
        "diehl_cook_conductance: delays not bounded",
        DCC_CORE,
        "return d < longest_delay ? d : longest_delay;",
        "return d;",
        DC_CALLS,
    ),
    Mutation(
        "diehl_cook_conductance: longest_delay not compared",
        "snnfast/calls/diehl_cook_conductance.py",
        "longest > given",
        "False",
        DC_CALLS,
    ),
    Mutation(
        "diehl_cook_conductance: conductance of the step's beginning",
        DCC,
        "exc = g_exc[n] * mean_exc, inh",
        "exc = g_exc[n], inh",
        DCC_TESTS,
    ),
    Mutation(
        "diehl_cook_conductance: partner inhibits its own neuron",
        DCC,
        "(C(spikes_inh) - C(o_.spiked_inh[n]))",
        "C(spikes_inh)",
        DCC_TESTS,
    ),
    Mutation(
        "diehl_cook_conductance: second trace after the spike",
        DCC,
        "o_.trace_pre2[row(sent - 1) + i]",
        "o_.trace_pre2[row(sent) + i]",
        DCC_TESTS,
    ),
    Mutation(
        "diehl_cook_conductance: spikes learn twice",
        DCC,
        "w[n] = Spikes && spiked[n] ? w[n] : less;",
        "w[n] = less;",
        DCC_TESTS,
    ),
    Mutation(
        "diehl_cook_conductance cuda: partner inhibits its own neuron",
        DCC_CUDA,
        "(C(shared_.inhibiting) - C(m_.spiked_inh[n]))",
        "C(shared_.inhibiting)",
        DCC_TESTS,
    ),
    Mutation(
        "diehl_cook_conductance cuda: arrivals a step late",
        DCC_CUDA,
        "delays_[i * a_.N + n] != delay",
        "delays_[i * a_.N + n] + 1 != delay",
        DCC_TESTS,
    ),
    # Python
    Mutation("dimensions not put back", SCAN, "back = inverse(order)", "back = order", LAYOUTS),
    Mutation(
        "second derivative zero",
        SCAN,
        '        raise RuntimeError(\n            f"{stem}: a second',
        '        return None\n        raise RuntimeError(\n            f"{stem}: a second',
        WAYS,
    ),
    Mutation(
        "state gradients swapped",
        SCAN,
        'enumerate(("x", *self.neurons))',
        'enumerate(("x", *self.neurons[1::-1], *self.neurons[2:]))',
    ),
    Mutation(
        "parameters' gradients of the next one",
        SCAN,
        'enumerate(("x", *self.neurons))',
        'enumerate(("x", self.neurons[0], *self.neurons[:0:-1]))',
    ),
    Mutation(
        "raw call without checkpoints",
        SCAN,
        "    if not every:  # a raw call that kept no checkpoints\n",
        "    if not every and False:\n",
        WAYS,
    ),
    Mutation("vmap: batch behind time", SCAN, '{at["x"]: 1}, size)', '{at["x"]: 0}, size)', WAYS),
    Mutation(
        "vmap: gradients of another dimension",
        SCAN,
        'batch_at = {at["x"]: 1, first - 3: 2, first: 1,',
        'batch_at = {at["x"]: 1, first - 3: 1, first: 1,',
        WAYS,
    ),
    Mutation("autograd hidden", SCAN, "        if traced():\n", "        if False:\n", WAYS),
    Mutation(
        "a call's number and tensor swapped",
        CALLS,
        "number if tensor is None else tensor",
        "tensor if tensor is None else number",
        CALL_TESTS,
    ),
    Mutation(
        "a call without its last field",
        CALLS,
        "flat = list(call)\n    for place",
        "flat = list(call)[:-1]\n    for place",
        CALL_TESTS,
    ),
    Mutation(
        "a call's field of another name",
        "snnfast/calls/alif.py",
        "    decay_adapt: Parameter",
        "    decay_a: Parameter",
        CALL_TESTS,
    ),
    Mutation(
        "fields in another order",
        "snnfast/calls/lif.py",
        "    hard_reset: bool\n    fires: bool\n",
        "    fires: bool\n    hard_reset: bool\n",
        CALL_TESTS,
    ),
    Mutation(
        "tau without bound",
        "snnfast/check.py",
        "not time_constant >= 1",
        "not time_constant >= 0",
        ERRORS,
    ),
    Mutation(
        "device unchecked",
        "snnfast/check.py",
        "value.device != x.device",
        "False",
        ERRORS,
    ),
    Mutation(
        "reference: > for >=",
        "snnfast/surrogate.py",
        "(u >= 0).to(u)",
        "(u > 0).to(u)",
        REFERENCE_TESTS,
    ),
    Mutation(
        "reference: decay dropped",
        REFERENCE,
        "call.decay * (v - call.v_rest)",
        "(v - call.v_rest)",
        REFERENCE_TESTS,
    ),
    Mutation(
        "reference: gain of a decay number",
        REFERENCE_LOOP,
        "return 1.0 - call.decay if",
        "return call.decay if",
        REFERENCE_TESTS,
    ),
    Mutation(
        "reference: no spike with soft reset",
        REFERENCE_LOOP,
        "return s, h - s_reset * call.v_threshold",
        "return s * 0, h - s_reset * call.v_threshold",
        REFERENCE_TESTS,
    ),
    Mutation(
        "reference: reset gradient's sign",
        REFERENCE_LOOP,
        "grad * (v_reset - h)",
        "grad * (h - v_reset)",
        REFERENCE_TESTS,
    ),
    Mutation(
        "reference: gradient of v_reset at every step",
        REFERENCE_LOOP,
        "(grad * s).sum_to_size(v_reset.shape)",
        "grad.sum_to_size(v_reset.shape)",
        REFERENCE_TESTS,
    ),
    Mutation(
        "reference: detach_reset ignored",
        REFERENCE_LOOP,
        "s.detach() if call.detach_reset else s",
        "s",
        REFERENCE_TESTS,
    ),
    Mutation(
        "reference: current later",
        "snnfast/reference/cuba.py",
        "return *fire(call, h, call.v_threshold), i",
        "return *fire(call, h, call.v_threshold), i - x",
        REFERENCE_TESTS,
    ),
    Mutation(
        "reference: adaptation of the step itself",
        "snnfast/reference/alif.py",
        "call.v_threshold + call.beta * a)",
        "call.v_threshold + call.beta * call.decay_adapt * a)",
        REFERENCE_TESTS,
    ),
    Mutation(
        "reference: adaptation without gradient",
        "snnfast/reference/alif.py",
        "call.decay_adapt * a + s",
        "call.decay_adapt * a + s.detach()",
        REFERENCE_TESTS,
    ),
    Mutation(
        "fallback in silence",
        "snnfast/backend.py",
        "    if message not in _warned:",
        "    if False:",
        ("tests/robustness/test_backend_choice.py",),
    ),
)


def of_ops() -> tuple[Mutation, ...]:
    """Those of scripts/mistakes, a file an op."""
    found: list[Mutation] = []
    for path in sorted((ROOT / "scripts" / "mistakes").glob("*.py")):
        listed = runpy.run_path(str(path))
        for name, *change in listed["MISTAKES"]:
            found.append(Mutation(f"{path.stem}: {name}", *change, tests=listed["TESTS"]))
    return tuple(found)


def run(command: list[str], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True
    )


def lighten(copy: Path) -> None:
    """Only the base instruction set and little optimisation: kernels compile in a fifth of the time."""
    for name, old, new in (
        ("CMakeLists.txt", "list(APPEND isas avx2 avx512)", ""),
        ("CMakeLists.txt", "kernel_flags -O3", "kernel_flags -O1"),
        ("csrc/cpu/dispatch.h", "#if defined(__x86_64__) || defined(_M_X64)", "#if 0"),
    ):
        text = (copy / name).read_text()
        if old not in text:
            sys.exit(f"{name} no longer contains {old!r}")
        (copy / name).write_text(text.replace(old, new))


def build(copy: Path) -> str:
    """Builds the copy's kernels in place, with the emulated CUDA; returns the compiler's words if it fails."""
    tree = copy / "build"
    commands = [["cmake", "--build", str(tree)]]
    if not (tree / "build.ninja").exists():
        configure = f"-DPython_EXECUTABLE={sys.executable} -DSNNFAST_CUDA=0 -DSNNFAST_EMULATION=ON"
        commands.insert(
            0, ["cmake", "-S", str(copy), "-B", str(tree), "-G", "Ninja", *configure.split()]
        )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command in commands:
        result = run(command, copy, PATH=path)
        if result.returncode:
            return result.stdout[-2000:] + result.stderr[-2000:]
    for library in tree.glob("*.so"):
        shutil.copy2(library, copy / "snnfast" / library.name)
    return ""


def noticed(copy: Path, tests: tuple[str, ...]) -> tuple[bool, str]:
    """Whether a test fails in the copy, and the last line of pytest."""
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *tests]
    result = run(
        command, copy, PYTHONPATH=str(copy), PYTHONDONTWRITEBYTECODE="1", SNNFAST_CPU_ISA="base"
    )
    lines = result.stdout.strip().splitlines() or result.stderr.strip().splitlines() or [""]
    if result.returncode not in (
        0,
        1,
    ):  # 1: tests failed; anything else is not an answer, or a crash
        return result.returncode < 0, f"exit {result.returncode}: {lines[-1]}"
    failed = [line for line in lines if line.startswith("FAILED")]
    return result.returncode == 1, (failed or lines)[-1]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("words", nargs="*", help="only mutations whose name contains one of these")
    parser.add_argument("--python", action="store_true", help="only mutations of Python sources")
    parser.add_argument("--copy", type=Path, help="keep the copy here, built, for the next time")
    arguments = parser.parse_args()
    chosen = [
        m
        for m in MUTATIONS + of_ops()
        if (not arguments.python or m.path.endswith(".py"))
        and (not arguments.words or any(w in m.name for w in arguments.words))
    ]
    copy = arguments.copy or Path(tempfile.mkdtemp(prefix="snnfast-mutations-"))
    ignore = shutil.ignore_patterns("build", ".git", "__pycache__", "*.egg-info", "runs")
    # Fresh times of change, or what an earlier run left built would count as newer than its source.
    shutil.copytree(ROOT, copy, ignore=ignore, dirs_exist_ok=True, copy_function=shutil.copy)
    lighten(copy)
    if any(not m.path.endswith(".py") for m in chosen) and (problem := build(copy)):
        sys.exit(f"the unchanged sources do not build:\n{problem}")
    where = run(
        [sys.executable, "-c", "import snnfast; print(snnfast.__file__)"],
        copy,
        PYTHONPATH=str(copy),
    )
    if not where.stdout.startswith(str(copy)):
        sys.exit(f"the tests would not run on the copy but on {where.stdout or where.stderr}")
    for tests in sorted({m.tests for m in chosen}):
        failed, line = noticed(copy, tests)
        if failed:
            sys.exit(f"tests fail without a mutation: {line}")
    survived = []
    for m in chosen:
        start = time.monotonic()
        path = copy / m.path
        original = path.read_text()
        if m.old not in original:
            sys.exit(f"{m.name}: {m.path} no longer contains {m.old!r}")
        path.write_text(original.replace(m.old, m.new))
        problem = "" if m.path.endswith(".py") else build(copy)
        caught, line = (
            noticed(copy, m.tests) if not problem else (False, f"does not compile: {problem}")
        )
        path.write_text(original)
        survived += [] if caught else [m.name]
        verdict = "caught  " if caught else "SURVIVED"
        print(f"{verdict} {m.name}: {line} [{time.monotonic() - start:.0f} s]", flush=True)
    print(f"{len(chosen) - len(survived)} of {len(chosen)} caught")
    if not arguments.copy:
        shutil.rmtree(copy)
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
