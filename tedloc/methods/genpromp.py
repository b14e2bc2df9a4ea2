"""GenPromp (Zhao et al., ICCV 2023): localise with a diffusion model's cross-attention to the class's token.

A latent diffusion model that can paint a class knows where it is in a given image: where its U-Net looks at
the class's token while it removes noise. Two kinds of text states stand for a class, both with one token for
the class at the same place:

    f_r   representative: of "a photo of a <new token>"; the token's embedding v, one a class, is learned
    f_d   discriminative: of the class's name, as the frozen text encoder knows it

With z_t the noisy latent of an image and e the noise in it (see ``tedloc.backbones.latent_diffusion``),

    stage 1   min over v      ||e - U(z_t, t, f_r)||^2             v starts from a word of the name
    stage 2   min over U      ||e - U(z_t, t, 0.5 f_r + 0.5 f_d)||^2
    test      f = 0.6 f_r + 0.4 f_d, mean over templates; the U-Net runs at t = 0 and t = 99, and the map is
              its mean cross-attention to the class's token at the coarser resolutions, upsampled

The class comes from a separate classifier, here the linear one on the frozen encoder.
"""

import importlib.util
import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tedloc import paths
from tedloc.backbones.latent_diffusion import AVIARY, Diffusion, Text, load_diffusion, missing_folders
from tedloc.backbones.preprocessing import Preprocessing
from tedloc.errors import UserError
from tedloc.fingerprints import digest
from tedloc.methods import Method, Route
from tedloc.methods.cam import LinearCAM
from tedloc.methods.trained import subfolder
from tedloc.settings import OptimiserSettings
from tedloc.training import engine
from tedloc.training.distributed import Draws

# After these openings the class's token stands at place 5, as published. Which seven were published is not in
# our sources.
TEMPLATES = (
    "a photo of a {}",
    "an image of a {}",
    "a picture of a {}",
    "a rendering of a {}",
    "a drawing of a {}",
    "a painting of a {}",
    "a depiction of a {}",
)
AVIARY_TEMPLATES = ("a photo of a {}", "an image of a {}", "a picture of a {}")  # its CLIP knows no others
STABLE = "stable-diffusion-v1-4"  # a folder below TEDLOC_DATA


def class_word(name: str) -> str:
    """The word that says what a class is: the last of its name, before any "with ...".

    Published: the last word of the first synonym that is a single token.
    """
    return name.partition(" with ")[0].replace("-", " ").split()[-1]


class Prompts:
    """Token ids of every class's prompts, (K, T, L) for T templates, and the class token's ``position``.

    representative, discriminative: the opening and then the new token, or the name
    aligned: (K, L) places of the discriminative states, in the order of the representative ones: the opening,
        the name's class word (its state has read the words before it), the end token and on. For names of
        more than one word this is our choice.

    Raises ``UserError`` for templates that put the class at different places.
    """

    def __init__(self, model: Diffusion, names: Sequence[str], templates: Sequence[str]):
        openings = [template.removesuffix("{}") for template in templates]
        positions = {model.position(opening) for opening in openings}
        if len(positions) > 1:
            raise UserError(
                f"templates {', '.join(templates)} put the class at different places; give them "
                "openings of as many words"
            )
        (self.position,) = positions
        words = model.text.words
        size, last = model.text.vocabulary.table.num_embeddings, model.text.length - 1
        self.class_words = [words(class_word(name)) for name in names]
        whole = [words(name) for name in names]
        upto = [len(words(name.partition(" with ")[0])) for name in names]
        self.representative = torch.stack(
            [model.prompts(o, [[size + k] for k in range(len(names))]) for o in openings], 1
        )
        self.discriminative = torch.stack([model.prompts(o, whole) for o in openings], 1)
        rest = torch.arange(last - self.position)
        self.aligned = (
            torch.stack(
                [
                    torch.cat(
                        [
                            torch.arange(self.position),
                            torch.tensor([self.position + n - 1]),
                            self.position + len(ids) + rest,
                        ]
                    )
                    for n, ids in zip(upto, whole, strict=True)
                ]
            )
            .clamp_max(last)
            .to(model.device)
        )  # (K, L)


class ClassTokens(nn.Module):
    """The representative embeddings v: (K, D)."""

    def __init__(self, start: Tensor):
        super().__init__()
        self.embedding = nn.Parameter(start.clone())


def attention_map(maps: dict[str, Tensor], position: int, levels: Sequence[int], side: int) -> Tensor:
    """(B, side, side): mean attention to one token over the heads and layers of some resolutions.

    maps: by layer (B, heads, s, s, L); levels: which of the resolutions s, counted from the coarsest
    """
    sizes = sorted({weights.shape[2] for weights in maps.values()})
    chosen = {sizes[level] for level in levels}
    each = [
        F.interpolate(weights[..., position].mean(1, keepdim=True), size=(side, side), mode="bilinear")
        for weights in maps.values()
        if weights.shape[2] in chosen
    ]
    return torch.cat(each, 1).mean(1)


@dataclass(frozen=True)
class GenPrompSettings:
    """weights: a folder with Stable Diffusion v1; None: in the aviary its own model, elsewhere the folder
        ``stable-diffusion-v1-4`` below TEDLOC_DATA
    tokens: optimiser of stage 1; optimiser: of stage 2
    images: training images, drawn by seed, that an epoch of stage 2 shows; None: all
    """

    weights: str | None = None
    times: tuple[int, ...] = (0, 99)  # published
    levels: tuple[int, ...] = (0, 1)  # resolutions from the coarsest; published: 8x8 and 16x16 of 64x64
    train_share: float = 0.5  # of the representative states in the mix; published
    test_share: float = 0.6  # the same; published: 0.6 and 0.4. That it is the former is our reading
    images: int | None = None
    keep_latents: bool = False  # compute the training images' latents once, and hold them in memory
    tokens: OptimiserSettings = OptimiserSettings("adamw", 2, 24, 5e-5, weight_decay=0.0)
    optimiser: OptimiserSettings = OptimiserSettings("adamw", 1, 24, 5e-6, weight_decay=0.01)


class GenPromp(Method):
    """Routes: ``true`` and ``pred``. Scores: the linear classifier's."""

    title = "GenPromp"
    paper_row = "GenPromp"
    uses = ("data", "encoder")
    builds_on = ("cam",)
    _latents: Tensor | None = None
    SETTINGS = {
        # Ours: as many steps as the small profiles' time allows, at rates for a small model.
        "small": GenPrompSettings(
            levels=(1,),
            keep_latents=True,
            tokens=OptimiserSettings("adamw", 1, 32, 3e-3, weight_decay=0.0),
            optimiser=OptimiserSettings("adamw", 2, 32, 3e-4, weight_decay=0.01),
        ),
        # Rates, two epochs of stage 1, and the steps of stage 2 (250 and 600): published. Batches and weight
        # decay: not in our sources; with batches of 24, 250 steps are one epoch of CUB.
        "CUB": GenPrompSettings(),
        "ILSVRC": GenPrompSettings(images=600 * 24),
    }
    SEARCH = {"optimiser.learning_rate": (1e-4, 3e-4, 1e-3), "levels": ((0, 1), (1,))}

    @property
    def optimiser(self) -> OptimiserSettings:
        return self.own.optimiser

    @property
    def weights(self) -> str:
        """What :func:`load_diffusion` is given."""
        aviary = self.profile.data.name == "aviary"
        return self.own.weights or (AVIARY if aviary else str(paths.data() / STABLE))

    @property
    def backbone_name(self) -> str:
        return AVIARY if self.weights == AVIARY else "Stable Diffusion v1"

    def lacks(self) -> str | None:
        if any(importlib.util.find_spec(package) is None for package in ("diffusers", "transformers")):
            return "diffusers and transformers (pip install 'tedloc[diffusion]')"
        if self.weights == AVIARY:
            if re.search(r"-\d+$", self.profile.pseudo_labels.clip):
                return "a diffusion model of this world (there is one of world 0)"
            there = (paths.WEIGHTS / "diffusion.safetensors").exists()
            return None if there else "diffusion.safetensors (data_scripts/train_diffusion.py)"
        missing = missing_folders(Path(self.weights))
        return "Stable Diffusion v1 (a folder in diffusers' layout)" if missing else None

    # Text states.

    def representative(self, labels: Tensor, template: Tensor) -> Text:
        """f_r of some classes (B,), each in one of the templates (B,)."""
        return self.model.embed(self.prompts.representative[labels, template], self.tokens.embedding)

    def mixed(self, share: float, labels: Tensor, template: Tensor) -> Text:
        """share f_r + (1 - share) f_d."""
        own = self.representative(labels, template)
        known = self.model.embed(self.prompts.discriminative[labels, template]).states
        places = self.prompts.aligned[labels][..., None].expand(-1, -1, known.shape[-1])
        return own._replace(states=share * own.states + (1 - share) * known.gather(1, places))

    @torch.no_grad()
    def test_text(self) -> Text:
        """(K, L, D): the mean over the templates."""
        templates = torch.arange(self.prompts.representative.shape[1], device=self.device)
        each = [self.mixed(self.own.test_share, torch.full_like(templates, k), templates) for k in range(self.classes)]
        return Text(
            torch.stack([text.states.mean(0) for text in each]), torch.stack([text.visible[0] for text in each])
        )

    # Training.

    @property
    def classes(self) -> int:
        return len(self.images("train").class_names)

    def build(self) -> None:
        """The pre-trained model, the prompts, and the class tokens where they start."""
        self.model = load_diffusion(self.weights, self.device)
        templates = AVIARY_TEMPLATES if self.weights == AVIARY else TEMPLATES
        self.prompts = Prompts(self.model, self.images("train").class_names, templates)
        table = self.model.text.vocabulary.table.weight
        self.tokens = ClassTokens(torch.stack([table[ids].mean(0) for ids in self.prompts.class_words]))

    def share(self) -> None:
        LinearCAM(self.profile, self.seed, self.device).share()

    def fit(self, folder: Path | None = None) -> None:
        self.classifier = LinearCAM(self.profile, self.seed, self.device)
        self.classifier.fit(subfolder(folder, "classifier"))
        self.build()
        self.fit_prompts(folder)

    def fit_prompts(self, folder: Path | None = None) -> None:
        """Both stages, each in a folder of its own."""
        own, count = self.own, len(self.images("train"))
        self.train_stage(self.tokens, own.tokens, count, self.representative, subfolder(folder, "tokens"))
        self.train_stage(
            self.model.unet,
            own.optimiser,
            min(own.images or count, count),
            lambda labels, template: self.mixed(own.train_share, labels, template),
            subfolder(folder, "unet"),
        )
        self._latents, self.text = None, self.test_text()

    def train_stage(
        self,
        module: nn.Module,
        optimiser: OptimiserSettings,
        count: int,
        text: Callable[[Tensor, Tensor], Text],
        folder: Path | None,
    ) -> None:
        """Train one module alone with the denoising loss, under the text of the stage."""
        checkpoint, key = folder / "checkpoint.safetensors" if folder else None, digest(self.settings())
        module.to(self.device)
        if checkpoint and checkpoint.exists():
            engine.load(module, checkpoint, key)
        else:
            labels = torch.from_numpy(self.images("train").labels)
            # the engine numbers the images from 0; which they are, the seed says
            drawn = torch.randperm(len(labels), generator=engine.generator_for(self.seed, 0)).numpy()
            views, templates = 1 + self.profile.encoder.mirror, self.prompts.representative.shape[1]

            def step(net: nn.Module, index: np.ndarray, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
                index, view, template = drawn[index], draws.randint(views), draws.randint(templates)
                latent, words = self.latents(index, view.cpu()), text(labels[index].to(self.device), template)
                noise, t = draws.randn(*latent.shape[1:]), draws.randint(len(self.model.kept_signal))
                return self.model.loss(latent, words, noise, t), {}

            def ahead(batches: Iterable[np.ndarray]) -> None:
                if not self.own.keep_latents:
                    self.reader("train").ahead(drawn[index] for index in batches)

            module.requires_grad_(True)
            engine.train(module, step, count, optimiser, self.seed, folder, self.device, ahead)
            if checkpoint:
                engine.save(module, checkpoint, key)
        module.requires_grad_(False)

    def latents(self, index: np.ndarray, view: Tensor) -> Tensor:
        """(B, 4, h, w) latents of training images, each as it is or, in view 1, mirrored."""
        read = self.reader("train")
        if not self.own.keep_latents:
            return self.model.encode(read(index), view == 1)
        if self._latents is None:
            count, views = len(self.images("train")), (False, True)[: 1 + self.profile.encoder.mirror]
            batches = np.array_split(np.arange(count), -(-count // 50))
            read.ahead(batches * len(views))
            self._latents = torch.stack(
                [
                    torch.cat([self.model.encode(read(batch), torch.full((len(batch),), each)) for batch in batches])
                    for each in views
                ]
            )
        return self._latents[view, torch.from_numpy(index)]

    # Localization.

    def look(self, latent: Tensor, labels: Tensor, text: Text) -> Tensor:
        """(B, h, w) maps of one class an image: one pass of the U-Net at each of the two times.

        text: of all classes. The noise is drawn by the seed, the same for all images.
        """
        noise = torch.randn(
            latent.shape[1:], generator=engine.generator_for(self.seed, 0, self.device), device=self.device
        ).expand_as(latent)
        chosen = Text(text.states[labels], text.visible[labels])
        passes = [self.model.denoise(self.model.noisy(latent, noise, t), t, chosen, maps=True) for t in self.own.times]
        at, side = self.prompts.position, latent.shape[-1]
        return torch.stack([attention_map(each.maps, at, self.own.levels, side) for each in passes]).mean(0)

    def preprocessing(self) -> Preprocessing:
        return self.model.preprocessing

    def ahead(self, split: str, batches: Iterable[np.ndarray]) -> None:
        first, second = itertools.tee(batches)
        self.classifier.ahead(split, first)
        super().ahead(split, second)

    @torch.inference_mode()
    def localize(self, split: str, index: np.ndarray) -> dict[str, Route]:
        """A predicted class that is not the true one takes two more passes."""
        labels, text = self.labels(split, index), self.text
        scores = self.classifier.localize(split, index)["true"].scores
        latent = self.model.encode(self.reader(split)(index))
        true, guess = self.look(latent, labels, text), scores.argmax(1)
        predicted, wrong = true.clone(), guess != labels
        if wrong.any():
            predicted[wrong] = self.look(latent[wrong], guess[wrong], text)
        return {"true": Route(true, scores), "pred": Route(predicted, scores)}

    def modules(self) -> dict[str, nn.Module]:
        parts = {"autoencoder": self.model.vae, "U-Net": self.model.unet, "text encoder": self.model.text}
        classifier = {f"classifier's {name}": part for name, part in self.classifier.modules().items()}
        return parts | {"class tokens": self.tokens} | classifier
