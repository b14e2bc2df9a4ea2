"""The estimates follow from the counts and from the profile's own settings: what the code does is what is reckoned."""

import json
from dataclasses import replace

import pytest
import torch
from closed_forms import vit_flops

from tedloc import profiles
from tedloc.cost import measured, plan
from tedloc.methods import Shape, create
from tedloc.settings import override

COST = plan.ImageCost(
    encoder=160e9, head=8e9, clip_es=40e9, numbers=262144, map_bytes=196, operators=300, decode=0.002, score=0.003
)
WORK = plan.Work(train=1000, val=40, test=60, classes=20, epochs=5, batch_size=16)
ONE = plan.Machine()


def test_eight_gpus_take_an_eighth_of_the_time_where_gpus_are_the_limit():
    one, eight = (plan.stages(WORK, COST, plan.Machine(gpus)) for gpus in (1, 8))
    assert one.loc["pseudo-labels", "limit"] == "GPU"
    assert one.loc["pseudo-labels", "hours"] == pytest.approx(8 * eight.loc["pseudo-labels", "hours"])
    assert one.loc["pseudo-labels", "GPU hours"] == pytest.approx(eight.loc["pseudo-labels", "GPU hours"])


def test_a_short_step_takes_as_long_as_launching_it_on_any_number_of_gpus():
    light = replace(COST, head=1e6)
    one, eight = (plan.stages(WORK, light, plan.Machine(gpus, disk=1e15)).loc["training"] for gpus in (1, 8))
    steps = 5 * 63
    assert one["limit"] == eight["limit"] == "launching operators"
    assert one["hours"] == eight["hours"] == pytest.approx(steps * 300 * plan.LAUNCH / 3600)
    assert eight["GPU hours"] == pytest.approx(8 * one["GPU hours"])  # held, waiting or not


def test_no_more_gpus_share_a_step_than_it_has_images():
    sixteen, more = (plan.stages(WORK, COST, plan.Machine(gpus, disk=1e15)) for gpus in (16, 64))
    assert sixteen.loc["training", "hours"] == more.loc["training", "hours"]
    assert sixteen.loc["pseudo-labels", "hours"] > more.loc["pseudo-labels", "hours"]


def test_stages_by_gpus_are_those_of_each_machine_and_their_sum():
    machines = [plan.Machine(gpus) for gpus in (1, 64)]
    found, one = plan.by_gpus(WORK, COST, machines), plan.stages(WORK, COST, ONE)
    assert list(found.columns) == ["hours, 1 GPU", "hours, 64 GPUs", "stored (GB)", "limit", "assumed"]
    assert found.loc["training", "hours, 1 GPU"] == one.loc["training", "hours"]
    assert found.loc["all", "stored (GB)"] == pytest.approx(one["stored"].sum() / 1e9)
    assert found["stored (GB)"].isna().tolist() == [stored == 0 for stored in one["stored"]] + [False]
    assert list(found["limit"][:-1]) == list(one["limit"]) and found["limit"].isna()["all"]


def test_the_slowest_of_gpu_cores_and_disk_decides():
    slow_cores = plan.stages(WORK, COST, plan.Machine(cores=0.01)).loc["cache of patch embeddings"]
    assert slow_cores["limit"] == "decoding" and slow_cores["hours"] == pytest.approx(1100 * 0.002 / 0.01 / 3600)
    slow_disk = plan.stages(WORK, COST, plan.Machine(disk=1e5)).loc["training"]
    assert slow_disk["limit"] == "disk" and slow_disk["hours"] == pytest.approx(5000 * 524288 / 1e5 / 3600)


def test_photos_that_are_read_in_turns_add_their_time_and_those_read_ahead_cost_what_was_measured():
    stage, embed = "cache of patch embeddings", 2100 * 160e9 / (312e12 * 0.35)
    turns, ahead = (
        plan.stages(replace(WORK, reading=reading), COST, ONE).loc[stage, "hours"] * 3600
        for reading in (plan.Reading(workers=0), plan.Reading(workers=4, shares={"features": 0.8, "cache": 0.1}))
    )
    assert turns == pytest.approx(embed + 1100 * 0.002)
    assert ahead == pytest.approx(max(embed, 1100 * 0.002 / 4) / 0.8)


def test_float32_takes_as_much_longer_as_the_gpu_is_slower():
    low, exact = (plan.stages(replace(WORK, encoder=kind), COST, ONE) for kind in ("bf16", "float32"))
    stage = "cache of patch embeddings"
    assert exact.loc[stage, "hours"] / low.loc[stage, "hours"] == pytest.approx((312 * 0.35) / (19.5 * 0.7))
    assert "float32 at 70 % of its peak" in exact.loc[stage, "assumed"]
    assert "bf16 at 35 % of its peak" in low.loc[stage, "assumed"]


def test_the_cache_holds_every_split_and_pays_after_some_epochs():
    once, often = (plan.Work(10**6, 50, 50, 20, epochs, 16) for epochs in (1, 10))

    def hours(work, cached):
        return plan.stages(replace(work, cached=cached), COST, ONE)["hours"].sum()

    assert plan.stages(once, COST, ONE).loc["cache of patch embeddings", "stored"] == (2 * 10**6 + 100) * 524288
    assert hours(once, True) > hours(once, False) and hours(often, True) < hours(often, False)


def test_counts_are_those_of_the_architectures():
    cost = plan.counted(classes=200)
    closed = vit_flops(depth=24, width=1024, patches=256, patch_values=588, hidden=4096)
    assert cost.encoder == pytest.approx(closed, rel=1e-3)
    assert cost.numbers == 1024 * 16 * 16 and cost.map_bytes == 14 * 14
    assert 200 < cost.operators < 600


def test_every_route_of_the_method_is_scored_and_one_of_its_teachers():
    method = create("tedloc", profiles.get("smoke"))
    net = method.untrained(Shape(128, (10, 10), 20))["network"]
    routes = method.routes(net.eval(), torch.zeros(1, 128, 10, 10), torch.zeros(1, dtype=torch.long))
    assert len(routes) == plan.ROUTES
    stages = plan.parts_of(WORK, COST)
    assert (stages["evaluation"].scored, stages["the teacher's scores"].scored) == (plan.ROUTES * 100, 100)


@pytest.mark.parametrize("name", ["cub", "ilsvrc"])
def test_the_plan_reckons_with_the_profiles_own_settings(name):
    profile = profiles.get(name)
    work = plan.at_paper_scale(profile)
    optimiser = profile.optimiser
    assert (work.epochs, work.batch_size) == (optimiser.epochs, optimiser.batch_size)
    assert (work.cached, work.views) == (profile.encoder.cache, 1 + profile.encoder.mirror)
    assert work.step == ("bf16" if optimiser.precision == "auto" else optimiser.precision)
    changes = {"encoder.cache": False, "encoder.mirror": False, "optimiser.precision": "float32"}
    changes |= {"optimiser.epochs": 3, "optimiser.batch_size": 8}
    changes |= {"encoder.cache_type": "float16", "encoder.precision": "float32", "pseudo_labels.precision": "float32"}
    other = plan.at_paper_scale(override(profile, changes))
    assert (other.cached, other.views, other.step, other.epochs, other.batch_size) == (False, 1, "float32", 3, 8)
    assert (other.encoder, other.teacher) == ("float32", "float32")
    assert (work.number_bytes, other.number_bytes) == (1, 2)
    assert "training, encoder in every epoch" in plan.parts_of(other, COST)


def test_a_stored_measurement_of_reading_is_used_and_its_absence_said(tmp_path, monkeypatch):
    monkeypatch.setitem(measured.FILES, measured.PIPELINE, tmp_path / "pipeline.json")
    assert "in turns with it (not measured)" in str(plan.reading(profiles.get("cub")))
    result = {"ratios": {"features": 0.95, "CLIP-ES": 0.91}, "settings": {"device": "cpu"}}
    (tmp_path / "pipeline.json").write_text(json.dumps(result))
    found = plan.reading(profiles.get("cub"))
    assert found.shares == result["ratios"] and "features 95 %, CLIP-ES 91 % are reached (measured on cpu)" in str(
        found
    )


def test_activations_grow_with_the_batch_and_the_weights_stay():
    two, four, six = (plan.training_bytes(200, batch) for batch in (2, 4, 6))
    assert 0 < four - two == six - four < two


@pytest.mark.parametrize("name", ["cub", "ilsvrc"])
def test_the_profiles_header_states_the_estimate(name):
    work = plan.at_paper_scale(profiles.get(name))
    found = plan.stages(work, plan.with_cores(plan.counted(work.classes)), ONE)
    header = " ".join(profiles.PROFILES[name].__doc__.split())
    assert f"{found['GPU hours'].sum():.2f} GPU hours" in header
    assert f"{plan.training_bytes(work.classes, work.batch_size) / 1e9:.1f} GB beside" in header
    assert f"{found['stored'].sum() / 1e9:,.1f} GB for the cache" in header
