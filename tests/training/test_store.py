"""Maps on disk: what kills, company, damage and full disks do to them."""

import gzip
import json
import mmap
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from map_teacher import COUNT, IDS, Teacher, compute, one_by_one, true_rows
from tiny_clip import some_images, tiny_clip, unit_vectors

from tedloc.errors import UserError
from tedloc.methods.clip_es import clip_es
from tedloc.training.store import CHUNK, MapStore, fetch, size_text, stored_maps

TESTS = Path(__file__).resolve().parents[1]
IMPORTS = """
import os, signal, time
from pathlib import Path
import numpy as np
from map_teacher import COUNT, IDS, Teacher, compute, one_by_one, true_rows
from tedloc.training import store as map_store
from tedloc.training.store import CHUNK, stored_maps
"""


def start(script, *arguments):
    """A process of its own that runs a few lines."""
    code = f"import sys; sys.path.insert(0, {str(TESTS)!r})\n{IMPORTS}\n{script}"
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)


DIE = """
moment, folder, notes = sys.argv[1:]
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
write = map_store._write
def torn(file, offset, data):
    third = offset == 2 * (8 if file.name == "chunks.bin" else CHUNK * true_rows(np.arange(1)).nbytes)
    if third and file.name == "chunks.bin" and moment == "rows written, checksum not":
        die()
    if third and file.name == "maps.bin" and moment == "half of the rows written":
        write(file, offset, np.ascontiguousarray(data)[:20]), die()
    if third and file.name == "chunks.bin" and moment == "half of the checksum written":
        write(file, offset, data[:1]), die()
    write(file, offset, data)
    if third and file.name == "chunks.bin" and moment == "checksum written":
        die()
map_store._write = torn
compute(Path(folder), notes)
"""


@pytest.mark.parametrize(
    "moment",
    ["half of the rows written", "rows written, checksum not", "half of the checksum written", "checksum written"],
)
def test_a_process_killed_in_the_third_batch_loses_that_and_the_one_beside_it_at_most(moment, tmp_path):
    process = start(DIE, moment, tmp_path / "store", tmp_path / "before")
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    lost = list(MapStore(tmp_path / "store").missing())
    assert 0 not in lost and {4, 5} <= set(lost)  # the second or the fourth may be on its way, too
    assert (2 in lost) == (moment != "checksum written")
    maps = compute(tmp_path / "store", tmp_path / "after", verify=True)
    again = [index for chunk in lost for index in range(chunk * CHUNK, min(COUNT, (chunk + 1) * CHUNK))]
    assert Teacher(tmp_path / "after").asked() == again
    assert np.array_equal(maps, true_rows(np.arange(COUNT)))


SHARE = """
folder, notes = sys.argv[1:]
teacher = Teacher(notes, pause=0.02)
maps = stored_maps(Path(folder), IDS, one_by_one(teacher), what="maps", settings={})
assert np.array_equal(maps, true_rows(np.arange(COUNT)))
"""


def test_two_processes_compute_every_image_exactly_once_and_the_same_bytes_as_one(tmp_path):
    both = [start(SHARE, tmp_path / "two", tmp_path / "notes") for _ in range(2)]
    assert [(process.communicate()[1], process.returncode)[1] for process in both] == [0, 0]
    compute(tmp_path / "one", tmp_path / "other notes")
    assert Teacher(tmp_path / "notes").asked() == list(range(COUNT))
    for name in ("maps.bin", "chunks.bin"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


HANG = """
folder, notes = sys.argv[1:]
def hang(index):
    if len(index) > 1:
        Path(notes).touch()
        time.sleep(600)
    return true_rows(index)
stored_maps(Path(folder), IDS, one_by_one(hang), what="maps", settings={})
"""


def test_the_part_of_a_process_that_dies_is_taken_over(tmp_path):
    hanging = start(HANG, tmp_path / "store", tmp_path / "hangs")
    while not (tmp_path / "hangs").exists():
        assert hanging.poll() is None
        time.sleep(0.05)
    teacher = Teacher(tmp_path / "notes")
    others = range(CHUNK, COUNT)

    def rows(index):
        if index[-1] == COUNT - 1:  # all but the first batch, which the other process holds, is done
            hanging.kill()
        return teacher(index)

    maps = stored_maps(tmp_path / "store", IDS, one_by_one(rows), what="maps", settings={})
    hanging.communicate()
    asked = [int(line) for line in (tmp_path / "notes").read_text().split()]
    assert asked == [*others, *range(CHUNK)] and np.array_equal(maps, true_rows(np.arange(COUNT)))


def flip_a_bit(file, place):
    content = bytearray(file.read_bytes())
    content[place] ^= 4
    file.write_bytes(content)


def test_a_damaged_chunk_is_found_by_its_checksum_and_only_it_is_computed_again(tmp_path, capsys):
    compute(tmp_path / "store", tmp_path / "first")
    flip_a_bit(tmp_path / "store" / "maps.bin", 2 * CHUNK * 15 + 8)
    maps = compute(tmp_path / "store", tmp_path / "second", verify=True)
    assert Teacher(tmp_path / "second").asked() == list(range(2 * CHUNK, 3 * CHUNK))
    assert np.array_equal(maps, true_rows(np.arange(COUNT)))
    assert "maps of birds/train: 1 of 6 chunks are damaged, the first at image 100" in capsys.readouterr().err


def test_a_damaged_checksum_costs_its_chunk_and_no_other(tmp_path):
    compute(tmp_path / "store", tmp_path / "first")
    flip_a_bit(tmp_path / "store" / "chunks.bin", 8 * 4 + 1)
    compute(tmp_path / "store", tmp_path / "second")
    assert Teacher(tmp_path / "second").asked() == list(range(4 * CHUNK, 5 * CHUNK))


def test_a_file_cut_short_is_noticed_without_asking_for_a_check(tmp_path):
    compute(tmp_path / "store", tmp_path / "first")
    os.truncate(tmp_path / "store" / "maps.bin", 3 * CHUNK * 15 + 1)
    maps = compute(tmp_path / "store", tmp_path / "second")
    assert Teacher(tmp_path / "second").asked() == list(range(3 * CHUNK, COUNT))
    assert np.array_equal(maps, true_rows(np.arange(COUNT)))


def test_a_whole_store_is_read_without_its_teacher_and_cannot_be_written_to(tmp_path):
    compute(tmp_path / "store", tmp_path / "notes")
    maps = stored_maps(tmp_path / "store", IDS, lambda: pytest.fail("loaded"), what="maps", settings={}, verify=True)
    with pytest.raises(ValueError, match="read-only"):
        maps[0] = 0


def test_a_store_says_what_it_holds(tmp_path):
    compute(tmp_path / "store", tmp_path / "notes")
    index = json.loads((tmp_path / "store" / "index.json").read_text())
    assert index == {
        "what": "maps of birds/train",
        "shape": [COUNT, 3, 5],
        "dtype": "|u1",
        "images a chunk": CHUNK,
        "settings": {"a": 1},
    }
    with gzip.open(tmp_path / "store" / "images.txt.gz", "rt") as lines:
        assert lines.read().split() == IDS


def test_the_size_is_told_before_anything_is_computed(tmp_path, capsys):
    def rows(index):
        if len(index) > 1:
            assert "maps of birds/train: 280 images x 2 views, 4.2 kB" in capsys.readouterr().err
            raise KeyboardInterrupt
        return true_rows(index)

    with pytest.raises(KeyboardInterrupt):
        stored_maps(tmp_path, IDS, one_by_one(rows), what="maps of birds/train", unit="images x 2 views", settings={})
    assert [size_text(size) for size in (6.28e9, 1.34e12, 999)] == ["6.3 GB", "1.3 TB", "1.0 kB"]


def test_a_disk_too_small_is_refused_at_once_and_what_is_there_already_needs_no_room(tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(4000))
    sentence = "280 images, 4.2 kB; 4.2 kB are missing, .*store has 4.0 kB free; set TEDLOC_CACHE"
    with pytest.raises(UserError, match=sentence):
        compute(tmp_path / "store", tmp_path / "notes")
    assert Teacher(tmp_path / "notes").asked() == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(4200))
    compute(tmp_path / "store", tmp_path / "notes")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0))
    compute(tmp_path / "store", tmp_path / "notes")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount, "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]
    done = mount and subprocess.run(command, capture_output=True)
    if not done or done.returncode:
        pytest.skip("mounting a small tmpfs takes root: the full disk is not tried")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_fills_up_ends_in_a_sentence_and_loses_nothing(small_disk, tmp_path):
    hog, full = small_disk / "somebody else's file", [True]

    def rows(index):
        if index[0] == 3 * CHUNK and full:
            with pytest.raises(OSError), open(hog, "wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
        return np.repeat(Teacher(tmp_path / "notes")(index)[:, None], 8, axis=1)  # 34 kB in all

    def run():
        return stored_maps(small_disk / "store", IDS, one_by_one(rows), what="maps of birds/train", settings={})

    with pytest.raises(UserError, match="the disk of .*store is full; make room and run the same command"):
        run()
    hog.unlink()
    full.clear()
    assert np.array_equal(run()[:, 5], true_rows(np.arange(COUNT)))
    asked = Teacher(tmp_path / "notes").asked()
    twice = {index for index in asked if asked.count(index) > 1}
    lost = set(range(CHUNK, COUNT))  # two are on their way when the fourth is computed, and two follow it
    assert set(asked) == set(range(COUNT)) and twice <= lost and max(map(asked.count, twice)) == 2


@pytest.mark.skipif(not hasattr(mmap, "MADV_WILLNEED"), reason="the system takes no advice on memory maps")
def test_rows_are_fetched_in_full_and_at_most_a_page_beside_each(tmp_path):
    fetched = []

    class Noted(mmap.mmap):
        def madvise(self, advice, start, length):
            fetched.append((start, start + length))
            super().madvise(advice, start, length)

    (tmp_path / "maps.bin").write_bytes(bytes(60 * 2 * 3000))
    with open(tmp_path / "maps.bin", "rb") as file:
        maps = np.ndarray((60, 2, 3000), np.uint8, Noted(file.fileno(), 0, access=mmap.ACCESS_READ))
    index, view = np.array([41, 0, 59]), np.array([1, 0, 1])
    fetch(maps, index, view), fetch(maps, index, 0), fetch(maps, index)
    firsts = [*(2 * index + view) * 3000, *2 * index * 3000, *2 * index * 3000]
    for first, size, (start, end) in zip(firsts, 6 * [3000] + 3 * [6000], fetched, strict=True):
        assert first - mmap.PAGESIZE < start <= first and end == first + size


def clip_es_maps(index):
    """CLIP-ES of a CLIP in miniature, as bytes."""
    images = some_images(2 * CHUNK + 20)[torch.from_numpy(index)]
    text, words = unit_vectors(5, seed=1), unit_vectors(4, seed=2)
    maps = clip_es(tiny_clip(), images, torch.from_numpy(index) % 5, text, words)
    return (maps * 255).round().to(torch.uint8).numpy()


CLIP_ES = """
from training.test_store import clip_es_maps
def rows(index):
    if index[0] == 2 * CHUNK:
        os.kill(os.getpid(), signal.SIGKILL)
    return clip_es_maps(index)
stored_maps(Path(sys.argv[1]), IDS[: 2 * CHUNK + 20], one_by_one(rows), what="CAMs", settings={})
"""


def test_clip_es_maps_of_a_killed_and_resumed_process_are_those_of_one_that_was_not(tmp_path):
    process = start(CLIP_ES, tmp_path / "killed")
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert list(MapStore(tmp_path / "killed").missing()) in ([2], [1, 2], [0, 1, 2], [0, 2])  # two may be on their way
    ids = IDS[: 2 * CHUNK + 20]
    resumed, whole = (
        stored_maps(tmp_path / name, ids, one_by_one(clip_es_maps), what="CAMs", settings={})
        for name in ("killed", "whole")
    )
    assert np.array_equal(resumed, whole) and whole.max() == 255
