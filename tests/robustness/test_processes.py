"""Child processes."""

from pathlib import Path

from interpreter import program, python

import snnfast

CHILD = """
import multiprocessing, sys, torch, snnfast

def work(queue):
    torch.set_num_threads(1)  # as the workers of torch.utils.data.DataLoader do
    x = torch.ones(20, 50_000)
    queue.put(snnfast.ops.lif(x, tau=1.5)[0].sum().item())

if __name__ == "__main__":
    here = snnfast.ops.lif(torch.ones(20, 50_000), tau=1.5)[0].sum().item()
    context = multiprocessing.get_context(sys.argv[1])
    queue = context.Queue()
    child = context.Process(target=work, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == here
    child.join()
"""


def test_a_spawned_process_works_after_the_parent_has_used_threads(tmp_path):
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    python(program(script), "spawn", PYTHONPATH=str(Path(snnfast.__file__).parents[1]))


def test_a_fork_works_after_the_parent_has_used_threads():
    python(CHILD, "fork", PYTHONPATH=str(Path(snnfast.__file__).parents[1]))
