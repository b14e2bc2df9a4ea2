"""The loops of the book's page "The evaluator in your code" run as they stand, and give what one meter gives."""

import contextlib
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from tedloc import LocalizationMeter
from tedloc.metrics.ranks import over_ranks

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "book" / "evaluator.md").read_text()
CLASSES, IMAGES = 3, 10


class Model(torch.nn.Module):
    """Class scores (B, K) and maps (B, K, h, w), as CAM has them."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, CLASSES, 3, padding=1)

    def localize(self, image):
        maps = self.layer(image)
        return maps.mean((2, 3)), maps

    def forward(self, image):
        return self.localize(image)


class Wrapped(Model):
    """As the Trainer of transformers wants it: a dict with the loss."""

    def forward(self, image, labels=None):
        scores, maps = self.localize(image)
        return {"loss": torch.nn.functional.cross_entropy(scores, labels), "logits": scores}


def images() -> list[dict]:
    rng = np.random.default_rng(0)
    made = []
    for n in range(IMAGES):
        corner = rng.integers(0, 20, (1 + n % 2, 2))
        made.append(
            {
                "id": f"{n}.jpg",
                "image": torch.tensor(rng.random((3, 16, 16)), dtype=torch.float32),
                "label": n % CLASSES,
                "size": np.array([40, 60]),
                "boxes": np.concatenate([corner, corner + rng.integers(5, 20, corner.shape)], axis=1),
            }
        )
    return made


def collate(rows: list[dict]) -> dict:
    batch = {name: [row[name] for row in rows] for name in rows[0]}
    return batch | {"image": torch.stack(batch["image"]), "label": torch.tensor(batch["label"])}


def loader(rows: list[dict] | None = None) -> torch.utils.data.DataLoader:
    return torch.utils.data.DataLoader(rows or images(), batch_size=4, collate_fn=collate)


@torch.inference_mode()
def expected(model: Model) -> dict[str, float]:
    meter = LocalizationMeter()
    for row in images():
        scores, maps = model.localize(row["image"][None])
        label = row["label"]
        meter.update([row["id"]], maps[:, label], [row["boxes"]], [row["size"]], [label], scores)
    return meter.compute()


def block(word: str) -> str:
    (found,) = [code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if word in code]
    return found


@pytest.mark.parametrize("word", ["train_one_epoch", "LightningModule", "TrainerCallback"])
def test_a_loop_takes_twenty_lines(word):
    assert len([line for line in block(word).splitlines() if line.strip()]) <= 20


def test_the_plain_loop_gives_the_figures_of_the_last_epoch(capsys):
    torch.manual_seed(0)
    model, epochs = Model(), []

    def train_one_epoch(model):
        epochs.append(expected(model))
        with torch.no_grad():
            model.layer.weight.neg_()

    found = {"model": model, "loader": loader(), "train_one_epoch": train_one_epoch}
    exec(block("train_one_epoch"), found)
    assert found["metrics"] == pytest.approx(expected(model), abs=1e-4)
    assert len(epochs) == 2 and len(capsys.readouterr().out.splitlines()) == 2


def test_lightning_logs_the_figures(tmp_path):
    lightning = pytest.importorskip("lightning", reason="Lightning is in no extra; pip install lightning")
    pytest.importorskip("torchmetrics", reason="pip install 'tedloc[torchmetrics]'")
    found: dict = {}
    exec(block("LightningModule"), found)
    torch.manual_seed(0)
    model = Model()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = lightning.Trainer(default_root_dir=tmp_path, enable_checkpointing=False, **quiet)
    (logged,) = trainer.validate(found["Localizer"](model), loader(), verbose=False)
    assert logged == pytest.approx(expected(model), rel=1e-5)


def test_the_trainer_of_transformers_reports_the_figures(tmp_path):
    transformers = pytest.importorskip("transformers", reason="pip install 'tedloc[diffusion]'")
    pytest.importorskip("accelerate", reason="the Trainer of transformers needs accelerate, which is in no extra")
    found: dict = {}
    exec(block("TrainerCallback"), found)
    torch.manual_seed(0)
    model = Wrapped()
    settings = transformers.TrainingArguments(
        output_dir=tmp_path, use_cpu=True, report_to=[], disable_tqdm=True, remove_unused_columns=False
    )
    rows = [{name: row[name] for name in ("image", "label")} for row in images()]
    trainer = transformers.Trainer(model, settings, eval_dataset=rows, callbacks=[found["Localization"](loader())])
    with contextlib.redirect_stdout(None):
        metrics = trainer.evaluate()
    assert {f"eval_{name}": value for name, value in expected(model).items()}.items() <= metrics.items()


@pytest.fixture
def split_in_two() -> list[LocalizationMeter]:
    """Two meters that saw overlapping halves."""
    torch.manual_seed(0)
    model, meters = Model(), []
    for part in (images()[:6], images()[5:]):
        meter = LocalizationMeter()
        with torch.inference_mode():
            for batch in loader(part):
                scores, maps = model(batch["image"])
                of_class = maps[torch.arange(len(maps)), batch["label"]]
                meter.update(batch["id"], of_class, batch["boxes"], batch["size"], batch["label"], scores)
        meters.append(meter)
    return meters


def test_torchmetrics_keeps_adds_up_and_forgets():
    pytest.importorskip("torchmetrics", reason="pip install 'tedloc[torchmetrics]'")
    from tedloc.metrics.torch_metric import LocalizationMetric

    metric, whole = LocalizationMetric(step=0.01), LocalizationMeter(step=0.01)
    for n in range(3):
        batch = [f"{n}"], np.random.default_rng(n).random((1, 5, 5)), [[[1, 1, 8, 9]]], [[10, 10]]
        metric.update(*batch)
        whole.update(*batch)
    assert {name: float(value) for name, value in metric.compute().items()} == whole.compute()
    metric.reset()
    assert metric.parts == [] and len(metric.meter()) == 0


def test_a_meter_forgets_what_it_saw(split_in_two):
    meter, other = split_in_two
    assert len(meter) == 6
    meter.reset()
    assert len(meter) == 0
    assert meter.merge(other).compute() == other.compute()


def test_outside_torch_distributed_a_meter_is_its_own(split_in_two):
    assert over_ranks(split_in_two[0]) is split_in_two[0]


def ranks(folder: Path, count: int, code: str) -> None:
    """Run ``code`` in so many processes of torch.distributed; ``batch(n)`` in it is the n-th image."""
    script = folder / "rank.py"
    script.write_text(
        f"""import sys
import numpy as np
from torch import distributed
from tedloc import LocalizationMeter
rank, count = int(sys.argv[1]), {count}
distributed.init_process_group("gloo", init_method="file://{folder}/meet", rank=rank, world_size=count)
def batch(n):
    return [str(n)], np.random.default_rng(n).random((1, 5, 5)), [[[1, 1, 8, 9]]], [[10, 10]]
whole = LocalizationMeter(step=0.01)
for n in range(6):
    whole.update(*batch(n))
{textwrap.dedent(code)}
distributed.destroy_process_group()
"""
    )
    started = [
        subprocess.Popen([sys.executable, script, str(n)], stderr=subprocess.PIPE, text=True) for n in range(count)
    ]
    for process in started:
        said = process.communicate(timeout=400)[1]
        assert process.returncode == 0, said


def test_ranks_with_overlapping_images_and_without_any_share_one_meter(tmp_path):
    ranks(
        tmp_path,
        3,
        """
        from tedloc.metrics.ranks import over_ranks
        own = LocalizationMeter(step=0.01)
        for n in ((0, 1, 2, 3), (3, 4, 5), ())[rank]:
            own.update(*batch(n))
        assert over_ranks(own).compute() == whole.compute() and len(over_ranks(own)) == 6
        """,
    )


def test_torchmetrics_gathers_the_ranks(tmp_path):
    pytest.importorskip("torchmetrics", reason="pip install 'tedloc[torchmetrics]'")
    ranks(
        tmp_path,
        2,
        """
        from tedloc.metrics.torch_metric import LocalizationMetric
        metric = LocalizationMetric(step=0.01)
        for n in ((0, 1, 2, 3), (3, 4, 5))[rank]:
            metric.update(*batch(n))
        assert {name: float(value) for name, value in metric.compute().items()} == whole.compute()
        assert len(metric.meter()) == (4, 3)[rank]
        """,
    )
