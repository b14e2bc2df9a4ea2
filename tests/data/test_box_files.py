"""Box files of every format give the same boxes; what is wrong in them is named by file and line."""

import json

import numpy as np
import pytest
from PIL import Image

from tedloc.data import box_files
from tedloc.data.box_files import Annotation
from tedloc.data.problems import Problems
from tedloc.errors import UserError

BOX = (12.0, 20.0, 112.0, 60.0)  # edges in a photo of 200 x 100: pixels 12 to 111 and 20 to 59


def read(source, problems=None) -> list[Annotation]:
    problems = problems or Problems(source)
    found = list(box_files.read(source, problems))
    problems.check()
    return found


def complaint(source) -> str:
    with pytest.raises(UserError) as caught:
        read(source)
    return str(caught.value)


def coco(annotations, images=({"id": 7, "file_name": "cats/a.jpg", "width": 200, "height": 100},)) -> str:
    categories = [{"id": 3, "name": "tabby"}]
    return json.dumps({"images": list(images), "annotations": annotations, "categories": categories})


def voc(low=(13, 21), high=(112, 60), name="tabby") -> str:
    return f"""<annotation><filename>elsewhere.jpg</filename><size><width>200</width><height>100</height></size>
    <object><name>{name}</name><bndbox><xmin>{low[0]}</xmin><ymin>{low[1]}</ymin><xmax>{high[0]}</xmax>
    <ymax>{high[1]}</ymax></bndbox></object></annotation>"""


@pytest.mark.parametrize("ending", box_files.READERS)
def test_every_format_gives_the_same_edges(tmp_path, ending):
    folder = tmp_path / "boxes" / "cats"
    folder.mkdir(parents=True)
    if ending == ".json":
        (folder / "a.json").write_text(coco([{"image_id": 7, "category_id": 3, "bbox": [12, 20, 100, 40]}]))
    elif ending == ".csv":
        (folder / "a.csv").write_text("image,x0,y0,x1,y1,class\ncats/a.jpg,12,20,112.0,60,tabby\n")
    elif ending == ".xml":
        (folder / "a.xml").write_text(voc())
    elif ending == ".txt":
        (tmp_path / "boxes" / "classes.txt").write_text("lion\ntabby\n")
        (folder / "a.txt").write_text("1 0.31 0.4 0.5 0.4\n")
    else:
        mask = np.zeros((100, 200), np.uint8)
        mask[20:60, 12:112] = 255
        Image.fromarray(mask).save(folder / "a.png")
    (found,) = read(tmp_path / "boxes")
    scale = np.array([200, 100, 200, 100]) if found.shares else 1
    assert np.allclose(np.array(found.box) * scale, BOX)
    assert found.image in ("cats/a", "cats/a.jpg") and found.kind == ("" if ending == ".png" else "tabby")
    assert found.size == (None if ending in (".csv", ".txt") else (200, 100))


def test_several_objects_of_one_photo(tmp_path):
    (tmp_path / "b.csv").write_text("x0,image,y0,x1,y1\n1,a.jpg,2,3.5,4\n5,a.jpg,6,7,8\n")
    assert [found.box for found in read(tmp_path / "b.csv")] == [(1, 2, 3.5, 4), (5, 6, 7, 8)]


@pytest.mark.parametrize("mode", ["L", "P", "1", "I;16", "RGB", "RGBA", "LA"])
def test_a_mask_of_any_kind_has_one_box_for_each_value(tmp_path, mode):
    values = np.zeros((40, 50), np.uint8)
    values[5:10, 5:20] = 255
    image = Image.fromarray(values)
    if mode == "I;16":
        image = Image.fromarray(values.astype(np.uint16) * 257)
    else:
        if mode not in ("1", "LA"):
            values[20:30, 10:12] = 90
            image = Image.fromarray(values)
        image = image.convert(mode)
    image.save(tmp_path / "a.png")
    found = sorted(each.box for each in read(tmp_path / "a.png"))
    assert found == [(5, 5, 20, 10)] + ([] if mode in ("1", "LA", "I;16") else [(10, 20, 12, 30)])
    assert (box_files.mask_values(tmp_path / "a.png") > 0).sum() == (values > 0).sum()


def test_an_empty_mask_has_no_object(tmp_path):
    Image.new("L", (5, 5)).save(tmp_path / "a.png")
    assert read(tmp_path / "a.png") == []


@pytest.mark.parametrize(
    "text", ["image;x0;y0;x1;y1\r\nb ü.JPG;1;2;3;4\r\n", "image\tx0\ty0\tx1\ty1\nb ü.JPG\t1\t2\t3\t4"]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_table_may_come_from_a_spreadsheet(tmp_path, text, encoding):
    (tmp_path / "b.csv").write_text(text, encoding=encoding)
    assert [(found.image, found.box) for found in read(tmp_path / "b.csv")] == [("b ü.JPG", (1, 2, 3, 4))]


def test_a_name_with_a_comma_is_quoted(tmp_path):
    (tmp_path / "b.csv").write_text('image,x0,y0,x1,y1\n"a, b.jpg",1,2,3,4\n')
    assert read(tmp_path / "b.csv")[0].image == "a, b.jpg"


def test_crowds_of_coco_are_no_objects(tmp_path):
    crowd = {"image_id": 7, "category_id": 3, "bbox": [1, 1, 5, 5], "iscrowd": 1}
    (tmp_path / "c.json").write_text(coco([crowd]))
    assert read(tmp_path / "c.json") == []


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("b.csv", "a.jpg,1,2,3,4\n", "does not name the columns image,x0,y0,x1,y1; write that line (1): b.csv"),
        ("b.csv", "image,x0,y0,x1,y1\na.jpg,1,2,3,x\n", "not four numbers; correct it (1): b.csv, line 2"),
        ("b.csv", "image,x0,y0,x1,y1\na.jpg,1,2,nan,4\n", "not four numbers; correct it (1): b.csv, line 2"),
        (
            "b.csv",
            "image,x0,y0,x1,y1\na.jpg,1,2,3\n",
            "a line without image,x0,y0,x1,y1; complete it (1): b.csv, line 2",
        ),
        ("b.csv", b"image,x0,y0,x1,y1\n\xff\xfe.jpg,1,2,3,4", "is not UTF-8 text; save it as such"),
        ("c.json", '{"images": [],\n "annotations": [}', "not COCO's (images, annotations, categories); export"),
        ("c.json", '[{"image_id": 7, "bbox": [1, 2, 3, 4], "score": 1}]', "not COCO's"),
        (
            "c.json",
            coco([{"id": 5, "image_id": 8, "bbox": [1, 2, 3, 4]}]),
            "does not list; correct its image_id (1): c.j",
        ),
        ("c.json", coco([{"id": 5, "image_id": 7, "bbox": [1, 2, 3]}]), "(1): c.json, annotation 5: [1, 2, 3]"),
        ("a.xml", "<annotation><object>", "an .xml that cannot be read; export it again (1): a.xml"),
        ("a.xml", voc(low=("", 3)), "not four numbers; correct it (1): a.xml, object 1"),
        ("a.txt", "0 0.5 0.5 0.1\n", "not a class and four numbers; correct it (1): a.txt, line 1"),
        ("a.png", "no image", "a mask that cannot be read; save it again (1): a.png"),
        ("a.pickle", "", "unknown kind; give one of .json, .csv, .xml, .txt, .png (1)"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path, name, text, said):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert said in complaint(tmp_path / name)


def test_a_photo_is_no_mask(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    assert "a mask of more than 50 values" in complaint(tmp_path / "a.png")


def test_a_source_that_is_missing_or_holds_nothing(tmp_path):
    assert "a file is missing; correct its path (1): " in complaint(tmp_path / "no.csv")
    assert "no box file (.json, .csv, .xml, .txt, .png) in a folder of boxes" in complaint(tmp_path)


def test_all_problems_come_at_once_and_a_long_list_is_counted(tmp_path):
    lines = ["image,x0,y0,x1,y1", "a.jpg,1,2,3"] + [f"{n}.jpg,a,b,c,d" for n in range(20)]
    (tmp_path / "b.csv").write_text("\n".join(lines))
    said = complaint(tmp_path / "b.csv")
    assert said.startswith(f"21 problems in {tmp_path / 'b.csv'}:\n") and said.count("\n") == 2
    assert "(20): b.csv, line 3, b.csv, line 4, " in said and said.endswith(" and 15 more") and len(said) < 500
