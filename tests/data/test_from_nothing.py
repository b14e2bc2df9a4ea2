"""From an empty folder to the table, rehearsed on CUB in miniature: archives at the official paths of a server on this
machine, fetched over a bad line, checked, extracted, verified, trained on and scored by the commands that we print."""

import hashlib
import importlib

import miniature
import pytest
import served
import timm
from safetensors.torch import save_file

from conftest import ROOT
from tedloc import train
from tedloc.errors import UserError

SCRIPTS = ("wsol_metadata", "cub", "cubv2", "prefetch")
SHORT = "--decoder.width 8 --decoder.upsampling 2 --optimiser.epochs 1 --optimiser.batch-size 4 --evaluation.step 0.05"
TINY = "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k"


@pytest.fixture
def internet(tmp_path, monkeypatch):
    """A server with what the scripts for CUB ask for, in miniature; and the scripts, by name."""
    monkeypatch.syspath_prepend(ROOT / "data_scripts")
    scripts = {name: importlib.import_module(name) for name in SCRIPTS}
    made, metadata, cub, cubv2 = tmp_path / "made", *(scripts[name] for name in SCRIPTS[:3])
    miniature.make_cub(made)
    miniature.use(tmp_path / "data", monkeypatch)
    lists = {name: (made / "wsol-metadata" / name).read_bytes() for name in metadata.SHA256 if name.startswith("CUB")}
    monkeypatch.setattr(metadata, "SHA256", {name: hashlib.sha256(text).hexdigest() for name, text in lists.items()})
    monkeypatch.setattr(metadata, "COUNTS", {("CUB", split): (n, n) for split, n in (("train", 12), ("test", 6))})
    with served.serving() as site:
        for name, content in (lists | {metadata.MAPPING: b"old,new\n"}).items():
            site.instead_of(metadata.archive(name), content, True)
        monkeypatch.setattr(metadata, "REPOSITORY", site.url("clovaai/wsolevaluation"))
        photos = miniature.pack(made / "CUB_200_2011", made / "CUB_200_2011.tgz", "CUB_200_2011").read_bytes()
        monkeypatch.setattr(cub, "ARCHIVE", site.instead_of(cub.ARCHIVE, photos, True))
        photos = miniature.pack(made / "CUBV2", made / "CUBV2.tar", "CUBV2").read_bytes()
        monkeypatch.setattr(cubv2, "ARCHIVE", site.instead_of(cubv2.ARCHIVE, photos, False))
        monkeypatch.setattr(scripts["prefetch"], "METHODS", ())  # the compared ones' weights are on the model hub
        yield site, scripts


def test_a_run_of_cub_from_nothing_over_a_bad_line(internet, tmp_path, monkeypatch, capsys):
    site, scripts = internet
    archive, official = scripts["cub"].ARCHIVE, site["records/65de6-vp158/files/CUB_200_2011.tgz?download=1"]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    weights = tmp_path / "vit.safetensors"
    save_file(timm.create_model("vit_tiny_patch16_224").state_dict(), weights)
    settings = ["--encoder.name", TINY, "--encoder.weights", str(weights), "--encoder.image-size", "64"]
    settings += ["--anchors.text", "aviary/clip", "--pseudo-labels.clip", "aviary/clip"]

    def prefetch(verb: str) -> tuple[int, str, str]:
        """Exit code, stdout, the sentence on stderr."""
        try:
            scripts["prefetch"].main([verb, "--profile", "cub", *settings])
            code = 0
        except SystemExit as ending:
            code = ending.code
        shown = capsys.readouterr()
        return code, shown.out, "".join(line for line in shown.err.splitlines(True) if line.startswith("error: "))

    name = archive.urls[0].removeprefix(site.url(""))
    validation = scripts["cubv2"].ARCHIVE.urls[0].removeprefix(site.url(""))
    assert prefetch("status")[1].count("MISSING") == 4  # lists, and three splits

    site.cuts[name], site[validation] = (
        len(official) // 2,
        site[validation][:5000],
    )  # the line breaks; an archive cut off
    code, _, sentence = prefetch("fetch")
    assert code == 2 and sentence.count("\n") == 1
    assert "CUB_200_2011.tgz" in sentence and "cannot be fetched" in sentence
    assert "Run this again to go on, or get it from https://data.caltech.edu/records/65de6-vp158" in sentence
    assert "CUBV2.tar is no archive, damaged or cut off" in sentence
    scripts["cubv2"].ARCHIVE.path.unlink()

    site[validation] = (tmp_path / "made" / "CUBV2.tar").read_bytes()
    site.pages.add(validation)  # the server asks to sign in
    code, _, sentence = prefetch("fetch")
    assert site.asked.count(None) < len(site.asked)  # the rest of the broken download was asked for
    assert code == 2 and "(a web page instead of the file)" in sentence and "CUB_200_2011.tgz" not in sentence

    site.pages.clear()
    code, shown, sentence = prefetch("fetch")
    assert (code, sentence) == (0, "") and "all is there" in shown
    assert "cub/val: 6 of 6 images of 3 classes can be read" in shown
    scripts["cub"].verify()
    assert prefetch("verify")[0] == 0

    train.main(["--profile", "cub", "--device", "cpu", *settings, *SHORT.split()])
    table = capsys.readouterr().out
    assert "MaxBoxAcc@0.5" in table and "teacher" in table and "centre box" in table


def test_an_archive_with_another_checksum_is_not_trained_on(internet, tmp_path):
    site, scripts = internet
    scripts["wsol_metadata"].fetch()
    for url in scripts["cub"].ARCHIVE.urls:
        site[url.removeprefix(site.url(""))] = b"another archive"
    with pytest.raises(UserError, match="another checksum than sha256:.*; .*another checksum.* Run this again"):
        scripts["cub"].fetch()
    assert not (tmp_path / "data" / "CUB_200_2011").exists()
