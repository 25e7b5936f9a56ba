"""
STDP: digits without labels
===========================

A hundred neurons compete for images (:doc:`/stdp`). Each picture is what one of them has learned to answer. The
accuracy grows over the images seen, while neurons answer with fewer spikes.

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
