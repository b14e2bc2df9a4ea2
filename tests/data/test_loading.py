"""Photos read ahead by processes of their own: the same order and numbers, one sentence, nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tedloc.backbones.preprocessing import Preprocessing
from tedloc.data import ImageSet, processes
from tedloc.data.files import FileImages
from tedloc.data.loading import Photos
from tedloc.errors import UserError

COUNT = 23
BILINEAR = Preprocessing(16, (0.5,) * 3, (0.2,) * 3)
BATCHES = [np.array([22, 3]), np.array([5, 5, 0, 1]), np.array([7]), np.arange(8, 20)]


def described(kind, ids, **more):
    none = [np.zeros((0, 4), np.int64)] * len(ids)
    sizes = np.zeros((len(ids), 2), np.int64)
    return kind("photos", "train", ids, np.zeros(len(ids), np.int64), none, sizes, ["wren"], **more)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> FileImages:
    """JPEGs of different sizes, the 21st cut off."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for n in range(COUNT):
        noise = rng.integers(0, 256, (20 + n, 40 - n, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{n}.jpg")
    whole = (folder / "20.jpg").read_bytes()
    (folder / "20.jpg").write_bytes(whole[: len(whole) // 2])
    return described(FileImages, [f"{n}.jpg" for n in range(COUNT)], folder=folder)


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("bicubic", [False, True])
def test_order_numbers_and_layout_are_the_same_for_any_number_of_processes(workers, bicubic, images):
    preprocessing = Preprocessing(16, (0.5,) * 3, (0.2,) * 3, bicubic)
    photos = Photos(images, preprocessing.square, asked=workers)
    photos.ahead(BATCHES)
    for index in BATCHES:
        found, wanted = photos(index), torch.cat([preprocessing.square(images.image(i)) for i in index])
        assert torch.equal(found, wanted) and found.dtype == torch.uint8 and found.shape == (len(index), 3, 16, 16)
        assert found.stride() == wanted.stride()  # a convolution's rounding depends on it
        assert torch.equal(preprocessing.normalise(found), preprocessing([images.image(i) for i in index]))


def test_whoever_asks_for_something_else_gets_that(images):
    photos = Photos(images, BILINEAR.square, asked=1)
    photos.ahead(BATCHES)
    for index in (BATCHES[0], BATCHES[2], BATCHES[1], np.array([4])):
        assert torch.equal(photos(index), torch.cat([BILINEAR.square(images.image(i)) for i in index]))
    photos.ahead(BATCHES[1:])
    assert torch.equal(photos(BATCHES[1])[0], BILINEAR.square(images.image(5))[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_photo_that_cannot_be_read_is_named_when_it_is_asked_for_and_not_before(workers, images):
    photos = Photos(images, BILINEAR.square, asked=workers)
    batches = [np.arange(3), np.array([19, 20])]
    photos.ahead(batches)
    assert len(photos(batches[0])) == 3
    with pytest.raises(UserError, match=r"^image \S+20\.jpg cannot be read \([^\n]*$"):
        photos(batches[1])
    assert len(photos(batches[0])) == 3


def test_a_plan_is_asked_for_no_further_than_is_read_ahead(images):
    asked = []

    def endless():
        while True:
            asked.append(len(asked) % 3)
            yield np.array([asked[-1]])

    photos = Photos(images, BILINEAR.square, asked=2)
    photos.ahead(endless())
    for n in range(5):
        photos(np.array([n % 3]))
    assert len(asked) <= 5 + 2 * 2 + 1


@dataclass(frozen=True, eq=False)
class Deadly(ImageSet):
    """Whoever reads the fourth image dies of it."""

    def image(self, index):
        if index == 3:
            os._exit(9)
        return np.zeros((16, 16, 3), np.uint8)


def test_a_process_that_dies_is_told_of_with_the_remedy():
    photos = Photos(described(Deadly, ["a", "b", "c", "d"]), BILINEAR.square, asked=1)
    batches = [np.array([0]), np.array([3])]
    photos.ahead(batches)
    with pytest.raises(UserError, match="a process that reads photos died .*lower data.workers"):
        [photos(index) for index in batches]


def test_by_default_files_are_read_by_the_cores_that_are_this_processs_share(images, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(12), raising=False)
    drawn = described(Deadly, ["a"])
    monkeypatch.setattr(processes, "_sharing", 1)
    assert [processes.readers(images, None, device) for device in ("cpu", "cuda")] == [11, 12]
    processes.sharing(3)
    assert [processes.readers(images, None, device) for device in ("cpu", "cuda:1")] == [3, 4]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert [processes.readers(images, None, device) for device in ("cpu", "cuda")] == [0, 1]
    assert processes.readers(drawn) == 0 and processes.readers(drawn, 2) == 2 and processes.readers(images, 0) == 0


INTERRUPTED = """
import signal, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from data.test_loading import BILINEAR, described
from tedloc.data.files import FileImages
from tedloc.data.loading import Photos
from tedloc.errors import command
from pathlib import Path

signal.signal(signal.SIGINT, signal.default_int_handler)  # as a terminal has it; a job in the background ignores it

@command
def main():
    images = described(FileImages, ["1.jpg", "2.jpg"], folder=Path(sys.argv[2]))
    photos = Photos(images, BILINEAR.square, asked=2)
    photos.ahead(np.arange(2) for _ in range(10**6))
    for n in range(10**6):
        photos(np.arange(2))
        if n == 10:
            print("reading", flush=True)

main()
"""


def of_session(number: int) -> list[int]:
    """The processes of a session that are still there."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == number and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not list processes in /proc")
@pytest.mark.parametrize("how", ["everyone", "the main process", "killed"])
def test_an_interruption_leaves_no_process(how, images):
    script = [sys.executable, "-c", INTERRUPTED, str(Path(__file__).parents[1]), str(images.folder)]
    process = subprocess.Popen(
        script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout.readline() == "reading\n"
    assert len(of_session(process.pid)) >= 3
    if how == "everyone":  # as a terminal does
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGKILL if how == "killed" else signal.SIGINT)
    process.wait(60)
    deadline = time.monotonic() + 30  # a worker looks every five seconds whether its parent lives
    while of_session(process.pid) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not of_session(process.pid)
    if how != "killed":
        assert process.returncode == 130 and "interrupted; run the same command again" in process.stderr.read()
    process.stdout.close(), process.stderr.close()
