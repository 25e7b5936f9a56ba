"""The documentation is true: its code runs, its links lead somewhere, every environment variable is listed."""

import re
import runpy
import shlex
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
import typer

import snnfast
from snnfast_zoo import cli

ROOT = Path(__file__).parents[2]
FOLDERS = ("*.md", "docs/**/*.md", "csrc/*.md", "benchmarks/notes/*.md")
PAGES = sorted(page for pages in FOLDERS for page in ROOT.glob(pages))
WITH_CODE = [p for p in PAGES if "```python\n" in p.read_text()]
COMMANDS = ("pip install . && snnfast demo", 'pip install -e ".[test]" && pytest -n auto')


def name(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", WITH_CODE, ids=name)
@pytest.mark.filterwarnings("ignore::snnfast.backend.BackendWarning")
def test_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.S | re.M))
    exec(compile(code, str(page), "exec"), {"__name__": "page"})


def test_commands_of_the_pages_have_options_that_exist():
    pages = [p.read_text().replace("\\\n", " ") for p in PAGES if p.name != "CHANGELOG.md"]
    inline = r"snnfast ((?:train|assign|infer) [^\n`#|]*--[^\n`#|]*)"
    whole = r"^ *snnfast (convert [^\n`#|]*)"
    lines = re.findall(f"{inline}|{whole}", "\n".join(pages), re.M)
    assert len(lines) > 50
    whole = typer.main.get_command(cli.app)
    for line in lines:
        words, command = shlex.split("".join(line)), whole
        while hasattr(command, "commands"):
            command = command.commands[words.pop(0)]
        command.make_context("", words)


def test_the_api_reference_has_every_public_name():
    """Pages of a module's names follow from its __all__; the modules are listed."""
    listed = re.findall(r"^   snnfast\.(\S+)$", (ROOT / "docs/api.rst").read_text(), re.M)
    # the other names of snnfast.model are those of snnfast.papers
    assert {n for n in listed if "." not in n} == set(snnfast.__all__) - {"model"}
    assert {n.partition(".")[0] for n in listed} == set(snnfast.__all__)
    for name in snnfast.__all__:
        value = getattr(snnfast, name)
        assert not isinstance(value, types.ModuleType) or value.__all__, name


def anchors(page):
    titles = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", t.lower()).strip().replace(" ", "-") for t in titles}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{link}: no such heading"


def test_every_environment_variable_is_listed():
    sources = ["setup.py", "CMakeLists.txt", ".ci/run", ".ci/steps", ".ci/nightly"]
    for folder in ("csrc", "snnfast", "snnfast_zoo", "tests", "benchmarks", "scripts", "examples"):
        for suffix in ("py", "h", "cpp", "cu", "cuh"):
            sources += [name(p) for p in (ROOT / folder).rglob(f"*.{suffix}")]
    read = re.compile(r"""(?:getenv|environ(?:\.get|\.setdefault)?|env\.get|switch|choice|setenv)\W+(SNNFAST_\w+)""")
    found = {v for s in sources for v in read.findall((ROOT / s).read_text())}
    listed = set(re.findall(r"^\| `(SNNFAST_\w+)", (ROOT / "docs/build.md").read_text(), re.M))
    assert {"SNNFAST_BACKEND", "SNNFAST_CUDA", "SNNFAST_CPU_ISA"} <= found
    assert found <= listed, f"not in docs/build.md: {found - listed}"
    used = "\n".join((ROOT / s).read_text() for s in sources)
    assert not [v for v in listed if v not in used]


@pytest.mark.parametrize("command", COMMANDS)
def test_ci_runs_the_commands_of_the_readme(command):
    assert command in (ROOT / "README.md").read_text()
    script = "".join((ROOT / ".ci" / name).read_text() for name in ("run", "steps")).replace("--quiet ", "")
    for part in command.split(" && "):
        assert part in script


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= 900


@pytest.mark.parametrize("name", ["run", "nightly"])
def test_ci_script_is_executable_bash(name):
    script = ROOT / ".ci" / name
    assert script.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
    assert "set -euo pipefail" in (ROOT / ".ci/steps").read_text()


def test_tables_are_made_from_the_results(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tables.py", "--check"])
    runpy.run_path(str(ROOT / "scripts/tables.py"), run_name="__main__")


def test_op_pages_are_titled_one_way():
    for path in (ROOT / "docs/ops").glob("*.md"):
        title = path.read_text().partition("\n")[0]
        assert re.fullmatch(r"# `\w+`(, `\w+`)*: [^.`]{5,50}", title), f"{path.name}: {title}"
