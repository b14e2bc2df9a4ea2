"""Look at a data set before a run, or make a small one to try things on.

    python -m tedloc.data example photos
    python -m tedloc.data describe --data.root photos
    python -m tedloc.data describe --data.name cub --json cub.json --sheet cub.png

Problems are told all at once, each with its place (``tedloc.data.problems``).
"""

import argparse
import json
from pathlib import Path

from tedloc import paths, profiles
from tedloc.data import SPLITS, describe, example, open_data
from tedloc.errors import UserError, command


@command
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tedloc.data",
        description=__doc__.split("\n")[0],
        epilog="Further options are settings of the profile, e.g. --data.root photos",
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("describe", help="classes, counts, sizes, boxes, trivial scores, broken and double photos")
    verb.add_argument("--profile", default="photos", help=", ".join(profiles.PROFILES))
    verb.add_argument("--json", type=Path, help="write it here, too")
    verb.add_argument("--sheet", type=Path, default=Path("contact_sheet.png"), help="(default: %(default)s)")
    maker = verbs.add_parser("example", help="a folder of drawn birds with boxes, as a folder of photos looks")
    maker.add_argument("folder", type=Path)
    maker.add_argument("--per-class", type=int, default=12, metavar="N", help="pictures (default: %(default)s)")
    known, rest = parser.parse_known_args(arguments)
    if known.verb == "example":
        if rest:
            parser.error(f"example knows no {' '.join(rest)}")
        example.write(known.folder, known.per_class)
        print(
            f"{known.per_class} pictures of each of {len(example.SPECIES)} species, and boxes.json, in {known.folder}"
        )
        return
    settings = profiles.from_command_line(profiles.get(known.profile), rest).data
    paths.writable_file(known.sheet, "--sheet")
    paths.writable_file(known.json, "--json")
    splits = {split: open_data(settings, split) for split in SPLITS}
    story = describe.describe(splits)
    print(describe.text(story))
    describe.contact_sheet(splits, known.sheet)
    print(f"\nphotos with their boxes: {known.sheet}")
    if known.json:
        with paths.replacing(known.json) as scratch:
            scratch.write_text(json.dumps(story, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if story["unreadable"]:
        raise UserError(f"{len(story['unreadable'])} photos cannot be read, see above; replace or delete them")


if __name__ == "__main__":
    main()
