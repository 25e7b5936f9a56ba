"""The emulated CUDA runtime (csrc/cuda_emulation), on kernels with known results."""

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from samples import DTYPES, assert_all, neurons_that_fill

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).with_name("selftest.cu")
COMPILER = shutil.which("c++") or shutil.which("g++")

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")


def build(out, *flags):
    command = [COMPILER, "-O1", "-std=c++17", "-fPIC", "-shared", "-ffp-contract=off"]
    command += ["-Wno-unknown-pragmas", f"-I{ROOT}/csrc/cuda_emulation", f"-I{ROOT}/csrc", *flags]
    subprocess.run([*command, "-x", "c++", str(SOURCE), "-o", str(out)], check=True)
    return out


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return ctypes.CDLL(str(build(tmp_path_factory.mktemp("emulation") / "selftest.so")))


def pointer(t):
    return ctypes.c_void_p(t.data_ptr())


@pytest.fixture(params=["fwd", "rev", "rand:1", "rand:2"], autouse=True)
def schedule(request, monkeypatch):
    monkeypatch.setenv("SNNFAST_EMULATION_SCHEDULE", request.param)  # read at every launch
    return request.param


def test_shared_memory_and_barrier_transpose_a_matrix(library):
    a, b = torch.randn(130, 75), torch.zeros(75, 130)
    assert library.st_transpose(pointer(a), pointer(b), 130, 75) == 0
    torch.testing.assert_close(b, a.t(), rtol=0, atol=0)


def test_shuffles_and_atomics_sum_a_vector(library):
    x, out = torch.randint(-8, 8, (100_003,)).float(), torch.zeros(1)
    assert library.st_sum(pointer(x), pointer(out), ctypes.c_int64(x.numel()), 8) == 0
    assert out.item() == x.sum().item()


def test_ballot_packs_bits(library):
    s = (torch.rand(1000) < 0.3).float()
    bits, count = torch.zeros(32, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
    library.st_pack(pointer(s), pointer(bits), pointer(count), ctypes.c_int64(1000))
    got = (bits[:, None] >> torch.arange(32)) & 1
    torch.testing.assert_close(got.flatten()[:1000].float(), s, rtol=0, atol=0)
    assert count.item() == int(s.sum())


def test_shuffle_scans_a_warp(library):
    values = torch.randint(0, 9, (32,), dtype=torch.int32)
    result = torch.zeros_like(values)
    library.st_scan(pointer(values), pointer(result))
    torch.testing.assert_close(result, values.cumsum(0).int(), rtol=0, atol=0)


def test_halves_of_a_warp_may_diverge(library):
    result = torch.zeros(32, dtype=torch.int32)
    assert library.st_halves(pointer(result)) == 0
    v = torch.arange(32)
    for half, rounds in ((slice(0, 16), 3), (slice(16, 32), 5)):
        part = v[half].clone()
        for r in range(rounds):
            part = part + part[torch.arange(16) ^ (1 << (r & 3))]
        v[half] = part
    torch.testing.assert_close(result.long(), v + v.flip(0), rtol=0, atol=0)


def test_barriers_in_a_loop_count(library):
    x = torch.zeros(3 * 96)
    assert library.st_barriers(pointer(x), 3, 96, 50) == 0
    assert_all(x, 50)


def test_static_shared_memory_begins_as_nan(library):
    out = torch.zeros(3, 2)
    assert library.st_unwritten(pointer(out), 3) == 0
    assert out[:, 0].isnan().all()
    assert_all(out[:, 1], 1)


def test_missing_barrier_shows(library):
    a, b = torch.randn(128), torch.zeros(128)
    library.st_racy(pointer(a), pointer(b))
    assert not torch.equal(b, a.flip(0))


@pytest.mark.parametrize(("waits", "meets"), [(True, True), (True, False), (False, True)])
def test_a_copy_comes_when_its_group_is_waited_for(library, waits, meets):
    """Without a wait NaN is read, and also without a barrier after it if another thread began the copy."""
    a, out = torch.randn(32, 4), torch.zeros(6, 32)
    assert library.st_copy(pointer(a), pointer(out), waits, meets) == 0
    neighbours = out[:4].reshape(32, 4)
    assert torch.equal(neighbours, a.roll(-1, 0)) == (waits and meets)
    assert neighbours.isnan().any() == (not (waits and meets))
    assert out[4].isnan().all()
    torch.testing.assert_close(out[5], a[:, 0], rtol=0, atol=0)


def test_deadlock_is_reported_instead_of_hanging(library, capfd):
    assert library.st_stuck(pointer(torch.zeros(32, dtype=torch.int32))) == -1
    assert "deadlock in block (0,0,0)" in capfd.readouterr().err


def test_launch_of_too_many_threads_is_refused(library):
    assert library.st_toobig() == 9  # cudaErrorInvalidConfiguration


@pytest.mark.parametrize(
    ("driver", "error", "expected"),
    [
        (13000, 9, "invalid configuration argument"),
        (13010, 209, "no kernel image is available for execution on the device: build snnfast for this GPU "),
        (
            12040,
            35,
            "CUDA driver version is insufficient for CUDA runtime version: the NVIDIA driver is for CUDA 12.4, but "
            "snnfast was built with CUDA 13.0, which needs a driver for CUDA 13 (580 or later): update the driver, or "
            "build snnfast with nvcc 12 (set CUDA_HOME)",
        ),
    ],
)
def test_an_error_says_what_to_do_and_is_not_the_next_launchs(library, driver, error, expected):
    text = ctypes.create_string_buffer(500)
    assert library.st_error(driver, error, text, 500) == 0
    assert text.value.decode().startswith(expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_neurons_share_a_thread_only_where_they_fill_an_h100(library, dtype):
    for pairs, least in ((False, 1 << 19), (True, 1 << 16)):  # pairs: of 16 bits, 2^15 neurons
        neurons, size = neurons_that_fill(dtype, pairs=pairs), ctypes.c_int64(dtype.itemsize)
        assert neurons * dtype.itemsize == least
        assert library.st_fills(ctypes.c_int64(neurons), size, pairs)
        assert not library.st_fills(ctypes.c_int64(neurons - 1), size, pairs)


def test_address_sanitizer_finds_a_write_out_of_bounds(tmp_path, schedule):
    if schedule != "fwd":
        return
    run = [COMPILER, "-print-file-name=libasan.so"]
    asan = subprocess.run(run, capture_output=True, text=True).stdout.strip()
    if not Path(asan).exists():
        pytest.skip("no libasan")
    library = build(tmp_path / "asan.so", "-fsanitize=address", "-g1", "-O0")
    code = f"import ctypes; ctypes.CDLL({str(library)!r}).st_oob(64)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"LD_PRELOAD": asan, "ASAN_OPTIONS": "detect_leaks=0"},
        capture_output=True,
        text=True,
    )
    assert result.returncode != 0
    assert "heap-buffer-overflow" in result.stderr
    assert "oob_kernel" in result.stderr
