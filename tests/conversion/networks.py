"""Small ReLU networks of every kind that converts."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

import snnfast


class Functional(nn.Module):
    """Functions and methods instead of modules; every form of a ReLU."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 8, 3)
        self.fc1, self.fc2 = nn.Linear(8 * 9, 12), nn.Linear(12, 5)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2) + 0.0
        x = torch.relu(self.conv2(x))
        x = F.dropout(F.adaptive_avg_pool2d(x, 3), 0.5, self.training)
        x = x.view(x.size(0), -1)
        return self.fc2(self.fc1(x).relu_())


class Residual(nn.Module):
    """A block with a shortcut that is added in place, and a ReLU module that is called twice."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.conv1 = nn.Conv2d(4, 6, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(6, 6, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(6)
        self.down = nn.Sequential(nn.Conv2d(4, 6, 1, 2, bias=False), nn.BatchNorm2d(6))
        self.pool, self.fc = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(6, 5)

    def forward(self, x):
        x = self.stem(x)
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += self.down(x)
        return self.fc(torch.flatten(self.pool(self.relu(out)), 1))


class Dense(nn.Module):
    """Concatenations, so that layers read several layers of neurons, and a product that is read twice."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.conv3 = nn.Conv2d(6, 4, 3, groups=2)
        self.fc = nn.Linear(4 * 9 + 6, 5)

    def forward(self, x):
        a = F.relu(self.conv1(x))
        b = self.conv2(a)
        joined = F.relu(self.bn(torch.cat([a, b], 1)))
        c = F.relu(self.conv3(F.avg_pool2d(joined, 2) * 0.5 - 0.25))
        c = F.max_pool2d(c, 2, 1, 1)
        mean = joined.mean([2, 3])
        return self.fc(torch.cat([F.adaptive_avg_pool2d(c, 3).flatten(1), mean], dim=1))


class Series(nn.Module):
    """One dimension: Conv1d, BatchNorm1d, pools, and a linear layer with batch norm."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(2, 6, 3, padding=1),
            nn.BatchNorm1d(6),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(6, 4, 3),
            nn.ReLU(),
            nn.AvgPool1d(2),
            nn.Dropout(),
            nn.Flatten(),
            nn.Linear(28, 9),
            nn.BatchNorm1d(9),
            nn.ReLU(),
            nn.Linear(9, 5),
        )

    def forward(self, x):
        return self.layers(x.flatten(2)[:, :, :32])


class Written(nn.Module):
    """Network of a convolution and two linear layers, with the function ``forward`` between the linear layers."""

    def __init__(self, forward, **parts):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.fc, self.out = nn.Linear(4 * 16, 16), nn.Linear(16, 5)
        self.scale = nn.Parameter(torch.rand(16) + 0.5)
        for name, part in parts.items():
            setattr(self, name, part)
        self.written = forward

    def forward(self, x):
        h = F.avg_pool2d(F.relu(self.conv(x)), 2)
        return self.out(F.relu(self.written(self, self.fc(h.flatten(1)))))


NETWORKS = (Functional, Residual, Dense, Series)


def make(kind, seed=0, dtype=torch.float32):
    """Return a network in evaluation mode whose batch norms have running statistics."""
    torch.manual_seed(seed)
    network = kind().to(dtype)
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.3, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.5)
    return network.eval()


def images(batch=4, seed=1, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 2, 8, 8, generator=generator).to(dtype)


X = images(6, dtype=torch.float64)


def norm(features=16, kind=nn.BatchNorm1d, **arguments):
    layer = kind(features, **arguments)
    nn.init.uniform_(layer.running_mean, -0.5, 0.5)
    nn.init.uniform_(layer.running_var, 0.3, 2)
    return layer


def follows(model, x=X, **arguments):
    """Check activations and the spikes of any chunk; return the converted network."""
    model = model.to(x.dtype).eval()
    network = snnfast.convert(model, [x], method="max", **arguments)
    want = model(x).detach()
    torch.testing.assert_close(network.analog(x)[0], want, rtol=1e-10, atol=1e-10)
    assert (network(x, 200) - want).abs().max() < 0.05 * want.abs().max()
    scores = network(x, 20)
    torch.testing.assert_close(network(x, 20, chunk=1), scores, rtol=0, atol=0)
    torch.testing.assert_close(network(x, 20, chunk=7), scores, rtol=0, atol=0)
    recorded = network.stream(x, record=True).advance(20).output()
    torch.testing.assert_close(recorded, scores, rtol=1e-10, atol=1e-10)
    return network
