"""Gradients of the kernels against autograd through the reference."""

import pytest
import torch
from cases import check_each
from samples import (
    Sample,
    assert_equal,
    assert_gradients_close,
    by_dtype,
    cotangents,
    expected,
    few,
    gradients,
    leaky,
    over_neurons,
    require_grad,
    samples_on,
)


@over_neurons("op dtype", by_dtype)
def test_gradients_equal_the_reference(kernels, op, dtype):
    def check(sample):
        _, want = expected(sample, kernels.device)
        assert_gradients_close(gradients(op, sample.arguments(kernels.device)), want)

    check_each(samples_on(kernels, op, dtype), check)


@over_neurons("sample", lambda op: few(op, torch.float64))
def test_gradient_of_one_argument_alone_is_the_same(kernels, sample):
    everything = gradients(sample.op, sample.arguments(kernels.device))

    def check(wanted):
        arguments = sample.arguments(kernels.device)
        arguments[wanted].requires_grad_()
        outputs = [out for out in sample.op(**arguments) if out is not None]
        (grad,) = torch.autograd.grad(outputs, arguments[wanted], cotangents(outputs))
        assert_equal(grad, everything[wanted], wanted)

    check_each(everything, check)


@over_neurons("sample", lambda op: few(op, torch.float64))
def test_gradient_through_one_output_alone_equals_the_reference(kernels, sample):
    for k, out in enumerate(sample.op(**sample.arguments(kernels.device))):
        if out is None:
            continue

        def only(function, k=k):
            return lambda **a: (function(**a)[k],)

        assert_gradients_close(
            gradients(only(sample.op), sample.arguments(kernels.device)),
            gradients(only(sample.op.reference), sample.arguments(kernels.device)),
        )


@over_neurons("sample", few)
def test_outputs_do_not_depend_on_whether_a_gradient_is_wanted(kernels, sample):
    plain = sample.op(**sample.arguments(kernels.device))
    graded = sample.op(**require_grad(sample.arguments(kernels.device)))
    assert all(out is None or out.requires_grad for out in graded)
    assert_equal([None if out is None else out.detach() for out in graded], list(plain))


def test_number_and_tensor_of_it_give_the_same(kernels, op):
    arguments = Sample(op, "plain", (40, 6), torch.float64).arguments(kernels.device)
    for name in (*op.decays, *op.params):
        number = 0.625  # exact, as is 1 - 0.625
        tensor = torch.full((6,), number, dtype=torch.float64, device=kernels.device)
        got = op(**{**arguments, name: tensor})
        assert_equal(got, op(**{**arguments, name: number}), name)
        summed = gradients(op, {**arguments, name: tensor})
        scalar = gradients(op, {**arguments, name: tensor[0].clone()})
        number = gradients(op, {**arguments, name: number})
        summed[name] = summed[name].sum()
        assert_gradients_close(summed, scalar)
        assert_gradients_close({k: g for k, g in scalar.items() if k != name}, number)


@over_neurons("op", leaky)
def test_tau_and_its_decay_have_gradients_by_the_chain_rule(kernels, op):
    for name in op.decays:
        arguments = Sample(op, "plain", (20, 6), torch.float64).arguments(kernels.device)
        tau = torch.linspace(1.5, 6.0, 6, dtype=torch.float64, device=kernels.device)
        by_tau = gradients(op, {**arguments, name.replace("decay", "tau"): tau})
        by_decay = gradients(op, {**arguments, name: 1 - 1 / tau})
        grad_tau = by_tau.pop(name.replace("decay", "tau"))
        want = {**by_decay, name: by_decay[name] / tau.square()}
        assert_gradients_close({**by_tau, name: grad_tau}, want)


def test_second_derivative_is_refused_by_name(kernels, op):
    x = torch.randn(4, 3, device=kernels.device, requires_grad=True)
    more = ({}, {"refractory": 1}) if "refractory" in op.signature else ({},)
    for arguments in more:
        (grad,) = torch.autograd.grad(op(x=x, **arguments)[0].sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match=rf"^{op.name}: a second derivative was asked for"):
            grad.sum().backward()


def test_input_changed_before_backward_is_refused(kernels, op):
    x = torch.randn(4, 3, device=kernels.device, requires_grad=True)
    y = x * 1
    out = op(x=y)[0].sum()
    y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()


def test_backward_twice_gives_the_same_and_needs_retain_graph(kernels, op):
    x = torch.randn(40, 3, device=kernels.device, requires_grad=True)
    out = op(x=x)[0].sum()
    (first,) = torch.autograd.grad(out, x, retain_graph=True)
    (second,) = torch.autograd.grad(out, x)
    assert_equal(second, first)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(out, x)


def test_no_graph_without_gradient(kernels, op):
    x = torch.randn(4, 3, device=kernels.device, requires_grad=True)
    with torch.no_grad():
        assert not any(out.requires_grad for out in op(x=x))
    with torch.inference_mode():
        assert all(out.is_inference() for out in op(x=x.detach().clone()))
    assert not any(out.requires_grad for out in op(x=x.detach()))


def test_activation_checkpointing_gives_the_same_gradients(kernels, op):
    from torch.utils.checkpoint import checkpoint

    x = torch.randn(40, 3, device=kernels.device, requires_grad=True)
    (want,) = torch.autograd.grad(op(x=x)[0].sum(), x)
    (got,) = torch.autograd.grad(checkpoint(lambda x: op(x=x)[0], x, use_reentrant=False).sum(), x)
    assert_equal(got, want)
