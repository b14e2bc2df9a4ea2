"""Train the aviary's latent diffusion model and write it to tedloc/weights/.

    python data_scripts/train_diffusion.py --seed 0      (needs clip.safetensors; 22 minutes on one core)

First the autoencoder, on crops; then the U-Net, on the latents of whole images, with captions as the towers'.
diffusion.json says what it took. 5 minutes of drawing come first, unless the towers' images are still in the
cache. Interrupted, the same command goes on from the last 250 steps. It looks at pre-training images alone.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import diffusers
import numpy as np
import open_clip
import safetensors.torch
import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn
from tqdm import tqdm
from train_towers import captions_as_tokens, in_half_precision

from tedloc import paths
from tedloc.backbones import towers
from tedloc.backbones.latent_diffusion import LATENT, Diffusion, new_diffusion, trained_parts
from tedloc.data.aviary_drawing import generators
from tedloc.data.aviary_pretraining import HELD_OUT, IMAGES, rendered
from tedloc.errors import UserError, command

CHUNK = 250  # steps between checkpoints, with generators of their own: a resumed run ends in the same weights


@dataclass(frozen=True)
class Recipe:
    """What is written to diffusion.json beside the measured numbers."""

    crops: int = 24_000  # the autoencoder sees, in all
    crop: int = 32  # their side; the autoencoder is convolutional, so a sixth of the pixels will do
    vae_lr: float = 2e-3
    vae_batch: int = 32
    kl: float = 1e-4  # weight of the mean divergence of a latent number beside the mean error of a pixel
    latents: int = 20_000  # different images that the U-Net sees, half of them mirrored
    images: int = 60_000  # it sees in all
    lr: float = 1e-3
    batch: int = 32
    weight_decay: float = 0.01
    drop_details: float = 0.3  # share of captions that leave out crown and wing bar
    wrong_details: float = 0.0


Step = Callable[[np.random.Generator, torch.Generator], Tensor]  # -> loss


def train(
    name: str,
    module: nn.Module,
    lr: float,
    weight_decay: float,
    steps: int,
    batch: int,
    recipe: Recipe,
    seed: int,
    step: Step,
) -> float:
    """Train in place with AdamW and a cosine; resume from the last whole chunk. Returns seconds."""
    optimizer = torch.optim.AdamW(module.parameters(), lr, betas=(0.9, 0.98), weight_decay=weight_decay)
    warmup = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min((i + 1) / warmup, 0.5 * (1 + math.cos(math.pi * min(1.0, i / steps))) + 1e-3)
    )
    fingerprint = json.dumps([name, asdict(recipe), seed, text_sha256()])
    checkpoint = paths.cache() / "towers" / f"diffusion-{name}.pt"
    first, seconds = 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        if saved["fingerprint"] == fingerprint:
            module.load_state_dict(saved["module"])
            optimizer.load_state_dict(saved["optimizer"])
            schedule.load_state_dict(saved["schedule"])
            first, seconds = saved["steps"], saved["seconds"]
    module.train().requires_grad_(True)
    with tqdm(total=steps * batch, initial=first * batch, desc=name, unit="img", mininterval=5) as bar:
        for start in range(first, steps, CHUNK):
            begun, running = time.monotonic(), []
            (rng,) = generators(f"{seed}/diffusion/{name}/{start}", 1)
            noise = torch.Generator().manual_seed(int(rng.integers(2**31)))
            stop = min(start + CHUNK, steps)
            for _ in range(start, stop):
                loss = step(rng, noise)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(module.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                running.append(loss.item())
                bar.update(batch)
                bar.set_postfix(loss=f"{np.mean(running[-100:]):.4f}", refresh=False)
            seconds += time.monotonic() - begun
            with paths.replacing(checkpoint) as scratch:
                torch.save(
                    {
                        "fingerprint": fingerprint,
                        "module": module.state_dict(),
                        "steps": stop,
                        "optimizer": optimizer.state_dict(),
                        "schedule": schedule.state_dict(),
                        "seconds": seconds,
                    },
                    scratch,
                )
    module.eval().requires_grad_(False)
    return seconds


def text_sha256() -> str:
    """Which text tower the U-Net learns to read."""
    known = towers.records()
    if "clip" not in known:
        raise UserError("tower 'clip' is not there yet; first run: train_towers.py clip --recipe default")
    return known["clip"]["sha256"]


def pixels(images: np.ndarray) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) from -1 to 1."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def train_autoencoder(model: Diffusion, images: np.ndarray, recipe: Recipe, seed: int) -> float:
    """Absolute and squared error of a crop's pixels, and a little of the divergence from a unit Gaussian."""
    vae, side = model.vae, recipe.crop

    def step(rng: np.random.Generator, noise: torch.Generator) -> Tensor:
        rows = np.sort(rng.choice(IMAGES, recipe.vae_batch, replace=False))
        corners = rng.integers(0, towers.IMAGE_SIZE - side + 1, (len(rows), 2))
        x = pixels(np.stack([images[i, y : y + side, x : x + side] for i, (y, x) in zip(rows, corners, strict=True)]))
        x = x.flip(-1) if rng.random() < 0.5 else x
        posterior = vae.encode(x).latent_dist
        told = vae.decode(posterior.sample(noise)).sample
        divergence = posterior.kl().mean() / posterior.mean[0].numel()
        return F.l1_loss(told, x) + F.mse_loss(told, x) + recipe.kl * divergence

    steps = recipe.crops // recipe.vae_batch
    return train("vae", vae, recipe.vae_lr, 0.0, steps, recipe.vae_batch, recipe, seed, step)


@torch.no_grad()
def latents_of(model: Diffusion, images: np.ndarray, rows: np.ndarray, mirrored: np.ndarray) -> Tensor:
    """(N, 4, 20, 20) latents of some images, not yet of unit variance."""
    found, size = torch.empty(len(rows), *LATENT), 50
    for i in tqdm(range(0, len(rows), size), desc="latents", unit="batch"):
        x = pixels(images[rows[i : i + size]])
        x = torch.where(torch.from_numpy(mirrored[i : i + size])[:, None, None, None], x.flip(-1), x)
        found[i : i + size] = model.vae.encode(x).latent_dist.mode()
    return found


def train_unet(model: Diffusion, latents: Tensor, attributes: np.ndarray, recipe: Recipe, seed: int) -> float:
    """The denoising loss. latents: (N, 4, 20, 20) of unit variance; attributes: (N, A), what captions say."""

    def step(rng: np.random.Generator, generator: torch.Generator) -> Tensor:
        rows = rng.choice(len(latents), recipe.batch, replace=False)
        ids = captions_as_tokens(attributes[rows], rng, recipe)
        with torch.no_grad():
            text = model.embed(ids)
        noise = torch.randn(len(rows), *LATENT, generator=generator)
        t = torch.randint(len(model.kept_signal), (len(rows),), generator=generator)
        return model.loss(latents[rows], text, noise, t)

    steps = recipe.images // recipe.batch
    return train("unet", model.unet, recipe.lr, recipe.weight_decay, steps, recipe.batch, recipe, seed, step)


@torch.no_grad()
def measure(
    model: Diffusion, images: np.ndarray, attributes: np.ndarray, recipe: Recipe, seed: int
) -> dict[str, float]:
    """Errors on held-out pre-training images: of the autoencoder (pixels from -1 to 1), and of the U-Net with
    the images' own captions and with those of other images, beside that of telling no noise."""
    (rng,) = generators(f"{seed}/diffusion/measure", 1)
    latent, squares, signal = [], [], []
    for i in range(0, len(images), 50):
        x = pixels(images[i : i + 50])
        z = model.vae.encode(x).latent_dist.mode()
        squares.append((model.vae.decode(z).sample - x).square().mean())
        signal.append((x - x.mean((2, 3), keepdim=True)).square().mean())
        latent.append(z * model.vae.config.scaling_factor)
    ids, noise = captions_as_tokens(attributes, rng, recipe), torch.Generator().manual_seed(seed)
    sums = {"denoising_loss": [], "denoising_loss_of_zero": [], "denoising_loss_other_captions": []}
    for i, z in enumerate(latent):
        own, other = (model.embed(ids.roll(shift, 0)[50 * i : 50 * i + len(z)]) for shift in (0, 25))
        e = torch.randn(z.shape, generator=noise)
        t = torch.randint(len(model.kept_signal), (len(z),), generator=noise)
        noisy = model.noisy(z, e, t)
        for name, told in (
            ("", model.denoise(noisy, t, own).noise),
            ("_of_zero", torch.zeros_like(e)),
            ("_other_captions", model.denoise(noisy, t, other).noise),
        ):
            sums["denoising_loss" + name].append(F.mse_loss(told, e))
    found = {"reconstruction_mse": squares, "image_variance": signal, **sums}
    return {f"held_out_{name}": torch.stack(values).mean().item() for name, values in found.items()}


def ship(model: Diffusion, record: dict) -> None:
    """Write the weights in half precision and their record; both are renamed into place."""
    state = {
        f"{part}.{name}": value.half().contiguous()
        for part, module in trained_parts(model).items()
        for name, value in module.state_dict().items()
    }
    file = paths.WEIGHTS / "diffusion.safetensors"
    with paths.replacing(file) as scratch:
        safetensors.torch.save_file(state, scratch)
    record |= {
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "versions": {
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "open_clip": open_clip.__version__,
        },
        "threads": torch.get_num_threads(),
    }
    with paths.replacing(file.with_suffix(".json")) as scratch:
        scratch.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


@command
def main() -> None:
    tyro.cli(run)


def run(recipe: Recipe = Recipe(), seed: int = 0, threads: int = 2) -> None:
    """Train, measure and ship the model of one seed. Give one thread where other work shares the cores."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    text, model = text_sha256(), new_diffusion()
    images, attributes = rendered(seed)
    seconds = {"vae": train_autoencoder(model, images, recipe, seed)}
    in_half_precision(model.vae)
    begun = time.monotonic()
    (rng,) = generators(f"{seed}/diffusion/latents", 1)
    rows = np.sort(rng.choice(IMAGES, recipe.latents, replace=False))
    latents = latents_of(model, images, rows, rng.random(len(rows)) < 0.5)
    scale = 1 / latents.std().item()
    model.vae.register_to_config(scaling_factor=scale)
    seconds["latents"] = time.monotonic() - begun
    seconds["unet"] = train_unet(model, latents * scale, attributes[rows], recipe, seed)
    in_half_precision(model.unet)
    held_out = slice(IMAGES, IMAGES + HELD_OUT)
    measured = measure(model, images[held_out], attributes[held_out], recipe, seed)
    ship(
        model,
        {
            "kind": "diffusion",
            "recipe": asdict(recipe),
            "seed": seed,
            "scaling_factor": scale,
            "seconds": {name: round(value) for name, value in seconds.items()},
            "text_sha256": text,
            "measured": measured,
        },
    )


if __name__ == "__main__":
    main()
