"""A fake GPU: tensors with the device ``cuda`` that are computed on the CPU, with emulated CUDA kernels.

``SNNFAST_FAKE_CUDA=1 pytest`` adds it as the backend ``cuda``. It raises the errors of a GPU: for tensors of different
devices, kernels with tensors of another device, ``numpy()``. A test that passes here makes all its tensors on its
device; other tests would fail on a GPU because of the test itself.
"""

import os
from contextlib import contextmanager
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

WANTED = os.environ.get("SNNFAST_FAKE_CUDA", "0") == "1"
DEVICE = torch.device("cuda", 0)
# Tests of features that the fake lacks: addresses, views with their own dispatch, other threads, messages of PyTorch,
# generators of the device, streams, autocast, tracing, other layouts, lists as indices, Tensor.cuda, the meta device,
# the capability.
UNABLE = (
    "test_argument_on_another_device_is_named",
    "test_autocast",
    "test_delays_out_of_range",
    "test_eight_python_threads",
    "test_gradients_are_the_same_however_it_runs",
    "test_mistakes_are_named_for_input_that_wants",
    "test_mistakes_are_named_in_every_grad_mode",
    "test_mistakes_are_named_on_every_backend",
    "test_no_graph_without_gradient",
    "test_one_neuron_by_hand",
    "test_outputs_share_memory",
    "test_weights_may_want_a_gradient_and_be_made_in_inference_mode",
    "-x device-cuda",
    "-delays device-cuda",
    "compile",
    "export",
    "opcheck",
    "TestCuda",
    "test_sparse_recurrent_receptors",
)
META = torch.device("meta")
aten = torch.ops.aten
# Operators that PyTorch allows across devices.
CROSSING = {aten._to_copy.default, aten.copy_.default}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
# Operators that make the host wait: for a value, or for the size of the result.
WAITING = {
    aten._local_scalar_dense.default,
    aten._unique2.default,
    aten.argwhere.default,
    aten.bincount.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten.masked_select.default,
    aten.nonzero.default,
    aten.repeat_interleave.Tensor,
    aten.unique_consecutive.default,
    aten.unique_dim.default,
}
graph_is_captured = False


def is_capturing():
    return graph_is_captured


class OnCuda(torch.Tensor):
    """Stand-in for a tensor on a GPU. C++ sees the device ``meta``, which computes nothing."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held):
        return torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype, device=META
        )

    def __init__(self, held):
        self.held = held

    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: DEVICE)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)
    is_meta = property(lambda self: False)

    def __repr__(self, **_):
        return f"cuda {self.held}"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


OnCuda.__name__ = "Tensor"  # the name in messages


class Mode(TorchDispatchMode):
    """Dispatch mode that makes tensors on ``cuda`` and computes with them."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


class Names(TorchFunctionMode):
    """Function mode for cases that a dispatch mode does not see.

    These are device names without a number, for which PyTorch queries a driver, and calls into C++.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        args, kwargs = tree_map(numbered, (args, kwargs or {}))
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") == DEVICE:
            wanted = kwargs.pop("requires_grad", False)
            tensor = func(*args, **{**kwargs, "device": "cpu"}).to(DEVICE)
            return tensor.requires_grad_() if wanted else tensor
        if func is torch.Tensor.tolist:
            return func(args[0].cpu())
        result = func(*args, **kwargs)
        meta = isinstance(result, torch.device) and result == META
        return DEVICE if meta else result  # a wrapper of a fake tensor, as in vmap


def numbered(value):
    unnumbered = isinstance(value, str | torch.device) and str(value) == "cuda"
    return DEVICE if unnumbered else value


def unwrap(value):
    return value.held if isinstance(value, OnCuda) else value


def run(func, args, kwargs):
    tensors = [v for v in tree_flatten((args, kwargs))[0] if isinstance(v, torch.Tensor)]
    if graph_is_captured:
        refuse_waiting(func, tensors, kwargs)
    wanted = kwargs.get("device")
    any_on_cuda = any(isinstance(v, OnCuda) for v in tensors)
    if any_on_cuda:
        refuse_strangers(func, tensors)
    target = wanted is not None and torch.device(wanted).type
    if target == "meta":
        target = "cuda"  # autograd's zeros, of the device that C++ sees
    if not any_on_cuda and target != "cuda":
        return func(*args, **kwargs)
    if target:
        kwargs = {**kwargs, "device": torch.device("cpu") if target == "cuda" else wanted}
    stays = target == "cuda" if target else True
    if func is aten.copy_.default:
        stays = isinstance(args[0], OnCuda)
    out = emulated(func)(*tree_map(unwrap, args), **tree_map(unwrap, kwargs))
    if not stays:
        return args[0] if func is aten.copy_.default else out
    wrapped = tree_map(lambda v: OnCuda(v) if isinstance(v, torch.Tensor) else v, out)
    return return_and_correct_aliasing(func, args, kwargs, wrapped)


def refuse_strangers(func, tensors):
    """Raise PyTorch's error for mixed devices; scalars may be on any device, and indices on the CPU."""
    if func in CROSSING:
        return
    scalars = func.namespace == "aten"
    for v in tensors[:1] if func in INDEXING else tensors:
        if not isinstance(v, OnCuda) and not (scalars and v.dim() == 0):
            raise RuntimeError(
                f"{func}: Expected all tensors to be on the same device, but found at least two "
                f"devices, cuda:0 and {v.device}"
            )


def refuse_waiting(func, tensors, kwargs):
    """Raise CUDA's error for operations that wait during graph capture, and for copies across devices."""
    on_cuda = [isinstance(v, OnCuda) for v in tensors]
    by_mask = func in INDEXING and any(v.dtype in (torch.bool, torch.uint8) for v in tensors[1:])
    crosses = func is aten.copy_.default and on_cuda[0] != on_cuda[1]
    if func is aten._to_copy.default and kwargs.get("device") is not None:
        crosses = on_cuda[0] != (torch.device(kwargs["device"]).type == "cuda")
    if crosses or (any(on_cuda) and (func in WAITING or by_mask)):
        raise RuntimeError(f"{func}: operation not permitted when stream is capturing")


@contextmanager
def capturing():
    """Behave as during the capture of a CUDA graph."""
    global graph_is_captured
    graph_is_captured = True
    try:
        yield
    finally:
        graph_is_captured = False


def emulated(func):
    if func.namespace != "snnfast":
        return func
    return getattr(getattr(torch.ops.snnfast_emulated, func._opname), func._overloadname)


class Extension:
    """The compiled extension, with CUDA kernels."""

    def __init__(self, real):
        self.real = real

    with_cuda = True

    def __getattr__(self, name):
        return getattr(self.real, name)


@contextmanager
def present():
    from snnfast import backend

    with (
        mock.patch.object(backend, "extension", Extension(backend.extension)),
        mock.patch.object(torch.cuda, "_lazy_init", return_value=None),
        mock.patch.object(torch.cuda, "synchronize", return_value=None),
        mock.patch.object(torch.cuda, "is_current_stream_capturing", is_capturing),
        Mode(),
        Names(),
    ):
        yield
