"""Stateless layers over a sequence: :class:`Time` folds time into the batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.modules.batchnorm import _BatchNorm

from snnfast import check, ops
from snnfast.ops.autograd import traced
from snnfast.ops.batch_norm import has_kernel
from snnfast.ops.layout import tell_format
from snnfast.ops.repeat import once, repeat
from snnfast.ops.spike_conv2d import laid_out, layout_for

from .hooks import hooked, sees_every_step
from .readout import steps_within
from .spike_conv2d import SpikeConv2d
from .spike_linear import SpikeLinear
from .state import Stateful

__all__ = ["Time", "call", "normalize", "normalizes", "refuse_without_time", "run"]

_CONVS = (nn.Conv2d, SpikeConv2d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_POOLS = (nn.MaxPool2d, nn.AvgPool2d)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
# Layers whose result for an image is deterministic, and independent of the rest of the batch.
SAMPLEWISE = (
    *_CONVS,
    *(nn.Identity, nn.Linear, SpikeLinear, nn.Conv1d, nn.Conv3d, nn.LayerNorm, nn.GroupNorm),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Upsample, nn.Embedding),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d),
    *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid),
    *(nn.Tanh, nn.Hardtanh, nn.Softplus),
)
TIMELESS = (*SAMPLEWISE, *_NORMS, *DROPOUTS, nn.Flatten)


class Time(nn.Module):
    """Run layers without time on ``[T, B, ...]``: ``[T, B, ...] -> [T B, ...]``, layers, and back.

    Both foldings are views of contiguous and of channels-last sequences: after a channels-last
    convolution the neurons read its channels-last output in place. Batch normalisation takes its
    statistics over batch and steps; dropout draws a new mask at every step.

    Four optimisations change results by rounding only, and the dropout masks, which are drawn in the order of memory:

    - An input that is the same at every step, ``images.expand(T, *images.shape)``, is computed once, up to the first
      layer that draws random numbers or is not one of PyTorch's. The result is such a view again, with stride 0 over
      time. Its gradient, and that of the input, is the mean over the steps at every step; on the CPU the neurons after
      this layer compute it themselves.
    - From the first ``nn.Conv2d`` or ``nn.MaxPool2d`` on, in float32 or bfloat16 on the CPU, images are channels-last,
      as after ``net.to(memory_format=torch.channels_last)``: PyTorch's pooling is several times as fast. A convolution
      with more than twice as many weights as its input has values takes contiguous images instead, and so do layers
      that ``Time`` does not know and that contain a batch normalisation.
    - There, ``nn.BatchNorm2d`` and ``nn.BatchNorm3d`` are :func:`snnfast.ops.batch_norm`, which has no second
      derivative: channels-last PyTorch's sums have errors of 1e-5 to 1e-4.
    - There, ``nn.MaxPool2d`` and ``nn.AvgPool2d`` whose windows lie side by side are :func:`snnfast.ops.pool2d`, which
      has no second derivative. Other ``nn.MaxPool2d`` save argmax indices of 16 or 32 bits, and no images.

    The keys of a state dict are ``layer.weight`` with one layer, and ``layer.0.weight`` and so on with several. A file
    with the other kind of keys loads, too: the one layer is the first of several, and the other way round.

    Args:
        layers: one layer, or several that run one after the other inside one folding.
        fast: apply these optimisations; False runs the layers on all ``T B`` images without them.

    Raises:
        ValueError: if a layer needs time itself (an snnfast neuron), if ``x`` has fewer than two
            dimensions, or if the layers change the size of the batch.
        RuntimeError, ValueError: as a layer raises them for a shape, with the shape of ``x`` and the expected one.
    """

    folds_time = True  # layers inside run on all steps at once, for accelerate

    def __init__(self, *layers: nn.Module, fast: bool = True) -> None:
        super().__init__()
        if not layers:
            raise ValueError("Time: give at least one layer")
        for layer in layers:
            if not isinstance(layer, nn.Module):
                raise TypeError(f"Time: layers must be modules, one after the other, got {check.kind(layer)}")
        self.layer = layers[0] if len(layers) == 1 else nn.Sequential(*layers)
        self.fast = check.flag("Time", "fast", fast)
        for module in self.layer.modules():
            if isinstance(module, Stateful):
                raise ValueError(
                    f"Time: takes layers without time, but {type(module).__name__} needs [T, B, ...]; put it outside"
                )

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """``x`` ``[T, B, ...]`` -> ``[T, B, ...]``.

        Args:
            x: sequence.
            lengths: steps of each sample, integers ``[B]`` from 1 to ``T``; all if None. Steps beyond the end are not
                computed: batch normalisation does not see them, their results are 0, and they have no gradient. Shapes
                depend on the values of ``lengths``, so ``torch.export`` refuses it.
        """
        if not isinstance(x, Tensor):
            raise TypeError(f"Time: x must be a tensor, got {type(x).__name__}")
        if x.dim() < 2:
            raise ValueError(f"Time: x must have shape [T, B, ...], got {list(x.shape)}")
        if lengths is not None:
            mask = steps_within("Time", x, lengths)
            return _put(self.forward(_taken(x, mask).unsqueeze(0)).squeeze(0), mask)
        if not self.fast or traced() or forward_ad._current_level >= 0:
            return _unfold(self.layer(x.flatten(0, 1)), *x.shape[:2])
        steps, batch = x.shape[:2]
        repeated = steps > 1 and x.stride(0) == 0 and x.numel() > 0
        y = tell_format(once(x) if repeated else tell_format(x).flatten(0, 1))
        for layer in _one_by_one(self.layer):
            if repeated and not _same_at_every_step(layer, y):
                y = y.expand(steps, *y.shape).flatten(0, 1)
                repeated = False
            if repeated and getattr(layer, "inplace", False) and y.data_ptr() == x.data_ptr():
                y = y.clone()  # the memory is the caller's
            try:
                y = run(layer, y, steps if repeated else 1)
            except (RuntimeError, ValueError) as error:
                # Subclasses, such as torch.OutOfMemoryError, keep their type.
                if type(error) not in (RuntimeError, ValueError):
                    raise
                raise type(error)(_refused(layer, x, y, error)) from error
        y = tell_format(_one_tensor(y))
        return repeat(y, steps) if repeated else tell_format(_unfold(y, steps, batch))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        """Load keys of one layer as those of the first of several, or the other way round."""
        start, several = f"{prefix}layer.", type(self.layer) is nn.Sequential
        found = [key for key in state_dict if key.startswith(start)]
        numbered = [key for key in found if key[len(start) :].partition(".")[0].isdigit()]
        names = {f"{start}{name}" for name in self.layer.state_dict()}
        if several and not numbered:
            for key in found:
                state_dict[f"{start}0.{key[len(start) :]}"] = state_dict.pop(key)
        elif not several and numbered == found and not names & set(found):
            for key in found:
                if key.startswith(f"{start}0."):
                    state_dict[start + key[len(start) + 2 :]] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def extra_repr(self) -> str:
        """Return ``fast=False``, if set."""
        return "" if self.fast else "fast=False"


# Dimensions of a batch, for layers that would mistake steps for a batch, or a batch for channels.
_DIMENSIONS: dict[type[nn.Module], int] = {
    **dict.fromkeys((nn.Conv1d, nn.MaxPool1d, nn.AvgPool1d), 3),
    **dict.fromkeys((*_CONVS, *_POOLS, nn.BatchNorm2d, nn.AdaptiveAvgPool2d), 4),
    **dict.fromkeys((nn.Conv3d, nn.BatchNorm3d), 5),
    nn.BatchNorm1d: 2,
}


def refuse_without_time(function: str, name: str, layer: nn.Module, x: Tensor | None = None) -> None:
    """Refuse a sequence for a convolution, pooling or batch normalisation outside :class:`Time`.

    Args:
        function: the caller, for the error.
        name: where the layer stands.
        layer: any layer; those of other types pass.
        x: its input; None: a sequence.

    Raises:
        ValueError: that says how to write it.
    """
    wanted = _DIMENSIONS.get(type(layer))
    if wanted is not None and (x is None or x.dim() == wanted + 1):
        kind = type(layer).__name__
        raise ValueError(
            f"{function}: {name}, a {kind}, stands outside Time and does not know the steps of [T, B, ...]; write "
            f"Time(nn.{kind}(...)), or Time(nn.Linear(...), nn.{kind}(...)) for several layers"
        )


def _taken(x: Tensor, mask: Tensor) -> Tensor:
    """Return the images of ``x`` ``[T, B, ...]`` at ``mask`` ``[T, B]``; on the CPU channels-last, which is faster."""
    if x.dim() == 5 and x.is_cpu:
        return x.movedim(2, -1)[mask].movedim(-1, 1)
    return x[mask]


def _put(y: Tensor, mask: Tensor) -> Tensor:
    """Return a sequence with ``y`` ``[N, ...]`` at ``mask`` ``[T, B]``, else 0, in the memory format of ``y``."""
    last = y.dim() == 4 and not y.is_contiguous()
    rows = y.movedim(1, -1) if last else y
    sequence = rows.new_zeros(*mask.shape, *rows.shape[1:]).index_put((mask,), rows)
    return sequence.movedim(-1, 2) if last else sequence


def _kind(layer: nn.Module) -> type[nn.Module]:
    """Return the type of a layer; of one in snnfast/nn/folded.py that of torch.nn."""
    return getattr(type(layer), "folded_from", type(layer))


def call(layer: nn.Module, y: Tensor) -> Any:
    """Call a layer; one in snnfast/nn/folded.py as that of torch.nn, whose hooks it has run."""
    kind = _kind(layer)
    return layer(y) if kind is type(layer) else kind.forward(layer, y)


def run(layer: nn.Module, y: Tensor, steps: int) -> Tensor:
    """Run ``layer(y)`` by the fastest kernel; the images ``y`` stand for ``steps`` equal steps."""
    if _kind(layer) in _CONVS or _kind(layer) is nn.MaxPool2d:
        y = _laid_out(layer, y)
    elif _kind(layer) is nn.GroupNorm and torch.is_grad_enabled() and not y.requires_grad:
        # PyTorch's backward pass for the weights alone crashes with channels-last images.
        y = laid_out(y, torch.contiguous_format)
    by_op = _kind(layer) in _NORMS and (steps > 1 or (has_kernel(y) and not hooked(layer)))
    if by_op and normalizes(layer, y):
        layer._check_input_dim(y)  # type: ignore[operator]
        return normalize(layer, y, steps)
    if _kind(layer) not in SAMPLEWISE and y.is_cpu and y.dim() == 4 and _holds_norm(layer):
        y = laid_out(y, torch.contiguous_format)
    if found := window(layer, y):
        height, width, average = found
        return ops.pool2d(y, (height, width), method="average" if average else "max")
    if _kind(layer) is nn.MaxPool2d and y.dtype in (torch.int8, torch.uint8) and y.is_cpu and not layer.return_indices:
        # PyTorch's kernel for channels-last images counts their pixels in the 8 bits of their type.
        return call(layer, y.short()).to(y.dtype)  # type: ignore[no-any-return]
    y = _max_pool(layer, y) if _kind(layer) is nn.MaxPool2d else call(layer, y)
    return tell_format(y) if _kind(layer) is nn.InstanceNorm2d else y


def _max_pool(layer: Any, y: Tensor) -> Any:
    """Pool images; for the backward pass save argmax indices in 16 or 32 bits instead of 64, and no images."""
    differentiable = torch.is_grad_enabled() and y.requires_grad and y.is_cpu and y.is_floating_point()
    if not differentiable or y.dim() != 4 or layer.return_indices or hooked(layer):
        return call(layer, y)
    size, stride, dtype = y.shape, y.stride(), y.dtype
    index = torch.int16 if size[2] * size[3] < 2**15 else torch.int32

    def pack(saved: Tensor) -> Tensor | None:
        return saved.to(index) if saved.dtype == torch.int64 else None

    def unpack(packed: Tensor | None) -> Tensor:
        # PyTorch reads sizes and strides of the images, and no values.
        return torch.empty_strided(size, stride, dtype=dtype) if packed is None else packed.long()

    with saved_tensors_hooks(pack, unpack):
        return call(layer, y)


def _refused(layer: nn.Module, x: Tensor, y: Tensor, error: Exception) -> str:
    weight, device = next(layer.parameters(), y), y.device.type
    cast = device in ("cpu", "cuda") and torch.is_autocast_enabled(device)
    if y.dtype != weight.dtype and not cast:
        wanted = f"x is {y.dtype}, the weights are {weight.dtype}; give x.to({weight.dtype})"
        if weight.dtype == torch.float32:
            wanted = f"x is {y.dtype}, the weights are {weight.dtype}; give x.float()"
    else:
        wanted = (
            "x must have shape [T, B, ...], time first: of one image for all steps give x.expand(T, *x.shape), of a "
            "batch-first sequence x.transpose(0, 1)"
        )
    return (
        f"Time: {type(layer).__name__} does not take {list(y.shape)}, all steps of x {list(x.shape)}: {error}. {wanted}"
    )


def _one_tensor(y: Tensor) -> Tensor:
    if not isinstance(y, Tensor):
        raise TypeError(f"Time: the layer must return a tensor, got {type(y).__name__}")
    return y


def _unfold(y: Tensor, steps: int, batch: int) -> Tensor:
    y = _one_tensor(y)
    if y.dim() == 0 or y.shape[0] != steps * batch:
        raise ValueError(f"Time: the layer must keep the batch of T B = {steps * batch}, got shape {list(y.shape)}")
    return y.view(steps, batch, *y.shape[1:])


def _one_by_one(layer: nn.Module) -> Iterator[nn.Module]:
    if type(layer) is nn.Sequential and not sees_every_step(layer):
        for inner in layer:
            yield from _one_by_one(inner)
    else:
        yield layer


def _same_at_every_step(layer: nn.Module, y: Tensor) -> bool:
    """Return whether the result of the layer for T copies of the batch ``y`` is T copies of that for ``y``."""
    if sees_every_step(layer):
        return False
    if type(layer) is nn.Flatten:
        first = layer.start_dim
        return first > 0 or 0 > first > -y.dim()
    if type(layer) in _NORMS:  # PyTorch refuses to normalise a single value
        return y.dim() > 1 and y.numel() > y.shape[1]
    if type(layer) in DROPOUTS:
        return not layer.training
    return type(layer) in SAMPLEWISE


def window(layer: nn.Module, y: Tensor) -> tuple[int, int, bool] | None:
    """Return window, and whether it averages, of a pooling of channels-last images without overlap; else None."""
    if _kind(layer) not in _POOLS or hooked(layer):
        return None
    pool: Any = layer
    kernel, stride, padding = (_two(v) for v in (pool.kernel_size, pool.stride, pool.padding))
    plain = not pool.ceil_mode and stride == kernel and padding == (0, 0)
    if _kind(layer) is nn.MaxPool2d:
        plain = plain and not pool.return_indices and _two(pool.dilation) == (1, 1)
    else:
        plain = plain and pool.divisor_override is None
    fusable = (
        plain
        and y.is_cpu
        and y.dim() == 4
        and y.dtype in (torch.float32, torch.float64, torch.bfloat16)
        and y.shape[2] >= kernel[0]
        and y.shape[3] >= kernel[1]
        and y.is_contiguous(memory_format=torch.channels_last)
    )
    return (*kernel, _kind(layer) is nn.AvgPool2d) if fusable else None


def _two(value: Any) -> tuple[int, int]:
    first, second = (value, value) if isinstance(value, int) else value
    return first, second


def normalizes(norm: Any, y: Tensor) -> bool:
    """Return whether :func:`snnfast.ops.batch_norm` can replace ``norm`` for ``y``."""
    return y.dim() > 1 and y.shape[1] == norm.num_features and y.numel() > y.shape[1] and takes(norm, y)


def normalize(norm: Any, y: Tensor, steps: int) -> Tensor:
    """Normalise a batch that stands for ``steps`` equal steps.

    Mean and variance of a batch are those of its repetitions, but for Bessel's correction of ``running_var``.
    """
    of_batch = norm.training or norm.running_mean is None
    statistics = () if of_batch else (norm.running_mean, norm.running_var)
    result, mean, var = ops.batch_norm(y, norm.weight, norm.bias, *statistics, eps=norm.eps)
    _keep_statistics(norm, mean, var, steps * y.numel() // y.shape[1])
    return result


@torch.no_grad()
def _keep_statistics(norm: Any, mean: Tensor, var: Tensor, n: int) -> None:
    """Update the running statistics of a layer in training mode, if it has any, as PyTorch's layers do.

    ``mean`` and biased variance ``var`` are ``[C]`` in float64, over ``n`` values per channel.
    """
    if not norm.training or norm.running_mean is None:
        return
    norm.num_batches_tracked.add_(1)
    weight = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    for running, new in ((norm.running_mean, mean), (norm.running_var, var * (n / (n - 1)))):
        running.copy_(running.to(new.dtype) * (1 - weight) + new * weight)


def takes(norm: Any, y: Tensor) -> bool:
    """Return whether the op takes parameters and statistics of a normalisation with ``y``: their dtypes and devices."""
    values = (*norm.parameters(), norm.running_mean, norm.running_var)
    dtypes = (y.dtype, check.state_dtype(y.dtype))
    return y.is_floating_point() and all(p is None or (p.dtype in dtypes and p.device == y.device) for p in values)


def _holds_norm(layer: nn.Module) -> bool:
    """Return whether PyTorch's batch normalisation runs inside, whose channels-last sums on the CPU are imprecise."""
    return any(isinstance(m, _BatchNorm) for m in layer.modules())


def _laid_out(layer: nn.Module, y: Tensor) -> Tensor:
    """Images in the layout in which the convolution or pooling is fastest."""
    if not (y.is_cpu and y.dim() == 4 and y.dtype in (torch.float32, torch.bfloat16)):
        return y
    conv: Any = layer
    if type(layer) is nn.Conv2d and layout_for(conv.weight, y) is torch.contiguous_format:
        return laid_out(y, torch.contiguous_format)
    if y.shape[1] == 1:  # one channel fits both formats: only these strides mean channels-last to convolutions
        n, _, h, w = y.shape
        return y.reshape(n, h, w, 1).permute(0, 3, 1, 2)
    return y.contiguous(memory_format=torch.channels_last)
