"""The benchmark's split files, and CUB and ILSVRC in their official layouts."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tedloc.data import cub, ilsvrc, open_split
from tedloc.data.benchmark import read_split
from tedloc.errors import UserError

# (data set, split): images, boxes, classes, as the benchmark's paper and files give them
COUNTS = {
    ("CUB", "train"): (5994, 5994, 200),
    ("CUB", "val"): (1000, 1000, 200),
    ("CUB", "test"): (5794, 5794, 200),
    ("ILSVRC", "val"): (10000, 18532, 1000),
    ("ILSVRC", "test"): (50000, 80477, 1000),
}


def write_split(folder: Path, ids: list[str], labels: list[int]) -> Path:
    folder.mkdir(parents=True)
    (folder / "image_ids.txt").write_text("\n".join(ids))  # no newline at the end, like the originals
    (folder / "class_labels.txt").write_text("\n".join(f"{i},{k}" for i, k in zip(ids, labels, strict=True)))
    (folder / "image_sizes.txt").write_text("\n".join(f"{i},40,30" for i in reversed(ids)))
    boxes = [f"{i},1,2,3,4" for i in ids] + [f"{ids[0]},5,6,20,25"]
    (folder / "localization.txt").write_text("\n".join(boxes))
    return folder


@pytest.mark.parametrize("dataset, split", COUNTS)
def test_the_published_splits_have_the_published_counts(shared, dataset, split):
    records = read_split(shared / "wsol-metadata", dataset, split)
    images, boxes, classes = COUNTS[dataset, split]
    assert len(records.ids) == len(records.labels) == len(records.sizes) == images
    assert sum(map(len, records.boxes)) == boxes
    assert set(records.labels) == set(range(classes))
    for box, size in zip(records.boxes, records.sizes, strict=True):
        assert (box[:, :2] >= 0).all() and (box[:, 2:] < size).all()


def test_records_are_matched_by_path_and_boxes_collected(tmp_path):
    write_split(tmp_path / "CUB" / "val", ["a/1.jpg", "b/x,y.jpg"], [0, 1])
    records = read_split(tmp_path, "CUB", "val")
    assert records.ids == ["a/1.jpg", "b/x,y.jpg"] and records.labels.tolist() == [0, 1]
    assert [box.tolist() for box in records.boxes] == [[[1, 2, 3, 4], [5, 6, 20, 25]], [[1, 2, 3, 4]]]
    assert records.sizes.tolist() == [[40, 30], [40, 30]]


def test_a_training_split_needs_neither_boxes_nor_sizes(tmp_path):
    folder = write_split(tmp_path / "ILSVRC" / "train", ["a.jpg", "b.jpg"], [0, 1])
    (folder / "localization.txt").unlink()
    (folder / "image_sizes.txt").unlink()
    records = read_split(tmp_path, "ILSVRC", "train")
    assert [box.shape for box in records.boxes] == [(0, 4), (0, 4)] and not records.sizes.any()


DAMAGE = {
    "image_ids.txt": {"": "is empty", "a\na": "lists 'a' more than once", None: "is missing"},
    "class_labels.txt": {
        "a,0": "has no record for image 'b'",
        "a,0\nb": "line 2: 'b' is not a path and 1 numbers",
        "a,0\n\nb,one": "line 3: 'b,one'",
        "a,0\nb,1\nc,1": "line 3: image 'c' is not in image_ids.txt",
        "a,0\nb,1\nb,0": "line 3: image 'b' has a second record",
        "a,0\nb,-1": "negative class",
        None: "is missing",
    },
    "image_sizes.txt": {"a,4\nb,4,4": "line 1: 'a,4' is not a path and 2 numbers", None: "is missing"},
    "localization.txt": {
        "a,1,2,3,4": "has no box for image 'b'",
        "a,1,2,3,4\nc,1,2,3,4": "line 2: image 'c'",
        "a,5,2,3,4\nb,1,2,3,4": "line 1: image 'a': box 5, 2, 3, 4 is turned over",
        "a,1,2,3": "line 1: 'a,1,2,3'",
        None: "is missing",
    },
}


@pytest.mark.parametrize("name, text", [(name, text) for name, cases in DAMAGE.items() for text in cases])
def test_a_damaged_file_is_named_with_its_line(tmp_path, name, text):
    folder = write_split(tmp_path / "CUB" / "test", ["a", "b"], [0, 1])
    (folder / name).unlink() if text is None else (folder / name).write_text(text)
    with pytest.raises(UserError) as error:
        read_split(tmp_path, "CUB", "test")
    assert str(folder / name) in str(error.value) and DAMAGE[name][text] in str(error.value)


def test_a_split_that_is_not_there_says_where_to_put_it(tmp_path):
    with pytest.raises(UserError, match=r"CUB/test does not exist; put .*wsolevaluation"):
        read_split(tmp_path, "CUB", "test")


@pytest.mark.parametrize(
    "directory, name",
    {
        "001.Black_footed_Albatross": "black-footed albatross",
        "151.Black_capped_Vireo": "black-capped vireo",
        "043.Yellow_bellied_Flycatcher": "yellow-bellied flycatcher",
        "159.Black_and_white_Warbler": "black-and-white warbler",
        "190.Red_cockaded_Woodpecker": "red-cockaded woodpecker",
        "187.American_Three_toed_Woodpecker": "american three-toed woodpecker",
        "037.Acadian_Flycatcher": "acadian flycatcher",
        "022.Chuck_will_Widow": "chuck-will's-widow",
        "105.Whip_poor_Will": "whip-poor-will",
        "009.Brewer_Blackbird": "brewer's blackbird",
        "125.Lincoln_Sparrow": "lincoln's sparrow",
        "126.Nelson_Sharp_tailed_Sparrow": "nelson's sharp-tailed sparrow",
        "123.Henslow_Sparrow": "henslow's sparrow",
        "124.Le_Conte_Sparrow": "le conte's sparrow",
        "141.Artic_Tern": "arctic tern",
        "146.Forsters_Tern": "forster's tern",
        "034.Gray_crowned_Rosy_Finch": "gray-crowned rosy finch",
        "040.Olive_sided_Flycatcher": "olive-sided flycatcher",
        "165.Chestnut_sided_Warbler": "chestnut-sided warbler",
        "164.Cerulean_Warbler": "cerulean warbler",
        "163.Cape_May_Warbler": "cape may warbler",
        "010.Red_winged_Blackbird": "red-winged blackbird",
        "102.Western_Wood_Pewee": "western wood pewee",
        "003.St._Bernard": "st. bernard",
        "St._Bernard": "st. bernard",
    }.items(),
)
def test_cub_folders_become_names_for_prompts(directory, name):
    assert cub.class_name(directory) == name


def test_the_200_cub_names_are_distinct(shared):
    ids = read_split(shared / "wsol-metadata", "CUB", "test").ids
    names = {cub.class_name(name.split("/")[0]) for name in ids}
    assert len(names) == 200 and not any("_" in name or "." in name for name in names)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz-' ") and not name[0] == "-" for name in names)
    folders = {name.split("/")[0].split(".", 1)[1] for name in ids}
    assert set(cub.NAMES) <= folders  # every correction is of a name that CUB has


def picture(path: Path, red: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((30, 40, 3), (0, 0, red), dtype=np.uint8))


@pytest.mark.parametrize("split, place", [("train", "CUB_200_2011/images"), ("test", "CUB"), ("val", "CUBV2")])
def test_cub_opens_from_the_official_layout_and_from_the_benchmarks(tmp_path, monkeypatch, split, place):
    monkeypatch.setenv("TEDLOC_DATA", str(tmp_path))
    ids = ["001.Black_footed_Albatross/1.png", "002.Laysan_Albatross/2.png"]
    write_split(tmp_path / "wsol-metadata" / "CUB" / split, ids, [0, 1])
    with pytest.raises(UserError, match="001.Black_footed_Albatross/1.png.*TEDLOC_DATA"):
        open_split("cub", split)
    for index, name in enumerate(ids):
        picture(tmp_path / place / name, 100 + index)
    images = open_split("cub", split)
    assert images.class_names == ["black-footed albatross", "laysan albatross"]
    assert images.image(1).shape == (30, 40, 3) and images.image(1)[0, 0].tolist() == [101, 0, 0]
    (tmp_path / place / ids[1]).unlink()
    with pytest.raises(UserError, match="lacks 1 of 2 images, first '002.Laysan_Albatross/2.png'"):
        open_split("cub", split)


def test_ilsvrc_training_images_are_numbered_by_sorted_wnid(tmp_path, monkeypatch):
    monkeypatch.setenv("TEDLOC_DATA", str(tmp_path))
    with pytest.raises(UserError, match="0 class folders instead of 1000.*TEDLOC_DATA"):
        open_split("ilsvrc", "train")
    for wnid in ilsvrc.all_wnids():
        (tmp_path / f"ILSVRC/train/{wnid}").mkdir(parents=True)
        (tmp_path / f"ILSVRC/train/{wnid}/{wnid}_1.JPEG").touch()
    picture(tmp_path / "ILSVRC/train/n15075141/n15075141_1.JPEG", 0)
    images = open_split("ilsvrc", "train")
    assert images.labels.tolist() == list(range(1000)) and images.ids[0] == "train/n01440764/n01440764_1.JPEG"
    assert images.image(999).shape == (30, 40, 3)
    (tmp_path / "ILSVRC/train/n15075141").rename(tmp_path / "ILSVRC/train/n99999999")
    with pytest.raises(UserError, match="lacks 1 of 1000 class folders, first n15075141 .it has n99999999"):
        open_split("ilsvrc", "train")


@pytest.fixture
def three_classes(tmp_path, monkeypatch) -> Path:
    """ILSVRC's training folder with a photo for each of three classes."""
    monkeypatch.setenv("TEDLOC_DATA", str(tmp_path))
    wnids = ilsvrc.all_wnids()[:3]
    for wnid in wnids:
        picture(tmp_path / f"ILSVRC/train/{wnid}/{wnid}_1.png", 9)
        (tmp_path / f"ILSVRC/train/{wnid}/{wnid}_1.png").rename(tmp_path / f"ILSVRC/train/{wnid}/{wnid}_1.JPEG")
    (tmp_path / "ILSVRC/wnids.txt").write_bytes("\ufeff".encode() + "\r\n".join(wnids).encode())
    return tmp_path / "ILSVRC/train"


def test_hidden_files_and_folders_beside_the_photos_are_passed_over(three_classes):
    (three_classes / ".ipynb_checkpoints").mkdir()
    for folder in list(three_classes.iterdir()):
        (folder / "._n01440764_1.JPEG").touch()  # macOS writes them
        (folder / ".DS_Store").touch()
        (folder / "Thumbs.db").touch()
    assert len(open_split("ilsvrc", "train")) == 3


@pytest.mark.parametrize("name", ["n01440764_1.jpg", "n01440764_2.jpeg", "n01440764_3.JPG", "a\nb.JPEG"])
def test_a_photo_under_another_ending_is_named_and_not_left_out(three_classes, name):
    picture(three_classes / "n01440764" / "x.png", 9)
    (three_classes / "n01440764" / "x.png").rename(three_classes / "n01440764" / name)
    with pytest.raises(UserError, match="n01440764 holds .*, where ILSVRC's photos end in .JPEG"):
        open_split("ilsvrc", "train")


def test_a_folder_too_many_is_named(three_classes):
    (three_classes.parent / "wnids.txt").unlink()
    for wnid in [*ilsvrc.all_wnids(), "backup"]:
        (three_classes / wnid).mkdir(exist_ok=True)
    with pytest.raises(UserError, match="1001 class folders instead of 1000 .it has backup, which is no class"):
        open_split("ilsvrc", "train")


def test_ilsvrc_test_and_val_open_under_the_benchmarks_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("TEDLOC_DATA", str(tmp_path))
    for split, name in [("test", "val/ILSVRC2012_val_00000001.JPEG"), ("val", "val2/0/0.jpeg")]:
        write_split(tmp_path / "wsol-metadata" / "ILSVRC" / split, [name], [999])
        with pytest.raises(UserError, match=f"{name}.*TEDLOC_DATA"):
            ilsvrc.open(split)
        picture(tmp_path / "ILSVRC" / name, 50)
        images = ilsvrc.open(split)
        assert len(images.class_names) == 1000 and len(images.image(0)) == 30


def test_ilsvrc_names_are_in_the_order_of_sorted_wnids():
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    assert info.label_names() == sorted(info.label_names())
    lemmas = [{word.strip().lower() for word in info.index_to_description(k).split(",")} for k in range(1000)]
    assert len(set(ilsvrc.class_names())) == 1000  # two classes with one name would have one anchor
    agree = [name.lower() in words for name, words in zip(ilsvrc.class_names(), lemmas, strict=True)]
    assert np.mean(agree) > 0.8  # open_clip reworded some names
    blocks = np.array(agree).reshape(50, 20).mean(axis=1)
    assert blocks.min() > 0.2  # and nowhere are the names shifted


def test_importing_data_sets_does_not_import_torch():
    import subprocess

    modules = ", ".join(f"tedloc.data.{name}" for name in ("imagenette", "cub", "ilsvrc", "benchmark"))
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
