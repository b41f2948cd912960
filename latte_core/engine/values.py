"""Checks of single values of a request: each returns the value as it is to be kept, or refuses it.

All raise RequestError, which names the field, the value and the limit. Needs neither torch nor
numpy.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

from latte_core.errors import RequestError

MAX_PROMPT_CHARS = 300
MAX_SEED = 2**32 - 1
MAX_IMAGES = 8
MAX_CLASS_LABEL = 99_999  # above every public set of classes; ImageNet-21k has 21,843
SIZE_MULTIPLE = 16  # eight pixels a latent, two latents a patch
WHOLE_LIMITS = {
    "num_images": (0, MAX_IMAGES),
    "class_label": (0, MAX_CLASS_LABEL),
    "image_class_labels": (0, MAX_CLASS_LABEL),
    "seed": (0, MAX_SEED),
    "num_inference_steps": (1, 250),
    "num_frames": (1, 64),
    "height": (32, 1024),
    "width": (32, 1024),
}
GUIDANCE_LIMITS = (1.0, 30.0)
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,39}")


def ranges(numbers: Sequence[int]) -> str:
    """Numbers in words: 1 or 16 to 64; all of one distance, such as every second, are a range."""
    alone = numbers[0] == 1 and 2 not in numbers
    single, rest = (["1"], list(numbers[1:])) if alone else ([], list(numbers))
    if len(rest) > 2:
        step = rest[1] - rest[0]
        every = "" if step == 1 else f" in steps of {step}"
        return " or ".join([*single, f"{rest[0]} to {rest[-1]}{every}"])
    return " or ".join([*single, *map(str, rest)])


def label_list(value: Any) -> tuple[int, ...]:
    """Class labels of stills, from any list of them."""
    labels = _few("image_class_labels", value, "labels")
    return tuple(whole("image_class_labels", label) for label in labels)


def prompt_list(value: Any) -> tuple[str, ...]:
    """Prompts of stills, from any list of them; none if all are empty."""
    prompts = tuple(
        one_line("image_prompts", text) for text in _few("image_prompts", value, "texts")
    )
    return prompts if any(prompts) else ()


def _few(field: str, value: Any, what: str) -> Sequence[Any]:
    """A list with a value for each still."""
    if not isinstance(value, (tuple, list)) or len(value) > MAX_IMAGES:
        raise RequestError(
            field, f"{field} must be a list of 0 to {MAX_IMAGES} {what}, not {shown(value)}."
        )
    return value


def one_line(field: str, value: Any) -> str:
    """Normalised text of one line, not too long."""
    if not isinstance(value, str):
        raise RequestError(field, f"{field} must be text, not {shown(value)}.")
    too_long = f"{field} has {{count:,}} characters, the limit is {MAX_PROMPT_CHARS}: shorten it."
    if len(value) > 16 * MAX_PROMPT_CHARS:  # spares the normalisation of a megabyte
        raise RequestError(field, too_long.format(count=len(value)))
    text = unicodedata.normalize("NFC", value).strip()
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs"):
            raise RequestError(
                field,
                f"{field} holds the control character U+{ord(character):04X}: remove it "
                "(a line break counts as one).",
            )
    if len(text) > MAX_PROMPT_CHARS:
        raise RequestError(field, too_long.format(count=len(text)))
    return text


def plain_name(field: str, value: Any) -> str:
    """A name as this project gives them: small letters, digits, hyphens."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise RequestError(
            field,
            f"{field} is {shown(value)}, but must be a name of 1 to 40 small letters, digits, "
            "dots and hyphens.",
        )
    return value


def choice(field: str, value: Any, options: tuple[str, ...]) -> str:
    """One of the options."""
    if not isinstance(value, str) or value not in options:
        raise RequestError(
            field, f"{field} is {shown(value)}, but must be one of: {', '.join(options)}."
        )
    return value


def _number(field: str, value: Any, wanted: str) -> float | int:
    """A finite real number that is not a bool; numpy numbers count."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise RequestError(field, f"{field} must be {wanted}, not {shown(value)}.")
    number = int(value) if isinstance(value, Integral) else float(value)
    if isinstance(number, float) and not math.isfinite(number):
        raise RequestError(field, f"{field} must be {wanted}, not {number}.")
    return number


def whole(field: str, value: Any) -> int:
    """A whole number within the limits of its field; sizes are multiples of SIZE_MULTIPLE."""
    low, high = WHOLE_LIMITS[field]
    wanted = f"a whole number from {low} to {high}"
    number = _number(field, value, wanted)
    if number != int(number) or not low <= number <= high:
        raise RequestError(field, f"{field} is {shown(number)}, but must be {wanted}.")
    if field in ("height", "width") and number % SIZE_MULTIPLE:
        below = int(number) // SIZE_MULTIPLE * SIZE_MULTIPLE
        raise RequestError(
            field,
            f"{field} is {shown(number)}, but must be a multiple of {SIZE_MULTIPLE}: "
            f"take {below} or {below + SIZE_MULTIPLE}.",
        )
    return int(number)


def guidance(value: Any) -> float:
    """A guidance scale."""
    low, high = GUIDANCE_LIMITS
    wanted = f"a number from {low:g} to {high:g}"
    number = _number("guidance_scale", value, wanted)
    if not low <= number <= high:
        raise RequestError(
            "guidance_scale", f"guidance_scale is {shown(number)}, but must be {wanted}."
        )
    return float(number)


def shown(value: Any) -> str:
    """A value for a message: short, whatever it is."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**20:
        return "a number of more than 20 digits"
    if isinstance(value, (int, float, bool)) or value is None:
        return repr(value)
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:40] + "…")
    return f"a {type(value).__name__}"
