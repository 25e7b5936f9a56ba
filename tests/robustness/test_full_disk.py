"""A full disk: every function that writes a file names it in the error, and leaves no file behind."""

import sys

import interpreter
import pytest

from snnfast.files.atomic import replacing

if sys.platform != "linux":
    pytest.skip("files of a limited size stand for a full disk as on Linux", allow_module_level=True)

# Writing beyond the size limit raises an OSError, like a full disk.
LIMITED = """
import resource, signal, warnings
import numpy as np, torch
from pathlib import Path
import snnfast
from snnfast import data, nir
from snnfast_zoo.train import checkpoint
from snnfast.nn import LIF, Rate, SpikeLinear, Time
warnings.simplefilter("ignore")
net = torch.nn.Sequential(Time(SpikeLinear(300, 300)), LIF(), Time(SpikeLinear(300, 300)), Rate())
folder = Path({folder!r})
for i in range(3):
    target = folder / "events" / "Train" / str(i) / "a.bin"
    target.parent.mkdir(parents=True)
    target.write_bytes(bytes([5, 5, 0x80, 0, 9]) * 10)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, resource.RLIM_INFINITY))
before = set(folder.rglob("*"))
try:
    {write}
except OSError as error:
    print(error)
print(sorted(str(p) for p in set(folder.rglob("*")) - before if p.is_file()))
"""


@pytest.mark.parametrize(
    ("write", "name"),
    [
        ('checkpoint.write_checkpoint(folder / "c.pt", {"kind": "a", "w": torch.zeros(90000)})', "c.pt"),
        ('data.nmnist(folder / "events", num_steps=30, cache=folder / "cache")', "nmnist-Train"),
        ('snnfast.export_c(net, folder / "program")', "snn.c"),
        ('nir.write(folder / "net.nir", net[:2], (300,), dt=1.0, scheme="euler")', "net.nir"),
    ],
)
def test_a_full_disk_is_named_with_the_file(write, name, tmp_path):
    if name == "net.nir":
        pytest.importorskip("nir")
    code = LIMITED.replace("{folder!r}", repr(str(tmp_path))).replace("{write}", write)
    result = interpreter.python(code, check=False)
    assert result.returncode == 0, result.stderr
    message, remaining = result.stdout.splitlines()
    assert name in message
    assert "File too large" in message
    assert ".new'" not in remaining
    assert name not in remaining


def test_an_error_of_the_disk_gets_the_path_once(tmp_path):
    text = r"^\[Errno 28\] No space left on device: '.*target.json'$"
    with pytest.raises(OSError, match=text), replacing(tmp_path / "target.json"):
        raise OSError(28, "No space left on device")
    with pytest.raises(FileNotFoundError, match="other"), replacing(tmp_path / "target.json"):
        raise FileNotFoundError(2, "No such file or directory", "other")
