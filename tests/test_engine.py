"""The training loop: resumes exactly, repeats under a seed, refuses foreign checkpoints."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tedloc import engine
from tedloc.errors import UserError
from tedloc.settings import OptimiserSettings

X = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)


class Interrupted(Exception):
    pass


def model() -> nn.Module:
    return engine.seeded(0, lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)))


def stepper(stop_after: int | None = None):
    calls = 0

    def step(net, index, generator):
        nonlocal calls
        calls += 1
        if stop_after is not None and calls > stop_after:
            raise Interrupted
        noise = torch.randn(len(index), 6, generator=generator)  # randomness must be restored too
        loss = F.cross_entropy(net(X[index] + 0.1 * noise), Y[index])
        return loss, {"CE": loss.detach()}

    return step


SETTINGS = OptimiserSettings(epochs=4, batch_size=8)


def weights(net: nn.Module) -> torch.Tensor:
    return torch.cat([v.flatten().double() for v in net.state_dict().values()])


def test_training_learns_and_repeats_under_its_seed():
    longer = replace(SETTINGS, epochs=30)
    first, again, other = (engine.train(model(), stepper(), len(X), longer, seed) for seed in (1, 1, 2))
    assert torch.equal(weights(first), weights(again)) and not torch.equal(weights(first), weights(other))
    accuracy = (first(X).argmax(1) == Y).float().mean()
    assert accuracy > 0.8


@pytest.mark.parametrize("killed_after", [3, 9, 15])
def test_an_interrupted_run_ends_in_the_same_numbers(tmp_path, killed_after):
    (tmp_path / "whole").mkdir(), (tmp_path / "cut").mkdir()
    whole = engine.train(model(), stepper(), len(X), SETTINGS, 0, tmp_path / "whole")
    with pytest.raises(Interrupted):
        engine.train(model(), stepper(killed_after), len(X), SETTINGS, 0, tmp_path / "cut")
    resumed = engine.train(model(), stepper(), len(X), SETTINGS, 0, tmp_path / "cut")
    assert torch.equal(weights(whole), weights(resumed))
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("whole", "cut")]
    assert len(logs[0]) == len(logs[1]) == SETTINGS.epochs
    assert not (tmp_path / "cut" / "resume.pt").exists()


def test_an_epoch_visits_every_image_at_most_once_and_drops_only_a_small_rest():
    batches = list(engine.epoch_batches(50, 8, torch.Generator().manual_seed(0)))
    seen = np.concatenate(batches)
    assert len(seen) == len(set(seen)) == 48  # a rest of 2 is below half a batch
    assert len(np.concatenate(list(engine.epoch_batches(5, 32, torch.Generator())))) == 5


def test_a_diverged_loss_names_the_learning_rate():
    with pytest.raises(UserError, match="optimiser.learning_rate"):
        engine.train(model(), lambda net, index, g: (net(X[index]).sum() * float("nan"), {}), len(X), SETTINGS, 0)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    engine.save(model(), file, "settings-a")
    assert torch.equal(weights(engine.load(model(), file, "settings-a")), weights(model()))
    with pytest.raises(UserError, match="other settings"):
        engine.load(model(), file, "settings-b")
    with pytest.raises(UserError, match="no checkpoint"):
        engine.load(model(), tmp_path / "none.safetensors", "settings-a")
