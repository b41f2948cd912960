"""The subjects of the world: what they are called, how they move, and their pictures.

The pictures are Microsoft's Fluent Emoji in their 3D style (MIT licence), 256 px WebP files with
an alpha channel, one per subject, named by code point. They ship in `assets/world/sprites` with
their licence notices beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from PIL import Image

from latte_core.errors import DataError

SPRITES = Path(__file__).resolve().parents[2] / "assets" / "world" / "sprites"

Kind = Literal["walk", "swim", "fly", "drive", "thing"]


@dataclass(frozen=True)
class Subject:
    """One thing that can move through the world.

    `code` is the picture's file stem (Unicode code points in hex); `faces_left` says that the
    artwork is a side view looking left, so that it is mirrored to move right; `kind` decides
    whether it stands on the ground; `synonyms` are other words for it in captions.
    """

    code: str
    kind: Kind
    faces_left: bool = False
    synonyms: tuple[str, ...] = ()


SUBJECTS: dict[str, Subject] = {
    "cat": Subject("1f408", "walk", True, ("kitty", "kitten")),
    "dog": Subject("1f415", "walk", True, ("puppy",)),
    "horse": Subject("1f40e", "walk", True, ("pony",)),
    "elephant": Subject("1f418", "walk", True),
    "turtle": Subject("1f422", "walk", True, ("tortoise",)),
    "rabbit": Subject("1f407", "walk", True, ("bunny",)),
    "duck": Subject("1f986", "walk", True),
    "pig": Subject("1f416", "walk", True, ("piglet",)),
    "tiger": Subject("1f405", "walk", True),
    "dinosaur": Subject("1f996", "walk", True),
    "penguin": Subject("1f427", "walk"),
    "fox": Subject("1f98a", "thing"),
    "panda": Subject("1f43c", "thing"),
    "frog": Subject("1f438", "thing", False, ("toad",)),
    "unicorn": Subject("1f984", "thing", True),
    "crab": Subject("1f980", "walk"),
    "ladybug": Subject("1f41e", "walk", False, ("ladybird",)),
    "fish": Subject("1f41f", "swim", True),
    "whale": Subject("1f433", "swim", True),
    "dolphin": Subject("1f42c", "swim", True),
    "octopus": Subject("1f419", "swim"),
    "bird": Subject("1f426", "fly", True),
    "butterfly": Subject("1f98b", "fly"),
    "bee": Subject("1f41d", "fly", True, ("bumblebee",)),
    "ghost": Subject("1f47b", "fly", False, ("spook",)),
    "car": Subject("1f697", "drive", True, ("automobile",)),
    "bus": Subject("1f68c", "drive", True),
    "train": Subject("1f682", "drive", True, ("locomotive",)),
    "tractor": Subject("1f69c", "drive", True),
    "helicopter": Subject("1f681", "fly", True),
    "rocket": Subject("1f680", "fly", False, ("spaceship",)),
    "airplane": Subject("2708-fe0f", "fly", False, ("plane",)),
    "saucer": Subject("1f6f8", "fly", False, ("ufo",)),
    "balloon": Subject("1f388", "fly"),
    "sailboat": Subject("26f5", "swim", False, ("boat",)),
    "ball": Subject("26bd", "thing", False, ("football",)),
    "apple": Subject("1f34e", "thing"),
    "banana": Subject("1f34c", "thing"),
    "pizza": Subject("1f355", "thing"),
    "mushroom": Subject("1f344", "thing", False, ("toadstool",)),
    "cactus": Subject("1f335", "thing"),
    "robot": Subject("1f916", "thing", False, ("android",)),
    "snowman": Subject("2603-fe0f", "thing"),
    "star": Subject("2b50", "fly"),
    "heart": Subject("2764-fe0f", "fly"),
    "sun": Subject("1f31e", "fly"),
    "cow": Subject("1f404", "walk", True),
    "sheep": Subject("1f411", "walk", True, ("lamb",)),
    "giraffe": Subject("1f992", "walk", True),
    "camel": Subject("1f42a", "walk", True),
    "zebra": Subject("1f993", "walk", True),
    "lion": Subject("1f981", "thing"),
    "mouse": Subject("1f401", "walk", True),
    "hedgehog": Subject("1f994", "walk", True),
    "snail": Subject("1f40c", "walk", True),
    "shark": Subject("1f988", "swim", True),
    "chick": Subject("1f425", "walk"),
    "owl": Subject("1f989", "fly"),
    "parrot": Subject("1f99c", "fly", True),
    "flamingo": Subject("1f9a9", "walk", True),
    "swan": Subject("1f9a2", "walk", True),
    "truck": Subject("1f69a", "drive", True, ("lorry",)),
    "bicycle": Subject("1f6b2", "drive", True, ("bike",)),
    "strawberry": Subject("1f353", "thing"),
    "watermelon": Subject("1f349", "thing"),
    "donut": Subject("1f369", "thing", False, ("doughnut",)),
    "cake": Subject("1f370", "thing"),
    "tulip": Subject("1f337", "thing", False, ("flower",)),
    "tree": Subject("1f333", "thing"),
    "gift": Subject("1f381", "thing", False, ("present",)),
}


@cache
def sprite_pyramid(name: str, folder: Path = SPRITES) -> tuple[Image.Image, ...]:
    """Load one subject's picture with its halved copies, 256 px down to 16 px.

    Returns premultiplied RGBa images, so that scaling does not draw dark rims.
    Raises DataError if the subject is unknown or its picture is missing.
    """
    if name not in SUBJECTS:
        raise DataError(f"The world has no subject {name!r}; it knows {', '.join(SUBJECTS)}.")
    path = folder / f"{SUBJECTS[name].code}.webp"
    if not path.is_file():
        raise DataError(f"The picture of {name!r} is missing: {path}. Restore assets/world.")
    with Image.open(path) as file:
        level = file.convert("RGBA").convert("RGBa")
    levels = [level]
    while levels[-1].width > 16:
        half = levels[-1].width // 2
        levels.append(levels[-1].resize((half, half), Image.Resampling.BOX))
    return tuple(levels)
