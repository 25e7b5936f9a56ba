"""Layer with sparse recurrent connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from snnfast import check
from snnfast.reference.plasticity import Online
from snnfast.reference.sparse_recurrent import no_input

from .delaying import FeedingBack
from .spiking import Spiking
from .synaptic import Synaptic

if TYPE_CHECKING:  # numpy, which it needs, is missing where the package is built
    from snnfast.connect import Connectivity, PoissonNoise

__all__ = ["SparseRecurrent"]


class SparseRecurrent(Synaptic, FeedingBack):
    """Neurons with sparse recurrent connections within the layer.

    All steps run in one call of :func:`snnfast.ops.sparse_recurrent`. The state, ``stateful`` and ``return_v_seq`` are
    those of ``neuron``; the last spikes, for as many steps as the longest delay has, are part of the state. The state
    dict has the weights and a fingerprint of the connectivity, not the connectivity itself.

    Args:
        neuron: the neurons, a spiking layer of this package such as :class:`snnfast.nn.LIF`; call this layer
            instead of ``neuron`` itself.
        connectivity: the synapses, of :mod:`snnfast.connect`, among the neurons of a sample, the last dimension of
            ``x`` ``[T, ..., features]``. If they have several inputs, from ``features`` to ``inputs * features``: a
            synapse to ``r * features + i`` reaches input ``r`` of neuron ``i``.
        weight: a number; a tensor ``[synapses]`` in the order of ``connectivity.edges()``, or ``[features]``, one for
            each presynaptic neuron; or an ``nn.Parameter`` of such a shape, which is learned. None: a parameter, normal
            with a deviation of 1 over the root of the mean number of synapses of a neuron.

    Attributes:
        weight: the parameter, buffer or number.
        past: the spikes that have not arrived yet, ``[P, ..., features]``, the latest last; None at rest.
        plasticity: in training mode changes ``weight`` at every step, a :class:`snnfast.plasticity.Online`; None:
            nothing does. :meth:`snnfast.learning.STDP.listen` sets it.

    Raises:
        TypeError, ValueError: for arguments of wrong type, shape, dtype, device or range.
    """

    op = "sparse_recurrent"
    neuron: Spiking
    max_delay = 0.0
    d = None
    plasticity: Online | None = None

    def __init__(self, neuron: Spiking, connectivity: Connectivity, *, weight: float | Tensor | None = None) -> None:
        layer = type(self).__name__
        if not isinstance(neuron, Spiking):
            raise TypeError(
                f"{layer}: neuron must be a layer of neurons that fire, such as LIF(), got {check.kind(neuron)}"
            )
        if neuron.return_v_seq and type(neuron).forward is not Spiking.forward:
            raise ValueError(
                f"{layer}: neuron must have return_v_seq=False: its membranes are not those of its op, which runs here"
            )
        super().__init__()
        self._connect(connectivity, weight)
        c = connectivity
        inputs = neuron.num_inputs
        if c.n_post != inputs * c.n_pre:
            wanted = "themselves" if inputs == 1 else f"their {inputs} inputs, {c.n_pre} -> {inputs * c.n_pre}"
            raise ValueError(
                f"{layer}: connectivity must connect neurons with {wanted}, got {c.n_pre} -> {c.n_post} neurons"
            )
        self.neuron = neuron

    @property
    def features(self) -> int:
        """Return the number of neurons of a sample."""
        return self.connectivity.n_pre

    def forward(
        self,
        x: Tensor | tuple[Tensor, ...] | None,
        *,
        num_steps: int | None = None,
        batch: int | None = None,
        noise: PoissonNoise | None = None,
    ) -> Any:
        """Input current ``[T, ..., features]`` -> spikes of the same shape and dtype; of several inputs a tuple.

        ``x=None`` is no input for ``num_steps`` steps of ``batch`` samples; :func:`snnfast.ops.sparse_recurrent`
        explains ``noise``, of which the next part of a sequence takes ``noise.after(T)``. With ``return_v_seq`` of the
        neurons ``(spikes, v_seq)``.
        """
        neuron, layer = self.neuron, type(self).__name__
        x = no_input(layer, x, self.weight, self.features, num_steps, batch, neuron.num_inputs)
        first: Any = x[0] if isinstance(x, tuple) and x else x
        check.sequence(layer, first)
        if first.dim() < 2 or first.shape[-1] != self.features:
            raise ValueError(f"{layer}: x must have shape [T, ..., {self.features}], got {list(first.shape)}")
        (past,) = self._load_states(first)
        if past is not None:
            past = past.to(first.dtype)
        learner = self.plasticity if self.training else None
        weight = self._weight_for(first) if learner is None else self.weight  # which changes in place
        arguments = {"noise": noise, "plasticity": learner, **neuron._op_arguments(first)}
        spikes, *after = neuron.sparse_recurrent(x, weight, self.connectivity, past, **arguments)
        if self.stateful:
            self._keep_past(past, spikes, self._longest())
        return neuron._finish(spikes, *after)

    def _longest(self) -> int:
        return self.connectivity.longest
