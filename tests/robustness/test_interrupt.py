"""Ctrl-C in the middle of a long call.

Each call would go on for ten seconds or more. That its exception comes sooner shows in the processor time it took.
"""

import os
import signal
import threading
import time

import pytest
import torch

from snnfast import connect, ops, plasticity

HALF = torch.full((1,), 0.5)  # expanded: a large input in the memory of one value
MOST = 5.0  # seconds of processor time


def recurrent():
    x, weight = HALF.expand(100_000, 1, 2000), torch.ones(2000, 2000)
    return lambda: ops.recurrent(x, weight, v_threshold=0.1)


def recurrent_backward():
    y, _ = ops.recurrent(HALF.expand(1000, 16, 4000).requires_grad_(), torch.ones(4000, 4000), v_threshold=3.0)
    return y.sum().backward  # no neuron has fired: only the backward pass takes long


def sparse_recurrent():
    c = connect.fixed_indegree(2000, indegree=1000, seed=0)
    return lambda: ops.sparse_recurrent(HALF.expand(100_000, 1, 2000), torch.ones(2000), c, v_threshold=0.1)


def stdp():
    w, spikes = torch.rand(1000, 1000), torch.ones(1, dtype=torch.bool).expand(10_000, 8, 1000)
    return lambda: ops.stdp_(w, spikes, spikes, rule=plasticity.pair())


def bp_stdp():
    w, error = torch.rand(4000, 2000), torch.ones(3000, 8, 4000)
    spikes = torch.ones(3000, 8, 2000, dtype=torch.bool)
    return lambda: ops.bp_stdp_(w, spikes, error)


def diehl_cook():
    x = ops.Rates(torch.full((9000, 784), 100.0), 350, seeds=torch.arange(9000))
    w, theta = torch.rand(1600, 784), torch.zeros(1600)
    return lambda: ops.diehl_cook_(x, w, theta, rule=plasticity.triplet(1e-4, 0.03), norm=78.4)


def bp_stdp_network():
    x = ops.Rates(torch.full((9000, 784), 100.0), 100, seeds=torch.arange(9000))
    weights, labels = [torch.rand(1000, 784), torch.rand(10, 1000)], torch.zeros(9000, dtype=torch.int64)
    desired = torch.ones(100, 9000, dtype=torch.bool)
    return lambda: ops.bp_stdp_network_(weights, x, labels, desired, thresholds=[0.9, 12.5], batch=16)


@pytest.fixture(autouse=True)
def python_handles_ctrl_c():
    """A program that a shell starts in the background ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    "prepare", [recurrent, recurrent_backward, sparse_recurrent, stdp, bp_stdp, diehl_cook, bp_stdp_network]
)
def test_ctrl_c_ends_a_call(prepare):
    call = prepare()
    begin = time.process_time()
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        call()
    assert time.process_time() - begin < MOST


class EnoughError(Exception):
    pass


def test_handlers_of_a_program_run_and_may_raise():
    seen = []

    def handler(number, frame):
        seen.append(number)
        if len(seen) == 2:
            raise EnoughError("twice")

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)
    begin = time.process_time()
    try:
        with pytest.raises(EnoughError, match="twice"):
            stdp()()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert seen == [signal.SIGALRM] * 2
    assert time.process_time() - begin < MOST
