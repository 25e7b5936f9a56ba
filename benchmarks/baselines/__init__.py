"""Neurons, plasticity and networks of the benchmarks in other libraries and in plain PyTorch, one file each.

A file has some of these functions:

- ``lif()`` returns a callable ``x [T, B, ...] -> spikes [T, B, ...]`` from a membrane of 0, with the dynamics of
  ``snnfast.ops.lif(x, tau=2.0, surrogate="atan")``::

      h = v + (x - v) / 2;  s = h >= 1;  v = 0 where s else h;  ds/dh = 1 / (1 + (pi (h - 1))^2)

- ``recurrent(weight)`` returns a callable ``x [T, B, H], weight [H, H] -> spikes`` of such neurons, to whose input the
  weighted spikes of the previous step are added.
- ``stdp()`` returns by pass callables that change ``w [N_post, N_pre]`` by spikes ``pre [T, B, N_pre]`` and
  ``post [T, B, N_post]``, with the pair rule and the constants of ``benchmarks/stdp.py``.
- ``bp_stdp()`` returns by pass callables that change ``w [O, I]`` by spikes ``pre [T, B, I]`` and errors ``[T, B, O]``;
  ``bp_stdp_network(task)`` returns the passes of ``benchmarks/bp_stdp_network.py``.
- ``diehl_cook(network, spikes [T, I])`` returns a callable that presents the spikes and learns;
  ``diehl_cook_conductance`` the same.
- ``spikeprop(t_in, w, delays, *, tau, t_max)`` returns first spike times on a grid.
- ``network(task)`` returns a network of ``benchmarks/network.py``, a function that runs it, and its neurons.
- ``conversion(x, model, calibration, steps)`` returns a callable that runs a ReLU network on ``x`` as a spiking one and
  returns the mean scores.
- ``steps(source, frames, beta)`` returns a callable that runs the network of ``benchmarks/export_c.py`` by single
  steps.
- ``ZOO`` has functions that make the networks of ``benchmarks/zoo.py``, by name.

``NOTE`` describes deviations of the library. A file whose library is not installed fails to import.
"""
