"""Neurons that fill a GPU, with several per thread (``fills`` in ``csrc/cuda/launch.h``)."""

import torch
from cases import check_each
from samples import (
    Sample,
    assert_equal,
    assert_gradients_close,
    by_dtype,
    cotangents,
    neurons_that_fill,
    over_neurons,
    require_grad,
    rich,
    tensors,
)

from snnfast.check import state_dtype

HALVES = 2


def run(op, arguments, weights):
    """Return outputs, and the gradients of their sum with ``weights``."""
    arguments = require_grad(arguments)
    outputs = op(**arguments)
    pairs = [(out, g) for out, g in zip(outputs, weights, strict=True) if out is not None]
    inputs = tensors(arguments)
    grads = torch.autograd.grad(
        [out for out, _ in pairs], list(inputs.values()), [g for _, g in pairs], allow_unused=True
    )
    return [out if out is None else out.detach() for out in outputs], dict(zip(inputs, grads, strict=True))


def half(value, k, neurons):
    """Return the k-th half of a value per neuron; return shared values unchanged."""
    of_neurons = isinstance(value, torch.Tensor) and value.shape[-1:] == (neurons,)
    return value.chunk(HALVES, dim=-1)[k] if of_neurons else value


def joined(values, neurons):
    """Join the values of two halves: side by side, or as a sum if they are gradients of a shared argument."""
    if values[0] is None:
        return None
    of_neurons = values[0].shape[-1:] == (neurons // HALVES,)
    return torch.cat(values, dim=-1) if of_neurons else sum(values)


@over_neurons("op dtype", by_dtype)
def test_neurons_that_fill_a_gpu_do_what_half_of_them_do(kernels, op, dtype):
    """Neurons that fill it share threads; otherwise each has a thread, as in all other tests on a GPU."""
    neurons = neurons_that_fill(dtype, kernels.name)
    variants = [name for name in ("plain", rich(op), "v_seq") if name in op.variants]

    def check(variant):
        # Beyond a checkpoint, with groups of four steps and a remainder.
        arguments = Sample(op, variant, (22, neurons), dtype).arguments(kernels.device)
        weights = cotangents(op(**arguments))
        outputs, grads = run(op, arguments, weights)
        halves = [
            run(
                op,
                {name: half(value, k, neurons) for name, value in arguments.items()},
                [half(weight, k, neurons) for weight in weights],
            )
            for k in range(HALVES)
        ]
        of_halves = zip(*(half[0] for half in halves), strict=True)
        assert_equal(outputs, [joined(parts, neurons) for parts in of_halves])
        want = {name: joined([half[1][name] for half in halves], neurons) for name in grads}
        for name, grad in grads.items():
            if arguments[name].shape[-1:] == (neurons,):  # a sum over neurons would depend on the order
                assert_equal(grad, want[name], f"grad {name}")
        assert_gradients_close(grads, want)
        assert all(g is None or g.isfinite().all() for g in grads.values())

    check_each(variants, check)


@over_neurons("op dtype", by_dtype)
def test_neurons_whose_states_are_not_aligned_share_no_thread_or_one_of_two(kernels, op, dtype):
    """They equal neurons that share a thread. Their warps are full, so that they copy rows in units of 16 bytes."""
    neurons = max(64, neurons_that_fill(dtype, kernels.name))

    def check(variant):
        # Beyond two tiles, so that the first is reused, and a part of a tile.
        arguments = Sample(op, variant, (70, neurons), dtype).arguments(kernels.device)
        room = torch.rand(neurons + 2).to(kernels.device, state_dtype(dtype))
        weights = cotangents(op(**arguments))
        for v in (room[1:-1], room[2:]):
            (outputs, grads), (want, want_grads) = (
                run(op, {**arguments, op.states[0]: values}, weights) for values in (v, v.clone())
            )
            assert_equal(outputs, want)
            for name, grad in grads.items():
                assert_equal(grad, want_grads[name], f"grad {name}")

    check_each([name for name in ("plain", rich(op), "v_seq") if name in op.variants], check)
