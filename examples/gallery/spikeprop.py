"""
SpikeProp: times of first spikes
================================

A flower is coded by spike times; its class is the output that fires first (:doc:`/spikeprop`). The figures show the
spikes for one flower before and after training, and the membranes of the three outputs.

.. code-block:: shell

    snnfast train spikeprop --dataset iris --epochs 20
"""

import tempfile
from pathlib import Path

import snnfast

folder = Path(tempfile.mkdtemp())
result = snnfast.procedure.spikeprop("iris", epochs=20, out=folder)
pictures = [folder / "spikes.png", folder / "potentials.png", folder / "curves.png"]
print(f"test accuracy {result.accuracy:.1%}")
