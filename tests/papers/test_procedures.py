"""Every procedure as a call, and the presets of networks."""

import json

import pytest
import torch
from interpreter import python
from procedures import SMALL

from snnfast.papers import Diehl2015, DiehlAndCook2015, TavanaeiAndMaida2017, Wu2018
from snnfast_zoo.papers.procedures import PROCEDURES, bp_stdp, diehl2015, stbp, stdp
from snnfast_zoo.train.place import Data

pytestmark = pytest.mark.usefixtures("one_thread")


def check_activity(result, folder):
    activity = result.activity
    assert 1 <= activity.samples <= 500
    assert activity.products
    assert all(p.dense >= p.accumulates + p.multiply_accumulates for p in activity.products)
    assert activity.total.energy > 0
    assert str(activity) in result.summary()
    stored = json.loads((folder / "result.json").read_text())
    assert stored["activity"] == json.loads(json.dumps(activity.as_dict()))
    assert (folder / "monitor_weights.png").exists() or stored["procedure"] == "stdp"


@pytest.mark.parametrize("procedure", PROCEDURES, ids=lambda p: p.name)
def test_a_procedure_is_a_call(procedure, tmp_path):
    """The result is the same in memory, with a folder, monitored, or resumed."""
    small = SMALL.get(procedure.name, {})
    small = small | {"progress": False, "echo": None, "epochs": 1, "seed": 3}
    result = procedure(**small)
    assert result.settings == procedure.preset(**{n: v for n, v in small.items() if n not in ("progress", "echo")})
    assert 0 <= result.accuracy <= 1
    assert (result.split, result.out) == ("test", None)
    assert result.summary().startswith(f"test accuracy {100 * result.accuracy:.2f} % after 1 ")
    stored = procedure(**small, out=str(tmp_path), monitor=True)
    check_activity(stored, tmp_path)
    again = procedure(**small, out=tmp_path, resume=True)
    for other in (stored, again):
        assert other.accuracy == result.accuracy
        assert other.measured == result.measured
        state = result.model.state_dict()
        torch.testing.assert_close(other.model.state_dict(), state, rtol=0, atol=0)
    assert str(tmp_path) in stored.summary()


def test_what_is_wrong_with_a_call_is_told():
    with pytest.raises(TypeError, match=r"^stbp: there is no setting 'steps'; known: dataset, "):
        stbp("digits", steps=3)
    with pytest.raises(ValueError, match=r"^stbp: dataset must be one of digits, mnist, or your own: .*, got 'iris'"):
        stbp("iris")
    with pytest.raises(ValueError, match=r"^stbp: resume needs out, the folder of the run"):
        stbp("digits", resume=True)


@pytest.mark.parametrize("dataset", ["digits", "mnist"])
@pytest.mark.parametrize(
    ("procedure", "model", "changes"),
    [
        (stbp, Wu2018, {}),
        (stbp, Wu2018, {"hidden": (30,)}),
        (stdp, DiehlAndCook2015, {}),
        (bp_stdp, TavanaeiAndMaida2017, {}),
        (diehl2015, Diehl2015, {}),
    ],
)
def test_models_have_the_presets_of_the_procedures(procedure, model, changes, dataset, monkeypatch):
    side = {"digits": 8, "mnist": 28}[dataset]
    flat = procedure is bp_stdp
    x = torch.zeros(2, side * side) if flat else torch.zeros(2, 1, side, side)
    part = x, torch.zeros(2, dtype=torch.int64)
    settings = procedure.preset(dataset, **changes)
    torch.manual_seed(settings.seed)
    expected = procedure.model(settings, Data(part, part))
    expected = expected.network if flat else expected
    if procedure is stdp:
        changes = {"presentations": 2 * settings.epochs}
    if procedure is diehl2015:
        changes = {"dropout": settings.dropout}
    torch.manual_seed(settings.seed)
    found = model.preset(dataset, **changes)
    assert repr(found) == repr(expected)
    torch.testing.assert_close(found.state_dict(), expected.state_dict(), rtol=0, atol=0)
    for name in ("settings", "num_steps", "encoding"):
        assert getattr(found, name, None) == getattr(expected, name, None)
    with pytest.raises(ValueError, match=f"^{model.__name__}: dataset must be one of .* 'moons'"):
        model.preset("moons")


def test_import_draws_nothing_and_loads_nothing_slow():
    code = (
        "import sys, torch\nbefore = set(sys.modules)\nstate = torch.get_rng_state()\n"
        "import snnfast.procedure\nassert torch.equal(state, torch.get_rng_state())\n"
        "print(*sorted({m.partition('.')[0] for m in set(sys.modules) - before}))\n"
    )
    assert not set(python(code).stdout.split()) & {"matplotlib", "torchvision", "typer"}
