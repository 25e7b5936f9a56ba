"""The brain of a connectome: equal to a loop over its equations, from files, by the command."""

import json
import math

import command
import numpy as np
import pytest
import torch
from samples import assert_equal

from snnfast_zoo.papers.procedures import connectome
from snnfast_zoo.papers.shiu2024.model import ConnectomeSettings, connectome_network, random_edges

pytestmark = pytest.mark.usefixtures("one_thread")
FAR = 720575940600000000  # names of a fly's neurons are as large


def by_loop(edges, forced, stimulated):
    """Return spikes of a loop over the equations, in which the stimulated neurons have spikes of ``forced``."""
    neurons = len(edges.ids)
    v, g, remaining = np.zeros((3, neurons))
    decay, g_decay, spikes = math.exp(-0.1 / 20), math.exp(-0.1 / 5), []
    effect = 5 / (5 - 20) * (g_decay - decay)
    for t in range(len(forced)):
        arrived = np.zeros(neurons)
        if t >= 18:
            np.add.at(arrived, edges.post, 0.275 * edges.weight * spikes[t - 18][edges.pre])
        after = np.where(remaining > 0, v, v * decay + g * effect)
        fired = (after >= 7) & (remaining == 0)
        fired[stimulated] = forced[t, stimulated]
        g = g * g_decay + arrived
        v = np.where(fired, 0, after)
        remaining = np.where(fired, 21, np.maximum(remaining - 1, 0))
        spikes.append(fired)
    return torch.from_numpy(np.stack(spikes)).double()


def test_it_equals_a_loop_over_its_equations():
    settings = ConnectomeSettings(scale=0.002, dtype="float64", stimulate=(3, 200), rate=1500.0)
    network = connectome_network(settings)
    spikes = network.run(600).dense()
    assert_equal(spikes, by_loop(random_edges(0.002, 1), spikes.bool().numpy(), [3, 200]))
    fired = spikes.sum(0)
    assert (fired[[3, 200]] > 10).all()
    assert fired.sum() > fired[[3, 200]].sum() + 10


def write(path, edges):
    values = {"a": edges.pre + FAR, "b": edges.post + FAR, "n": edges.weight}
    if path.suffix == ".npz":
        np.savez(path, **values)
    elif path.suffix == ".csv":
        lines = [",".join(values), *(f"{a},{b},{n:g}" for a, b, n in zip(*values.values()))]
        path.write_text("\n".join(lines))
    else:
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(values), path)
    return str(path)


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_a_file_of_edges_is_the_network(suffix, tmp_path):
    edges = random_edges(0.002, 1)
    path = write(tmp_path / f"brain{suffix}", edges)
    columns = {"pre": "a", "post": "b", "weight": "n", "stimulate": (FAR + 3, FAR + 5), "rate": 3000.0}
    network = connectome_network(ConnectomeSettings(edges=path, **columns))
    expected = connectome_network(ConnectomeSettings(scale=0.002, stimulate=(3, 5), rate=3000.0))
    named = network.ids[network.run(600).neuron.long()] - FAR
    assert_equal(named, expected.run(600).neuron.long())
    assert len(named) > 30


def test_command_takes_a_file(tmp_path):
    path = write(tmp_path / "brain.npz", random_edges(0.002, 1))
    columns = ["--pre", "a", "--post", "b", "--weight", "n", "--seconds", 0.1, "--warm-up", 0]
    text = command.call("simulate", path, *columns, "--out", tmp_path / "run")
    assert "255 neurons" in text
    assert json.loads((tmp_path / "run" / "result.json").read_text())["settings"]["edges"] == path
    assert np.load(tmp_path / "run" / "events.npz")["ids"][0] == FAR
    assert "Default: .\n" not in command.call("simulate", "connectome", "--help")


def test_errors_name_the_file_and_the_column(tmp_path):
    path, words = write(tmp_path / "brain.csv", random_edges(0.0001, 1)), tmp_path / "words.csv"
    words.write_text("pre,post,weight\n1,b,3\n")
    for changes, error, message in (
        ({"edges": path}, ValueError, r"brain.csv has no column 'pre'; it has a, b, n"),
        ({"edges": str(words)}, ValueError, r"post in .*words.csv must hold numbers: .*'b'"),
        ({"edges": path, "scale": 0.5}, ValueError, r"scale is for the random graph, got edges .*brain.csv"),
        ({"edges": "missing.npz"}, FileNotFoundError, "there is no file missing.npz"),
        ({"edges": "brain.txt"}, ValueError, r"the file must end in .npz, .csv, .parquet, got brain.txt"),
        ({"scale": 0.001, "stimulate": (999,)}, ValueError, "stimulate must name neurons of the edges, got 999"),
    ):
        with pytest.raises(error, match=message):
            connectome(progress=False, **changes)
    np.savez(tmp_path / "floats.npz", pre=[0.5], post=[1], weight=[1.0])
    with pytest.raises(ValueError, match=r"pre in .*floats.npz must hold integers, got float64"):
        connectome(edges=str(tmp_path / "floats.npz"), progress=False)
