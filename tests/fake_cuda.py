"""A GPU that is not there: tensors that say ``cuda`` and are computed on the CPU, the CUDA kernels by emulation.

``SNNFAST_FAKE_CUDA=1 pytest`` adds the backend ``cuda`` by it. Where a GPU would refuse, this does: a tensor of the CPU
beside one of the device, a kernel of the one given tensors of the other, ``numpy()``. So a test that passes here asks
for tensors of its device everywhere, and one that does not would fail on a GPU for a reason that is none.
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
# Tests of what the fake has not: addresses, views with their own dispatch, other threads, PyTorch's own messages,
# generators of the device, streams, autocast, tracing, other layouts, lists as indices, Tensor.cuda, the meta device.
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
)
META = torch.device("meta")
aten = torch.ops.aten
# What PyTorch lets go from one device to the other.
CROSSING = {aten._to_copy.default, aten.copy_.default}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
# What makes the host wait for values: to have one, or to know how large what comes out is.
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


OnCuda.__name__ = "Tensor"  # as messages call it


class Mode(TorchDispatchMode):
    """Dispatch mode that makes tensors on ``cuda`` and computes with them."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


class Names(TorchFunctionMode):
    """Function mode for what a dispatch mode does not see.

    These are device names without a number, for which PyTorch asks a driver, and calls into C++.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        args, kwargs = tree_map(numbered, (args, kwargs or {}))
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") == DEVICE:
            wanted = kwargs.pop("requires_grad", False)
            made = func(*args, **{**kwargs, "device": "cpu"}).to(DEVICE)
            return made.requires_grad_() if wanted else made
        if func is torch.Tensor.tolist:
            return func(args[0].cpu())
        result = func(*args, **kwargs)
        meta = isinstance(result, torch.device) and result == META
        return DEVICE if meta else result  # of a tensor around one of ours, as vmap has them


def numbered(value):
    unnumbered = isinstance(value, str | torch.device) and str(value) == "cuda"
    return DEVICE if unnumbered else value


def unwrap(value):
    return value.held if isinstance(value, OnCuda) else value


def run(func, args, kwargs):
    given = [v for v in tree_flatten((args, kwargs))[0] if isinstance(v, torch.Tensor)]
    if graph_is_captured:
        refuse_waiting(func, given, kwargs)
    wanted = kwargs.get("device")
    here = any(isinstance(v, OnCuda) for v in given)
    if here:
        refuse_strangers(func, given)
    elsewhere = wanted is not None and torch.device(wanted).type
    if elsewhere == "meta":
        elsewhere = "cuda"  # autograd's zeros, of the device that C++ sees
    if not here and elsewhere != "cuda":
        return func(*args, **kwargs)
    if elsewhere:
        kwargs = {**kwargs, "device": torch.device("cpu") if elsewhere == "cuda" else wanted}
    stays = elsewhere == "cuda" if elsewhere else True
    if func is aten.copy_.default:
        stays = isinstance(args[0], OnCuda)
    out = emulated(func)(*tree_map(unwrap, args), **tree_map(unwrap, kwargs))
    if not stays:
        return args[0] if func is aten.copy_.default else out
    wrapped = tree_map(lambda v: OnCuda(v) if isinstance(v, torch.Tensor) else v, out)
    return return_and_correct_aliasing(func, args, kwargs, wrapped)


def refuse_strangers(func, given):
    """As PyTorch does: scalars may come from anywhere, and indices from the CPU."""
    if func in CROSSING:
        return
    scalars = func.namespace == "aten"
    for v in given[:1] if func in INDEXING else given:
        if not isinstance(v, OnCuda) and not (scalars and v.dim() == 0):
            raise RuntimeError(
                f"{func}: Expected all tensors to be on the same device, but found at least two "
                f"devices, cuda:0 and {v.device}"
            )


def refuse_waiting(func, given, kwargs):
    """As CUDA does, and PyTorch for copies: from one device to the other they wait for it."""
    on_cuda = [isinstance(v, OnCuda) for v in given]
    by_mask = func in INDEXING and any(v.dtype in (torch.bool, torch.uint8) for v in given[1:])
    crosses = func is aten.copy_.default and on_cuda[0] != on_cuda[1]
    if func is aten._to_copy.default and kwargs.get("device") is not None:
        crosses = on_cuda[0] != (torch.device(kwargs["device"]).type == "cuda")
    if crosses or (any(on_cuda) and (func in WAITING or by_mask)):
        raise RuntimeError(f"{func}: operation not permitted when stream is capturing")


@contextmanager
def capturing():
    """As while a CUDA graph is captured."""
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
