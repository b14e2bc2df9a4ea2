"""Two processes under torchrun give what one gives: the same loss curve, weights and merged metrics."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from every_method import TRAINED, fit
from safetensors.torch import load_file
from toy_training import UNEVEN, Pictures, X, model, stepper

from tedloc import runs, train
from tedloc.errors import UserError
from tedloc.training import devices, distributed, engine

ARGUMENTS = [
    "--profile",
    "smoke",
    "--data.per-class",
    "2",
    "--optimiser.batch-size",
    "10",
    "--optimiser.epochs",
    "2",
    "--evaluation.batch-size",
    "8",
    "--evaluation.step",
    "0.01",
    "--evaluation.keep-maps",
    "7",
]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A folder with what one process (``one``) and two (``two``) made of the same.

    Of the run with seed 0 the two processes get the trained weights and only evaluate; seed 1 they train too.
    """
    folder = tmp_path_factory.mktemp("processes")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TEDLOC_CACHE", str(folder / "cache"))
        patched.setenv("TEDLOC_RUNS", str(folder / "one"))
        for seed in ("0", "1"):
            train.main([*ARGUMENTS, "--seed", seed])
        with devices.threads(1):  # as the other processes
            fit(folder / "methods")
        shutil.copytree(folder / "one", folder / "two", ignore=shutil.ignore_patterns("*seed1-*"))
        finished = next((folder / "two" / "smoke").glob("tedloc-seed0-*"))
        for file in finished.iterdir():
            if file.name not in ("checkpoint.safetensors", "log.jsonl"):
                file.unlink()
        script = Path(__file__).parents[1] / "toy_training.py"
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "torch.distributed.run",
                "--standalone",
                "--nproc-per-node=2",
                str(script),
                "shared",
                str(folder),
                *ARGUMENTS,
            ],
            capture_output=True,
            text=True,
            timeout=300,
            env=os.environ | {"TEDLOC_RUNS": str(folder / "two"), "OMP_NUM_THREADS": "1"},
        )
    assert done.returncode == 0, done.stderr[-4000:]
    (folder / "printed.txt").write_text(done.stdout)
    return folder


def run(folder: Path, processes: str, seed: int) -> runs.Run:
    return runs.Run(next((folder / processes / "smoke").glob(f"tedloc-seed{seed}-*")))


def losses(file: Path) -> list[list[float]]:
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [[v for k, v in line.items() if "second" not in k] for line in lines]


@pytest.mark.parametrize("name, make", [("rows", model), ("pictures", lambda: engine.seeded(0, Pictures))])
def test_two_processes_learn_what_one_learns_though_batches_do_not_divide(two, tmp_path, name, make):
    one = engine.train(make(), stepper(), len(X), UNEVEN, 0, tmp_path)
    assert np.allclose(losses(tmp_path / "log.jsonl"), losses(two / name / "log.jsonl"), rtol=1e-5)
    shared = load_file(two / name / "net.safetensors")
    for key, value in one.state_dict().items():  # batch norm's running statistics too
        assert torch.allclose(value, shared[key], rtol=1e-4, atol=1e-5), key


def test_both_processes_hold_the_same_weights(two):
    mine, theirs = (torch.load(two / f"weights-of-rank-{rank}.pt", weights_only=True) for rank in (0, 1))
    assert torch.equal(mine, theirs)


def test_two_processes_train_tedloc_along_the_same_loss_curve(two):
    one, shared = (losses(run(two, processes, 1).folder / "log.jsonl") for processes in ("one", "two"))
    assert len(one) == 2
    assert np.allclose(one, shared, rtol=1e-4)


@pytest.mark.parametrize("name", TRAINED)
def test_two_processes_train_any_method_to_the_losses_and_weights_of_one(two, name):
    """All stages of it, with the classifier that it builds on; their buffers too, such as running centres."""
    one, shared = two / "methods" / name, two / "shared methods" / name
    stages = [file.parent.relative_to(one) for file in sorted(one.rglob("log.jsonl"))]
    assert stages
    for stage in stages:
        mine, theirs = (load_file(folder / stage / "checkpoint.safetensors") for folder in (one, shared))
        assert np.allclose(losses(one / stage / "log.jsonl"), losses(shared / stage / "log.jsonl"), rtol=1e-4), stage
        for key, value in mine.items():
            assert torch.allclose(value.float(), theirs[key].float(), rtol=1e-3, atol=1e-4), f"{stage} {key}"


def test_the_merged_metrics_of_two_processes_are_those_of_one(two):
    one, shared = run(two, "one", 0), run(two, "two", 0)
    assert shared.metrics["provenance"]["processes"] == 2
    for key in ("routes", "val routes", "all routes", "centre box", "teacher"):
        assert one.metrics[key] == shared.metrics[key]
    for route in one.routes:
        assert one.per_image(route).equals(shared.per_image(route))
    mine, theirs = one.maps(), shared.maps()
    assert mine.keys() == theirs.keys() and all(np.array_equal(mine[name], theirs[name]) for name in mine)


def test_only_one_process_prints(two):
    assert (two / "printed.txt").read_text().count("this run") == 2  # one table a seed


def test_one_gpu_for_all_processes_is_refused(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    with pytest.raises(UserError, match="--device cuda"):
        with distributed.processes("cuda:1"):
            pass


def test_a_batch_smaller_than_the_number_of_processes_is_refused(monkeypatch):
    monkeypatch.setattr(distributed, "world", lambda: 4)
    monkeypatch.setattr(distributed, "rank", lambda: 3)
    assert distributed.rows(10) == slice(8, 10) and distributed.rows(4) == slice(3, 4)
    with pytest.raises(UserError, match="optimiser.batch_size"):
        distributed.rows(3)


def test_a_process_draws_its_rows_of_what_one_process_draws(monkeypatch):
    def draw():
        draws = distributed.Draws(torch.Generator().manual_seed(3), 7)
        return draws.rand(3), draws.randn(2, 5), draws.randint(9), draws.randint(2, 1)

    whole, generator = draw(), torch.Generator().manual_seed(3)
    assert torch.equal(whole[0], torch.rand(7, 3, generator=generator))  # in one process PyTorch's own
    assert torch.equal(whole[1], torch.randn(7, 2, 5, generator=generator))
    assert torch.equal(whole[2], torch.randint(9, (7,), generator=generator))
    monkeypatch.setattr(distributed, "world", lambda: 2)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    assert all(torch.equal(all_rows[4:], own) for all_rows, own in zip(whole, draw(), strict=True))


def test_what_would_draw_or_average_over_one_process_alone_is_refused(monkeypatch):
    monkeypatch.setattr(distributed, "world", lambda: 2)
    with pytest.raises(UserError, match="Dropout draws for its own process's images"):
        distributed.parallel(model(dropout=0.2), "cpu")
    with pytest.raises(UserError, match="SyncBatchNorm sees only its own process's images"):
        distributed.parallel(torch.nn.Sequential(torch.nn.SyncBatchNorm(3)), "cpu")
