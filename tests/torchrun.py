"""Processes of ``torchrun``, which a test starts."""

import os
import subprocess
import sys


def torchrun(size, *words, folder):
    """Start ``size`` processes of a program, ``words``, in ``folder``; return the process of torchrun."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONUNBUFFERED": "1"}
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", size, *words]
    return subprocess.Popen(
        [str(word) for word in start],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def children(process):
    """Return the ids of the processes that torchrun started."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]
