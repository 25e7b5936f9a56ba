"""Benchmarks of snnfast; run them by ``python -m benchmarks``.

The module of a benchmark has

- ``SHAPES``, and ``QUICK_SHAPES`` for a test run;
- ``FLOOR``, the name of a lower bound of the time, and ``BASELINES``, the names of the implementations that run by
  default;
- ``prepare(task)``, which returns the passes of one implementation (:class:`benchmarks.timing.Prepared`);
- ``ENVIRONMENT``, if its processes need other variables than :data:`benchmarks.timing.KEEP_FREED`, and
  ``plot(path, rows, title)``, if it has a plot of its own;
- ``verdicts(rows)``, if it has limits, which compares them with measurements on the CPU in float32.
"""
