"""Fonts as customers: a folder a font, a folder in it a letter, for `folder:` tasks that need no download.

    pip install matplotlib font-roboto font-source-sans-pro font-caladea        or any other fonts
    python docs/fonts.py TARGET [FOLDER_OR_FILE...]

Draws the capitals of each TrueType or OpenType font found in FOLDER..., or else of matplotlib's and of the `font-...`
packages of the package index, 24 times each, a little turned, scaled and moved, as grey images of 32 x 32. Needs Pillow
alone. The same fonts give the same images.
"""

from __future__ import annotations

import random
import re
import string
import sys
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

SIDE, IMAGES = 32, 24
_LARGE = 3 * SIDE


def find_fonts(places: Iterable[Path]) -> Iterator[Path]:
    """Font files in these folders and below."""
    for place in places:
        yield from [place] if place.is_file() else sorted(place.rglob("*.[to]tf"))


def installed() -> list[Path]:
    """Where matplotlib and the font packages keep theirs."""
    site = Path(Image.__file__).parents[1]
    matplotlib = find_spec("matplotlib")
    folders = (
        [Path(matplotlib.origin).parent / "mpl-data" / "fonts" / "ttf"] if matplotlib and matplotlib.origin else []
    )
    return [*folders, *sorted(one for one in site.glob("font_*") if one.is_dir())]


def draw(font: ImageFont.FreeTypeFont, letter: str, chance: random.Random) -> Image.Image:
    """A white letter on black, changed a little."""
    large = Image.new("L", (_LARGE, _LARGE))
    place = (_LARGE / 2 + chance.uniform(-6, 6), _LARGE / 2 + chance.uniform(-6, 6))
    ImageDraw.Draw(large).text(place, letter, fill=255, font=font, anchor="mm")
    turned = large.rotate(chance.uniform(-10, 10), resample=Image.Resampling.BILINEAR)
    return turned.resize((SIDE, SIDE), Image.Resampling.BILINEAR)


def has_letters(font: ImageFont.FreeTypeFont) -> bool:
    """Whether it draws capitals, no two alike: fonts of symbols draw one box for all."""
    drawn = {bytes(font.getmask(letter)) for letter in string.ascii_uppercase}
    return len(drawn) == len(string.ascii_uppercase) and b"" not in drawn


def main(target: Path, places: list[Path]) -> None:
    made = set()
    for path in find_fonts(places or installed()):
        try:
            font = ImageFont.truetype(str(path), 2 * SIDE)
            usable = has_letters(font)
        except OSError as error:
            print(f"{path}: {error}: left out")
            continue
        if not usable:
            print(f"{path}: has no letters: left out")
            continue
        chance = random.Random(path.name)
        for letter in string.ascii_uppercase:
            folder = target / re.sub(r"[^A-Za-z0-9-]+", "-", path.stem) / letter
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(IMAGES):
                draw(font.font_variant(size=chance.randint(52, 72)), letter, chance).save(folder / f"{number:02}.png")
        made.add(path.stem)
    print(f"{target}: {len(made)} fonts")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), [Path(one) for one in sys.argv[2:]])
