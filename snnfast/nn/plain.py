"""Copies of networks for code that reads the layers instead of calling them."""

from __future__ import annotations

import copy
import inspect
from typing import Any

from torch import nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from snnfast import check

from .folded import unfold
from .hooks import counts_steps, has_own_forward
from .quantize import Quantized
from .recomputed import Recomputed
from .sequential import Sequential
from .state import without_graphs

__all__ = ["plain_copy", "refuse_hooks", "takes_one"]


def takes_one(function: str, net: Any) -> None:
    """Refuse values other than modules, and modules that take more than one argument.

    Raises:
        TypeError, ValueError: with the name of the ``function`` whose argument ``net`` is.
    """
    check.module(function, "net", net)
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    wanted = [
        p.name for p in inspect.signature(net.forward).parameters.values() if p.kind in kinds and p.default is p.empty
    ]
    if len(wanted) > 1:
        raise ValueError(
            f"{function}: net must take its input [T, B, ...] alone, but a {type(net).__name__} takes "
            f"{' and '.join(wanted)}{'; give net.sequential()' if hasattr(net, 'sequential') else ''}"
        )


def plain_copy(net: nn.Module) -> nn.Module:
    """Copy a network in evaluation mode, with its weights as parameters: not pruned, normed or parametrised.

    Layers from :func:`snnfast.nn.quantize` get an attribute ``quantized``: integers and scales of the weight.
    """
    net = copy.deepcopy(net, without_graphs(net)).eval()
    unfold(net)
    for module in list(net.modules()):
        if type(module) in (Recomputed, Sequential):  # a copy of this kind takes no lengths
            module.__class__ = nn.Sequential
        if parametrize.is_parametrized(module):
            # PyTorch's removal deletes the weight from the class, which the copied network shares.
            parametrizations: Any = module.parametrizations
            names = list(parametrizations)
            values = [getattr(module, name).detach().clone() for name in names]
            if "weight" in names and type(parametrizations.weight[0]) is Quantized:
                module.__dict__["quantized"] = parametrizations.weight[0].on_grid(parametrizations.weight.original)
            module.__class__ = parametrize.type_before_parametrizations(module)
            del module._modules["parametrizations"]
            for name, value in zip(names, values):
                module._parameters[name] = nn.Parameter(value, value.is_floating_point())
        for hook in list(module._forward_pre_hooks.values()):
            if isinstance(hook, prune.BasePruningMethod):
                _untie(module, f"{hook._tensor_name}_orig")
                prune.remove(module, hook._tensor_name)
            elif isinstance(hook, WeightNorm):
                remove_weight_norm(module, hook.name)
            elif isinstance(hook, SpectralNorm):
                remove_spectral_norm(module, hook.name)
    return net


def _untie(module: nn.Module, name: str) -> None:
    """Replace the parameter by a copy: the next step writes into it, and other modules may share it."""
    value = module.get_parameter(name)
    module._parameters[name] = nn.Parameter(value.detach().clone(), value.requires_grad)


def refuse_hooks(function: str, net: nn.Module) -> None:
    """Remove hooks that only observe, such as a monitor's, from ``net``, and refuse others.

    Raises:
        ValueError: for a layer with hooks or a forward of its own, by name.
    """
    for name, module in net.named_modules():
        for attached in (module._forward_hooks, module._forward_pre_hooks):
            for key in [k for k, hook in attached.items() if counts_steps(hook)]:
                del attached[key]
        if module._forward_hooks or module._forward_pre_hooks or has_own_forward(module):
            subject = f"{name or 'net'}, a {type(module).__name__},"
            raise ValueError(
                f"{function}: {subject} has a forward hook or a forward of its own, which would be lost; remove it"
            )
