"""
STBP: surrogate gradients
=========================

A convolutional spiking network, trained through all time steps (:doc:`/stbp`), and the spikes of its last hidden
layer for one image.

.. code-block:: shell

    snnfast train stbp --dataset digits --epochs 5
"""

import tempfile
from pathlib import Path

import snnfast

folder = Path(tempfile.mkdtemp())
result = snnfast.procedure.stbp("digits", epochs=5, out=folder)
pictures = [folder / "raster.png", folder / "curves.png"]
print(f"test accuracy {result.accuracy:.1%}")
