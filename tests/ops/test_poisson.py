"""Random spikes: equal on every backend, determined by seeds, and registered with PyTorch."""

import math

import pytest
import torch
from backends import PRESENT

from snnfast import ops, reference
from snnfast.reference.poisson import philox4x32_10

DTYPES = (torch.bool, torch.uint8, torch.float32, torch.float64, torch.bfloat16, torch.float16)
SEEDS = (0, 1, 12345, 2**32, 2**63 - 1, 2**64 - 1, -1, -(2**63))
# Sizes around the 4 elements of a counter, the CPU's unit of 64 and block of 256, CUDA's block of 4096.
SHAPES = (
    ((), 0),
    ((), 1),
    ((), 9),
    ((0,), 4),
    ((3, 0), 4),
    ((3,), 0),
    ((1,), 257),
    ((2,), 64),
    ((3,), 1366),
    ((4,), 9),
    ((20,), 7),
    ((7, 11, 13), 5),
    ((63,), 3),
    ((64,), 4),
    ((255,), 5),
    ((256,), 3),
    ((257,), 5),
    ((5, 103), 9),
    ((4096,), 2),
    ((4097,), 3),
    ((8200,), 1),
)
# Random123's known answers: counter, key, words.
KNOWN_ANSWERS = """
    00000000 00000000 00000000 00000000  00000000 00000000  6627e8d5 e169c58d bc57ac4c 9b00dbd8
    ffffffff ffffffff ffffffff ffffffff  ffffffff ffffffff  408f276d 41c83b0e a20bc7c6 6d5451fd
    243f6a88 85a308d3 13198a2e 03707344  a4093822 299f31d0  d16cfe09 94fdcceb 5001e420 24126ea1
    """


def probabilities(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    p = torch.rand(shape, generator=generator) * 1.4 - 0.2
    return p.clamp(0, 1)  # a seventh is 0, a seventh 1


@pytest.mark.parametrize("line", KNOWN_ANSWERS.strip().splitlines())
def test_reference_philox_gives_the_known_answers(line):
    values = tuple(torch.tensor(int(word, 16)) for word in line.split())
    assert philox4x32_10(values[:4], values[4:6]) == values[6:]


def test_first_spikes_are_philox_of_counter_and_key_zero(backend):
    words = (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    uniform = torch.tensor([word >> 8 for word in words]) * 2.0**-24
    just_above = torch.nextafter(uniform, torch.ones(4))
    p = torch.stack((uniform, just_above), 1).to(backend.device)
    for k in range(4):
        at, above = p[k]
        only_k = torch.zeros(4, device=backend.device)
        only_k[k] = at
        assert not ops.poisson(only_k, 1, seed=0).any()
        only_k[k] = above
        assert ops.poisson(only_k, 1, seed=0).flatten().tolist() == [float(j == k) for j in range(4)]


@pytest.mark.parametrize(("shape", "num_steps"), SHAPES)
def test_same_spikes_as_the_reference(kernels, shape, num_steps):
    p = probabilities(shape)
    for dtype in DTYPES:
        expected = reference.poisson(p, num_steps, seed=77, dtype=dtype)
        actual = ops.poisson(p.to(kernels.device), num_steps, seed=77, dtype=dtype)
        assert actual.shape == (num_steps, *shape)
        assert (actual.dtype, actual.device.type) == (dtype, kernels.device)
        assert actual.is_contiguous()
        torch.testing.assert_close(actual.cpu(), expected, rtol=0, atol=0)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_seed_gives_the_spikes_of_the_reference(kernels, seed):
    p = probabilities((41,))
    actual = ops.poisson(p.to(kernels.device), 7, seed=seed)
    torch.testing.assert_close(actual.cpu(), reference.poisson(p, 7, seed=seed), rtol=0, atol=0)
    as_int64 = seed - 2**64 if seed >= 2**63 else seed
    tensor = torch.tensor(as_int64, device=kernels.device)
    torch.testing.assert_close(ops.poisson(p.to(kernels.device), 7, seed=tensor), actual, rtol=0, atol=0)


def test_seeds_differ():
    p = torch.full((100,), 0.5)
    spikes = [ops.poisson(p, 20, seed=seed) for seed in SEEDS if seed not in (-1, -(2**63))]
    for i in range(len(spikes)):
        for j in range(i):
            agreement = (spikes[i] == spikes[j]).float().mean().item()
            assert abs(agreement - 0.5) < 5 * 0.5 / math.sqrt(2000)


@pytest.mark.parametrize("p_dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_probabilities_count_in_float32(backend, p_dtype):
    p = probabilities((5, 9)).to(p_dtype)
    expected = reference.poisson(p.float(), 6, seed=3)
    torch.testing.assert_close(ops.poisson(p.to(backend.device), 6, seed=3).cpu(), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    "view",
    [
        lambda p: p.mT,
        lambda p: p[:, ::2],
        lambda p: p[1:, 3:],
        lambda p: p[0, :1].expand(4, 7),
        lambda p: p.flip(1),
        lambda p: p.view(3, 4, 2, 2).to(memory_format=torch.channels_last),
        lambda p: p.flatten()[1:33],
    ],
)
def test_layout_of_probabilities_does_not_matter(backend, view):
    p = view(probabilities((3, 16)).to(backend.device))
    torch.testing.assert_close(ops.poisson(p, 5, seed=9), ops.poisson(p.contiguous(), 5, seed=9), rtol=0, atol=0)
    torch.testing.assert_close(ops.poisson(p, 5, seed=9).cpu(), reference.poisson(p.cpu(), 5, seed=9), rtol=0, atol=0)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_number_of_threads_does_not_matter(threads):
    p = probabilities((1031,))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        spikes = ops.poisson(p, 300, seed=4, dtype=torch.uint8)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(spikes, reference.poisson(p, 300, seed=4, dtype=torch.uint8), rtol=0, atol=0)


def test_manual_seed_repeats_and_calls_differ(backend):
    p = torch.full((200,), 0.5, device=backend.device)
    torch.manual_seed(3)
    first, second = ops.poisson(p, 10), ops.poisson(p, 10)
    torch.manual_seed(3)
    again = ops.poisson(p, 10)
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.equal(first, second)


def test_manual_seed_gives_the_same_spikes_everywhere(backend):
    p = probabilities((50,))
    torch.manual_seed(8)
    expected = reference.poisson(p, 10)
    torch.manual_seed(8)
    torch.testing.assert_close(ops.poisson(p.to(backend.device), 10).cpu(), expected, rtol=0, atol=0)


def test_generator_is_honoured_and_leaves_the_global_one_alone(backend):
    p = probabilities((50,))
    expected = reference.poisson(p, 10, generator=torch.Generator().manual_seed(4))
    state = torch.get_rng_state()
    generator = torch.Generator().manual_seed(4)
    first = ops.poisson(p.to(backend.device), 10, generator=generator)
    second = ops.poisson(p.to(backend.device), 10, generator=generator)
    torch.testing.assert_close(first.cpu(), expected, rtol=0, atol=0)
    assert not torch.equal(first, second)
    torch.testing.assert_close(torch.get_rng_state(), state, rtol=0, atol=0)


def test_seed_leaves_the_global_generator_alone(backend):
    state = torch.get_rng_state()
    ops.poisson(torch.ones(3, device=backend.device), 2, seed=1)
    torch.testing.assert_close(torch.get_rng_state(), state, rtol=0, atol=0)


def test_there_is_no_gradient(backend):
    p = torch.full((5,), 0.5, device=backend.device, requires_grad=True)
    spikes = ops.poisson(p, 3)
    assert not spikes.requires_grad
    assert not ops.poisson(p, 3, dtype=torch.bool).requires_grad


def test_compiled_code_draws_anew_and_obeys_manual_seed(kernels):
    p = torch.full((100,), 0.5, device=kernels.device)
    compiled = torch.compile(lambda p: ops.poisson(p, 8), fullgraph=True, backend="aot_eager")
    torch.manual_seed(1)
    first, second = compiled(p), compiled(p)
    torch.manual_seed(1)
    torch.testing.assert_close(compiled(p), first, rtol=0, atol=0)
    assert not torch.equal(first, second)


def test_vmap_with_different_randomness(kernels):
    p = torch.full((3, 40), 0.5, device=kernels.device)

    def encode(p):
        return ops.poisson(p, 5, validate=False)

    different = torch.vmap(encode, randomness="different")(p)
    assert different.shape == (3, 5, 40)
    assert not torch.equal(different[0], different[1])
    same = torch.vmap(encode, randomness="same")(p)
    torch.testing.assert_close(same[0], same[1], rtol=0, atol=0)


def test_vmap_does_not_look_at_values(kernels):
    p = torch.rand(3, 8, device=kernels.device)
    seed = torch.tensor([3], device=kernels.device)
    got = torch.vmap(lambda p: ops.poisson(p, 4, seed=seed))(p)
    want = torch.stack([ops.poisson(one, 4, seed=seed) for one in p])
    torch.testing.assert_close(got, want, rtol=0, atol=0)


@pytest.mark.skipif("cuda" not in PRESENT, reason="no CUDA device")
class TestCuda:
    def test_generator_of_the_device(self):
        p = torch.full((50,), 0.5, device="cuda")
        first = ops.poisson(p, 9, generator=torch.Generator("cuda").manual_seed(1))
        again = ops.poisson(p, 9, generator=torch.Generator("cuda").manual_seed(1))
        torch.testing.assert_close(first, again, rtol=0, atol=0)
        with pytest.raises(ValueError, match="generator must be on cpu or the device of p, cpu"):
            ops.poisson(p.cpu(), 9, generator=torch.Generator("cuda"))

    def test_does_not_wait_for_the_device(self):
        p = torch.full((50,), 0.5, device="cuda")
        torch.cuda.set_sync_debug_mode("error")
        try:
            ops.poisson(p, 9, validate=False)
            ops.poisson(p, 9, seed=3, validate=False)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def test_graph_draws_anew_in_every_replay(self):
        p = torch.full((500,), 0.5, device="cuda")
        ops.poisson(p, 9)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            spikes = ops.poisson(p, 9)
        graph.replay()
        first = spikes.clone()
        graph.replay()
        assert not torch.equal(first, spikes)
        assert ((first == 0) | (first == 1)).all()

    def test_more_than_2_31_elements(self):
        p = torch.rand(2**20 + 1, device="cuda")
        spikes = ops.poisson(p, 2049, seed=3, dtype=torch.bool)
        index = torch.arange(2**31 + 5, 2**31 + 105)
        counter, zero = index // 4, torch.zeros_like(index)
        words = torch.stack(philox4x32_10((counter & 0xFFFFFFFF, counter >> 32, zero, zero), (zero + 3, zero)), 1)
        uniform = (words.gather(1, (index % 4)[:, None])[:, 0] >> 8) * 2.0**-24
        expected = uniform < p.cpu()[index % len(p)]
        torch.testing.assert_close(spikes.flatten()[index.cuda()].cpu(), expected, rtol=0, atol=0)
