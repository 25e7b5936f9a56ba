"""Damaged and invalid graphs and files of NIR: a ValueError with the path and the node."""

import itertools
import random
import sys

import h5py
import numpy as np
import pytest
import torch
from graphs import graph_of, nir

from snnfast import nir as sn
from snnfast.nir.layers import sorted_by_need
from snnfast.nn import LIF, Recurrent


def read(graph):
    return sn.from_nir(graph, dt=1.0, scheme="euler")


def changed(node, fields):
    """Return ``node`` with fields that its class would refuse."""
    for name, value in fields.items():
        setattr(node, name, value)
    return node


def lif(size, **fields):
    unit = np.ones(size, np.float32)
    return changed(nir.LIF(tau=2 * unit, r=unit, v_leak=0 * unit, v_threshold=unit, v_reset=0 * unit), fields)


def cuba(size, **fields):
    unit = np.ones(size, np.float32)
    node = nir.CubaLIF(
        tau_mem=2 * unit, tau_syn=2 * unit, r=unit, v_leak=0 * unit, v_threshold=unit, v_reset=0 * unit, w_in=unit
    )
    return changed(node, fields)


@pytest.mark.parametrize(
    ("node", "error"),
    [
        (nir.Delay(delay=np.array([1.0, -1.0, 0.0])), "n0: delays must be finite and at least 0 s, got -1"),
        (nir.Delay(delay=np.array([1.0, np.nan, 0.0])), "n0: delays must be finite and at least 0 s, got nan"),
        (nir.Delay(delay=np.array([1.0, np.inf, 0.0])), "n0: delays must be finite and at least 0 s, got inf"),
        (nir.Delay(delay=np.ones(4)), r"n0, a Delay, gets samples \[3\], but has delay of \[4\]"),
        (
            nir.Linear(weight=np.eye(3) * (1 + 1j)),
            r"n0, a Linear, must have real numbers as its weight, got \[3, 3\] of complex128",
        ),
        (nir.Affine(weight=np.eye(3), bias=np.ones(3) * 1j), "n0, a Affine, must have real numbers as its bias"),
        (nir.Affine(weight=np.eye(3), bias=np.ones(2)), "n0, a Affine, cannot be read: RuntimeError: "),
        (nir.Linear(weight=np.eye(4)), r"n0, a Linear, does not take samples \[3\]: "),
        (nir.Scale(scale=np.ones(3) * 1j), "n0, a Scale, must have real numbers as its scale"),
        (nir.Scale(scale=np.ones((2, 3))), r"n0, a Scale, gets samples \[3\], but has scale of \[2, 3\]"),
        (nir.Threshold(threshold=np.ones(4)), r"n0, a Threshold, gets samples \[3\], but has threshold of \[4\]"),
        (lif(4), r"n0, a LIF, gets samples \[3\], but has tau of \[4\]"),
        (lif(3, v_reset=np.zeros(4)), r"n0, a LIF, gets samples \[3\], but has v_reset of \[4\]"),
        (lif(3, tau=np.ones(3) * 1j), "n0, a LIF, must have real numbers as its tau"),
        (lif(3, v_leak=np.array(["a"] * 3)), r"n0, a LIF, must have real numbers as its v_leak, got \[3\] of <U1"),
        (cuba(4), r"n0, a CubaLIF, gets samples \[3\], but has tau_mem of \[4\]"),
        (cuba(3, w_in=np.ones(2)), r"n0, a CubaLIF, gets samples \[3\], but has w_in of \[2\]"),
        (nir.IF(np.ones(4), np.ones(4), np.zeros(4)), r"n0, a IF, gets samples \[3\], but has "),
        (nir.LI(tau=np.ones(4), r=np.ones(4), v_leak=np.zeros(4)), r"n0, a LI, gets samples \[3\]"),
        (nir.I(r=np.ones(4)), r"n0, a I, gets samples \[3\], but has r of \[4\]"),
        (nir.Conv2d((4, 4), np.ones((1, 1, 3, 3)), 1, 0, 1, 1, np.ones(1)), r"n0, a Conv2d, does not take samples"),
    ],
)
def test_a_node_that_cannot_be_is_named(node, error):
    with pytest.raises(ValueError, match=f"^from_nir: {error}"):
        read(graph_of(node))


def test_without_a_shape_of_the_input_a_node_may_have_any_size():
    graph = graph_of(lif(4))
    graph.nodes["in"].input_type = {"input": None}
    assert read(graph)(torch.rand(5, 2, 4)).shape == (5, 2, 4)


@pytest.mark.parametrize("shape", [[2**62, 2**62], [10**15]])
def test_an_input_of_any_size_takes_no_memory(shape):
    with pytest.raises(ValueError, match=r"^from_nir: (in|n0), a"):
        read(graph_of(lif(4), shape=shape))


def test_reading_depends_on_no_default():
    graph = graph_of(nir.Affine(weight=np.eye(3), bias=np.ones(3)), lif(3))
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        assert read(graph)(torch.rand(5, 2, 3, dtype=torch.float32)).dtype == torch.float32
    finally:
        torch.set_default_dtype(before)


def test_a_field_that_is_missing_is_named():
    for field in vars(lif(3)):
        node = lif(3)
        delattr(node, field)
        if field in ("input_type", "output_type", "metadata"):
            read(graph_of(node))
        else:
            with pytest.raises(ValueError, match=r"^from_nir: n0, a LIF, "):
                read(graph_of(node))


@pytest.mark.parametrize("back", ["delay", "weight"])
def test_a_cycle_with_impossible_numbers_is_refused(back):
    graph = graph_of(lif(3))
    delay = np.ones(3) if back == "weight" else np.array([0.0, -2.0, 1.0])
    weight = np.eye(3) * (1j if back == "weight" else 1)
    graph.nodes |= {"d": nir.Delay(delay=delay), "w": nir.Linear(weight=weight)}
    graph.edges += [("n0", "d"), ("d", "w"), ("w", "n0")]
    name = "d: delays must be" if back == "delay" else "w, a Linear, must have real numbers"
    with pytest.raises(ValueError, match=f"^from_nir: {name}"):
        read(graph)


def test_graphs_that_are_made_up_are_refused():
    graph = graph_of(lif(3))
    graph.nodes["n0"] = graph
    with pytest.raises(ValueError, match=r"^from_nir: the graph has graphs in graphs without end"):
        read(graph)
    graph = graph_of(lif(3))
    graph.edges.append(("in", "n0", "out"))
    with pytest.raises(ValueError, match=r"^from_nir: an edge must name two nodes, got \('in', 'n0', 'out'\)"):
        read(graph)
    graph = graph_of(lif(3))
    graph.metadata = {"dt": "soon", "scheme": "euler"}
    with pytest.raises(ValueError, match=r"^from_nir: the dt that the graph keeps must be a number, got 'soon'"):
        sn.from_nir(graph)
    graph = graph_of(nir.Linear(weight=np.ones((2, 3))))
    graph.edges.append(("in", "out"))
    with pytest.raises(ValueError, match=r"^from_nir: out gets samples \[2\] and \[3\], which have no sum"):
        read(graph)


def refusal(path):
    """Return the error of a file; empty if it is read."""
    try:
        sn.read(path)
    except ValueError as error:
        return str(error)
    return ""


def written(path, graph):
    """Write ``graph`` to a file, which needs the shape of its output."""
    graph.nodes["out"] = nir.Output(np.array([3]))
    graph.metadata = {"dt": 1.0, "scheme": "euler"}
    nir.write(path, graph)


def files(path, count):
    """Yield damaged versions of a file: missing fields, other types and shapes, and flipped bytes."""
    weight = np.eye(3, dtype=np.float32)
    graph = graph_of(nir.Affine(weight=weight, bias=np.ones(3)), lif(3), nir.Delay(delay=np.ones(3)), cuba(3))
    written(path, graph)
    whole = path.read_bytes()
    draw = random.Random(0)
    values = [np.zeros(0), np.array(b"text"), np.array(-1), np.ones((2, 2, 2)), np.ones(3) * 1j, np.array(np.nan)]
    for case in range(count):
        path.write_bytes(whole)
        if case % 2:
            flipped = bytearray(whole)
            for _ in range(draw.choice((1, 8, 64))):
                flipped[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
            path.write_bytes(flipped[: draw.choice((len(whole), draw.randrange(len(whole))))])
        else:
            with h5py.File(path, "r+") as file:
                found = []
                file.visit(found.append)
                where = draw.choice(found)
                del file[where]
                if draw.random() < 0.7:
                    file[where] = draw.choice(values)
        yield


def test_a_damaged_file_is_a_value_error_with_its_path(tmp_path):
    path = tmp_path / "net.nir"
    errors = [refusal(path) for _ in files(path, 120)]
    assert all(error.startswith(f"nir.read: {path}") for error in errors if error)
    assert sum(map(bool, errors)) > 60


def test_a_heap_of_strings_that_never_ends_is_damaged(tmp_path):
    """HDF5 2.0 reads an object of no size for ever."""
    path = tmp_path / "net.nir"
    sn.write(path, LIF(), (3,), dt=1e-3, scheme="euler")
    data = bytearray(path.read_bytes())
    start = data.index(b"GCOL\x01")
    data[start + 16 : start + 32] = bytes(16)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"net\.nir is damaged, or no NIR file: .*strings"):
        sn.read(path)


def test_the_node_of_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "net.nir"
    written(path, graph_of(nir.Linear(weight=np.eye(3)), lif(3)))
    with h5py.File(path, "r+") as file:
        del file["node/nodes/n1/tau"]
    with pytest.raises(ValueError, match=r"net\.nir is damaged, or no NIR file: the node n1: "):
        sn.read(path, dt=1.0, scheme="euler")
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(ValueError, match=r"^nir\.read: .*net\.nir is damaged, or no NIR file: OSError: "):
        sn.read(path)
    with pytest.raises(FileNotFoundError):
        sn.read(tmp_path / "none.nir")


def test_many_nodes_are_read_in_linear_time():
    """Counts executed lines, since seconds depend on the load of the machine."""

    def lines(n):
        graph = graph_of(*(nir.Scale(scale=np.ones(3)) for _ in range(n)))
        count = 0

        def trace(frame, event, argument):
            nonlocal count
            count += event == "line"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            read(graph)
        finally:
            sys.settrace(before)
        return count

    assert lines(600) < 3.5 * lines(200)


def test_a_long_chain_of_cycles_and_inner_graphs():
    """Each recurrent layer is a cycle through a graph in the graph."""

    def layer():
        inner = graph_of(lif(1))
        inner.nodes["w"] = nir.Linear(weight=np.ones((1, 1)))
        inner.edges += [("n0", "w"), ("w", "n0")]
        return inner

    net = read(graph_of(*(layer() for _ in range(200)), shape=(1,)))
    assert sum(isinstance(m, Recurrent) for m in net.modules()) == 200


def test_order_by_need_is_that_of_waves():
    draw = random.Random(1)
    for _ in range(50):
        names = [f"n{i}" for i in range(12)]
        rank = names[:]
        draw.shuffle(rank)
        place = {name: i for i, name in enumerate(rank)}
        sources = {n: [s for s in names if place[s] < place[n] and draw.random() < 0.3] or [""] for n in names}
        done = []
        while len(done) < len(names):  # by the definition
            done += [n for n in names if n not in done and all(s == "" or s in done for s in sources[n])]
        assert sorted_by_need(sources) == done


def test_cycles_of_random_graphs_are_found():
    """Compare the nodes that reach each other with a search from every node."""
    from snnfast.nir.cycles import _strongly_connected

    draw = random.Random(2)
    for n, density in itertools.product((1, 3, 8, 20), (0.02, 0.1, 0.3)):
        sources = {str(i): [str(j) for j in range(n) if draw.random() < density] for i in range(n)}
        fed = {a: [b for b in sources if a in sources[b]] for a in sources}

        def reached(start, ways):
            found, pending = set(), list(ways[start])
            while pending:
                name = pending.pop()
                if name not in found:
                    found.add(name)
                    pending += ways[name]
            return found

        behind = {name: reached(name, sources) for name in sources}
        want = {frozenset(b for b in behind[a] if a in behind[b]) for a in sources if a in behind[a]}
        assert {frozenset(group) for group in _strongly_connected(sources, fed)} == want


def test_a_recurrent_layer_with_a_negative_delay_is_written_as_it_runs():
    """The layer counts delays below 0 as 0, and so does the file."""
    layer = Recurrent(LIF(), 3, delay=torch.tensor([-1.5, 0.0, 2.0]))
    with torch.no_grad():
        layer.delay.copy_(torch.tensor([-1.5, 0.0, 2.0]))
    graph = sn.to_nir(layer, (3,), dt=1.0, scheme="euler")
    (delay,) = (node.delay for node in graph.nodes.values() if isinstance(node, nir.Delay))
    assert delay.tolist() == [0, 0, 2]
    x = 3 * torch.rand(20, 2, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sn.from_nir(graph)(x), layer(x), rtol=0, atol=0)
