"""TeD-Loc: frozen encoder, decoder, patch classifier and orthogonalised text anchors, trained with Eq. 5."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tedloc import losses, sampler
from tedloc.anchors import orthogonalise
from tedloc.backbones.text import class_text
from tedloc.methods import Method, Route, Shape, Teacher, create
from tedloc.methods.pseudo_labels import pseudo_label_cams, teacher_of
from tedloc.methods.trained import Batch, Trained
from tedloc.model import TeDLoc, anchor_maps
from tedloc.settings import OptimiserSettings


class TeDLocMethod(Trained):
    """Routes: ``g``, the patch classifier's map M; ``anchor-true`` and ``anchor-pred``, <z_p, t_y>."""

    title = "TeD-Loc"
    paper_row = "TeD-Loc"
    true_route = "g"
    uses = ("data", "encoder", "anchors", "pseudo_labels", "decoder", "sampler", "loss", "optimiser")
    SEARCH = {  # drawn from ranges, as in the paper: tedloc.tune
        **{f"loss.{name}": () for name in ("kd", "patch", "image")},
        **{f"optimiser.{name}": () for name in ("learning_rate", "momentum", "weight_decay")},
    }
    ON_PHOTOS = {"decoder.width": (32, 64), "sampler.foreground": (0.5, 1.0), "sampler.background": (0.2, 0.4)}

    @property
    def optimiser(self) -> OptimiserSettings:
        return self.profile.optimiser

    def network(self, shape: Shape) -> TeDLoc:
        p = self.profile
        text = class_text(p.anchors.text, self.images("train").class_names, p.anchors.template)
        return TeDLoc(shape.dim, orthogonalise(text, p.anchors.orthogonaliser, seed=p.anchors.seed), p.decoder)

    def teacher(self) -> Teacher | None:
        return teacher_of(self.profile, self.seed)

    def code(self) -> tuple[str, ...]:
        return *super().code(), *(taught_by.code() if (taught_by := self.taught_by()) else ())

    def own_settings(self) -> dict[str, Any]:
        return taught_by.own_settings() if (taught_by := self.taught_by()) else {}

    def taught_by(self) -> Method | None:
        """Its teacher, unfitted."""
        teacher = self.teacher()
        return teacher and create(teacher.method, teacher.profile, teacher.seed, self.device)

    def stages(self) -> dict[str, OptimiserSettings]:
        return {"optimiser": self.profile.optimiser}

    def search(self) -> dict[str, tuple]:
        return dict(self.SEARCH) | (self.ON_PHOTOS if self.profile.small and not self.profile.synthetic else {})

    def share(self) -> None:
        super().share()
        self.prepare()

    def prepare(self) -> None:
        self.cams = pseudo_label_cams(self.profile, "train", self.device, self.seed, self.teacher_folder)

    def loss(self, net: TeDLoc, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        p = self.profile
        cam = torch.from_numpy(np.array(self.cams[batch.index])).to(self.device, non_blocking=True).float() / 255
        cam = torch.where(batch.mirrored[:, None, None], cam.flip(-1), cam)
        output = net(batch.x)
        foreground, background = sampler.pools(sampler.to_grid(cam, tuple(output.g.shape[1:])), p.sampler, batch.draws)
        samples = sampler.sample(foreground, background, p.sampler.samples, batch.draws)
        return losses.total(output, samples, batch.labels, net.anchors, p.loss)

    def routes(self, net: TeDLoc, x: Tensor, labels: Tensor) -> dict[str, Route]:
        out = net(x)
        z = out.z
        maps = {
            "g": out.g.sigmoid(),
            "anchor-true": anchor_maps(z, net.anchors, labels),
            "anchor-pred": anchor_maps(z, net.anchors, out.scores.argmax(1)),
        }
        return {name: Route(each, out.scores) for name, each in maps.items()}
