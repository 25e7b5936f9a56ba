"""The stages of ``scripts/gpu.py``, one file each.

A stage is ``parts(job)``: named pieces of work in the order in which they run, each of which gives what JSON can hold.
"""
