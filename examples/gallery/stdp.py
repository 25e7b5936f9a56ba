"""
STDP: digits without labels
===========================

A hundred neurons compete for images (:doc:`/stdp`). Each picture shows the weights of one neuron. The
accuracy grows with the number of images, while the neurons need fewer spikes for each.

.. code-block:: shell

    snnfast train stdp --dataset digits
"""

import tempfile
from pathlib import Path

import snnfast

folder = Path(tempfile.mkdtemp())
result = snnfast.procedure.stdp("digits", out=folder)
pictures = [folder / "receptive_fields.png", folder / "curves.png", folder / "confusion.png"]
print(f"test accuracy {result.accuracy:.1%}")
