"""Writes masks.png, beside this file, where masks of the zoo's digits-rotated look: `python docs/make_masks.py`.

A test holds the picture to the bank.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from impress_format import open_bank
from impress_learn.report.colours import FINE_LIGHT
from impress_learn.report.masks import gather_masks
from impress_learn.report.png import palette_png, to_levels

PICTURE = Path(__file__).with_name("masks.png")
BANK = Path(__file__).parents[1] / "zoo" / "digits-rotated.impress"
ACROSS, ZOOM, GAP = 5, 5, 10


def pixels() -> npt.NDArray[np.uint8]:
    """The masks side by side, as numbers of colours, uint8 (height, width)."""
    frames = gather_masks(open_bank(BANK)).frames
    assert frames is not None
    levels = to_levels(frames.pictures, 0.0, float(np.quantile(frames.pictures, 0.995)), len(FINE_LIGHT))
    tiles = np.pad(levels.repeat(ZOOM, axis=1).repeat(ZOOM, axis=2), ((0, 0), (0, GAP), (0, GAP)))
    rows = [np.concatenate(list(tiles[start : start + ACROSS]), axis=1) for start in range(0, len(tiles), ACROSS)]
    return np.concatenate(rows)[:-GAP, :-GAP]


if __name__ == "__main__":
    PICTURE.write_bytes(palette_png(pixels(), FINE_LIGHT))
