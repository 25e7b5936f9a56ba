"""Weights that are not plain parameters: pruned, normed, parametrised, or computed by ``forward``."""

import pytest
import torch
from networks import Written, X, follows, norm
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from snnfast.conversion import SpikingNetwork


def pruned(layer):
    prune.l1_unstructured(layer, "weight", 0.5)
    return prune.random_unstructured(layer, "weight", 0.3)


WEIGHTS = {
    "pruned": pruned,
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "old_weight_norm": pytest.param(weight_norm, marks=pytest.mark.filterwarnings("ignore::FutureWarning")),
    "old_spectral_norm": pytest.param(spectral_norm, marks=pytest.mark.filterwarnings("ignore::FutureWarning")),
}


@pytest.mark.parametrize("change", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("tied", [False, True])
def test_weights_that_are_worked_out_at_every_call(change, tied):
    """This holds also after a training step, and if another layer has the parameter they are computed from."""
    model = Written(
        lambda m, h: m.other(F.relu(m.norm(m.same(h)))), same=nn.Linear(16, 16), other=nn.Linear(16, 16), norm=norm()
    ).double()
    plain = nn.Parameter(model.same.weight.detach().clone())
    model.same.weight = plain
    if tied:
        model.other.weight = plain
    change(model.same)
    change(model.conv)
    model(X).sum().backward()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    network = follows(model)
    assert not any("orig" in name or "weight_g" in name for name in network.state_dict())
    model.train()
    assert not follows(model).training
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@pytest.mark.parametrize(
    "weight",
    [
        lambda w: w.abs(),
        lambda w: torch.exp(w),
        lambda w: w.t(),
        lambda w: w.T,
        lambda w: w**2,
        lambda w: w / w.norm(dim=1, keepdim=True),
        lambda w: w / torch.linalg.norm(w),
        lambda w: F.normalize(w),
        lambda w: w @ w,
        lambda w: torch.where(w > 0, w, -0.5 * w),
        lambda w: w.sign() * w.detach().round(decimals=1),
        lambda w: w.permute(1, 0).float().to(w.dtype),
        lambda w: (w - w.mean(1, keepdim=True)) / w.std(1, keepdim=True),
    ],
)
def test_weights_that_forward_works_out(weight):
    follows(Written(lambda m, h: F.linear(h, weight(m.same.weight)), same=nn.Linear(16, 16)))


@pytest.mark.parametrize(
    ("weight", "name"),
    [
        (lambda w: w * torch.bernoulli(w.sigmoid()), "bernoulli"),
        (lambda w: w + torch.rand_like(w), "rand_like"),
        (lambda w: F.gumbel_softmax(w), "gumbel_softmax"),
        (lambda w: w.abs_(), "abs_"),
    ],
)
def test_weights_that_change_from_run_to_run_are_refused_once(weight, name):
    """The error names the function that changes the weights, not those that read them."""
    model = Written(lambda m, h: F.linear(h, weight(m.same.weight).cos()), same=nn.Linear(16, 16))
    with pytest.raises(ValueError, match=f"{name} in forward: .* no weights can be") as error:
        SpikingNetwork(model)
    assert len(str(error.value).splitlines()) == 2
