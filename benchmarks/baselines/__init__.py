"""The benchmarks' neurons, plasticity and networks in other libraries and in plain PyTorch, one file each.

A file has some of these functions:

- ``lif()`` gives a callable ``x [T, B, ...] -> spikes [T, B, ...]`` from a membrane of 0, with the dynamics of
  ``snnfast.ops.lif(x, tau=2.0, surrogate="atan")``::

      h = v + (x - v) / 2;  s = h >= 1;  v = 0 where s else h;  ds/dh = 1 / (1 + (pi (h - 1))^2)

- ``recurrent(weight)`` gives a callable ``x [T, B, H], weight [H, H] -> spikes`` of such neurons, to whose input the
  weighted spikes of the step before are added.
- ``stdp()`` gives by pass callables that change ``w [N_post, N_pre]`` by spikes ``pre [T, B, N_pre]`` and
  ``post [T, B, N_post]``, with the pair rule and the constants of ``benchmarks/stdp.py``.
- ``bp_stdp()`` gives by pass callables that change ``w [O, I]`` by spikes ``pre [T, B, I]`` and errors ``[T, B, O]``;
  ``bp_stdp_network(task)`` what ``benchmarks/bp_stdp_network.py`` is to time.
- ``diehl_cook(network, spikes [T, I])`` gives a callable that presents the spikes and learns;
  ``diehl_cook_conductance`` the same.
- ``spikeprop(t_in, w, delays, *, tau, t_max)`` gives first spike times on a grid.
- ``network(task)`` gives a network of ``benchmarks/network.py``, how it runs, and its neurons.
- ``conversion(x, model, calibration, steps)`` gives a callable that runs a ReLU network on ``x`` as a spiking one and
  returns the mean scores.
- ``steps(source, frames, beta)`` gives a callable that runs the network of ``benchmarks/export_c.py`` by single steps.
- ``ZOO`` has the networks of ``benchmarks/zoo.py`` by name, made when called.

``NOTE`` says where the library cannot do exactly this. A file whose library is not installed fails to import.
"""
