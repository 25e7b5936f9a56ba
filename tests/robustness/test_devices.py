"""What ``--device auto`` takes, and what a driver that is too old is called, on machines that are not there."""

from types import SimpleNamespace

import pytest
import torch

import snnfast
from snnfast import backend, devices
from snnfast.backend import BackendError
from snnfast.cli.options import chosen_device
from snnfast.procedure import PROCEDURES

OLD = "the NVIDIA driver is for CUDA 12.4, but snnfast was built with CUDA 13.0: update the driver"


@pytest.fixture(autouse=True)
def fresh_driver():
    """What is kept of the driver is that of this test, and of no later one."""
    backend._driver_problem.cache_clear()
    yield
    backend._driver_problem.cache_clear()


@pytest.fixture
def machine(monkeypatch):
    """A machine with a GPU or without, and a build with kernels for it or without."""

    def make(gpu=True, kernels=True, driver_problem=""):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: int(gpu))
        extension = SimpleNamespace(
            with_cuda=kernels, cuda_driver_problem=lambda: driver_problem, cuda_archs="90"
        )
        monkeypatch.setattr(backend, "extension", extension)
        backend._driver_problem.cache_clear()

    return make


@pytest.mark.parametrize(
    ("there", "why"),
    [
        ({"gpu": False}, "sees no GPU"),
        ({"kernels": False}, "built without CUDA kernels"),
        ({"driver_problem": OLD}, OLD),
    ],
)
def test_without_a_gpu_that_runs_kernels_it_is_the_cpu(machine, there, why):
    machine(**there)
    for work in ("batches", "plasticity"):
        choice = devices.auto(work)
        assert choice.device == torch.device("cpu")
        assert why in choice.why


@pytest.mark.parametrize(
    "problem", ["Found no NVIDIA driver on your system", "No CUDA GPUs are available"]
)
def test_a_pytorch_for_cuda_says_why_it_sees_no_gpu(machine, monkeypatch, problem):
    def init():
        raise RuntimeError(problem + ". Please look at your system.")

    machine(gpu=False)
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.cuda, "init", init)
    expected = f"PyTorch {torch.__version__} sees no GPU ({problem})"
    assert devices.gpu_problem() == devices.auto("batches").why == expected


def test_with_a_gpu_it_is_the_faster_one(machine):
    machine()
    assert devices.auto("batches").device == torch.device("cuda")
    plasticity = devices.auto("plasticity")
    assert plasticity.device == torch.device("cpu")
    assert "one network learns faster on the CPU" in plasticity.why
    taken = {p.name: chosen_device("auto", p.work).type for p in PROCEDURES}
    assert taken.pop("stdp") == taken.pop("bp-stdp") == "cpu"
    assert set(taken.values()) == {"cuda"}


def test_info_says_which_and_why():
    info = snnfast.build_info()
    for work in ("batches", "plasticity"):
        choice = devices.auto(work)
        assert info[f"auto_{work}"] == str(choice.device)
        assert info[f"auto_{work}_why"] == choice.why


def test_info_names_driver_and_build(monkeypatch):
    class Old:
        def cuda_versions(self):
            return 12040, 13000

        def cuda_driver_problem(self):
            return OLD

        def __getattr__(self, name):
            return getattr(real, name)

    real = backend.extension
    monkeypatch.setattr(backend, "extension", Old())
    info = snnfast.build_info()
    assert (info["cuda_driver"], info["cuda_runtime"]) == ("12.4", "13.0")
    assert info["cuda_driver_problem"] == OLD


def test_kernels_do_not_run_on_a_driver_that_is_too_old(machine):
    machine(driver_problem=OLD)
    x = SimpleNamespace(device=torch.device("cuda"), is_cpu=False)
    assert backend.choose("lif", x) == ("reference", OLD)
    with backend.use("cuda"), pytest.raises(BackendError) as caught:
        backend.choose("lif", x)
    assert str(caught.value) == f"lif: backend 'cuda' was asked for, but {OLD}"
    machine()
    assert backend.choose("lif", x)[0] == "cuda"
