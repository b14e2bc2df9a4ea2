"""A run answers for the photos it was made from: their content is in a data set's fingerprint, at a bearable price."""

import hashlib
import multiprocessing
import os
import shutil
import time

import miniature
import numpy as np
import pytest
from PIL import Image

from tedloc import paths
from tedloc.data import content, open_data, open_split
from tedloc.errors import UserError
from tedloc.runs import run
from tedloc.settings import DataSettings


def old(*files) -> None:
    """Make files look as if they had not been touched for an hour, so that what was hashed is trusted."""
    for file in files:
        when = time.time_ns() - 3_600 * 10**9
        os.utime(file, ns=(when, when))


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    for name in "abc":
        (root / name).write_bytes(name.encode() * 100)
    old(*root.iterdir())
    return root


@pytest.fixture
def hashed(monkeypatch):
    """The files that were read, in order."""
    read, plain = [], content._hash
    monkeypatch.setattr(content, "_hash", lambda path: read.append(path) or plain(path))
    return read


def test_every_file_is_read_once_and_then_known(folder, hashed):
    first = content.digest(folder, ["a", "b", "c"])
    assert content.digest(folder, ["a", "b", "c"]) == first and len(hashed) == 3
    assert content.digest(folder, ["c", "a"]) != first and len(hashed) == 3


def test_content_counts_and_nothing_else(folder, tmp_path):
    first = content.digest(folder, ["a", "b", "c"])
    shutil.copytree(folder, tmp_path / "elsewhere" / "copy")
    os.utime(folder / "a")  # another time of change, the same bytes
    assert content.digest(folder, ["a", "b", "c"]) == first
    assert content.digest(tmp_path / "elsewhere" / "copy", ["a", "b", "c"]) == first
    (folder / "b").write_bytes(b"x" * 100)
    assert content.digest(folder, ["a", "b", "c"]) != first
    (folder / "b").write_bytes(b"b" * 100)
    assert content.digest(folder, ["a", "b", "c"]) == first


def test_a_file_that_changed_in_the_same_instant_is_not_missed(folder):
    (folder / "a").write_bytes(b"1" * 100)
    when = (folder / "a").stat().st_mtime_ns
    first = content.digest(folder, ["a"])
    (folder / "a").write_bytes(b"2" * 100)
    os.utime(folder / "a", ns=(when, when))
    assert content.digest(folder, ["a"]) != first


def test_a_clock_that_is_ahead_costs_nothing(folder, hashed):
    later = time.time_ns() + 10**15
    os.utime(folder / "a", ns=(later, later))
    content.digest(folder, ["a"])
    content.digest(folder, ["a"])
    assert len(hashed) == 1


def test_what_was_hashed_before_an_interruption_is_kept(folder, monkeypatch):
    monkeypatch.setattr(content, "BLOCK", 1)
    monkeypatch.setattr(content, "SAVED", 0)
    read, plain = [], content._hash

    def until_c(path):
        if path.endswith("c") and not read.count("stop"):
            read.append("stop")
            raise KeyboardInterrupt
        read.append(path[-1])
        return plain(path)

    monkeypatch.setattr(content, "_hash", until_c)
    with pytest.raises(KeyboardInterrupt):
        content.digest(folder, ["a", "b", "c"])
    content.digest(folder, ["a", "b", "c"])
    assert read == ["a", "b", "stop", "c"]


@pytest.mark.parametrize("damage", [b"", b"noise", b"\x93NUMPY\x01\x00"])
def test_a_damaged_store_is_made_anew(folder, damage):
    first = content.digest(folder, ["a", "b"])
    (store,) = (paths.cache() / "content").glob("*.npy")
    store.write_bytes(damage)
    assert content.digest(folder, ["a", "b"]) == first
    assert len(np.load(store)) == 2


def _digest_in_a_process(arguments) -> str:
    return content.digest(*arguments)


def test_processes_agree_and_leave_one_whole_store(folder):
    for n in range(200):
        (folder / str(n)).write_bytes(str(n).encode())
    old(*folder.iterdir())
    names = sorted(file.name for file in folder.iterdir())
    with multiprocessing.get_context("fork").Pool(4) as pool:
        found = pool.map(_digest_in_a_process, [(folder, names)] * 8)
    assert set(found) == {content.digest(folder, names)}
    (store,) = (paths.cache() / "content").glob("*.npy")
    assert len(np.load(store)) == len(names)
    assert sorted(file.suffix for file in store.parent.iterdir()) == [".lock", ".npy"]


def test_a_file_that_cannot_be_read_is_named(folder):
    (folder / "c").unlink()
    (folder / "c").symlink_to("nowhere")
    (folder / "d").mkdir()
    for name in "cd":
        with pytest.raises(UserError, match=f"photos/{name} cannot be read .*; restore it"):
            content.digest(folder, ["a", name])


# In data sets


@pytest.fixture
def cub(tmp_path, monkeypatch):
    miniature.make_cub(tmp_path / "data")
    miniature.use(tmp_path / "data", monkeypatch)
    return tmp_path / "data"


def prints(split="test") -> str:
    return open_split("cub", split).fingerprint()


def resave(file) -> None:
    with Image.open(file) as image:
        image.load()
        image.save(file, quality=30)


CHANGES = {
    "a photo is emptied": lambda photo, lists: photo.write_bytes(b""),
    "a photo is encoded anew": lambda photo, lists: resave(photo),
    "a photo is replaced by one of as many bytes": lambda photo, lists: photo.write_bytes(photo.read_bytes()[::-1]),
    "a size is corrected": lambda photo, lists: change_first(lists / "image_sizes.txt", -1, 1),
    "a box is corrected": lambda photo, lists: change_first(lists / "localization.txt", -1, -1),
}


def change_first(file, column: int, by: int) -> None:
    first, *others = file.read_text().splitlines()
    fields = first.split(",")
    fields[column] = str(int(fields[column]) + by)
    file.write_text("\n".join([",".join(fields), *others]))


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_the_task_changes_the_fingerprint(cub, change):
    images, before = open_split("cub", "test"), prints()
    assert prints() == before
    CHANGES[change](images.folder / images.ids[0], cub / "wsol-metadata" / "CUB" / "test")
    assert prints() != before and prints("val") == prints("val")


def test_two_folders_share_a_run_only_if_they_hold_the_same_bytes(cub, tmp_path, monkeypatch):
    settings = DataSettings("cub")
    here = run.data_fingerprint(settings)
    shutil.copytree(cub, tmp_path / "copy")
    miniature.use(tmp_path / "copy", monkeypatch)
    assert run.data_fingerprint(settings) == here
    images = open_split("cub", "train")
    resave(images.folder / images.ids[0])
    miniature.use(tmp_path / "copy", monkeypatch)
    assert run.data_fingerprint(settings) != here


def test_a_process_sees_one_state_of_its_data(cub, hashed):
    settings = DataSettings("cub")
    before = open_data(settings, "test").fingerprint()
    images = open_data(settings, "test")
    (images.folder / images.ids[0]).write_bytes(b"")
    seen = len(hashed)
    assert open_data(settings, "test").fingerprint() == before and len(hashed) == seen


def test_the_drawn_data_set_has_no_files_and_keeps_its_fingerprint():
    """Stored results belong to it: it is made of exactly this."""
    images = open_split("aviary", "test", per_class=1)
    made_of = [repr(("aviary", "test", images.class_names)).encode(), "\n".join(images.ids).encode()]
    made_of += [images.labels.astype("<i8").tobytes(), *(box.astype("<i8").tobytes() for box in images.boxes)]
    assert images.fingerprint() == hashlib.sha256(b"".join(made_of)).hexdigest()
