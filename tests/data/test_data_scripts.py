"""data_scripts/: official archives in miniature, fetched, damaged, interrupted, arranged and verified."""

import hashlib
import importlib
import io
import os
import re
import shutil
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import cv2
import huggingface_hub
import miniature
import numpy as np
import pytest
import served
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from conftest import ROOT
from tedloc import profiles, runs
from tedloc.data import fetching, files, ilsvrc, open_data, open_split
from tedloc.errors import UserError
from tedloc.settings import DataSettings, override


def script(name: str, monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "data_scripts")
    return importlib.import_module(name)


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """An empty data folder."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("TEDLOC_DATA", str(folder))
    return folder


@pytest.fixture
def made(tmp_path) -> Path:
    """Where miniatures and archives are made, outside of the data folder."""
    return tmp_path / "made"


@pytest.fixture
def site():
    with served.serving() as site:
        yield site


def cub_archive(made: Path) -> Path:
    miniature.make_cub(made)
    return miniature.pack(made / "CUB_200_2011", made / "site" / "CUB_200_2011.tgz", "CUB_200_2011")


def left_over(folder: Path) -> list[str]:
    """What a failed call must not leave: anything but locks and parts of downloads."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith((".lock", ".part")))


# Downloading


def test_an_interrupted_download_goes_on_where_it_stopped(data, made, site):
    archive = site.archive(cub_archive(made))
    site.cut = archive.size // 2
    with pytest.raises(
        UserError,
        match=r"CUB_200_2011.tgz .*GB\) cannot be fetched: .*Run this again to go "
        r"on",
    ):
        fetching.download(archive)
    assert not archive.path.exists()
    part = next(data.glob(".*.part"))
    have = part.stat().st_size
    assert archive.size // 2 - fetching.CHUNK < have <= archive.size // 2
    fetching.download(archive)
    assert site.asked == [None, f"bytes={have}-"]
    assert archive.path.read_bytes() == site["CUB_200_2011.tgz"] and not part.exists()


def test_a_server_that_cannot_resume_sends_all_of_it_again(data, made, site):
    archive = site.archive(cub_archive(made))
    site.cut, site.whole_only = archive.size // 2, True
    with pytest.raises(UserError):
        fetching.download(archive)
    assert fetching.download(archive).read_bytes() == site["CUB_200_2011.tgz"]


def test_a_part_that_is_longer_than_the_file_is_thrown_away(data, made, site):
    archive = site.archive(cub_archive(made))
    site.cut = archive.size // 2
    with pytest.raises(UserError):
        fetching.download(archive)
    next(data.glob(".*.part")).write_bytes(b"x" * (archive.size + 1))
    assert fetching.download(archive).read_bytes() == site["CUB_200_2011.tgz"]


def test_a_file_with_another_checksum_is_not_kept_and_the_next_mirror_is_asked(data, made, site):
    good = cub_archive(made)
    archive = site.archive(good)
    site["bad.tgz"] = b"not the archive"
    bad = replace(archive, urls=(site.url("bad.tgz"),))
    with pytest.raises(UserError, match="another checksum than sha256:.*https://page"):
        fetching.download(bad)
    assert left_over(data) == []
    both = replace(archive, urls=(site.url("bad.tgz"), site.url("gone.tgz"), archive.urls[0]))
    assert fetching.download(both).read_bytes() == good.read_bytes()


def test_a_web_page_in_place_of_an_archive_is_refused(data, site):
    site["page.html"] = b"<html>Sign in</html>"
    archive = fetching.Archive("CUBV2.tar", (site.url("page.html"),), 10, None, "https://page")
    with pytest.raises(UserError, match="a web page instead of the file.*put it at .*CUBV2.tar"):
        fetching.download(archive)
    assert left_over(data) == []


def test_an_archive_put_there_by_hand_is_used_if_it_is_the_right_one(data, made, site):
    archive = site.archive(cub_archive(made), urls=())
    archive.path.write_bytes(site["CUB_200_2011.tgz"])
    assert fetching.download(archive) == archive.path
    archive.path.write_bytes(b"half")
    with pytest.raises(UserError, match="is not the official file or was cut off.*remove it"):
        fetching.download(archive)


def test_a_disk_that_is_too_small_is_noticed_before_anything_is_asked_for(data, made, site, monkeypatch):
    archive = site.archive(cub_archive(made), size=10**18)
    with pytest.raises(UserError, match="needs 2000000000.00 GB, .* GB free.*TEDLOC_DATA"):
        fetching.download(archive)
    assert site.asked == [] and left_over(data) == []


# Extracting


def tar_with(path: Path, name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Path:
    with tarfile.open(path, "w:gz") as package:
        for member_name, member_kind in (("good/a.txt", tarfile.REGTYPE), (name, kind)):
            member = tarfile.TarInfo(member_name)
            member.type, member.linkname = member_kind, link
            member.size = 2 if member_kind == tarfile.REGTYPE else 0
            package.addfile(member, io.BytesIO(b"hi"))
    return path


def zip_with(path: Path, name: str, mode: int = 0o100644) -> Path:
    with zipfile.ZipFile(path, "w") as package:
        package.writestr("good/a.txt", "hi")
        entry = zipfile.ZipInfo(name)
        entry.external_attr = mode << 16
        package.writestr(entry, "/etc/passwd")
    return path


EVIL = {
    "tar up": (lambda p: tar_with(p, "good/../../out.txt"), "would lie outside of its folder"),
    "tar absolute": (lambda p: tar_with(p, "/tmp/out.txt"), "would lie outside"),
    "tar symlink": (lambda p: tar_with(p, "good/link", tarfile.SYMTYPE, "../../out"), "is a link or device"),
    "tar hard link": (lambda p: tar_with(p, "good/l", tarfile.LNKTYPE, "/etc/passwd"), "is a link or device"),
    "tar device": (lambda p: tar_with(p, "good/null", tarfile.CHRTYPE), "is a link or device"),
    "zip up": (lambda p: zip_with(p, "../out.txt"), "would lie outside"),
    "zip absolute": (lambda p: zip_with(p, "/out.txt"), "would lie outside"),
    "zip backslashes": (lambda p: zip_with(p, "..\\out.txt"), "would lie outside"),
    "zip symlink": (lambda p: zip_with(p, "good/link", 0o120777), "is a link or device"),
}


@pytest.mark.parametrize("trick", EVIL)
def test_an_archive_that_reaches_out_of_its_folder_is_refused_and_nothing_written(data, tmp_path, trick):
    make, sentence = EVIL[trick]
    with pytest.raises(UserError, match=sentence):
        fetching.place(make(tmp_path / "evil"), data / "set", "good/a.txt")
    assert left_over(data) == [] and not (tmp_path / "out.txt").exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.97])
def test_a_cut_off_archive_is_named_and_leaves_nothing(data, made, share):
    path = cub_archive(made)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match="CUB_200_2011.tgz is no archive, damaged or cut off"):
        fetching.place(path, data / "CUB_200_2011", "images.txt")
    assert left_over(data) == []


def test_an_archive_larger_than_the_disk_is_refused_before_it_is_extracted(data, made, monkeypatch):
    path = cub_archive(made)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**6, 10**6, 1000))
    with pytest.raises(UserError, match="what .*CUB_200_2011.tgz holds needs .* 0.00 GB free"):
        fetching.place(path, data / "CUB_200_2011", "images.txt")
    assert left_over(data) == []


def test_what_a_kill_while_extracting_left_is_no_data_set_and_is_cleared(data, made):
    path = cub_archive(made)
    stale = data / ".CUB_200_2011.partial" / "CUB_200_2011"
    stale.mkdir(parents=True)  # what a killed process leaves
    (stale / "images.txt").write_text("half")
    assert not (data / "CUB_200_2011").exists()
    fetching.place(path, data / "CUB_200_2011", "images.txt")
    assert (data / "CUB_200_2011" / "images.txt").read_text().count("\n") == 18
    assert left_over(data) == ["CUB_200_2011"]


# CUB


@pytest.fixture
def cub(data, made, site, monkeypatch) -> ModuleType:
    """data_scripts/cub.py with the miniature archive on the site, split files in place."""
    module = script("cub", monkeypatch)
    monkeypatch.setattr(module, "ARCHIVE", site.archive(cub_archive(made)))
    shutil.copytree(made / "wsol-metadata", data / "wsol-metadata")
    return module


def test_cub_is_fetched_verified_and_opens(cub, data, capsys):
    cub.status()
    out = capsys.readouterr().out
    first = "001.Black_footed_Albatross/Black_footed_Albatross_0000_0.jpg"
    assert f"cub/train: MISSING. image {first!r} is not in {data}" in out
    assert "1.15 GB: `python data_scripts/cub.py fetch`" in out and "TEDLOC_DATA" in out
    cub.fetch()
    cub.verify()
    assert "cub/train: 12 of 12 images of 3 classes can be read" in capsys.readouterr().out
    assert left_over(data) == ["CUB_200_2011", "unreadable", "wsol-metadata"]
    assert [len(open_split("cub", split)) for split in ("train", "test")] == [12, 6]
    with pytest.raises(UserError, match="CUB_200_2011 is there already"):
        cub.fetch()


def test_cub_in_an_archive_or_folder_that_is_there_is_arranged_without_a_copy(cub, data, made, capsys):
    cub.prepare(made / "CUB_200_2011")
    assert (data / "CUB_200_2011").is_symlink() and len(open_split("cub", "test")) == 6
    (data / "CUB_200_2011").unlink()
    cub.prepare(made / "site" / "CUB_200_2011.tgz")
    assert (made / "site" / "CUB_200_2011.tgz").exists() and len(open_split("cub", "train")) == 12
    shutil.rmtree(data / "CUB_200_2011")
    with pytest.raises(UserError, match="nowhere.tgz does not exist"):
        cub.prepare(made / "nowhere.tgz")
    with pytest.raises(UserError, match="holds no 'images.txt'"):
        cub.prepare(made / "CUBV2")


def test_official_lists_that_contradict_the_split_files_are_named(cub, data, made):
    lists = made / "CUB_200_2011" / "train_test_split.txt"
    lists.write_text(lists.read_text().replace("1 1\n", "1 0\n", 1))
    with pytest.raises(UserError, match="disagree, first about '001.Black_footed_Albatross"):
        cub.prepare(made / "CUB_200_2011")


def test_without_split_files_nothing_large_is_fetched(cub, data, site):
    shutil.rmtree(data / "wsol-metadata")
    with pytest.raises(UserError, match="no split files for CUB/train.*wsol_metadata.py fetch"):
        cub.fetch()
    assert site.asked == []


# Unreadable images


def cut_off(image: Path) -> None:
    image.write_bytes(image.read_bytes()[:-300])


@pytest.fixture
def spoilt_cub(data, monkeypatch) -> ModuleType:
    """CUB with one training image cut off and one of another size."""
    miniature.make_cub(data)
    images = open_split("cub", "train")
    cut_off(images.folder / images.ids[3])
    cv2.imwrite(str(images.folder / images.ids[7]), np.zeros((20, 30, 3), dtype=np.uint8))
    return script("cub", monkeypatch)


def test_unreadable_images_are_counted_named_and_by_default_fatal(spoilt_cub, data):
    images = open_split("cub", "train")
    with pytest.raises(UserError, match=f"2 of 12 images of cub/train cannot be used, first '{images.ids[3]}'.*skip"):
        spoilt_cub.verify()
    lines = (data / "unreadable" / "cub-train.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == [images.ids[3], images.ids[7]]
    assert "cannot be read" in lines[0] and "is 30 x 20 pixels where the split files say" in lines[1]
    assert (data / "unreadable" / "cub-test.txt").read_text() == ""
    assert open_split("cub", "train").ids == images.ids
    with pytest.raises(UserError, match=re.escape(images.ids[3])):
        images.image(3)


def test_skip_leaves_out_the_listed_training_images_and_no_others(spoilt_cub, data):
    with pytest.raises(UserError, match="cub-train.txt is missing; make it first: python data_scripts/cub.py verify"):
        open_split("cub", "train", unreadable="skip")
    everything = open_split("cub", "train")
    with pytest.raises(UserError):
        spoilt_cub.verify()
    rest = open_split("cub", "train", unreadable="skip")
    assert rest.ids == [name for index, name in enumerate(everything.ids) if index not in (3, 7)]
    assert len(rest.labels) == len(rest.sizes) == 10 and rest.fingerprint() != everything.fingerprint()
    assert all(rest.image(index).ndim == 3 for index in range(10))
    assert rest.fingerprint() == open_split("cub", "train", unreadable="skip").fingerprint()
    assert len(open_split("cub", "train", unreadable="skip", per_class=3)) == 9
    assert open_data(DataSettings("cub", unreadable="skip"), "train").ids == rest.ids  # as a run opens it


def test_test_images_are_never_left_out(spoilt_cub, data):
    images = open_split("cub", "test")
    cut_off(images.folder / images.ids[0])
    with pytest.raises(UserError, match="1 of 6 images of cub/test"):
        spoilt_cub.verify()
    assert open_split("cub", "test", unreadable="skip").ids == images.ids


def test_a_list_of_other_images_or_an_unknown_setting_is_refused(data):
    miniature.make_cub(data)
    files.unreadable_list("cub", "train").parent.mkdir()
    files.unreadable_list("cub", "train").write_text("elsewhere/1.jpg\tcannot be read\n")
    with pytest.raises(UserError, match="lists images that cub/train does not have; run `verify` again"):
        open_split("cub", "train", unreadable="skip")
    with pytest.raises(UserError, match="unknown value of data.unreadable 'ignore'; choose one of: fatal, skip"):
        open_split("cub", "train", unreadable="ignore")


def test_the_disguises_that_ilsvrc_has_are_read(tmp_path):
    """One of its JPEGs is a PNG, and some are CMYK."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "png.JPEG", "PNG")
    Image.fromarray(pixels).convert("CMYK").save(tmp_path / "cmyk.JPEG", "JPEG")
    Image.fromarray(pixels[:, :, 0]).save(tmp_path / "grey.JPEG", "JPEG")
    assert np.array_equal(files.read_image(tmp_path / "png.JPEG"), pixels)
    for name in ("cmyk.JPEG", "grey.JPEG"):
        assert files.read_image(tmp_path / name).shape == (20, 30, 3)


# CUBV2: no published checksum


@pytest.fixture
def cubv2(data, made, site, monkeypatch) -> ModuleType:
    module = script("cubv2", monkeypatch)
    miniature.make_cub(made)
    path = miniature.pack(made / "CUBV2", made / "site" / "CUBV2.tar", ".")
    monkeypatch.setattr(module, "ARCHIVE", site.archive(path, None))
    shutil.copytree(made / "wsol-metadata", data / "wsol-metadata")
    return module


def test_the_first_archive_with_the_right_content_is_trusted_for_later_ones(cubv2, data, site, capsys):
    cubv2.fetch()
    assert len(open_split("cub", "val")) == 6 and not (data / "CUBV2.tar").exists()
    kept = hashlib.sha256(site["CUBV2.tar"]).hexdigest()
    assert (data / "CUBV2.tar.sha256").read_text() == f"{kept}  CUBV2.tar\n"
    assert "no checksum of CUBV2.tar is published" in capsys.readouterr().out
    shutil.rmtree(data / "CUBV2")
    site["CUBV2.tar"] += b"\0" * 512
    with pytest.raises(UserError, match=f"another checksum than sha256:{kept}"):
        cubv2.fetch()
    assert not (data / "CUBV2").exists()


def test_an_archive_with_other_images_is_not_trusted(cubv2, data, made, site):
    image = next((made / "CUBV2").rglob("*.jpg"))
    cv2.imwrite(str(image), np.zeros((9, 9, 3), dtype=np.uint8))
    site["CUBV2.tar"] = miniature.pack(made / "CUBV2", made / "other.tar", ".").read_bytes()
    with pytest.raises(UserError, match="does not hold the benchmark's images: 1 of 6 .*is 9 x 9 pixels"):
        cubv2.fetch()
    assert not (data / "CUBV2").exists() and not (data / "CUBV2.tar.sha256").exists()


# ILSVRC and ImageNetV2


@pytest.fixture
def imagenet(data, made, site, monkeypatch) -> ModuleType:
    """data_scripts/ilsvrc.py; official archives of the miniature in ``made``; the data folder holds split
    files only.
    """
    module = script("ilsvrc", monkeypatch)
    miniature.make_ilsvrc(made)
    train = miniature.pack_ilsvrc_train(made / "ILSVRC" / "train", made / "train.tar")
    val = miniature.pack(made / "ILSVRC" / "val", made / "val.tar", ".")
    monkeypatch.setattr(
        module, "MD5", {"train": f"md5:{fetching.digest(train, 'md5')}", "val": f"md5:{fetching.digest(val, 'md5')}"}
    )
    rename_as_released(made)
    name = "imagenetv2-threshold0.7"
    path = miniature.pack(made / "renamed", made / f"{name}.tar.gz", f"{name}-format-val")
    monkeypatch.setattr(module, "IMAGENET_V2", site.archive(path))
    shutil.copytree(made / "wsol-metadata", data / "wsol-metadata")
    (data / "ILSVRC").mkdir()
    shutil.copy(made / "ILSVRC" / "wnids.txt", data / "ILSVRC")
    return module


def rename_as_released(made: Path) -> None:
    """val2 with the names of ImageNetV2's present release, and the benchmark's list of old and new names."""
    lines = []
    for image in sorted((made / "ILSVRC" / "val2").rglob("*.jpeg")):
        old = image.relative_to(made / "ILSVRC" / "val2").as_posix()
        new = f"{image.parent.name}/{hashlib.sha1(old.encode()).hexdigest()}.jpeg"
        (made / "renamed" / new).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, made / "renamed" / new)
        lines.append(f"{old}, {new}")
    (made / "wsol-metadata" / "ILSVRC" / "val" / "mapping.txt").write_text("\n".join(lines))


def same_image(split: str, index: int, made: Path) -> bool:
    images = open_split("ilsvrc", split)
    name = images.ids[index]
    return (images.folder / name).read_bytes() == (made / "ILSVRC" / name).read_bytes()


def test_ilsvrc_fetch_brings_imagenetv2_and_says_what_the_user_must_bring(imagenet, data, made, capsys):
    imagenet.fetch()
    out = capsys.readouterr().out
    for part in (
        "ilsvrc/val: 6 images of 3 classes",
        "may not be fetched by a program: register at",
        "ilsvrc/train: MISSING",
        "138 GB",
        "no number from it is the benchmark's",
    ):
        assert part in out
    assert all(same_image("val", index, made) for index in range(6))
    assert left_over(data / "ILSVRC") == ["val2", "wnids.txt"]


def test_ilsvrc_is_arranged_from_the_official_archives_and_verifies(imagenet, data, made, capsys):
    v2 = made / "imagenetv2-threshold0.7.tar.gz"
    imagenet.prepare(train=made / "train.tar", val=made / "val.tar", val2=v2)
    imagenet.verify()
    assert "ilsvrc/test: 6 of 6 images of 3 classes can be read" in capsys.readouterr().out
    assert [len(open_split("ilsvrc", split)) for split in ("train", "val", "test")] == [12, 6, 6]
    assert all(same_image(split, index, made) for split in ("train", "val", "test") for index in range(6))
    assert open_split("ilsvrc", "train").class_names == ["tench", "goldfish", "Egyptian Mau"]


def test_ilsvrc_training_archives_go_on_class_by_class(imagenet, data, made, monkeypatch):
    done = []

    def killed_at_the_second(outer, member, source, target, real=imagenet.extract_class):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(target.name)
        real(outer, member, source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(imagenet, "extract_class", killed_at_the_second)
        imagenet.arrange_train(made / "train.tar")
    assert not (data / "ILSVRC" / "train").exists() and done == ["n01440764"]
    kept = data / "ILSVRC" / ".train.partial" / "n01440764"
    before = kept.stat().st_mtime_ns
    imagenet.arrange_train(made / "train.tar")
    assert (data / "ILSVRC" / "train" / "n01440764").stat().st_mtime_ns == before
    assert len(open_split("ilsvrc", "train")) == 12


def test_a_training_archive_that_lacks_a_class_is_refused(imagenet, data, made, monkeypatch):
    shutil.rmtree(made / "ILSVRC" / "train" / "n01443537")
    train = miniature.pack_ilsvrc_train(made / "ILSVRC" / "train", made / "less.tar")
    monkeypatch.setitem(imagenet.MD5, "train", f"md5:{fetching.digest(train, 'md5')}")
    with pytest.raises(UserError, match="less.tar lacks 1 of 3 classes, first n01443537"):
        imagenet.prepare(train=train)
    with pytest.raises(UserError, match="train.tar is not the official file or was cut off"):
        shutil.rmtree(data / "ILSVRC" / ".train.partial")
        imagenet.prepare(train=made / "train.tar")


@pytest.mark.parametrize("sorted_into_classes", [False, True])
def test_ilsvrc_folders_are_linked_never_copied(imagenet, data, made, sorted_into_classes):
    kaggle = made / "kaggle" / "ILSVRC" / "Data" / "CLS-LOC"
    kaggle.mkdir(parents=True)
    os.replace(made / "ILSVRC" / "train", kaggle / "train")
    os.replace(made / "ILSVRC" / "val", kaggle / "val")
    if sorted_into_classes:
        for image in sorted((kaggle / "val").iterdir()):
            (kaggle / "val" / "n01440764").mkdir(exist_ok=True)
            os.replace(image, kaggle / "val" / "n01440764" / image.name)
    imagenet.prepare(train=made / "kaggle", val=made / "kaggle", val2=made / "renamed")
    assert (data / "ILSVRC" / "train").is_symlink()
    assert not any(path.is_file() and not path.is_symlink() for path in (data / "ILSVRC" / "val2").rglob("*"))
    assert [len(open_split("ilsvrc", split)) for split in ("train", "val", "test")] == [12, 6, 6]
    assert all(open_split("ilsvrc", split).image(0).ndim == 3 for split in ("train", "val", "test"))


def test_imagenetv2_with_its_first_names_needs_no_mapping(imagenet, data, made):
    (data / "wsol-metadata" / "ILSVRC" / "val" / "mapping.txt").unlink()
    with pytest.raises(UserError, match="renamed its images, and .*mapping.txt.*wsol_metadata.py fetch"):
        imagenet.prepare(val2=made / "renamed")
    imagenet.prepare(val2=made / "ILSVRC" / "val2")
    assert len(open_split("ilsvrc", "val")) == 6


@pytest.mark.parametrize(
    "spoil", [lambda t: t.replace("0/", "1/", 1), lambda t: t.split("\n", 1)[1], lambda t: t.replace(",", ";")]
)
def test_a_mapping_that_is_not_one_to_one_within_classes_is_refused(imagenet, data, made, spoil):
    mapping = data / "wsol-metadata" / "ILSVRC" / "val" / "mapping.txt"
    mapping.write_text(spoil(mapping.read_text()))
    with pytest.raises(UserError, match="mapping.txt does not give each image of ILSVRC/val one other name"):
        imagenet.prepare(val2=made / "renamed")
    assert not (data / "ILSVRC" / "val2").exists()


def test_images_in_each_others_place_are_noticed_by_their_sizes(imagenet, data, made):
    imagenet.prepare(val2=made / "ILSVRC" / "val2")
    first, second = (made / "ILSVRC" / name for name in open_split("ilsvrc", "val").ids[:2])
    first.rename(made / "held")
    second.rename(first)
    (made / "held").rename(second)
    with pytest.raises(UserError, match="2 of 6 images of ilsvrc/val cannot be used.*pixels where the split files say"):
        fetching.verify("ilsvrc", ["val"])


def test_a_wrong_list_of_classes_is_refused(data):
    miniature.make_ilsvrc(data)
    listed = data / "ILSVRC" / "wnids.txt"
    listed.write_text("n01440764\nn00000001\n")
    with pytest.raises(UserError, match="wnids.txt lists n00000001, which is no class of ILSVRC"):
        ilsvrc.open("val")
    listed.write_text("n15075141\n")
    with pytest.raises(UserError, match="train lacks 1 of 1 class folders, first n15075141"):
        ilsvrc.open("train")
    listed.unlink()
    with pytest.raises(UserError, match="has 3 class folders instead of 1000"):
        ilsvrc.open("train")


# The benchmark's split files


def test_the_published_split_files_have_the_recorded_checksums_and_counts(shared, data, monkeypatch, capsys):
    module = script("wsol_metadata", monkeypatch)
    module.prepare(shared / "wsol-metadata")
    out = capsys.readouterr().out
    assert "CUB/train: 5994 images, 5994 boxes" in out and "ILSVRC/test: 50000 images, 80477 boxes" in out
    assert len(module.SHA256) == 20 and (data / "wsol-metadata").is_symlink()


def test_a_changed_split_file_is_named(data, site, monkeypatch):
    module = script("wsol_metadata", monkeypatch)
    miniature.make_cub(data)
    with pytest.raises(UserError, match="class_labels.txt is not the official file or was cut off: its sha256 is"):
        module.verify()
    name = "CUB/val/image_ids.txt"
    site[f"{module.RELEASE}/metadata/{name}"] = b"another file"
    monkeypatch.setattr(module, "REPOSITORY", site.url("")[:-1])
    (data / "wsol-metadata" / name).unlink()
    with pytest.raises(UserError, match="image_ids.txt .*another checksum"):
        fetching.download(module.archive(name))
    assert not (data / "wsol-metadata" / name).exists()


# The miniatures under the profiles, and everything at once


@pytest.mark.parametrize("profile, make", [("cub", miniature.make_cub), ("ilsvrc", miniature.make_ilsvrc)])
def test_a_shrunken_profile_runs_on_its_miniature_from_features_to_metrics(data, monkeypatch, profile, make):
    make(data)
    miniature.use(data, monkeypatch)
    run = runs.ensure(runs.Request(miniature.shrunken(profile), "tedloc", device="cpu"))
    assert run.metrics["provenance"]["num_images"] == 6 and 0 <= run["MaxBoxAcc@0.5"] <= 100
    assert len(run.per_image()) == 6 and run.metrics["teacher"]["MaxBoxAcc@0.5"] >= 0


def test_the_miniatures_are_drawn_where_there_are_no_photos(data, monkeypatch):
    monkeypatch.setattr(miniature, "PHOTOS", data / "nowhere")
    miniature.make_cub(data, classes=2)
    images = open_split("cub", "test")
    for index in range(len(images)):
        x0, y0, x1, y1 = images.boxes[index][0]
        inside = images.image(index)[y0 : y1 + 1, x0 : x1 + 1].mean()
        assert inside > images.image(index).mean() and 0 <= x0 < x1 < images.sizes[index][0]
    fetching.verify("cub", ("train", "val", "test"))


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """An empty cache of the model hub, and no hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "hub"


def put_in_cache(hub: Path, repository: str, file: str, state: dict) -> None:
    folder = hub / f"models--{repository.replace('/', '--')}"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    save_file(state, folder / "snapshots" / "abc" / file)


def test_prefetch_says_what_is_missing_how_large_it_is_and_how_to_get_it(data, hub, monkeypatch, capsys):
    prefetch = script("prefetch", monkeypatch)
    profile = profiles.get("cub")
    prefetch.status(profile)
    out = capsys.readouterr().out
    assert "timm/eva_large_patch14_196.in22k_ft_in22k_in1k (about 1.2 GB): MISSING" in out
    assert "ViT-B-16/openai (about 0.6 GB): MISSING; fetch brings it from timm/vit_base_patch16_clip" in out
    assert "deit_small_patch16_224.fb_in1k (about 0.1 GB)" in out and str(data) in out
    with pytest.raises(UserError, match="weights of timm/eva_large.* cannot be fetched from timm/eva_large"):
        prefetch.weights_of(profile)[0].fetch()


def test_what_prefetch_brought_loads_without_a_network(data, hub, tmp_path, monkeypatch, capsys):
    prefetch = script("prefetch", monkeypatch)
    name = "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    clips = {"anchors.text": "aviary/clip", "pseudo_labels.clip": "aviary/clip"}
    profile = override(profiles.get("cub"), {"encoder.name": name, "encoder.image_size": 64} | clips)
    miniature.make_cub(data)
    monkeypatch.setattr(prefetch, "METHODS", ())
    with pytest.raises(UserError, match=r"1 parts are missing: weights timm/vit_tiny.*\(about 0.0 GB\)"):
        prefetch.verify(profile, [])
    model = timm.create_model("vit_tiny_patch16_224")
    put_in_cache(hub, name, "model.safetensors", model.state_dict())
    prefetch.verify(profile, [])
    assert f"{name}: loads without a network" in capsys.readouterr().out


def test_local_files_may_be_named_in_place_of_the_hub(data, hub, tmp_path, monkeypatch):
    prefetch = script("prefetch", monkeypatch)
    monkeypatch.setattr(prefetch, "METHODS", ())
    miniature.make_cub(data)
    file, clip = tmp_path / "vit.safetensors", tmp_path / "clip.pt"
    save_file(timm.create_model("vit_tiny_patch16_224").state_dict(), file)
    torch.save({}, clip)
    changes = {
        "encoder.name": "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k",
        "encoder.weights": str(file),
        "anchors.text": f"ViT-B-16-quickgelu/{clip}",
        "pseudo_labels.clip": f"ViT-B-16-quickgelu/{clip}",
    }
    profile = override(profiles.get("cub"), changes)
    assert prefetch.missing(profile) == []
    clip.unlink()
    assert len(prefetch.missing(profile)) == 1
