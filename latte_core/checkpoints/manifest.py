"""`latte_manifest.json`: what a model folder holds, to the byte, and the model's own settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any

from latte_core.checkpoints.files import read_header, read_json, write_json
from latte_core.errors import CheckpointError

MANIFEST = "latte_manifest.json"
STEP_PLANS = "step_plans.json"  # tables that save work; no part of what the model is
FORMAT = 1


@dataclass(frozen=True)
class Defaults:
    """Settings of a generation where the request leaves them open.

    `plan` names the step plan; "full", which leaves nothing out, where a manifest says none.
    """

    num_inference_steps: int
    guidance_scale: float
    num_frames: int
    height: int
    width: int
    fps: int
    scheduler: str
    plan: str = "full"


# What the Latte-1 release was shown with. Source: its text-to-video script and pipeline.
LATTE_1_DEFAULTS = Defaults(
    num_inference_steps=50,
    guidance_scale=7.5,
    num_frames=16,
    height=512,
    width=512,
    fps=8,
    scheduler="ddim",
)


@dataclass(frozen=True)
class PreviewMap:
    """A linear map from latents to colours: rgb = latent @ weight + bias, in 0..1."""

    weight: tuple[tuple[float, float, float], ...]
    bias: tuple[float, float, float]


@dataclass(frozen=True)
class Manifest:
    """The content of a manifest.

    `files` maps paths inside the folder, with forward slashes, to `size` and `sha256`; `tensors`
    maps those that are safetensors to their tensors' `shape` and `dtype`. `card` is what a person
    would like to know: name, description, version, vocabulary.
    """

    files: Mapping[str, Mapping[str, Any]]
    tensors: Mapping[str, Mapping[str, Mapping[str, Any]]]
    defaults: Defaults
    preview: PreviewMap
    card: Mapping[str, Any] = field(default_factory=dict)


def build_manifest(
    folder: Path, defaults: Defaults, preview: PreviewMap, card: Mapping[str, Any]
) -> Manifest:
    """Describe `folder` as it is: every file but those that `listed_files` leaves out."""
    files, tensors = {}, {}
    for path in listed_files(folder):
        name = path.relative_to(folder).as_posix()
        files[name] = {"size": path.stat().st_size, "sha256": sha256(path)}
        if path.suffix == ".safetensors":
            tensors[name] = read_header(path)
    return Manifest(files, tensors, defaults, preview, dict(card))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest into its folder, whole or not at all."""
    write_json(folder / MANIFEST, {"format": FORMAT, **asdict(manifest)})


def read_manifest(folder: Path) -> Manifest | None:
    """The folder's manifest, None if it has none. Raises CheckpointError for a damaged one."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    data = read_json(path)
    if data.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is of format {data.get('format')!r}; this version reads format {FORMAT}. "
            "Update Latte Studio, or convert the model again."
        )
    try:
        return Manifest(
            files=_checked_files(data["files"]),
            tensors=_checked_tensors(data["tensors"]),
            defaults=_read_defaults(data["defaults"]),
            preview=_read_preview(data["preview"]),
            card=dict(data["card"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is damaged ({type(error).__name__}: {error}). Fetch the model folder again."
        ) from error


def listed_files(folder: Path) -> list[Path]:
    """The files of a model folder that a manifest lists, in order of their names.

    Hidden files, the manifest itself and the step plans are left out.
    """
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted(
        path
        for path in paths
        if path.name not in (MANIFEST, STEP_PLANS)
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def sha256(path: Path) -> str:
    """Hash of a file's bytes, in hexadecimal."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}. Fetch it again.") from error


def model_hash(folder: Path, components: tuple[str, ...] = ()) -> str:
    """Twelve hexadecimal digits that name these weights in recipes.

    `components` narrows it to some of the folder's subfolders.

    With a manifest, over the hashes that it lists; else over names, sizes and headers, which is
    instant for a folder of many GiB too.
    """
    manifest = read_manifest(folder)
    if manifest is not None:
        facts: Any = {name: entry["sha256"] for name, entry in manifest.files.items()}
    else:
        facts = {}
        for path in listed_files(folder):
            header = read_header(path) if path.suffix == ".safetensors" else None
            facts[path.relative_to(folder).as_posix()] = [path.stat().st_size, header]
    if components:
        facts = {name: fact for name, fact in facts.items() if name.split("/")[0] in components}
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _checked_files(data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The `files` of a manifest: each inside the folder, with a size and a hash."""
    for name, entry in data.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{name} is outside the folder")
        if type(entry["size"]) is not int or len(entry["sha256"]) != 64:
            raise ValueError(f"{name} has no size or hash")
    return data


def _checked_tensors(data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The `tensors` of a manifest: a shape and a dtype each, and nothing else."""
    for file, tensors in data.items():
        for name, entry in tensors.items():
            if entry.keys() != {"shape", "dtype"}:
                raise ValueError(f"{name} of {file} has no shape or dtype")
    return data


def _read_defaults(data: dict[str, Any]) -> Defaults:
    """Defaults with a value of the right kind in every field."""
    kinds: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,)}
    for item in fields(Defaults):
        if item.name not in data and item.default is not MISSING:
            continue
        if type(data[item.name]) not in kinds[str(item.type)]:
            raise ValueError(f"{item.name} is {data[item.name]!r}")
    return Defaults(**data)


def _read_preview(data: dict[str, Any]) -> PreviewMap:
    """A map whose rows and bias hold three numbers each."""
    *weight, bias = (
        tuple(float(value) for value in row) for row in (*data["weight"], data["bias"])
    )
    if any(len(row) != 3 for row in (*weight, bias)):
        raise ValueError("preview does not map to three colours")
    return PreviewMap(tuple(weight), bias)  # type: ignore[arg-type]
