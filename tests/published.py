"""Networks of tests/published_model.py, and the comparison of their runs."""

from pathlib import Path

import plain_jelly
import torch

MODEL = Path(__file__).parent / "published_model.py"


def published(name, dtype=torch.float64):
    """Return a network on the layers of this package, the same one in plain PyTorch, and images."""
    nets = []
    for plain in (False, True):
        torch.manual_seed(0)
        nets.append(getattr(plain_jelly.load(MODEL, plain), name)().to(dtype))
    return *nets, torch.rand(2, 3, 16, 16, dtype=dtype)


def equal_runs(net, plain, x, tolerance=1e-10):
    """Check outputs, gradients and buffers: training and evaluation, twice with a reset between."""
    for training in (True, False):
        for _ in range(2):
            found, expected = (_run(one.train(training), x) for one in (net, plain))
            assert found.keys() == expected.keys()
            for key, value in expected.items():
                scale = max(1.0, float(value.abs().max())) if value.numel() else 1.0
                torch.testing.assert_close(found[key], value, rtol=0, atol=tolerance * scale, msg=f"{key}: {training=}")
    assert expected["y"].std() > 0
    assert expected["grad x"].any()


def _run(net, x):
    net.zero_grad()
    for module in net.modules():
        if hasattr(module, "reset"):
            module.reset()
    x = x.clone().requires_grad_()
    y = net(x)
    weights = torch.arange(y.numel(), dtype=y.dtype).sin().view(y.shape)
    (y * weights).sum().backward()
    gradients = {f"grad {name}": p.grad for name, p in net.named_parameters() if p.grad is not None}
    return {"y": y.detach(), "grad x": x.grad} | gradients | {name: b.clone() for name, b in net.named_buffers()}
