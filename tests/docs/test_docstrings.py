"""Docstrings of public names say what the arguments are; those of ops also shapes, errors and source."""

import ast
import importlib
import inspect
import itertools
import re
import types

import pytest

import snnfast
from snnfast import ops
from snnfast.nn.spiking import Spiking

VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
SHAPE = r"``\[|shape"
SOURCE = r"\b(19|20)\d\d\b|Neuronal Dynamics|PyTorch|torch\.nn|NIR"


def public():
    """Functions and classes by their public names, each once."""
    found = {}
    for module in snnfast.__all__:
        loaded = getattr(snnfast, module)
        if isinstance(loaded, types.ModuleType):
            for name in loaded.__all__:
                value = getattr(loaded, name)
                documented = inspect.isfunction(value) or inspect.isclass(value)
                if documented and not (inspect.isclass(value) and issubclass(value, Exception)):
                    found.setdefault(id(value), (f"{module}.{name}", value))
    return sorted(found.values(), key=lambda pair: pair[0])


def named(reference, value):
    """Return the object to which ``:func:`reference``` in the docstring of ``value`` refers."""
    path = reference.rpartition("<")[2].strip("~<>`")
    module = getattr(value, "check", value).__module__  # of an op, where its docstring stands
    homes = [module, value.__module__, module.rpartition(".")[0], ""]
    for full in (f"{home}.{path}".strip(".") for home in homes):
        module, _, name = full.rpartition(".")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError):
            continue
    raise AssertionError(f"{value.__name__}: {reference} is nowhere")


def said(value, depth=2):
    """The docstring of ``value`` and of what it refers to."""
    text = (value.__doc__ or "") + ((inspect.isclass(value) and value.__init__.__doc__) or "")
    if depth:
        for reference in re.findall(r":(?:func|class):`([^`]+)`", text):
            if not reference.lstrip("~").startswith(("torch.", "numpy.")):
                text += said(named(reference, value), depth - 1)
    return text


@pytest.mark.parametrize("name", [name for name in ops.__all__ if name.islower()])
def test_arguments_of_an_op_are_documented_in_their_order(name):
    """Also of a neuron whose docstring leaves out what another's says, and nothing that it says is left out."""
    check = getattr(ops, name).check
    parameters = list(inspect.signature(check).parameters)
    assert documented(inspect.getdoc(getattr(ops, name))) == parameters
    (function,) = ast.parse(inspect.getsource(check)).body
    assert set(documented(ast.get_docstring(function))) <= set(parameters)


def documented(docstring):
    """The arguments that a docstring names, in order."""
    _, _, text = docstring.partition("\nArgs:\n")
    lines = itertools.takewhile(lambda line: not line or line.startswith("    "), text.split("\n"))
    return [name for line in lines for name in re.findall(r"^    (\w+): ", line)]


def checks(value):
    """Whether it looks at its arguments, as named tuples do not."""
    return not (inspect.isclass(value) and issubclass(value, tuple))


@pytest.mark.parametrize(("name", "value"), public(), ids=lambda x: x if isinstance(x, str) else "")
def test_docstring_is_whole(name, value):
    text = said(value)
    arguments = [p.name for p in inspect.signature(value).parameters.values() if p.kind not in VARIABLE]
    unnamed = [argument for argument in arguments if not re.search(rf"\b{argument}\b", text)]
    assert not unnamed, f"{name} does not say what {', '.join(unnamed)} is"
    if name.startswith("ops.") and inspect.isfunction(value):
        assert "Returns:" in text, f"{name} does not say what it returns"
        assert re.search(SHAPE, text), f"{name} names no shape"
        assert re.search(SOURCE, text), f"{name} names no source"
    if name.startswith(("ops.", "nn.", "loss.")) and arguments and checks(value):
        assert "Raises:" in text, f"{name} does not say what it raises"


def neurons():
    """Spiking layers of snnfast.nn."""
    layers = (getattr(snnfast.nn, name) for name in snnfast.nn.__all__)
    return [x for x in layers if inspect.isclass(x) and issubclass(x, Spiking) and x is not Spiking]


@pytest.mark.parametrize("layer", neurons(), ids=lambda layer: layer.__name__)
def test_a_layer_documents_every_argument_that_it_takes(layer):
    """Also those that all neurons share; not a refractory period where there is none."""
    _, _, text = inspect.getdoc(layer).partition("Args:\n")
    entries = re.findall(r"^    (\w[\w, ]*): ", text.partition("\n\n")[0], re.M)
    named = [name for entry in entries for name in entry.split(", ")]
    taken = set(inspect.signature(layer).parameters)
    op = getattr(ops, layer.op)  # of a step function a module
    if callable(op) and "refractory" not in inspect.signature(op).parameters:
        taken -= {"refractory", "max_spikes"}
    assert len(named) == len(set(named))
    assert set(named) == taken
