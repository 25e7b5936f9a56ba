"""Calls of kernels as operators of PyTorch: their recorder, and wrong tensors for them."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

NAMESPACES = ("snnfast", "snnfast_emulated")
# Checks of opcheck without that of AOTAutograd, which takes 98 % of its time.
REGISTERED = ("test_schema", "test_autograd_registration", "test_faketensor")
WITH_AUTOGRAD = (*REGISTERED, "test_aot_dispatch_dynamic")


class Recorder(TorchDispatchMode):
    """Records the calls of snnfast's kernels with copies of their arguments."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace in NAMESPACES:
            self.calls.append((func, copied(list(args))))
        return func(*args, **(kwargs or {}))


def opcheck(func, args, checks=REGISTERED):
    """Check the registration of a kernel for these arguments."""
    torch.library.opcheck(func, tuple(args), test_utils=checks)


def copied(values):
    """Copy the tensors in lists and tuples."""
    if isinstance(values, tuple | list):
        return type(values)(copied(value) for value in values)
    return values.detach().clone() if isinstance(values, torch.Tensor) else values


def wrong(t):
    """Yield invalid replacements of the tensor ``t``."""
    yield "longer", torch.zeros([n + 1 for n in t.shape], dtype=t.dtype)
    yield "shorter", torch.zeros([max(n - 1, 0) for n in t.shape], dtype=t.dtype)
    yield "empty", torch.zeros(0, dtype=t.dtype)
    yield "deeper", torch.zeros((2, *t.shape), dtype=t.dtype)
    yield "flat", torch.zeros(t.numel() + 7, dtype=t.dtype)
    yield "wider", torch.zeros(t.shape, dtype=torch.float64)
    yield "narrower", torch.zeros(t.shape, dtype=torch.float16)
    yield "integer", torch.zeros(t.shape, dtype=torch.int64)
    yield "boolean", torch.zeros(t.shape, dtype=torch.bool)
