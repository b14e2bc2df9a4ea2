"""The box metrics: bit for bit what the plain reference says, and what the protocol's fine print implies."""

import cv2
import numpy as np
import pytest
import reference_protocol as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tedloc import errors
from tedloc.data.benchmark import read_split
from tedloc.errors import UserError
from tedloc.metrics import baselines, pxap, uncertainty
from tedloc.metrics import boxes as mapping
from tedloc.metrics.meter import LocalizationMeter

quick = settings(max_examples=40, deadline=None)


def agrees(levels, targets):
    """Compare at every level where the binary image changes, and at the one below."""
    largest, best = mapping.boxes_by_level(levels, np.array(targets))
    top = int(levels.max())
    score_map = (levels.astype(np.float64) + 0.5) / 255  # 255 * map, fraction cut off, is `levels` again
    values = np.unique(levels).astype(int)
    for level in {0, 254, *values[values < 255], *(values[values > 0] - 1)}:
        single = every = [(0, 0, 0, 0)]
        if level < top:
            tau = (level + 0.5) / top  # int(tau * top) is the level
            single = reference.contour_boxes(score_map, tau, multiple=False)
            every = reference.contour_boxes(score_map, tau, multiple=True)
        assert tuple(largest[level]) == single[0], level
        assert best[level] == max(reference.box_iou(b, t) for b in every for t in targets), level


TARGETS = st.lists(
    st.tuples(*[st.tuples(st.integers(0, 9), st.integers(0, 9)).map(sorted)] * 2).map(
        lambda ends: (ends[0][0], ends[1][0], ends[0][1], ends[1][1])
    ),
    min_size=1,
    max_size=3,
)


def level_maps(values):
    sides = st.tuples(st.integers(1, 12), st.integers(1, 12))
    return sides.flatmap(lambda shape: arrays(np.uint8, shape, elements=values))


class TestBoxesAtEveryLevelEqualTheReference:
    @quick
    @given(level_maps(st.integers(0, 255)), TARGETS)
    def test_on_noise(self, levels, targets):
        agrees(levels, targets)

    @quick
    @given(level_maps(st.sampled_from([0, 0, 1, 77, 254, 255])), TARGETS)
    def test_on_plateaus_ties_and_holes(self, levels, targets):
        agrees(levels, targets)

    @quick
    @given(level_maps(st.sampled_from([0, 200])), TARGETS)
    def test_on_binary_maps_with_components_of_equal_area(self, levels, targets):
        agrees(levels, targets)

    @quick
    @given(st.integers(0, 2**32 - 1), st.floats(0.8, 3), TARGETS)
    def test_on_smooth_maps(self, seed, blur, targets):
        noise = np.random.default_rng(seed).integers(0, 256, (24, 19)).astype(np.uint8)
        agrees(cv2.GaussianBlur(noise, (0, 0), blur), targets)

    @pytest.mark.parametrize("name", ["line", "ring with tail", "nested rings", "equal squares", "one pixel", "frame"])
    def test_on_drawn_shapes(self, name):
        levels = np.zeros((24, 24), np.uint8)
        if name == "line":
            levels[3, 2:20] = 90
            levels[10:13, 10:13] = 90
        elif name == "ring with tail":  # a diamond one pixel thick: its hole's contour has the same polygon area
            for i in range(5):
                levels[[6 + i, 14 - i, 6 + i, 14 - i], [10 + i, 10 + i, 10 - i, 10 - i]] = 120
            levels[10, 14:22] = 120
        elif name == "nested rings":
            cv2.rectangle(levels, (1, 1), (22, 22), 60, 1)
            cv2.rectangle(levels, (5, 5), (18, 18), 90, 2)
            levels[10:14, 10:14] = 200
        elif name == "equal squares":
            levels[2:6, 2:6] = levels[12:16, 12:16] = 33
        elif name == "one pixel":
            levels[23, 0] = 1
        else:
            levels[[0, -1]] = levels[:, [0, -1]] = 250
        agrees(levels, [(2, 2, 12, 12), (0, 0, 23, 23)])


def blobs(count, seed=0, size=20):
    """Score maps, boxes in pixels, and image sizes."""
    rng = np.random.default_rng(seed)
    maps = np.stack([cv2.GaussianBlur(rng.random((size, size)), (0, 0), 2.5) for _ in range(count)])
    sizes = rng.integers(40, 400, (count, 2))
    boxes = []
    for width_height in sizes:
        low = rng.random((rng.integers(1, 4), 2)) * 0.5
        boxes.append(np.concatenate([low, low + 0.3 + rng.random(low.shape) * 0.2], 1) * np.tile(width_height, 2))
    return maps, [box.astype(int) for box in boxes], sizes


def metered(maps, boxes, sizes, **settings):
    meter = LocalizationMeter(**settings)
    meter.update([f"image {n}" for n in range(len(maps))], maps, boxes, sizes)
    return meter


@pytest.mark.parametrize(("grid", "step"), [(64, 0.001), (50, 0.01), (64, 0.037)])
def test_metrics_equal_the_reference(grid, step):
    maps, boxes, sizes = blobs(3)
    expected = reference.evaluate(
        [reference.grid_map(m, grid) for m in maps],
        [reference.grid_boxes(b, s, grid) for b, s in zip(boxes, sizes, strict=True)],
        step,
    )
    computed = metered(maps, boxes, sizes, grid=grid, step=step).compute()
    assert {name: computed[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert computed["threshold@0.5"] == expected["threshold@0.5"]


def test_metrics_equal_the_reference_on_the_protocol_grid_with_maps_used_as_they_are():
    maps, boxes, sizes = blobs(2, seed=1)
    maps = np.stack([0.1 + 0.8 * reference.grid_map(m) for m in maps])  # brightest byte 229, not 255
    targets = [reference.grid_boxes(b, s) for b, s in zip(boxes, sizes, strict=True)]
    expected = reference.evaluate(maps, targets, step=0.004)
    meter = LocalizationMeter(step=0.004)
    meter.update(["a", "b"], maps, boxes, sizes, as_is=True)
    computed = meter.compute()
    assert {name: computed[name] for name in expected} == pytest.approx(expected, abs=1e-9)


def test_perfect_3x3_mask_scores_nine_sixteenths():
    score_map = np.zeros((1, 224, 224))
    score_map[0, 100:103, 50:53] = 1
    meter = LocalizationMeter()
    meter.update(["a"], score_map, [np.array([[50, 100, 52, 102]])], np.array([[224, 224]]))
    row = meter.per_image(threshold=0.5).iloc[0]
    assert row["iou"] == 9 / 16
    assert row[["grid_x0", "grid_y0", "grid_x1", "grid_y1"]].tolist() == [50, 100, 53, 103]


def test_line_of_18_pixels_loses_to_a_3x3_blob():
    score_map = np.zeros((224, 224))
    score_map[10, 20:38] = 1
    score_map[100:103, 50:53] = 1
    assert mapping.largest_box(mapping.to_bytes(score_map), 0) == (50, 100, 53, 103)


def test_box_of_a_full_map_ends_at_the_last_pixel():
    assert mapping.largest_box(np.full((224, 224), 9, np.uint8), 0) == (0, 0, 223, 223)
    np.testing.assert_array_equal(baselines.on_grid(baselines.FULL_IMAGE), (0, 0, 223, 223))


def test_ground_truth_is_multiplied_before_it_is_divided_and_cut_off():
    # 5 / 35 * 224 is 31.999...; 5 * 224 / 35 is 32
    np.testing.assert_array_equal(mapping.scale_boxes([[5, 5, 34, 34]], [35, 35], 224), [[32, 32, 217, 217]])


def test_threshold_is_the_best_for_the_data_set_not_for_each_image():
    # One object shows at low thresholds only, the other at high ones: a threshold chosen image by image finds both.
    low, high = np.zeros((224, 224)), np.zeros((224, 224))
    low[20:120, 20:120] = 0.3
    low[60:64, 60:64] = 1
    high[...] = 0.6
    high[0, 0] = 0
    high[60:120, 60:120] = 1
    boxes = [np.array([[20, 20, 120, 120]]), np.array([[60, 60, 120, 120]])]
    sizes = np.full((2, 2), 224)
    both = metered(np.stack([low, high]), boxes, sizes).compute()["MaxBoxAcc@0.5"]
    alone = [
        metered(m[None], [box], sizes[:1]).compute()["MaxBoxAcc@0.5"] for m, box in zip((low, high), boxes, strict=True)
    ]
    assert np.mean(alone) == 100
    assert both == 50


def test_merging_in_any_order_equals_a_single_pass_and_padding_counts_once():
    maps, boxes, sizes = blobs(9, seed=3)
    labels, scores = np.arange(9) % 4, np.random.default_rng(0).random((9, 6))
    ids = [f"class {n % 4}/{n}.jpg" for n in range(9)]

    def part(index):
        meter = LocalizationMeter(grid=48)
        meter.update(
            [ids[i] for i in index],
            maps[index],
            [boxes[i] for i in index],
            sizes[index],
            labels[index],
            scores[index],
            [maps[i] > 0.5 for i in index],
        )
        return LocalizationMeter.from_state(meter.state_dict())

    single = part(np.arange(9))
    ranks = [[0, 3, 6, 1], [1, 4, 7, 0], [2, 5, 8, 2]]  # as a padding sampler deals them out, with repetitions
    one, other = part(np.array(ranks[0])), part(np.array(ranks[2]))
    for index in (ranks[1], ranks[2]):
        one.merge(part(np.array(index)))
    for index in (ranks[0], ranks[1], ranks[1]):
        other.merge(part(np.array(index)))
    for meter in (one, other):
        assert meter.compute(val=single, fixed=0.4) == single.compute(val=single, fixed=0.4)
        assert meter.per_image().equals(single.per_image())
        assert {k: v.tobytes() for k, v in meter.state_dict().items()} == {
            k: v.tobytes() for k, v in single.state_dict().items()
        }


def test_state_survives_an_npz_file_without_pickle(tmp_path):
    meter = metered(*blobs(3), grid=32, step=0.01)
    np.savez_compressed(tmp_path / "state.npz", **meter.state_dict())
    with np.load(tmp_path / "state.npz", allow_pickle=False) as state:
        again = LocalizationMeter.from_state(dict(state))
    assert again.compute() == meter.compute()
    assert (again.grid, again.step, again.ious) == (32, 0.01, (0.3, 0.5, 0.7))


def test_tensors_of_any_precision_are_taken():
    import torch

    maps, boxes, sizes = blobs(2)
    half = torch.tensor(maps).bfloat16()
    expected = metered(half.double().numpy(), boxes, sizes).compute()
    assert metered(half, boxes, sizes).compute() == expected


def test_an_image_takes_less_than_a_kilobyte_and_a_half():
    state = metered(*blobs(20)).state_dict()
    assert sum(array.nbytes for array in state.values()) / 20 < 1500


def test_constant_and_nan_maps_get_the_empty_box():
    maps = np.stack([np.full((7, 7), 0.4), np.full((7, 7), np.nan)])
    frame = metered(maps, [np.array([[10, 10, 90, 90]])] * 2, np.full((2, 2), 100)).per_image(0.2)
    assert (frame[["grid_x0", "grid_y0", "grid_x1", "grid_y1"]] == 0).all(axis=None)


class TestRulesAndClasses:
    def meter(self):
        # image 0 is boxed right from level 0 to 99, image 1 from 50 to 199, image 2 from 150 on
        right, wrong, meter = [50, 50, 150, 150], [0, 0, 10, 10], LocalizationMeter()
        boxes = np.full((3, 255, 4), wrong)
        boxes[0, :100] = boxes[1, 50:200] = boxes[2, 150:] = right
        targets = [np.array([right])] * 3
        scores = np.array([[0.1, 0.9], [0.2, 0.8], [0.5, 0.5]])
        meter.update_boxes(list("abc"), boxes, targets, np.full((3, 2), 224), [0, 1, 1], scores, top=255)
        return meter

    def test_oracle_takes_the_lowest_of_equally_good_thresholds(self):
        result = self.meter().compute()
        assert result["MaxBoxAcc@0.5"] == pytest.approx(200 / 3)
        assert result["threshold@0.5"] == pytest.approx(0.197)  # int(0.197 * 255) is 50; int(0.196 * 255) is 49

    def test_fixed_threshold_is_applied_as_given(self):
        result = self.meter().compute(fixed=0.9)
        assert result["MaxBoxAcc@0.5 (fixed threshold)"] == pytest.approx(100 / 3)
        assert result["Top-1 Loc (fixed threshold)"] == 0  # image c is tied, and class 0 comes first
        assert result["Top-5 Loc (fixed threshold)"] == pytest.approx(100 / 3)

    def test_threshold_of_the_validation_split_is_carried_over(self):
        val = LocalizationMeter()
        boxes = np.zeros((1, 255, 4), int)
        boxes[0, 210:] = [50, 50, 150, 150]
        val.update_boxes(["v"], boxes, [np.array([[50, 50, 150, 150]])], np.array([[224, 224]]), top=255)
        result = self.meter().compute(val=val)
        assert result["MaxBoxAcc@0.5 (val threshold)"] == pytest.approx(100 / 3)
        assert result["threshold@0.5 (val threshold)"] == pytest.approx(0.824)
        assert result["MaxBoxAcc@0.5"] == pytest.approx(200 / 3)

    def test_top_1_loc_needs_class_and_box_and_says_whose_threshold(self):
        result = self.meter().compute()
        assert result["Top-1 CL"] == pytest.approx(100 / 3)  # image b alone
        assert result["Top-1 Loc"] == pytest.approx(100 / 3)
        assert result["Top-5 Loc"] == pytest.approx(200 / 3)

    def test_own_threshold_can_beat_the_one_of_maxboxacc(self):
        right, boxes = [50, 50, 150, 150], np.zeros((3, 255, 4), int)
        boxes[:2, :100] = boxes[2, 100:] = right  # the classifier is right on the last image alone
        meter = LocalizationMeter()
        meter.update_boxes(
            list("abc"),
            boxes,
            [np.array([right])] * 3,
            np.full((3, 2), 224),
            [0, 0, 0],
            np.array([[0, 1], [0, 1], [1, 0]]),
            top=255,
        )
        result = meter.compute()
        assert result["Top-1 Loc"] == 0
        assert result["Top-1 Loc (own threshold)"] == pytest.approx(100 / 3)

    def test_equal_scores_are_ranked_by_class_index(self):
        frame = self.meter().per_image()
        assert frame["rank"].tolist() == [2, 1, 2]
        assert frame["predicted"].tolist() == [1, 1, 0]

    def test_curve_peaks_at_the_metric(self):
        meter = self.meter()
        curve = meter.curve()
        assert curve["BoxAcc@0.5"].max() == meter.compute()["MaxBoxAcc@0.5"]
        assert len(curve["thresholds"]) == 1000

    def test_per_image_table_agrees_with_the_metrics(self):
        frame, result = self.meter().per_image(), self.meter().compute()
        assert 100 * frame["correct@0.5"].mean() == pytest.approx(result["MaxBoxAcc@0.5"])
        assert 100 * frame["Top-1 Loc"].mean() == pytest.approx(result["Top-1 Loc"])
        assert 100 * frame["iou"].mean() == pytest.approx(result["mean IoU"])


class TestPxAP:
    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 2**32 - 1), st.sampled_from([0.001, 0.01, 0.1, 0.3]))
    def test_equals_the_reference(self, seed, step):
        rng = np.random.default_rng(seed)
        maps = [np.round(rng.random((12, 12)), rng.integers(1, 6)) for _ in range(2)]
        masks = [rng.choice([0, 1, 255], (12, 12)).astype(np.uint8) for _ in range(2)]
        masks[0][0, 0] = 1
        edges = pxap.bin_edges(step)
        pooled = sum(pxap.histogram(m, k, edges).astype(int) for m, k in zip(maps, masks, strict=True))
        assert pxap.average_precision(pooled) == pytest.approx(reference.pixel_average_precision(maps, masks, step))

    def test_histogram_equals_numpy_at_every_edge(self):
        edges = pxap.bin_edges(0.001)
        scores = np.concatenate([edges[:-2], np.nextafter(edges[1:-2], 0), np.nextafter(edges[:-3], 1)])[None]
        counts = pxap.histogram(scores, np.ones(scores.shape, np.uint8), edges)
        np.testing.assert_array_equal(counts[1], np.histogram(scores, edges)[0])

    def test_perfect_map_has_100_and_pixels_are_pooled_over_images(self):
        mask = np.zeros((2, 32, 32), np.uint8)
        mask[0, 4:20, 4:20] = mask[1, :4, :4] = 1
        meter = LocalizationMeter(grid=32)
        meter.update(["a", "b"], mask.astype(float), None, np.full((2, 2), 32), masks=mask)
        assert meter.compute() == {"PxAP": 100.0, "num_images": 2}
        single = [pxap.average_precision(pixels) for pixels in meter.records.pixels]
        assert single == [100.0, 100.0]
        worse = LocalizationMeter(grid=32)
        worse.update(["a", "b"], np.stack([mask[0], 1 - mask[1]]).astype(float), None, np.full((2, 2), 32), masks=mask)
        apart = np.mean([pxap.average_precision(pixels) for pixels in worse.records.pixels])
        assert abs(worse.compute()["PxAP"] - apart) > 5

    def test_what_an_object_covers_is_never_ignored(self):
        one = np.array([[True, False, False]])
        np.testing.assert_array_equal(pxap.with_ignored([one], [np.array([[True, True, False]])]), [[1, 255, 0]])


class TestTrivialBaselines:
    def test_centred_box_is_the_best_of_all_sizes_by_brute_force(self):
        _, boxes, sizes = blobs(30, seed=5)
        size = baselines.centre_box(boxes, sizes, grid=64, steps=12)
        targets = [reference.grid_boxes(b, s, 64) for b, s in zip(boxes, sizes, strict=True)]

        def accuracy(box):
            return np.mean([max(reference.box_iou(box, t) for t in target) >= 0.5 for target in targets])

        every = [accuracy(baselines.on_grid((w / 12, h / 12), 64)) for w in range(1, 13) for h in range(1, 13)]
        assert accuracy(baselines.on_grid(size, 64)) == max(every) > 0

    def test_box_placed_in_pixels_is_the_box_on_the_grid(self):
        sizes = np.array([[500, 375], [333, 333], [7, 1000]])

        class Images:
            ids, labels, boxes = list("abc"), np.zeros(3, int), [np.array([[0, 0, 5, 5]])] * 3

        Images.sizes = sizes
        for size in ((0.42, 0.58), (1.0, 1.0), (0.02, 0.3)):
            expected = LocalizationMeter()
            expected.update_boxes(Images.ids, np.tile(baselines.on_grid(size), (3, 1)), Images.boxes, sizes)
            assert baselines.score(baselines.place(size, sizes), Images)["mean IoU"] == expected.compute()["mean IoU"]

    def test_gaussian_scored_once_equals_the_gaussian_scored_as_every_map(self):
        _, boxes, sizes = blobs(6, seed=6)

        class Images:
            ids, labels = [f"image {n}" for n in range(6)], np.zeros(6, int)

        Images.boxes, Images.sizes = boxes, sizes
        every = metered(np.repeat(baselines.gaussian_map(64)[None], 6, axis=0), boxes, sizes, grid=64).compute()
        assert baselines.gaussian_meter(Images, grid=64).compute() == every


class TestUncertainty:
    def meter(self, shift=0.0, count=60):
        maps, boxes, sizes = blobs(count, seed=8)
        meter = LocalizationMeter(grid=48, step=0.01)
        rng = np.random.default_rng(1)
        noise = shift * np.stack([cv2.resize(rng.random((5, 5)), (20, 20)) for _ in maps])
        meter.update(
            [str(n) for n in range(count)],
            maps + noise,
            boxes,
            sizes,
            rng.integers(0, 8, count),
            rng.random((count, 8)),
            [m > 0.5 for m in maps],
        )
        return meter

    def test_every_metric_of_one_resample_equals_the_metric_of_those_images(self):
        meter, val = self.meter(), self.meter(0.2)
        drawn = np.random.default_rng(0).integers(60, size=60)
        repeated = LocalizationMeter(grid=48, step=0.01)
        records = meter.records.take(drawn)
        object.__setattr__(records, "ids", np.array([f"{n:03d}" for n in range(60)]))
        repeated._parts = [records]
        counts = np.bincount(drawn, minlength=60)[None].astype(np.float32)
        for metric, expected in repeated.compute(val=val, fixed=0.5).items():
            if uncertainty.resampled(metric):
                statistic = uncertainty.statistic_of(meter, metric, "largest", val, 0.5)
                assert statistic(counts)[0] == pytest.approx(expected), metric

    def test_interval_holds_the_metric_and_repeats_with_its_seed(self):
        meter = self.meter()
        low, high = uncertainty.bootstrap(meter, "Top-1 CL", seed=0, samples=200)
        assert low < meter.compute()["Top-1 CL"] < high
        assert uncertainty.bootstrap(meter, "Top-1 CL", seed=0, samples=200) == (low, high)
        assert uncertainty.bootstrap(meter, "Top-1 CL", seed=1, samples=200) != (low, high)

    def test_unknown_metric_is_refused_with_the_known_ones(self):
        with pytest.raises(UserError, match="choose one of: 'MaxBoxAcc@0.3'"):
            uncertainty.bootstrap(self.meter(), "mean IoU", 0)


class TestBadInput:
    def test_image_without_a_box_is_named(self):
        with pytest.raises(UserError, match="'b' has no box"):
            boxes = [np.ones((1, 4)), np.zeros((0, 4))]
            LocalizationMeter().update(["a", "b"], np.ones((2, 5, 5)), boxes, [[9, 9], [9, 9]])

    def test_nan_score_is_named(self):
        with pytest.raises(UserError, match="NaN among the class scores of image 'a'"):
            LocalizationMeter().update(["a"], np.eye(5)[None], [[[1, 1, 5, 5]]], [[9, 9]], [0], [[np.nan, 1]])

    def test_meters_of_different_settings_do_not_merge(self):
        with pytest.raises(UserError, match="different grid"):
            LocalizationMeter(grid=224).merge(LocalizationMeter(grid=256))

    def test_empty_meter_says_so(self):
        with pytest.raises(UserError, match="no image reached the meter"):
            LocalizationMeter().compute()


COUNTS = {
    ("CUB", "val"): (1000, 1000),
    ("CUB", "test"): (5794, 5794),
    ("ILSVRC", "val"): (10_000, 18_532),
    ("ILSVRC", "test"): (50_000, 80_477),
}


@pytest.mark.parametrize(("dataset", "split"), COUNTS)
def test_benchmark_splits_have_the_published_counts(shared, dataset, split):
    found = read_split(shared / "wsol-metadata", dataset, split)
    assert (len(found.ids), sum(map(len, found.boxes))) == COUNTS[dataset, split]


def test_trivial_boxes_are_scored_on_a_benchmark_split(shared):
    test, val = (read_split(shared / "wsol-metadata", "CUB", split) for split in ("test", "val"))
    full = baselines.score(baselines.place(baselines.FULL_IMAGE, test.sizes), test)
    centred = baselines.score(baselines.place(baselines.centre_box(val.boxes, val.sizes, steps=10), test.sizes), test)
    assert full["num_images"] == 5794
    assert 0 < full["MaxBoxAcc@0.5"] < centred["MaxBoxAcc@0.5"] < 100


class TestWhatPeopleHandOver:
    """Arrays, tensors and lists of every kind: the right figure, or a sentence."""

    def data(self):
        maps, boxes, sizes = blobs(6)
        return [f"{n}.jpg" for n in range(6)], maps, boxes, sizes

    def compute(self, ids, maps, boxes, sizes, **more):
        meter = LocalizationMeter(grid=32, step=0.01)
        meter.update(ids, maps, boxes, sizes, **more)
        return meter.compute()

    def test_tensors_and_lists_are_arrays(self):
        import torch

        ids, maps, boxes, sizes = self.data()
        expected = self.compute(ids, maps, boxes, sizes)
        labels, scores = np.zeros(6), np.random.default_rng(0).random((6, 3))
        tensors = [torch.tensor(box) for box in boxes]
        assert self.compute(tuple(ids), torch.tensor(maps), tensors, torch.tensor(sizes)) == expected
        assert self.compute(ids, list(maps), [box.tolist() for box in boxes], sizes.tolist()) == expected
        assert self.compute(ids, [torch.tensor(m) for m in maps], boxes, [torch.tensor(s) for s in sizes]) == expected
        one = [box[0] for box in boxes]
        assert self.compute(ids, maps, one, sizes) == self.compute(ids, maps, torch.tensor(np.array(one)), sizes)
        assert self.compute(ids, maps, boxes, sizes, labels=labels, scores=scores) == self.compute(
            ids, maps, boxes, sizes, labels=torch.zeros(6, 1, dtype=torch.long), scores=torch.tensor(scores)
        )

    BAD = {
        "sizes as default_collate gives them": (
            {"sizes": lambda sizes: sizes.T},
            r"sizes have the shape \(2, 6\).*default_collate",
        ),
        "sizes of five images": ({"sizes": lambda sizes: sizes[:5]}, r"sizes have the shape \(5, 2\); give \(6, 2\)"),
        "sizes that are shares": ({"sizes": lambda sizes: sizes / 1000}, "image '0.jpg' has no size"),
        "sizes of nothing": ({"sizes": lambda sizes: sizes * 0}, "image '0.jpg' has no size: 0, 0"),
        "sizes not known": ({"sizes": lambda sizes: None}, "sizes have the type object"),
        "height and width": (
            {"sizes": lambda sizes: sizes[:, ::-1]},
            "leaves its image of .* are width and height swapped",
        ),
        "NaN in a box": ({"boxes": lambda boxes: [[[np.nan, 1, 2, 3]], *boxes[1:]]}, "'0.jpg': box nan, .* not finite"),
        "boxes as shares": ({"boxes": lambda boxes: [box / 1000 for box in boxes]}, "is not in pixels; multiply"),
        "no object": ({"boxes": lambda boxes: [*boxes[:5], [[0, 0, 0, 0]]]}, "'5.jpg': .* marks no object"),
        "negative": ({"boxes": lambda boxes: [*boxes[:5], [[-1, 0, 9, 9]]]}, "'5.jpg': .* begins outside"),
        "turned over": ({"boxes": lambda boxes: [box[:, ::-1] for box in boxes]}, "is turned over"),
        "one pixel too far": (
            {"boxes": lambda boxes: [[[0, 0, 50, 9]], *boxes[1:]], "sizes": lambda sizes: [[50, 40], *sizes[1:]]},
            "both ends are included, so the last ones are 49 and 39; subtract 1",
        ),
        "upright boxes": (
            {"boxes": lambda boxes: [[[0, 0, 20, 60]], *boxes[1:]], "sizes": lambda sizes: [[70, 50], *sizes[1:]]},
            "leaves its image of 70 x 50 pixels; are x and y swapped|width and height swapped",
        ),
        "five numbers": (
            {"boxes": lambda boxes: [np.ones((1, 5)), *boxes[1:]]},
            r"boxes of image '0.jpg' have the shape \(1, 5\)",
        ),
        "boxes of five images": ({"boxes": lambda boxes: boxes[:5]}, "6 image ids come with 5 lists of boxes"),
        "words for a box": (
            {"boxes": lambda boxes: [["a", "b", "c", "d"], *boxes[1:]]},
            "boxes of image '0.jpg' have the type <U1",
        ),
        "one map": ({"maps": lambda maps: maps[0]}, r"score maps have the shape \(20, 20\); give \(6, any, any\)"),
        "maps of several classes": (
            {"maps": lambda maps: maps[:, None]},
            r"score maps have the shape \(6, 1, 20, 20\)",
        ),
        "maps of different sizes": ({"maps": lambda maps: [*maps[:5], maps[5][:9]]}, "score maps are no array"),
        "complex maps": ({"maps": lambda maps: maps * 1j}, "score maps have the type complex128"),
        "empty maps": ({"maps": lambda maps: maps[:, :0]}, r"score map of '0.jpg' has the shape \(0, 20\)"),
        "labels one by one class": ({"labels": lambda _: np.eye(6, 3)}, r"labels have the shape \(6, 3\)"),
        "labels of words": ({"labels": lambda _: list("abcdef")}, "labels have the type <U1"),
        "half a class": ({"labels": lambda _: np.full(6, 0.5)}, "image '0.jpg' has the class 0.5"),
        "scores alone": ({"scores": lambda _: np.eye(6)}, "class scores come without labels"),
        "scores of one image": (
            {"labels": lambda _: np.zeros(6), "scores": lambda _: np.ones(3)},
            r"class scores have the shape \(3,\)",
        ),
        "infinite scores": (
            {"labels": lambda _: np.zeros(6), "scores": lambda _: np.diag([1, 1, np.inf, 1, 1, 1])},
            "an infinite value among the class scores of image '2.jpg'",
        ),
        "masks of 0 and 255": (
            {"masks": lambda _: [np.diag([255] * 5).astype(np.uint8)] * 6},
            "mask of image '0.jpg' has no object: 255 means ignored",
        ),
        "soft masks": ({"masks": lambda _: np.full((6, 5, 5), 0.5)}, "mask of image '0.jpg' holds other values"),
        "masks of five images": ({"masks": lambda _: np.ones((5, 4, 4))}, "6 image ids come with 5 masks"),
    }

    @pytest.mark.parametrize("case", BAD)
    def test_what_does_not_fit_is_named(self, case):
        changes, words = self.BAD[case]
        given = dict(zip(("ids", "maps", "boxes", "sizes"), self.data(), strict=True))
        given |= {name: change(given.get(name)) for name, change in changes.items()}
        with pytest.raises(UserError, match=words):
            self.compute(**given)

    def test_a_map_with_width_first_is_named(self):
        with pytest.raises(UserError, match=r"which is \(width, height\) of its image"):
            LocalizationMeter().update(["a"], np.ones((1, 30, 20)), [[2, 2, 9, 9]], [[30, 20]])

    def test_file_names_that_repeat_from_folder_to_folder_are_noticed(self):
        ids, maps, boxes, sizes = self.data()
        with pytest.raises(UserError, match="image '0.jpg' came twice, with different boxes"):
            self.compute([*ids[:5], "0.jpg"], maps, boxes, sizes)
        other = LocalizationMeter(grid=32)
        other.update(["0.jpg"], maps[:1], boxes[:1], sizes[:1], labels=[1])
        meter = LocalizationMeter(grid=32)
        meter.update(["0.jpg"], maps[:1], boxes[:1], sizes[:1], labels=[2])
        with pytest.raises(UserError, match="came twice"):
            meter.merge(other).compute()

    @pytest.mark.parametrize("box", [[0, 0, 32, 9], [-1, 0, 9, 9], [9, 0, 3, 9], [np.nan, 0, 1, 1], [0, 0, 300, 300]])
    def test_a_predicted_box_lies_on_the_grid(self, box):
        meter = LocalizationMeter(grid=32)
        with pytest.raises(UserError, match="predicted for 'a', .* is none on the grid; .* from 0 to 31"):
            meter.update_boxes(["a"], [box], [[[1, 1, 5, 5]]], [[9, 9]])
        with pytest.raises(UserError, match=r"predicted boxes have the shape \(2, 4\)"):
            meter.update_boxes(["a"], [[0, 0, 1, 1]] * 2, [[[1, 1, 5, 5]]], [[9, 9]])

    def test_masks_without_any_object_have_no_pxap(self):
        with pytest.raises(UserError, match="no mask has an object"):
            self.compute(["a"], np.eye(5)[None], None, [[0, 0]], masks=np.zeros((1, 5, 5), bool))

    def test_boxes_that_look_like_width_and_height_are_remarked_on_once(self, monkeypatch, recwarn):
        monkeypatch.setattr(errors, "_said", set())
        (ids, maps, _, _), sizes = self.data(), np.full((6, 2), 200)
        corner = [[[n, n, 80 + n, 90 + n]] for n in range(0, 42, 7)]
        for some in (corner[:5] + [[[50, 50, 199, 199]]], [corner[0]] * 6):
            self.compute(ids, maps, some, sizes)
        assert not recwarn.list
        for _ in range(2):
            self.compute(ids, maps, corner, sizes)
        assert ["given as x, y, width, height" in str(warning.message) for warning in recwarn] == [True]

    @pytest.mark.parametrize("scale", [1e308, 1e-310, 1e-323])
    def test_numbers_at_the_ends_of_float64_are_stretched_as_others_are(self, scale):
        plain = np.outer(np.arange(4.0), np.arange(4.0)) / 9 - 0.3
        extreme = plain * scale
        with np.errstate(divide="raise", invalid="raise", over="raise"):
            grid = mapping.to_grid(extreme, 16)
        assert grid.min() == 0 and grid.max() == 1
        if scale > 1e-320:
            np.testing.assert_allclose(grid, mapping.to_grid(plain, 16), atol=1e-12)
