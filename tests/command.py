"""The command ``snnfast``, called by tests in their own process."""

from typer.testing import CliRunner

from snnfast import cli


def call(*arguments, code=0):
    """What the command writes with these arguments; it must end with ``code``."""
    result = CliRunner().invoke(cli.app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.output
