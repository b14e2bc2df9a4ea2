"""The compared systems at full size, part by part, with random weights, to be counted and timed.

Each system is a list of parts in the order of inference. Build them below ``torch.device("meta")`` to count,
on a real device to time. CLIP-ES is in ``tedloc.cost.full_size_clip``: these here need no open_clip.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import timm
import torch
from torch import Tensor, nn

from tedloc import profiles
from tedloc.backbones import stable_diffusion
from tedloc.backbones.attention import AttentionViT
from tedloc.cost.complexity import Part, count_parameters
from tedloc.methods import Shape, create
from tedloc.methods.catr import CATR, CATRNet
from tedloc.methods.fine_tuned import DEIT_S
from tedloc.methods.lctr import CueDigging, LCTRNet
from tedloc.methods.ts_cam import TSCAMNet, semantic_head
from tedloc.model import TeDLoc, pool
from tedloc.settings import DecoderSettings

EVA_01, EVA_02 = "eva_large_patch14_196", "eva02_large_patch14_224"  # timm; the paper says only "ViT-EVA-L"
ENCODER_CHANNELS = 1024  # of either


class PatchGrid(nn.Module):
    """A timm transformer without its head: (B, 3, H, W) -> normalised patch tokens (B, C, h, w)."""

    def __init__(self, name: str, image_size: int):
        super().__init__()
        self.tower = timm.create_model(name, img_size=image_size, num_classes=0)
        self.last = [len(self.tower.blocks) - 1]

    def forward(self, images: Tensor) -> Tensor:
        return self.tower.forward_intermediates(images, self.last, norm=True, intermediates_only=True)[0]


def encoder_parameters(name: str = EVA_01, image_size: int = 224) -> int:
    """Learned numbers of an encoder E at full size, counted without making them."""
    with torch.device("meta"):
        return count_parameters(PatchGrid(name, image_size))


@dataclass(frozen=True)
class TeDLocShape:
    """TeD-Loc at full size. Classes and text dimension are those of ILSVRC with CLIP ViT-B/16."""

    encoder: str = EVA_01
    image_size: int = 224
    classes: int = 1000
    anchor_dim: int = 512  # CLIP ViT-B/16; min(K, d) of qr_rows
    decoder: DecoderSettings = field(default_factory=lambda: DecoderSettings(width=192, upsampling=4))


def tedloc(shape: TeDLocShape = TeDLocShape()) -> list[Part]:
    """Encoder E, decoder D, patch classifier g, pooling (Eq. 3) with class scores."""
    encoder = PatchGrid(shape.encoder, shape.image_size)
    channels = encoder.tower.num_features
    model = TeDLoc(channels, torch.empty(shape.classes, shape.anchor_dim), shape.decoder)
    images = torch.zeros(1, 3, shape.image_size, shape.image_size)
    rows = shape.image_size // encoder.tower.patch_embed.patch_size[0]
    tokens = torch.zeros(1, channels, rows, rows)
    z = torch.zeros(1, shape.anchor_dim, rows * shape.decoder.upsampling, rows * shape.decoder.upsampling)

    anchors = nn.ParameterList([model.anchors])  # frozen, but carried with the model and read at inference

    def classify(z: Tensor, g: Tensor) -> Tensor:
        return nn.functional.linear(pool(z, g.sigmoid()), anchors[0])

    return [
        Part("encoder E", encoder, (images,)),
        Part("decoder D", model.decoder, (tokens,)),
        Part("patch classifier g", model.g, (z,)),
        Part("pooling and scores", anchors, (z, z[:, 0]), classify),
    ]


def with_decoder(width: int, upsampling: int, convs: int) -> TeDLocShape:
    """TeD-Loc at full size with another decoder."""
    return TeDLocShape(decoder=DecoderSettings(width=width, upsampling=upsampling, convs=convs))


def trained_parameters(shape: TeDLocShape) -> int:
    """Parameters of decoder and g: all that is trained."""
    with torch.device("meta"):
        model = TeDLoc(ENCODER_CHANNELS, torch.empty(shape.classes, shape.anchor_dim), shape.decoder)
    return count_parameters(model)


def width_that_holds(parameters: float, upsampling: int, convs: int) -> int:
    """The decoder width at which decoder and g have the given number of parameters, or just fewer."""
    narrow, wide = 1, 16_384
    while wide - narrow > 1:
        middle = (narrow + wide) // 2
        fits = trained_parameters(with_decoder(middle, upsampling, convs)) <= parameters
        narrow, wide = (middle, wide) if fits else (narrow, middle)
    return narrow


def vit_method(net_of: Callable[[AttentionViT, int], nn.Module], classes: int, image_size: int) -> list[Part]:
    """A method on DeiT-S in one pass: scores and the predicted class's map. net_of: (backbone, K) -> its network."""
    device = torch.empty(0).device  # get_default_device() of PyTorch 2.6 passes over `with torch.device`
    with torch.device("cpu"):  # the encoder's loader moves it there
        net = net_of(AttentionViT(DEIT_S, image_size, "random"), classes).to(device)

    def localise(images: Tensor) -> Tensor:
        found = net(images)
        return found.of(found.scores.argmax(dim=1))

    return [Part("DeiT-S with head", net, (torch.zeros(1, 3, image_size, image_size),), localise)]


def ts_cam(classes: int = 1000, image_size: int = 224) -> list[Part]:
    """TS-CAM. SCM costs the same: its extra layers act in training."""
    return vit_method(lambda vit, k: TSCAMNet(vit, semantic_head(vit.dim, k)), classes, image_size)


def lctr(classes: int = 1000, image_size: int = 224) -> list[Part]:
    """LCTR: relational attention, a head of four experts."""
    return vit_method(lambda vit, k: LCTRNet(vit, CueDigging(vit.dim, k)), classes, image_size)


def catr(classes: int = 1000, image_size: int = 224) -> list[Part]:
    """CATR: its stimulation runs at test time; its object constraint does not, and is held all the same."""
    early = CATR.SETTINGS["ILSVRC"].early
    return vit_method(lambda vit, k: CATRNet(vit, semantic_head(vit.dim, k), k, early), classes, image_size)


ON_ENCODER = ("cam", "da-wsol", "bas", "dips", "psol")


def on_encoder(name: str, classes: int = 1000, image_size: int = 224) -> list[Part]:
    """A compared method on the frozen EVA-01-L: the encoder, and what the method runs on its patch embeddings.

    name: one of ``ON_ENCODER``; its network is the method's own, with the settings for ILSVRC
    """
    encoder, side = PatchGrid(EVA_01, image_size), image_size // 14
    method = create(name, profiles.get("ilsvrc"))
    shape = Shape(ENCODER_CHANNELS, (side, side), classes)
    parts = nn.ModuleList(method.untrained(shape).values()).eval()
    labels = torch.zeros(1, dtype=torch.long)
    return [
        Part("encoder E", encoder, (torch.zeros(1, 3, image_size, image_size),)),
        Part(
            "what the method adds",
            parts,
            (torch.zeros(1, ENCODER_CHANNELS, side, side),),
            lambda x: method.routes(parts[0], x, labels),
        ),
    ]


def genpromp(classes: int = 1000, steps: int = 2, classifier_size: int = 600) -> list[Part]:
    """GenPromp: external classifier, then Stable Diffusion v1 at 512x512 with ``steps`` U-Net passes.

    classes: one learned word each. steps: the released inference takes two timesteps; the paper says 2 to 99.
    The VAE's decoder is listed with no pass: it is part of the loaded model, and no map needs it.
    """
    autoencoder = stable_diffusion.vae()
    image = torch.zeros(1, 3, stable_diffusion.IMAGE_SIZE, stable_diffusion.IMAGE_SIZE)
    prompt = torch.zeros(1, stable_diffusion.TEXT_LENGTH, dtype=torch.long)
    latent = stable_diffusion.example_inputs()
    return [
        Part(
            "EfficientNet-B7",
            timm.create_model("tf_efficientnet_b7"),
            (torch.zeros(1, 3, classifier_size, classifier_size),),
        ),
        Part("text encoder", stable_diffusion.text_encoder(classes), (prompt,)),
        Part("VAE encoder", stable_diffusion.VAEEncoder(autoencoder), (image,)),
        Part("U-Net", stable_diffusion.unet(), latent, passes=steps),
        Part("VAE decoder", stable_diffusion.VAEDecoder(autoencoder), latent[:1], passes=0),
    ]
