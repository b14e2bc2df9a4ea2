"""Split files of the WSOL evaluation benchmark for CUB and ILSVRC (MIT; 13 MB), each fetched with its sha256.

    python data_scripts/wsol_metadata.py status    # what is there
    python data_scripts/wsol_metadata.py fetch     # bring what is missing
    python data_scripts/wsol_metadata.py verify    # every file's sha256, every split's counts
    python data_scripts/wsol_metadata.py prepare --source metadata   # link a clone's folder instead

They go to ``wsol-metadata/`` in the data folder (``TEDLOC_DATA``, by default ``data/`` in the checkout).

ILSVRC's val files are those of the benchmark's first release, which name ImageNetV2's images by number
(``val2/0/0.jpeg``). ImageNetV2 has since renamed its images; ``mapping.txt``, the benchmark's own list of old
and new names, lets data_scripts/ilsvrc.py arrange today's archive. Its checksum is not published: see
tedloc.data.fetching.
"""

from pathlib import Path

from tedloc import paths
from tedloc.data import fetching
from tedloc.data.benchmark import read_split
from tedloc.data.files import where
from tedloc.errors import UserError

REPOSITORY = "https://raw.githubusercontent.com/clovaai/wsolevaluation"
RELEASE = "b5c1e8a99868d5b2e869aa7f3f5ad8c310b16ca3"  # the first, of January 2020
MAPPING = "ILSVRC/val/mapping.txt"
MAPPING_COMMIT = "e9972606b18064ea886f098f2b5b29b9ade75f09"
PAGE = "the `metadata` folder of https://github.com/clovaai/wsolevaluation"
SHA256 = {
    "CUB/test/class_labels.txt": "0e65f035658267b2c7eec0d289048bb822e4a5f9a244b034c127ea7fb1367d7d",
    "CUB/test/image_ids.txt": "f654e4676187fc322ad409487faa3568bffa751438198011692e7ff01be574ca",
    "CUB/test/image_sizes.txt": "96c4e79810545b237b2a79f4623a198ce6effb290fba01790b5587b464abd33b",
    "CUB/test/localization.txt": "85d2bd87f1bfb1641ae42f36df070c34b4755f260267326d2a2d19e65a9acf00",
    "CUB/train/class_labels.txt": "4f19c23e9fdf3cfae8027a9ea8a1cec1b4ecc6a3cb6cf0fe12723c48cde82b30",
    "CUB/train/image_ids.txt": "c04cbe44e79ef2129afac49a15eb51b8f050cdef140cef4cf908cef823000b66",
    "CUB/train/image_sizes.txt": "307a9ed88a011e41b16153ed9745f4cf41054fdfb834f412f104873a42a959cd",
    "CUB/train/localization.txt": "672f41482883e8a23e9b1406b8e75aec7c74c18da39b024724c804dba3c480fd",
    "CUB/val/class_labels.txt": "36791366bc002b82df029b8d84500d731ecc4a5dea603250f134e927d7df5748",
    "CUB/val/image_ids.txt": "455f26689daf2219d42208fba21be12da219c8724eab38482210c4ac2bc57c02",
    "CUB/val/image_sizes.txt": "b0d5495ba5af9f7b1e34753cc8548be5debb267a3d7803a5408a3bc4d173ef63",
    "CUB/val/localization.txt": "08ff9afa478b3a7e29a15c173e11927c9cb1867b58ae8a541df69a4c0c830ab5",
    "ILSVRC/test/class_labels.txt": "a226044e3e00900291053ecb8e68640385a196c5521c793d242df9e084e898b6",
    "ILSVRC/test/image_ids.txt": "68bed6c35194a126dba32ad15f2f19596a5f1a3923ffc4ac301402d93e045583",
    "ILSVRC/test/image_sizes.txt": "dde3957c4bf3bdab41ec759386c6ebaa8bed2c1790891ec3465e3a235ed63f3e",
    "ILSVRC/test/localization.txt": "c4a9929837b61e9c2a03524f5b963945782ddc9930c4f8ea764cc10004c5ee62",
    "ILSVRC/val/class_labels.txt": "316209e92831b0dd910432afe74c55f2fb33ed72ade1378d3d0954df325ea51e",
    "ILSVRC/val/image_ids.txt": "bcd13383b7fdaa8aa9cfd02228b398802cf64b20f6efe13aa4b0696b9431d993",
    "ILSVRC/val/image_sizes.txt": "4c82c4c1e14bc7f6a1a8a1fe7ab91df2ec369318b39a8b70618d6bd041cc7410",
    "ILSVRC/val/localization.txt": "4d01d6e9eab27ec860092a43f5b7480f10aadbf21234bd01ae419e9c8181ea3f",
}
# (data set, split): images, boxes
COUNTS = {
    ("CUB", "train"): (5994, 5994),
    ("CUB", "val"): (1000, 1000),
    ("CUB", "test"): (5794, 5794),
    ("ILSVRC", "val"): (10000, 18532),
    ("ILSVRC", "test"): (50000, 80477),
}


def folder() -> Path:
    return paths.data() / "wsol-metadata"


def archive(name: str) -> fetching.Archive:
    """One file as something to fetch."""
    commit = MAPPING_COMMIT if name == MAPPING else RELEASE
    known = SHA256.get(name)
    return fetching.Archive(
        f"wsol-metadata/{name}",
        (f"{REPOSITORY}/{commit}/metadata/{name}", f"{REPOSITORY}/master/metadata/{name}"),
        1_000_000,
        f"sha256:{known}" if known else None,
        PAGE,
    )


def fetch() -> None:
    """Bring every file that is missing; each is checked before it is put in its place."""
    for name in (*SHA256, MAPPING):
        fetching.download(archive(name))
    verify()


def prepare(source: Path) -> None:
    """Link the ``metadata`` folder of a clone of the benchmark; nothing is copied."""
    fetching.place(source, folder(), "CUB/train/image_ids.txt")
    verify()


def verify() -> None:
    """Check each file's sha256 and each split's counts."""
    for name in SHA256:
        path = folder() / name
        if not path.exists():
            raise UserError(f"split file {path} is missing; run `python data_scripts/wsol_metadata.py fetch`")
        fetching.check_sum(path, f"sha256:{SHA256[name]}")
    for (dataset, split), counts in COUNTS.items():
        records = read_split(folder(), dataset, split)
        found = len(records.ids), sum(map(len, records.boxes))
        if found != counts:
            raise UserError(f"{dataset}/{split} has {found} images and boxes instead of {counts}; fetch it again")
        print(f"{dataset}/{split}: {counts[0]} images, {counts[1]} boxes")


def status() -> None:
    """Print which files are there."""
    names = (*SHA256, MAPPING)
    lacking = [name for name in names if not (folder() / name).exists()]
    print(f"split files: {len(names) - len(lacking)} of {len(names)} in {folder()}")
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        print(f"MISSING: {lacking[0]}{more}; run `python data_scripts/wsol_metadata.py fetch` (13 MB; {where()})")


if __name__ == "__main__":
    fetching.commands(__doc__, status=status, fetch=fetch, verify=verify, prepare=prepare)
