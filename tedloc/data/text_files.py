"""Text files and file names as people bring them.

Text is UTF-8, with or without a byte-order mark, with line ends of any system. Names are compared in Unicode's composed
form (NFC), whichever form a list or a disk has: macOS takes accents apart (NFD), and the two look the same.
"""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from tedloc import paths
from tedloc.errors import UserError

MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}  # the first bytes of what spreadsheets call Unicode text
PLAIN = re.compile(r"\w[\w., +-]*(/\w[\w., +-]*)*")  # most paths: nothing to look at twice
WHOLE = re.compile(r"[+-]?\d{1,9}(\.0*)?", re.ASCII)  # "400" and "400.0"; no more digits than fit into int32


def read(path: Path, remedy: str) -> str:
    """The text of a file, composed, its lines ending in ``\\n``.

    remedy: the end of the sentence, "fetch it again". Raises ``UserError`` for a file that is missing, cannot be read
    or is no UTF-8 text, with its line.
    """
    if fault := paths.no_file(path):
        raise UserError(f"{path} {fault}; {remedy}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); see to its rights") from None
    if kind := MARKS.get(content[:2]):
        raise UserError(f"{path} is {kind} text; save it as UTF-8")
    if b"\0" in content:
        raise UserError(f"{path} is not text, it holds zero bytes; {remedy}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}, line {line}: byte {content[error.start]:#x} is not UTF-8 text; save it as such, or {remedy}"
        ) from None
    return composed(text.replace("\r\n", "\n").replace("\r", "\n"))


def lines(path: Path, remedy: str) -> list[tuple[int, str]]:
    """(number, text) of each line that is not blank, without blanks around it. Errors: see :func:`read`."""
    numbered = enumerate(read(path, remedy).split("\n"), start=1)
    return [(number, text) for number, line in numbered if (text := line.strip())]


def whole(text: str) -> int | None:
    """The whole number that a field of a line holds, None for anything else."""
    text = text.strip()
    return int(float(text)) if WHOLE.fullmatch(text) else None


def composed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def on_disk(folder: Path, name: str) -> Path:
    """The file below ``folder`` that has this name in either Unicode form; the name itself where there is none."""
    path = folder / name
    if name.isascii() or path.exists():
        return path
    for part in PurePosixPath(name).parts:
        forms = (folder / unicodedata.normalize(form, part) for form in ("NFC", "NFD"))
        folder = next((each for each in forms if each.exists()), folder / part)
    return folder


def path_fault(name: str) -> str | None:
    """What is wrong with a path that a list gives for a file below a folder; None if nothing is."""
    if PLAIN.fullmatch(name):
        return None
    path = PurePosixPath(name.replace("\\", "/"))
    if "\\" in name or re.match(r"[A-Za-z]:", name):
        return f"is a path of Windows; write it from the folder of the images on, with /: {_below(path)!r}"
    if path.is_absolute() or ".." in path.parts:
        return "leads out of its folder; give the path from the folder of the images on, like 'class/one.jpg'"
    if path.as_posix() != name or name == ".":
        return f"is not the plain path; write {path.as_posix()!r}"
    if any(unicodedata.category(letter) == "Cc" for letter in name):
        return "holds a tab or another control character; rename the file"
    return None


def _below(path: PurePosixPath) -> str:
    parts = [part for part in path.parts if part != "/" and not part.endswith(":")]
    return "/".join(parts[-2:])


def resembling(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about a name that is not among ``known``: which one it may be meant for, or nothing."""

    def bare(text: str) -> str:
        return composed(text).casefold().replace("\\", "/").strip(" \t\"'").removeprefix("./")

    wanted = bare(name)
    found = next((each for each in known if bare(each) == wanted), None)
    return "" if found is None else f" (there is {found!r}: the two must be written alike)"
