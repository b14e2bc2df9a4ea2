"""Devices cannot be mixed up: every method runs on a device that refuses tensors of the CPU, with the CPU's results.

No GPU is needed. ``tests/pretended.py`` pretends one that computes, backward passes and all; torch's fake tensors,
which have shapes but no values, stand for the paper's sizes. What only a GPU can show: ``pytest -m cuda``.
"""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import miniature
import pretended
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tedloc import losses, profiles, sampler
from tedloc.backbones.encoders import load_encoder
from tedloc.methods import METHODS, create
from tedloc.model import TeDLoc
from tedloc.settings import override

PROFILE = profiles.get("smoke", {"data.per_class": 1})
NAMES = [name for name in METHODS if create(name, PROFILE).applies() and not create(name, PROFILE).lacks()]
CASES = {name: {"method": name, "profile": "smoke", "changes": {"data.per_class": 1}} for name in NAMES}
for name, change in {
    "tedloc without a cache": {"encoder.cache": False},
    "tedloc from bytes": {"encoder.cache_type": "int8"},
    "tedloc, photos read by two processes": {"encoder.cache": False, "data.workers": 2},
}.items():
    CASES[name] = {"method": "tedloc", "profile": "smoke", "changes": {"data.per_class": 1} | change}
PHOTOS = override(profiles.get("ilsvrc"), {"encoder.name": "efficientnet-lite0", "encoder.image_size": None})
if create("head-cam", PHOTOS).lacks() is None:
    changes = {"encoder.name": "efficientnet-lite0", "encoder.image_size": None, "evaluation.step": 0.05}
    CASES["head-cam"] = {"method": "head-cam", "profile": "ilsvrc", "changes": changes}


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> dict[str, dict]:
    """What the process with the device says of every case."""
    if not pretended.can():
        pytest.skip("this torch cannot register a device that is written in Python")
    data = tmp_path_factory.mktemp("data")
    miniature.make_ilsvrc(data)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TEDLOC_DATA", str(data))
        environment.setenv("TEDLOC_CACHE", str(data / "cache"))
        done = subprocess.run(
            [sys.executable, Path(pretended.__file__)],
            input=json.dumps(list(CASES.values())),
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr[-2000:]
    names = (*pretended.MIXED, *pretended.WAITS, *CASES)
    return dict(zip(names, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_a_method_trains_and_localises_on_a_device_with_the_cpus_results(case, told):
    found = told[case]
    assert "error" not in found, found["trace"]
    assert found["loss"] < 1e-5 and found["maps and scores"] < 1e-3
    assert found["maps"] >= 2 and (found["losses"] >= 1 or not hasattr(create(CASES[case]["method"], PROFILE), "loss"))


@pytest.mark.parametrize("case", pretended.NEVER_WAIT)
def test_a_step_whose_batch_is_there_does_not_wait_for_the_device(case, told):
    assert told[case]["waits"] == []


@pytest.mark.parametrize("what", pretended.MIXED)
def test_the_device_refuses_what_a_gpu_refuses(what, told):
    assert told[what]["refused"].startswith("MixedDevices"), told[what]


@pytest.mark.parametrize("what", pretended.WAITS)
def test_the_host_waits_for_no_batch_that_was_read_ahead(what, told):
    assert told[what]["told of"] == []
    cached = what in ("cached patch embeddings", "bytes")
    assert bool(told[what]["not"]) == cached  # whose views must be known to the host to be read on the spot


@pytest.mark.parametrize("name", ["cub", "ilsvrc"])
def test_a_step_at_the_papers_size_keeps_to_a_gpu_in_bf16(name, monkeypatch):
    """Encoder, decoder, pools, samples and losses under CUDA's autocast, on fake tensors: shapes, types and devices."""
    if not pretended.can():
        pytest.skip("this torch asks the driver how to convolve tensors that have no values")
    profile, classes = profiles.get(name), 200 if name == "cub" else 1000
    batch = profile.optimiser.batch_size
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)
    with torch.device("meta"):
        encoder = load_encoder(profile.encoder.name, image_size=224, weights="random", device="meta")
        model = TeDLoc(encoder.dim, torch.zeros(classes, min(classes, 512)), profile.decoder).train()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.autocast("cuda", torch.bfloat16):
        encoder.to_empty(device="cuda"), model.to_empty(device="cuda")
        tokens = encoder(torch.zeros(batch, 3, 224, 224, device="cuda"))
        output = model(tokens.float())
        cams = sampler.to_grid(torch.zeros(batch, 14, 14, device="cuda"), tuple(output.g.shape[1:]))
        draws = SimpleNamespace(rand=lambda *row: torch.rand(batch, *row, device="cuda"))  # a generator has a driver
        pools = sampler.pools(cams, profile.sampler, draws)
        drawn = sampler.sample(*pools, profile.sampler.samples, draws)
        labels = torch.zeros(batch, dtype=torch.long, device="cuda")
        loss, terms = losses.total(output, drawn, labels, model.anchors, profile.loss)
    assert output.g.shape == (batch, 64, 64) and output.scores.dtype == torch.bfloat16
    assert {value.device.type for value in (loss, *terms.values(), tokens, drawn.foreground)} == {"cuda"}
    assert loss.dtype == torch.float32
