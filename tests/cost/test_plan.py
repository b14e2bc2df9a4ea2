"""The estimates follow from the counts: more GPUs take less time, the slowest part decides, docstrings say the same."""

import pytest
from closed_forms import vit_flops

from tedloc import profiles
from tedloc.cost import plan

COST = plan.ImageCost(
    encoder=160e9, head=8e9, clip_es=40e9, token_bytes=524288, map_bytes=196, decode=0.002, score=0.003
)
WORK = plan.Work(train=1000, test=100, classes=20, epochs=5, batch_size=16)


def test_eight_gpus_take_an_eighth_of_the_time_where_gpus_are_the_limit():
    one, eight = (plan.stages(WORK, COST, plan.Machine(gpus)) for gpus in (1, 8))
    assert one.loc["pseudo-labels", "limit"] == "GPU"
    assert one.loc["pseudo-labels", "hours"] == pytest.approx(8 * eight.loc["pseudo-labels", "hours"])
    assert (one["GPU hours"] == eight["GPU hours"]).all()


def test_stages_by_gpus_are_those_of_each_machine_and_their_sum():
    machines = [plan.Machine(gpus) for gpus in (1, 64)]
    found, one, eight = plan.by_gpus(WORK, COST, machines), *(plan.stages(WORK, COST, plan.Machine(n)) for n in (1, 8))
    assert list(found.columns) == ["hours, 1 GPU", "hours, 64 GPUs", "GPU hours", "stored (GB)", "limit on 8 GPUs"]
    assert found.loc["training", "hours, 1 GPU"] == one.loc["training", "hours"]
    assert found.loc["all", "GPU hours"] == pytest.approx(one["GPU hours"].sum())
    assert found.loc["all", "stored (GB)"] == pytest.approx(one["stored"].sum() / 1e9)
    assert found["stored (GB)"].isna().tolist() == [stored == 0 for stored in one["stored"]] + [False]
    assert list(found["limit on 8 GPUs"][:-1]) == list(eight["limit"]) and found["limit on 8 GPUs"].isna()["all"]


def test_the_slowest_of_gpu_cores_and_disk_decides():
    slow_cores = plan.stages(WORK, COST, plan.Machine(cores=0.01))
    assert slow_cores.loc["evaluation", "limit"] == "CPU cores"
    assert slow_cores.loc["evaluation", "hours"] == pytest.approx(100 * 0.005 / 0.01 / 3600)
    slow_disk = plan.stages(WORK, COST, plan.Machine(disk=1e5))
    assert slow_disk.loc["training", "limit"] == "disk"
    assert slow_disk.loc["training", "hours"] == pytest.approx(5000 * 524288 / 1e5 / 3600)


def test_the_cache_is_as_large_as_its_embeddings_and_pays_after_some_epochs():
    once, often = (plan.Work(10**6, 100, 20, epochs, 16) for epochs in (1, 10))
    machine = plan.Machine()

    def hours(work, cached):
        return plan.stages(work, COST, machine, cached)["hours"].sum()

    assert plan.stages(once, COST, machine).loc["cache of patch embeddings", "stored"] == 2 * 10**6 * 524288
    assert hours(once, True) > hours(once, False) and hours(often, True) < hours(often, False)


def test_counts_are_those_of_the_architectures():
    cost = plan.counted(classes=200)
    closed = vit_flops(depth=24, width=1024, patches=256, patch_values=588, hidden=4096)
    assert cost.encoder == pytest.approx(closed, rel=1e-3)
    assert cost.token_bytes == 1024 * 16 * 16 * 2 and cost.map_bytes == 14 * 14


def test_activations_grow_with_the_batch_and_the_weights_stay():
    two, four, six = (plan.training_bytes(200, batch) for batch in (2, 4, 6))
    assert 0 < four - two == six - four < two


@pytest.mark.parametrize("name", ["cub", "ilsvrc"])
def test_the_profiles_header_states_the_estimate(name):
    profile = profiles.get(name)
    work = plan.at_paper_scale(profile)
    hours = plan.stages(work, plan.counted(work.classes), plan.Machine())["GPU hours"].sum()
    memory = plan.training_bytes(work.classes, work.batch_size) / 1e9
    header = profiles.PROFILES[name].__doc__
    assert f"{hours:.2f} GPU hours" in " ".join(header.split()) and f"{memory:.1f} GB" in " ".join(header.split())
