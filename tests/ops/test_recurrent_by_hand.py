"""``recurrent``: runs worked by hand."""

import pytest
import torch

from snnfast import ops


# Two neurons, decay 1/2, threshold 1, hard reset, ds/dh = 1: h = v/2 + x + W s[t-1]
#   h = (1, 1/2), (1/4, 3/2), (9/8, 3/4);  s = (1, 0), (0, 1), (1, 0);  v = (0, 1/2), (1/4, 0), (0, 3/4)
# Backwards: dL/ds = its weight + W^T dL/dh[t+1] - dL/dv h, dL/dh = dL/dv (1 - s) + dL/ds
#   t = 2: dL/dv = (4, 4):              dL/ds = (-1/2, 1);             dL/dh = (-1/2, 5);           W^T dL/dh = 5, -3/2
#   t = 1: dL/dv = (-1/4, 5/2):         dL/ds = (7.0625, -3.25);       dL/dh = (6.8125, -3.25);     (-3.25, 4.21875)
#   t = 0: dL/dv = (3.40625, -1.625):   dL/ds = (-5.65625, 6.03125);   dL/dh = (-5.65625, 4.40625)
#   dL/dW_ij = sum dL/dh_i[t] s_j[t-1]
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_a_run_worked_by_hand(backend, dtype):
    def tensor(value):
        return torch.tensor(value, dtype=dtype, device=backend.device).requires_grad_()

    x = tensor([[1.0, 0.5], [0.25, 0.25], [0.5, 1.0]])
    weight, past, v = tensor([[0.0, 0.5], [1.0, -0.25]]), tensor([[0.0, 0.0]]), tensor([0.0, 0.0])
    spikes, last = ops.recurrent(x, weight, past, v=v, decay=0.5, decay_input=False, surrogate="straight_through")
    assert spikes.tolist() == [[1, 0], [0, 1], [1, 0]]
    assert last.tolist() == [0, 0.75]
    weights = torch.tensor([[1.0], [2.0], [4.0]], dtype=dtype, device=backend.device)
    loss = (spikes * weights).sum() + 4 * last.sum()
    grads = [g.tolist() for g in torch.autograd.grad(loss, (x, weight, past, v))]
    assert grads == [
        [[-5.65625, 4.40625], [6.8125, -3.25], [-0.5, 5.0]],
        [[6.8125, -0.5], [-3.25, 5.0]],
        [[4.40625, -3.9296875]],
        [-2.828125, 2.203125],
    ]


def test_a_delayed_spike_worked_by_hand(backend):
    """A neuron fires only at step 0; a delay of 1.25 brings 3/4 of its spike at step 2 and 1/4 at step 3."""
    x = torch.tensor([[1.0], [0.0], [0.0], [0.0], [0.0]], device=backend.device)
    weight = torch.tensor([[0.5]], device=backend.device)
    delay = torch.tensor([1.25], device=backend.device).requires_grad_()
    options = {"decay": 0.0, "decay_input": False, "surrogate": "rectangle", "return_v_seq": True}
    _, _, v_seq = ops.recurrent(x, weight, delay=delay, **options)
    assert v_seq[:, 0].tolist() == [0, 0, 0.375, 0.125, 0]
    weights = torch.tensor([[0.0], [0.0], [1.0], [4.0], [0.0]], device=backend.device)
    # dL/dd = sum of the weights times dv/dd = 0.5 (s[t-3] - s[t-2]); no surrogate reaches 1 from there
    assert torch.autograd.grad((v_seq * weights).sum(), delay)[0].tolist() == [1.5]
