"""Find and name the object in photos of your own, with a run of TeD-Loc or a model exported from one.

    python -m tedloc.predict photo.jpg other.png --checkpoint runs/aviary/tedloc-seed0-... --out found
    python -m tedloc.predict holiday/ --checkpoint model/ --out found --format coco --overlay none

A photo, a folder (searched to its bottom) or a pattern in quotes ("holiday/*.jpg"), any number of each. For every photo
its answer and, unless ``--overlay none``, a picture with map, box and class drawn over it, named after the photo. All
answers are kept in ``predictions.jsonl`` as they come (``tedloc.data.predictions``): the same command goes on after a
kill, gives another format without computing anything, and refuses a folder whose results are of other settings unless
``--force`` is given. A photo that cannot be read gets a sentence, the others go on; at the end the exit code is 2.

What an answer cannot say: there is one box a photo, around the largest part that looks like an object, so several
objects share it or all but one go without. The classes are those that the model was trained on, no others. And every
photo gets an answer, whatever it shows, unless ``--min-score Q`` is given: then a photo is refused that is less
familiar than a share Q of the run's validation photos (``tedloc.runs.localizer``), which costs about that share of
photos like those. How many photos without an object it refuses depends on what they show; the book measures it on
scenes without a bird.
"""

import argparse
import glob
import itertools
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from tqdm.auto import tqdm

from tedloc import paths, plots
from tedloc.data.images import read_image as read_photo
from tedloc.data.photo_files import ENDINGS, files
from tedloc.data.predictions import FORMATS, Journal, write
from tedloc.errors import UserError, command
from tedloc.metrics import boxes as mapping
from tedloc.runs.localizer import ROUTE, Found, Localizer, load
from tedloc.training import devices

SHOWN = 5  # classes told of a photo
DRAWN = 1600  # pixels, longer side: larger photos are drawn smaller
BATCH = 8  # photos that pass the network together: twice as many are in memory
LIMITS = (
    "One box a photo, around the largest part that looks like an object: of several objects it says nothing. The class "
    "is one of those trained on, and there is always an answer unless --min-score refuses it."
)


def about(localizer: Localizer, threshold: float | None = None, min_score: float = 0.0) -> dict[str, Any]:
    """What is said of all photos: by which model, and how its maps were cut. Raises ``UserError`` for bad settings."""
    if threshold is not None and not 0 <= threshold < 1:
        raise UserError(f"--threshold is {threshold}; give one from 0 up to, but not including, 1")
    if not 0 <= min_score < 1:
        raise UserError(f"--min-score is {min_score}; give a share of validation photos from 0 up to, not including, 1")
    if min_score and not localizer.familiar:
        raise UserError("--min-score needs the scores of validation photos, which this model lacks; train again")
    own = "the run's validation split" if localizer.chosen else "no box chose it: half of the map's maximum"
    return {
        "model": localizer.about,
        "route": ROUTE,
        "grid": localizer.size,
        "threshold": localizer.threshold if threshold is None else threshold,
        "threshold from": own if threshold is None else "--threshold",
        "min score": min_score,
        "limits": LIMITS,
    }


def describe(
    found: Found, localizer: Localizer, path: Path, size: Sequence[int], said: dict[str, Any]
) -> dict[str, Any]:
    """What is said of one photo, ready for JSON. size: its width and height; said: of all photos, see :func:`about`."""
    shares, familiarity = localizer.shares(found.scores), localizer.familiarity(found)
    refused = bool(said["min score"]) and familiarity < said["min score"]
    given = found.box is not None and not refused
    return {
        "image": str(path),
        "bytes": path.stat().st_size,
        "width": size[0],
        "height": size[1],
        "box": [round(edge, 2) for edge in found.box] if given else None,
        "box on grid": list(found.grid) if given else None,
        "no box because": None if given else "it is less familiar than --min-score" if refused else "the map is flat",
        "classes": [
            {
                "name": localizer.class_names[k],
                "index": int(k),
                "score": round(float(found.scores[k]), 4),
                "softmax": round(float(shares[k]), 4),
            }
            for k in np.argsort(-found.scores, kind="stable")[:SHOWN]
        ],
        "familiarity": None if familiarity is None else round(familiarity, 3),
        "map": {
            "shape": list(found.map.shape),
            "min": float(found.map.min()),
            "max": float(found.map.max()),
            "mean": float(found.map.mean()),
        },
    }


def line(story: dict[str, Any]) -> str:
    """One photo's answer as one line of text."""
    best, box = story["classes"][0], story["box"]
    said = f"score {best['score']:.2f}, softmax {best['softmax']:.0%}"
    if story["familiarity"] is not None:
        said += f", familiarity {story['familiarity']:.2f}"
    edges = "box " + ", ".join(f"{edge:.1f}" for edge in box) if box else f"no box: {story['no box because']}"
    return f"{story['image']}: {best['name']} ({said}), {edges}"


def draw(found: Found, story: dict[str, Any], grid: int, image: np.ndarray, file: Path) -> None:
    """Write the photo with map, box and best class over it; the file's ending says in which format."""
    height, width = image.shape[:2]
    scale = min(1.0, DRAWN / max(height, width))
    small = Image.fromarray(image).resize((max(1, round(width * scale)), max(1, round(height * scale))))
    best = story["classes"][0]
    title = f"{plots.written(best['name'])}\nscore {best['score']:.2f}, softmax {best['softmax']:.0%}"
    panel = max(2.5, min(9.0, 6.0 * height / width))
    with matplotlib.rc_context({"savefig.bbox": "tight"}):
        figure = Figure(figsize=(6.0, panel + 0.6), dpi=160, facecolor="white")
        plots.show_localization(
            figure.add_subplot(),
            np.asarray(small),
            mapping.to_grid(found.map, grid),
            predicted_box=np.array(story["box"]) * scale if story["box"] else None,
            title=title if story["box"] else f"{title}\n{story['no box because']}",
        )
        with paths.replacing(file) as scratch:
            figure.savefig(scratch)


def photos(arguments: Sequence[str]) -> dict[Path, Path]:
    """Every photo that is meant, by the name of its results: its own without its ending, with the folders below the one
    that was given.

    Raises ``UserError`` for a pattern or a folder without photos, and for two photos that would share their results.
    """
    found: dict[Path, Path] = {}
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            inside = sorted(file for file in files(path) if file.suffix.lower() in ENDINGS)
            each = [(file.relative_to(path), file) for file in inside]
        elif not path.exists() and re.search(r"[*?[]", argument):
            inside = sorted(Path(file) for file in glob.glob(argument, recursive=True))
            root = Path(*itertools.takewhile(lambda part: not re.search(r"[*?[]", part), path.parts))
            each = [(file.relative_to(root), file) for file in inside if file.suffix.lower() in ENDINGS]
        else:
            each = [(Path(path.name), path)]
        if not each:
            raise UserError(f"{argument}: no photo there ({' '.join(ENDINGS)}); correct the path")
        for name, file in each:
            other = found.setdefault(name.with_suffix(""), file)
            if other != file:
                raise UserError(f"{other} and {file} would share one result; rename one, or give them another --out")
    return found


def read_ahead(sources: Sequence[Path]) -> Iterator[list[tuple[Path, np.ndarray | UserError]]]:
    """Batches of photos, or why one cannot be read; the next batch is read while this one is looked at."""

    def read(path: Path) -> tuple[Path, np.ndarray | UserError]:
        try:
            return path, read_photo(path)
        except UserError as error:
            return path, error

    parts = [sources[start : start + BATCH] for start in range(0, len(sources), BATCH)]
    with ThreadPoolExecutor(2) as pool:
        coming = [pool.submit(read, path) for path in (parts[0] if parts else ())]
        for part in [*parts[1:], ()]:
            waiting, coming = coming, [pool.submit(read, path) for path in part]
            yield [each.result() for each in waiting]


def predict(
    localizer: Localizer,
    sources: dict[Path, Path],
    out: Path,
    *,
    kind: str = "json",
    overlay: str = "png",
    threshold: float | None = None,
    min_score: float = 0.0,
    force: bool = False,
) -> list[dict[str, Any]]:
    """Answer for photos (:func:`photos`), write the answers into ``out`` and return them; those there are kept.

    Raises ``UserError``, after the others are written, for photos that cannot be read.
    """
    said = about(localizer, threshold, min_score)
    drawn = {path: out / f"{name}.{overlay}" for name, path in sources.items()} if overlay != "none" else {}
    own = {path.resolve() for path in sources.values()}
    if over := next((file for file in drawn.values() if file.resolve() in own), None):
        raise UserError(f"{over} is a photo itself; choose another folder by --out")
    journal, failures = Journal(out, said, force), []

    def done(path: Path) -> bool:
        story = journal.stories.get(str(path))
        same = story is not None and path.exists() and path.stat().st_size == story["bytes"]
        return same and (path not in drawn or drawn[path].exists())

    left = [path for path in sources.values() if not done(path)]
    if len(left) < len(sources):
        print(f"{len(sources) - len(left):,} of {len(sources):,} photos are done already", flush=True)
    with tqdm(total=len(left), desc="photos", unit="photo", delay=2, leave=False) as bar:
        for batch in read_ahead(left):
            failures += [answer for _, answer in batch if isinstance(answer, UserError)]
            readable = [(path, image) for path, image in batch if isinstance(image, np.ndarray)]
            answers = localizer.many([image for _, image in readable], threshold) if readable else []
            for (path, image), found in zip(readable, answers, strict=True):
                story = describe(found, localizer, path, image.shape[1::-1], said)
                if path in drawn:
                    draw(found, story, localizer.size, image, drawn[path])
                journal.add(story)
                bar.write(line(story))
            bar.update(len(batch))
    stories = {name: journal.stories[str(path)] for name, path in sources.items() if str(path) in journal.stories}
    write(kind, stories, localizer.class_names, said, out)
    if failures:
        raise UserError("\nerror: ".join(map(str, failures)))
    return list(stories.values())


@command
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tedloc.predict", description=__doc__.split("\n")[0], epilog=LIMITS)
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="a photo, a folder, or a pattern in quotes")
    parser.add_argument(
        "--checkpoint",
        required=True,
        type=Path,
        metavar="RUN",
        help="folder of a finished run, or of an exported model",
    )
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the results (default: here)")
    parser.add_argument("--format", choices=FORMATS, default="json", help="of the answers (default: %(default)s)")
    parser.add_argument("--overlay", choices=("png", "jpg", "none"), default="png", help="(default: %(default)s)")
    parser.add_argument("--threshold", type=float, help="in [0, 1); default: the run's, from its validation photos")
    parser.add_argument(
        "--min-score",
        type=float,
        default=0.0,
        metavar="Q",
        help="refuse what is less familiar than this share of validation photos",
    )
    parser.add_argument("--device", default=devices.default(), help="cpu, cuda, cuda:1 ...")
    parser.add_argument("--force", action="store_true", help="replace results of other settings")
    chosen = parser.parse_args(arguments)
    paths.writable_folder(chosen.out, "--out")
    sources = photos(chosen.photos)
    paths.writable_folder(chosen.out, "--out")
    found = predict(
        load(chosen.checkpoint, devices.checked(chosen.device)),
        sources,
        chosen.out,
        kind=chosen.format,
        overlay=chosen.overlay,
        threshold=chosen.threshold,
        min_score=chosen.min_score,
        force=chosen.force,
    )
    boxed = sum(story["box"] is not None for story in found)
    print(f"{boxed:,} of {len(found):,} photos have a box; results in {chosen.out}. {LIMITS}")


if __name__ == "__main__":
    main()
