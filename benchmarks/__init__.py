"""Benchmarks of snnfast; run them by ``python -m benchmarks``.

A file that measures has

- ``SHAPES``, and ``QUICK_SHAPES`` to see that it runs;
- ``FLOOR``, the name of what no implementation can be much faster than, and ``BASELINES``, the names of the others that
  run unless some are chosen;
- ``prepare(task)``, which gives the passes of one implementation (:class:`benchmarks.timing.Prepared`);
- ``ENVIRONMENT``, if its processes are to have other variables than :data:`benchmarks.timing.KEEP_FREED`, and
  ``plot(path, rows, title)``, if it draws its own picture;
- ``verdicts(rows)``, if something is promised: it judges what was measured on the CPU in float32.
"""
