"""The benchmarks' neuron and plasticity in other libraries and in plain PyTorch, one file each.

Each file has ``lif()``, which gives a callable ``x [T, B, ...] -> spikes [T, B, ...]`` from a
membrane of 0, with the dynamics of ``snnfast.ops.lif(x, tau=2.0, surrogate="atan")``::

    h = v + (x - v) / 2;  s = h >= 1;  v = 0 where s else h;  ds/dh = 1 / (1 + (pi (h - 1))^2)

Or it has ``stdp()``, which gives by pass callables that change ``w [N_post, N_pre]`` by spikes ``pre [T, B, N_pre]``
and ``post [T, B, N_post]``, with the pair rule and the constants of ``benchmarks/stdp.py``.

Or it has ``diehl_cook(network, spikes [T, I])``, which gives a callable that presents the spikes and learns.

Or it has ``bp_stdp()``, which gives by pass callables that change ``w [O, I]`` by spikes ``pre [T, B, I]`` and errors
``[T, B, O]``; or ``bp_stdp_network(task)``, which gives what ``benchmarks/bp_stdp_network.py`` is to time.

Or it has ``conversion(x, model, calibration, steps)``, which gives a callable that runs a ReLU network on ``x`` as a
spiking one and returns the mean scores.

``NOTE`` says where the library cannot do exactly this. A file whose library is not installed fails
to import.
"""
