"""The paper's scale, piece by piece: its profiles on miniatures in the official layouts, its architectures with
random weights. What it scores at full size needs the data and a GPU, and is not tested."""

import json
import resource

import miniature
import papermill
import pytest
import torch

from tedloc import losses, sampler, train
from tedloc.anchors import orthogonalise
from tedloc.backbones.clip import load_clip
from tedloc.backbones.encoders import load_encoder
from tedloc.methods.clip_es import clip_es
from tedloc.model import TeDLoc
from tedloc.paths import notebooks
from tedloc.profiles import get
from tedloc.settings import ClipESSettings
from tedloc.training.distributed import Draws

SMALL = [
    "--encoder.name",
    "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    "--encoder.image-size",
    "64",
    "--encoder.weights",
    "random",
    "--anchors.text",
    "ViT-S-32/random",
    "--pseudo-labels.clip",
    "ViT-S-32/random",
    "--decoder.width",
    "8",
    "--decoder.upsampling",
    "2",
    "--optimiser.epochs",
    "2",
    "--optimiser.batch-size",
    "4",
    "--evaluation.step",
    "0.02",
    "--evaluation.keep-maps",
    "2",
]


@pytest.mark.parametrize("profile, make", [("cub", miniature.make_cub), ("ilsvrc", miniature.make_ilsvrc)])
def test_a_profile_of_the_papers_runs_from_files_to_metrics(profile, make, tmp_path, monkeypatch):
    make(tmp_path / "data")
    miniature.use(tmp_path / "data", monkeypatch)
    file = tmp_path / "metrics.json"
    train.main(["--profile", profile, "--device", "cpu", "--json", str(file), *SMALL])
    metrics = json.loads(file.read_text())
    assert metrics["num_images"] == 6 and 0 <= metrics["MaxBoxAcc@0.5"] <= 100 and "MaxBoxAcc@0.5" in metrics["teacher"]
    assert metrics["provenance"]["dataset"] == profile and not metrics["provenance"]["synthetic"]


def test_the_papers_architectures_train_and_localise_for_one_step(capsys):
    """EVA-L at 224 and CLIP ViT-B/16 with random weights: CLIP-ES, one training step, one evaluation step."""
    profile, images = get("ilsvrc"), torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([3, 7])
    clip = load_clip("ViT-B-16-quickgelu/random")
    text = clip.encode_text([f"Image of a thing {k}." for k in range(20)])
    cams = clip_es(clip, images, labels, text, settings=ClipESSettings(siblings=True))
    encoder = load_encoder(profile.encoder.name, image_size=224, weights="random")
    with torch.inference_mode():
        tokens = encoder(images)
    model = TeDLoc(encoder.dim, orthogonalise(text, "qr_rows"), profile.decoder)
    output = model(tokens.clone())
    draws = Draws(torch.Generator().manual_seed(0), 2)
    pools = sampler.pools(sampler.to_grid(cams, output.g.shape[1:]), profile.sampler, draws)
    drawn = sampler.sample(*pools, profile.sampler.samples, draws)
    loss, terms = losses.total(output, drawn, labels, model.anchors, profile.loss)
    loss.backward()
    assert tokens.shape == (2, 1024, 16, 16) and output.g.shape == (2, 64, 64) and output.scores.shape == (2, 20)
    assert set(terms) == {"L_KD", "P_CL", "I_CL"} and loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    with torch.inference_mode():
        found = model.eval()(tokens)
    assert found.g.sigmoid().isfinite().all()
    with capsys.disabled():
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f" EVA-L and ViT-B/16, a step of two images on the CPU: the process held {peak:.1f} GB at most ", end="")


def run_main_results(target, settings):
    papermill.execute_notebook(
        notebooks() / "main_results.ipynb",
        target,
        {"profile": "cub", "settings": settings},
        progress_bar=False,
        cwd=notebooks(),
    )


def test_the_notebook_of_a_profile_of_the_papers_shows_its_table(tmp_path, monkeypatch):
    """Methods whose weights are not on the machine stand in it with what they need."""
    miniature.make_cub(tmp_path / "data")
    miniature.use(tmp_path / "data", monkeypatch)
    run_main_results(tmp_path / "out.ipynb", miniature.SHRUNKEN | {"max_epochs": 1})
    shown = (tmp_path / "out.ipynb").read_text()
    assert "Table 1, CUB columns of the paper" in shown and "needs weights: deit_small_patch16_224" in shown


def test_the_notebook_of_a_profile_of_the_papers_names_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("TEDLOC_DATA", str(tmp_path / "nothing"))
    with pytest.raises(papermill.PapermillExecutionError, match="prefetch.py fetch --profile cub"):
        run_main_results(tmp_path / "out.ipynb", {})
