"""
BP-STDP: errors meet windows of spikes
======================================

A network that learns from the spikes and errors of each time step (:doc:`/bp_stdp`).

.. code-block:: shell

    snnfast train bp-stdp --dataset digits --epochs 8
"""

import tempfile
from pathlib import Path

import snnfast

folder = Path(tempfile.mkdtemp())
result = snnfast.procedure.bp_stdp("digits", epochs=8, out=folder)
pictures = [folder / "curves.png", folder / "raster.png"]
print(f"test accuracy {result.accuracy:.1%}")
