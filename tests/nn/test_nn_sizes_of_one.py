"""Every layer with a single step, sample, channel or column, as contiguous images and channels-last ones.

Where a size is 1 its stride addresses nothing, but PyTorch reads the memory format from it: its normalisations on the
CPU have wrong gradients for an image of strides ``(C, 1, W C, C)``.
"""

import copy
import itertools

import pytest
import torch
from torch import nn

from snnfast import connect
from snnfast import nn as sn
from snnfast.nn.multi_step import EachStep, MultiStep

HEIGHT = 4
# Half of all combinations, in which each three sizes meet in all ways: an even number of them is 1.
SHAPES = [
    (t, b, c, HEIGHT, w)
    for t, b, c, w in itertools.product((1, 3), (1, 2), (1, 3), (1, 4))
    if (t, b, c, w).count(1) % 2 == 0
]
FORMATS = (
    ("contiguous", torch.float64, 1e-9),
    ("channels_last", torch.float64, 1e-9),
    ("channels_last", torch.float32, 1e-3),
)
LAYOUTS = {"contiguous": torch.clone, "channels_last": lambda x: x.movedim(-3, -1).contiguous().movedim(-1, -3)}
# Functions, containers of rules without time, and layers of spike times.
OTHERS = {"accelerate", "calibrate", "calibrate_", "detach", "fuse", "like", "quantize", "replace", "reset", "within"}
OTHERS |= {"EventProp", "EventReadout", "SpikeProp", "IntegerLIF", "Sequential", "Time"}


class PerStep(nn.Module):
    """A layer of PyTorch that takes one step after the other, as in a loop of a user."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return torch.stack([self.layer(step) for step in x])


def neuron(name, **arguments):
    return lambda t, c, w: getattr(sn, name)(**arguments)


def flat(make):
    return lambda t, c, w: nn.Sequential(nn.Flatten(2), make(c * HEIGHT * w), nn.Unflatten(2, (c, HEIGHT, w)))


LAYERS = {
    **{name: neuron(name, tau=2.0) for name in ("LIF", "LI", "EIF", "QIF")},
    "ParametricLIF": neuron("ParametricLIF", init_tau=2.0),
    "IF": neuron("IF"),
    "ILIF": neuron("ILIF"),
    "ALIF": neuron("ALIF", tau=2.0, tau_adapt=5.0),
    "AdLIF": lambda t, c, w: sn.AdLIF(tau=(2.0, 5.0), tau_w=(5.0, 9.0)),
    "CubaLI": neuron("CubaLI", tau=2.0, tau_syn=3.0),
    "CubaLIF": neuron("CubaLIF", tau=2.0, tau_syn=3.0),
    "Izhikevich": neuron("Izhikevich", tau=2.0, tau_w=5.0),
    "PSN": lambda t, c, w: sn.PSN(t),
    "SlidingPSN": neuron("SlidingPSN", order=2),
    "RatePool": lambda t, c, w: sn.RatePool(nn.MaxPool2d(3, 1, 1)),
    "Delay": lambda t, c, w: sn.Delay(c, 2.0),
    "RLIF": flat(lambda features: sn.RLIF(features, tau=2.0)),
    "Recurrent": flat(lambda features: sn.Recurrent(sn.IF(), features)),
    "SparseLinear": flat(lambda features: sn.SparseLinear(connect.one_to_one(features))),
    "SparseRecurrent": flat(lambda features: sn.SparseRecurrent(sn.IF(), connect.one_to_one(features))),
    "Recomputed": lambda t, c, w: sn.Recomputed(sn.LIF(2.0), sn.Time(nn.Conv2d(c, c, 1)), every=2),
    "SpikeLinear": lambda t, c, w: sn.SpikeLinear(w, 3),
    "SpikeConv2d": lambda t, c, w: sn.Time(sn.SpikeConv2d(c, 3, 3, padding=1)),
    **{name: neuron(name) for name in ("Count", "FirstSpike", "Last", "Max", "Rate")},
}
TIMES = {
    "Conv2d": lambda c, w: nn.Conv2d(c, 3, 3, padding=1),
    "Conv2d of one channel": lambda c, w: nn.Conv2d(c, 1, 1),
    "ConvTranspose2d": lambda c, w: nn.ConvTranspose2d(c, 3, 3),
    "BatchNorm2d": lambda c, w: nn.BatchNorm2d(c),
    "InstanceNorm2d": lambda c, w: nn.InstanceNorm2d(c, affine=True),
    "GroupNorm": lambda c, w: nn.GroupNorm(1, c),
    "LayerNorm": lambda c, w: nn.LayerNorm((HEIGHT, w)),
    "Linear": lambda c, w: nn.Linear(w, 3),
    "MaxPool2d": lambda c, w: nn.MaxPool2d((2, 1)),
    "AvgPool2d": lambda c, w: nn.AvgPool2d((2, 1)),
    "overlapping MaxPool2d": lambda c, w: nn.MaxPool2d(3, 1, 1),
    "AdaptiveAvgPool2d": lambda c, w: nn.AdaptiveAvgPool2d((2, 1)),
    "AdaptiveMaxPool2d": lambda c, w: nn.AdaptiveMaxPool2d((2, 1)),
    "Upsample": lambda c, w: nn.Upsample(scale_factor=2),
    "ZeroPad2d": lambda c, w: nn.ZeroPad2d(1),
    "ReLU": lambda c, w: nn.ReLU(),
    "Identity": lambda c, w: nn.Identity(),
}
LAYERS |= {f"Time {name}": lambda t, c, w, make=make: sn.Time(make(c, w)) for name, make in TIMES.items()}
LAYERS |= {
    "MultiStep": lambda t, c, w: MultiStep(nn.Conv2d(c, 3, 3, padding=1)),
    "EachStep": lambda t, c, w: EachStep(nn.BatchNorm2d(c)),
    "Time of several": lambda t, c, w: sn.Time(nn.Conv2d(c, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d((2, 1))),
}


def tells_its_format(image):
    """Return whether the strides of ``image``, also of sizes 1, are those of one of the two memory formats."""
    for order in ((3, 2, 1, 0), (1, 3, 2, 0)):
        least, fits = 1, True
        for dim in order:
            fits = fits and image.stride(dim) >= least
            least = max(least, image.stride(dim) * image.shape[dim])
        if fits:
            return True
    return False


def run(layer, after, x, layout):
    """Return results and gradients of ``after(layer(x))``, and the images that ``layer`` hands over and back."""
    x = layout(x).requires_grad_()
    y = layer(x)
    z = after(y)
    weight = torch.linspace(-1, 1, z.numel(), dtype=torch.float64).reshape(z.shape) ** 2
    weight = (layout(weight) if z.dim() > 3 else weight).to(z)
    found = [z, *torch.autograd.grad(z, [x, *layer.parameters(), *after.parameters()], weight)]
    return found, [image for t in (y.detach(), found[1]) if t.dim() == 5 for image in t]


def test_every_layer_is_here():
    assert set(sn.__all__) - OTHERS <= set(LAYERS)


@pytest.mark.parametrize("name", LAYERS)
def test_results_gradients_and_strides(name):
    for shape in SHAPES:
        steps, _, channels, _, width = shape
        torch.manual_seed(0)
        x = 2 * torch.rand(shape, dtype=torch.float64)
        layer = LAYERS[name](steps, channels, width).double()
        after, size = nn.Identity(), layer(x).shape
        if len(size) == 5 and size.numel() > steps * size[2]:  # PyTorch refuses to normalise a single value
            after = PerStep(nn.BatchNorm2d(size[2])).double()
        wanted, _ = run(copy.deepcopy(layer), copy.deepcopy(after), x, torch.Tensor.contiguous)
        for layout, dtype, near in FORMATS:
            where = f"{shape}, {layout}, {dtype}"
            alike = copy.deepcopy(layer).to(dtype), copy.deepcopy(after).to(dtype)
            found, images = run(*alike, x.to(dtype), LAYOUTS[layout])
            for got, want in zip(found, wanted, strict=True):
                off = (got - want).abs().max() / want.abs().max().clamp(min=1)
                assert off < near, f"{where}: {list(got.shape)} is {off:.2g} off"
            for image in images:
                assert 0 in image.stride() or tells_its_format(image), f"{where}: {image.shape}, {image.stride()}"
