"""The one reader of photos, rule by rule, on its pixels; and what it says about a file that it cannot read."""

import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, features

from tedloc.data.images import read_image
from tedloc.errors import UserError

RAMP = np.linspace(0, 1, 256).reshape(8, 32)  # every grey value once
GREY = (RAMP * 255).round().astype(np.uint8)
PHOTO = np.stack([GREY, GREY[::-1], 255 - GREY], axis=2)
ORIENTATION = 0x0112


def three(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


def refused(path, **options) -> str:
    with pytest.raises(UserError) as caught:
        read_image(path, **options)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def tagged(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags


# What a camera stores that was held in this orientation, as NumPy turns the upright photo back.
STORED = {
    1: PHOTO,
    2: PHOTO[:, ::-1],
    3: PHOTO[::-1, ::-1],
    4: PHOTO[::-1],
    5: PHOTO.transpose(1, 0, 2),
    6: np.rot90(PHOTO, 1),
    7: PHOTO[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(PHOTO, -1),
}


class TestOrientation:
    @pytest.mark.parametrize("suffix", [".png", ".tiff", ".webp"])
    @pytest.mark.parametrize("orientation", STORED)
    def test_a_photo_is_turned_upright_or_left_as_stored(self, tmp_path, orientation, suffix):
        if suffix == ".webp" and not features.check("webp"):
            pytest.skip("this Pillow knows no WebP")
        stored, path = np.ascontiguousarray(STORED[orientation]), tmp_path / f"a{suffix}"
        Image.fromarray(stored).save(
            path, exif=tagged(orientation), **({"lossless": True} if suffix == ".webp" else {})
        )
        assert np.array_equal(read_image(path), PHOTO)
        assert np.array_equal(read_image(path, upright=False), stored)

    @pytest.mark.parametrize("upright", [True, False])
    def test_the_listed_size_decides_where_it_can(self, tmp_path, upright):
        Image.fromarray(STORED[6].copy()).save(tmp_path / "a.png", exif=tagged(6))
        assert np.array_equal(read_image(tmp_path / "a.png", (32, 8), upright=upright), PHOTO)
        assert np.array_equal(read_image(tmp_path / "a.png", np.array([8, 32]), upright=upright), STORED[6])

    def test_where_it_cannot_the_data_set_does(self, tmp_path):
        Image.fromarray(STORED[3].copy()).save(tmp_path / "half.png", exif=tagged(3))
        assert np.array_equal(read_image(tmp_path / "half.png", (32, 8)), PHOTO)
        assert np.array_equal(read_image(tmp_path / "half.png", (32, 8), upright=False), STORED[3])

    def test_a_size_that_fits_neither_way_is_refused(self, tmp_path):
        Image.fromarray(STORED[8].copy()).save(tmp_path / "a.png", exif=tagged(8))
        said = refused(tmp_path / "a.png", listed=(100, 50))
        assert "is 32 x 8 pixels where the split files say 100 x 50" in said
        assert "its EXIF tag turns it, as stored it is 8 x 32" in said
        Image.fromarray(PHOTO).save(tmp_path / "plain.png")
        assert "are width and height swapped" in refused(tmp_path / "plain.png", listed=(8, 32))

    def test_xmp_counts_as_exif_does_and_exif_that_comes_after_the_pixels_too(self, tmp_path):
        xmp = PngImagePlugin.PngInfo()
        xmp.add_itxt("XML:com.adobe.xmp", '<rdf:Description tiff:Orientation="6"/>')
        Image.fromarray(STORED[6].copy()).save(tmp_path / "xmp.png", pnginfo=xmp)
        assert np.array_equal(read_image(tmp_path / "xmp.png"), PHOTO)
        Image.fromarray(STORED[6].copy()).save(tmp_path / "a.png")
        content, tags = (tmp_path / "a.png").read_bytes(), tagged(6).tobytes().removeprefix(b"Exif\0\0")
        chunk = struct.pack(">I", len(tags)) + b"eXIf" + tags + struct.pack(">I", zlib.crc32(b"eXIf" + tags))
        (tmp_path / "late.png").write_bytes(content[:-12] + chunk + content[-12:])
        assert np.array_equal(read_image(tmp_path / "late.png"), PHOTO)

    @pytest.mark.parametrize("value", [0, 9, 4711])
    def test_an_orientation_that_does_not_exist_turns_nothing(self, tmp_path, value):
        Image.fromarray(PHOTO).save(tmp_path / "a.png", exif=tagged(value))
        assert np.array_equal(read_image(tmp_path / "a.png"), PHOTO)


def directory(*entries: bytes) -> bytes:
    return struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", 0)


def entry(tag: int, kind: int, count: int, value: bytes) -> bytes:
    return struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")


TURNED = entry(ORIENTATION, 3, 1, struct.pack("<H", 6))
BROKEN_TAGS = {  # metadata as cameras and editors spoil them; the photo is turned all the same where that can be read
    "altitude below sea level": (
        directory(TURNED, entry(0x8825, 4, 1, struct.pack("<I", 38)))
        + directory(entry(6, 10, 1, struct.pack("<I", 56)))
        + struct.pack("<ii", -12, 1),
        True,
    ),
    "directory cut off": (directory(TURNED)[:7], False),
    "values that lie outside": (directory(TURNED, entry(0x010F, 2, 4000, struct.pack("<I", 9000))), True),
    "orientation as text": (directory(entry(ORIENTATION, 2, 2, b"6\0")), False),
    "nothing but noise": (bytes(range(200, 250)), False),
}


@pytest.mark.parametrize("kind", BROKEN_TAGS)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_broken_metadata_do_not_keep_a_photo_from_being_read(tmp_path, kind):
    tags, turns = BROKEN_TAGS[kind]
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + tags
    Image.fromarray(PHOTO).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == ((32, 8, 3) if turns else (8, 32, 3))


class TestDepth:
    def test_of_16_bits_the_upper_eight_are_kept_in_grey_as_in_colour(self, tmp_path):
        deep = (RAMP * 65535).round().astype(np.uint16)
        Image.fromarray(deep).save(tmp_path / "a.png")
        assert np.array_equal(read_image(tmp_path / "a.png"), three((deep >> 8).astype(np.uint8)))
        Image.fromarray(deep).save(tmp_path / "a.tiff")
        assert np.array_equal(read_image(tmp_path / "a.tiff"), read_image(tmp_path / "a.png"))
        (tmp_path / "a.pgm").write_bytes(b"P5 32 8 65535\n" + deep.astype(">u2").tobytes())
        assert np.array_equal(read_image(tmp_path / "a.pgm"), read_image(tmp_path / "a.png"))

    def test_black_is_black_but_8_bits_in_16_are_refused(self, tmp_path):
        Image.fromarray(np.zeros((8, 32), np.uint16)).save(tmp_path / "black.png")
        assert not read_image(tmp_path / "black.png").any()
        Image.fromarray(GREY.astype(np.uint16)).save(tmp_path / "dark.png")
        assert "its largest value, 255, would be black" in refused(tmp_path / "dark.png")

    def test_float_counts_from_black_0_to_white_1(self, tmp_path):
        Image.fromarray(RAMP.astype(np.float32)).save(tmp_path / "a.tiff")
        assert np.array_equal(read_image(tmp_path / "a.tiff"), three(GREY))
        for name, values in {"255": RAMP * 255, "nan": np.where(RAMP > 0.5, np.nan, RAMP), "minus": RAMP - 0.1}.items():
            Image.fromarray(values.astype(np.float32)).save(tmp_path / f"{name}.tiff")
            assert "has float pixels from" in refused(tmp_path / f"{name}.tiff")

    def test_32_bit_integers_are_refused(self, tmp_path):
        Image.fromarray(GREY.astype(np.int32)).save(tmp_path / "a.tiff")
        assert "32-bit integers" in refused(tmp_path / "a.tiff")


class TestColour:
    def test_grey_and_one_bit(self, tmp_path):
        Image.fromarray(GREY).save(tmp_path / "grey.png")
        assert np.array_equal(read_image(tmp_path / "grey.png"), three(GREY))
        Image.fromarray(GREY > 127).save(tmp_path / "bit.png")
        assert np.array_equal(read_image(tmp_path / "bit.png"), three(np.where(GREY > 127, 255, 0)))

    def test_a_palette_shows_its_colours(self, tmp_path):
        image = Image.fromarray(GREY // 86, "P")
        image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
        image.save(tmp_path / "a.png")
        colours = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]])
        assert np.array_equal(read_image(tmp_path / "a.png"), colours[GREY // 86])

    def test_cmyk_becomes_what_pillow_makes_of_it(self, tmp_path):
        Image.fromarray(PHOTO).convert("CMYK").save(tmp_path / "a.tiff")
        assert np.array_equal(read_image(tmp_path / "a.tiff"), PHOTO)

    @pytest.mark.parametrize("kind", ["alpha", "grey alpha", "palette", "one colour", "one 16-bit grey"])
    def test_what_is_transparent_is_white(self, tmp_path, kind):
        clear = GREY < 100
        path, options = tmp_path / "a.png", {}
        if kind == "alpha":
            image = Image.fromarray(np.dstack([PHOTO, np.where(clear, 0, 255).astype(np.uint8)]))
            expected = np.where(clear[..., None], 255, PHOTO)
        elif kind == "grey alpha":
            image = Image.merge(
                "LA", [Image.fromarray(GREY), Image.fromarray(np.where(clear, 0, 255).astype(np.uint8))]
            )
            expected = three(np.where(clear, 255, GREY))
        elif kind == "palette":
            image = Image.fromarray(clear.astype(np.uint8), "P")
            image.putpalette([10, 20, 30, 0, 0, 0])
            options, expected = {"transparency": 1}, np.where(clear[..., None], 255, [10, 20, 30])
        elif kind == "one colour":
            image = Image.fromarray(np.where(clear[..., None], [1, 2, 3], PHOTO).astype(np.uint8))
            options, expected = {"transparency": (1, 2, 3)}, np.where(clear[..., None], 255, PHOTO)
        else:
            image = Image.fromarray(np.where(clear, 7, GREY.astype(np.uint16) * 257).astype(np.uint16))
            options, expected = {"transparency": 7}, three(np.where(clear, 255, GREY))
        image.save(path, **options)
        assert np.array_equal(read_image(path), expected)

    def test_half_transparent_is_mixed_with_white(self, tmp_path):
        Image.new("RGBA", (4, 4), (0, 0, 0, 128)).save(tmp_path / "a.png")
        assert read_image(tmp_path / "a.png")[0, 0].tolist() == [127, 127, 127]

    @pytest.mark.parametrize("suffix", [".gif", ".png", ".tiff"])
    def test_of_an_animation_the_first_frame_is_read(self, tmp_path, suffix):
        first, second = Image.fromarray(GREY), Image.fromarray(255 - GREY)
        first.save(tmp_path / f"a{suffix}", save_all=True, append_images=[second])
        assert np.array_equal(read_image(tmp_path / f"a{suffix}"), three(GREY))


class TestSize:
    def test_a_large_photo_is_read_without_a_warning(self, tmp_path):
        """Pillow warns from 89 megapixels on; here from a thousand pixels on, which takes less time."""
        Image.new("L", (50, 30)).save(tmp_path / "a.png")
        code = (
            "from PIL import Image; Image.MAX_IMAGE_PIXELS = 1000; from tedloc.data.images import read_image; "
            f"print(read_image({str(tmp_path / 'a.png')!r}).shape)"
        )
        done = subprocess.run([sys.executable, "-W", "default", "-c", code], capture_output=True, text=True)
        assert (done.stdout.strip(), done.stderr) == ("(30, 50, 3)", "")

    def test_one_of_182_megapixels_is_refused_for_its_size(self, tmp_path):
        Image.new("1", (14_000, 13_000)).save(tmp_path / "a.png")
        assert "has more than 178 megapixels; make it smaller" in refused(tmp_path / "a.png")

    def test_a_single_pixel_is_a_photo(self, tmp_path):
        Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "a.png")
        assert read_image(tmp_path / "a.png").tolist() == [[[1, 2, 3]]]


def test_what_is_no_photo_is_named(tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "whole.png")
    content = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "head.png").write_bytes(content[:40])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "words.jpg").write_text("no image")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "circle.jpg").symlink_to(tmp_path / "circle.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "x" * 3_000_000, zip=True)
    Image.fromarray(PHOTO).save(tmp_path / "text.png", pnginfo=text)
    for name, words in {
        "cut.png": "cannot be read",
        "head.png": "cannot be read",
        "text.png": "cannot be read (Decompressed data too large",
        "empty.jpg": "cannot be read (it is empty)",
        "words.jpg": "cannot be read (it is no image that is known)",
        "folder.jpg": "is a folder where a file is expected",
        "absent.jpg": "is missing; correct the path",
        "dangling.jpg": "is a link that leads to no file",
        "circle.jpg": "is a link that leads to no file",
        "pipe.jpg": "is no plain file",
    }.items():
        assert words in refused(tmp_path / name), name


def test_the_pixels_can_be_written_to(tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "a.png", exif=tagged(3))
    read_image(tmp_path / "a.png")[0] = 0  # torch warns of memory that cannot
