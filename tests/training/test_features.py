"""The frozen encoder's patch embeddings: kept on disk or computed anew, the same numbers."""

import dataclasses
import shutil
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from tedloc import profiles
from tedloc.backbones import encoders
from tedloc.backbones.encoders import Encoder
from tedloc.data import ImageSet
from tedloc.errors import UserError
from tedloc.methods import create
from tedloc.settings import DataSettings, EncoderSettings, override
from tedloc.training import features as module
from tedloc.training.features import features
from tedloc.training.quantised import Quantiser
from tedloc.training.store import MapStore

COUNT = 120
DATA, CACHED, ANEW = DataSettings(), EncoderSettings(), EncoderSettings(cache=False)
BYTES = EncoderSettings(cache_type="int8")
HALF = {"rtol": 2**-10, "atol": 1e-6}  # a step of fp16


@dataclass(frozen=True, eq=False)
class Noise(ImageSet):
    def image(self, index):
        return np.random.default_rng(index).integers(0, 256, (20, 24, 3), dtype=np.uint8)


class Body(nn.Module):
    """A convolution whose patches see where they are, so that mirrored input is not mirrored output."""

    asked = 0

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.patches = nn.Conv2d(3, 6, 8, 8)
            self.place = nn.Parameter(torch.randn(6, 2, 2))

    def forward_features(self, x):
        Body.asked += len(x)
        return self.patches(x) + self.place


@pytest.fixture(autouse=True)
def tiny(request, monkeypatch):
    """120 noise images and a tiny encoder in place of those that the settings name."""
    module._encoder.cache_clear()
    monkeypatch.setattr(Body, "asked", 0)
    if "smoke" not in request.node.name:
        images = Noise(
            "birds",
            "train",
            [f"{i}.jpg" for i in range(COUNT)],
            np.arange(COUNT) % 2,
            [np.zeros((0, 4), np.int64)] * COUNT,
            np.tile((24, 20), (COUNT, 1)),
            ["wren", "crow"],
        )
        monkeypatch.setattr(module, "open_data", lambda *_: images)
        monkeypatch.setattr(encoders, "load", lambda *_: Encoder("tiny", Body(), 6, 16, (0.5,) * 3, (0.2,) * 3))
    yield
    module._encoder.cache_clear()


def test_embeddings_with_and_without_cache_agree_view_by_view_to_half_precision():
    kept, anew = features(DATA, "train", CACHED), features(DATA, "train", ANEW)
    index, view = np.array([119, 3, 40, 3]), np.array([1, 0, 1, 1])
    assert kept.tokens.shape == anew.tokens.shape == (COUNT, 2, 6, 2, 2)
    assert (kept.dim, kept.grid) == (anew.dim, anew.grid) == (6, (2, 2))
    torch.testing.assert_close(kept.batch(index, view), anew.batch(index, view), **HALF)
    assert not torch.allclose(anew.batch(index, 1)[1], anew.batch(index, 0)[1].flip(-1), atol=0.01)


@pytest.mark.parametrize("views", [0, 1, "each"])
@pytest.mark.parametrize("settings", [CACHED, ANEW, BYTES], ids=["cache", "no cache", "int8"])
def test_what_is_read_ahead_is_what_is_read_on_the_spot(settings, views):
    some = features(DATA, "train", settings)
    batches = np.array_split(np.random.default_rng(0).permutation(COUNT), 9)
    each = [np.arange(len(index)) % 2 if views == "each" else views for index in batches]
    on_the_spot = [some.batch(*asked) for asked in zip(batches, each)]
    some.ahead(iter(batches))
    for index, view, wanted in zip(batches, each, on_the_spot):
        found = some.batch(index, torch.as_tensor(view))
        assert torch.equal(found, wanted) and found.stride() == wanted.stride() and found.dtype == torch.float32


def test_bytes_take_half_the_room_and_are_off_by_half_a_step_of_their_channels_range():
    exact, kept = features(DATA, "train", ANEW), features(DATA, "train", BYTES)
    assert kept.tokens.dtype == np.int8 and 2 * kept.tokens.nbytes == features(DATA, "train", CACHED).tokens.nbytes
    every = exact.batch(np.arange(COUNT))
    low, high = every.amin((0, 2, 3)), every.amax((0, 2, 3))  # of all images: there are fewer than CALIBRATION
    step = ((high - low) / 255)[:, None, None]
    assert ((kept.batch(np.arange(COUNT)) - every).abs() <= 0.5001 * step).all()
    np.testing.assert_allclose(kept.mean, exact.mean, atol=1e-3)


def test_what_lies_outside_the_range_of_the_images_looked_at_becomes_its_end(monkeypatch):
    monkeypatch.setattr(module, "CALIBRATION", 4)
    exact, kept = features(DATA, "train", ANEW), features(DATA, "train", BYTES)
    picked = exact.batch(np.array([0, 40, 79, 119]))
    low, high = (end(picked.transpose(0, 1).flatten(1), 1).values[:, None, None] for end in (torch.min, torch.max))
    every = exact.batch(np.arange(COUNT))
    assert (every > high).any() and (every < low).any()
    assert ((kept.batch(np.arange(COUNT)) - every.clamp(low, high)).abs() <= 0.5001 * (high - low) / 255).all()


def test_ranges_that_were_lost_are_found_again():
    kept = features(DATA, "train", BYTES)
    before = kept.batch(np.arange(9))
    (kept.folder / "ranges.npz").unlink()
    assert torch.equal(features(DATA, "train", BYTES).batch(np.arange(9)), before)


def test_a_channel_that_never_changes_keeps_its_value():
    flat = Quantiser(*(torch.tensor([value]) for value in (2.5, torch.finfo(torch.float32).tiny)))
    assert torch.equal(flat.decode(flat.encode(torch.full((1, 1, 2, 2), 2.5))), torch.full((1, 1, 2, 2), 2.5))


def test_an_unknown_type_of_cache_is_refused():
    with pytest.raises(UserError, match="unknown type of cached features 'int4'; choose one of: float16, int8"):
        features(DATA, "train", dataclasses.replace(CACHED, cache_type="int4"))


def test_the_batch_that_passes_the_encoder_is_a_setting():
    small = features(DATA, "train", dataclasses.replace(CACHED, batch_size=7))
    np.testing.assert_allclose(small.tokens, features(DATA, "train", CACHED).tokens, rtol=2**-9, atol=1e-3)
    assert MapStore(small.folder).chunk == 7
    with pytest.raises(UserError, match="encoder.batch_size is 0"):
        EncoderSettings(batch_size=0)


def test_statistics_are_those_of_the_first_view_with_and_without_cache():
    kept, anew = features(DATA, "train", CACHED), features(DATA, "train", ANEW)
    first = kept.tokens[:, 0].astype(np.float64)
    np.testing.assert_allclose(kept.mean, first.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(kept.std, first.std((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(anew.mean, kept.mean, atol=1e-4)
    np.testing.assert_allclose(anew.std, kept.std, rtol=1e-4)


def test_statistics_of_a_large_split_are_taken_from_images_spaced_evenly(monkeypatch):
    monkeypatch.setattr(module, "STATISTICS", 8)
    kept = features(DATA, "train", CACHED)
    picked = kept.tokens[[0, 17, 34, 51, 68, 85, 102, 119], 0].astype(float)
    np.testing.assert_allclose(kept.mean, picked.mean((0, 2, 3)), rtol=1e-5)


def test_without_cache_nothing_but_statistics_is_written_and_each_batch_passes_the_encoder():
    anew = features(DATA, "train", ANEW)
    assert anew.mean.shape == (6,)
    assert {file.name for file in anew.folder.iterdir()} == {"statistics.npz", ".statistics.lock"}
    before = Body.asked
    anew.batch(np.arange(7)), anew.batch(np.arange(7))
    assert Body.asked == before + 14
    with pytest.raises((NotImplementedError, RuntimeError, TypeError)):
        np.asarray(anew.tokens)  # it has a shape and no values to mistake for embeddings


def test_with_cache_every_view_passes_the_encoder_once_for_good():
    features(DATA, "train", CACHED)
    assert Body.asked == 2 * (COUNT + 1)  # and one image that tells the shape
    features(DATA, "train", CACHED).batch(np.arange(50))
    assert Body.asked == 2 * (COUNT + 1)


def test_an_interrupted_cache_goes_on_from_its_last_whole_batch(monkeypatch):
    forward = Body.forward_features

    def interrupted(self, x):
        if Body.asked > 150:
            raise KeyboardInterrupt
        return forward(self, x)

    monkeypatch.setattr(Body, "forward_features", interrupted)
    with pytest.raises(KeyboardInterrupt):
        features(DATA, "train", CACHED)
    monkeypatch.setattr(Body, "forward_features", forward)
    Body.asked = 0
    whole = features(DATA, "train", CACHED)
    assert Body.asked == 2 * (COUNT - 50)
    every, anew = np.arange(COUNT), features(DATA, "train", ANEW)
    torch.testing.assert_close(whole.batch(every), anew.batch(every), **HALF)


def test_a_disk_too_small_is_refused_with_the_size_of_the_features(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "free")(10_000))
    sentence = "features of birds/train: 120 images x 2 views, 11.5 kB; .* has 10.0 kB free"
    with pytest.raises(UserError, match=sentence):
        features(DATA, "train", CACHED)


def test_a_check_on_demand_finds_a_damaged_chunk_and_mends_it(capsys):
    kept = features(DATA, "train", CACHED)
    truth = np.array(kept.tokens)
    with open(kept.folder / "maps.bin", "r+b") as file:
        file.seek(60 * 96 + 3)
        file.write(b"\xff")
    assert not np.array_equal(kept.tokens, truth)
    assert np.array_equal(features(DATA, "train", CACHED, verify=True).tokens, truth)
    assert Body.asked == 2 * (COUNT + 1 + 50) and "1 of 3 chunks are damaged" in capsys.readouterr().err


def test_gpus_of_one_machine_share_a_cache_and_other_settings_do_not(monkeypatch):
    folders = []
    monkeypatch.setattr(module.store, "stored_maps", lambda folder, *_, **__: folders.append(folder))
    for settings, device in [
        (CACHED, "cuda:0"),
        (CACHED, "cuda:1"),
        (CACHED, "cpu"),
        (dataclasses.replace(CACHED, image_size=32), "cpu"),
        (dataclasses.replace(CACHED, mirror=False), "cpu"),
        (dataclasses.replace(CACHED, precision="bf16"), "cpu"),
    ]:
        features(DATA, "train", settings, device)
    features(dataclasses.replace(DATA, workers=3), "train", CACHED)  # which changes no number
    assert folders[0] == folders[1] and folders[2] == folders[-1] and len(set(folders)) == 5


def test_a_command_computes_features_ahead_and_checks_them(capsys):
    module.main(["--profile", "aviary", "--split", "train", "--device", "cpu"])
    asked = Body.asked
    module.main(["--profile", "aviary", "--split", "train", "--device", "cpu", "--verify"])
    assert Body.asked == asked
    assert capsys.readouterr().out.count("features 120x2x6x2x2 of aviary/train in ") == 2


def test_a_method_trained_without_cache_gives_the_same_maps_within_half_precision_on_smoke():
    profile = override(profiles.get("smoke"), {"data.per_class": 1})
    maps = []
    for cache in (True, False):
        method = create("cam", override(profile, {"encoder.cache": cache}))
        method.fit()
        maps.append(torch.cat([p.routes["true"].maps for p in method.predict("val")]))
    scale = maps[0].std()
    torch.testing.assert_close(maps[1] / scale, maps[0] / scale, atol=0.01, rtol=0)
