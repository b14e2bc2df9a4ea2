"""Take a finished TeD-Loc run elsewhere: as a folder for this package, or as one ONNX graph for any other program.

    python -m tedloc.export --checkpoint runs/aviary/tedloc-seed0-... model        # model/model.safetensors, model.json
    python -m tedloc.export --checkpoint runs/aviary/tedloc-seed0-... model.onnx   # and model.json beside it
    python -m tedloc.export --checkpoint runs/aviary/tedloc-seed0-... --weights int8 small.onnx

The folder holds encoder and network, class names, threshold and provenance: ``tedloc.predict --checkpoint model``
answers as the run does, on a machine that has neither its photos nor a model hub. ``--without-encoder`` leaves out one
whose weights come in a package, and keeps the rest in float16. So the model of photos that ships with this package was
made, which the book's page "Try it on your image" runs; of another run it is made anew by

    rm -r tedloc/weights/photos
    python -m tedloc.export --checkpoint RUN --without-encoder tedloc/weights/photos

The graph takes ``image``, (1, 3, S, S) float32 RGB within [0, 1], and gives ``map``, (1, h, w) the patch classifier's g
in (0, 1), and ``scores``, (1, K) the class scores. Normalisation, encoder, standardisation, decoder, g and anchors are
inside. Outside stay the resizing to S x S (Pillow's bilinear filter, ``tedloc.backbones.preprocessing``) before it
and the protocol's box (``tedloc.metrics.boxes``) after it.

``--weights`` says how the file keeps the weights: float16 halves it, float15 (the same with its last bit zero) makes
it pack a sixteenth smaller, int8 (a scale for each output channel) quarters it and moves boxes. A runtime makes
float32 of them when it opens the file and computes as before, in the same time.
"""

import argparse
import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tedloc import paths
from tedloc.errors import UserError, command
from tedloc.runs.localizer import STORY, Localizer, load, save

OPSET = 17  # of ONNX, from 2022: every runtime of today knows it
KINDS = ("float32", "float16", "float15", "int8")  # of weights in a file
SMALLEST = 256  # numbers of a weight that is worth making small; biases and scales stay as they are


class Graph(nn.Module):
    """Normalisation and a localizer's networks: what is exported."""

    def __init__(self, localizer: Localizer):
        super().__init__()
        self.encoder, self.network, self.respond = localizer.encoder, localizer.network, localizer.respond
        self.register_buffer("mean", torch.tensor(localizer.encoder.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(localizer.encoder.std).view(3, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image: (1, 3, S, S) within [0, 1]. Returns map (1, h, w) and scores (1, K)."""
        return self.respond((image - self.mean) / self.std)


def to_onnx(localizer: Localizer, file: Path, kind: str = "float32") -> dict[str, Any]:
    """Write the graph to ``file`` and its story to the ``.json`` beside it; returns the story.

    kind: of the weights in the file, one of ``KINDS``

    Raises ``UserError`` when the package ``onnx`` is missing, or the localizer is not on the CPU.
    """
    if localizer.device != "cpu":
        raise UserError(f"the localizer is on {localizer.device!r}; load it with device 'cpu' to export it")
    size = localizer.encoder.image_size
    example = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    graph = Graph(localizer).eval()
    with paths.replacing(file) as scratch:
        try:
            with torch.no_grad(), warnings.catch_warnings():
                # The exporter by tracing is on its way out of PyTorch; its successor needs one package more, and the
                # version of PyTorch is pinned. What the tracer takes for a constant (the grid's size) is one here.
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    graph,
                    (example,),
                    scratch,
                    dynamo=False,
                    opset_version=OPSET,
                    input_names=["image"],
                    output_names=["map", "scores"],
                )
        except torch.onnx.OnnxExporterError as error:
            if "not installed" not in str(error):
                raise
            raise UserError("exporting needs the package onnx: pip install 'tedloc[onnx]'") from None
        if kind != "float32":
            make_small(scratch, kind)
        content = scratch.read_bytes()
    with torch.inference_mode():
        score_map, scores = graph(example)
    story = {
        "model": localizer.about,
        "input": {
            "name": "image",
            "shape": list(example.shape),
            "type": "float32, RGB, 0 to 1",
            "resize": "Pillow bilinear, aspect ignored",
        },
        "outputs": {"map": list(score_map.shape), "scores": list(scores.shape)},
        "classes": localizer.class_names,
        "logit scale": localizer.logit_scale,
        "threshold": localizer.threshold,
        "grid": localizer.size,
        "opset": OPSET,
        "weights": kind,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    with paths.replacing(file.with_suffix(".json")) as scratch:
        scratch.write_text(json.dumps(story, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return story


def make_small(file: Path, kind: str) -> None:
    """Keep the large weights of an ONNX file as one of ``KINDS``, each behind nodes that make float32 of it.

    Runtimes compute what hangs on constants alone once, when they open a file.
    """
    import onnx  # with the extra that exports
    from onnx import helper, numpy_helper

    model = onnx.load(file)
    graph = model.graph
    channels = {node.input[1]: 1 for node in graph.node if node.op_type == "ConvTranspose"}  # else the first axis
    large = [
        weight
        for weight in graph.initializer
        if weight.data_type == onnx.TensorProto.FLOAT and np.prod(weight.dims) >= SMALLEST and len(weight.dims) > 1
    ]
    nodes = []
    for weight in large:
        values, name = numpy_helper.to_array(weight), weight.name
        graph.initializer.remove(weight)
        if kind in ("float16", "float15"):
            halves = values.astype(np.float16)
            halves = halves if kind == "float16" else shortened(halves)
            graph.initializer.append(numpy_helper.from_array(halves, f"{name}.small"))
            nodes.append(helper.make_node("Cast", [f"{name}.small"], [name], to=onnx.TensorProto.FLOAT))
            continue
        codes, scale = quantised(values, channels.get(name, 0))
        graph.initializer.append(numpy_helper.from_array(codes, f"{name}.small"))
        graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
        nodes.append(helper.make_node("Cast", [f"{name}.small"], [f"{name}.codes"], to=onnx.TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [f"{name}.codes", f"{name}.scale"], [name]))
    for node in reversed(nodes):
        graph.node.insert(0, node)
    onnx.save(model, file)


def shortened(halves: np.ndarray) -> np.ndarray:
    """float16 with nine bits of mantissa in place of ten, rounded: the last one is zero."""
    return ((halves.view(np.uint16) + np.uint16(1)) & np.uint16(0xFFFE)).view(np.float16)


def quantised(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes from -127 to 127, and their scale for each channel along ``axis``: codes * scale is about ``values``."""
    others = tuple(each for each in range(values.ndim) if each != axis)
    scale = np.abs(values).max(axis=others, keepdims=True) / np.float32(127)
    scale = np.maximum(scale, np.finfo(np.float32).tiny)
    return np.round(values / scale).astype(np.int8), scale.astype(np.float32)


@command
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tedloc.export", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--checkpoint", required=True, type=Path, metavar="RUN", help="folder of a finished TeD-Loc run"
    )
    parser.add_argument("target", type=Path, metavar="OUT", help="a folder, or a file that ends in .onnx")
    parser.add_argument("--without-encoder", action="store_true", help="of a folder: leave out what a package brings")
    parser.add_argument("--weights", choices=KINDS, default=KINDS[0], help="of a graph (default: %(default)s)")
    chosen = parser.parse_args(arguments)
    target = chosen.target
    if target.suffix != ".onnx":
        if target.suffix or (target.exists() and not target.is_dir()):
            raise UserError(f"{target} is neither a folder's name nor one that ends in .onnx; rename it")
        if chosen.weights != KINDS[0]:
            raise UserError(f"--weights {chosen.weights} is for a file that ends in .onnx, and {target} does not")
        paths.writable_folder(target, "OUT")
        save(load(chosen.checkpoint), target, encoder=not chosen.without_encoder)
        print(f"{target}: {sum(file.stat().st_size for file in target.iterdir()) / 1e6:.1f} MB; {STORY} says more")
        return
    if chosen.without_encoder:
        raise UserError(f"--without-encoder is for a folder, and {target} is one graph of encoder and network")
    paths.writable_file(target, "OUT.onnx")
    paths.writable_file(target.with_suffix(".json"), "OUT.json")
    story = to_onnx(load(chosen.checkpoint), target, chosen.weights)
    print(
        f"{target}: {story['bytes'] / 1e6:.1f} MB, {len(story['classes'])} classes, input "
        f"{'x'.join(map(str, story['input']['shape']))}; {target.with_suffix('.json').name} beside it says more"
    )


if __name__ == "__main__":
    main()
