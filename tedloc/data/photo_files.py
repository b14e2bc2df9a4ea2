"""The photos below a folder: which there are, in which class and split, and what their headers say.

Only headers are read here (50,000 photos: seconds); whether a photo is complete is seen when it is decoded.
"""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from tqdm.auto import tqdm

from tedloc.data.images import TURNS
from tedloc.data.problems import Problems
from tedloc.data.text_files import composed

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
BESIDE = ("boxes", "masks")  # folders of `root` that are no classes
MEGAPIXELS = 50  # more in one photo: decoded, it takes 150 MB, and the networks look at 0.1 of it
ORIENTATION = 0x0112  # EXIF's tag: how a stored photo is to be turned for showing, 1 (as it is) to 8


class Photo(NamedTuple):
    """id: the path below root, with slashes; folder: its class; split: of its folder, or None; bytes: of the file;
    stored: width and height in the file; orientation: EXIF's."""

    id: str
    folder: str
    split: str | None
    stored: tuple[int, int]
    orientation: int
    bytes: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as shown."""
        return self.stored[::-1] if self.orientation >= 5 else self.stored


def find(root: Path, passed_over: Path | None, problems: Problems) -> list[Photo]:
    """Every photo below ``root``, sorted by split folder and path; passed_over: a folder of boxes within root."""
    folders = _class_folders(root, passed_over)
    if not folders:
        problems.add("a folder without folders in it; put the photos of each class into one of its own", str(root))
    found = []
    for split, folder in folders:
        mine, others = [], Counter()
        for file in files(folder):
            if file.suffix.lower() in ENDINGS:
                mine.append(file)
            else:
                others[file.suffix or file.name] += 1
        if not mine:
            there = ", ".join(f"{count} {ending}" for ending, count in others.most_common(3)) or "empty"
            problems.add(
                f"a class without a photo ({' '.join(ENDINGS)}); add some, or delete the folder",
                f"{folder.relative_to(root)} ({there})",
            )
        found += [(split, composed(folder.name), file) for file in mine]
    bar = tqdm(total=len(found), desc=f"looking at {root.name}", unit="photo", delay=2, leave=False)
    photos = []
    with ThreadPoolExecutor() as pool, bar:
        for (split, folder, file), header in zip(found, pool.map(_header, [file for *_, file in found]), strict=True):
            name = file.relative_to(root).as_posix()
            bar.update()
            if isinstance(header, str):
                problems.add("a file that is no image, or cut off; replace or delete it", f"{name} ({header})")
                continue
            photo = Photo(name, folder, split, *header)
            millions = photo.stored[0] * photo.stored[1] / 1e6
            if millions > MEGAPIXELS:
                problems.add(f"a photo of more than {MEGAPIXELS} megapixels; shrink it", f"{name} ({millions:.0f})")
            photos.append(photo)
    return sorted(photos, key=lambda photo: (photo.split or "", composed(photo.id)))


def _class_folders(root: Path, passed_over: Path | None) -> list[tuple[str | None, Path]]:
    """(split or None, folder) of every class."""
    inside = _folders(root)
    if "train" in {folder.name.lower() for folder in inside}:
        splits = [(SPLIT_FOLDERS.get(folder.name.lower()), folder) for folder in inside]
        return [(split, each) for split, folder in splits if split for each in _folders(folder)]
    return [(None, each) for each in inside if each.name.lower() not in BESIDE and each.resolve() != passed_over]


def _folders(folder: Path) -> list[Path]:
    inside = (each for each in folder.iterdir() if each.is_dir() and not each.name.startswith((".", "__MACOSX")))
    return sorted(inside, key=lambda each: composed(each.name))


def files(folder: Path) -> Iterator[Path]:
    """Every file below a folder that is not hidden; links are followed, each folder once."""
    seen = set()
    for place, inside, names in os.walk(folder, followlinks=True):
        here = os.stat(place)
        if (here.st_dev, here.st_ino) in seen:
            inside.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        inside[:] = [name for name in inside if not name.startswith(".")]
        yield from (Path(place, name) for name in names if not name.startswith("."))


def _end(file: Path, length: int = 2**17) -> bytes:
    with open(file, "rb") as opened:
        opened.seek(max(0, os.fstat(opened.fileno()).st_size - length))
        return opened.read()


def _header(file: Path) -> tuple[tuple[int, int], int, int] | str:
    """Stored size, orientation and bytes of a photo; or why it cannot be opened."""
    try:
        length = file.stat().st_size
        with Image.open(file) as image:
            # Pillow decodes all of a PNG that may have its tags at the end; here only one that has
            early = image.format == "PNG" and b"eXIf" not in _end(file)
            try:
                tag = (Image.Image.getexif(image) if early else image.getexif()).get(ORIENTATION)
            except Exception:  # broken metadata are no fault of the pixels
                tag = 1
            orientation = tag if tag in TURNS else 1
            turned = image.format == "TIFF" and orientation >= 5  # Pillow gives the size as shown
            return image.size[::-1] if turned else image.size, orientation, length
    except Image.UnidentifiedImageError:
        return "empty" if length == 0 else "no image that is known"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return getattr(error, "strerror", None) or str(error)
