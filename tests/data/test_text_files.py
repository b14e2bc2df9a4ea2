"""Text files in every encoding that people bring, and names that only look the same."""

import unicodedata

import pytest

from tedloc.data import text_files
from tedloc.errors import UserError

WORDS = "001.Ant/ä.jpg,0\n\n  002.Bee/b.jpg,1  \n"


def written(path, content: bytes):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "with a mark"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_lines_are_the_same_whoever_wrote_them(tmp_path, mark, end, form):
    content = mark + unicodedata.normalize(form, WORDS).replace("\n", end).encode()
    found = text_files.lines(written(tmp_path / "a.txt", content), "write it")
    assert found == [(1, "001.Ant/ä.jpg,0"), (3, "002.Bee/b.jpg,1")]


def test_a_line_ends_where_editors_end_it(tmp_path):
    odd = "a\u2028b\x0bc\x85d\x1ce"  # what str.splitlines would break at
    assert text_files.lines(written(tmp_path / "a.txt", odd.encode()), "write it") == [(1, odd)]


@pytest.mark.parametrize(
    "content, words",
    [
        ("ä\n".encode("utf-16"), "is UTF-16 text; save it as UTF-8"),
        ("ä\n".encode("utf-16-be"), "is not text, it holds zero bytes"),
        (b"a\nb\xe4\n", "line 2: byte 0xe4 is not UTF-8 text"),
        (b"PK\x03\x04\x00\x00", "is not text, it holds zero bytes; write it"),
    ],
)
def test_other_text_is_named_for_what_it_is(tmp_path, content, words):
    with pytest.raises(UserError, match=words):
        text_files.read(written(tmp_path / "a.txt", content), "write it")


def test_what_is_no_file_is_named(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "link")
    for name, words in {
        "absent": "is missing; write it",
        "link": "is a link that leads to no",
        ".": "is a folder",
    }.items():
        with pytest.raises(UserError, match=words):
            text_files.read(tmp_path / name, "write it")


@pytest.mark.parametrize(
    "text, number",
    [("400", 400), (" 400.0 ", 400), ("-3", -3), ("+7", 7), ("007", 7)]
    + [(text, None) for text in ("0.5", "4e2", "1_000", "1,000", "٤", "½", "nan", "inf", "", "-", "0x10", "9" * 10)],
)
def test_a_whole_number_is_digits_and_nothing_clever(text, number):
    assert text_files.whole(text) == number


@pytest.mark.parametrize("name", ["a.jpg", "001.Ant/a.jpg", "x,y z.jpg", "名/ä.jpg", "a/b/c..jpg", "..a/b"])
def test_plain_paths_are_well(name):
    assert text_files.path_fault(name) is None


@pytest.mark.parametrize(
    "name, words",
    [
        (r"001.Ant\a.jpg", "is a path of Windows; write it from the folder of the images on, with /: '001.Ant/a.jpg'"),
        (r"C:\data\001.Ant\a.jpg", "'001.Ant/a.jpg'"),
        ("C:/data/001.Ant/a.jpg", "is a path of Windows"),
        ("/data/a.jpg", "leads out of its folder"),
        ("../a.jpg", "leads out of its folder"),
        ("./a.jpg", "is not the plain path; write 'a.jpg'"),
        ("a//b.jpg", "write 'a/b.jpg'"),
        ("a/", "write 'a'"),
        (".", "is not the plain path"),
        ("a\tb.jpg", "holds a tab"),
    ],
)
def test_paths_of_another_system_or_place_are_explained(name, words):
    assert words in text_files.path_fault(name)


@pytest.mark.parametrize("folder, file", [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
def test_a_file_is_found_in_whichever_form_the_disk_has_it(tmp_path, folder, file):
    path = tmp_path / unicodedata.normalize(folder, "Möwe") / unicodedata.normalize(file, "é.jpg")
    path.parent.mkdir()
    path.touch()
    assert text_files.on_disk(tmp_path, "Möwe/é.jpg") == path
    assert text_files.on_disk(tmp_path, "Möwe/ü.jpg").name == "ü.jpg"


def test_a_name_that_is_nearly_there_is_mentioned():
    known = ["001.Ant/a.jpg", "Möwe/b.jpg"]
    for name in ("001.ant/A.JPG", r"001.Ant\a.jpg", "./001.Ant/a.jpg", '"001.Ant/a.jpg"', "001.Ant/a.jpg "):
        assert "there is '001.Ant/a.jpg'" in text_files.resembling(name, known)
    assert "Möwe/b.jpg" in text_files.resembling(unicodedata.normalize("NFD", "Möwe/b.jpg"), known)
    assert text_files.resembling("c.jpg", known) == ""
