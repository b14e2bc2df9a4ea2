"""Draws one bird of the aviary in one scene: an 80x80 image, the visible bird's mask, masks of its parts.

Everything about scene, pose, light and occlusion comes from a key; the bird only sets shapes and colours of
its own parts. So one key drawn with two species of a family gives two images that differ in the named part
and nowhere else. Drawn at twice the size with anti-aliased polygons, then reduced by area.
"""

import hashlib
import math
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from tedloc.data import aviary_scenery as scenery
from tedloc.data.aviary_canvas import CANVAS, SIZE, blend, fill, stroke

# Plumage: back, belly, wing (RGB).
COLOURS = {
    "grey": ((128, 134, 146), (192, 196, 204), (84, 90, 104)),
    "brown": ((126, 88, 58), (206, 178, 142), (84, 56, 38)),
    "olive": ((122, 130, 60), (206, 206, 140), (82, 88, 38)),
    "black": ((46, 46, 56), (92, 92, 104), (22, 22, 30)),
    "white": ((226, 226, 222), (250, 250, 246), (180, 182, 188)),
    "rufous": ((188, 98, 50), (232, 186, 136), (134, 62, 30)),
    "violet": ((118, 84, 150), (190, 166, 210), (80, 54, 110)),
    "teal": ((44, 122, 118), (150, 198, 186), (24, 82, 84)),
}
CROWNS = {
    "crimson": (214, 24, 48),
    "golden": (252, 200, 30),
    "azure": (34, 132, 240),
    "emerald": (20, 172, 84),
    "plain": None,  # the colour of the back
}
BILLS = ("cone", "needle", "hook")
TAILS = ("short", "fork", "long")


@dataclass(frozen=True)
class Bird:
    """What a bird looks like: plumage, bill, tail, crown, and whether its wing has a white bar."""

    colour: str
    bill: str
    tail: str
    crown: str
    bar: bool


@dataclass(frozen=True, eq=False)
class Rendering:
    """image (80, 80, 3) uint8 RGB; mask (80, 80) bool, the visible bird; words: what else is in the picture;
    parts: name -> (80, 80) bool, every pixel that the visible part touches (only when asked for)."""

    image: np.ndarray
    mask: np.ndarray
    words: tuple[str, ...]
    parts: dict[str, np.ndarray] = field(default_factory=dict)


def generators(key: str, count: int) -> list[np.random.Generator]:
    """Independent random streams, a pure function of ``key``."""
    words = np.frombuffer(hashlib.sha256(key.encode()).digest(), dtype=np.uint32)
    return [np.random.Generator(np.random.PCG64(s)) for s in np.random.SeedSequence(words.tolist()).spawn(count)]


def _spline_basis(points: int, steps: int = 6) -> np.ndarray:
    """(points * steps, points): a closed Catmull-Rom curve as a linear map of its control points."""
    t = (np.arange(steps) / steps)[:, None]
    weights = 0.5 * np.hstack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2])
    basis = np.zeros((points * steps, points))
    for i in range(points):
        for j in range(4):
            basis[i * steps : (i + 1) * steps, (i + j - 1) % points] += weights[:, j]
    return basis


_BASES = {n: _spline_basis(n) for n in range(4, 12)}
_CIRCLE = np.stack([np.cos(np.linspace(0, 2 * np.pi, 28)), np.sin(np.linspace(0, 2 * np.pi, 28))], 1)


def _smooth(points) -> np.ndarray:
    points = np.asarray(points, dtype=np.float64)
    return _BASES[len(points)] @ points


def _rotation(degrees: float) -> np.ndarray:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, s], [-s, c]])


def _turn(points, degrees: float, about=(0.0, 0.0)) -> np.ndarray:
    return (np.asarray(points) - about) @ _rotation(degrees) + about


# Shapes in bird coordinates: facing right, y down, body about one unit long, origin in its middle.
def _outline(*numbers: float) -> np.ndarray:
    """x0, y0, x1, y1, ... -> (P, 2)."""
    return np.array(numbers).reshape(-1, 2)


# fmt: off
_BODY = _smooth(_outline(
    -0.52, 0.0, -0.28, -0.17, 0.06, -0.27, 0.34, -0.24,
    0.47, 0.0, 0.26, 0.25, -0.10, 0.25, -0.40, 0.12,
))
_BELLY = _smooth(_outline(
    -0.40, 0.16, -0.05, 0.06, 0.25, 0.03,
    0.50, -0.12, 0.56, 0.10, 0.26, 0.34, -0.12, 0.34,
))
_FOLDED_WING = _smooth(_outline(
    0.24, -0.10, 0.02, -0.19, -0.30, -0.10,
    -0.66, 0.07, -0.30, 0.09, 0.02, 0.12, 0.20, 0.06,
))
_FOLDED_BAR = _smooth(_outline(0.02, -0.18, -0.07, -0.17, -0.12, 0.0, -0.10, 0.11, 0.0, 0.12, -0.01, -0.02))
_RAISED_WING = _smooth(_outline(
    0.20, -0.12, 0.14, -0.40, -0.08, -0.68, -0.44, -0.80,
    -0.42, -0.56, -0.36, -0.34, -0.26, -0.12, -0.02, -0.02,
))
_RAISED_BAR = _smooth(_outline(
    0.13, -0.38, 0.06, -0.53, -0.17, -0.44,
    -0.39, -0.48, -0.36, -0.32, -0.14, -0.29,
))
_TAILS = {
    "short": [_outline(-0.34, -0.10, -0.78, -0.09, -0.82, 0.02, -0.76, 0.12, -0.34, 0.10)],
    "fork": [
        _outline(-0.34, -0.10, -0.70, -0.14, -1.04, -0.27, -0.76, 0.0, -0.36, 0.06),
        _outline(-0.34, -0.06, -0.76, -0.02, -1.02, 0.24, -0.68, 0.14, -0.34, 0.10),
    ],
    "long": [_outline(
        -0.34, -0.10, -0.85, -0.08, -1.22, -0.02,
        -1.30, 0.05, -1.20, 0.10, -0.80, 0.09, -0.34, 0.10,
    )],
}
# The outer feathers of each tail, in a colour of their own, as a bill has: its shape alone, a few pixels of the
# body's colour, is more than a small encoder learns.
_TAIL_TIPS = {
    "short": [_outline(-0.54, -0.095, -0.78, -0.09, -0.82, 0.02, -0.76, 0.12, -0.54, 0.11)],
    "fork": [
        _outline(-0.70, -0.14, -1.04, -0.27, -0.76, 0.0, -0.62, 0.02),
        _outline(-0.76, -0.02, -1.02, 0.24, -0.68, 0.14, -0.62, 0.06),
    ],
    "long": [_outline(-0.80, -0.085, -1.22, -0.02, -1.30, 0.05, -1.20, 0.10, -0.80, 0.09)],
}
_TAIL_COLOURS = {"short": (240, 238, 228), "fork": (34, 30, 38), "long": (206, 122, 44)}
# Relative to the middle of the head, whose radius is 0.2.
_BILL_SHAPES = {
    "cone": _outline(0.13, -0.13, 0.40, 0.03, 0.12, 0.13),
    "needle": _outline(0.15, -0.055, 0.62, 0.055, 0.15, 0.06),
    "hook": _smooth(_outline(0.10, -0.13, 0.27, -0.12, 0.37, 0.02, 0.33, 0.20, 0.25, 0.08, 0.12, 0.11)),
}
_BILL_COLOURS = {"cone": (232, 150, 60), "needle": (52, 44, 44), "hook": (236, 220, 180)}
_CROWN = _smooth(_outline(
    0.17, -0.115, 0.08, -0.215, -0.10, -0.235, -0.26, -0.19,
    -0.36, -0.17, -0.235, -0.03, -0.08, -0.075, 0.06, -0.06,
))
# fmt: on


@dataclass(frozen=True)
class _Pose:
    """Where and how a bird sits; the same for every species."""

    unit: float  # canvas pixels of one bird unit
    map: np.ndarray  # (2, 2) turn, mirror and scale: bird coordinates to canvas pixels
    facing: int  # 1 right, -1 left
    centre: np.ndarray
    head: np.ndarray  # of the head's centre, bird coordinates
    nod: float
    tail: float
    flying: bool
    wing: float
    stride: float

    def place(self, points) -> np.ndarray:
        return np.asarray(points) @ self.map + self.centre


def _pose(rng: np.random.Generator) -> _Pose:
    flying = rng.random() < 0.25
    unit = 2 * np.exp(rng.uniform(np.log(20), np.log(48)))
    turn = rng.uniform(-28, 22) if flying else rng.uniform(-36, 10)
    facing = 1 if rng.random() < 0.5 else -1
    pose = _Pose(
        unit=unit,
        map=_rotation(turn) * (facing * unit, unit),
        facing=facing,
        centre=np.zeros(2),
        head=np.array([0.40 + rng.uniform(-0.04, 0.10), -0.30 + rng.uniform(-0.12, 0.10)]),
        nod=rng.uniform(-16, 26),
        tail=rng.uniform(-22, 16),
        flying=flying,
        wing=rng.uniform(-30, 36),
        stride=rng.uniform(0.05, 0.14),
    )
    core = pose.place(
        np.vstack([_BODY, pose.head + 0.3 * _CIRCLE])
    )  # must be in the picture; bill and tail may leave it
    low, high = core.min(0), core.max(0)
    room = CANVAS - (high - low) - 8
    offset = np.where(room > 0, 4 - low + rng.random((2, 2)).mean(0) * np.maximum(room, 0), (CANVAS - high - low) / 2)
    return replace(pose, centre=offset)


def _feet(pose: _Pose) -> np.ndarray:
    """(2, 2, 2): hip and foot of both legs on the canvas; legs hang down whatever the body's turn."""
    hips = pose.place([(0.02, 0.20), (0.16, 0.20)])
    reach = pose.unit * np.array([[-pose.stride, 0.24], [pose.stride, 0.24]])
    return np.stack([hips, hips + reach], 1)


def _draw_bird(canvas: np.ndarray, bird: Bird, pose: _Pose, rng: np.random.Generator) -> tuple[np.ndarray, dict]:
    """Paint the bird; return its alpha (CANVAS, CANVAS) uint8 and the polygons of its named parts."""
    back, belly, wing = COLOURS[bird.colour]
    unit = pose.unit
    head = pose.place(pose.head + 0.2 * _CIRCLE)
    on_head = lambda shape: pose.place(_turn(np.asarray(shape), pose.nod) + pose.head)  # noqa: E731
    body = pose.place(_BODY)
    neck = pose.place(np.array([(0.16, -0.10), (0.40, 0.02)]))
    neck = cv2.convexHull(np.vstack([head, neck]).astype(np.float32))[:, 0]
    tails, tips = (
        [pose.place(_turn(t, pose.tail, (-0.36, 0.0))) for t in shapes[bird.tail]] for shapes in (_TAILS, _TAIL_TIPS)
    )
    bill = on_head(_BILL_SHAPES[bird.bill])
    crown = on_head(_CROWN)
    wing_turn = pose.wing if pose.flying else 0.12 * pose.wing
    about = (0.16, -0.10)
    wing_shape = pose.place(_turn(_RAISED_WING if pose.flying else _FOLDED_WING, wing_turn, about))
    bar = pose.place(_turn(_RAISED_BAR if pose.flying else _FOLDED_BAR, wing_turn, about))

    alpha = np.zeros((CANVAS, CANVAS), np.uint8)
    for shape in (body, neck, head, crown, bill, wing_shape, *tails):
        fill(alpha, shape, 255)

    paint = np.empty((CANVAS, CANVAS, 3), np.uint8)
    paint[:] = back
    fill(paint, pose.place(_BELLY), belly)
    fill(paint, on_head([(0.02, 0.04), (0.26, 0.02), (0.22, 0.26), (-0.05, 0.25)]), belly)
    width = max(3, int(unit * 0.11) | 1)
    paint = cv2.blur(cv2.blur(paint, (width, width)), (width, width))
    for tail in tails:
        fill(paint, tail, tuple(int(0.5 * a + 0.5 * b) for a, b in zip(back, wing, strict=True)))
        stroke(paint, tail[[0, len(tail) // 2]], wing, unit * 0.03)
    for tip in tips:
        fill(paint, tip, _TAIL_COLOURS[bird.tail])
    fill(paint, wing_shape, wing)
    for k in range(1, 4):  # feathers
        ends = (
            ((0.12, -0.16 * k), (-0.36, -0.22 * k - 0.18))
            if pose.flying
            else ((-0.16, 0.06 * k - 0.14), (-0.56, 0.03 * k - 0.01))
        )
        stroke(paint, pose.place(_turn(np.array(ends), wing_turn, about)), back, unit * 0.022)
    if bird.bar:
        fill(paint, bar, (248, 248, 244))
    fill(paint, bill, _BILL_COLOURS[bird.bill])
    fill(paint, crown, CROWNS[bird.crown] or back)
    eye = on_head([(0.075, -0.02)])[0]
    fill(paint, eye + 0.052 * unit * _CIRCLE, (250, 246, 236))
    fill(paint, eye + 0.038 * unit * _CIRCLE, (18, 14, 16))

    if not pose.flying:  # legs are painted under the body
        legs = np.zeros_like(alpha)
        for hip, foot in _feet(pose):
            toe = np.array([0.09 * unit * pose.facing, 0.0])
            stroke(legs, np.array([hip, foot]), 255, unit * 0.045)
            stroke(legs, np.array([foot - 0.4 * toe, foot + toe]), 255, unit * 0.045)
        free = (legs > 0) & (alpha < 255)
        paint[free & (alpha == 0)] = (96, 72, 52)
        alpha = np.maximum(alpha, legs)

    grain = 1 + 0.05 * rng.standard_normal((40, 40), dtype=np.float32)
    grain = cv2.merge([cv2.resize(grain, (CANVAS, CANVAS), interpolation=cv2.INTER_LINEAR)] * 3)
    paint = cv2.multiply(paint, grain, dtype=cv2.CV_8U)
    blend(canvas, paint, alpha)
    return alpha, {"crown": [crown], "bar": [bar], "bill": [bill], "tail": tails}


def render(key: str, bird: Bird | None, *, parts: bool = False) -> Rendering:
    """Draw ``bird`` (None: an empty scene) into the scene that ``key`` stands for.

    The same key and bird give the same pixels. With ``parts``, also the masks of crown, bar, bill and tail.
    """
    scene_rng, pose_rng, front_rng, light_rng, plumage_rng = generators(key, 5)
    pose = _pose(pose_rng)
    perch = None if pose.flying else _feet(pose)[:, 1].mean(0)
    canvas, kind, words = scenery.backdrop(scene_rng, perch=perch, width=pose.unit, empty=bird is None)
    alpha, shapes = np.zeros((CANVAS, CANVAS), np.uint8), {}
    if bird is not None:
        alpha, shapes = _draw_bird(canvas, bird, pose, plumage_rng)
    core = np.zeros_like(alpha)
    fill(core, pose.place(np.vstack([_BODY])), 255)
    cover, more = scenery.foreground(front_rng, canvas, kind, keep_free=core)
    image = scenery.light(light_rng, cv2.resize(canvas, (SIZE, SIZE), interpolation=cv2.INTER_AREA))

    def visible(drawn: np.ndarray) -> np.ndarray:
        return cv2.resize(cv2.bitwise_and(drawn, cv2.bitwise_not(cover)), (SIZE, SIZE), interpolation=cv2.INTER_AREA)

    masks = {}
    if parts:
        for name, polygons in shapes.items():
            drawn = np.zeros_like(alpha)
            for polygon in polygons:
                fill(drawn, polygon, 255)
            masks[name] = visible(cv2.dilate(drawn, np.ones((3, 3), np.uint8))) > 0
    return Rendering(image, visible(alpha) >= 128, tuple(dict.fromkeys([*words, *more])), masks)
