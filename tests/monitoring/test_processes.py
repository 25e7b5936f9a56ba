"""Two processes of DistributedDataParallel count together what one counts alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

import snnfast
from snnfast.model import Wu2018

PROCESS = """
import json, sys, torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
import snnfast
from snnfast.model import Wu2018

torch.set_num_threads(1)
rank = int(sys.argv[1])
distributed.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2)
torch.manual_seed(0)
net = DistributedDataParallel(Wu2018(3, input_shape=(1, 8, 8), encoding="direct"))
images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
with snnfast.monitor(net) as watching:
    net(images[rank::2]).sum().backward()
print(json.dumps(watching.reduce().activity().as_dict()))
distributed.barrier()
distributed.destroy_process_group()
"""


def test_two_processes_count_as_one(tmp_path):
    (tmp_path / "process.py").write_text(PROCESS)
    package = str(Path(snnfast.__file__).parents[1])
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": package}
    processes = [
        subprocess.Popen(
            [sys.executable, tmp_path / "process.py", str(rank), str(tmp_path / "store")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for rank in range(2)
    ]
    try:
        outputs = [p.communicate(timeout=120) for p in processes]
    finally:
        for p in processes:
            p.kill()
    torch.manual_seed(0)
    net = Wu2018(3, input_shape=(1, 8, 8), encoding="direct")
    with snnfast.monitor(net) as watching:
        net(torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1)))
    alone = json.loads(json.dumps(watching.activity().as_dict()))
    assert alone["samples"] == 6
    for out, errors in outputs:
        assert out.startswith("{"), errors
        assert json.loads(out) == alone
