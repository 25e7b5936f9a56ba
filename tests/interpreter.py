"""Separate interpreters for code that needs one, without the seconds for importing PyTorch.

Each is a fork of a server, one per process of tests, that has only imported PyTorch: snnfast is imported anew, in the
environment of the code.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["torch"])


def execute(code, arguments, environment, cwd, outputs):
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for number, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    sys.argv = ["-c", *map(str, arguments)]
    exec(compile(code, "<code>", "exec"), {"__name__": "__main__"})


class Interpreter:
    """Run ``code`` like ``python -c`` in another process; a variable of ``environment`` that is None is removed."""

    def __init__(self, code, *arguments, cwd=None, **environment):
        self.code, self.folder = code, tempfile.TemporaryDirectory()
        self.outputs = [Path(self.folder.name) / name for name in ("stdout", "stderr")]
        variables = {k: v for k, v in {**os.environ, **environment}.items() if v is not None}
        task = (code, arguments, variables, cwd or Path.cwd(), self.outputs)
        self.process = SERVER.Process(target=execute, args=task)
        self.process.start()

    def wait(self, check=True, timeout=300):
        self.process.join(timeout)
        self.process.kill()
        self.process.join()
        said = [path.read_text() if path.exists() else "" for path in self.outputs]
        self.folder.cleanup()
        done = subprocess.CompletedProcess(self.code, self.process.exitcode, *said)
        assert not check or done.returncode == 0, done.stderr
        return done


def python(code, *arguments, check=True, **options):
    return Interpreter(code, *arguments, **options).wait(check)


def program(script):
    """Return code that runs a file as a program."""
    start = f"import runpy, sys; sys.path.insert(0, {str(Path(script).parent)!r}); "
    return start + f"runpy.run_path({str(script)!r}, run_name='__main__')"
