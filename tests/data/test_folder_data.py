"""A plain folder of photos as a data set: layouts, splits, boxes, and one report of all that is wrong."""

import json
import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from tedloc.data import folder, open_data, open_split
from tedloc.data.photo_files import ORIENTATION
from tedloc.errors import UserError
from tedloc.settings import DataSettings

SPLITS = ("train", "val", "test")
SIZE = (40, 30)
BOX = (4, 6, 20, 24)  # edges; pixels 4 to 19, 6 to 23


def photo(file, size=SIZE, **save) -> None:
    """A grey photo, brighter where its box is."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size[1], size[0], 3), (90, 100, 110), np.uint8)
    pixels[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 250
    Image.fromarray(pixels).save(file, **save)


@pytest.fixture
def plain(tmp_path):
    """Two classes of ten photos, no splits, no boxes."""
    for name in ("cats", "big_dogs"):
        for number in range(10):
            photo(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def boxes_csv(root, names, line="{},4,6,20,24") -> None:
    (root / "boxes.csv").write_text("image,x0,y0,x1,y1\n" + "".join(line.format(name) + "\n" for name in names))


def every(root, **settings):
    return {split: open_split("folder", split, root=str(root), **settings) for split in SPLITS}


def report(root, **settings) -> str:
    with pytest.raises(UserError) as caught:
        open_split("folder", "train", root=str(root), **settings)
    return str(caught.value)


def test_a_folder_a_class_is_all_that_is_needed(plain):
    found = every(plain)
    assert [len(found[split]) for split in SPLITS] == [12, 4, 4]
    ids = [name for split in SPLITS for name in found[split].ids]
    assert len(set(ids)) == 20 and set(ids) == {f"{name}/{n}.png" for name in ("cats", "big_dogs") for n in range(10)}
    for images in found.values():
        assert images.class_names == ["big dogs", "cats"] and not images.boxed
        assert all((name.startswith("cats")) == (label == 1) for name, label in zip(images.ids, images.labels))
        assert images.image(0).shape == (30, 40, 3) and (images.sizes == SIZE).all()
    assert "70/15/15 percent of each class for train/val/test, drawn by hash (seed 0)." in found["val"].notes[1]
    assert found["val"].notes[0].startswith("Boxes: none")


def test_splits_by_hash_depend_on_seed_and_names_alone(plain, tmp_path):
    shutil.copytree(plain, tmp_path / "copy")
    first, copy, other = every(plain), every(tmp_path / "copy"), every(plain, seed=1)
    assert all(first[split].ids == copy[split].ids for split in SPLITS)
    assert any(first[split].ids != other[split].ids for split in SPLITS)


@pytest.mark.parametrize("shares, counts", [("50/20/30", [10, 4, 6]), ("90/5/5", [16, 2, 2])])
def test_shares_may_be_stated(plain, shares, counts):
    assert [len(images) for images in every(plain, splits=shares).values()] == counts


def test_splits_may_be_folders(tmp_path):
    for split, count in (("train", 3), ("valid", 2), ("Test", 1)):
        for name in ("a", "b"):
            for number in range(count):
                photo(tmp_path / split / name / "deeper" / f"{number}.jpg")
    (tmp_path / "annotations").mkdir()
    found = every(tmp_path)
    assert [len(images) for images in found.values()] == [6, 4, 2]
    assert found["val"].ids[0] == "valid/a/deeper/0.jpg" and found["val"].class_names == ["a", "b"]
    assert "Splits: the folders train, val, test." in found["val"].notes


@pytest.mark.parametrize("there", ["val", "test"])
def test_a_missing_folder_shares_the_others_photos(tmp_path, there):
    for split, count in (("train", 3), (there, 5)):
        for name in ("a", "b"):
            for number in range(count):
                photo(tmp_path / split / name / f"{number}.jpg")
    found = every(tmp_path)
    assert len(found["train"]) == 6 and sorted(map(len, (found["val"], found["test"]))) in ([4, 6], [5, 5])
    assert not set(found["val"].ids) & set(found["test"].ids)
    assert any(f"val and test share the photos of {there} half and half" in note for note in found["val"].notes)


def test_a_folder_train_alone_is_divided_by_hash(tmp_path):
    for name in ("a", "b"):
        for number in range(10):
            photo(tmp_path / "train" / name / f"{number}.jpg")
    assert [len(images) for images in every(tmp_path).values()] == [12, 4, 4]


def test_splits_may_be_a_list(plain):
    lines = [
        f"{name}/{n}.png,{split}" for name in ("cats", "big_dogs") for n, split in enumerate(SPLITS * 3 + ("train",))
    ]
    (plain / "splits.csv").write_text("image,split\n" + "\n".join(lines))
    found = every(plain)
    assert [len(images) for images in found.values()] == [8, 6, 6] and "cats/1.png" in found["val"].ids


def test_boxes_are_pixels_with_both_ends_inside(plain):
    boxes_csv(plain, [f"{name}/{n}.png" for name in ("cats", "big_dogs") for n in range(10)])
    images = every(plain)["test"]
    assert images.boxed and all(box.tolist() == [[4, 6, 19, 23]] and box.dtype == np.int64 for box in images.boxes)
    x0, y0, x1, y1 = images.boxes[0][0]
    bright = images.image(0)[..., 0] > 200
    assert bright[y0 : y1 + 1, x0 : x1 + 1].all() and bright.sum() == (x1 - x0 + 1) * (y1 - y0 + 1)


def test_where_some_photos_have_boxes_val_and_test_are_of_those(plain):
    boxed = [f"{name}/{n}.png" for name in ("cats", "big_dogs") for n in (2, 3, 7)]
    boxes_csv(plain, boxed)
    found = every(plain)
    assert [len(images) for images in found.values()] == [14, 2, 4] and not found["train"].boxed
    assert {*found["val"].ids, *found["test"].ids} == set(boxed)
    assert any(note.endswith("val and test from the photos with boxes.") for note in found["val"].notes)


def test_a_split_may_have_no_boxes_and_the_other_all(tmp_path):
    for split in SPLITS:
        for name in ("a", "b"):
            photo(tmp_path / split / name / "0.jpg")
    boxes_csv(tmp_path, ["test/a/0.jpg", "test/b/0.jpg"])
    found = every(tmp_path)
    assert [found[split].boxed for split in SPLITS] == [False, False, True]


@pytest.mark.parametrize("name", ["cats/4.png", "cats/4", "/home/me/photos/cats/4.png", "cats\\4.png", "./cats/4.png"])
def test_a_box_file_may_name_a_photo_by_any_path_that_ends_alike(plain, name):
    boxes_csv(plain, [name, "cats/5.png", "big_dogs/5.png", "big_dogs/6.png"])
    found = every(plain)
    assert {*found["val"].ids, *found["test"].ids} == {"cats/4.png", "cats/5.png", "big_dogs/5.png", "big_dogs/6.png"}


def test_a_class_with_too_few_boxes_for_val_and_test_is_named(plain):
    boxes_csv(plain, ["cats/1.png", "cats/2.png", "big_dogs/5.png"])
    said = report(plain)
    assert said.endswith(
        "boxes for fewer than two photos, where others have boxes: val or test would lack it; add some, or name the "
        "splits (1): big_dogs"
    )


def test_a_bare_name_will_do_where_one_photo_has_it(plain):
    photo(plain / "cats" / "only.png")
    boxes_csv(plain, ["only.png", "3.png", "dogs/only.png"])
    said = report(plain)
    assert "a name that several photos have; name them by their paths (1): 3.png (boxes.csv, line 3)" in said
    assert "names a photo that is not there; correct the name (1): dogs/only.png (boxes.csv, line 4)" in said
    assert "only.png (boxes.csv, line 2)" not in said


def test_names_of_classes_come_from_a_list_and_decide_whose_a_box_is(plain):
    (plain / "classes.csv").write_text("folder,name,synonyms\nbig_dogs,large dog,hound;Canis Lupus\n")
    names = [f"{name}/{n}.png" for name in ("cats", "big_dogs") for n in range(10)]
    rows = [f"{name},4,6,20,24,{'canis_lupus' if 'dogs' in name else 'something'}" for name in names]
    rows += [f"{name},0,0,3,3,{'cats' if 'dogs' in name else 'hound'}" for name in names]
    (plain / "boxes.csv").write_text("image,x0,y0,x1,y1,class\n" + "\n".join(rows))
    images = every(plain)["test"]
    assert images.class_names == ["large dog", "cats"]
    assert all(box.tolist() == [[4, 6, 19, 23]] for box in images.boxes)
    assert "20 of another class than their photo's left out" in images.notes[0]


def test_masks_give_boxes_and_masks(plain):
    for name in ("cats", "big_dogs"):
        for n in range(10):
            mask = np.zeros(SIZE[::-1], np.uint8)
            mask[6:24, 4:20] = 255
            file = plain / "masks" / name / f"{n}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(file)
    images = every(plain)["val"]
    assert images.boxes[0].tolist() == [[4, 6, 19, 23]]
    assert images.mask(0).shape == (30, 40) and images.mask(0).sum() == 18 * 16
    assert every(plain)["train"].class_names == ["big dogs", "cats"]  # the masks are no class


def test_boxes_may_lie_beside_the_photos(plain):
    for name in ("cats", "big_dogs"):
        for n in range(10):
            (plain / name / f"{n}.txt").write_text("0 0.3 0.5 0.4 0.6\n")
    images = every(plain, boxes=str(plain))["test"]
    assert images.boxes[0].tolist() == [[4, 6, 19, 23]]
    assert not every(plain)["test"].boxed


@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_and_boxes_are_turned_alike(tmp_path, orientation, ending):
    """COCO states sizes: those of the photos as stored here. What is bright in the photo as shown is in the box."""
    tag = Image.Exif()
    tag[ORIENTATION] = orientation
    quarter = Image.Exif()
    quarter[ORIENTATION] = 6  # tells that the tool did not look at the tag
    entries = []
    for name in ("a", "b"):
        for n in range(3):
            photo(tmp_path / name / f"{n}{ending}", exif=tag if n else quarter)
            entry = {"file_name": f"{name}/{n}{ending}", "width": SIZE[0], "height": SIZE[1]}
            entries.append({"id": len(entries)} | entry)
    annotations = [{"image_id": entry["id"], "bbox": [4, 6, 16, 18]} for entry in entries]
    (tmp_path / "boxes.json").write_text(json.dumps({"images": entries, "annotations": annotations}))
    for images in every(tmp_path).values():
        for i, boxes in enumerate(images.boxes):
            bright = images.image(i)[..., 0] > 170
            (x0, y0, x1, y1) = boxes[0]
            assert tuple(images.sizes[i]) == bright.shape[::-1]
            assert bright[y0 : y1 + 1, x0 : x1 + 1].all() and bright.sum() == (x1 - x0 + 1) * (y1 - y0 + 1)


def test_boxes_of_the_photo_as_shown_stay_where_they_are(tmp_path):
    tag = Image.Exif()
    tag[ORIENTATION] = 6
    for name in ("a", "b"):
        for n in range(3):
            photo(tmp_path / name / f"{n}.png", exif=tag)
    boxes_csv(tmp_path, [f"{name}/{n}.png" for name in ("a", "b") for n in range(3)], "{},6,4,24,20")
    images = every(tmp_path)["test"]
    assert images.boxes[0].tolist() == [[6, 4, 23, 19]] and images.image(0)[4:20, 6:24].min() > 200


def test_a_mask_is_turned_with_its_photo(tmp_path):
    root, tag = tmp_path / "photos", Image.Exif()
    tag[ORIENTATION] = 8
    for name in ("a", "b"):
        for n in range(3):
            photo(root / name / f"{n}.png", exif=tag)
            (root / "masks" / name).mkdir(parents=True, exist_ok=True)
            mask = np.zeros(SIZE[::-1], np.uint8)
            mask[6:24, 4:20] = 1
            Image.fromarray(mask).save(root / "masks" / name / f"{n}.png")
    images = every(root)["val"]
    assert np.array_equal(images.mask(0), images.image(0)[..., 0] > 200)
    first = images.fingerprint()
    for file in (root / "masks").rglob("*.png"):
        Image.fromarray(np.where(np.asarray(Image.open(file)) > 0, 9, 0).astype(np.uint8)).save(file)
    folder.scan.cache_clear()
    assert every(root)["val"].fingerprint() != first  # masks are part of what a run is made from


def test_links_blanks_accents_and_capitals_are_fine(tmp_path):
    for n in range(3):
        photo(tmp_path / "elsewhere" / f"Müller {n}.PNG")
        photo(tmp_path / "photos" / "grüne Äpfel" / f"é {n}.Jpeg", format="JPEG")
    (tmp_path / "photos" / "red apples").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "again").symlink_to(tmp_path / "photos")  # a circle
    (tmp_path / "photos" / "red apples" / ".hidden.png").write_text("no photo")
    found = every(tmp_path / "photos")
    assert sum(map(len, found.values())) >= 6 and found["val"].class_names[0] == "grüne Äpfel"


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".bmp", ".tif", ".TIFF"])
def test_every_format_is_read(tmp_path, ending):
    for name in ("a", "b"):
        for n in range(3):
            photo(tmp_path / name / f"{n}{ending}")
    images = every(tmp_path)["train"]
    assert np.abs(images.image(0).astype(int)[-1, -1] - (90, 100, 110)).max() < 12


def test_every_problem_is_in_one_report(plain, tmp_path):
    (plain / "empty").mkdir()
    (plain / "phone").mkdir()
    (plain / "phone" / "a.heic").write_text("")
    photo(plain / "Cats" / "1.png")
    (plain / "cats" / "broken.jpg").write_text("no image")
    (plain / "cats" / "nothing.jpg").write_text("")
    (plain / "cats" / "half.png").write_bytes((plain / "cats" / "1.png").read_bytes()[:20])
    Image.new("1", (9000, 7000)).save(plain / "cats" / "large.png")
    lines = ["cats/1.png,20,6,4,24", "cats/2.png,4,6,41.5,24", "cats/absent.png,1,1,2,2"]
    (plain / "boxes.csv").write_text("image,x0,y0,x1,y1\n" + "\n".join(lines))
    said = report(plain)
    for kind in (
        "a class without a photo (.jpg .jpeg .png .webp .bmp .tif .tiff); add some, or delete the folder (2): "
        "empty (empty), phone (1 .heic)",
        "two classes with one name, but for capitals and underscores; rename one (1): Cats and cats (cats)",
        "a file that is no image, or cut off; replace or delete it (3): ",
        "broken.jpg (no image that is known)",
        "nothing.jpg (empty)",
        "a photo of more than 50 megapixels; shrink it (1): cats/large.png (63)",
        "a box that ends before it begins (x1 <= x0 or y1 <= y0); correct or delete it (1): boxes.csv, line 2",
        "a box outside its photo; correct or delete it (1): boxes.csv, line 3: 4, 6, 41.5, 24 of cats/2.png, 40 x 30",
        "a box file names a photo that is not there; correct the name (1): cats/absent.png (boxes.csv, line 4)",
        "a class with boxes for fewer than two photos, where others have boxes: val or test would lack it; add some, "
        "or name the splits (2): Cats, big_dogs",
    ):
        assert kind in said, kind
    assert re.match(r"\d+ problems in ", said) and said.count("\n") < 12


def test_a_box_of_one_pixel_too_many_is_cut_at_the_edge(plain):
    boxes_csv(plain, [f"{name}/{n}.png" for name in ("cats", "big_dogs") for n in range(10)], "{},-0.6,0,40.9,30.4")
    assert every(plain)["test"].boxes[0].tolist() == [[0, 0, 39, 29]]


def test_photos_without_boxes_among_others_with_are_named(tmp_path):
    for split in SPLITS:
        for name in ("a", "b"):
            photo(tmp_path / split / name / "0.jpg")
    boxes_csv(tmp_path, ["val/a/0.jpg", "test/a/0.jpg", "test/b/0.jpg"])
    said = report(tmp_path)
    assert said.startswith("1 problem in ") and "box all of the split or none (1): val/b/0.jpg" in said


def test_a_box_file_of_copies_of_another_size_is_refused(plain):
    entry = {"id": 0, "file_name": "cats/1.png", "width": 400, "height": 300}
    content = {"images": [entry], "annotations": [{"image_id": 0, "bbox": [4, 6, 16, 18]}]}
    (plain / "boxes.json").write_text(json.dumps(content))
    assert "cats/1.png (400 x 300 in boxes.json, annotation 0, 40 x 30 here)" in report(plain)


def test_one_class_is_none(tmp_path):
    for n in range(3):
        photo(tmp_path / "cats" / f"{n}.png")
    assert "only one class; a classifier needs two (1): cats" in report(tmp_path)


def test_photos_outside_any_class_are_no_data_set(tmp_path):
    photo(tmp_path / "a.png")
    assert "a folder without folders in it; put the photos of each class into one of its own" in report(tmp_path)


@pytest.mark.parametrize(
    "splits, said",
    [
        ("80/10", "a file that cannot be read (1): 80/10 is missing; correct its path"),
        ("80/10/20", "not three parts of 100 (train/val/test); correct data.splits (1): 80/10/20"),
        ("absent.csv", "a file that cannot be read (1): absent.csv is missing; correct its path"),
    ],
)
def test_splits_that_cannot_be_are_refused(plain, splits, said):
    assert said in report(plain, splits=splits)


def test_a_list_of_splits_names_every_photo_once(plain):
    lines = ["cats/1.png,train", "cats/1.png,val", "cats/2.png,dev", "cats/99.png,test"]
    (plain / "splits.csv").write_text("image,split\n" + "\n".join(lines))
    said = report(plain)
    assert "a photo in two splits; keep one line of it (1): cats/1.png (splits.csv, line 3)" in said
    assert "a split that is not train, val or test; correct it (1): dev (splits.csv, line 4)" in said
    assert "a list of splits names a photo that is not there; correct the name (1): cats/99.png (splits.csv, l" in said
    assert "a photo that the list of splits does not name; add it, or take the photo away (19): " in said


def test_splits_cannot_be_given_twice(tmp_path):
    for split in SPLITS:
        for name in ("a", "b"):
            photo(tmp_path / split / name / "0.jpg")
    assert "splits are given twice, by folders and by data.splits; drop one (1): 70/15/15" in report(
        tmp_path, splits="70/15/15"
    )


def test_sources_of_boxes_that_could_be_meant_are_asked_for(plain):
    boxes_csv(plain, ["cats/1.png"])
    (plain / "masks").mkdir()
    assert "more than one source of boxes; name one by --data.boxes (1): boxes.csv, masks" in report(plain)


def test_a_folder_must_be_named_and_be_there(tmp_path):
    with pytest.raises(UserError, match="give --data.root FOLDER"):
        open_split("folder", "train")
    assert f"data.root {tmp_path / 'no'} is not there; correct the path" == report(tmp_path / "no")
    with pytest.raises(UserError, match="data.boxes is of data set 'folder', not 'aviary'; add --data.name folder"):
        open_data(DataSettings(boxes="boxes.csv"), "train")


def test_photos_of_the_same_name_and_other_content_are_another_task(plain, tmp_path):
    shutil.copytree(plain, tmp_path / "copy")
    first = every(plain)["train"].fingerprint()
    assert first == every(tmp_path / "copy")["train"].fingerprint()
    for file in (tmp_path / "copy" / "cats").iterdir():
        photo(file, compress_level=0)
    assert first != every(tmp_path / "copy")["train"].fingerprint()


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs rights that can be taken away")
def test_a_photo_that_may_not_be_read_is_named(plain):
    (plain / "cats" / "1.png").chmod(0)
    assert "cats/1.png (Permission denied)" in report(plain)


def test_a_photo_that_changed_meanwhile_is_not_read_with_old_boxes(plain):
    images = every(plain)["train"]
    photo(plain / images.ids[0], size=(30, 40))
    with pytest.raises(UserError, match="is 30 x 40 pixels where the split files say 40 x 30"):
        images.image(0)


def test_a_tag_at_the_end_of_a_png_is_seen(plain):
    """Some tools append it; the chunk is moved there by hand."""
    tag = Image.Exif()
    tag[ORIENTATION] = 6
    photo(plain / "cats" / "1.png", exif=tag)
    content = (plain / "cats" / "1.png").read_bytes()
    start = content.index(b"eXIf") - 4
    chunk = content[start : start + 12 + int.from_bytes(content[start : start + 4], "big")]
    end = content.index(b"IEND") - 4
    (plain / "cats" / "1.png").write_bytes(content[:start] + content[start + len(chunk) : end] + chunk + content[end:])
    (found,) = (each for images in every(plain).values() for each in images.photos if each.id == "cats/1.png")
    assert found.orientation == 6 and found.size == SIZE[::-1]
