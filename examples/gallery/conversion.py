"""
Conversion: a ReLU network as a spiking one
===========================================

Each ReLU becomes integrate-and-fire neurons (:doc:`/conversion`). The report compares rates with
activations layer by layer and shows how the accuracy grows with the steps.

.. code-block:: shell

    snnfast train diehl2015 --dataset digits --out ann
    snnfast convert ann
"""

import tempfile
from pathlib import Path

import snnfast

ann = Path(tempfile.mkdtemp())
snnfast.procedure.diehl2015("digits", out=ann)
result = snnfast.procedure.convert(ann)
pictures = [result.out / "report.png"]
