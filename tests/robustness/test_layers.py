"""Calls go one way: every module of the package has its layer, and imports only what stands before it."""

import ast
from pathlib import Path

import pytest

from snnfast.compiler import neurons

PACKAGE = Path(__file__).parents[2] / "snnfast"

# From the ground up, and within a layer in this order: a module imports modules before it, and none after it, so there
# can be no circle. A new module wants its place here; <neuron> stands for each other neuron.
# docs/architecture.md draws the layers.
LAYERS = {
    "what everything stands on": """
        check first_order table atomic surrogate checkpoint processes batch_norm whole_batch plasticity
        visual.style visual.output backend devices
        visual.activity visual.layers visual.conversion visual.training visual.weights visual.timing
        lock_file compiler.build compiler memory info visual visualizer
    """,
    "signatures, checks, calls": """
        calls.autocast calls.call calls.networks calls.presentations calls.poisson calls.neuron calls.spikeprop
        calls.batch_norm calls.pool2d calls.spike_conv2d calls.spike_count calls.spike_linear calls.delay
        calls.diehl_cook calls.stdp
        calls.lif calls.qif calls.<neuron> calls.recurrent calls.diehl_cook_conductance calls.bp_stdp
        calls.bp_stdp_network calls
    """,
    "equations": """
        reference reference.batch_norm reference.exp reference.poisson reference.neuron reference.spikeprop
        reference.networks reference.stdp reference.presentations reference.<neuron>
        reference.bp_stdp reference.diehl_cook_conductance reference.diehl_cook
        reference.recurrent reference.pool2d
        reference.spike_conv2d reference.spike_count reference.spike_linear reference.delay reference.bp_stdp_network
    """,
    "from a step function to a kernel": """
        compiler.functions compiler.eager compiler.signature compiler.expression compiler.evaluate compiler.trace
        compiler.derivative compiler.plan compiler.emit compiler.neurons
    """,
    "kernels, or the reference": """
        ops.autograd ops.in_place ops.layout ops.repeat ops.batch_norm ops.pool2d ops.neuron ops.own_kernels
        ops.own_neuron
        ops.poisson ops.spikeprop ops.stdp
        ops.bp_stdp ops.delay ops.diehl_cook ops.spike_conv2d ops.spike_count ops.spike_linear
        ops.bp_stdp_network
        ops.diehl_cook_conductance ops
    """,
    "modules and rules; data; training": """
        learning.labels data.idx data.splits nn.readout encoder.latency encoder.regular
        encoder.labels nn.state score data.vision data.bundled encoder.population encoder.recorded
        nn.spike_conv2d nn.patch_conv2d nn.spike_linear nn.hooks nn.time nn.sequential nn.keys
        nn.spiking nn.delaying nn.delay data.sequences data.event_files data.events data.folder data.own
        data.iris_loader data.loading data loss
        testing nn.spikeprop
        nn.<neuron> nn.own_neuron nn.equations nn.recurrent
        encoder.poisson encoder.bernoulli encoder.manual encoder
        learning.stdp learning.bp_stdp learning.spikeprop learning
        nn.replacing.port nn.calibration nn.replacing.spikingjelly_neurons nn.replacing.spikingjelly_equations
        nn.replacing.spikingjelly nn.replacing.snntorch_functions nn.replacing.norse_neurons
        nn.replacing.norse_equations
        nn.replacing.snntorch_neuron nn.replacing.snntorch nn.replacing.norse
        nn.replacing.sinabs_functions nn.replacing.sinabs
        nn.replacing nn.presets nn.replacing.compare nn.replacing.sequences
        nn.replacing.wrapped nn.pooled nn.tracer nn.plain
        nn.replacing.unrolling nn.replacing.traces nn.replacing.known nn.replacing.steps
        nn.replacing.loops nn.order nn.replace nn.fuse nn.accelerate nn train
    """,
    "what a network does while it runs": """
        monitoring.operations monitoring.activity monitoring.counts monitoring.tally monitoring.watch monitoring
    """,
    "networks without Python": """
        export.source export.plan export.exact export.products export.pooling export.neurons
        export.recurrent
        export.readout export.program export.write export.step export
    """,
    "networks of other tools": """
        nir.scheme nir.layers nir.package nir.export nir.cycles nir.load nir.file nir
    """,
    "any ReLU network as a spiking one": """
        conversion.analog conversion.shortcuts conversion.neurons conversion.qcfs conversion.loader
        conversion.plan conversion.kinds conversion.trace conversion.stream
        conversion.network conversion.report conversion.calibration conversion.convert
        conversion.thresholds conversion
    """,
    "the papers' networks": """
        model.manual model.networks model.diehl_cook2015_settings model.diehl_cook2015_parts
        model.diehl_cook2015_stimuli model.tavanaei_maida2017_parts
        model.diehl_cook2015 model.tavanaei_maida2017 model.travanaei_maida2017 model.bohte2002
        model.sequence model.wu2018 model.spiking_vgg model.resnet20 model.diehl2015 model.vgg16 model
    """,
    "names of n3ml's manual": """
        threshold optimizer
    """,
    "load, train, score: every procedure": """
        procedure.figures procedure.folder procedure.settings procedure.result procedure.repeats procedure.run
        procedure.together
        procedure.images procedure.samples procedure.sequence procedure.wu2018
        procedure.tavanaei_maida2017_networks procedure.tavanaei_maida2017
        procedure.classifier procedure.ann procedure.spiking_vgg procedure.diehl_cook2015_readout
        procedure.bohte2002_figures procedure.diehl_cook2015_networks
        procedure.conversion procedure.diehl_cook2015 procedure.bohte2002 procedure.trained procedure
        procedure.demo
    """,
    "the command": """
        cli.options cli.procedures cli __main__
    """,
}
NEURONS = sorted(name for name in neurons.STEMS if not name.startswith("refractory_"))
ORDER = list(
    dict.fromkeys(
        name.replace("<neuron>", neuron)
        for names in LAYERS.values()
        for name in names.split()
        for neuron in (NEURONS if "<neuron>" in name else ["-"])
    )
)


def modules():
    """Every module of the package by its name without "snnfast."."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path
    return found


MODULES = modules()


def imported(name, source, is_package=False):
    """The modules of the package that the ``source`` of module ``name`` imports when it runs."""
    tree = ast.parse(source)
    only_typing = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    here = ["snnfast", *name.split(".")]
    for node in ast.walk(tree):
        if node in only_typing:
            continue
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) + is_package - node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            targets = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            parts = target.split(".")
            if parts[0] != "snnfast":
                continue
            # the longest beginning that is a module; the rest is a name in it
            ends = range(len(parts), 1, -1)
            names = (".".join(parts[1:end]) for end in ends)
            yield next((n for n in names if n in MODULES), target)


def test_every_module_has_its_layer_and_every_layer_its_modules():
    assert sorted(ORDER) == sorted(MODULES)


@pytest.mark.parametrize("name", ORDER)
def test_a_module_imports_only_what_stands_before_it(name):
    path = MODULES[name]
    before = ORDER[: ORDER.index(name)]
    found = set(imported(name, path.read_text(), path.name == "__init__.py"))
    found -= {name, "snnfast._C", "snnfast.__version__"}
    assert not {n for n in found if n not in before}


def test_an_import_upwards_is_seen():
    source = "from snnfast import nn\nfrom ..ops import lif\nimport snnfast.papers.conversion.vgg16\nfrom . import alif"
    assert list(imported("reference.lif", source)) == ["nn", "ops", "model.vgg16", "reference.alif"]


def test_an_import_of_the_whole_package_is_seen():
    source = "import snnfast\nfrom snnfast import convert"
    assert list(imported("reference.lif", source)) == ["snnfast", "snnfast.convert"]
