"""How a photo becomes a network's input: squared where it is read, normalised where the network is.

That is the benchmark's test transform: resized to the square, whatever the aspect, nothing cut off.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import InterpolationMode, resize


@dataclass(frozen=True)
class Preprocessing:
    """size: side of the square in pixels; mean, std: of the three channels on the scale from 0 to 1.

    bicubic: CLIP's own filter, bicubic with antialiasing. Otherwise the benchmark's, Pillow's bilinear one, which
    smooths when it shrinks. (OpenCV's does not; a bicubic one, timm's choice for photos of full size, costs
    EfficientNet-Lite0 accuracy on enlarged 64-pixel photos.)
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bicubic: bool = False

    def square(self, image: np.ndarray) -> Tensor:
        """(1, 3, S, S) uint8 of an RGB image (H, W, 3) uint8 of any size."""
        side = (self.size, self.size)
        if self.bicubic:
            return self.resized(torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None])
        if image.shape[:2] != side:
            image = np.array(Image.fromarray(image).resize(side, Image.Resampling.BILINEAR))
        return torch.from_numpy(np.ascontiguousarray(image))[None].permute(0, 3, 1, 2)

    def resized(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) uint8 of images (B, 3, H, W) uint8, bicubic."""
        return resize(pixels, [self.size, self.size], interpolation=InterpolationMode.BICUBIC, antialias=True)

    def normalise(self, squares: Tensor) -> Tensor:
        """(B, 3, S, S) float32 of uint8 squares, on their device."""
        mean, std = (  # copies that wait for nothing
            torch.tensor(values).view(3, 1, 1).to(squares.device, non_blocking=True) for values in (self.mean, self.std)
        )
        return (squares.float() / 255).sub_(mean).div_(std)

    def __call__(self, images: Iterable[np.ndarray]) -> Tensor:
        """(B, 3, S, S) float32 of RGB images (H, W, 3) uint8, taken one by one."""
        return self.normalise(torch.cat([self.square(image) for image in images]))
