"""Choices of the launchers, from the launches that the emulation records."""

import pytest
import torch

from snnfast import backend, ops, testing

WIDE, NARROW = 128, 64  # threads per block with several neurons per thread, or one

pytestmark = pytest.mark.skipif(not testing.load_cuda_emulation(), reason="the emulated CUDA is not built")


@pytest.fixture
def launched(tmp_path, monkeypatch):
    """Run a call by emulation; return blocks and threads of each launch, or its whole line."""

    def run(call, whole=False):
        trace = tmp_path / "trace"
        trace.unlink(missing_ok=True)
        monkeypatch.setenv("SNNFAST_EMULATION_TRACE", str(trace))
        with backend.use("cuda_emulation"):
            call()
        rows = [tuple(map(int, line.split())) for line in trace.read_text().splitlines()]
        return rows if whole else [(x * y * z, threads) for x, y, z, threads, _ in rows]

    return run


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("reduce", [torch.sum, torch.mean])
def test_the_gradient_of_a_sum_takes_the_kernel_of_many_neurons(launched, dtype, reduce):
    x = (2 * torch.rand(5, 1024, dtype=torch.float64)).to(dtype)
    found = []

    def gradient(total):
        leaf = x.clone().requires_grad_()
        spikes, _, v_seq = ops.lif(leaf, return_v_seq=True)
        found.append(torch.autograd.grad(total(spikes.float()) + total(v_seq), leaf)[0])

    weight = 1.0 if reduce is torch.sum else 1 / x.numel()
    sums = launched(lambda: gradient(reduce))
    dense = launched(lambda: gradient(lambda y: (y * torch.full_like(y, weight)).sum()))
    assert sums == dense
    assert {threads for _, threads in sums} == {WIDE}
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=0)


def test_one_value_a_step_is_read_by_a_thread_a_neuron(launched):
    """An expanded gradient is not copied to rows, and the result is the same."""
    x, weights = torch.rand(5, 1024), torch.rand(5, 1)
    found = []

    def gradient(expanded):
        leaf = x.clone().requires_grad_()
        spikes = ops.lif(leaf)[0]
        grad = weights.expand_as(x) if expanded else weights.repeat(1, 1024)
        found.append(torch.autograd.grad(spikes, leaf, grad)[0])

    assert launched(lambda: gradient(True))[-1][1] == NARROW
    assert launched(lambda: gradient(False))[-1][1] == WIDE
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("shape", "together"), [((), 4), ((1,), 4), ((16, 1, 1), 4), ((2, 16, 8, 1), 4), ((8, 8), 1), ((2, 16, 8, 8), 1)]
)
def test_neighbours_that_share_a_delay_share_a_thread(launched, shape, together):
    x = torch.rand(6, 2, 16, 8, 8)
    d = 3 * torch.rand(shape)

    def run():
        leaf, delay = x.clone().requires_grad_(), d.clone().requires_grad_()
        torch.autograd.grad(ops.delay(leaf, delay), (leaf, delay), torch.rand_like(x))

    neurons = x[0].numel()
    assert launched(run) == [(neurons // together // 128, 128)] * 2


@pytest.mark.parametrize("sigma", [0.0, 1.0, 3.2])  # 2, 4 and 9 taps
@pytest.mark.parametrize("shape", [(), (16, 1, 1), (16, 8, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_delays_of_a_window_have_the_bits_of_the_cpu(shape, sigma, dtype):
    """Compare wide and narrow windows, with past steps, and gradients of several groups of steps."""
    generator = torch.Generator().manual_seed(0)
    kind = torch.float64 if dtype == torch.float64 else torch.float32

    def drawn(*shape, dtype=dtype):
        return torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype)

    for steps in (3, 37, 70):
        inputs = drawn(steps, 16, 8, 8), 45 * drawn(*shape, dtype=kind), drawn(7, 16, 8, 8)
        weights = drawn(steps, 16, 8, 8)

        def run(inputs=inputs, weights=weights):
            leaves = [t.clone().requires_grad_() for t in inputs]
            y = ops.delay(*leaves, sigma=sigma)
            return y.detach(), *torch.autograd.grad(y, leaves, weights)

        want = run()
        with backend.use("cuda_emulation"):
            got = run()
        for a, b in zip(got[:2], want[:2]):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
        for a, b in zip(got[2:], want[2:]):
            torch.testing.assert_close(a, b, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-4)


def test_recurrent_layers_of_several_sizes_do_not_lower_each_others_memory():
    """Two host threads may launch a kernel with different sizes; its memory limit is always the largest."""
    with backend.use("cuda_emulation"):
        for neurons in (60, 20, 60):
            x = torch.rand(4, 2, neurons).requires_grad_()
            weight = torch.rand(neurons, neurons).requires_grad_()
            ops.recurrent(x, weight)[0].sum().backward()


@pytest.mark.parametrize(
    ("networks", "images", "learns", "grid"),
    [(1, 9, True, (1, 1)), (3, 9, True, (1, 3)), (9, 2, True, (1, 4)), (1, 9, False, (4, 1)), (2, 3, False, (2, 2))],
)
def test_a_network_that_learns_is_one_block(launched, networks, images, learns, grid):
    """The emulated device has 4 blocks at the same time; without learning, blocks of a network take images in turn."""
    w, theta = torch.rand(networks, 40, 12), torch.zeros(networks, 40)
    x = torch.rand(images, 5, 12) < 0.3
    frozen = {"rule": None, "theta_plus": 0.0, "tau_theta": None}
    ((*found, _, threads, _),) = launched(lambda: ops.diehl_cook_(x, w, theta, **({} if learns else frozen)), True)
    assert (tuple(found), threads) == (grid, 128)


@pytest.mark.parametrize(("neurons", "threads"), [(40, 128), (140, 160), (2000, 512)])
@pytest.mark.parametrize("room", [232448, 0])
def test_a_network_of_any_size_has_a_block(launched, neurons, threads, room, monkeypatch):
    monkeypatch.setenv("SNNFAST_EMULATION_SHARED", str(room))
    w, theta = torch.rand(neurons, 100), torch.zeros(neurons)
    ((*grid, _, found, shared),) = launched(lambda: ops.diehl_cook_(torch.rand(1, 4, 100) < 0.3, w, theta), True)
    assert (grid, found) == ([1, 1], threads)
    # Weights and state, of 2000 neurons the state alone, or nothing.
    least = {40: 4 * 40 * 100, 140: 4 * 140 * 100, 2000: 20 * 2000}[neurons] if room else 0
    assert least <= shared <= (200_000 if room else 0)
