"""A run is stale when code that its result depends on has changed, and only then."""

import functools
import re
import shutil

import pytest

from tedloc import fingerprints, paths, profiles
from tedloc.data.registry import DATASETS
from tedloc.methods import METHODS, create

PROFILE = profiles.get("smoke")
CODE = {name: create(name, PROFILE).code() for name in METHODS}
ON_CLIP = {"clip-es", "patch-anchor:vanilla", "patch-anchor:sclip", "patch-anchor:naclip"}
ON_CAM = {"cam", "grad-cam", "ddt", "ddt:whitened", "psol", "c2am", "c2am:test-threshold", "genpromp", "dips"}
WITH_CLASSIFIER = {"ddt", "ddt:whitened", "psol", "c2am", "c2am:test-threshold"}
ON_TRUNK = {"psol", "c2am", "c2am:test-threshold", "bas", "da-wsol"}
FINE_TUNED = {"ts-cam", "scm", "lctr", "catr"}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A copy of the package's code."""
    here = tmp_path_factory.mktemp("copy") / "tedloc"
    return shutil.copytree(paths.PACKAGE, here, ignore=lambda folder, names: {"weights", "__pycache__"})


@pytest.fixture
def copy(original):
    """The package's code, to be edited; as it was again afterwards."""
    texts = {file: file.read_text() for file in original.rglob("*.py")}
    yield original
    for file in original.rglob("*.py"):
        if file not in texts:
            file.unlink()
    for file, text in texts.items():
        if not file.exists() or file.read_text() != text:
            file.write_text(text)


@pytest.fixture(autouse=True)
def edits_are_seen(monkeypatch):
    """What was read of a file is remembered by its content here, not by its name."""
    monkeypatch.setattr(fingerprints, "_read", lambda file, package: read(file.read_text(), package))
    yield
    fingerprints.code.cache_clear()


@functools.cache
def read(text, package):
    dump, names = fingerprints._Names(package).read(text)
    return str(hash(dump)), names


def prints(package, code=CODE):
    """Each method's fingerprint of the code of a package."""
    fingerprints.code.cache_clear()
    return {
        name: fingerprints.code(*modules, fingerprints.EXECUTION, DATASETS["aviary"], package=package)
        for name, modules in code.items()
    }


@pytest.mark.parametrize(
    "file, stale",
    [
        ("methods/clip_es.py", ON_CLIP | WITH_CLASSIFIER | {"tedloc"}),  # TeD-Loc's teacher
        ("methods/cam.py", ON_CAM),
        ("methods/classifier.py", WITH_CLASSIFIER),
        ("methods/trunk.py", ON_TRUNK),
        ("methods/bas.py", {"bas"}),
        ("backbones/clip.py", ON_CLIP | WITH_CLASSIFIER | {"tedloc"}),
        ("backbones/attention.py", FINE_TUNED | {"dips"}),
        ("backbones/latent_diffusion.py", {"genpromp"}),
        ("losses.py", {"tedloc", "dips"}),
        ("sampler.py", {"tedloc", "dips"}),
        ("anchors.py", {"tedloc"}),
        ("metrics/meter.py", set(METHODS)),
        ("metrics/uncertainty.py", set()),
        ("data/aviary_drawing.py", set(METHODS)),
        ("data/cub.py", set()),
        ("training/engine.py", set(METHODS)),
        ("plots.py", set()),
        ("book/report.py", set()),
        ("cost/plan.py", set()),
        ("tune.py", set()),
    ],
)
def test_an_edit_makes_exactly_the_runs_stale_that_use_it(copy, file, stale):
    before = prints(copy)
    with open(copy / file, "a") as source:
        source.write("\nADDED = 1\n")
    after = prints(copy)
    assert {name for name in METHODS if before[name] != after[name]} == stale


def test_a_run_depends_on_the_teacher_that_it_has_and_on_no_other(copy):
    taught = {
        teacher: create("tedloc", profiles.get("smoke", {"pseudo_labels.teacher": teacher})).code()
        for teacher in ("clip-es", "cam", "bas", "ddt", "tedloc:cam", "centre-prior")
    }
    before = prints(copy, taught)
    with open(copy / "methods" / "cam.py", "a") as source:
        source.write("\nADDED = 1\n")
    after = prints(copy, taught)
    assert {name for name in taught if before[name] != after[name]} == {"cam", "ddt", "tedloc:cam"}


def test_words_about_the_code_make_nothing_stale(copy):
    before = prints(copy)
    for file in copy.rglob("*.py"):
        text = re.sub(r"  # .*$", "", file.read_text(), flags=re.MULTILINE)
        file.write_text(re.sub(r'\A"""', '"""Said otherwise. ', text) + "\n# The end.\n")
    assert prints(copy) == before


def test_moving_a_file_makes_nothing_stale(copy):
    before = prints(copy)
    (copy / "losses_room").mkdir()
    (copy / "losses_room" / "__init__.py").touch()
    (copy / "losses.py").rename(copy / "losses_room" / "losses.py")
    for file in copy.rglob("*.py"):
        text = file.read_text().replace("from tedloc.losses import", "from tedloc.losses_room.losses import")
        file.write_text(
            text.replace(
                "from tedloc import losses, sampler",
                "from tedloc import sampler\nfrom tedloc.losses_room import losses",
            )
        )
    assert "losses_room" in (copy / "methods" / "tedloc.py").read_text()
    assert prints(copy) == before


def test_a_module_that_does_not_exist_is_not_passed_over(copy):
    with pytest.raises(ModuleNotFoundError, match="tedloc.nothing"):
        fingerprints.code("tedloc.nothing", package=copy)
    with open(copy / "methods" / "cam.py", "a") as source:
        source.write('\nMODULE = "tedloc.backbones.moved"\n')
    with pytest.raises(ModuleNotFoundError, match="tedloc.backbones.moved"):
        prints(copy)
