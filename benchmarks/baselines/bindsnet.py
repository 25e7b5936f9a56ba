"""BindsNET: its rule ``PostPre``, without a network around it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from bindsnet.learning import PostPre
from bindsnet.network.nodes import Input
from bindsnet.network.topology import Connection
from torch import Tensor

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
