"""Kernels that change their arguments in place."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snnfast.calls.call import Call, flatten


def call_changing(kernel: Any, call: Call, *changed: Tensor) -> Any:
    """What ``kernel`` gives for ``call``; a backward pass that needs the tensors it has ``changed`` as they were says so."""
    outputs = kernel(*flatten(call))
    if not torch.compiler.is_compiling():  # whatever is compiled does it itself
        for tensor in changed:
            if not tensor.is_inference():
                torch.autograd.graph.increment_version(tensor)
    return outputs
