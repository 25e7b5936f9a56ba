"""The examples of tests/every_op.py, on the CPU."""

import re
from pathlib import Path

import torch
from every_op import LARGE, Example, examples, launches
from samples import DTYPES, neurons_that_fill

from snnfast import backend, ops, testing


def test_every_op_has_an_example():
    assert {name.partition(" ")[0] for name in examples("cpu")} == {name for name in ops.__all__ if name.islower()}


def test_the_table_of_modes_lists_every_op():
    text = (Path(__file__).parents[2] / "docs/gpu.md").read_text()
    _, _, table = text.partition("| op | graph |")
    first = [line.split("|")[1] for line in table.partition("\n\n")[0].split("\n")[2:]]
    named = [name for cell in first for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted(name.partition(" ")[0] for name in examples("cpu"))


def test_examples_do_something_and_change_none_of_their_inputs():
    for name, example in examples("cpu").items():
        first, second = example.run(), example.run()
        assert any(tensor.double().abs().sum() > 0 for tensor in first[len(example.inputs) :]), name
        for a, b in zip(first, second):
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True, msg=name)
    for name, example in launches("cpu", small=True).items():
        assert example.smooth or not torch.equal(example.inputs[0], example.run()[0]), name


def test_examples_that_fill_a_gpu_run_in_few_launches():
    """The profiler looks at 200 launches in all; and as many recurrent neurons would have billions of weights."""
    large = examples("cpu", **{**LARGE, "steps": 1})["lif"].inputs[0]
    assert all(large[0].numel() >= neurons_that_fill(dtype) for dtype in DTYPES)
    large = examples("cpu", steps=20, neurons=8192)
    _, passed = large["bp_stdp_"].run()
    assert len(passed) == 12
    if testing.load_cuda_emulation():
        with backend.use("cuda_emulation"):
            large["recurrent"].run()


def test_gradients_are_those_of_a_weighted_sum():
    """A plain sum's gradient is one value, which no kernel of training sees."""
    for summed in (False, True):
        x, seen = torch.ones(3, 5), []

        def function(x, seen=seen):
            y = 1 * x
            y.register_hook(seen.append)
            return y

        Example(function, (x,), True, summed).run()
        assert (len(seen[0].unique()) > 1) != summed
        assert (seen[0].stride() == (0, 0)) == summed
    assert not any(example.summed for example in examples("cpu").values())
    assert launches("cpu", small=True)["lif, gradient of the sum"].summed
