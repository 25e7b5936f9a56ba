"""A spiking layer with the pooling of its spikes: :class:`Pooled` and :class:`PooledSequential`."""

from __future__ import annotations

from collections import deque
from typing import Any

from torch import Tensor, nn
from torch.autograd import forward_ad

from snnfast import check, ops
from snnfast.ops.autograd import traced
from snnfast.ops.neuron import pooled

from .hooks import hooked
from .keys import keys_of
from .spiking import Spiking
from .time import Time, window

__all__ = ["Pooled"]


class Pooled(nn.Sequential):
    """Neurons and the pooling of their spikes in one pass: ``Pooled(neuron, pool)`` for ``neuron, Time(pool)``.

    On the CPU the kernel takes a few rows of the images through all steps, and pools their spikes while they are in a
    cache. The forward pass writes only the pooled values to memory, no spikes; the backward pass writes no gradients of
    spikes. Spikes, states and gradients are those of the two layers bit for bit.

    The single pass needs images for which :func:`snnfast.ops.pool2d` has a kernel (channels-last, as after
    ``Time(nn.Conv2d(...))``), and parameters that are the same for all images. In all other cases, with hooks on one of
    the two, and under ``torch.compile`` and the like, the two layers run one after the other. The keys of its state
    dict are those of ``neuron``.

    Args:
        neuron: a spiking layer, with ``return_v_seq=False``.
        pool: ``nn.MaxPool2d`` or ``nn.AvgPool2d``, or one of them in :class:`snnfast.nn.Time`.

    Raises:
        TypeError, ValueError: if they are anything else.
    """

    def __init__(self, neuron: Spiking, pool: nn.Module) -> None:
        if not isinstance(neuron, Spiking):
            raise TypeError(f"Pooled: neuron must be a spiking layer of snnfast.nn, got {check.kind(neuron)}")
        if neuron.return_v_seq:
            raise ValueError("Pooled: neuron must have return_v_seq=False: membranes are not pooled")
        layer = pool.layer if isinstance(pool, Time) else pool
        if not isinstance(layer, (nn.MaxPool2d, nn.AvgPool2d)):
            raise TypeError(f"Pooled: pool must be nn.MaxPool2d or nn.AvgPool2d, got {check.kind(layer)}")
        super().__init__(neuron, pool if isinstance(pool, Time) else Time(pool))
        keys_of(self, "0")

    def forward(self, x: Tensor) -> Any:
        """Input current ``[T, B, C, H, W]`` -> pooled spikes ``[T, B, C, H // kernel_h, W // kernel_w]``."""
        neuron, time = self
        return _pooled(neuron, time, x)

    def step(self, x: Tensor) -> Tensor:
        """One step: input current ``[B, C, H, W]`` -> pooled spikes ``[B, C, H // kernel_h, W // kernel_w]``."""
        neuron: Any = self[0]
        pooled: Tensor = self[1](neuron.step(x)[None])[0]
        return pooled

    # The neuron's states and settings are attributes of this layer, too.

    def __setattr__(self, name: str, value: Any) -> None:
        neuron = self.__dict__.get("_modules", {}).get("0")
        is_local = name.startswith("_") or name in self.__dict__ or hasattr(type(self), name)
        if neuron is None or is_local or not hasattr(neuron, name):
            super().__setattr__(name, value)
        else:
            setattr(neuron, name, value)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "0":
                raise
            return getattr(super().__getattr__("0"), name)


class PooledSequential(nn.Sequential):
    """``nn.Sequential`` in which neurons and a pooling right behind them run in one pass, as in :class:`Pooled`.

    The layers do not change: a call of some of them alone has its usual result.
    """

    def forward(self, x: Any) -> Any:
        """``x`` through every layer."""
        waiting = deque(self)
        while waiting:
            layer = waiting.popleft()
            together = waiting and pools(layer, waiting[0])
            x = _pooled(layer, waiting.popleft(), x) if together else layer(x)
        return x


def pools(neuron: nn.Module, time: nn.Module) -> bool:
    """Return whether ``time`` is a pooling of spikes that can run in the pass of ``neuron``."""
    return (
        isinstance(neuron, Spiking)
        and neuron.calls_once
        and isinstance(time, Time)
        and type(time.layer) in (nn.MaxPool2d, nn.AvgPool2d)
    )


def _pooled(neuron: Any, time: Any, x: Tensor) -> Any:
    size = _window(neuron, time, x)
    if size is not None:
        call = getattr(ops, neuron.op).check(x, **neuron._op_arguments(x))
        outputs = pooled(neuron.op, call, size)
        if outputs is not None:
            return neuron._finish(*outputs)
    return time(neuron(x))


def _window(neuron: Any, time: Any, x: Tensor) -> tuple[int, int, bool] | None:
    """Return the window of the pooling, if the neurons' pass can pool it."""
    if (
        not isinstance(x, Tensor)
        or x.dim() != 5
        or x.numel() == 0
        or traced()
        or not neuron.calls_once
        or not time.fast
        or hooked(neuron)
        or hooked(time)
        or forward_ad._current_level >= 0
    ):
        return None
    return window(time.layer, x[0])
