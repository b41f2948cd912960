"""Encoded clips on disk, read back without the networks that made them.

    latents = open_shards("cache")
    clip = latents.read_clip(0, np.random.default_rng(7))     # latents (4, 16, 32, 32), float16

A folder of shards holds all frames of every clip, so a window is drawn when it is read, with the
same choices as a `VideoSet` makes from the same generator. Only the window's rows are read from
the tar file. The folder:

    set.json            what was encoded by which model, the number of shards, the classes
    shard-00000.tar     for each clip NUMBER.latents.npy (F, C, h, w), perhaps NUMBER.flipped.npy,
                        NUMBER.prompts.npy (all captions' rows, D), NUMBER.json
    shard-00000.json    the tar's size and SHA-256, and where in it each array lies
    null_prompt.npy     the empty prompt (2, D): its end token, and the row that padding gives
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from latte_core.data.source import VideoSource
from latte_core.data.walk import Problem
from latte_core.data.windows import draw_caption
from latte_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SET, NULL_PROMPT = "set.json", "null_prompt.npy"
LATENTS, FLIPPED, PROMPTS, ABOUT = "latents.npy", "flipped.npy", "prompts.npy", "json"
FORMAT = 1


def shard_name(number: int) -> str:
    """The file name of a shard, without its suffix."""
    return f"shard-{number:05d}"


@dataclass(frozen=True, eq=False)
class LatentClip:
    """A clip or image as the denoiser takes it.

    latents: float16 (C, F, h, w), scaled as the VAE's encoder scales them; label, caption and key
    as in `Clip`; prompt_embeds: float16 (L, D), the caption's own tokens, if captions were encoded.
    """

    latents: NDArray[np.float16]
    label: int | None
    caption: str | None
    key: str
    prompt_embeds: NDArray[np.float16] | None = None


@dataclass(frozen=True)
class Sample:
    """Where a clip lies: tar file, offset of each array, and what is known without reading it.

    tokens: rows of each caption in the prompts' array, one number for each caption.
    """

    shard: Path
    offsets: dict[str, int]
    key: str
    label: int | None
    length: int
    captions: tuple[str, ...]
    tokens: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class LatentSet:
    """The clips of a folder of shards; it reads like a `VideoSet`, with latents for frames.

    latent_shape: (C, h, w); model: who encoded; problems: what was left out, and why.
    """

    folder: Path
    source: VideoSource
    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    model: str
    latent_shape: tuple[int, int, int]
    problems: tuple[Problem, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def key(self, index: int) -> str:
        """The name of a clip."""
        return self.samples[index].key

    def label(self, index: int) -> int | None:
        """The class of a clip, known without reading it."""
        return self.samples[index].label

    def read_clip(self, index: int, rng: np.random.Generator) -> LatentClip:
        """Draw a window of clip `index` and read it: latents (C, num_frames, h, w).

        Raises DataError, naming the shard, if it is damaged there.
        """
        sample, source = self.samples[index], self.source
        numbers = source.windowing.draw(sample.length, source.num_frames, source.stride, rng)
        mirrored = rng.random() < source.mirrored
        return self._read(sample, FLIPPED if mirrored else LATENTS, numbers.tolist(), rng)

    def read_image(self, index: int, rng: np.random.Generator) -> LatentClip:
        """Draw one frame of clip `index`: latents (C, 1, h, w). Raises as read_clip does."""
        sample = self.samples[index]
        number = rng.integers(sample.length, size=1)
        return self._read(sample, LATENTS, number.tolist(), rng)

    def _read(
        self, sample: Sample, name: str, numbers: Sequence[int], rng: np.random.Generator
    ) -> LatentClip:
        choice = draw_caption(len(sample.captions), rng)
        rows = read_rows(sample.shard, sample.offsets[name], numbers)
        caption, embeds = None, None
        if choice is not None:
            caption = sample.captions[choice]
            if PROMPTS in sample.offsets:
                first = sum(sample.tokens[:choice])
                wanted = range(first, first + sample.tokens[choice])
                embeds = read_rows(sample.shard, sample.offsets[PROMPTS], wanted)
        latents = np.ascontiguousarray(rows.swapaxes(0, 1))
        return LatentClip(latents, sample.label, caption, sample.key, embeds)

    @cached_property
    def _null_rows(self) -> NDArray[np.float16] | None:
        path = self.folder / NULL_PROMPT
        return read_rows(path, 0, range(2)) if path.is_file() else None

    def null_prompt(self, length: int) -> NDArray[np.float16] | None:
        """The empty prompt's embedding (length, D) for dropped captions; None without prompts."""
        rows = self._null_rows
        return None if rows is None else rows[np.minimum(np.arange(length), 1)]


def open_shards(
    folder: Path | str,
    num_frames: int | None = None,
    stride: int | None = None,
    flip: float | None = None,
    *,
    verify: bool = False,
) -> LatentSet:
    """Open a folder of shards, with the clip's shape it was written for or another.

    `verify` compares every shard's bytes with its hash. Raises DataError if shards are missing,
    damaged or hold no clip that is long enough, ConfigError for a flip that was not encoded.
    """
    folder = Path(folder)
    about = read_about(folder)
    changes: dict[str, Any] = {"num_frames": num_frames, "stride": stride, "flip": flip}
    changes = {name: value for name, value in changes.items() if value is not None}
    source = replace(VideoSource(**about["source"]), **changes)
    if source.mirrored and not about["flipped"]:
        raise ConfigError(
            f"The shards in {folder} hold no mirrored clips: take flip 0, or encode them with flip."
        )
    missing = [n for n in range(about["shards"]) if not is_written(folder, n, verify)]
    if missing:
        raise DataError(
            f"{len(missing)} of {about['shards']} shards in {folder} are missing or damaged, the "
            f"first is {shard_name(missing[0])}.tar: run python -m latte_core encode again."
        )
    samples: list[Sample] = []
    problems: list[Problem] = []
    for number in range(about["shards"]):
        _read_sidecar(folder, number, source.needed, (samples, problems))
    if not samples:
        raise DataError(f"The shards in {folder} hold no clip of at least {source.needed} frames.")
    return LatentSet(
        folder,
        source,
        tuple(samples),
        tuple(about["classes"]),
        about["model"],
        _latent_shape(samples[0]),
        tuple(problems),
    )


def read_about(folder: Path) -> dict[str, Any]:
    """The content of set.json. Raises DataError if it is missing, damaged or of another format."""
    path = folder / SET
    if not path.is_file():
        raise DataError(f"{folder} holds no shards, {SET} is not there: write them with encode.")
    about = _read_object(path)
    if about.get("format") != FORMAT:
        raise DataError(f"{path} has format {about.get('format')}, but {FORMAT} is read here.")
    return about


def is_written(folder: Path, number: int, verify: bool) -> bool:
    """Whether a shard is there whole, by its size, and by its hash if `verify`."""
    tar, sidecar = (folder / (shard_name(number) + suffix) for suffix in (".tar", ".json"))
    if not tar.is_file() or not sidecar.is_file():
        return False
    try:
        about = _read_object(sidecar)
    except DataError:
        return False
    if tar.stat().st_size != about.get("bytes"):
        return False
    return not verify or hash_of(tar) == about.get("sha256")


def hash_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_sidecar(
    folder: Path, number: int, needed: int, into: tuple[list[Sample], list[Problem]]
) -> None:
    """Add a shard's clips, and what is wrong with others, to the two lists."""
    samples, problems = into
    name = shard_name(number)
    about = _read_object(folder / f"{name}.json")
    problems += [Problem(one["key"], "broken", one["reason"]) for one in about["left_out"]]
    for one in about["samples"]:
        if one["length"] < needed:
            reason = f"it has {one['length']} of the {needed} frames that are needed"
            problems.append(Problem(one["key"], "short", reason))
            continue
        samples.append(
            Sample(
                folder / f"{name}.tar",
                one["offsets"],
                one["key"],
                one["label"],
                one["length"],
                tuple(one["captions"]),
                tuple(one["tokens"]),
            )
        )


def _read_object(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}): run encode again.") from error
    if not isinstance(data, dict):
        raise DataError(f"{path} is damaged: run encode again.")
    return data


def _latent_shape(sample: Sample) -> tuple[int, int, int]:
    with sample.shard.open("rb") as file:
        shape, _ = _header(file, sample.offsets[LATENTS], sample.shard)
    channels, height, width = shape[1:]
    return channels, height, width


def read_rows(path: Path, offset: int, rows: Sequence[int]) -> NDArray[np.float16]:
    """Some rows of the float16 .npy array that begins at `offset` of a file, and no other byte.

    Raises DataError if the file ends earlier or holds something else there.
    """
    try:
        with path.open("rb") as file:
            shape, start = _header(file, offset, path)
            result: NDArray[np.float16] = np.empty((len(rows), *shape[1:]), np.float16)
            width = result.nbytes // max(len(rows), 1)
            for place, row in enumerate(rows):
                file.seek(start + row * width)
                if file.readinto(memoryview(result[place]).cast("B")) != width:
                    raise DataError(f"{path} ends too early: run encode again.")
            return result
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error


def _header(file: BinaryIO, offset: int, path: Path) -> tuple[tuple[int, ...], int]:
    """Shape of the array at `offset`, and where its numbers begin."""
    file.seek(offset)
    try:
        np.lib.format.read_magic(file)
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
    except ValueError as error:
        raise DataError(f"{path} is damaged: there is no array at byte {offset}.") from error
    if dtype != np.float16 or by_columns:
        raise DataError(f"{path} is damaged: the array at byte {offset} is {dtype}, not float16.")
    return shape, file.tell()
