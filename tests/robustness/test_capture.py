"""CUDA graphs: every op with its default arguments is captured after a warm-up, on a simulated GPU."""

import every_op
import fake_cuda
import pytest
import torch
from backends import why_absent

from snnfast import backend, connect, encoder, nn, ops

pytestmark = pytest.mark.skipif(bool(why_absent("cuda_emulation")), reason=why_absent("cuda_emulation"))
OPS = sorted(name for name in ops.__all__ if name.islower() and name not in backend.BY_REFERENCE)


@pytest.fixture
def cuda():
    with fake_cuda.present(), backend.use("cuda"):
        yield


@pytest.fixture
def examples():
    return every_op.examples("cuda", steps=6, neurons=24)


@pytest.mark.parametrize("op", OPS)
def test_every_op_goes_into_a_graph(op, cuda, examples):
    want = examples[op].run()
    with fake_cuda.capturing():
        got = examples[op].run()
    assert len(got) == len(want)
    for a, b in zip(got, want):
        torch.testing.assert_close(a.cpu(), b.cpu(), rtol=0, atol=0, equal_nan=True)


def test_noise_goes_into_a_graph(cuda):
    c, noise = connect.fixed_outdegree(8, outdegree=3, delay=2, seed=1), connect.PoissonNoise(2.0, 0.4, seed=1)
    weight = torch.full((8,), 0.1).to("cuda")

    def run(noise):
        return ops.sparse_recurrent(None, weight, c, num_steps=5, batch=2, noise=noise)

    want = run(noise.after(3))
    with fake_cuda.capturing():
        got = run(noise.after(3))
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a.cpu(), b.cpu(), rtol=0, atol=0)


LAYERS = [
    nn.LIF(),
    nn.ParametricLIF(),
    nn.LI(),
    nn.CubaLIF(),
    nn.ALIF(),
    nn.Recurrent(nn.LIF(), 8),
    nn.SparseRecurrent(nn.LIF(), connect.fixed_outdegree(8, outdegree=3, seed=1)),
    nn.SparseLinear(connect.fixed_outdegree(8, 5, outdegree=3, seed=1)),
    encoder.PoissonEncoder(duration=5.0),
    encoder.BernoulliEncoder(num_steps=5),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_layers_go_into_a_graph(layer, cuda):
    layer = layer.to("cuda")
    x = torch.rand(5, 2, 8).to("cuda")
    layer(x)
    with fake_cuda.capturing():
        layer(x)


SEVERAL = {
    "bp_stdp_network_": lambda x, w, lr: ops.bp_stdp_network_([w.clone()], x, thresholds=[0.9], lr=lr),
    "diehl_cook_": lambda x, w, tau: ops.diehl_cook_(x, w.clone(), w[..., 0].clone(), tau=tau),
}


@pytest.mark.parametrize("op", SEVERAL)
def test_networks_go_into_a_graph_if_they_share_their_settings(op, cuda):
    x, w = torch.zeros(5, 3, 8, dtype=torch.uint8, device="cuda"), torch.rand(2, 4, 8).to("cuda")
    SEVERAL[op](x, w, [1.0, 2.0])
    with fake_cuda.capturing():
        SEVERAL[op](x, w, 1.0)
        with pytest.raises(RuntimeError, match="when stream is capturing"):
            SEVERAL[op](x, w, [1.0, 2.0])


def test_what_is_wrong_is_told_before_the_graph(cuda):
    p = torch.full((4,), 2.0, device="cuda")
    with fake_cuda.capturing():
        ops.poisson(p, 3, seed=1)
    with pytest.raises(ValueError, match=r"poisson: p must lie in \[0, 1\]"):
        ops.poisson(p, 3, seed=1)


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).all()),
        lambda x: x.cpu(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: torch.zeros(3).to("cuda"),
        lambda x: torch.tensor([1.0, 2.0], device="cuda"),
        lambda x: x.copy_(torch.zeros(3)),
    ],
)
def test_the_fake_refuses_what_a_capture_refuses(wait, cuda):
    x = torch.ones(3, device="cuda")
    wait(x)
    with fake_cuda.capturing(), pytest.raises(RuntimeError, match="when stream is capturing"):
        wait(x)
