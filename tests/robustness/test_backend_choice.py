"""Choice of the backend: by device, forced by ``use``, explained, never changed silently."""

import concurrent.futures
import threading
import warnings

import pytest
import torch
from backends import PRESENT
from samples import assert_equal, firing, neurons, over_neurons

from snnfast import backend, nn, ops, surrogate
from snnfast.backend import BackendError, BackendWarning, explain, use

NEURONS = neurons()
needs_kernels = pytest.mark.skipif("cpu" not in PRESENT, reason="no CPU kernels")


@pytest.fixture
def fresh_warnings(monkeypatch):
    monkeypatch.setattr(backend, "_warned", set())


def own_surrogate(u):
    return surrogate.atan()(u)


def test_a_warning_from_code_without_a_module(fresh_warnings):
    """torch.fx generates such code."""
    x = torch.rand(5, 3)
    with pytest.warns(BackendWarning, match="a surrogate of your own has no kernel"):
        exec("iaf(x, surrogate=own)", {"iaf": ops.iaf, "x": x, "own": own_surrogate})


@over_neurons("op", firing)
def test_surrogate_of_your_own_runs_in_the_reference_after_one_warning(op, fresh_warnings):
    x = torch.rand(5, 3) * 2
    with pytest.warns(BackendWarning, match="a surrogate of your own has no kernel"):
        got = op(x=x, surrogate=own_surrogate)
    assert_equal(list(got), list(op(x=x)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        op(x=x, surrogate=own_surrogate)


@needs_kernels
def test_kernels_warn_of_nothing(op, fresh_warnings):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        op(x=torch.rand(3, 2))


def test_forced_reference_warns_of_nothing(op, fresh_warnings):
    with warnings.catch_warnings(), use("reference"):
        warnings.simplefilter("error")
        op(x=torch.rand(3, 2))


@needs_kernels
def test_forced_cpu_refuses_what_has_no_kernel():
    with use("cpu"), pytest.raises(BackendError) as caught:
        ops.lif(torch.zeros(2, 2), surrogate=own_surrogate)
    assert str(caught.value) == ("lif: backend 'cpu' was asked for, but a surrogate of your own has no kernel")


@needs_kernels
def test_forced_cuda_refuses_input_on_the_cpu():
    with use("cuda"), pytest.raises(BackendError) as caught:
        ops.lif(torch.zeros(2, 2))
    assert str(caught.value) == ("lif: backend 'cuda' was asked for, but the cuda kernels need input on cuda, got cpu")


@needs_kernels
def test_forced_cpu_refuses_input_elsewhere():
    with use("cpu"), pytest.raises(BackendError, match="need input on cpu, got meta"):
        ops.lif(torch.zeros(2, 2, device="meta"))


def test_device_without_kernels_runs_in_the_reference_after_a_warning(fresh_warnings):
    with pytest.warns(BackendWarning, match="there are no kernels for device meta"):
        spikes, v = ops.lif(torch.zeros(4, 2, device="meta"))
    assert spikes.is_meta
    assert v.shape == (2,)


def test_use_nests_and_ends_also_after_an_error():
    x = torch.zeros(2, 2)
    with use("reference"):
        assert backend.choose("lif", x)[0] == "reference"
        with use(None):
            assert backend.choose("lif", x)[0] == ("cpu" if "cpu" in PRESENT else "reference")
        assert backend.choose("lif", x)[0] == "reference"
    with pytest.raises(KeyError), use("reference"):
        raise KeyError
    assert backend.forced() is None


def test_use_in_one_thread_is_seen_by_no_other():
    x = torch.zeros(2, 2)
    inside, outside = threading.Event(), threading.Event()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:

        def elsewhere():
            with use("reference"):
                inside.set()
                outside.wait(60)
                return backend.choose("lif", x)[0]

        in_thread = pool.submit(elsewhere)
        assert inside.wait(60)
        in_main = backend.choose("lif", x)[0]
        outside.set()
        assert in_thread.result() == "reference"
    assert in_main == ("cpu" if "cpu" in PRESENT else "reference")


def test_blocks_that_are_left_in_another_order_leave_nothing_forced():
    first, second = use("reference"), use("cpu")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert backend.forced() == "cpu"
    second.__exit__(None, None, None)
    assert backend.forced() is None


@needs_kernels
def test_compiled_code_follows_use():
    compiled = torch.compile(lambda x: ops.lif(x)[0], fullgraph=True, backend="eager")
    x = torch.rand(5, 3)
    compiled(x)
    with use("cuda"), pytest.raises(Exception, match="backend 'cuda' was asked for"):
        compiled(x)
    compiled(x)


def test_use_of_an_unknown_name_is_an_error():
    with pytest.raises(ValueError, match="expected one of cpu, cuda, reference, got 'gpu'"):
        use("gpu").__enter__()


def test_warning_points_to_the_line_that_called(fresh_warnings):
    with pytest.warns(BackendWarning) as caught:
        ops.lif(torch.rand(5, 3), surrogate=own_surrogate)
    assert caught[0].filename == __file__


def test_environment_of_an_unknown_name_is_an_error(monkeypatch):
    monkeypatch.setenv("SNNFAST_BACKEND", "gpu")
    with pytest.raises(BackendError, match="must be one of cpu, cuda, reference, got 'gpu'"):
        backend._from_environment()
    monkeypatch.setenv("SNNFAST_BACKEND", "reference")
    assert backend._from_environment() == "reference"
    monkeypatch.setenv("SNNFAST_BACKEND", "")
    assert backend._from_environment() is None


def test_explain_names_backend_and_reason():
    x = torch.zeros(2, 2)
    with use("reference"):
        assert explain("lif", x) == ("lif: plain PyTorch reference: SNNFAST_BACKEND or snnfast.backend.use asks for it")
        assert explain(ops.cuba, x).startswith("cuba: plain PyTorch reference")
    with pytest.raises(ValueError, match="give the input tensors"):
        explain("lif")
    assert explain(torch.nn.Linear(2, 2), x) == "Linear contains no snnfast layer"
    with pytest.raises(ValueError, match=r"explain: op must be one of adlif, .*, got 'lief'"):
        explain("lief", x)


@needs_kernels
def test_explain_lists_the_layers_of_a_module():
    layers = (nn.LIF(), nn.SpikeLinear(2, 2), nn.SpikeConv2d(1, 1, 1), nn.RLIF(2), nn.Delay(2, 1))
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), *layers, torch.nn.Sequential(nn.CubaLIF()))
    lines = [line.split(": ", 2) for line in explain(module, torch.zeros(2, 2)).splitlines()]
    # The neurons of a recurrent layer run in its op.
    ops = ("lif", "spike_linear", "spike_conv2d", "recurrent", "delay", "cuba")
    assert [line[:2] for line in lines] == [[name, op] for name, op in zip(("1", "2", "3", "4", "5", "6.0"), ops)]
    assert all(line[2].startswith("CPU kernels") for line in lines)
