"""Headers of the neurons of the package are generated from their equations."""

import re

import pytest
from interpreter import python

from snnfast.compiler import neurons
from snnfast.reference.call import prepare

WITHOUT = "'snnfast._C', 'numpy', 'tqdm', 'typer', 'matplotlib', 'torchvision'"


def test_the_build_makes_headers_with_pytorch_alone(tmp_path):
    code = f"""
import sys, warnings
sys.modules.update(dict.fromkeys([{WITHOUT}]))
warnings.simplefilter("ignore")
from snnfast.compiler.neurons import write
print(*write({str(tmp_path)!r}))
"""
    assert python(code).stdout.split() == list(neurons.STEMS)
    for stem in neurons.STEMS:
        assert (tmp_path / f"{stem}.h").read_text() == neurons.header(stem)


def test_a_build_may_have_some_neurons_alone(tmp_path):
    assert neurons.write(str(tmp_path), ["qif", "lif"]) == ["qif", "lif"]
    assert {path.name for path in tmp_path.iterdir()} == {"qif.h", "lif.h", "neurons.h"}
    assert re.findall(r"NEURON\((\w+), (\w+)\)", (tmp_path / "neurons.h").read_text().partition("#define")[2]) == [
        ("qif", "Qif"),
        ("lif", "Lif"),
    ]


def test_a_header_that_is_as_it_was_is_left_alone(tmp_path):
    neurons.write(str(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    (tmp_path / "lif.h").write_text("another")
    neurons.write(str(tmp_path))
    changed = {path.name for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert changed == {"lif.h"}
    assert (tmp_path / "lif.h").read_text() == neurons.header("lif")


@pytest.mark.parametrize("stem", neurons.STEMS)
def test_the_list_of_arguments_is_that_of_the_call(stem):
    arguments = re.findall(r'\{"(\w+)", NeuronArgument::(\w+)', neurons.header(stem))
    call = neurons.STEMS[stem]
    assert tuple(name for name, _ in arguments) == call._fields
    sizes = {"parameter": 2, "surrogate": 2}
    assert [sizes.get(kind, 1) for _, kind in arguments] == [kind.size for kind in prepare(call).kinds]


@pytest.mark.parametrize(
    ("stem", "lines"),
    [
        ("lif", ["const C v = fires ? c[kVReset] : h;", "tape[0] = h;"]),
        ("alif", ["h - (c[kVThreshold] + (c[kBeta] * a_before))"]),
        ("adlif", ["const C m = symplectic ? v : h;"]),
        ("eif", ["exp_quotient((v_before - c[kThetaRh]), c[kDeltaT], c[kDerived1])"]),
        ("refractory_lif", ["nearest_even("]),
    ],
)
def test_a_step_reads_like_its_equation(stem, lines):
    text = neurons.header(stem)
    for line in lines:
        assert line in text


def test_a_readout_alone_has_a_kernel_that_never_fires():
    reads = {stem for stem in neurons.STEMS if "kReads = true" in neurons.header(stem)}
    assert reads == {"lif", "cuba"}
