"""The SpikeProp part of n3ml's user manual, with n3ml -> snnfast and nothing else changed."""

from types import SimpleNamespace

import pytest
import torch

DATA = """
import n3ml.data
import n3ml.encoder

data_loader = n3ml.data.IRISDataLoader(ratio=0.8)
data = data_loader.run()
summary = data_loader.summarize()

data_encoder = n3ml.encoder.Population(neurons=12,
                                       minimum=summary['min'],
                                       maximum=summary['max'],
                                       max_firing_time=opt.max_firing_time,
                                       not_to_fire=opt.not_to_fire,
                                       dt=opt.dt)
"""

LABELS = """
class LabelEncoder:
    def __init__(self, num_classes):
        self.num_classes = num_classes

    def run(self, label):
        o = torch.zeros(self.num_classes)
        o.fill_(13)  # 15 13
        o[label].fill_(8)  # 5 7
        return o

label_encoder = LabelEncoder(opt.num_classes)
"""

MODEL = """
import n3ml.model
import n3ml.optimizer

model = n3ml.model.Bohte2002()
model.initialize()
optimizer = n3ml.optimizer.Bohte()
"""


@pytest.fixture
def names():
    torch.manual_seed(0)
    # The defaults of the script that the manual points to.
    opt = SimpleNamespace(num_classes=3, dt=1, max_firing_time=30, not_to_fire=28)
    names = {"opt": opt, "torch": torch}
    for part in (DATA, LABELS, MODEL):
        exec(compile(part.replace("n3ml", "snnfast"), "manual", "exec"), names)
    return names


def spikes(names, sample):
    """Twelve fields a feature and two inputs that always fire at 0, as in n3ml's script."""
    encoded = names["data_encoder"].run(sample).flatten()
    return torch.cat([encoded, encoded.new_zeros(2)])


def test_spikeprop_snippet_runs_as_printed(names):
    assert names["data"]["train.data"].shape == (120, 4)
    assert names["data_encoder"].run(names["data"]["train.data"][0]).shape == (4, 12)
    assert names["label_encoder"].run(1).tolist() == [13, 8, 13]
    assert names["model"](spikes(names, names["data"]["train.data"][0])).shape == (3,)
    weights = torch.cat([layer.weight.flatten() for layer in names["model"].layers])
    assert 0.02 <= weights.min() < weights.max() <= 0.1
    assert names["optimizer"].lr == 0.0075


def test_snippets_parts_together_learn_iris(names):
    train, target = names["data"]["train.data"], names["data"]["train.target"].tolist()
    model, optimizer = names["model"], names["optimizer"]
    inputs = torch.stack([spikes(names, sample) for sample in train])
    labels = torch.stack([names["label_encoder"].run(label) for label in target])

    def correct():
        return (model(inputs).argmin(1) == torch.tensor(target)).float().mean().item()

    before = correct()
    for _ in range(2):
        for x, wanted in zip(inputs, labels):
            optimizer.step(model=model, spiked_input=x, spiked_label=wanted)
    assert correct() > max(before, 0.6)
