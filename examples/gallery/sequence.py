"""
Sequences: recurrent neurons
============================

Recurrent neurons with adaptation learn whether two spikes, far apart in time, came on the same input
(:doc:`/sequence`).

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
