"""``scripts/gpu.py`` without a GPU: what runs, what continues, what is kept. CI rehearses it."""

import json
import re
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs/gpu.md").read_text()


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import gpu

    (tmp_path / "root/snnfast").mkdir(parents=True)
    (tmp_path / "root/snnfast/_C.so").touch()
    monkeypatch.setattr(gpu, "ROOT", tmp_path / "root")
    return gpu


@pytest.fixture
def call(gpu, tmp_path, monkeypatch):
    """One call over parts that are code; each takes 100 s of a clock, and returns what is kept."""
    clock = [0.0]

    def run(name, part, folder, left):
        clock[0] += 100
        return {"state": part, "why": name, "seconds": 100.0}

    def call(parts, seconds=1000.0, real=False):
        archive = tmp_path / "out/of/it.tar.gz"
        if not real:
            monkeypatch.setattr(gpu, "run", run)
            monkeypatch.setattr(gpu.time, "monotonic", lambda: clock[0])
        missing = gpu.call(parts, tmp_path, archive, gpu.time.monotonic() + seconds, False)
        found = gpu.results(tmp_path)
        assert missing == sum(found.get(name, {}).get("state") != "done" for name in parts)
        return {name: part["state"] for name, part in found.items()}

    return call


def test_a_call_ends_in_time_and_the_next_goes_on(call, capsys):
    parts = {"build": "done", "a": "failed", "b": "done", "c": "done"}
    assert call(parts, 150) == {"build": "done", "a": "failed"}
    assert "b: not begun; the next call goes on here" in capsys.readouterr().out
    assert call(parts) == parts
    assert "a:" not in capsys.readouterr().out  # a failed part is a result


def test_what_the_end_of_a_call_cuts_off_is_begun_again_once(call):
    parts = {"build": "done", "a": "cut off"}
    assert call(parts)["a"] == "cut off"
    assert call(parts)["a"] == "failed"


def test_without_a_build_nothing_runs(call, gpu, capsys):
    assert call({"build": "failed", "a": "done"}) == {"build": "failed"}
    assert "since nothing is built" in capsys.readouterr().out


def test_a_build_that_is_not_here_is_made_again(call, gpu, capsys):
    parts = {"build": "done", "a": "done"}
    call(parts)
    capsys.readouterr()
    (gpu.ROOT / "snnfast/_C.so").unlink()
    call(parts)
    assert "build: done" in capsys.readouterr().out


def code(gpu, text, **more):
    return gpu.Command([sys.executable, "-c", text], **more)


@pytest.mark.parametrize(
    ("text", "more", "state", "why"),
    [
        ("print('a'); print('last')", {}, "done", "last"),
        ("raise SystemExit(9)", {}, "failed", "exit code 9: the log is empty"),
        (
            "print('FAILED tests/a.py - boom'); print('1 failed'); exit(1)",
            {},
            "failed",
            "exit code 1: FAILED tests/a.py - boom",
        ),
        ("raise ValueError('no card')", {}, "failed", "exit code 1: ValueError: no card"),
        ("raise SystemExit(5)", {"good": (0, 5)}, "done", ""),
        (
            "print('== RACECHECK SUMMARY: 2 hazards displayed')",
            {},
            "failed",
            "exit code 0: == RACECHECK SUMMARY: 2 hazards displayed",
        ),
        ("print('== ERROR SUMMARY: 0 errors')", {}, "done", "== ERROR SUMMARY: 0 errors"),
        ("import time; time.sleep(60)", {"seconds": 0.5}, "failed", "not finished in 0 s"),
        ("import os; print(os.environ['A'])", {"environment": {"A": "b"}}, "done", "b"),
    ],
)
def test_how_a_part_ends(gpu, tmp_path, text, more, state, why):
    ended = gpu.run("a: b", code(gpu, text, **more), tmp_path, 60)
    assert (ended["state"], ended["why"]) == (state, why)
    assert (tmp_path / "logs/a-b.log").exists()


def test_a_part_ends_with_its_call_or_without_its_program(gpu, tmp_path):
    wait = code(gpu, "import time; time.sleep(60)")
    assert gpu.run("a", wait, tmp_path, 0.5)["state"] == "cut off"
    absent = gpu.run("a", gpu.Command(["/nothing/ncu"]), tmp_path, 60)
    assert absent["state"] == "failed"
    assert "/nothing/ncu" in absent["why"]


def test_results_are_packed_after_every_part(gpu, call, tmp_path):
    look = f"""
import tarfile
with tarfile.open({str(tmp_path / "out/of/it.tar.gz")!r}) as packed:
    print(packed.extractfile("gpu-results/logs/build.log").read(), packed.getnames())
"""
    parts = {"build": code(gpu, "print('a line')"), "look": code(gpu, look)}
    assert set(call(parts, real=True).values()) == {"done"}
    why = gpu.results(tmp_path)["look"]["why"]
    assert "a line" in why
    assert "gpu-results/results.json" in why
    with tarfile.open(tmp_path / "out/of/it.tar.gz") as packed:
        assert "gpu-results/logs/look.log" in packed.getnames()


def test_the_page_shows_states_tables_and_failures(gpu, tmp_path):
    done = {"state": "done", "why": "32x32768", "seconds": 7.0}
    failed = {"state": "failed", "why": "exit code 1", "seconds": 3.0}
    found = {"neurons: lif": done, "tests: ops": failed}
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/neurons-lif.log").write_text("progress\nshape     threads  pass\n32x32768  1  x\n")
    (tmp_path / "logs/tests-ops.log").write_text("a\nFAILED t.py::test_a - assert 1 == 2\nb\n")
    page = gpu.page(tmp_path, found)
    assert "| neurons: lif | done | 7 | 32x32768 |" in page
    assert "```text\nshape     threads  pass\n32x32768  1  x\n```" in page
    assert "```text\nFAILED t.py::test_a - assert 1 == 2\n```" in page
    (tmp_path / "results.json").write_text(json.dumps(found))
    docs = tmp_path / "gpu.md"
    docs.write_text(f"before\n{gpu.BEGIN}\nold\n{gpu.END}\nafter\n")
    gpu.write_docs(tmp_path, docs)
    assert docs.read_text() == f"before\n{gpu.BEGIN}\n{page}\n{gpu.END}\nafter\n"
    (tmp_path / "results.json").write_text(json.dumps(found | {"rehearsed": True}))
    with pytest.raises(ValueError, match="this was a rehearsal"):
        gpu.write_docs(tmp_path, docs)


def test_unknown_stages_are_refused(gpu, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "parts", gpu.rehearsal)
    with pytest.raises(SystemExit):
        gpu.main(["smok"])
    assert "no such stage: smok" in capsys.readouterr().err


def test_every_stage_is_documented_and_every_part_asks_for_kernels(gpu, monkeypatch):
    monkeypatch.setattr(gpu, "ROOT", ROOT)
    parts = gpu.parts()
    _, _, table = DOCS.partition("| stage | what |")
    rows = re.findall(r"^\| `(\w+)` \|", table.partition("\n\n")[0], re.M)
    assert rows == list(dict.fromkeys(name.partition(":")[0] for name in parts))
    assert DOCS.count(gpu.BEGIN) == DOCS.count(gpu.END) == 1
    for name, part in parts.items():
        if "pytest" in part.words:
            assert part.environment["SNNFAST_FAIL_WITHOUT_CUDA"] == "1"
        elif name != "build":
            assert {"benchmarks", "tests/every_op.py"} & set(part.words)  # both call require_kernels
    files = [word for name, part in parts.items() if name.startswith("tests") for word in part.words]
    for file in ROOT.glob("tests/**/test_*.py"):
        path = file.relative_to(ROOT).as_posix()
        assert files.count(path) == (not path.startswith("tests/gpu/"))
    names = list(parts)  # what takes longest to learn comes last
    small, large = (f"plasticity: diehl_cook 250x784x{n} cuda" for n in (400, 6400))
    assert names.index(small) < names.index(large)
