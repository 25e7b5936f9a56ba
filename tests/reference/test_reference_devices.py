"""References round alike on every device: what PyTorch computes otherwise on a GPU they do not ask it for."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from snnfast import plasticity, reference

aten = torch.ops.aten


class Divisions(TorchDispatchMode):
    """Quotients by numbers, on a device that is not the CPU: on CUDA those are products with a reciprocal."""

    def __init__(self):
        super().__init__()
        self.by_numbers, self.all = 0, 0

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        if op in (aten.div.Tensor, aten.div.Scalar, aten.div_.Tensor):
            by = args[1]
            self.all += 1
            self.by_numbers += not isinstance(by, torch.Tensor) or by.device != args[0].device
        return op(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "run",
    [
        lambda x: reference.eif(x, delta_t=0.2, surrogate="sigmoid"),
        lambda x: reference.eif(x, delta_t=torch.tensor(0.2, device=x.device)),
        lambda x: reference.lif(x, refractory=0, max_spikes=3, v_reset=None),
    ],
)
def test_neurons_divide_by_no_number(run):
    """On the meta device, which stands for any that is not the CPU."""
    x = torch.zeros(3, 5, device="meta", requires_grad=True)
    with Divisions() as seen:
        spikes = run(x)[0]
        torch.autograd.grad(spikes.sum(), x)
    assert seen.all > 0
    assert seen.by_numbers == 0


def test_a_norm_is_summed_in_order_on_every_device(monkeypatch):
    """On CUDA a cumulative sum adds parts first; the sum is taken on the CPU."""
    moved = []
    cpu = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: moved.append(len(self)) or cpu(self))
    w = torch.linspace(0.4, 0.6, 14).view(2, 7)  # even enough that none is clipped at 1
    trains = torch.ones(4, 1, 7, dtype=torch.bool), torch.ones(4, 1, 2, dtype=torch.bool)
    reference.stdp_(w, *trains, rule=plasticity.pair(), norm=3.0)
    assert moved == [7, 7]
    torch.testing.assert_close(w.sum(1), torch.full((2,), 3.0))
