"""BindsNET: its rule ``PostPre`` without a network, and its model of Diehl and Cook."""

from __future__ import annotations

from collections.abc import Callable

import torch
from bindsnet.learning import PostPre
from bindsnet.network.nodes import Input
from bindsnet.network.topology import Connection
from torch import Tensor

from benchmarks.diehl_cook import INHIBITION, NORM, DiehlCookNetwork, settings
from benchmarks.stdp import LR_POST, LR_PRE, STEP, TAU

NOTE = "weakens before it strengthens, with the weight in between"


def stdp() -> dict[str, Callable[[Tensor, Tensor, Tensor], object]]:
    def learn(w: Tensor, pre: Tensor, post: Tensor) -> None:
        source, target = (Input(x.shape[2], traces=True, tc_trace=TAU) for x in (pre, post))
        connection = Connection(
            source,
            target,
            w=w.T.clone(),
            update_rule=PostPre,
            nu=(LR_PRE, LR_POST),
            reduction=torch.sum,
            wmin=0.0,
            wmax=1.0,
        )
        for layer in (source, target):
            layer.compute_decays(1.0)
            layer.set_batch_size(pre.shape[1])
        for s_pre, s_post in zip(pre, post):
            source.forward(s_pre)
            target.forward(s_post)
            connection.update(learning=True)
        w.copy_(connection.w.T)

    return {STEP: learn}


def diehl_cook(network: DiehlCookNetwork, spikes: Tensor) -> Callable[[], object]:
    """BindsNET's model of the paper, with BindsNET's rule, from the same weights and thresholds."""
    from bindsnet.models import DiehlAndCook2015

    outputs, inputs = network.w.shape
    model = DiehlAndCook2015(
        n_inpt=inputs,
        n_neurons=outputs,
        exc=22.5,
        inh=INHIBITION,
        dt=1.0,
        norm=NORM * inputs,
        theta_plus=settings(outputs)[1],
        inpt_shape=(inputs,),
    )
    model.connections["X", "Ae"].pipeline[0].value.data.copy_(network.w.T)
    model.layers["Ae"].theta.data.copy_(network.theta)
    x = spikes[:, None]

    def present() -> None:
        model.run({"X": x}, time=len(x))
        model.reset_state_variables()

    return present
