"""What a PNG shows: its pixels, and how many have a colour."""

import io

import numpy as np
from matplotlib.image import imread


def pixels(png: bytes) -> np.ndarray:
    """[height, width, 3] in 0..255."""
    return (imread(io.BytesIO(png))[..., :3] * 255).round().astype(int)


def count(png: bytes, colour: str) -> int:
    """Pixels of exactly this colour."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((pixels(png) == wanted).all(-1).sum())
