"""Registration of the kernels of ``eventprop`` with PyTorch: compilation, export, ``vmap``, direct calls."""

import pytest
import torch
from eventprop_cases import CASES, SILENT, case, forward_arguments, graded, leaves, loss, on

from snnfast import ops


@pytest.mark.filterwarnings(SILENT)
@pytest.mark.parametrize("name", ["plain", "recurrent_delays_of_synapses"])
def test_gradients_are_the_same_however_it_runs(kernels, name):
    """vmap, torch.export and torch.compile return the results of the op."""
    a = leaves(case(**CASES[name]), kernels.device)
    names = [k for k in ("t_in", "w", "w_rec", "delays", "delays_rec") if k in a]
    numbers = {k: v for k, v in a.items() if k not in names}

    def run(*tensors):
        return loss(*ops.eventprop(**dict(zip(names, tensors)), **numbers, return_u_max=True))

    class Module(torch.nn.Module):
        def forward(self, *inputs):
            return run(*inputs)

    inputs = tuple(graded(a))
    ways = {
        "vmap": lambda t, *more: torch.vmap(lambda one: run(one[None], *more))(t).sum(),
        "export": torch.export.export(Module(), tuple(v.detach() for v in inputs)).module(),
        "aot_eager": torch.compile(run, fullgraph=True, backend="aot_eager"),
    }
    want = torch.autograd.grad(run(*inputs), inputs)
    for way, function in ways.items():
        for got, expected in zip(torch.autograd.grad(function(*inputs), inputs), want):
            torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-10, msg=lambda m, way=way: f"{way}: {m}")


@pytest.mark.parametrize("return_u_max", [False, True])
@pytest.mark.parametrize("name", ["plain", "recurrent"])
def test_opcheck(kernels, name, return_u_max):
    a = on(kernels.device, case(**CASES[name]), torch.float32)
    for requires_grad in (False, True):
        a["w"] = a["w"].detach().requires_grad_(requires_grad)
        arguments = forward_arguments(a, return_u_max)
        torch.library.opcheck(kernels.ops.eventprop_forward.default, arguments)
    arguments = tuple(v.detach() if isinstance(v, torch.Tensor) else v for v in arguments)
    t, u, slope, peak, source = kernels.ops.eventprop_forward(*arguments)
    more = (t, slope, peak, source, torch.ones_like(t), torch.ones_like(u) if return_u_max else None)
    wanted = (True, True, name == "recurrent", False)
    torch.library.opcheck(kernels.ops.eventprop_backward.default, (*arguments, *more, *wanted))


@pytest.mark.parametrize("name", ["plain", "recurrent"])
def test_results_from_elsewhere_read_and_write_nothing_outside(kernels, name):
    """Arbitrary numbers instead of the forward pass's results give a meaningless gradient, but no crash."""
    a = on(kernels.device, case(**CASES[name]), torch.float32)
    arguments = forward_arguments(a)
    t, u, slope, peak, source = kernels.ops.eventprop_forward(*arguments)
    wanted = (True, True, True, False)
    for value in (-1.0, 0.0, 7.0, float("nan"), float("inf")):
        for k in range(3):
            hostile = [x.clone() for x in (t, slope, peak)]
            hostile[k].fill_(value)
            for other in (source, torch.full_like(source, 2**31 - 1), torch.zeros_like(source)):
                grads = (torch.ones_like(t), torch.ones_like(u))
                found = kernels.ops.eventprop_backward(*arguments, *hostile, other, *grads, *wanted)
                assert found[0].shape == a["t_in"].shape
