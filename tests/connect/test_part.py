"""Networks over several processes: the spikes of one process, bit for bit, memory, and processes that end."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from backends import PRESENT, force
from raw_calls import Recorder
from samples import assert_equal

from snnfast import connect, ops, reference
from snnfast.connect import Part, PoissonNoise

NEURONS, CALLS = 100, (31, 1, 28)  # steps of the calls of a run
HOW = {"tau": 10.0, "decay_input": False, "refractory": 1}

needs_gloo = pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="PyTorch without Gloo")


def network(targets=None):
    """Return synapses with delays of 2 to 8 steps, weights of all synapses, and noise."""
    how = {"probability": 0.2, "delay": torch.arange(NEURONS) % 7 + 2, "seed": 1}
    c = connect.fixed_probability(NEURONS, **how, targets=targets)
    synapses = len(c) if c.first_in_all is None else int(c.first_in_all[-1])
    weight = 0.2 * torch.rand(synapses, generator=torch.Generator().manual_seed(2))
    return c, c.arrange(weight), PoissonNoise(torch.linspace(0, 0.4, NEURONS), 0.3, seed=3)


def alone(batch, run=ops.sparse_recurrent, **more):
    c, weight, noise = network()
    return run(None, weight, c, num_steps=sum(CALLS), batch=batch, noise=noise, **HOW, **more)


def in_parts(part, batch, run=ops.sparse_recurrent):
    """Return the spikes of the whole network from several calls, as events, and the last states of this process."""
    c, weight, noise = network(part.neurons)
    found, states, t = [], {}, 0
    for n in CALLS:
        how = {"num_steps": n, "batch": batch, "noise": noise.after(t), "record": "events"}
        events, *after = run(None, weight, c, part=part, **how, **HOW, **states)
        states, t = dict(zip(("v", "r"), after, strict=True)), t + n
        found.append(part.gather(events))
    return ops.SpikeEvents.cat(found), after


# Runs as each of several processes.
PROGRAM = """
import pickle, sys
import torch
from torch import distributed
import test_part

rank, size, folder, what = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
distributed.init_process_group("gloo", init_method=f"file://{folder}/{size}{what}", rank=rank, world_size=size)
part = test_part.Part(test_part.NEURONS)
if what == "endless":
    while True:
        test_part.in_parts(part, None)
        part.reset()
        print("ran", flush=True)
found = {}
for batch in (None, 3, 20):
    part.reset()
    events, after = test_part.in_parts(part, batch)
    found[batch] = (events.dense(), after)
c = test_part.network(part.neurons)[0]
result = {"found": found, "neurons": part.neurons, "bytes": c.nbytes, "synapses": len(c), "sent": part.bytes}
part.reset()
try:
    c, weight, _ = test_part.network(part.neurons)
    test_part.ops.sparse_recurrent(None, weight, c, num_steps=3 + rank, part=part)
except ValueError as error:
    result["error"] = str(error)
with open(f"{folder}/{rank}-of-{size}", "wb") as file:
    pickle.dump(result, file)
distributed.destroy_process_group()
"""


def processes(size, folder, what):
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": paths}
    words = [sys.executable, "-c", PROGRAM]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    return [subprocess.Popen([*words, str(rank), str(size), folder, what], **pipes) for rank in range(size)]


@pytest.fixture(scope="module", params=[2, 3])
def together(request, tmp_path_factory):
    """Return what each of several processes found."""
    size, folder = request.param, tmp_path_factory.mktemp("parts")
    running = processes(size, folder, "parts")
    for process in running:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    return [pickle.loads((folder / f"{rank}-of-{size}").read_bytes()) for rank in range(size)]


@needs_gloo
@pytest.mark.parametrize("batch", [None, 3, 20])
def test_several_processes_have_the_spikes_of_one(together, batch):
    spikes, *states = alone(batch)
    assert spikes.mean() > 0.02
    for result in together:
        found, after = result["found"][batch]
        assert_equal(found, spikes)
        for state, whole in zip(after, states, strict=True):
            assert_equal(state, whole[..., result["neurons"]])


@needs_gloo
def test_each_process_has_its_own_synapses(together):
    whole, size = network()[0], len(together)
    assert sum(result["synapses"] for result in together) == len(whole)
    for result in together:
        assert result["synapses"] < 1.2 * len(whole) / size
        # The rows of presynaptic neurons, also of the whole, and the order for the weights, which a whole one lacks.
        rows = whole.first.nbytes + 8 * (NEURONS + 1)
        assert result["bytes"] < 1.2 * (whole.targets.nbytes + 4 * len(whole)) / size + rows + 100
        assert result["sent"] > 0


@needs_gloo
def test_different_calls_are_an_error_in_every_process(together):
    steps = list(range(3, 3 + len(together)))
    for result in together:
        assert f"num_steps must be the same in all processes, got {steps}" in result["error"]


@needs_gloo
def test_a_killed_process_ends_the_others_with_a_message(tmp_path):
    first, second = processes(2, tmp_path, "endless")
    try:
        assert first.stdout.readline() == "ran\n", first.stderr.read()
        second.kill()
        _, errors = first.communicate(timeout=120)
    finally:
        first.kill(), second.kill()
    assert first.returncode == 1
    assert "RuntimeError: Part: process 0 of 2 received no spikes, since another process ended" in errors


@pytest.mark.parametrize("run", [ops.sparse_recurrent, reference.sparse_recurrent])
@pytest.mark.parametrize("batch", [None, 3])
def test_one_process_is_the_whole_network(run, batch):
    part = Part(NEURONS)
    assert part.neurons == range(NEURONS)
    spikes, *states = alone(batch)
    events, after = in_parts(part, batch, run)
    assert_equal(events.dense(), spikes)
    for state, whole in zip(after, states, strict=True):
        assert_equal(state, whole)


@pytest.mark.parametrize("run", [ops.sparse_recurrent, reference.sparse_recurrent])
@pytest.mark.parametrize("first", [3, 31])  # the longest delay is 8 steps
def test_a_part_continues_after_spikes_of_an_earlier_program(run, first):
    c, weight, noise = network()
    how = {"record": "events", **HOW}
    whole, *_ = run(None, weight, c, num_steps=60, noise=noise, **how)
    before, v, r = run(None, weight, c, num_steps=first, noise=noise, **how)
    part = Part(NEURONS)
    part.continue_after(before)
    for t, n in ((first, 2), (first + 2, 58 - first)):
        events, v, r = run(None, weight, c, num_steps=n, noise=noise.after(t), part=part, v=v, r=r, **how)
        before = ops.SpikeEvents.cat([before, events])
    assert_equal(before.dense(), whole.dense())


@pytest.mark.parametrize("run", [ops.sparse_recurrent, reference.sparse_recurrent])
def test_parts_of_16_bits_and_of_float64(run):
    c, weight, noise = network()
    for dtype in (torch.bfloat16, torch.float64):
        x = torch.rand(20, NEURONS, generator=torch.Generator().manual_seed(1)).to(dtype)
        w = weight.double() if dtype == torch.float64 else weight
        spikes, _ = run(x, w, c, noise=noise)
        again, _ = run(x, w, c, noise=noise, part=Part(NEURONS))
        assert_equal(again, spikes)


def test_populations_lie_in_parts():
    part = SimpleNamespace(total=100, neurons=range(30, 60))
    assert Part.within(part, 0, 20) == range(20, 20)
    assert Part.within(part, 20, 30) == range(10, 30)
    assert Part.within(part, 50, 50) == range(10)
    with pytest.raises(ValueError, match="size must be at most 50"):
        Part.within(part, 50, 51)


def test_errors_name_what_is_wrong():
    c, weight, _ = network()
    part = Part(NEURONS)
    for error, match, more in (
        (TypeError, "part must be a Part of snnfast.connect", {"part": 3}),
        (ValueError, "connect the 7 neurons of the network to the 7 of part", {"part": Part(7)}),
        (ValueError, "past must be None", {"part": part, "past": torch.zeros(1, NEURONS)}),
        (ValueError, "there is no gradient", {"part": part, "v_threshold": torch.ones(NEURONS, requires_grad=True)}),
    ):
        with pytest.raises(error, match=match):
            ops.sparse_recurrent(None, weight, c, num_steps=2, **more)
    ops.sparse_recurrent(None, weight, c, num_steps=2, part=part)
    with pytest.raises(ValueError, match=r"spikes of 1 samples of earlier calls, got 3.*part.reset"):
        ops.sparse_recurrent(None, weight, c, num_steps=2, batch=3, part=part)


@pytest.mark.parametrize("numbers", [[9, 0, 1, 0, 0], [100, 1, 1, 0, 0], [100, 0, 3, 0, 0], [100, 0, 0, 0, 0],
                                     [100, -1, 1, 0, 0], [100, 0, 1, 0, -1]])  # fmt: skip
def test_raw_calls_are_checked(numbers):
    c, weight, _ = network()
    x = torch.zeros(2, NEURONS)
    with Recorder() as recorder:
        ops.sparse_recurrent(x, weight, c, part=Part(NEURONS))
    ((func, arguments),) = recorder.calls
    place = [argument.name for argument in func._schema.arguments].index("part")
    arguments[place] = torch.tensor(numbers)
    with pytest.raises(RuntimeError, match=r"part must|window of part|first must"):
        func(*arguments)


def test_a_key_of_no_part_is_an_error():
    c, weight, _ = network()
    with Recorder() as recorder:
        ops.sparse_recurrent(torch.zeros(2, NEURONS), weight, c, part=Part(NEURONS))
    ((func, arguments),) = recorder.calls
    with pytest.raises(KeyError):
        func(*arguments)  # the part is gone


def test_an_error_in_the_exchange_ends_the_call(monkeypatch):
    c, weight, _ = network()
    part, asked = Part(NEURONS), []

    def broken(*arguments):
        asked.append(arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(part, "_gathered", lambda numbers, room: (numbers, len(numbers)) if room == 5 else broken())
    with pytest.raises(KeyboardInterrupt):
        ops.sparse_recurrent(None, weight, c, num_steps=100, part=part)
    assert len(asked) == 1


@pytest.mark.skipif("cuda_emulation" not in PRESENT, reason="no emulated kernels")
def test_kernels_for_cuda_refuse_a_part():
    c, weight, noise = network()
    with force("cuda_emulation"), pytest.raises(RuntimeError, match="part must be None on CUDA, got one"):
        ops.sparse_recurrent(None, weight, c, num_steps=2, noise=noise, part=Part(NEURONS), **HOW)


def test_compiled_calls_exchange_and_vmap_is_refused():
    c, weight, _ = network()
    x, part = 2 * torch.rand(9, NEURONS), Part(NEURONS)

    def run(x):
        return ops.sparse_recurrent(x, weight, c, part=part)[0]

    want = [run(x), run(x)]
    part.reset()
    compiled = torch.compile(run, backend="aot_eager")
    assert_equal([compiled(x), compiled(x)], want)
    with pytest.raises(RuntimeError, match=r"with part there must be no torch\.vmap"):
        torch.vmap(run)(x[None])
