"""The training loop: resumes exactly, repeats under a seed, logs, and says in a sentence what went wrong."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from toy_training import SETTINGS, Interrupted, X, Y, model, stepper, weights

from tedloc.errors import UserError
from tedloc.training import engine


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def numbers(folder: Path) -> list[dict]:
    """The log without what depends on the clock."""
    return [{k: v for k, v in line.items() if "second" not in k} for line in lines(folder / "log.jsonl")]


def test_training_learns_and_repeats_under_its_seed():
    longer = replace(SETTINGS, epochs=30)
    first, again, other = (engine.train(model(), stepper(), len(X), longer, seed) for seed in (1, 1, 2))
    assert torch.equal(weights(first), weights(again)) and not torch.equal(weights(first), weights(other))
    accuracy = (first(X).argmax(1) == Y).float().mean()
    assert accuracy > 0.8


def test_dropout_repeats_under_the_seed_whatever_was_drawn_before():
    first = engine.train(model(dropout=0.5), stepper(), len(X), SETTINGS, 1)
    torch.rand(3)
    state = torch.get_rng_state()
    again = engine.train(model(dropout=0.5), stepper(), len(X), SETTINGS, 1)
    assert torch.equal(weights(first), weights(again))
    assert torch.equal(torch.get_rng_state(), state)  # and training leaves the global state alone


@pytest.mark.parametrize("minutes", [10.0, 0.0])
@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize("killed_after", [3, 9, 12, 15])
def test_an_interrupted_run_ends_in_the_same_numbers(tmp_path, killed_after, kind, minutes):
    (tmp_path / "whole").mkdir(), (tmp_path / "cut").mkdir()
    settings = replace(SETTINGS, kind=kind, checkpoint_minutes=minutes)
    whole = engine.train(model(0.2), stepper(), len(X), settings, 0, tmp_path / "whole")
    with pytest.raises(Interrupted):
        engine.train(model(0.2), stepper(killed_after), len(X), settings, 0, tmp_path / "cut")
    left = 4 * 6 - killed_after  # steps; without checkpoints inside the epoch it begins anew
    left += 0 if minutes == 0 else killed_after % 6
    with pytest.raises(Interrupted):
        engine.train(model(0.2), stepper(0), len(X), settings, 0, tmp_path / "cut")  # killed again, at once
    resumed = engine.train(model(0.2), stepper(left), len(X), settings, 0, tmp_path / "cut")
    assert torch.equal(weights(whole), weights(resumed))
    assert numbers(tmp_path / "whole") == numbers(tmp_path / "cut")
    assert len(numbers(tmp_path / "whole")) == SETTINGS.epochs
    assert not (tmp_path / "cut" / "resume.pt").exists()


def test_a_run_killed_in_the_middle_of_an_epoch_ends_in_the_same_numbers(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir(), cut.mkdir()
    settings = replace(SETTINGS, checkpoint_minutes=0)
    expected = engine.train(model(0.2), stepper(), len(X), settings, 0, whole)
    script = Path(__file__).parents[1] / "toy_training.py"
    child = subprocess.Popen([sys.executable, str(script), "slowly", str(cut)], stderr=subprocess.DEVNULL)
    progress, deadline = cut / "progress.jsonl", time.monotonic() + 120
    while time.monotonic() < deadline and child.poll() is None:
        if progress.exists() and '"epoch": 2, ' in progress.read_text():
            time.sleep(0.15)
            child.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    assert child.wait() == -signal.SIGKILL
    at = torch.load(cut / "resume.pt", weights_only=True)["at"]
    assert at["epoch"] == 1 and at["batch"] > 0
    resumed = engine.train(model(0.2), stepper(4 * 6 - 6 - at["batch"]), len(X), settings, 0, cut)
    assert torch.equal(weights(expected), weights(resumed))
    assert numbers(whole) == numbers(cut)


def test_layers_that_come_trained_learn_at_their_share_of_the_rate():
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    net[0].pretrained = True
    optimiser = engine.make_optimiser(net, replace(SETTINGS, learning_rate=0.1, trunk=0.1))
    rates = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    assert [round(rates[id(p)], 6) for p in net.parameters()] == [0.01, 0.01, 0.1, 0.1]
    assert len(engine.make_optimiser(net, SETTINGS).param_groups) == 1


def test_the_log_says_what_was_learnt_how_fast_and_how_long_it_will_take(tmp_path):
    engine.train(model(), stepper(), len(X), replace(SETTINGS, checkpoint_minutes=0), 0, tmp_path)
    every = {"epoch", "loss", "CE", "learning_rate", "images_per_second", "seconds"}
    epochs, inside = lines(tmp_path / "log.jsonl"), lines(tmp_path / "progress.jsonl")
    assert [set(line) for line in epochs] == [every] * 4 and len(inside) == 4 * 5
    assert all(set(line) == every | {"batch", "batches", "seconds_left", "time"} for line in inside)
    assert [line["batch"] for line in inside[:5]] == [1, 2, 3, 4, 5]
    assert all(line["loss"] == line["CE"] for line in epochs) and epochs[-1]["loss"] < epochs[0]["loss"]


def test_an_epoch_visits_every_image_at_most_once_and_drops_only_a_small_rest():
    batches = list(engine.epoch_batches(50, 8, torch.Generator().manual_seed(0)))
    seen = np.concatenate(batches)
    assert len(seen) == len(set(seen)) == 48  # a rest of 2 is below half a batch
    assert len(np.concatenate(list(engine.epoch_batches(5, 32, torch.Generator())))) == 5


@pytest.mark.parametrize("count, steps, epochs", [(40, 100, 100), (50, 100, 17), (1000, 100, 1), (40, 1, 1)])
def test_steps_take_as_many_epochs_as_they_need(tmp_path, count, steps, epochs):
    """Of eight images each; 40 are one batch of the 32 that are asked for and a rest that is dropped."""
    size = 32 if count == 40 else 8
    settings = replace(SETTINGS, steps=steps, batch_size=size)
    engine.train(model(), lambda net, i, g: stepper()(net, i % len(X), g), count, settings, 0, tmp_path)
    log = lines(tmp_path / "log.jsonl")
    assert len(log) == epochs and log[-1]["learning_rate"] < 1e-6  # the cosine ends with the training


@pytest.mark.parametrize(
    "precision, dtype", [("auto", torch.float32), ("float32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_the_forward_pass_has_the_precision_that_was_asked_for(precision, dtype):
    seen = set()

    def step(net, index, draws):
        out = net(X[index])
        seen.add(out.dtype)
        return F.cross_entropy(out, Y[index]), {}

    trained = engine.train(model(), step, len(X), replace(SETTINGS, precision=precision, epochs=20), 0)
    assert seen == {dtype} and {p.dtype for p in trained.parameters()} == {torch.float32}
    assert (trained(X).argmax(1) == Y).float().mean() > 0.8


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"precision": "fp8"}, "unknown precision 'fp8'"),
        ({"kind": "lion"}, "unknown kind of optimiser 'lion'"),
    ],
)
def test_an_unknown_setting_is_named(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        engine.train(model(), stepper(), len(X), replace(SETTINGS, **changes), 0)


def test_a_diverged_loss_names_the_learning_rate(tmp_path):
    def diverged(net: nn.Module, index, draws):
        return net(X[index]).sum() * float("nan"), {}

    for minutes in (10.0, 0.0):
        settings = replace(SETTINGS, checkpoint_minutes=minutes)
        with pytest.raises(UserError, match="optimiser.learning_rate"):
            engine.train(model(), diverged, len(X), settings, 0, tmp_path)
        assert not (tmp_path / "resume.pt").exists()  # nothing to go on from


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_a_full_gpu_names_the_batch_size(error):
    def hungry(net: nn.Module, index, draws):
        raise error

    with pytest.raises(UserError, match=r"the GPU ran out of memory; lower optimiser.batch_size \(now 8\)"):
        engine.train(model(), hungry, len(X), SETTINGS, 0)


def test_another_error_of_the_gpu_stays_what_it_is():
    def broken(net: nn.Module, index, draws):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal memory access"):
        engine.train(model(), broken, len(X), SETTINGS, 0)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    engine.save(model(), file, "settings-a")
    assert torch.equal(weights(engine.load(model(), file, "settings-a")), weights(model()))
    with pytest.raises(UserError, match="other settings"):
        engine.load(model(), file, "settings-b")
    with pytest.raises(UserError, match="no checkpoint"):
        engine.load(model(), tmp_path / "none.safetensors", "settings-a")
