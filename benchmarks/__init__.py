"""Benchmarks of snnfast; run them by ``python -m benchmarks``.

A file that measures has

- ``SHAPES``, and ``QUICK_SHAPES`` to see that it runs;
- ``FLOOR``, the name of what no implementation can be much faster than, and ``BASELINES``, the names of the others that
  run unless some are chosen;
- ``prepare(task)``, which gives the passes of one implementation (:class:`benchmarks.timing.Prepared`);
- ``verdicts(rows)``, if something is promised: it judges what was measured on the CPU in float32.
"""
