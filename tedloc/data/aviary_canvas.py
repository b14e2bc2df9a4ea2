"""Drawing for the aviary: anti-aliased shapes on a canvas of twice the image size."""

import cv2
import numpy as np

SIZE = 80  # of an image, pixels
CANVAS = 2 * SIZE
_FINE = 4  # bits of sub-pixel precision in polygon corners


def fill(canvas: np.ndarray, polygon: np.ndarray, colour) -> None:
    """Fill a polygon, (P, 2) canvas pixels, with anti-aliased edges, in place."""
    corners = (polygon * (1 << _FINE)).astype(np.int32)
    cv2.fillPoly(canvas, [corners], colour, lineType=cv2.LINE_AA, shift=_FINE)


def stroke(canvas: np.ndarray, line: np.ndarray, colour, width: float) -> None:
    """Draw an open line, (P, 2) canvas pixels, in place."""
    corners = (line * (1 << _FINE)).astype(np.int32)
    cv2.polylines(canvas, [corners], False, colour, max(1, round(width)), cv2.LINE_AA, _FINE)


def blend(canvas: np.ndarray, paint: np.ndarray, alpha: np.ndarray) -> None:
    """Lay ``paint`` over ``canvas`` where ``alpha`` (uint8) says, in place."""
    x, y, w, h = cv2.boundingRect(alpha)
    window = np.s_[y : y + h, x : x + w]
    a = alpha[window][..., None].astype(np.uint16)
    canvas[window] = (paint[window] * a + canvas[window] * (255 - a) + 127) // 255


def ellipse(canvas: np.ndarray, centre, axes, colour, angle: float = 0.0) -> None:
    """Fill an ellipse: centre and half axes in canvas pixels, angle in degrees, in place."""
    middle, half = (tuple(round(v * (1 << _FINE)) for v in pair) for pair in (centre, axes))
    cv2.ellipse(canvas, middle, half, angle, 0, 360, colour, -1, cv2.LINE_AA, _FINE)


def gradient(top, bottom) -> np.ndarray:
    """(CANVAS, 1, 3) uint8 from one colour at the top to another at the bottom."""
    t = np.linspace(0, 1, CANVAS)[:, None, None]
    return np.clip((1 - t) * np.asarray(top) + t * np.asarray(bottom), 0, 255).astype(np.uint8)


def shades(rng, palette, count: int, spread: float = 12.0) -> list[tuple[int, int, int]]:
    """Colours drawn from a palette and shifted a little."""
    chosen = np.asarray(palette)[rng.integers(len(palette), size=count)]
    shifted = chosen + spread * rng.standard_normal((count, 3))
    return [tuple(colour) for colour in np.clip(shifted, 0, 255).astype(int).tolist()]
