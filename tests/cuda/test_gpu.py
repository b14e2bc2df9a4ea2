"""What only a GPU can show: ``pytest -m cuda`` on a machine that has one, in about three minutes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pretended
import pytest
import torch
from torch.overrides import TorchFunctionMode

from tedloc import profiles, runs
from tedloc.methods import METHODS, create
from tedloc.runs.execute import evaluate

pytestmark = pytest.mark.cuda

SMOKE = profiles.get("smoke")
NAMES = [name for name in METHODS if create(name, SMOKE).applies() and not create(name, SMOKE).lacks()]
STAGES = {stage for name in NAMES for stage in create(name, SMOKE).stages()}
FLOAT32 = {f"{part}.precision": "float32" for part in (*STAGES, "encoder", "pseudo_labels")}
# PSOL's loss of the second epoch moves by 6e-4 on the CPU alone where the embeddings move by 1e-5; on a GPU the cache's
# fp16 rounds some of them another way.
LOOSER = {"psol": 5e-3}
CHEAP = ["--profile", "smoke", "--data.per-class", "2", "--pseudo-labels.teacher", "centre-prior"]


class HostDraws(TorchFunctionMode):
    """Random numbers are drawn by the CPU and moved, so that both devices see the same ones."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if isinstance(generator := kwargs.get("generator"), Elsewhere):
            device = kwargs.get("device") or generator.device
            return function(*args, **(kwargs | {"device": "cpu"})).to(device)
        return function(*args, **kwargs)


class Elsewhere(torch.Generator):
    """A generator of the CPU that says it is the device's."""

    place = "cpu"

    @property
    def device(self) -> torch.device:
        return torch.device(self.place)


class HostGenerator(torch.Generator):
    """Stands for ``torch.Generator``."""

    def __new__(cls, device: str = "cpu") -> torch.Generator:
        made = Elsewhere()
        made.place = device
        return made


@contextlib.contextmanager
def same_draws() -> Iterator[None]:
    with mock.patch.object(torch, "Generator", HostGenerator), HostDraws():
        yield


def losses(folder: Path) -> list[float]:
    logs = sorted(folder.rglob("log.jsonl"))
    return [json.loads(line)["loss"] for log in logs for line in log.read_text().splitlines()]


def command(gpu: str, folder: Path, *words: str, program: tuple[str, ...] = ("tedloc.train",)) -> subprocess.Popen:
    """``python -m tedloc.train`` in a process of its own, with runs in a folder of its own."""
    environment = os.environ | {"TEDLOC_RUNS": str(folder)}
    call = [sys.executable, "-m", *program, *CHEAP, "--device", gpu, *words]
    return subprocess.Popen(call, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen) -> None:
    assert process.wait(300) == 0, process.stderr.read()[-3000:]


def test_a_run_that_was_killed_ends_as_one_that_was_not(gpu, tmp_path):
    words = ["--optimiser.epochs", "8", "--optimiser.batch-size", "8", "--optimiser.checkpoint-minutes", "0"]
    ended(command(gpu, tmp_path / "whole", *words))
    killed, deadline = command(gpu, tmp_path / "cut", *words), time.monotonic() + 120
    while time.monotonic() < deadline and killed.poll() is None:
        if any('"epoch": 3, ' in log.read_text() for log in (tmp_path / "cut").rglob("progress.jsonl")):
            killed.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    assert killed.wait() == -signal.SIGKILL
    assert 0 < len(losses(tmp_path / "cut")) < 8
    ended(command(gpu, tmp_path / "cut", *words))
    assert losses(tmp_path / "cut") == pytest.approx(losses(tmp_path / "whole"), rel=1e-4)


def test_torchrun_trains_on_one_gpu(gpu, tmp_path):
    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", "1", "-m", "tedloc.train")
    ended(command(gpu, tmp_path / "alone"))
    ended(command(gpu, tmp_path / "shared", program=torchrun))
    found = [runs.Run(next((tmp_path / kind / "smoke").glob("tedloc-*"))) for kind in ("alone", "shared")]
    assert losses(tmp_path / "shared") == pytest.approx(losses(tmp_path / "alone"), rel=1e-4)
    assert found[1]["MaxBoxAcc@0.5"] == pytest.approx(found[0]["MaxBoxAcc@0.5"], abs=3)


@pytest.mark.parametrize("name", NAMES)
def test_two_epochs_on_the_gpu_agree_with_the_cpus(name, gpu, tmp_path):
    profile = profiles.get("smoke", {"max_epochs": 2, "optimiser.epochs": 2, **FLOAT32})
    told, scored = [], []
    for place in ("cpu", gpu):
        method, folder = create(name, profile, device=place), tmp_path / f"{place} {len(told)}"
        folder.mkdir()
        with same_draws():
            method.fit(folder)
            meters = evaluate(method, profile.data, "test", profile.evaluation).meters
        told.append(losses(folder))
        scored.append({route: meter.compute()["MaxBoxAcc@0.5"] for route, meter in meters.items()})
    assert told[1] == pytest.approx(told[0], rel=LOOSER.get(name, 1e-3))
    assert scored[1] == pytest.approx(scored[0], abs=100 / len(method.images("test")))  # one image


def test_bf16_trains(gpu, tmp_path):
    changes = {"optimiser.epochs": 6, "pseudo_labels.teacher": "centre-prior", "optimiser.precision": "bf16"}
    create("tedloc", profiles.get("smoke", changes), device=gpu).fit(tmp_path)
    told = losses(tmp_path)
    assert len(told) == 6 and told[-1] < told[0]


@pytest.mark.parametrize("name", pretended.NEVER_WAIT)
def test_a_step_whose_batch_is_there_does_not_wait_for_the_gpu(name, gpu, tmp_path):
    steps = []

    def begin() -> None:
        steps.append(name)
        torch.cuda.set_sync_debug_mode("error")

    def end() -> None:
        torch.cuda.set_sync_debug_mode("default")

    if gpu == "cpu":
        pytest.skip("a CPU is not waited for")
    try:
        with pretended.steps(begin, end):
            create(name, profiles.get("smoke", {"data.per_class": 1}), device=gpu).fit(tmp_path)
    finally:
        end()
    assert steps
