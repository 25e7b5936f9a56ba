"""Event recordings, in files that the tests write in the formats of the data sets."""

import csv
import importlib
import math
import struct
import sys

import numpy as np
import pytest
import torch
from samples import assert_equal
from torch.utils.data import DataLoader

from snnfast import data

events = importlib.import_module("snnfast_zoo.data.events")


def write_heidelberg(path, samples, labels, kind_of_labels=np.uint16):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        group = file.create_group("spikes")
        for name, kind, k in (("times", np.float32, 0), ("units", np.uint16, 1)):
            dataset = group.create_dataset(name, (len(samples),), h5py.vlen_dtype(kind))
            for n, sample in enumerate(samples):
                dataset[n] = np.array([event[k] for event in sample], kind)
        file["labels"] = np.array(labels, kind_of_labels)
    return path


SPOKEN = [[(0.001, 3), (0.0095, 3), (0.025, 699)], [], [(0.031, 0), (0.5, 7)]]


@pytest.fixture
def spoken(tmp_path):
    return write_heidelberg(tmp_path / "shd.h5", SPOKEN, [4, 0, 19])


def write_nmnist(path, found):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [(x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255) for x, y, p, t in found]
    path.write_bytes(bytes(byte for row in rows for byte in row))


def packet(kind, found, overflow=0):
    body = b"".join(struct.pack("<Ii", (x << 17) | (y << 2) | (p << 1) | valid, t) for x, y, p, t, valid in found)
    return struct.pack("<hhiiiiii", kind, 0, 8, 4, overflow, len(found), len(found), len(found)) + body


def write_gestures(folder, name, packets, rows):
    header = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 0: DVS128\r\n#!END-HEADER\r\n"
    (folder / name).write_bytes(header + b"".join(packets))
    with (folder / f"{name.removesuffix('.aedat')}_labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("class", "startTime_usec", "endTime_usec"), *rows])


# ---- reading


def test_heidelberg_by_hand(spoken):
    found = data.heidelberg(spoken, num_steps=4)
    assert found.frames.shape == (3, 4, 700)
    assert found.frames.dtype == torch.uint8
    assert found.frames.nonzero().tolist() == [[0, 0, 3], [0, 2, 699], [2, 3, 0]]
    assert found.frames[0, 0, 3] == 2
    assert found.labels.tolist() == [4, 0, 19]
    assert found.lengths.tolist() == [3, 1, 4]  # without the event at 500 ms
    pooled = data.heidelberg(spoken, num_steps=60, pool=100, dtype=torch.bool)
    assert pooled.frames.dtype == torch.bool
    assert pooled.frames.nonzero().tolist() == [[0, 0, 0], [0, 2, 6], [2, 3, 0], [2, 50, 0]]
    assert pooled.lengths.tolist() == [3, 1, 51]


def test_a_batch_is_time_first_and_stays_in_bytes(spoken):
    frames, labels, lengths = data.heidelberg(spoken, num_steps=4).batch([2, 0])
    assert frames.shape == (4, 2, 700)
    assert frames.dtype == torch.uint8
    assert frames.nonzero().tolist() == [[0, 1, 3], [2, 1, 699], [3, 0, 0]]
    assert (labels.tolist(), lengths.tolist()) == ([19, 4], [4, 3])


def test_batches_of_a_loader_and_a_short_name(spoken):
    found = data.heidelberg(spoken, num_steps=4)
    loader = DataLoader(range(len(found.labels)), batch_size=2, collate_fn=found.batch)
    assert [list(frames.shape) for frames, _, _ in loader] == [[4, 2, 700], [4, 1, 700]]
    assert repr(found) == "EventFrames(3 samples, frames [3, 4, 700] of torch.uint8)"


def test_counts_end_at_255(tmp_path):
    file = write_heidelberg(tmp_path / "shd.h5", [[(0.001, 5)] * 300], [1])
    assert data.heidelberg(file, num_steps=2).frames[0, 0, 5] == 255


def test_nmnist_by_hand(tmp_path):
    write_nmnist(tmp_path / "Train/3/00002.bin", [(33, 0, 1, 9_999), (2, 31, 0, 10_000), (2, 31, 0, 15_000)])
    write_nmnist(tmp_path / "Train/0/00001.bin", [(1, 2, 1, 290_000)])
    write_nmnist(tmp_path / "Test/7/00001.bin", [])
    found = data.nmnist(tmp_path)
    assert found.frames.shape == (2, 30, 2, 34, 34)
    assert found.labels.tolist() == [0, 3]
    assert found.frames.nonzero().tolist() == [[0, 29, 1, 2, 1], [1, 0, 1, 0, 33], [1, 1, 0, 31, 2]]
    assert found.frames[1, 1, 0, 31, 2] == 2
    assert found.lengths.tolist() == [30, 2]
    assert data.nmnist(tmp_path, train=False).labels.tolist() == [7]


def test_a_list_names_recordings_of_nmnist(tmp_path):
    for number, x in ((7, 3), (12, 5)):
        write_nmnist(tmp_path / f"{number}.bs2", [(x, 0, 1, 0)])
    listed = tmp_path / "train.txt"
    listed.write_text("#sample #class\n12\t4\n7 9\n")
    found = data.nmnist(listed, num_steps=2, cache=tmp_path / "cache")
    assert found.labels.tolist() == [4, 9]
    assert found.frames.nonzero().tolist() == [[0, 0, 1, 0, 5], [1, 0, 1, 0, 3]]
    listed.write_text("7 9")  # the cache belongs to another list
    assert data.nmnist(listed, num_steps=2, cache=tmp_path / "cache").labels.tolist() == [9]
    for content, kind, message in (
        ("", ValueError, "it is empty"),
        ("7 nine", ValueError, "lines 'number class', got '7 nine'"),
        ("8 1", FileNotFoundError, "there is no file .*8.bs2"),
    ):
        listed.write_text(content)
        with pytest.raises(kind, match=f"^nmnist: .*{message}"):
            data.nmnist(listed)


def test_an_event_exactly_at_the_end_of_the_last_step_is_left_out(tmp_path):
    write_nmnist(tmp_path / "Train/3/1.bin", [(1, 2, 1, 299_999), (1, 2, 1, 300_000), (4, 4, 0, 300_001)])
    found = data.nmnist(tmp_path)
    assert found.frames.shape == (1, 30, 2, 34, 34)
    assert found.frames.nonzero().tolist() == [[0, 29, 1, 2, 1]]
    assert found.frames.sum() == 1
    assert found.lengths.tolist() == [30]


def test_gestures_by_hand(tmp_path):
    polarity = [(127, 4, 1, 1_000_000, 1), (0, 0, 0, 1_030_000, 1), (9, 9, 1, 1_030_000, 0)]
    packets = [packet(0, [(0, 0, 0, 5, 1)]), packet(1, polarity), packet(1, [(5, 6, 1, 10, 1)], overflow=1)]
    late = (1 << 31) + 5
    write_gestures(tmp_path, "user01.aedat", packets, [(11, 1_000_000, 1_100_000), (1, late, late + 9)])
    (tmp_path / "trials_to_train.txt").write_text("user01.aedat\n\n")
    found = data.dvs128_gesture(tmp_path, num_steps=3)
    assert found.frames.shape == (2, 3, 2, 32, 32)
    assert found.frames.nonzero().tolist() == [[0, 0, 1, 1, 31], [0, 1, 0, 0, 0], [1, 0, 1, 1, 1]]
    assert found.labels.tolist() == [10, 0]
    assert found.lengths.tolist() == [2, 1]
    assert data.dvs128_gesture(tmp_path, num_steps=3, pool=1).frames[0, 0, 1, 4, 127] == 1


# ---- the cache


def test_the_cache_is_used_and_notices_other_settings_and_other_files(spoken, tmp_path, monkeypatch):
    reads = []
    count = events._count
    monkeypatch.setattr(events, "_count", lambda *a: reads.append(1) or count(*a))
    cache = tmp_path / "cache"

    def read(**changes):
        found = data.heidelberg(spoken, cache=cache, **{"num_steps": 4, **changes})
        want = data.heidelberg(spoken, **{"num_steps": 4, **changes})
        reads.pop()
        torch.testing.assert_close(tuple(found), tuple(want), rtol=0, atol=0)
        return len(reads)

    assert [read(), read()] == [1, 1]
    assert [read(dt=5.0), read(dt=5.0), read(num_steps=5), read(pool=7)] == [2, 2, 3, 4]
    assert [read(dtype=torch.bool), read(dtype=torch.bool)] == [5, 5]
    write_heidelberg(spoken, [[(0.001, 5)]], [2])
    assert [read(), read()] == [6, 6]
    monkeypatch.setattr(events, "VERSION", events.VERSION + 1)
    assert [read(), read()] == [7, 7]


def test_what_is_written_into_frames_does_not_reach_the_cache(spoken, tmp_path):
    data.heidelberg(spoken, num_steps=4, cache=tmp_path).frames.fill_(9)
    assert data.heidelberg(spoken, num_steps=4, cache=tmp_path).frames.max() == 2


def test_the_parts_of_a_set_are_held_side_by_side(tmp_path, monkeypatch):
    for part, label in (("Train", 3), ("Test", 7)):
        write_nmnist(tmp_path / f"{part}/{label}/1.bin", [(1, 2, 1, 3)])
    spoken = [write_heidelberg(tmp_path / f"{k}.h5", [[(0.001, k)]], [k]) for k in range(2)]

    def read():
        sets = [data.nmnist(tmp_path, train, cache=tmp_path / "cache") for train in (True, False)]
        sets += [data.heidelberg(file, cache=tmp_path / "cache") for file in spoken]
        return [one.labels.item() for one in sets]

    assert read() == [3, 7, 0, 1]
    monkeypatch.setattr(events, "_count", None)  # nothing is read again
    assert read() == [3, 7, 0, 1]


class Trap:
    def __reduce__(self):
        return print, ("unpickled",)


@pytest.mark.parametrize("name", [".bin", ".npy"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "pickle", "other", "dtype", "zip"])
def test_a_damaged_cache_is_made_anew_and_never_unpickled(spoken, tmp_path, name, damage, capsys):
    cache = tmp_path / "cache"
    want = data.heidelberg(spoken, num_steps=4, cache=cache)
    (file,) = cache.glob(f"heidelberg-shd-*{name}")
    whole = file.read_bytes()
    file.unlink()
    if damage in ("empty", "cut"):
        file.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"")
    elif damage != "missing":
        array = {
            "pickle": np.array([Trap()]),
            "other": np.zeros((3, 5), np.int64),
            "dtype": want.labels.new_zeros(3, len(want.labels)).double().numpy(),
        }.get(damage)
        with file.open("wb") as stream:
            if array is None:
                stream.write(b"PK\3\4")  # as a zip file begins
            else:
                np.save(stream, array, allow_pickle=True)
    for _ in range(2):
        found = data.heidelberg(spoken, num_steps=4, cache=cache)
        torch.testing.assert_close(tuple(found), tuple(want), rtol=0, atol=0)
        assert file.read_bytes() == whole
    assert "unpickled" not in capsys.readouterr().out


@pytest.mark.parametrize("name", [".bin", ".npy"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool])
def test_a_flipped_bit_in_the_cache_is_noticed(spoken, tmp_path, name, dtype):
    """In frames, labels, lengths and checksums; the cache is then rebuilt."""
    want = data.heidelberg(spoken, num_steps=4, dtype=dtype, cache=tmp_path)
    want = [t.clone() for t in want]  # frames are mapped from the file
    (file,) = tmp_path.glob(f"heidelberg-shd-*{name}")
    whole = file.read_bytes()
    places = range(0, len(whole), 701) if name == ".bin" else range(128, len(whole), 7)
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % (8 if dtype == torch.uint8 or name == ".npy" else 1)
        file.write_bytes(damaged)
        found = data.heidelberg(spoken, num_steps=4, dtype=dtype, cache=tmp_path)
        torch.testing.assert_close(list(found), want, rtol=0, atol=0)
        assert file.read_bytes() == whole


@pytest.mark.parametrize("num_steps", [10**12, 10**16, 2**62])
@pytest.mark.parametrize("cached", [False, True])
def test_more_steps_than_fit_into_memory_are_a_clear_error(spoken, tmp_path, num_steps, cached):
    cache = tmp_path / "cache" if cached else None
    with pytest.raises(
        MemoryError, match=rf"^heidelberg: num_steps={num_steps} steps of 700 cells, .* give fewer steps"
    ):
        data.heidelberg(spoken, num_steps=num_steps, cache=cache)
    assert not cached or not list(cache.iterdir())


def test_the_cache_keeps_its_set_until_another_is_whole(spoken, tmp_path, monkeypatch):
    want = data.heidelberg(spoken, num_steps=4, cache=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(events, "_count", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            data.heidelberg(spoken, num_steps=5, cache=tmp_path)
        found = data.heidelberg(spoken, num_steps=4, cache=tmp_path)
    torch.testing.assert_close(tuple(found), tuple(want), rtol=0, atol=0)
    data.heidelberg(spoken, num_steps=5, cache=tmp_path)
    assert len(list(tmp_path.glob("*heidelberg*"))) == 2


def test_two_programs_with_other_settings_get_each_its_own(spoken, tmp_path, monkeypatch):
    """The second one begins and ends while the first one writes its labels."""
    want = [data.heidelberg(spoken, num_steps=steps) for steps in (4, 5)]
    save, second = np.save, []

    def between(*arguments, **options):
        monkeypatch.setattr(np, "save", save)
        second.append(data.heidelberg(spoken, num_steps=5, cache=tmp_path))
        save(*arguments, **options)

    monkeypatch.setattr(np, "save", between)
    first = data.heidelberg(spoken, num_steps=4, cache=tmp_path)
    for found in ([first, *second], [data.heidelberg(spoken, num_steps=n, cache=tmp_path) for n in (4, 5)]):
        for one, wanted in zip(found, want):
            torch.testing.assert_close(tuple(one), tuple(wanted), rtol=0, atol=0)


# ---- errors


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dt": 0}, ValueError, "heidelberg: dt must be positive, got 0"),
        ({"dt": 1e-10}, ValueError, "heidelberg: dt must be at least 1e-06 ms, got 1e-10"),
        ({"num_steps": 0}, ValueError, "heidelberg: num_steps must be at least 1, got 0"),
        ({"pool": 3}, ValueError, "heidelberg: pool must divide 700, got 3"),
        ({"dtype": torch.float32}, TypeError, "dtype must be torch.uint8 or torch.bool, got torch.float32"),
    ],
)
def test_errors_of_arguments(spoken, options, error, message):
    with pytest.raises(error, match=message):
        data.heidelberg(spoken, **options)


def test_an_event_at_the_border_of_steps_belongs_to_the_later_one(tmp_path):
    write_nmnist(tmp_path / "Train/0/1.bin", [(0, 0, 0, 16_100)])  # 1000 * 16.1 is more in floating point
    assert data.nmnist(tmp_path, dt=16.1, num_steps=3).lengths.tolist() == [2]


@pytest.mark.parametrize("function", [data.nmnist, data.dvs128_gesture])
def test_the_part_is_a_truth_value(tmp_path, function):
    with pytest.raises(TypeError, match="train must be True or False, got 'test'"):
        function(tmp_path, "test")


@pytest.mark.parametrize("indices", [[True, False, True], torch.ones(3), [0.0], [[0]], 1, slice(2)])
def test_a_batch_takes_integers_alone(spoken, indices):
    with pytest.raises(TypeError, match=r"EventFrames: indices must be integers \[B\], got "):
        data.heidelberg(spoken, num_steps=4).batch(indices)
    assert data.heidelberg(spoken, num_steps=4).batch([])[1].tolist() == []


@pytest.mark.parametrize(("label", "kind"), [(-3, np.int64), (1.7, np.float32)])
def test_labels_of_heidelberg_are_classes(tmp_path, label, kind):
    file = write_heidelberg(tmp_path / "shd.h5", [[(0.1, 7)]], [label], kind)
    with pytest.raises(ValueError, match=r"sample 0 of .*its label must be an integer from 0 on"):
        data.heidelberg(file)


@pytest.mark.parametrize("label", [0, 12])
def test_labels_of_gestures_are_classes(tmp_path, label):
    write_gestures(tmp_path, "a.aedat", [], [(label, 0, 9)])
    (tmp_path / "trials_to_train.txt").write_text("a.aedat")
    with pytest.raises(ValueError, match=r"a_labels.csv: class must lie in \[1, 11\], got"):
        data.dvs128_gesture(tmp_path)


def test_errors_of_files(tmp_path, spoken, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"heidelberg: there is no file .*no.h5"):
        data.heidelberg(tmp_path / "no.h5")
    (tmp_path / "text.h5").write_text("spikes")
    with pytest.raises(ValueError, match=r"text.h5 is no HDF5 file"):
        data.heidelberg(tmp_path / "text.h5")
    file = write_heidelberg(tmp_path / "units.h5", [[(0.1, 700)]], [0])
    with pytest.raises(ValueError, match=r"sample 0 of .*units.h5: units must lie in \[0, 699\], got values from 700"):
        data.heidelberg(file)
    file = write_heidelberg(tmp_path / "times.h5", [[(-0.1, 7)]], [0])
    with pytest.raises(ValueError, match=r"sample 0 of .*times.h5: times must lie in \[0, 1e6\) s"):
        data.heidelberg(file)
    h5py = pytest.importorskip("h5py")
    for name, value, message in (
        ("labels", 3, r"equally many times, units and labels, got shapes \[3\], \[3\], \[\]"),
        ("spikes/times", [b"a", b"b", b"c"], "sample 0 of .*: times and units must be numbers, got"),
    ):
        file = write_heidelberg(tmp_path / "odd.h5", SPOKEN, [4, 0, 19])
        with h5py.File(file, "a") as content:
            del content[name]
            content[name] = value
        with pytest.raises(ValueError, match=message):
            data.heidelberg(file)
    (tmp_path / "trials_to_train.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"trials_to_train.txt must name recordings, it is empty"):
        data.dvs128_gesture(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nmnist: .*Train must hold recordings"):
        data.nmnist(tmp_path)
    write_nmnist(tmp_path / "Train/1/1.bin", [(34, 0, 0, 1)])
    with pytest.raises(ValueError, match=r"1.bin: x must lie in \[0, 33\], got values from 34 to 34"):
        data.nmnist(tmp_path)
    (tmp_path / "Train/1/1.bin").write_bytes(b"1234567")
    with pytest.raises(ValueError, match=r"1.bin must have five bytes an event, got 7 bytes"):
        data.nmnist(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"dvs128_gesture: there is no file .*trials_to_test.txt"):
        data.dvs128_gesture(tmp_path, train=False)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"h5py reads: pip install '\.\[events\]'"):
        data.heidelberg(spoken)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"#!AER-DAT2.0\r\n", "must begin with #!AER-DAT3.1, got"),
        (b"#!AER-DAT3.1\r\n#no end", "ends within its header"),
        (b"#!AER-DAT3.1\r\n#!END-HEADER\r\n" + b"1" * 10, "ends within the header of a packet"),
        (b"#!AER-DAT3.1\r\n#!END-HEADER\r\n" + packet(1, [(1, 1, 1, 1, 1)])[:-1], "ends within a packet of 1 events"),
        (b"#!AER-DAT3.1\r\n#!END-HEADER\r\n" + packet(1, [(128, 1, 1, 1, 1)]), r"x must lie in \[0, 127\]"),
    ],
)  # fmt: skip
def test_errors_of_aedat_files(tmp_path, content, message):
    write_gestures(tmp_path, "a.aedat", [], [(1, 0, 9)])
    (tmp_path / "a.aedat").write_bytes(content)
    (tmp_path / "trials_to_train.txt").write_text("a.aedat")
    with pytest.raises(ValueError, match=f"aedat3: .*a.aedat.*{message}"):
        data.dvs128_gesture(tmp_path)


def test_errors_of_tables_of_gestures(tmp_path):
    write_gestures(tmp_path, "a.aedat", [], [(1, 0, "x")])
    (tmp_path / "trials_to_train.txt").write_text("a.aedat")
    with pytest.raises(ValueError, match=r"a_labels.csv must have the columns class, startTime_usec"):
        data.dvs128_gesture(tmp_path)
    (tmp_path / "a_labels.csv").write_text("class,start,end\n")
    with pytest.raises(ValueError, match=r"columns class, .* of integers, got class, start, end"):
        data.dvs128_gesture(tmp_path)
    (tmp_path / "a_labels.csv").write_text("")
    with pytest.raises(ValueError, match=r"columns class, .* of integers, got none"):
        data.dvs128_gesture(tmp_path)
    (tmp_path / "a_labels.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no file .*a_labels.csv"):
        data.dvs128_gesture(tmp_path)


def test_frames_of_events_in_arrays():
    events = np.array(
        [(70, 1, 0, 1), (50, 3, 2, 0), (50, 3, 2, 0), (95, 0, 1, 1)],
        dtype=[("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "?")],
    )
    columns = [events[name] for name in "txyp"]
    frames = data.frames(*columns, size=(3, 4), dt=20)
    wanted = torch.zeros(3, 2, 3, 4, dtype=torch.uint8)
    wanted[0, 0, 2, 3], wanted[1, 1, 0, 1], wanted[2, 1, 1, 0] = 2, 1, 1
    assert_equal(frames, wanted)
    signed = [*columns[:3], np.where(events["p"], 1, -1)]
    assert_equal(data.frames(*signed, size=(3, 4), dt=20), wanted)
    seconds = [columns[0] / 1e6, *(torch.tensor(values.tolist()) for values in columns[1:3])]
    assert_equal(data.frames(*seconds, size=(3, 4), dt=19e-6), wanted.sum(1, keepdim=True).byte())
    assert_equal(data.frames(*columns, size=(3, 4), dt=20, num_steps=5)[:3], wanted)
    assert_equal(data.frames(*columns, size=(3, 4), dt=20, num_steps=1), wanted[:1])
    assert data.frames([], [], [], size=(3, 4), dt=1, num_steps=2).sum() == 0


def test_frames_count_as_those_of_nmnist(tmp_path):
    rng = np.random.default_rng(0)
    t, (x, y, p) = np.sort(rng.integers(0, 300_000, 500)), rng.integers(0, 2, (3, 500))
    t[0] = 0
    content = (bytes([b, c, d << 7 | a >> 16, a >> 8 & 255, a & 255]) for a, b, c, d in zip(t, x, y, p))
    (tmp_path / "7.bs2").write_bytes(b"".join(content))
    (tmp_path / "list.txt").write_text("7 0")
    frames = data.frames(t, x, y, p, size=(34, 34), dt=10_000, num_steps=30)
    assert_equal(data.nmnist(tmp_path / "list.txt").frames[0], frames)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"x": [4]}, ValueError, r"x must lie in \[0, 3\]"),
        ({"y": [-1]}, ValueError, r"y must lie in \[0, 2\]"),
        ({"p": [2]}, ValueError, r"p must lie in \[0, 1\]"),
        ({"x": [0.5]}, ValueError, "x must be integers"),
        ({"x": [1, 2]}, ValueError, "x must hold as many events as t, 1, got 2"),
        ({"t": [math.nan]}, ValueError, "t must be finite"),
        ({"t": 3}, TypeError, r"t must be numbers of shape \[events\], got int64 \[\]"),
        ({"t": ["a"]}, TypeError, "t must be numbers"),
        ({"dt": 0}, ValueError, "dt must be"),
        ({"size": (0, 4)}, ValueError, "size"),
        ({"size": 4}, TypeError, "size"),
        ({"num_steps": 0}, ValueError, "num_steps must be"),
        ({"t": [], "x": [], "y": [], "p": []}, ValueError, "give num_steps, there are no events"),
    ],
)
def test_errors_of_frames(changes, error, message):
    arguments = {"t": [5], "x": [1], "y": [1], "p": [1], "size": (3, 4), "dt": 2.0} | changes
    with pytest.raises(error, match=f"^frames: {message}"):
        data.frames(**arguments)
