"""Choice of ``--device auto``, and the error of a driver that is too old, on simulated machines."""

from types import SimpleNamespace

import pytest
import torch

import snnfast
from snnfast import backend
from snnfast.backend import BackendError, devices
from snnfast_zoo.cli.options import chosen_device
from snnfast_zoo.papers.conversion.convert import convert
from snnfast_zoo.papers.procedures import PROCEDURES

OLD = "the NVIDIA driver is for CUDA 12.4, but snnfast was built with CUDA 13.0: update the driver"


@pytest.fixture(autouse=True)
def fresh_driver():
    """Clear the cached facts about driver and card before and after a test."""
    forget()
    yield
    forget()


def forget():
    backend._driver_problem.cache_clear()
    backend._card_problem.cache_clear()


@pytest.fixture
def machine(monkeypatch):
    """Simulate a machine with or without a GPU, and a build with or without kernels for it."""

    def make(gpu=True, kernels=True, driver_problem="", capability=(9, 0), archs="90"):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: int(gpu))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A card")
        extension = SimpleNamespace(with_cuda=kernels, cuda_driver_problem=lambda: driver_problem, cuda_archs=archs)
        monkeypatch.setattr(backend, "extension", extension)
        forget()

    return make


@pytest.mark.parametrize(
    ("there", "why"),
    [
        ({"gpu": False}, "sees no GPU"),
        ({"kernels": False}, "built without CUDA kernels"),
        ({"driver_problem": OLD}, OLD),
        ({"capability": (7, 5)}, "A card has compute capability 7.5, and the CUDA kernels need 8.0"),
    ],
)
def test_without_a_gpu_that_runs_kernels_it_is_the_cpu(machine, there, why):
    machine(**there)
    for work in ("batches", "plasticity"):
        choice = devices.auto(work)
        assert choice.device == torch.device("cpu")
        assert why in choice.why


@pytest.mark.parametrize("problem", ["Found no NVIDIA driver on your system", "No CUDA GPUs are available"])
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
    assert "no GPU has been measured" in plasticity.why
    taken = {p.name: chosen_device("auto", p.work).type for p in PROCEDURES}
    assert taken.pop("stdp") == taken.pop("bp-stdp") == "cpu"
    assert set(taken.values()) == {"cuda"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named_everywhere(tmp_path):
    snnfast.procedure.diehl2015(out=tmp_path, epochs=0, progress=False, echo=None)
    for name, call in (
        ("stbp", lambda device: snnfast.procedure.stbp(device=device)),
        ("load", lambda device: snnfast.load(tmp_path, device=device)),
        ("convert", lambda device: convert(tmp_path, device=device)),
    ):
        with pytest.raises(
            ValueError, match=f"^{name}: device cuda:1 was asked for, but PyTorch .* sees no GPU.*; use device cpu"
        ):
            call("cuda:1")
        with pytest.raises(ValueError, match=f"^{name}: device must be cpu, cuda or cuda:N, got 'gpu'"):
            call("gpu")


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


@pytest.mark.parametrize(
    ("capability", "archs", "runs"),
    [
        ((8, 6), "80-real;90", True),  # machine code of a major version
        ((8, 0), "86-real", False),
        ((9, 0), "80-real", False),
        ((12, 0), "90-real;100", True),  # PTX
        ((12, 1), "80-real;120-real", True),
        ((11, 0), "80-real;90-real;100-real;120", False),
        ((10, 0), "90a-real", False),
        ((9, 0), "90a-real", True),
        ((10, 3), "100f-real", True),
        ((7, 5), "80-real;90", False),
    ],
)
def test_a_card_that_no_code_is_for_falls_back_and_says_so(machine, capability, archs, runs):
    machine(capability=capability, archs=archs)
    x = SimpleNamespace(device=torch.device("cuda", 1), is_cpu=False)
    found, why = backend.choose("lif", x)
    assert found == ("cuda" if runs else "reference")
    assert runs or "A card has compute capability {}.{}".format(*capability) in why
    if not runs and capability[0] >= 8:
        assert f"rebuild it with TORCH_CUDA_ARCH_LIST={capability[0]}.{capability[1]}" in why
