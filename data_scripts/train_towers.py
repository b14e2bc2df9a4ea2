"""Train the aviary's towers and write them to tedloc/weights/.

    python data_scripts/train_towers.py cnn --seed 0
    python data_scripts/train_towers.py vit --seed 0
    python data_scripts/train_towers.py clip --recipe default --seed 0     (needs the ViT of that seed)
    python data_scripts/train_towers.py clip --recipe hard --seed 0

towers.json says what each took; 3 minutes of drawing come first, once for each seed. Interrupted, the same
command goes on from the last whole pass over the 40,000 images. The seed is the world's: it draws other pre-training
images, starts from other weights and takes another order. All choices were made on pre-training images that are held
out and on the validation split of world 0, never on test.

cnn, vit       classification: every attribute of the bird, bird or not, scene words; the CNN by the mean over its
               grid, the ViT by its class token
clip default   four captions in five leave out crown and wing bar
clip hard      every caption names crown and wing bar, four in five at random: texts of one family nearly coincide

The CLIPs' vision towers start from the ViT.
"""

import hashlib
import itertools
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import open_clip
import safetensors.torch
import timm
import torch
import torch.nn.functional as F
import tyro
from filelock import FileLock
from torch import Tensor, nn
from tqdm import tqdm

from tedloc import paths
from tedloc.backbones import towers
from tedloc.data.aviary import FAMILY_OF
from tedloc.data.aviary import open as open_aviary
from tedloc.data.aviary_drawing import generators
from tedloc.data.aviary_pretraining import ATTRIBUTES, IMAGES, caption, from_attribute_row, mistaken, rendered
from tedloc.errors import UserError, choose, command

PROMPT = "image of a {}."  # for the zero-shot accuracy in towers.json
UNKNOWN = 0.02  # share of caption words that become <unk>, so that unknown words in a prompt are neutral


@dataclass(frozen=True)
class Recipe:
    """What is written to towers.json beside the measured numbers."""

    images: int  # shown in all; the pre-training split has 40,000
    lr: float  # of new weights
    warm_lr: float  # of weights that come from the ViT
    weight_decay: float
    batch: int
    drop_details: float = 0.0  # share of captions that leave out crown and wing bar
    wrong_details: float = 0.0  # share of captions that name a crown and a bar at random
    patch_drop: float = 0.5  # share of patches a ViT does not see (FLIP): 2.4 times as fast
    full_share: float = 0.15  # share of the steps, the last ones, in which it sees all


RECIPES = {
    "cnn": Recipe(images=40_000, lr=2e-3, warm_lr=0.0, weight_decay=0.05, batch=32, patch_drop=0.0, full_share=1.0),
    "vit": Recipe(images=120_000, lr=1.5e-3, warm_lr=0.0, weight_decay=0.05, batch=32),
    "default": Recipe(images=32_000, lr=1.5e-3, warm_lr=3e-4, weight_decay=0.1, batch=64, drop_details=0.8),
    "hard": Recipe(images=32_000, lr=1.5e-3, warm_lr=3e-4, weight_decay=0.1, batch=64, wrong_details=0.8),
}


def normalise(images: np.ndarray, flip: np.ndarray | None = None) -> Tensor:
    """(B, 80, 80, 3) uint8 -> (B, 3, 80, 80) float32, mirrored where ``flip``."""
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(255)
    x = (x - torch.tensor(towers.MEAN).view(3, 1, 1)) / torch.tensor(towers.STD).view(3, 1, 1)
    return torch.where(torch.from_numpy(flip).view(-1, 1, 1, 1), x.flip(3), x) if flip is not None else x


def batches(images: np.ndarray, seed: int, epoch: int, size: int) -> Iterator[tuple[np.ndarray, Tensor]]:
    """One epoch in random order: indices and mirrored images; the last incomplete batch is left out."""
    (rng,) = generators(f"{seed}/order/{epoch}", 1)
    order = rng.permutation(IMAGES)
    for start in range(0, IMAGES - size + 1, size):
        rows = np.sort(order[start : start + size])
        yield rows, normalise(images[rows], rng.random(size) < 0.5)


def head_groups(logits: Tensor) -> dict[str, Tensor]:
    """The logits of a head, split into those of each attribute, bird and scene words."""
    parts = logits.split(list(towers.HEAD_GROUPS.values()), dim=1)
    return dict(zip(towers.HEAD_GROUPS, parts, strict=True))


def attribute_loss(logits: Tensor, rows: Tensor) -> Tensor:
    """Cross entropy of each attribute where there is a bird; binary cross entropy of bird and scene words."""
    groups = head_groups(logits)
    loss = sum(F.cross_entropy(groups[name], rows[:, i], ignore_index=-1) for i, name in enumerate(ATTRIBUTES))
    bird = F.binary_cross_entropy_with_logits(groups["bird"][:, 0], (rows[:, 0] >= 0).float())
    return loss + bird + F.binary_cross_entropy_with_logits(groups["words"], rows[:, len(ATTRIBUTES) :].float())


@torch.no_grad()
def attribute_quality(model: nn.Module, images: np.ndarray, rows: np.ndarray) -> dict[str, float]:
    """Percent right on held-out pre-training images: each attribute, all five at once, bird or not."""
    model.eval()
    logits = torch.cat([model(normalise(images[i : i + 250])) for i in range(0, len(images), 250)])
    groups = head_groups(logits)
    rows = torch.from_numpy(rows.astype(np.int64))
    there = rows[:, 0] >= 0
    right = torch.stack([groups[n].argmax(1) == rows[:, i] for i, n in enumerate(ATTRIBUTES)], 1)[there].float()
    quality = {f"held_out_{name}": 100 * right[:, i].mean().item() for i, name in enumerate(ATTRIBUTES)}
    quality["held_out_all_attributes"] = 100 * right.all(1).float().mean().item() if len(right) else 0.0
    quality["held_out_bird"] = 100 * ((groups["bird"][:, 0] > 0) == there).float().mean().item()
    return quality


@torch.no_grad()
def clip_quality(model: open_clip.CLIP, seed: int) -> dict[str, float]:
    """Zero-shot Top-1 in percent on the validation split, and text cosines inside and across families."""
    model.eval()
    val = open_aviary("val", seed=seed)
    texts = towers.tokenizer()([PROMPT.format(name) for name in val.class_names])
    text = model.encode_text(texts, normalize=True)
    stack = np.stack([val.image(i) for i in range(len(val))])
    image = torch.cat(
        [model.encode_image(normalise(stack[i : i + 250]), normalize=True) for i in range(0, len(val), 250)]
    )
    predicted, labels = (image @ text.T).argmax(1), torch.from_numpy(val.labels)
    family = torch.from_numpy(FAMILY_OF)
    cosine, same = text @ text.T, family[:, None] == family[None]
    inside = cosine[same & ~torch.eye(len(family), dtype=torch.bool)]
    return {
        "zero_shot_val": 100 * (predicted == labels).float().mean().item(),
        "zero_shot_val_family": 100 * (family[predicted] == family[labels]).float().mean().item(),
        "text_cosine_in_family_mean": inside.mean().item(),
        "text_cosine_in_family_min": inside.min().item(),
        "text_cosine_across_families_mean": cosine[~same].mean().item(),
        "logit_scale": model.logit_scale.exp().item(),
    }


def captions_as_tokens(rows: np.ndarray, rng: np.random.Generator, recipe: Recipe) -> Tensor:
    """Fresh captions for these attribute rows, as tokens with a few unknown words."""
    words, texts = towers.tokenizer(), []
    for row in rows:
        bird, scene = from_attribute_row(row)
        if bird and rng.random() < recipe.wrong_details:
            bird = mistaken(bird, rng)
        texts.append(caption(bird, scene, rng, drop_details=recipe.drop_details))
    tokens = words(texts)
    inner = (tokens > words.unknown) & (tokens < words.end)
    return tokens.masked_fill(inner & torch.from_numpy(rng.random(tokens.shape) < UNKNOWN), words.unknown)


def train(name: str, model: nn.Module, patches, recipe: Recipe, seed: int, loss_of, warm: str = "") -> float:
    """Train in place with AdamW and a cosine; resume from the last finished epoch. Returns seconds.

    ``patches`` is a ViT's patch dropout; ``warm`` the prefix of weights that come from the ViT.
    """
    groups = {}
    for key, p in model.named_parameters():
        lr = recipe.warm_lr if warm and key.startswith(warm) and key != f"{warm}proj" else recipe.lr
        decay = recipe.weight_decay if p.ndim >= 2 and "embed" not in key and "token" not in key else 0.0
        groups.setdefault((lr, decay), []).append(p)
    optimizer = torch.optim.AdamW(
        [{"params": p, "lr": lr, "weight_decay": wd} for (lr, wd), p in groups.items()], betas=(0.9, 0.98)
    )
    steps, total = IMAGES // recipe.batch, recipe.images // recipe.batch
    warmup = total // 12
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min((i + 1) / warmup, 0.5 * (1 + math.cos(math.pi * min(1.0, i / total))) + 1e-3)
    )
    fingerprint = json.dumps([name, asdict(recipe), seed])
    checkpoint = paths.cache() / "towers" / f"{name}.pt"
    first, seconds = 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        if saved["fingerprint"] == fingerprint:
            model.load_state_dict(saved["model"])
            optimizer.load_state_dict(saved["optimizer"])
            schedule.load_state_dict(saved["schedule"])
            first, seconds = saved["epoch"], saved["seconds"]
    images, rows = rendered(seed)
    with tqdm(
        total=total * recipe.batch, initial=first * steps * recipe.batch, desc=name, unit="img", mininterval=5
    ) as bar:
        for epoch in range(first, math.ceil(total / steps)):
            model.train()
            start = time.monotonic()
            (rng,) = generators(f"{seed}/{name}/{epoch}", 1)
            torch.manual_seed(int(rng.integers(2**31)))  # patch dropout
            running = []
            for index, x in itertools.islice(batches(images, seed, epoch, recipe.batch), total - epoch * steps):
                done = schedule.last_epoch / total
                if patches is not None:
                    patches.prob = recipe.patch_drop if done < 1 - recipe.full_share else 0.0
                loss = loss_of(model, x, rows[index], rng)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                running.append(loss.item())
                bar.update(recipe.batch)
                bar.set_postfix(epoch=epoch, loss=f"{np.mean(running[-50:]):.3f}", refresh=False)
            seconds += time.monotonic() - start
            with paths.replacing(checkpoint) as scratch:
                torch.save(
                    {
                        "fingerprint": fingerprint,
                        "model": model.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "schedule": schedule.state_dict(),
                        "epoch": epoch + 1,
                        "seconds": seconds,
                    },
                    scratch,
                )
    return seconds


def ship(name: str, model: nn.Module, record: dict) -> None:
    """Write the tower in half precision and its record; both are renamed into place."""
    state = {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in model.state_dict().items()}
    file = paths.WEIGHTS / f"{name}.safetensors"
    with paths.replacing(file) as scratch:
        safetensors.torch.save_file(state, scratch)
    record |= {
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "versions": {
            "torch": torch.__version__,
            "timm": timm.__version__,
            "open_clip": open_clip.__version__,
        },
        "threads": torch.get_num_threads(),
    }
    index = paths.WEIGHTS / "towers.json"
    with FileLock(paths.cache() / "towers" / "towers.lock"):
        known = json.loads(index.read_text()) if index.exists() else {}
        with paths.replacing(index) as scratch:
            scratch.write_text(json.dumps(dict(sorted((known | {name: record}).items())), indent=2) + "\n")
    print(json.dumps({name: record}, indent=2))


def in_half_precision(model: nn.Module) -> nn.Module:
    """Round the weights as they are shipped, so that what is measured is what is shipped."""
    model.load_state_dict({k: v.half().float() if v.is_floating_point() else v for k, v in model.state_dict().items()})
    return model


def _named(base: str, seed: int) -> str:
    return base if seed == 0 else f"{base}-{seed}"


def classifier(kind: Literal["cnn", "vit"], seed: int, model: nn.Module, patches: nn.Module | None) -> None:
    """Train a network to tell attributes, and ship it."""
    recipe, name = RECIPES[kind], _named(kind, seed)

    def loss_of(model, x, rows, rng):
        return attribute_loss(model(x), torch.from_numpy(rows.astype(np.int64)))

    seconds = train(name, model, patches, recipe, seed, loss_of)
    images, rows = rendered(seed)
    quality = attribute_quality(in_half_precision(model), images[IMAGES:], rows[IMAGES:])
    record = {"recipe": asdict(recipe), "seed": seed, "seconds": round(seconds), "measured": quality}
    ship(name, model, {"kind": kind} | record)


def cnn(seed: int = 0, threads: int = 2) -> None:
    """Train the encoder of one seed."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    classifier("cnn", seed, towers.new_cnn(), None)


def vit(seed: int = 0, threads: int = 2) -> None:
    """Train the ViT of one seed."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    model = towers.new_vit()
    model.patch_drop = timm.layers.PatchDropout(RECIPES["vit"].patch_drop, num_prefix_tokens=1)
    classifier("vit", seed, model, model.patch_drop)


def clip(recipe: Literal["default", "hard"] = "default", seed: int = 0, threads: int = 2) -> None:
    """Train a CLIP of one recipe and seed."""
    torch.set_num_threads(threads)
    choose("recipe", recipe, ("default", "hard"))
    settings, name = RECIPES[recipe], _named("clip" if recipe == "default" else f"clip-{recipe}", seed)
    torch.manual_seed(1000 + seed)
    model = towers.new_clip()
    start = _named("vit", seed)
    if start not in towers.records():
        raise UserError(f"tower {start!r} is not there yet; first run: train_towers.py vit --seed {seed}")
    model.visual.load_state_dict(towers.vit_to_clip(towers.load_vit(start).state_dict()), strict=False)
    model.visual.patch_dropout = open_clip.transformer.PatchDropout(settings.patch_drop)
    clip_loss = open_clip.ClipLoss()

    def loss_of(model, x, rows, rng):
        tokens = captions_as_tokens(rows, rng, settings)
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        return clip_loss(*model(x, tokens))

    seconds = train(name, model, model.visual.patch_dropout, settings, seed, loss_of, warm="visual.")
    record = {
        "kind": "clip",
        "recipe": asdict(settings),
        "seed": seed,
        "seconds": round(seconds),
        "vocabulary_sha256": towers.tokenizer().fingerprint(),
        "measured": clip_quality(in_half_precision(model), seed),
    }
    ship(name, model, record)


@command
def main() -> None:
    tyro.extras.subcommand_cli_from_dict({"cnn": cnn, "vit": vit, "clip": clip})


if __name__ == "__main__":
    main()
