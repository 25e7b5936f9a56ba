"""Health of training with ``fit``: silent networks, gradients that are not finite, progress without a terminal."""

import pytest
import torch
from torch import nn

from snnfast.nn import LIF, Rate, Time
from snnfast.train import Output, Run, fit
from snnfast_zoo.train import progress

pytestmark = pytest.mark.usefixtures("one_thread")


class Repeated(nn.Sequential):
    """Layers run over 20 steps of the same input."""

    def forward(self, x):
        return super().forward(x.expand(20, *x.shape))


def dead(decay_input=True):
    neurons = {"tau": 10.0, "decay_input": decay_input}
    first, last = Time(nn.Linear(60, 64)), Time(nn.Linear(64, 3))
    return Repeated(first, LIF(**neurons), last, LIF(**neurons), Rate())


def three_classes():
    labels = torch.arange(300) % 3
    share = 0.1 + 0.5 * (torch.arange(60)[None] // 20 == labels[:, None]).float()
    pixels = (torch.rand(300, 60, generator=torch.Generator().manual_seed(0)) < share).float()
    return (pixels[:240], labels[:240]), (pixels[240:], labels[240:])


def trained(model, said=None, epochs=8, lr=5e-3, clip=None, **options):
    run = Run(model, torch.optim.Adam(model.parameters(), lr), clip=clip)
    learn, held_out = three_classes()
    how = {"epochs": epochs, "batch_size": 20, "loss": nn.functional.cross_entropy}
    output = Output(progress=False, echo=None if said is None else said.append)
    return fit(run, learn, held_out, output=output, **{**how, **options})


@pytest.mark.parametrize("seed", range(3))
def test_a_network_that_never_fires_is_calibrated_and_learns(seed):
    torch.manual_seed(seed)
    said = []
    run = trained(dead(), said)
    assert run.history[-1]["held_out_accuracy"] >= 0.95
    assert said[0] == ("fires at the beginning: 1 at 0, 3 at 0 of the steps; weights scaled to a rate of 0.1")


@pytest.mark.filterwarnings("ignore:LIF.*Nothing fires")
def test_without_calibration_it_stays_at_chance():
    torch.manual_seed(0)
    assert trained(dead(), calibrate=None, epochs=2, lr=1e-3).history[-1]["held_out_accuracy"] < 0.5


def test_a_network_that_fires_is_left_as_it_is_to_the_bit():
    runs = []
    for rate in (0.1, None):
        torch.manual_seed(0)
        model = dead(decay_input=False)
        model[2].layer.weight.data *= 4
        runs.append(trained(model, epochs=1, calibrate=rate))
    for one, two in zip(*(run.model.parameters() for run in runs)):
        torch.testing.assert_close(one, two, rtol=0, atol=0)


class BlowUp(torch.autograd.Function):
    """Function that scales gradients in the calls from ``first`` to before ``end``."""

    calls, first, end = 0, 0, 0

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        BlowUp.calls += 1
        return grad * (1e38 if BlowUp.first < BlowUp.calls <= BlowUp.end else 1.0) * 10


class Tail(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(60, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.b(BlowUp.apply(self.a(x)))


@pytest.mark.parametrize("clip", [None, 1.0])
def test_steps_that_are_not_finite_are_skipped_and_counted(clip):
    BlowUp.calls, BlowUp.first, BlowUp.end = 0, 3, 7
    torch.manual_seed(0)
    said = []
    run = trained(Tail(), said, epochs=2, clip=clip)
    assert all(p.isfinite().all() for p in run.model.parameters())
    assert run.history[0]["skipped"] == 4
    assert "skipped" not in run.history[1]
    assert "4 steps skipped, gradient not finite" in said[0]
    assert run.history[-1]["held_out_accuracy"] >= 0.95


def test_after_ten_in_a_row_the_run_stops_with_what_to_try():
    BlowUp.calls, BlowUp.first, BlowUp.end = 0, 2, 99
    torch.manual_seed(0)
    model = Tail()
    with pytest.raises(ValueError, match=r"fit: the norm of the gradient is inf in 10 steps in a row, in ep") as e:
        trained(model, clip=1.0)
    for word in ("lower learning rate", "--clip", "spectral radius"):
        assert word in str(e.value)
    assert all(p.isfinite().all() for p in model.parameters())


def test_off_a_terminal_a_line_a_minute(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: False, raising=False)
    with progress.progress_bar("epoch 1/3", 1000) as bar:
        for _ in range(10):
            clock[0] += 25.0
            if bar.update(100):
                bar.set_postfix_str("loss 0.5", refresh=False)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["epoch 1/3: 300/1000, loss 0.5", "epoch 1/3: 600/1000, loss 0.5", "epoch 1/3: 900/1000, loss 0.5"]
    with progress.progress_bar("quiet", 100, progress=False) as bar:
        clock[0] += 100.0
        bar.update(50)
        bar.update(50)
    assert capsys.readouterr().err == ""
