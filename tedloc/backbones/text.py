"""Words: prompt templates, background words, and class names as embeddings."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES
from torch import Tensor

from tedloc.backbones import minilm
from tedloc.backbones.clip import Clip, load_clip
from tedloc.data.aviary_scenery import BACKGROUND_WORDS
from tedloc.errors import UserError, choose
from tedloc.settings import ClipESSettings

# a format string, or a function of the class name as open_clip keeps them
Template = str | Callable[[str], str]

TEMPLATES: dict[str, tuple[Template, ...]] = {
    "ted-loc": ("Image of a {}.",),  # the paper's figure 2
    "clip-es": ("a clean origami {}.",),  # CLIP-ES
    # the wordings of the captions that the aviary's CLIP learned from, less the scene
    "aviary": ("a {}", "a photo of a {}", "an image of a {}", "a picture of a {}", "image of a {}"),
    "imagenet-80": tuple(OPENAI_IMAGENET_TEMPLATES),  # CLIP's own prompt ensemble, used by SCLIP and NACLIP
}

# CLIP-ES's list for PASCAL VOC: scenes and things that surround objects
VOC_BACKGROUND = (
    "ground",
    "land",
    "grass",
    "tree",
    "building",
    "wall",
    "sky",
    "lake",
    "water",
    "river",
    "sea",
    "railway",
    "railroad",
    "keyboard",
    "helmet",
    "cloud",
    "house",
    "mountain",
    "ocean",
    "road",
    "rock",
    "street",
    "valley",
    "bridge",
    "sign",
)


def templates(template: str) -> tuple[Template, ...]:
    """Prompt templates behind a name, or a format string such as ``"Image of a {}."`` itself.

    Raises ``UserError`` that lists the known names.
    """
    if "{}" in template:
        return (template,)
    choose("prompt template without {} in it", template, TEMPLATES)
    return TEMPLATES[template]


def class_embeddings(clip: Clip, class_names: Sequence[str], template: str = "ted-loc") -> Tensor:
    """(K, d) unit-norm text embeddings: mean over the templates of unit-norm embeddings, normalised again.

    template: see ``templates``. Serves any words, not only class names. Raises ``UserError`` without a name.
    """
    return _ensemble(clip.encode_text, class_names, template)


def _ensemble(encode: Callable[[list[str]], Tensor], words: Sequence[str], template: str) -> Tensor:
    if not words:
        raise UserError("no class name to embed: give at least one")
    fill = [form if callable(form) else form.format for form in templates(template)]
    embeddings = encode([prompt(word) for word in words for prompt in fill])
    return F.normalize(embeddings.unflatten(0, (len(words), len(fill))).mean(dim=1), dim=-1)


def background_embeddings(clip: Clip, settings: ClipESSettings) -> Tensor | None:
    """(M, d) unit-norm embeddings of the background words that ``settings`` asks for; None for none."""
    words = background_words(settings.background)
    return class_embeddings(clip, words, settings.template) if words else None


def background_words(name: str) -> tuple[str, ...]:
    """Background words by name: ``voc`` (CLIP-ES's 25), ``aviary`` (the scenery it draws) or ``none``."""
    choose("list of background words", name, ("voc", "aviary", "none"))
    if name == "aviary":
        return tuple(BACKGROUND_WORDS)
    return VOC_BACKGROUND if name == "voc" else ()


def class_text(model: str, class_names: Sequence[str], template: str = "ted-loc") -> Tensor:
    """(K, d) unit-norm class texts from an encoder by name: ``minilm`` or a CLIP (see ``load_clip``)."""
    if model == "minilm":
        return _ensemble(minilm.encode_text, class_names, template)
    return class_embeddings(load_clip(model), class_names, template)
