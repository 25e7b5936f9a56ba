"""The command ``snnfast``, called in the process of the test."""

from typer.testing import CliRunner

from snnfast_zoo import cli


def call(*arguments, code=0):
    """Run the command with these arguments, check that it exits with ``code``, and return its output."""
    result = CliRunner().invoke(cli.app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.output
