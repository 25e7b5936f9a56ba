"""
Sequences: recurrent neurons
============================

Were two spikes, far apart in time, on the same input? Recurrent neurons with adaptation learn it (:doc:`/sequence`).

.. code-block:: shell

    snnfast train sequence --task xor --steps 40 --samples 4000 --epochs 6
"""

import tempfile
from pathlib import Path

import snnfast

folder = Path(tempfile.mkdtemp())
result = snnfast.procedure.sequence("xor", num_steps=40, samples=4000, epochs=6, out=folder)
pictures = [folder / "curves.png"]
print(f"test accuracy {result.accuracy:.1%}")
