"""Settings: checks of their fields, and the options of commands that are made from them."""

import inspect
import json
from dataclasses import dataclass, fields

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from snnfast_zoo import cli
from snnfast_zoo.cli.options import command
from snnfast_zoo.papers.conversion import convert as conversion
from snnfast_zoo.papers.procedures import PROCEDURES
from snnfast_zoo.train.settings import Options, option


@dataclass(frozen=True, kw_only=True)
class Tea(Options):
    name = "tea"

    kind: str = option("green", "Of leaves.", choices=("green", "black"))
    cups: int = option(2, "How many.", least=1, most=9)
    minutes: float = option(3.5, "Of steeping.", above=0, below=60)
    sugar: float | None = option(None, "Spoons.", least=0)
    biscuits: tuple[int, int] = option((1, 2), "Plain ones and others.")
    times: tuple[int, ...] = option((8, 16), "Of the day.", least=0)
    hot: bool = option(True, "Or iced.")
    extras: dict[str, object] = option({}, "NAME=VALUE.", flag="--add")  # noqa: RUF009
    hidden: int = option(0, "Nobody's business.", command=False)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"kind": "mint"}, ValueError, "kind must be one of green, black, got 'mint'"),
        ({"cups": 0}, ValueError, "cups must be at least 1, got 0"),
        ({"cups": 10}, ValueError, "cups must be at most 9, got 10"),
        ({"cups": 2.0}, TypeError, "cups must be an integer, got float"),
        ({"cups": True}, TypeError, "cups must be an integer, got bool"),
        ({"cups": None}, TypeError, "cups must be an integer, got NoneType"),
        ({"minutes": 0.0}, ValueError, "minutes must be more than 0, got 0.0"),
        ({"minutes": 60}, ValueError, "minutes must be less than 60, got 60"),
        ({"minutes": float("nan")}, ValueError, "minutes must be finite, got nan"),
        ({"minutes": "long"}, TypeError, "minutes must be a number, got str"),
        ({"sugar": -1.0}, ValueError, "sugar must be at least 0, got -1.0"),
        ({"times": (8, -1)}, ValueError, "times must be at least 0, got -1"),
        ({"biscuits": (5,)}, ValueError, r"biscuits must be 2 values, got 1: \(5,\)"),
        ({"times": 8}, TypeError, "times must be a tuple, got int"),
        ({"hot": 1}, TypeError, "hot must be a bool, got int"),
        ({"extras": "milk"}, TypeError, "extras must be a dict, got str"),
    ],
)
def test_values_are_checked_by_the_fields(change, error, message):
    with pytest.raises(error, match=f"^tea: {message}$"):
        Tea(**change)


def test_plain_values_make_the_same_settings_again():
    tea = Tea(times=[9], sugar=1, extras={"milk": True})
    assert tea.times == (9,)
    assert Tea(**tea.plain()) == tea
    assert tea.plain()["times"] == [9]
    assert Tea().extras is not Tea().extras


def test_numbers_of_numpy_become_those_of_python():
    """JSON has no numbers of NumPy."""
    tea = Tea(cups=np.int64(3), minutes=np.float32(0.5), times=[np.int8(9)], hot=np.bool_(False))
    of_python = Tea(cups=3, minutes=0.5, times=(9,), hot=False, biscuits=(1, 2))
    assert json.loads(json.dumps(tea.plain())) == of_python.plain()


def serve(*arguments):
    seen = []

    def body(named, *, place: str, saucers: int = 1):
        """Serves tea."""
        seen.append((named, place, saucers))

    app = typer.Typer()
    app.command()(command(Tea, body))
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    return result, seen


def test_only_what_is_named_is_given():
    result, seen = serve("garden")
    assert result.exit_code == 0, result.output
    assert seen == [({}, "garden", 1)]
    result, seen = serve(
        *("x", "--kind", "black", "--cups", 3, "--times", 7, "--times", 9, "--no-hot"),
        *("--add", "milk=2", "--add", "rum=dark", "--threads", 1, "--saucers", 4),
    )
    assert result.exit_code == 0, result.output
    named = {"kind": "black", "cups": 3, "times": (7, 9), "hot": False}
    assert seen == [({**named, "extras": {"milk": 2, "rum": "dark"}}, "x", 4)]
    assert Tea(**seen[0][0]).cups == 3


def test_help_is_that_of_the_fields():
    text = " ".join(serve("--help")[0].output.split())
    assert "Serves tea." in text
    assert all(word in text for word in ("Of leaves.", "--add", "--no-hot", "--threads"))
    assert "Nobody" not in text
    result, _ = serve("x", "--add", "milk")
    assert result.exit_code == 2
    assert "--add must be NAME=VALUE, got 'milk'" in result.output


@pytest.mark.parametrize("settings", [*(p.Settings for p in PROCEDURES), conversion.ConversionSettings])
def test_every_field_says_what_it_is(settings):
    for one in fields(settings):
        assert one.metadata["help"][-1] in ".:", one.name
    assert settings().plain().keys() == {one.name for one in fields(settings)}


def test_every_procedure_has_a_command_and_every_setting_an_option():
    names = {c.name: c.callback for c in cli.train.registered_commands}
    assert names.keys() == {p.name for p in PROCEDURES}
    for procedure in PROCEDURES:
        options = inspect.signature(names[procedure.name]).parameters
        wanted = {f.name for f in fields(procedure.Settings) if f.metadata["command"]}
        assert wanted <= options.keys()
        assert all(options[name].default is None for name in wanted)
