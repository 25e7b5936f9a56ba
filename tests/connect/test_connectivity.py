"""``snnfast.connect``: connectivities from edges and matrices, and back."""

import copy
import dataclasses
import itertools
import pickle

import fake_cuda
import numpy as np
import pytest
import torch
from backends import force
from samples import assert_equal

from snnfast import connect
from snnfast.backend import extension


def drawn(edges=200, n_pre=9, n_post=7, delays=4, seed=0):
    """Return random edges in random order, with multapses."""
    generator = np.random.default_rng(seed)
    pre, post = generator.integers(n_pre, size=edges), generator.integers(n_post, size=edges)
    return (*map(torch.from_numpy, (pre, post, generator.integers(1, 1 + delays, size=edges))), n_pre, n_post)


def by_hand():
    return connect.from_edges([2, 0, 0, 2], [1, 2, 0, 0], 3, delay=torch.tensor([1, 4, 4, 2]))


# ---- the order of synapses


def test_synapses_are_sorted_by_presynaptic_neuron_delay_and_target():
    c = by_hand()
    assert (c.n_pre, c.n_post, len(c), c.shortest, c.longest) == (3, 3, 4, 1, 4)
    pre, post = c.edges()
    assert_equal([pre, post, c.delays()], [torch.tensor(v) for v in ([0, 0, 2, 2], [0, 2, 1, 0], [4, 4, 1, 2])])
    assert_equal(c.steps, torch.tensor([1, 2, 4]))
    assert_equal(c.first, torch.tensor([0, 0, 0, 2, 2, 2, 2, 3, 4, 4]))
    assert_equal(c.arrange(torch.tensor([10.0, 20.0, 30.0, 40.0])), torch.tensor([30.0, 20.0, 10.0, 40.0]))
    assert_equal([c.out_degree(), c.in_degree()], [torch.tensor([2, 0, 2]), torch.tensor([2, 1, 1])])
    assert repr(c) == "Connectivity(3 -> 3 neurons, 4 synapses, delay 1 to 4)"


def test_any_order_of_edges_gives_the_same_synapses():
    pre, post, delay, n_pre, n_post = drawn()
    c = connect.from_edges(pre, post, n_pre, n_post, delay=delay)
    assert_equal([*c.edges(), c.delays()], [c.arrange(v) for v in (pre, post, delay)])
    keys = sorted(zip(pre.tolist(), delay.tolist(), post.tolist()))
    assert [*zip(c.edges()[0].tolist(), c.delays().tolist(), c.edges()[1].tolist())] == keys
    again = connect.from_edges(*c.edges(), n_pre, n_post, delay=c.delays())
    assert again.order is None
    assert_equal([again.first, again.steps, again.edges()[1]], [c.first, c.steps, c.edges()[1]])


def test_edges_that_are_equal_stay_in_their_order():
    c = connect.from_edges([1, 0, 1, 1], [0, 0, 0, 0], 2, 1)
    assert_equal(c.arrange(torch.arange(4)), torch.tensor([1, 0, 2, 3]))


@pytest.mark.parametrize("n_post", [3, 300, 2**15, 2**15 + 1, 2**24 + 9])
@pytest.mark.parametrize("edges", [0, 1, 50, 3000])
def test_the_compiled_sort_gives_the_synapses_of_numpy(edges, n_post):
    """Short rows, long rows, rows in order, and targets of one to four bytes."""
    for n_pre, delays in ((1, 1), (5, 1), (300, 3)):
        pre, post, delay, *sizes = drawn(edges, n_pre, n_post, delays)
        pre[: edges // 3] = 0
        for order in (slice(None), pre.argsort(stable=True), post.argsort(stable=True)):
            found = []
            for backend in (None, "reference"):
                with force(backend):
                    c = connect.from_edges(pre[order], post[order], *sizes, delay=delay[order])
                    total = connect.fixed_total(n_pre, n_post, total=edges, seed=1)
                    found.append([c.first, c.targets, c.arrange(torch.arange(edges)), total.first, total.targets])
                    found[-1] += c.incoming if n_post < 2**20 else []
            assert_equal(*found)


def test_synapses_by_postsynaptic_neuron():
    c = by_hand()
    assert [v.tolist() for v in c.incoming] == [[0, 2, 3, 4], [0, 3, 2, 1], [0, 2, 2, 0]]
    in_order = connect.one_to_one(3).incoming
    assert [v.tolist() for v in in_order] == [[0, 1, 2, 3], [0, 1, 2], [0, 1, 2]]


@pytest.mark.skipif(extension is None, reason="no extension")
def test_the_compiled_sort_refuses_arrays_of_other_types_and_sizes():
    arrays = [np.zeros(4, np.int32), np.zeros(4, np.int32), np.zeros(3, np.int64), np.zeros(4, np.int16)]
    for wrong in ({0: arrays[0].astype(np.int64)}, {1: arrays[1][:3]}, {2: arrays[0]}, {3: np.zeros(8, np.int16)[::2]}):
        row, target, first, targets = (wrong.get(k, array) for k, array in enumerate(arrays))
        with pytest.raises(ValueError, match="sort_edges: expected a contiguous array of"):
            extension.sort_edges(row, target, 2, 9, first, targets, None)


def test_many_neurons_have_targets_of_32_bits():
    few, many = (connect.from_edges([1, 0], [n - 1, n - 2], 2, n) for n in (2**15, 2**15 + 1))
    assert (few.targets.dtype, many.targets.dtype) == (torch.int16, torch.int32)
    assert_equal([c.edges()[1] for c in (few, many)], [torch.tensor([n - 2, n - 1]) for n in (2**15, 2**15 + 1)])
    wide = connect.from_edges([2**17, 70_000, 5], [0, 2**17, 70_000], 2**17 + 1)
    assert_equal([*wide.edges()], [torch.tensor([5, 70_000, 2**17]), torch.tensor([70_000, 2**17, 0])])


def test_bytes_of_a_synapse():
    assert connect.fixed_outdegree(100, outdegree=50, seed=1).nbytes == 100 * 50 * 2 + 101 * 8 + 8


# ---- delays


def test_a_delay_is_a_number_one_a_neuron_or_one_an_edge():
    pre, post, delay, n_pre, n_post = drawn()
    number = connect.from_edges(pre, post, n_pre, n_post, delay=3)
    assert_equal([number.steps, number.delays()], [torch.tensor([3]), torch.full((200,), 3)])
    of_neuron = torch.arange(n_pre) % 3 + 2
    neuron = connect.from_edges(pre, post, n_pre, n_post, delay=of_neuron)
    assert_equal(neuron.delays(), of_neuron[neuron.edges()[0]])
    changed = number.with_delay(number.arrange(delay))
    assert_equal(changed.edges()[1], connect.from_edges(pre, post, n_pre, n_post, delay=delay).edges()[1])
    assert_equal(changed.arrange(number.arrange(post)), changed.edges()[1])


# ---- matrices


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_matrix_comes_back(share):
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(7, 9, generator=generator) * (torch.rand(7, 9, generator=generator) < share)
    c = connect.from_dense(matrix)
    pre, post = c.edges()
    weight = matrix[post, pre]
    assert_equal([c.dense(weight), c.to_torch(weight).to_dense()], [matrix, matrix])
    for sparse in (matrix.to_sparse_csr(), matrix.to_sparse()):
        again = connect.from_torch(sparse)
        assert_equal([*again.edges(), again.arrange(sparse.values())], [pre, post, weight])


def test_several_synapses_of_a_pair_add_up_in_a_matrix():
    c = connect.from_edges([0, 0, 1], [1, 1, 0], 2)
    weight = torch.tensor([1.0, 2.0, 4.0])
    want = torch.tensor([[0.0, 4.0], [3.0, 0.0]])
    assert_equal([c.dense(weight), c.to_torch(weight).to_dense()], [want, want])
    assert_equal(c.dense(torch.tensor([1.0, 4.0])), torch.tensor([[0.0, 4.0], [2.0, 0.0]]))
    assert_equal(c.dense(torch.tensor(2.0)), torch.tensor([[0.0, 2.0], [4.0, 0.0]]))


def test_projections_between_ranges_of_neurons():
    a = connect.from_edges([0, 1], [1, 0], 2, delay=2)
    b = connect.from_edges([0, 0], [0, 2], 1, 3)
    c = connect.concatenate([(a, 2, 1), (b, 0, 0)], 4, 3)
    assert_equal([*c.edges(), c.delays()], [torch.tensor(v) for v in ([0, 0, 2, 3], [0, 2, 2, 1], [1, 1, 2, 2])])
    assert_equal(c.arrange(torch.tensor([1, 2, 3, 4])), torch.tensor([3, 4, 1, 2]))
    assert len(connect.concatenate([], 3)) == 0


def test_the_synapses_of_a_postsynaptic_neuron_are_listed_in_order():
    for n_post in (6, 2**15 + 9, 2**16 + 9):
        c = connect.fixed_total(50, n_post, total=400, delay=torch.arange(50) % 3 + 1, seed=1)
        pre, post = c.edges()
        order = post.argsort(stable=True)
        first = torch.cat([torch.zeros(1), post.bincount(minlength=n_post).cumsum(0)])
        assert_equal(list(c.incoming), [first.long(), order.int(), pre[order].int()])


def blocks_of(pre, post, delay, values, bounds):
    """Yield the edges of ranges of presynaptic neurons."""
    for low, high in itertools.pairwise(bounds):
        chosen = (pre >= low) & (pre < high)
        yield pre[chosen], post[chosen], delay[chosen], values[chosen]


@pytest.mark.parametrize("n_post", [30, 2**15 + 9])
def test_blocks_of_presynaptic_neurons_give_the_connectivity_of_all_edges(n_post):
    generator = torch.Generator().manual_seed(0)
    pre, post = (torch.randint(0, n, (600,), generator=generator) for n in (50, n_post))
    delay, values = torch.where(pre < 20, 2, post % 7 + 3), torch.rand(600, generator=generator)
    want = connect.from_edges(pre, post, 60, n_post, delay=delay)
    blocks = blocks_of(pre, post, delay, values, (0, 3, 20, 20, 49, 60))
    found, arranged = connect.from_blocks(blocks, 600, 60, n_post)
    names = ("steps", "first", "targets")
    assert_equal([getattr(found, name) for name in names], [getattr(want, name) for name in names])
    assert_equal([arranged], [want.arrange(values)])
    assert found.targets.dtype == want.targets.dtype
    assert found.order is None


def test_no_blocks_are_no_synapses():
    c, values = connect.from_blocks([], 0, 5)
    assert (len(c), len(values), c.first.tolist(), c.shortest) == (0, 0, [0] * 6, 1)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([([1], [0], 1, [0.5]), ([1], [0], 1, [0.5])], r"blocks\[1\], pre must be at least 2, behind .*, got 1"),
        ([([1], [0], 1, [0.5])], "blocks must have 2 edges, the number of synapses, got 1"),
        ([([1] * 3, [0] * 3, 1, [0.5] * 3)], "blocks must have 2 edges, the number of synapses, got at least 3"),
        ([([1, 2], [0], 1, [0.5] * 2)], r"blocks\[0\] must have as many post as pre, got 1 and 2"),
        ([([1, 9], [0, 0], 1, [0.5] * 2)], r"blocks\[0\], pre must be from 0 to 4, got 1 to 9"),
        ([([1, 2], [0, 0], 0, [0.5] * 2)], "delay must be at least 1, got 0"),
        ([([1, 2], [0, 0], torch.ones(3), [0.5] * 2)], r"blocks\[0\], delay must be a number or have shape \[2\]"),
        ([([1, 2], [0, 0], 1, [0.5])], r"blocks\[0\], values must have shape \[2\]"),
        ([([1], [0], 1, [0.5]), ([2], [0], 1, [1])], r"blocks\[1\], values must have dtype"),
    ],
)
def test_errors_say_what_is_wrong_with_a_block(blocks, message):
    made = ((torch.tensor(pre), torch.tensor(post), delay, torch.tensor(w)) for pre, post, delay, w in blocks)
    with pytest.raises((TypeError, ValueError), match=f"from_blocks: {message}"):
        connect.from_blocks(made, 2, 5)


def test_blocks_beyond_the_memory_are_refused_before_one_is_made():
    made = iter([()])
    with pytest.raises(ValueError, match=r"from_blocks: 1000000000000 synapses need some .* GiB while they are built"):
        connect.from_blocks(made, 10**12, 10**6)
    assert next(made) == ()


def test_a_connectivity_never_changes_and_can_be_copied():
    c = by_hand()
    with pytest.raises(dataclasses.FrozenInstanceError):
        c.n_pre = 4
    for other in (copy.deepcopy(c), pickle.loads(pickle.dumps(c))):
        assert_equal([*other.edges(), other.delays()], [*c.edges(), c.delays()])


def test_without_neurons_or_edges():
    empty = connect.from_edges(np.empty(0, int), np.empty(0, int), 0)
    assert (len(empty), empty.longest, empty.first.tolist()) == (0, 1, [0])
    none = connect.from_edges(np.empty(0, int), np.empty(0, int), 3, delay=np.empty(0, int))
    assert none.first.tolist() == [0, 0, 0, 0]


# ---- errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: connect.from_edges([0, 3], [0, 0], 3), "from_edges: pre must be from 0 to 2, got 0 to 3"),
        (lambda: connect.from_edges([0], [-1], 3), "from_edges: post must be from 0 to 2, got -1 to -1"),
        (lambda: connect.from_edges([0], [0, 1], 3), "pre and post must have the same length, got 1 and 2"),
        (lambda: connect.from_edges([[0]], [0], 3), "pre must have shape .edges., got .1, 1."),
        (lambda: connect.from_edges([0.5], [0], 3), "pre must be integers, got float64"),
        (lambda: connect.from_edges("ab", [0], 3), "pre must be integers, got str"),
        (lambda: connect.from_edges([0], [0], -3), "n_pre must be at least 0, got -3"),
        (lambda: connect.from_edges([0], [0], 2**31), "n_pre must be at most 2147483647"),
        (lambda: connect.from_edges([0], [0], 3, delay=0), "delay must be at least 1, got 0"),
        (lambda: connect.from_edges([0], [0], 3, delay=1.5), "delay must be integers, got float64"),
        (lambda: connect.from_edges([0, 1], [0, 1], 3, delay=[2, 0]), "delay must be at least 1 step .* got 0 to 2"),
        (lambda: connect.from_edges([0, 1], [0, 1], 3, delay=[2] * 5), r"shape \[2\], .* or \[3\], .* got \[5\]"),
        (lambda: by_hand().arrange(torch.ones(3)), r"arrange: values must have shape \[4\], got \[3\]"),
        (lambda: by_hand().dense(torch.ones(5)), r"weight must have shape \[4\] or \[3\] or \[\], got \[5\]"),
        (lambda: connect.from_dense(torch.ones(3)), r"matrix must have shape \[n_post, n_pre\], got \[3\]"),
        (lambda: connect.from_torch(torch.eye(3)), "matrix must be a sparse tensor, CSR or COO, got torch.strided"),
        (lambda: connect.from_torch(torch.eye(3).to_sparse_csc()), "CSR or COO, got torch.sparse_csc"),
        (lambda: connect.concatenate([by_hand()], 3), r"projections\[0\] must be \(connectivity, .* got Connectivity"),
        (lambda: connect.concatenate([(by_hand(), 1, 0)], 3), "must end at neuron 3 of n_pre, got 1 . 3"),
        (lambda: connect.concatenate([(by_hand(), 0, -1)], 3), "first post must be at least 0, got -1"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


@pytest.mark.skipif(extension is None, reason="the fake GPU needs the extension")
def test_a_gpu_gets_copies_once_which_are_not_pickled():
    c = connect.fixed_outdegree(8, outdegree=3, delay=2, seed=1)
    noise = connect.PoissonNoise(torch.ones(8), seed=1)
    with fake_cuda.present():
        device = torch.device("cuda:0")
        rows, incoming = c.on(device), c.incoming_on(device)
        table, weight, key = noise.fields("op", 8, torch.float32, device)
        for value, want in zip((*rows, *incoming), (c.first, c.targets, c.steps, *c.incoming)):
            assert value.is_cuda
            assert value.cpu().tolist() == want.tolist()
        assert all(a is b for a, b in zip((*c.on(device), *c.incoming_on(device)), (*rows, *incoming)))
        later = noise.after(5).fields("op", 8, torch.float32, device)
        assert (later[0] is table, later[1] is weight) == (True, True)
        assert (key.cpu().tolist(), later[2].cpu().tolist()) == ([1, 0], [1, 5])
    for owner in (c, noise):
        again = pickle.loads(pickle.dumps(owner))
        assert (len(owner._copies), again._copies) == (2 if owner is c else 1, {})
    assert c.on(torch.device("cpu"))[0] is c.first
