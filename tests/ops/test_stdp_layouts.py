"""Plasticity of a dense layer: any layout of spikes and weights, threads, memory."""

import pytest
import torch
from samples import assert_equal
from stdp_cases import PLAIN, on, sample
from torch import nn

from snnfast import ops, reference


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_a_spike_is_what_is_not_0(backend, dtype):
    w, pre, post, _ = on(backend.device, *sample((6, 2, 20, 9)))
    expected = w.clone()
    ops.stdp_(expected, pre, post, rule=PLAIN["triplet"])
    values = torch.tensor([1, 3, 255] if dtype == torch.uint8 else [1, -2, 1e-7], device=backend.device)
    pick = torch.arange(20, device=backend.device) % 3
    pre, post = pre.to(dtype) * values.to(dtype)[pick], post.to(dtype) * values.to(dtype)[pick[:9]]
    if dtype.is_floating_point:
        pre[pre == 0] = -0.0
    ops.stdp_(w, pre, post, rule=PLAIN["triplet"], validate=False)
    assert_equal(w, expected)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
        lambda x: x.permute(2, 0, 1).contiguous().permute(1, 2, 0),
        lambda x: torch.stack([x, ~x], -1)[..., 0],
        lambda x: x[:1].expand(6, -1, -1),
        lambda x: x[:, :1].expand(-1, 2, -1),
    ],
)
def test_layout_of_spikes_does_not_matter(backend, view):
    w, pre, post, _ = on(backend.device, *sample((6, 2, 20, 9)))
    expected = w.clone()
    ops.stdp_(expected, view(pre).contiguous(), view(post).contiguous(), rule=PLAIN["pair"])
    ops.stdp_(w, view(pre), view(post), rule=PLAIN["pair"])
    assert_equal(w, expected)


@pytest.mark.parametrize(
    "view",
    [
        lambda w: w.T.contiguous().T,
        lambda w: torch.stack([w, w], 2)[..., 1],
        lambda w: torch.cat([w, w], 1)[:, 5 : 5 + w.shape[1]].clone(),
    ],
)
def test_layout_of_weights_does_not_matter(backend, view):
    w, pre, post, _ = on(backend.device, *sample((6, 2, 20, 9)))
    viewed, before = view(w), view(w).clone()
    ops.stdp_(viewed, pre, post, rule=PLAIN["soft bounds"], norm=4.0)
    ops.stdp_(before, pre, post, rule=PLAIN["soft bounds"], norm=4.0)
    assert_equal(viewed, before)


def test_strides_whose_steps_miss_each_other_do_not_overlap(backend):
    w = torch.zeros(20, device=backend.device).as_strided((3, 4), (3, 4))
    expected = w.clone(memory_format=torch.contiguous_format)
    _, pre, post, _ = on(backend.device, *sample((6, 2, 4, 3), torch.float32))
    for weights in (w, expected):
        ops.stdp_(weights, pre, post, rule=PLAIN["pair"])
    assert_equal(w, expected)


@pytest.mark.parametrize("strides", [(1, 7), (0, 0)])
def test_no_weights_of_any_strides(backend, strides):
    w = torch.zeros(9, device=backend.device).as_strided((0, 4), strides)
    pre, post = torch.ones(1, 2, 4, device=w.device), torch.ones(1, 2, 0, device=w.device)
    state = ops.stdp_(w, pre, post, rule=PLAIN["pair"])
    assert_equal(state.trace_pre, pre[0])


def test_parameters_learn_in_place(backend):
    linear = nn.Linear(20, 9, bias=False).to(backend.device)
    with torch.no_grad():
        linear.weight.clamp_(0, 1)
    _, pre, post, _ = on(backend.device, *sample((6, 2, 20, 9)))
    before, x = linear.weight.detach().clone(), torch.ones(20, device=backend.device)
    y = linear(x).sum()
    state = ops.stdp_(linear.weight, pre, post, rule=PLAIN["pair"])
    assert not torch.equal(linear.weight, before)
    assert linear.weight.requires_grad
    assert not any(s is not None and s.requires_grad for s in state)
    y.backward()  # needs x, not the weights


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_number_of_threads_does_not_matter(threads):
    w, pre, post, _ = sample((20, 6, 300, 70), torch.float32)
    expected = w.clone()
    reference.stdp_(expected, pre, post, rule=PLAIN["triplet"], norm=30.0)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        ops.stdp_(w, pre, post, rule=PLAIN["triplet"], norm=30.0)
    finally:
        torch.set_num_threads(before)
    assert_equal(w, expected)
