"""ILSVRC 2012: 1.28 million training photos, and 50,000 validation photos: the benchmark's test split.

ImageNet's terms forbid that a program brings them: register at https://image-net.org and download
``ILSVRC2012_img_train.tar`` (138 GB) and ``ILSVRC2012_img_val.tar`` (6.3 GB) yourself. ImageNetV2 (threshold
0.7, 10,000 photos, the benchmark's validation split, 1.25 GB) is free to fetch.

    python data_scripts/ilsvrc.py status
    python data_scripts/ilsvrc.py fetch                # ImageNetV2; says what is left for you
    python data_scripts/ilsvrc.py prepare --train ILSVRC2012_img_train.tar --val ILSVRC2012_img_val.tar
    python data_scripts/ilsvrc.py prepare --train /other/train --val /other/val    # folders are linked
    python data_scripts/ilsvrc.py prepare --val2 imagenetv2-threshold0.7.tar.gz    # without a network
    python data_scripts/ilsvrc.py verify               # decode every image

``prepare`` takes the official archives, folders extracted from them (``train/<wnid>/``; ``val/`` flat or
sorted into class folders; Kaggle's ``CLS-LOC``), and goes on where it was interrupted, class by class. The
result lies in ``ILSVRC/`` in the data folder (``TEDLOC_DATA``, by default ``data/`` in the checkout). Split
files first: data_scripts/wsol_metadata.py.
"""

import os
import shutil
import tarfile
from pathlib import Path

import filelock
from tqdm import tqdm

from tedloc import paths
from tedloc.data import SPLITS, fetching, ilsvrc, open_split, text_files
from tedloc.data.benchmark import read_split
from tedloc.errors import UserError

TRAIN_IMAGES = 1_281_167
MD5 = {  # as torchvision's own loader checks them
    "train": "md5:1d675b47d978889d74fa0da5fadfb00e",
    "val": "md5:29b22e2961454d5413ddabcf34fc5622",
}
# size and sha256 as TensorFlow Datasets records them
IMAGENET_V2 = fetching.Archive(
    "imagenetv2-threshold0.7.tar.gz",
    ("https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/imagenetv2-threshold0.7.tar.gz",),
    1_249_906_176,
    "sha256:32142bfe998f9cfa4141be691f6a80eeb1e27b24bd532a668eb08c26d98897a2",
    "https://github.com/modestyachts/ImageNetV2",
)
MAPPING = "ILSVRC/val/mapping.txt"


def root() -> Path:
    return paths.data() / "ILSVRC"


def fetch() -> None:
    """Bring ImageNetV2, and say what the user has to bring."""
    if not (root() / "val2").exists():
        split_ids("val")  # before an hour's download: are the split files there?
        archive = fetching.download(IMAGENET_V2)
        arrange_val2(archive)
        archive.unlink()
    if not status():
        print(
            "ILSVRC itself may not be fetched by a program: register at https://image-net.org, download "
            "ILSVRC2012_img_train.tar (138 GB) and ILSVRC2012_img_val.tar (6.3 GB), and run "
            "`python data_scripts/ilsvrc.py prepare --train TAR --val TAR`"
        )


def prepare(train: Path | None = None, val: Path | None = None, val2: Path | None = None) -> None:
    """Arrange what the user has: archives are extracted, folders linked.

    Args:
        train: the official archive, or a folder of class folders
        val: the official archive, or a folder that holds ILSVRC2012_val_*.JPEG, flat or in class folders
        val2: ImageNetV2's archive or folder
    """
    if train:
        arrange_train(train)
    if val:
        arrange_val(val)
    if val2:
        arrange_val2(val2)
    status()


def verify() -> None:
    """Decode every image of every split; count the training images."""
    fetching.verify("ilsvrc", SPLITS)
    count = len(open_split("ilsvrc", "train"))
    if count != TRAIN_IMAGES and not subset():
        raise UserError(f"{root() / 'train'} has {count} images instead of {TRAIN_IMAGES}; extract the archive again")


def status() -> bool:
    """Print where the images lie and how many, or what is missing."""
    if subset():
        print(f"{root() / 'wnids.txt'} restricts ILSVRC to some of its classes: no number from it is the benchmark's")
    return fetching.status("ilsvrc", SPLITS)


def subset() -> bool:
    return (root() / "wnids.txt").exists()


def wanted_wnids() -> list[str]:
    return ilsvrc.kept_wnids(root(), ilsvrc.all_wnids())


def split_ids(split: str) -> list[str]:
    return read_split(paths.data() / "wsol-metadata", "ILSVRC", split).ids


def arrange_train(source: Path) -> None:
    """``train/<wnid>/``: a link to a folder, or the archives inside the official one, class by class."""
    target, wnids = root() / "train", wanted_wnids()
    fetching.refuse_existing(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        target.symlink_to(folder_of_classes(source, wnids).resolve(), target_is_directory=True)
        return
    if not source.exists():
        raise UserError(f"{source} does not exist; name ILSVRC2012_img_train.tar or the folder it was extracted to")
    staged = root() / ".train.partial"  # outlives an interruption: whole classes only
    with filelock.FileLock(root() / ".train.lock"):
        if not staged.exists():
            print(f"checking {source} (md5)")
            fetching.check_sum(source, MD5["train"])
            fetching.need_space(root(), source.stat().st_size, "ILSVRC's training images")
        staged.mkdir(exist_ok=True)
        try:
            with tarfile.open(source) as outer:
                for member in tqdm(outer.getmembers(), desc="classes"):
                    wnid = Path(member.name).stem
                    if wnid in wnids and not (staged / wnid).exists():
                        extract_class(outer, member, source, staged / wnid)
        except tarfile.TarError as error:
            raise UserError(f"{source} is damaged or cut off ({error}); download it again") from None
        lacking = [wnid for wnid in wnids if not (staged / wnid).exists()]
        if lacking:
            raise UserError(
                f"{source} lacks {len(lacking)} of {len(wnids)} classes, first {lacking[0]}; download it again"
            )
        os.replace(staged, target)


def extract_class(outer: tarfile.TarFile, member: tarfile.TarInfo, source: Path, target: Path) -> None:
    """One class's archive inside the official one, extracted aside and renamed to ``target``."""
    scratch = target.with_name(f".{target.name}")
    shutil.rmtree(scratch, ignore_errors=True)
    inside = outer.extractfile(member)
    if inside is None:
        raise UserError(f"{source}: {member.name} is no file, so this is not the official archive")
    scratch.mkdir()
    with tarfile.open(fileobj=inside) as inner:
        fetching.extract_tar(inner, source, scratch)
    os.replace(scratch, target)


def folder_of_classes(source: Path, wnids: list[str]) -> Path:
    """The folder at or below ``source`` whose folders are the classes."""
    for folder in (
        source,
        *(source / place for place in ("train", "CLS-LOC/train", "Data/CLS-LOC/train", "ILSVRC/Data/CLS-LOC/train")),
    ):
        if all((folder / wnid).is_dir() for wnid in wnids):
            return folder
    raise UserError(
        f"{source} does not hold a folder for each of {len(wnids)} classes, e.g. {wnids[0]}/; "
        "name the folder of ILSVRC's class folders"
    )


def arrange_val(source: Path) -> None:
    """``val/*.JPEG``: a link to a flat folder, links to images in class folders, or the archive extracted."""
    target, names = root() / "val", [Path(name).name for name in split_ids("test")]
    fetching.refuse_existing(target)
    if not source.is_dir():
        if source.exists():
            print(f"checking {source} (md5)")
            fetching.check_sum(source, MD5["val"])
        fetching.place(source, target, names[0])
        return
    for folder in (
        source,
        *(source / place for place in ("val", "CLS-LOC/val", "Data/CLS-LOC/val", "ILSVRC/Data/CLS-LOC/val")),
    ):
        if (folder / names[0]).is_file():
            fetching.place(folder, target, names[0])
            return
        found = {path.name: path for path in folder.glob("n*/ILSVRC2012_val_*.JPEG")}
        if found:
            link_images({name: found.get(name) for name in names}, target, source)
            return
    raise UserError(
        f"{source} holds no {names[0]}, neither itself nor in class folders; name the folder of "
        "ILSVRC's validation images"
    )


def arrange_val2(source: Path) -> None:
    """``val2/<class>/<number>.jpeg``, whatever ImageNetV2's release calls its images.

    The first release numbered them, and so do the split files; since 2021 they are named by a hash, and the
    benchmark's ``mapping.txt`` (number, hash) says which is which.
    """
    target, ids = root() / "val2", [Path(*Path(name).parts[1:]).as_posix() for name in split_ids("val")]
    fetching.refuse_existing(target)
    if source.is_file():
        fetching.check_sum(source, IMAGENET_V2.expected)
    elif not source.exists():
        raise UserError(f"{source} does not exist; name {IMAGENET_V2.name} or the folder it was extracted to")
    with fetching.arranging(target) as scratch:
        folder = source
        if source.is_file():
            fetching.extract(source, scratch)
            folder = scratch
        try:
            place = fetching.find(folder, ids[0])
            now = {name: name for name in ids}
        except UserError:
            now = new_names(ids)
            place = fetching.find(folder, now[ids[0]])
        if source.is_dir():
            link_images(
                {name: place / now[name] if (place / now[name]).is_file() else None for name in ids}, target, source
            )
            return
        arranged = scratch / "arranged"
        for name in ids:
            (arranged / name).parent.mkdir(parents=True, exist_ok=True)
            if not (place / now[name]).is_file():
                raise UserError(f"{source} lacks {now[name]}; fetch it again")
            os.replace(place / now[name], arranged / name)
        os.replace(arranged, target)


def new_names(ids: list[str]) -> dict[str, str]:
    """Number -> hash of each image, from ``mapping.txt``, which must pair them one to one in each class."""
    path = paths.data() / "wsol-metadata" / MAPPING
    if not path.exists():
        raise UserError(
            f"ImageNetV2 renamed its images, and {path}, which says how, is missing; run "
            "`python data_scripts/wsol_metadata.py fetch`"
        )
    lines = text_files.lines(path, "fetch it again")
    pairs = [tuple(field.strip() for field in line.split(",")) for _, line in lines]
    now = dict(pair for pair in pairs if len(pair) == 2)
    sound = (
        len(now) == len(pairs) == len(set(now.values()))
        and set(ids) <= set(now)
        and all(Path(old).parent == Path(new).parent for old, new in now.items())
    )
    if not sound:
        raise UserError(f"{path} does not give each image of ILSVRC/val one other name in its class; fetch it again")
    return now


def link_images(images: dict[str, Path | None], target: Path, source: Path) -> None:
    """A folder of links, {name below ``target``: image}."""
    lacking = [name for name, image in images.items() if image is None]
    if lacking:
        raise UserError(f"{source} lacks {len(lacking)} of {len(images)} images, first {lacking[0]}; complete it")
    scratch = target.with_name(f".{target.name}.links")
    shutil.rmtree(scratch, ignore_errors=True)
    for name, image in images.items():
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        (scratch / name).symlink_to(image.resolve())
    os.replace(scratch, target)


if __name__ == "__main__":
    fetching.commands(__doc__, status=status, fetch=fetch, verify=verify, prepare=prepare)
