"""The world around a bird of the aviary: meadow, lake, wood and sky, with clutter in the birds' own colours.

All shapes are drawn on a canvas of twice the image size. Flowers and berries have crown colours, stones and
logs have body colours, and grass, reeds and leaves may cover a part of the bird.
"""

import cv2
import numpy as np

from tedloc.data.aviary_canvas import CANVAS, SIZE, blend, ellipse, fill, gradient, shades, stroke

BACKGROUND_WORDS = tuple("grass water sky branch flowers stones leaves reeds berries clouds sand".split())

BLOSSOMS = ((214, 30, 54), (250, 200, 40), (48, 136, 236), (240, 240, 236), (196, 110, 200), (30, 168, 90))
STONES = (
    *((132, 136, 146), (128, 92, 62), (122, 128, 66), (60, 60, 68)),
    *((214, 212, 206), (176, 100, 58), (70, 120, 118)),
)
GREENS = ((70, 122, 44), (98, 150, 58), (128, 164, 70), (52, 98, 46), (150, 172, 84))
BARKS = ((98, 72, 52), (122, 96, 74), (76, 58, 46), (134, 120, 108))

_T = np.linspace(0, 1, 6)
# Columns: bend (quadratic), height (linear), width (tapering, either side), rounding of the tip.
_BLADE = np.hstack(
    [
        np.stack([np.r_[_T, _T[::-1]] ** 2, np.r_[_T, _T[::-1]]], 1),
        np.r_[-np.ones(6), np.ones(6)][:, None]
        * np.stack([0.5 * (1 - np.r_[_T, _T[::-1]] ** 1.5), 0.5 + 0 * np.r_[_T, _T]], 1),
    ]
)
_U = np.linspace(0, 1, 7)
_LEAF = np.stack([np.r_[_U, _U[::-1]] - 0.5, 0.24 * np.r_[np.sin(np.pi * _U), -np.sin(np.pi * _U[::-1])]], 1)


def _pick(rng, palette) -> tuple[int, int, int]:
    return shades(rng, palette, 1)[0]


def _stone(rng, canvas, centre, radius) -> None:
    """A stone of three tones: shade, body and highlight."""
    colour = np.array(_pick(rng, STONES))
    flat, angle = rng.uniform(0.5, 0.75), rng.uniform(-12, 12)
    layers = ((0.0, 0.0, 1.0, 1.0, 0.68), (0.06, 0.1, 0.9, 0.8, 1.0), (0.25, 0.28 * flat, 0.45, 0.3, 1.18))
    for left, up, width, height, tone in layers:
        at = (centre[0] - left * radius, centre[1] - up * radius)
        shade = tuple(np.minimum(255, colour * tone).astype(int).tolist())
        ellipse(canvas, at, (width * radius, height * radius * flat), shade, angle)


def _blossom(rng, canvas, centre, radius) -> None:
    colour = _pick(rng, BLOSSOMS)
    for k in range(5):
        a = 2 * np.pi * k / 5 + radius
        at = (centre[0] + radius * 0.6 * np.cos(a), centre[1] + radius * 0.6 * np.sin(a))
        ellipse(canvas, at, (radius * 0.52, radius * 0.52), colour)
    heart = (250, 220, 120) if colour[2] > 100 else (110, 60, 30)
    ellipse(canvas, centre, (radius * 0.36, radius * 0.36), heart)


def _flower(rng, canvas, foot, height, radius) -> None:
    head = np.array([foot[0] + rng.uniform(-0.25, 0.25) * height, foot[1] - height])
    stroke(canvas, np.array([foot, (np.array(foot) + head) / 2 + (2, 0), head]), _pick(rng, GREENS), 2)
    _blossom(rng, canvas, head, radius)


def _blades(rng, feet: np.ndarray, height: tuple[float, float], width: tuple[float, float]) -> np.ndarray:
    """(N, 12, 2): grass blades or reeds that taper and bend, one for each of the (N, 2) feet."""
    count = len(feet)
    tall, wide = rng.uniform(*height, count), rng.uniform(*width, count)
    shape = np.zeros((count, 4, 2))
    shape[:, 0, 0], shape[:, 1, 1], shape[:, 2, 0], shape[:, 3, 0] = (
        rng.uniform(-0.45, 0.45, count) * tall,
        -tall,
        wide,
        0.4,
    )
    return _BLADE @ shape + feet[:, None]


def _leaf(rng, centre, length) -> np.ndarray:
    a = rng.uniform(0, 2 * np.pi)
    return _LEAF @ (length * np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])) + centre


def _twig(rng) -> list[np.ndarray]:
    """A thin twig that reaches in from an edge, and its leaves."""
    side, along = rng.integers(4), rng.uniform(0.1, 0.9) * CANVAS
    start = np.array([(along, 0.0), (CANVAS, along), (along, CANVAS), (0.0, along)][side])
    inward = np.array([(0.0, 1.0), (-1.0, 0.0), (0.0, -1.0), (1.0, 0.0)][side])
    across = inward[::-1]
    reach, lean = rng.uniform(30, 90), rng.uniform(-0.6, 0.6)
    spine = start + reach * (_T[:, None] * inward + lean * _T[:, None] ** 2 * across)
    taper = (1.6 - 1.2 * _T)[:, None] * across
    shapes = [np.vstack([spine - taper, (spine + taper)[::-1]])]
    return shapes + [_leaf(rng, spine[k] + rng.normal(0, 5, 2), rng.uniform(14, 26)) for k in range(1, 6)]


def _branch(rng, canvas, through, width) -> np.ndarray:
    """A branch right across the picture, through a point, with a few leaves; returns its line."""
    slope, sag, bark = rng.uniform(-0.35, 0.35), rng.uniform(-10, 10), _pick(rng, BARKS)
    x = np.linspace(-6, CANVAS + 6, 8)
    y = through[1] + slope * (x - through[0]) + sag * ((x - through[0]) / CANVAS) ** 2
    line = np.stack([x, y + 0.5 * width], 1)
    stroke(canvas, line, bark, width)
    stroke(canvas, line - (0, 0.25 * width), tuple(min(255, c + 30) for c in bark), max(1, width * 0.25))
    spots = rng.integers(len(line), size=rng.integers(2, 7))
    for k, colour in zip(spots, shades(rng, GREENS, 6), strict=False):
        fill(canvas, _leaf(rng, line[k] + rng.normal(0, 7, 2), rng.uniform(10, 20)), colour)
    return line


def _berries(rng, canvas, stalk) -> None:
    """A cluster of berries that hangs from a point."""
    centre, colour = stalk + (rng.uniform(-6, 6), rng.uniform(10, 22)), _pick(rng, BLOSSOMS)
    for _ in range(rng.integers(3, 8)):
        at, radius = centre + rng.normal(0, 6, 2), rng.uniform(2.4, 4.6)
        stroke(canvas, np.array([stalk, at]), (84, 110, 50), 1)
        ellipse(canvas, at, (radius, radius), colour)
        ellipse(canvas, at - 0.3 * radius, (0.3 * radius, 0.3 * radius), (250, 240, 235))


def _sky(rng, canvas, words, clouds: bool) -> None:
    tone = ((104, 158, 216), (150, 184, 212), (216, 178, 160), (140, 150, 170))[rng.integers(4)]
    canvas[:] = gradient(np.asarray(tone) + rng.normal(0, 10, 3), (222, 226, 226))
    if clouds:
        layer, alpha = np.full_like(canvas, 246), np.zeros((CANVAS, CANVAS), np.uint8)
        for _ in range(rng.integers(2, 5)):
            x, y, r = rng.uniform(0, CANVAS), rng.uniform(5, 100), rng.uniform(8, 18)
            for k in range(4):
                ellipse(alpha, (x + (k - 1.5) * r, y - (k in (1, 2)) * 0.4 * r), (r, 0.7 * r), 220)
        blend(canvas, layer, cv2.blur(alpha, (9, 9)))
        words.append("clouds")
    words.append("sky")


def _meadow(rng, canvas, words, horizon: float, clouds: bool) -> None:
    _sky(rng, canvas, words, clouds)
    ground = gradient(np.add(_pick(rng, GREENS), 24), _pick(rng, GREENS))
    canvas[int(horizon) :] = ground[int(horizon) :]
    feet = rng.uniform((0, horizon), (CANVAS, CANVAS + 20), (44, 2))
    blades = _blades(rng, feet, (8, 26), (2, 4))
    for blade, colour in zip(blades, shades(rng, GREENS, 44), strict=True):
        fill(canvas, blade, colour)
    words.append("grass")


def _lake(rng, canvas, words, beach: bool) -> None:
    water = np.asarray(((66, 112, 146), (84, 138, 150), (54, 92, 118), (110, 150, 170))[rng.integers(4)])
    canvas[:] = gradient(np.minimum(255, water + 50), water - 12)
    ripples = rng.uniform((-20, 0, 6, 0.6, -30), (CANVAS, CANVAS, 30, 1.8, 60), (26, 5))
    for x, y, long, thin, glint in ripples.tolist():
        ellipse(canvas, (x, y), (long, thin), tuple(np.clip(water + glint, 0, 255).tolist()))
    if beach:
        shore = CANVAS - rng.uniform(10, 50)
        left, middle = shore + rng.uniform(-6, 6), shore + rng.uniform(-8, 8)
        edge = [(0, left), (CANVAS / 2, middle), (CANVAS, shore), (CANVAS, CANVAS), (0, CANVAS)]
        fill(canvas, np.array(edge), _pick(rng, ((214, 190, 146), (196, 172, 134))))
        words.append("sand")
    words.append("water")


def _wood(rng, canvas, words) -> None:
    base = np.float32(_pick(rng, GREENS)) * rng.uniform(0.45, 0.8)
    mottle = np.clip(base * rng.normal(1.0, 0.3, (6, 6, 1)), 0, 255).astype(np.uint8)
    canvas[:] = cv2.resize(mottle, (CANVAS, CANVAS), interpolation=cv2.INTER_CUBIC)
    for _ in range(14):  # out of focus
        tone = np.array(_pick(rng, GREENS)) * rng.uniform(0.5, 1.15)
        r = rng.uniform(6, 22)
        colour = tuple(np.clip(tone, 0, 255).astype(int).tolist())
        ellipse(canvas, rng.uniform(0, CANVAS, 2), (r, r), colour)
    canvas[:] = cv2.blur(canvas, (7, 7))
    for _ in range(rng.integers(6, 16)):
        fill(canvas, _leaf(rng, rng.uniform(0, CANVAS, 2), rng.uniform(14, 34)), _pick(rng, GREENS))
    words.append("leaves")


def _open_sky(rng, canvas, words, clouds: bool, twigs: bool) -> None:
    _sky(rng, canvas, words, clouds)
    if twigs:
        for _ in range(rng.integers(1, 4)):
            for shape in _twig(rng):
                fill(canvas, shape, _pick(rng, GREENS))
        words.append("leaves")


def _clutter(rng, canvas, words, kind: str, horizon: float, chance: np.ndarray) -> None:
    """Stones, flowers, branches and berries, in the colours of the birds."""
    if kind in ("meadow", "lake") and chance[2] < 0.55:
        low = horizon if kind == "meadow" else 0.25 * CANVAS
        for _ in range(rng.integers(2, 6)):
            _stone(rng, canvas, (rng.uniform(0, CANVAS), rng.uniform(low + 6, CANVAS)), rng.uniform(7, 24))
        words.append("stones")
    if kind == "meadow" and chance[3] < 0.65:
        for _ in range(rng.integers(3, 10)):
            foot = (rng.uniform(0, CANVAS), rng.uniform(horizon + 10, CANVAS + 16))
            _flower(rng, canvas, foot, rng.uniform(14, 34), rng.uniform(4, 8.5))
        words.append("flowers")
    if kind in ("wood", "sky") and chance[4] < 0.65:
        for _ in range(rng.integers(1, 3)):
            line = _branch(rng, canvas, rng.uniform(0, CANVAS, 2), rng.uniform(4, 10))
            if chance[3] < 0.6:
                for k in rng.integers(1, len(line) - 1, size=rng.integers(1, 5)):
                    _berries(rng, canvas, line[k] + rng.uniform(-8, 8) * (line[k + 1] - line[k]) / CANVAS)
        words += ["branch", "berries"] if chance[3] < 0.6 else ["branch"]
    if kind == "wood" and chance[2] < 0.35:
        for _ in range(rng.integers(3, 8)):
            _blossom(rng, canvas, rng.uniform(0, CANVAS, 2), rng.uniform(4, 8.5))
        words.append("flowers")


def backdrop(
    rng: np.random.Generator, *, perch: np.ndarray | None, width: float, empty: bool
) -> tuple[np.ndarray, str, list[str]]:
    """Paint a scene behind the bird; return the canvas, the kind of scene and its words.

    perch: where the feet stand, canvas pixels, or None for a bird in flight; width: canvas pixels of one bird
    unit. With ``empty`` (no bird) the perch may still be there, so that a perch does not mean a bird.
    """
    kind = ("meadow", "lake", "wood", "sky")[rng.integers(4)]
    horizon = rng.uniform(0.2, 0.6) * CANVAS
    if kind == "meadow" and perch is not None:
        horizon = min(horizon, max(12.0, perch[1] - 8))
    canvas, words = np.zeros((CANVAS, CANVAS, 3), np.uint8), []
    has_perch = perch is not None and (not empty or rng.random() < 0.6)
    chance = rng.random(5)
    if kind == "meadow":
        _meadow(rng, canvas, words, horizon, clouds=chance[0] < 0.35)
    elif kind == "lake":
        _lake(rng, canvas, words, beach=chance[0] < 0.3)
    elif kind == "wood":
        _wood(rng, canvas, words)
    else:
        _open_sky(rng, canvas, words, clouds=chance[0] < 0.7, twigs=chance[1] < 0.5)
    _clutter(rng, canvas, words, kind, horizon, chance)
    if has_perch:
        if kind in ("wood", "sky"):
            _branch(rng, canvas, perch, np.clip(0.16 * width, 4, 12))
            words.append("branch")
        elif kind == "lake" or chance[1] < 0.4:
            radius = np.clip(0.55 * width, 12, 44)
            _stone(rng, canvas, perch + (0, 0.40 * radius), radius)
            words.append("stones")
    return canvas, kind, words


def foreground(
    rng: np.random.Generator, canvas: np.ndarray, kind: str, *, keep_free: np.ndarray
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Paint what stands before the bird; return its cover, (CANVAS, CANVAS) uint8, and its words.

    An object that would bring the covered share of ``keep_free`` (the bird's body) above 30 % is left out.
    """
    cover = np.zeros((CANVAS, CANVAS), np.uint8)
    limit = 0.3 * max(1, np.count_nonzero(keep_free))
    if rng.random() < 0.45:
        return cover, ()
    for _ in range(rng.integers(3, 11) if kind in ("meadow", "lake") else rng.integers(1, 4)):
        foot = np.array([[rng.uniform(0, CANVAS), CANVAS + 4]])
        if kind == "meadow":
            shapes, word = _blades(rng, foot, (24, 92), (4, 8)), "grass"
        elif kind == "lake":
            shapes, word = _blades(rng, foot, (50, 140), (4, 7)), "reeds"
        else:
            shapes, word = _twig(rng), "leaves"
        colours = shades(rng, GREENS, len(shapes))
        trial = cover.copy()
        for shape in shapes:
            fill(trial, shape, 255)
        if cv2.countNonZero(cv2.bitwise_and(trial, keep_free)) > limit:
            continue
        cover = trial
        for shape, colour in zip(shapes, colours, strict=True):
            fill(canvas, shape, colour)
    return cover, (word,)


def light(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Sun from one side, a tint, haze and sensor noise; (80, 80, 3) uint8 to the same."""
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.22)
    axis = np.linspace(-1, 1, SIZE, dtype=np.float32)
    strength = np.float32(strength)
    field = 1 + strength * (np.float32(np.cos(angle)) * axis[None, :] + np.float32(np.sin(angle)) * axis[:, None])
    gain = np.float32(rng.uniform(0.78, 1.14) * (1 + rng.normal(0, 0.04, 3)))
    haze = np.float32(rng.uniform(0, 0.16))
    lit = image * field[..., None] * gain * (1 - haze) + 215 * haze
    return np.clip(
        lit + np.float32(rng.uniform(1, 5)) * rng.standard_normal(image.shape, dtype=np.float32), 0, 255
    ).astype(np.uint8)
