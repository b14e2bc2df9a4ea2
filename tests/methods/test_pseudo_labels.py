"""What the quality of pseudo-labels means, and that the controls are what they say."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from tedloc import profiles
from tedloc.data import ImageSet
from tedloc.errors import UserError
from tedloc.methods import Method, pseudo_labels
from tedloc.methods.pseudo_label_quality import NAMED, box_mask, localize, object_truth, sample_quality, summary
from tedloc.methods.pseudo_labels import centre_prior
from tedloc.sampler import pools, sample, to_grid
from tedloc.settings import EvaluationSettings, SamplerSettings, override
from tedloc.training.distributed import Draws


@dataclass(frozen=True, eq=False)
class Pictures(ImageSet):
    masks: tuple = ()

    def image(self, index):
        return np.zeros((*self.sizes[index][::-1], 3), np.uint8)

    def mask(self, index):
        return self.masks[index] if self.masks else None


def pictures(boxes, size, masks=()):
    count = len(boxes)
    return Pictures(
        "pictures",
        "train",
        [f"{i}.jpg" for i in range(count)],
        np.zeros(count, np.int64),
        [np.array(b, np.int64).reshape(-1, 4) for b in boxes],
        np.tile(size, (count, 1)),
        ["thing"],
        masks,
    )


def blob(y, x, size=8, level=255):
    cam = np.zeros((1, size, size), np.uint8)
    cam[0, y, x] = level
    return cam


def test_a_cam_equal_to_the_object_samples_without_an_error_and_reaches_all_of_it():
    truth = blob(slice(2, 6), slice(1, 5)) > 0
    quality = sample_quality(blob(slice(2, 6), slice(1, 5)), truth, SamplerSettings()).percent()
    assert quality == {"both": 100, "foreground": 100, "background": 100, "coverage": 100}


def test_a_cam_on_a_part_is_precise_and_covers_only_that_part():
    truth = blob(slice(2, 6), slice(2, 6)) > 0
    part = sample_quality(blob(slice(2, 4), slice(2, 6)), truth, SamplerSettings())
    assert part.foreground[0] == 1 and part.coverage[0] == pytest.approx(0.5)


def test_a_cam_beside_the_object_has_no_right_foreground_sample():
    truth = blob(slice(0, 4), slice(0, 8)) > 0
    quality = sample_quality(blob(slice(4, 8), slice(0, 8)), truth, SamplerSettings(background=1.0))
    assert quality.foreground[0] == 0 and quality.background[0] == 0 and quality.coverage[0] == 0


def test_precision_of_the_pools_is_the_mean_over_many_draws():
    rng = np.random.default_rng(0)
    cams = rng.integers(0, 256, (4, 8, 8)).astype(np.uint8)
    truth = rng.random((4, 8, 8)) < 0.4
    settings = SamplerSettings(foreground=0.7, background=0.3)
    quality = sample_quality(cams, truth, settings)
    draws, inside = Draws(torch.Generator().manual_seed(0), len(cams)), torch.from_numpy(truth).flatten(1)
    pool = pools(to_grid(torch.from_numpy(cams).float() / 255, (8, 8)), settings, draws)
    samples = [sample(*pool, 5, draws) for _ in range(2000)]
    right = torch.stack([inside.gather(1, each.foreground).float().mean(1) for each in samples]).mean(0)
    wrong = torch.stack([inside.gather(1, each.background).float().mean(1) for each in samples]).mean(0)
    np.testing.assert_allclose(quality.foreground, right, atol=0.02)
    np.testing.assert_allclose(quality.background, 1 - wrong, atol=0.02)


def test_a_flat_cam_counts_nowhere():
    cams = np.concatenate([blob(slice(0, 8), slice(0, 8), level=90), blob(slice(2, 6), slice(2, 6))])
    truth = np.repeat(blob(slice(2, 6), slice(2, 6)) > 0, 2, axis=0)
    quality = sample_quality(cams, truth, SamplerSettings())
    assert all(np.isnan(part[0]) for part in quality)
    assert quality.percent()["foreground"] == 100


def test_larger_pools_reach_more_of_the_object():
    cam = (centre_prior(16) * 255).to(torch.uint8).numpy()[None]
    truth = np.zeros((1, 16, 16), bool)
    truth[0, 4:12, 2:14] = True
    reach = [sample_quality(cam, truth, SamplerSettings(foreground=share)).coverage[0] for share in (0.2, 0.5, 1.0)]
    assert reach == sorted(reach) and reach[0] < reach[-1]


def test_truth_is_the_mask_where_there_is_one_and_the_boxes_otherwise():
    mask = np.zeros((8, 16), bool)
    mask[:, :4] = True
    np.testing.assert_array_equal(
        object_truth(pictures([[]], (16, 8), (mask,)), (4, 4))[0],
        np.tile([True, False, False, False], (4, 1)),
    )
    boxes = [[0, 0, 3, 7], [12, 0, 15, 7]]
    np.testing.assert_array_equal(
        object_truth(pictures([boxes], (16, 8)), (4, 4))[0], np.tile([True, False, False, True], (4, 1))
    )
    assert box_mask(np.array([[2, 1, 2, 1]]), (5, 3)).sum() == 1  # both ends of a box belong to it


def test_a_summary_holds_the_samples_quality_the_flat_maps_and_the_maps_own_score():
    images = pictures([[[2, 2, 5, 5]]] * 2, (8, 8))
    cams = np.concatenate([blob(slice(2, 6), slice(2, 6)), blob(slice(0, 8), slice(0, 8), level=90)])
    truth, evaluation = object_truth(images, (8, 8)), EvaluationSettings(grid=32, step=0.1)
    found = summary(cams, images, truth, SamplerSettings(), evaluation)
    assert list(found) == [*NAMED.values(), "images without pools", "MaxBoxAcc of the CAM"]
    assert found["foreground right"] == found["object reached"] == 100 and found["images without pools"] == 50
    assert found["MaxBoxAcc of the CAM"] == localize(cams, images, evaluation).compute()["MaxBoxAcc@0.5"] == 50


def test_an_image_without_mask_and_box_is_named():
    with pytest.raises(UserError, match="0.jpg has neither mask nor box"):
        object_truth(pictures([[]], (16, 8)), (4, 4))


class Numbering(Method):
    """A teacher whose map of image i is full of i, and that counts how often it is asked."""

    uses = ("data", "pseudo_labels")
    asked = 0

    def localize(self, split, index):
        raise AssertionError("a teacher is asked for maps of the true class alone")

    def fit(self, folder):
        Numbering.asked += 1

    def true_maps(self, split, index):
        return torch.from_numpy(index)[:, None, None].expand(-1, 4, 4) / 255

    def code(self):
        return ()


def test_shuffling_deals_the_teachers_own_cams_out_to_other_images(monkeypatch):
    monkeypatch.setattr(pseudo_labels, "open_data", lambda *_: pictures([[0, 0, 1, 1]] * 6, (4, 4)))
    monkeypatch.setattr(pseudo_labels, "create", lambda name, profile, *_: Numbering(profile))
    monkeypatch.setattr(Numbering, "asked", 0)
    plain = profiles.get("smoke")
    own = pseudo_labels.pseudo_label_cams(plain)[:, 0, 0]
    dealt = pseudo_labels.pseudo_label_cams(override(plain, {"pseudo_labels.shuffled": True}))[:, 0, 0]
    assert list(own) == [0, 1, 2, 3, 4, 5] == sorted(dealt) and list(dealt) != list(own)
    assert Numbering.asked == 1  # the maps are the same, so they are computed once
