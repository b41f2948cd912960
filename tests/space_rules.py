"""What the hub wants of the front matter in a Space's README.

Source: hub-docs, spaces-config-reference (August 2026) and spaces-zerogpu.
"""

from pathlib import Path

import yaml
from packaging.requirements import Requirement

COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
PYTHONS = ("3.12", "3.12.12")  # of ZeroGPU's two, the one that this project runs on
LICENSES = ("apache-2.0", "mit", "bsd-3-clause", "openrail", "cc-by-4.0", "gpl-3.0")
LONGEST = 60  # characters of short_description


def front_matter(readme: str) -> dict:
    """The values between the first two lines of dashes; {} without them."""
    parts = readme.split("---\n")
    return yaml.safe_load(parts[1]) if readme.startswith("---\n") and len(parts) > 2 else {}


def faults(card: dict, folder: Path) -> list[str]:
    """The keys of a front matter that the hub, or this project's own files, would not bear out."""
    checks = {
        "title": bool(card.get("title")),
        "emoji": _one_pictogram(card.get("emoji")),
        "colorFrom": card.get("colorFrom") in COLOURS,
        "colorTo": card.get("colorTo") in COLOURS,
        "sdk": card.get("sdk") == "gradio",
        "sdk_version": _is_pinned(card.get("sdk_version"), folder / "requirements.txt"),
        "app_file": isinstance(card.get("app_file"), str) and (folder / card["app_file"]).is_file(),
        "short_description": 0 < len(card.get("short_description") or "") <= LONGEST,
        "python_version": card.get("python_version") in PYTHONS,
        "license": card.get("license") in LICENSES,
        "models": all(str(name).count("/") == 1 for name in card.get("models", ())),
    }
    return [key for key, fits in checks.items() if not fits]


def _one_pictogram(text) -> bool:
    return (
        isinstance(text, str) and 1 <= len(text) <= 4 and all(ord(sign) > 0x2000 for sign in text)
    )


def _is_pinned(version, requirements: Path) -> bool:
    """Whether this version is the first that requirements.txt allows, which the tests run on."""
    lines = [line.split("#")[0].strip() for line in requirements.read_text().splitlines()]
    wanted = [Requirement(line) for line in lines if line.startswith("gradio>")]
    if not isinstance(version, str) or len(wanted) != 1:
        return False
    first = next(one.version for one in wanted[0].specifier if one.operator == ">=")
    return version in wanted[0].specifier and version.split(".")[:2] == first.split(".")[:2]
