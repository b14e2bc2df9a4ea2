"""SCM's layers spread attention along what is alike, stop at its edge, and are gone at test time."""

import pytest
import torch

from tedloc.backbones.attention import AttentionViT
from tedloc.methods.scm import ITERATIONS, Diffusion, SCMNet, grid_laplacian, newton_schulz
from tedloc.methods.ts_cam import Coupled, TSCAMNet, semantic_head

OBJECT = torch.zeros(10, 10, dtype=torch.bool)
OBJECT[2:7, 2:8] = True


def scene(images: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """Class maps of an object on a ground, each alike in itself; speckled attention, higher on the object."""
    random = torch.Generator().manual_seed(0)
    inside, outside = torch.randn(2, images, 20, 1, 1, generator=random)
    noise = 0.5 * torch.randn(images, 20, 10, 10, generator=random)
    class_maps = torch.where(OBJECT, inside, outside) + noise
    attention = torch.rand(images, 10, 10, generator=random) * torch.where(OBJECT, 1.0, 0.2)
    return class_maps, attention / attention.sum((1, 2), keepdim=True)


def calibrate(class_maps: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
    net = SCMNet(torch.nn.Identity(), semantic_head(4, 20))
    return net.calibrate(Coupled(attention, class_maps, class_maps.mean((2, 3)))).attention


def roughness(maps: torch.Tensor) -> float:
    """Squared differences of neighbours on the object by the variance there: free of scale and offset."""
    part = maps[:, 2:7, 2:8]
    steps = part.diff(dim=1).square().mean((1, 2)) + part.diff(dim=2).square().mean((1, 2))
    return (steps / part.flatten(1).var(1)).mean().item()


@torch.no_grad()
def test_the_calibrated_map_is_smoother_along_the_object_than_ts_cams():
    class_maps, attention = scene()
    calibrated = calibrate(class_maps, attention)
    assert roughness(calibrated) < 0.8 * roughness(attention)  # TS-CAM's attention is what comes in
    assert (calibrated[:, OBJECT].mean(1) > 1.5 * calibrated[:, ~OBJECT].mean(1)).all()


@torch.no_grad()
def test_the_smoothing_comes_from_patches_that_are_alike():
    class_maps, attention = scene()
    order = torch.randperm(100, generator=torch.Generator().manual_seed(1))
    elsewhere = class_maps.flatten(2)[:, :, order].view_as(class_maps)
    assert roughness(calibrate(class_maps, attention)) < 0.9 * roughness(calibrate(elsewhere, attention))


def test_newton_schulz_inverts():
    random, eye = torch.Generator().manual_seed(0), torch.eye(30)
    matrix = 5 * eye + torch.randn(2, 30, 30, generator=random) / 2
    found = newton_schulz(matrix, eye, 16)
    assert torch.allclose(found.mT, torch.linalg.inv(matrix), atol=1e-5)
    errors = [(newton_schulz(matrix, eye, n).mT @ matrix - eye).norm() for n in (4, 8, 12)]
    assert errors[0] > errors[1] > errors[2]


def test_it_takes_the_steps_of_newton_schulz():
    random = torch.Generator().manual_seed(0)
    matrix, values = 3 * torch.randn(2, 9, 9, generator=random), torch.randn(2, 9, 1, generator=random)
    inverse = 0.002 * matrix.mT
    for step in range(1, 5):
        inverse = inverse @ (2 * torch.eye(9) - matrix @ inverse)
        assert torch.allclose(newton_schulz(matrix, values, step), inverse.mT @ values, atol=1e-5)


def test_of_a_singular_graph_it_finds_the_pseudo_inverse():
    matrix, eye = grid_laplacian(5, 5).double(), torch.eye(25, dtype=torch.float64)
    assert torch.linalg.matrix_rank(matrix) == 24
    assert torch.allclose(newton_schulz(matrix, eye, 24), torch.linalg.pinv(matrix), atol=1e-6)


def test_the_laplacian_sums_squared_differences_of_the_four_neighbours():
    values = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    energy = values.flatten() @ grid_laplacian(4, 6) @ values.flatten()
    differences = values.diff(dim=0).square().sum() + values.diff(dim=1).square().sum()
    assert energy.item() == pytest.approx(differences.item())


def test_lambda_and_theta_learn():
    class_maps, attention = scene(images=4)
    layers = [Diffusion(iterations) for iterations in ITERATIONS]
    for layer in layers:
        class_maps, attention = layer(class_maps, attention)
    torch.nn.functional.cross_entropy(class_maps.mean((2, 3)), torch.arange(4)).backward()
    for layer in layers:
        assert layer.similarity.grad.isfinite() and layer.similarity.grad != 0
        assert layer.threshold.grad.isfinite() and layer.threshold.grad != 0


@torch.no_grad()
def test_training_in_bf16_calibrates_as_in_float32():
    class_maps, attention = scene(images=4)
    with torch.autocast("cpu", torch.bfloat16):
        low = calibrate(class_maps, attention)
    assert torch.equal(low, calibrate(class_maps, attention))


@torch.no_grad()
def test_at_test_time_scm_is_ts_cam_with_the_same_weights_and_in_training_it_is_not():
    backbone = AttentionViT("aviary/vit")
    torch.manual_seed(0)
    net = SCMNet(backbone, semantic_head(backbone.dim, 20)).eval()
    plain, images = TSCAMNet(backbone, net.head), torch.randn(2, 3, 80, 80)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(net(images), plain(images)))
    net.train()
    backbone.eval()  # batch norm aside, only the calibration differs
    ours, theirs = net(images), plain(images)
    assert not torch.allclose(ours.class_maps, theirs.class_maps, rtol=0.01)
    assert not torch.allclose(ours.attention, theirs.attention, rtol=0.01)
