"""Counts agree with closed forms and with the numbers that the compared systems are known by."""

import pytest
import timm
import torch
from closed_forms import vit_flops
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from tedloc import paper
from tedloc.backbones import stable_diffusion
from tedloc.cost import full_size
from tedloc.cost.complexity import (
    LatencySettings,
    Part,
    cost,
    costs,
    count_parameters,
    image_time,
    latencies,
    latency,
    stored_parameters,
    total,
)
from tedloc.errors import UserError
from tedloc.settings import DecoderSettings

DEIT_S = {"depth": 12, "width": 384, "patches": 196, "patch_values": 768, "hidden": 1536}
EVA_L = {"depth": 24, "width": 1024, "patches": 256, "patch_values": 588, "hidden": 4096}


def on_meta(make, *arguments):
    with torch.device("meta"):
        return make(*arguments)


@pytest.mark.parametrize(
    "name, shape",
    [
        ("deit_small_patch16_224", DEIT_S),
        (full_size.EVA_01, EVA_L),
        (full_size.EVA_02, EVA_L | {"hidden": 2730, "gated": True}),
    ],
)
def test_counted_flops_are_the_closed_form_of_a_vit(name, shape):
    grid = on_meta(full_size.PatchGrid, name, 224)
    assert cost(grid, torch.zeros(1, 3, 224, 224, device="meta")).flops == vit_flops(**shape)


def test_attention_is_counted_on_a_real_cpu_too():
    # torch's counter knows no formula for fused CPU attention and would count it as nothing
    images = torch.zeros(1, 3, 32, 32)
    tiny = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0)
    expected = vit_flops(12, 192, 4, 768, 768)
    found = cost(tiny, images)
    assert found.flops == expected
    assert found.attention_flops == 12 * 4 * 5**2 * 192


def test_a_mac_is_two_flops_and_shared_weights_count_once():
    layer = nn.Linear(4, 8, bias=False)
    found = cost(nn.ModuleList([layer, layer]), torch.zeros(3, 4), call=layer)
    assert (found.parameters, found.flops, found.macs) == (32, 2 * 3 * 4 * 8, 3 * 4 * 8)


def test_activation_memory_is_the_peak_of_what_lives_at_once():
    chain = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    # the hidden layer before and after ReLU, four bytes each; weights and inputs are not activations
    assert cost(chain, torch.zeros(1, 4)).activation_bytes == (8 + 8) * 4


def test_fused_attention_stores_no_score_matrix():
    def attend(x):
        return F.scaled_dot_product_attention(x, x, x)

    x = torch.zeros(1, 1, 1000, 4)
    found = cost(nn.Module(), x, call=attend)
    assert found.activation_bytes == 1000 * 4 * 4
    assert found.flops == found.attention_flops == 2 * 2 * 1000**2 * 4


def test_arithmetic_without_a_formula_is_named():
    found = cost(nn.Sequential(nn.Linear(4, 8), nn.GELU()), torch.zeros(2, 4))
    assert found.uncounted == {"gelu": 16}


def test_ts_cam_has_the_papers_parameters():
    parts = on_meta(full_size.ts_cam)
    assert round(costs(parts)["parameters"].sum() / 1e6, 2) == paper.value(3, "TS-CAM", "Parameters")


def test_tedlocs_decoder_and_heads_do_at_most_a_tenth_of_the_encoders_work():
    parts = costs(on_meta(full_size.tedloc))
    assert parts["flops"].iloc[1:].sum() <= 0.1 * parts["flops"].iloc[0]


def test_a_wider_decoder_costs_more():
    narrow, wide = (
        total(costs(on_meta(full_size.tedloc, full_size.TeDLocShape(decoder=DecoderSettings(width=w)))))
        for w in (64, 128)
    )
    assert wide["parameters"] > narrow["parameters"] and wide["flops"] > narrow["flops"]


def test_the_width_that_holds_a_number_of_parameters_is_the_widest_that_does():
    budget = 10_000_000
    width = full_size.width_that_holds(budget, upsampling=4, convs=1)
    fewer, more = (full_size.trained_parameters(full_size.with_decoder(w, 4, 1)) for w in (width, width + 1))
    assert fewer <= budget < more
    assert on_meta(full_size.tedloc)[0].module.tower.num_features == full_size.ENCODER_CHANNELS


def test_total_multiplies_work_by_passes_and_keeps_idle_parameters_apart():
    layer, idle = nn.Linear(4, 8, bias=False), nn.Linear(4, 100, bias=False)
    x = torch.zeros(1, 4)
    found = total(costs([Part("denoiser", layer, (x,), passes=3), Part("decoder", idle, (x,), passes=0)]))
    assert found["flops"] == 3 * 2 * 32
    assert (found["parameters"], found["parameters_run"]) == (432, 32)


def test_a_latency_reports_quartiles_and_conditions():
    found = latency(lambda: None, settings=LatencySettings(warmup=2, passes=50))
    assert (found.passes, found.warmup, found.device, found.precision) == (50, 2, "cpu", "float32")
    assert 0 <= found.low <= found.median <= found.high


def test_timing_stops_at_its_limit_but_times_at_least_one_pass():
    found = latency(lambda: torch.ones(1), settings=LatencySettings(warmup=10**9, passes=10**9, seconds=0.0))
    assert found.passes == 1 and found.warmup <= 1
    assert "in one pass" in str(found)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_said_in_a_sentence():
    with pytest.raises(UserError, match="PyTorch finds no GPU here"):
        latency(lambda: None, device="cuda")


def test_timing_in_bf16_computes_in_bf16():
    seen, layer = [], nn.Linear(4, 4)
    found = latency(
        lambda: seen.append(layer(torch.ones(1, 4)).dtype), settings=LatencySettings(0, 1, precision="bf16")
    )
    assert (found.precision, seen) == ("bf16", [torch.bfloat16])
    with pytest.raises(UserError, match="unknown precision 'fp8'; choose one of: bf16, float32"):
        latency(lambda: None, settings=LatencySettings(precision="fp8"))


def test_parts_on_the_meta_device_are_timed_with_real_weights_and_given_back():
    def make():
        return [Part("a", nn.Linear(4, 4), (torch.zeros(1, 4),)), Part("b", nn.Linear(4, 4), (), passes=0)]

    parts = on_meta(make)
    found = latencies(parts, settings=LatencySettings(warmup=1, passes=3))
    assert set(found) == {"a"} and found["a"].passes == 3
    assert parts[0].module.weight.is_meta


def test_an_image_takes_its_parts_as_often_as_it_needs_them():
    once, thrice, idle = (Part(name, nn.Identity(), (), passes=n) for name, n in (("a", 1), ("b", 3), ("c", 0)))
    timed = {"a": latency(lambda: None, settings=LatencySettings(0, 2)), "b": latency(lambda: None)}
    expected = timed["a"].median + 3 * timed["b"].median
    assert image_time([once, thrice, idle], timed) == pytest.approx(expected)


def test_stored_parameters_are_counted_by_the_part_they_belong_to(tmp_path):
    file = tmp_path / "weights.safetensors"
    save_file({"unet.a.weight": torch.zeros(3, 4), "unet.b": torch.zeros(5), "vae.a": torch.zeros(())}, file)
    assert stored_parameters(file).to_dict() == {"unet": 17, "vae": 1}


def test_the_encoder_is_counted_without_being_made():
    assert full_size.encoder_parameters() == count_parameters(on_meta(full_size.PatchGrid, full_size.EVA_01, 224))


def test_stable_diffusion_has_the_parameters_the_paper_lists():
    pytest.importorskip("diffusers", reason="diffusers (tedloc[diffusion]) is not installed")
    parts = {part.name: part.module for part in on_meta(full_size.genpromp)}
    millions = {name: sum(p.numel() for p in module.parameters()) / 1e6 for name, module in parts.items()}
    assert round(millions["U-Net"], 1) == 859.5
    assert round(millions["VAE encoder"] + millions["VAE decoder"], 2) == 83.65
    assert round(millions["EfficientNet-B7"], 2) == pytest.approx(66.35)
    assert round(millions["text encoder"], 2) == 123.83  # with one learned word for each of 1,000 classes
    assert round(sum(millions.values()), 2) == paper.value(6, "GenPromp", "Parameters")


def test_a_missing_library_is_named_with_its_remedy():
    with pytest.raises(UserError, match=r"tedloc\[diffusion\]"):
        stable_diffusion.library("no_such_library")


@pytest.mark.parametrize("name", full_size.ON_ENCODER)
def test_a_method_on_the_frozen_encoder_adds_little_to_it(name):
    parts = costs(on_meta(lambda: full_size.on_encoder(name)))
    assert parts.loc["encoder E", "parameters"] == pytest.approx(303.1e6, rel=1e-3)
    added = parts.loc["what the method adds"]
    assert added["flops"] > 0 and added["parameters"] >= 1024 * 1000 * (name != "psol")


def test_every_method_on_deit_is_counted_from_its_own_network():
    found = {make.__name__: costs(on_meta(make)).iloc[0] for make in (full_size.ts_cam, full_size.lctr, full_size.catr)}
    assert found["lctr"]["parameters"] > found["ts_cam"]["parameters"]
    assert found["catr"]["flops"] > found["ts_cam"]["flops"]
